"""Messages that wait for a client: a bounded queue whose entries have numbers for a store.

Entries are numbered by their place: the first has `first`, and only the first ever leaves. So what
a store has to add and to drop is known from two numbers, however long the queue is.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from demesh.broker.expiry import is_over
from demesh.broker.limits import Counters, Limits
from demesh.broker.packets import Properties, Publish
from demesh.broker.saved import Waiting
from demesh.ports import Instant

# What an entry takes beside the bytes of its message (measured: 220): without it, a queue of empty
# messages would count as next to nothing.
ENTRY_BYTES = 256


class Stock:
    """Bytes in all queues together, `ENTRY_BYTES` more for each entry."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Backlog:
    """The queue of one session; full, it drops the newest, after those at its head that expired."""

    __slots__ = ("_bytes", "_counters", "_limits", "_saved_to", "_stock", "entries", "first")

    def __init__(self, limits: Limits, counters: Counters, stock: Stock) -> None:
        self._stock = stock
        self.first = 0
        self._limits = limits
        self._counters = counters
        self.entries: deque[tuple[Publish, Instant | None]] = deque()  # to look at only
        self._bytes = 0
        self._saved_to = 0  # entries below this number are in the store

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, message: Publish, expires_at: Instant | None, now: Instant) -> None:
        """Queue a message, or drop it (counted)."""
        size = weight(message)
        if not self._has_room(size):
            while self.entries and is_over(self.entries[0][1], now):
                self._pop()
                self._counters.dropped_expired += 1
            if not self._has_room(size):
                self._counters.dropped_queue_full += 1
                return
        self.entries.append((message, expires_at))
        self._take(1, size)

    def next(self, now: Instant) -> tuple[Publish, Instant | None] | None:
        """Take out the first message that has not expired."""
        while self.entries:
            message, expires_at = self._pop()
            if not is_over(expires_at, now):
                return message, expires_at
            self._counters.dropped_expired += 1
        return None

    def discard(self) -> None:
        """Give up all of it."""
        self._take(-len(self.entries), -self._bytes)
        self.entries.clear()

    def unsaved(self, everything: bool) -> tuple[Waiting, ...]:
        """Entries a store does not hold yet, or all; from now on it holds them."""
        begin = self.first if everything else max(self._saved_to, self.first)
        self._saved_to = self.first + len(self.entries)
        return tuple(
            Waiting(number, message, expires_at)
            for number, (message, expires_at) in enumerate(
                islice(self.entries, begin - self.first, None), begin
            )
        )

    def unsave(self) -> None:
        """A store holds nothing of it any more."""
        self._saved_to = 0

    def restore(self, queue: tuple[Waiting, ...]) -> None:
        """Take back what a store held; the queue is new."""
        if queue:
            self.first = queue[0].number
        for waiting in queue:
            self.entries.append((waiting.message, waiting.expires_at))
            self._take(1, weight(waiting.message))
        self._saved_to = self.first + len(self.entries)

    def _has_room(self, size: int) -> bool:
        return (
            len(self.entries) < self._limits.queued_max
            and self._bytes + size <= self._limits.queued_bytes_max
            and self._stock.bytes + size + ENTRY_BYTES <= self._limits.queued_bytes_total_max
        )

    def _take(self, count: int, size: int) -> None:
        self._bytes += size
        self._stock.bytes += size + count * ENTRY_BYTES

    def _pop(self) -> tuple[Publish, Instant | None]:
        entry = self.entries.popleft()
        self.first += 1
        self._take(-1, -weight(entry[0]))
        return entry


def weight(message: Publish) -> int:
    """What a message counts in bytes, in queues and the retained store."""
    size = len(message.topic) + len(message.payload)
    return size if message.properties is None else size + _properties_weight(message.properties)


def _properties_weight(properties: Properties) -> int:
    # Numbers, and the record itself, are covered by the constant.
    size = 64 + sum(len(name) + len(value) for name, value in properties.user)
    for text in (properties.content_type, properties.response_topic, properties.correlation_data):
        if text is not None:
            size += len(text)
    return size
