"""Virtual time: one clock and one heap of (at_ns, seq, action).

Two actions due at one instant run in the order they were put in, so a run is a function of its
inputs alone. Nothing here is a float, a thread or an asyncio loop.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from demesh.ports import Instant

Action = Callable[[], None]


class Heap:
    """The virtual clock (`now`, in ns) and everything that is still to happen."""

    __slots__ = ("_entries", "_seq", "events", "now")

    def __init__(self, now: Instant = 0) -> None:
        self.now = now
        self.events = 0
        self._seq = 0
        self._entries: list[tuple[Instant, int, Action]] = []

    def at(self, at_ns: Instant, action: Action) -> None:
        """Run `action` at `at_ns`; one that has passed means now, after what is due."""
        self._seq += 1
        heapq.heappush(self._entries, (max(at_ns, self.now), self._seq, action))

    def after(self, delay_ns: int, action: Action) -> None:
        """Run `action` in `delay_ns`."""
        self.at(self.now + delay_ns, action)

    def next_at(self) -> Instant | None:
        """When the next action is due, or None if nothing is left to do."""
        return self._entries[0][0] if self._entries else None

    def run(self, until_ns: Instant) -> None:
        """Run everything due up to and including `until_ns`; the clock then stands at `until_ns`.

        An action's exception ends the run at that action's instant.
        """
        entries, pop = self._entries, heapq.heappop
        while entries and entries[0][0] <= until_ns:
            self.now, _, action = pop(entries)
            self.events += 1
            action()
        self.now = max(self.now, until_ns)

    def __len__(self) -> int:
        return len(self._entries)


class Alarm:
    """One timer that may be set again and again; at most one of its heap entries is ever useful.

    Set to a later instant it keeps its entry and moves on when that comes up, so that a deadline
    which is pushed back at every event costs one heap entry and not one per event.
    """

    __slots__ = ("_action", "_armed", "_due", "_heap")

    def __init__(self, heap: Heap, action: Action) -> None:
        self._heap = heap
        self._action = action
        self._due: Instant | None = None
        self._armed: Instant | None = None

    def set(self, at_ns: Instant | None) -> None:
        """Run the action at `at_ns` instead of whatever was set before; None: not at all."""
        self._due = at_ns
        if at_ns is not None and (self._armed is None or at_ns < self._armed):
            self._arm(at_ns)

    def _arm(self, at_ns: Instant) -> None:
        armed = max(at_ns, self._heap.now)
        self._armed = armed
        self._heap.at(armed, lambda: self._ring(armed))

    def _ring(self, armed: Instant) -> None:
        if armed != self._armed:
            return  # an earlier entry took its place
        self._armed = None
        if self._due is None:
            return
        if self._due > self._heap.now:
            self._arm(self._due)
            return
        self._due = None
        self._action()
