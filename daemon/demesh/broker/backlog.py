"""Messages that wait for a client: a bounded queue whose entries have numbers for a store.

Entries are numbered by their place: the first has `first`, and only the first ever leaves. So what
a store has to add and to drop is known from two numbers, however long the queue is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from demesh.broker.expiry import is_over
from demesh.broker.limits import Counters, Limits
from demesh.broker.packets import Properties, Publish
from demesh.broker.saved import Waiting
from demesh.ports import Instant

# What an entry takes beside the bytes of its message (measured: 220): without it, a queue of empty
# messages would count as next to nothing.
ENTRY_BYTES = 256

# And a user property beside its letters (measured: 154): a message may have a thousand empty ones.
PAIR_BYTES = 160


class Stock:
    """Bytes of all messages queued or under way, `ENTRY_BYTES` more for each."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Backlog:
    """The queue of one session; full, it drops the newest, after those at its head that expired.

    What is under way is counted here too, for the stock: it waits for the client as well. When the
    stock is used up, a session with less than its even share of it still has room, so that nobody
    can take it all.
    """

    __slots__ = (
        "_bytes",
        "_counters",
        "_limits",
        "_own",
        "_saved_to",
        "_share",
        "_stock",
        "_total",
        "entries",
        "first",
    )

    def __init__(self, limits: Limits, counters: Counters, stock: Stock) -> None:
        self._stock = stock
        self.first = 0
        self._limits = limits
        self._counters = counters
        self.entries: deque[tuple[Publish, Instant | None]] = deque()  # to look at only
        self._bytes = 0  # of messages in the queue
        self._own = 0  # of the stock
        self._total = limits.queued_bytes_total_max
        self._share = limits.queued_bytes_total_max // limits.sessions_max
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
        self._add(size)

    def next(self, now: Instant) -> tuple[Publish, Instant | None] | None:
        """Take out the first message that has not expired."""
        while self.entries:
            message, expires_at = self._pop()
            if not is_over(expires_at, now):
                return message, expires_at
            self._counters.dropped_expired += 1
        return None

    # These two are called for every message of QoS 1 and 2: `weight` and the rest written out.

    def begin(self, message: Publish) -> bool:
        """A message is under way, until `end`; False: it has to be dropped (counted)."""
        size = ENTRY_BYTES + len(message.topic) + len(message.payload)
        if message.properties is not None:
            size += _properties_weight(message.properties)
        stock = self._stock
        if stock.bytes + size > self._total and self._own + size > self._share:
            self._counters.dropped_queue_full += 1
            return False
        self._own += size
        stock.bytes += size
        return True

    def end(self, message: Publish) -> None:
        """A message has arrived."""
        size = ENTRY_BYTES + len(message.topic) + len(message.payload)
        if message.properties is not None:
            size += _properties_weight(message.properties)
        self._own -= size
        self._stock.bytes -= size

    def withdraw(self, may_read: Callable[[str], bool], now: Instant) -> None:
        """Let the messages of topics that may no longer be read be over now."""
        allowed: dict[str, bool] = {}
        for place, (message, _) in enumerate(self.entries):
            topic = message.topic
            if topic not in allowed:
                allowed[topic] = may_read(topic)
            if not allowed[topic]:
                self.entries[place] = message, now

    def discard(self) -> None:
        """Give up all of it, and what is under way."""
        self._take(-self._own)
        self._bytes = 0
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

    def restore(self, flights: Sequence[Publish], queue: tuple[Waiting, ...]) -> None:
        """Take back what a store held, without asking for room; the queue is new."""
        for message in flights:
            self._take(weight(message) + ENTRY_BYTES)
        if queue:
            self.first = queue[0].number
        for waiting in queue:
            self.entries.append((waiting.message, waiting.expires_at))
            self._add(weight(waiting.message))
        self._saved_to = self.first + len(self.entries)

    def _has_room(self, size: int) -> bool:
        return (
            len(self.entries) < self._limits.queued_max
            and self._bytes + size <= self._limits.queued_bytes_max
            and self._in_stock(size + ENTRY_BYTES)
        )

    def _in_stock(self, size: int) -> bool:
        return self._stock.bytes + size <= self._total or self._own + size <= self._share

    def _take(self, size: int) -> None:
        self._own += size
        self._stock.bytes += size

    def _add(self, size: int) -> None:
        self._bytes += size
        self._take(size + ENTRY_BYTES)

    def _pop(self) -> tuple[Publish, Instant | None]:
        entry = self.entries.popleft()
        self.first += 1
        size = weight(entry[0])
        self._bytes -= size
        self._take(-size - ENTRY_BYTES)
        return entry


def weight(message: Publish) -> int:
    """What a message counts in bytes, in queues and the retained store."""
    size = len(message.topic) + len(message.payload)
    return size if message.properties is None else size + _properties_weight(message.properties)


def _properties_weight(properties: Properties) -> int:
    # Numbers, and the record itself, are covered by the constant.
    size = 64 + sum(PAIR_BYTES + len(name) + len(value) for name, value in properties.user)
    for text in (properties.content_type, properties.response_topic, properties.correlation_data):
        if text is not None:
            size += len(text)
    return size
