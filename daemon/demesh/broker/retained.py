"""The retained messages: bounded in number and bytes, each with its time."""

from __future__ import annotations

from typing import NamedTuple

from demesh.broker.access import ANYBODY
from demesh.broker.backlog import weight
from demesh.broker.expiry import is_over
from demesh.broker.limits import Counters, Limits
from demesh.broker.packets import Publish
from demesh.broker.saved import RetainedRecord
from demesh.broker.timers import Alarms
from demesh.broker.topics import RetainedTree
from demesh.ports import Instant


class Kept(NamedTuple):
    """A retained message as it came, and when it ends."""

    message: Publish
    expires_at: Instant | None
    publisher: str  # its client id
    user: str  # ANYBODY also for one that a store held: only who is there has to be held back


class Retained:
    """One message per topic. What is over is never given out, and goes at the next `expire`.

    One user has half of all there may be at most, so that no login can take the place of everybody
    else's messages.
    """

    __slots__ = ("_alarms", "_bytes", "_changed", "_counters", "_limits", "_of_users", "_tree")

    def __init__(self, limits: Limits, counters: Counters, recording: bool) -> None:
        self._limits = limits
        self._counters = counters
        self._tree: RetainedTree[Kept] = RetainedTree()
        self._bytes = 0
        self._of_users: dict[str, tuple[int, int]] = {}  # messages and bytes of each
        self._alarms: Alarms[str] = Alarms()
        # Topics with another message than the store has, if there is a store.
        self._changed: dict[str, None] | None = {} if recording else None

    def __len__(self) -> int:
        return len(self._tree)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all messages, as `weight` counts them."""
        return self._bytes

    def keep(self, message: Publish, expires_at: Instant | None, publisher: str, user: str) -> None:
        """Put a message in the place of its topic's last one; without a payload, put nothing."""
        topic = message.topic
        self._drop(topic)
        if not message.payload:
            return
        size = weight(message)
        limits = self._limits
        count, held = self._of_users.get(user, (0, 0))
        if (
            len(self._tree) >= limits.retained_max
            or self._bytes + size > limits.retained_bytes_max
            or (
                user != ANYBODY
                and (
                    count >= limits.retained_max // 2
                    or held + size > limits.retained_bytes_max // 2
                )
            )
        ):
            self._counters.retained_refused += 1
            return
        kept = Publish(topic, message.payload, message.qos, True, properties=message.properties)
        self._put(Kept(kept, expires_at, publisher, user))
        self._note(topic)

    def match(self, pattern: str, now: Instant) -> tuple[list[Kept], int]:
        """What a new subscriber gets, in an order that depends on the order of coming only; and how
        many branches of the tree were looked at for it."""
        found, looks = self._tree.match(pattern)
        return [kept for kept in found if not is_over(kept.expires_at, now)], looks

    def expire(self, now: Instant) -> None:
        """Drop what is over."""
        for topic in self._alarms.due(now):
            self._drop(topic)
            self._counters.retained_expired += 1

    def deadline(self) -> Instant | None:
        """When to call `expire`."""
        return self._alarms.deadline()

    def restore(self, record: RetainedRecord) -> None:
        """Take back what a store held, without asking for room."""
        self._put(Kept(record.message, record.expires_at, record.publisher, ANYBODY))

    def changes(self, everything: bool) -> tuple[tuple[str, ...], tuple[RetainedRecord, ...]]:
        """Topics without, and topics with another message than a store was told of."""
        if self._changed is None:
            return (), ()
        if everything:
            self._changed.clear()
            return (), tuple(_record(kept) for kept in self._tree.match_all())
        gone = []
        records = []
        for topic in self._changed:
            kept = self._tree.get(topic)
            if kept is None:
                gone.append(topic)
            else:
                records.append(_record(kept))
        self._changed.clear()
        return tuple(gone), tuple(records)

    def _put(self, kept: Kept) -> None:
        topic = kept.message.topic
        self._count(kept, 1)
        self._tree.put(topic, kept)
        if kept.expires_at is not None:
            self._alarms.set(topic, kept.expires_at)

    def _drop(self, topic: str) -> None:
        before = self._tree.pop(topic)
        if before is None:
            return
        self._count(before, -1)
        if before.expires_at is not None:
            self._alarms.set(topic, None)
        self._note(topic)

    def _count(self, kept: Kept, sign: int) -> None:
        size = sign * weight(kept.message)
        self._bytes += size
        count, held = self._of_users.get(kept.user, (0, 0))
        self._of_users[kept.user] = count + sign, held + size
        if not count + sign:
            del self._of_users[kept.user]

    def _note(self, topic: str) -> None:
        if self._changed is not None:
            self._changed[topic] = None


def _record(kept: Kept) -> RetainedRecord:
    return RetainedRecord(kept.message, kept.expires_at, kept.publisher)
