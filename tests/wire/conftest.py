"""Both implementations of validation, one after the other."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import pytest

from demesh.wire import _reference


def compiled() -> ModuleType | None:
    """The compiled implementation, if it is built."""
    try:
        return importlib.import_module("demesh.wire._hotpath")
    except ImportError:
        return None


@pytest.fixture(params=["pure", "compiled"], scope="session")
def mode(request: pytest.FixtureRequest) -> Any:
    """The module under test."""
    if request.param == "pure":
        return _reference
    return compiled() or pytest.skip("the extension is not built: pip install -e . builds it")


@pytest.fixture(scope="session")
def hotpath() -> Any:
    """The compiled module."""
    return compiled() or pytest.skip("the extension is not built: pip install -e . builds it")
