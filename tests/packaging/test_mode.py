"""Which validator this very run has: a compiled run that is in truth pure proves nothing."""

from __future__ import annotations

import os
from pathlib import Path

import demesh
from demesh.wire.validate import COMPILED

PURE = os.environ.get("DEMESH_PURE") == "1"
REQUIRED = os.environ.get("REQUIRE_CYTHON") == "1"


def test_a_run_that_asks_for_pure_python_gets_it_and_one_that_requires_the_extension_too() -> None:
    if PURE:
        assert not COMPILED, "DEMESH_PURE=1, and the compiled validator is in use"
    elif REQUIRED:
        where = Path(demesh.__file__).parent
        assert COMPILED, f"REQUIRE_CYTHON=1, and {where} has no compiled validator that loads"
