"""Alarms by key: each key has one time or none, and moving it costs no search."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from demesh.ports import Instant

K = TypeVar("K", bound=Hashable)


class Alarms(Generic[K]):
    """The next time for each key. Keys due at one time come in the order of `<`."""

    __slots__ = ("_at", "_heap")

    def __init__(self) -> None:
        self._at: dict[K, Instant] = {}
        self._heap: list[tuple[Instant, K]] = []  # with entries that no longer count

    def __len__(self) -> int:
        return len(self._at)

    def get(self, key: K) -> Instant | None:
        """When the key is due."""
        return self._at.get(key)

    def set(self, key: K, at: Instant | None) -> None:
        """Set, move or (None) stop the alarm of a key."""
        if at is None:
            self._at.pop(key, None)
        else:
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))
        # Entries that no longer count go when they come up, but that may take days.
        if len(self._heap) > 2 * len(self._at) + 64:
            self._heap = [(at, key) for key, at in self._at.items()]
            heapq.heapify(self._heap)

    def due(self, now: Instant) -> Iterator[K]:
        """The keys whose time has come; each has no alarm any more unless the caller sets it."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._at.get(key) == at:
                del self._at[key]
                yield key

    def deadline(self) -> Instant | None:
        """When the first key is due."""
        while self._heap:
            at, key = self._heap[0]
            if self._at.get(key) == at:
                return at
            heapq.heappop(self._heap)
        return None
