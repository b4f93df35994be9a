"""An input read as a row of choices, so that any bytes are a program; and its changes."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from fuzz.mutate import EDGES, of_bytes, pick

T = TypeVar("T")


class Tape:
    """Choices from bytes; past their end every choice is the first."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        """Whether all of it was read."""
        return self._at >= len(self._data)

    def byte(self) -> int:
        """0..255."""
        if self._at >= len(self._data):
            return 0
        self._at += 1
        return self._data[self._at - 1]

    def below(self, count: int) -> int:
        """0..count-1, for a count of at most 256."""
        return self.byte() % count

    def choice(self, values: Sequence[T]) -> T:
        """One of at most 256."""
        return values[self.byte() % len(values)]

    def take(self, size: int) -> bytes:
        """That many bytes, or as many as are left."""
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def number(self) -> int:
        """A u64: small, near an edge, or any."""
        kind = self.byte()
        if kind < 160:
            return kind % 80
        if kind < 224:
            return EDGES[kind % len(EDGES)]
        return int.from_bytes(self.take(8).ljust(8, b"\0"), "big")


def programs(dice: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A new program, or one with some choices changed, or two in a row."""
    kind = pick(dice, 8)
    if kind == 0 or not data:
        return dice.randbytes(1 + pick(dice, 160))
    if kind == 1 and others:
        return data[: 1 + pick(dice, len(data))] + others[pick(dice, len(others))][-200:]
    if kind < 5:
        changed = bytearray(data)
        for _ in range(1 + pick(dice, 4)):
            changed[pick(dice, len(changed))] = pick(dice, 256)
        return bytes(changed)
    return of_bytes(dice, data, others)[:600]
