"""What can be fuzzed: a function of bytes that raises on a finding, and what to begin with."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fuzz.mutate import Mutate


class FindingError(AssertionError):
    """Two that must agree do not, or something was accepted that must not be."""


@dataclass(frozen=True, slots=True)
class Target:
    """`run` takes any bytes at all; every exception that leaves it is a finding.

    After each change by `mutate` come `burst` inputs that have one byte more changed.
    """

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    mutate: Mutate
    bytes_max: int = 4_096
    burst: int = 0


def expect(holds: bool, what: str, *values: object) -> None:
    """A finding unless it holds."""
    if not holds:
        raise FindingError(" | ".join([what, *(repr(value) for value in values)]))


def compiled() -> Any:
    """The compiled hot path; raises ImportError where it is not built."""
    return importlib.import_module("demesh.wire._hotpath")
