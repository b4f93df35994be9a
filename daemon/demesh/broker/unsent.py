"""What waits for clients that do not read, of all connections together: bounded by closing."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Waiting(Hashable, Protocol):
    """A connection, as far as it is looked at here."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes written to it that the system has not taken."""
        ...


W = TypeVar("W", bound=Waiting)


class Unsent(Generic[W]):
    """Who is behind, and by how much when it was last looked at.

    The sum may be too high, for nobody says when a client has read; all are looked at again before
    anybody is closed for it.
    """

    __slots__ = ("_behind", "_bytes", "_bytes_max")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._behind: dict[W, int] = {}
        self._bytes = 0

    def look(self, one: W) -> W | None:
        """Look at a connection that was written to; whom to close, if all are too far behind:
        the one furthest behind. Ask again after that."""
        self._take_down(one)
        if self._bytes <= self._bytes_max:
            return None
        for other in tuple(self._behind):
            self._take_down(other)
        if self._bytes <= self._bytes_max:
            return None
        return max(self._behind, key=self._behind.__getitem__)

    def forget(self, one: W) -> None:
        """A connection is gone."""
        self._bytes -= self._behind.pop(one, 0)

    def _take_down(self, one: W) -> None:
        self.forget(one)
        behind = one.unsent_bytes
        if behind:
            self._behind[one] = behind
            self._bytes += behind
