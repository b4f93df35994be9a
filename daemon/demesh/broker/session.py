"""What the broker keeps for one client: subscriptions, messages under way or waiting, a will.

Theory of operation. Towards the client, a message of QoS 1 or 2 is in one of two places: in
`_queue` (no packet id yet) or in `_inflight` (sent at least once, by packet id, in the order of
sending). An entry of `_inflight` is the packet to repeat when the client comes back:

    Publish   until PUBACK (QoS 1, then it is done) or PUBREC (QoS 2, then it becomes a Pubrel)
    Pubrel    until PUBCOMP

Repeated is only after a reconnection (4.4-1), marked as duplicates and in the old order (4.6-1),
and no more at once than the client takes now: the rest is in `_again` until something is
acknowledged. From the client, QoS 2 messages are passed on at once and only their packet ids are
kept until PUBREL (section 4.3.3, method B), so that a repeated one is not passed on again.

Invariants: 1. `_queue` is empty unless the client is away or its window is full.
2. Messages of one QoS > 0 leave in the order in which they came.
3. `changed` is set whenever the session's record (`saved.py`) or its queue is another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from demesh.broker.backlog import Backlog, Stock
from demesh.broker.codec import encode
from demesh.broker.codes import Code
from demesh.broker.expiry import counted_down
from demesh.broker.limits import Counters, Limits
from demesh.broker.packets import LEVEL_3, LEVEL_5, Packet, Properties, Publish, Pubrel
from demesh.broker.saved import Flight, SessionChange, SessionRecord, Subscribed, Waiting
from demesh.ports import Instant

PACKET_IDS = 65_535

# After a restart packet ids go on so much further: the last second may not have been saved, and an
# id used in it may still mean another message to its client.
RESTART_SKIP = 16_384

# Topics remembered per session as allowed to its user or not. A device publishes to some ten.
WRITABLE_MAX = 64

NEVER = 0xFFFF_FFFF
"""The session expiry of a session that never ends (MQTT 5, section 3.1.2.11.2)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the client of a connection takes."""

    level: int = LEVEL_3
    window: int = PACKET_IDS  # messages of QoS 1 and 2 that it has not acknowledged
    packet_bytes_max: int | None = None
    aliases_max: int = 0
    problems: bool = True  # whether it wants to be told what is wrong


class Session:
    """State of one client id, with a connection (`conn`) or without one."""

    __slots__ = (
        "_again",
        "_aliases",
        "_counters",
        "_expiries",
        "_inflight",
        "_limits",
        "_next_id",
        "_plain",
        "_queue",
        "_window",
        "changed",
        "client_id",
        "conn",
        "expiry_s",
        "offline_since",
        "recorded",
        "subscriptions",
        "terms",
        "unreleased",
        "user",
        "will",
        "will_delay_s",
        "writable",
    )

    def __init__(
        self, client_id: str, user: str, limits: Limits, counters: Counters, stock: Stock
    ) -> None:
        self.client_id = client_id
        self.user = user
        self.conn: int | None = None
        self.terms = Terms()
        self.expiry_s = 0  # it lives so long without a connection; NEVER: for ever
        self.offline_since: Instant | None = None
        self.subscriptions: dict[str, Subscribed] = {}
        self.unreleased: dict[int, None] = {}
        self.will: Publish | None = None  # as it is published
        self.will_delay_s = 0
        self.writable: dict[str, bool] = {}  # of `machine.Broker`: what Access said about topics
        self.changed = True
        self.recorded = False  # whether a store holds anything of it
        self._inflight: dict[int, Publish | Pubrel] = {}
        self._expiries: dict[int, Instant] = {}  # of messages under way that have one
        self._again: deque[int] = deque()
        self._window = 0
        self._queue = Backlog(limits, counters, stock)
        self._next_id = 1
        self._plain = True  # whether messages go out as they are
        self._aliases: dict[str, int] = {}
        self._limits = limits
        self._counters = counters

    # -- the connection ---------------------------------------------------------------------------

    def attach(self, conn: int, terms: Terms, expiry_s: int, will: Publish | None) -> None:
        """The client is there."""
        self.conn = conn
        self.terms = terms
        self.expiry_s = expiry_s
        self.will = None
        self.will_delay_s = 0
        if will is not None:
            self.will, self.will_delay_s = without_delay(will)
        self.offline_since = None
        self.changed = True
        self._window = min(self._limits.inflight_max, terms.window)
        self._plain = terms.packet_bytes_max is None and not terms.aliases_max
        self._aliases = {}

    def detach(self, now: Instant) -> None:
        """The client is gone."""
        self.conn = None
        self.offline_since = now
        self.changed = True

    def resume(self, now: Instant) -> list[Packet]:
        """What a client that came back gets: everything under way again, then what waited."""
        self._again = deque(self._inflight)
        return self.advance(now)

    def advance(self, now: Instant) -> list[Packet]:
        """What has to be repeated or waited, and may be sent now."""
        packets: list[Packet] = []
        waiting = self._queue.entries
        while self._again and self._under_way() < self._window:
            packet = self._repeated(self._again.popleft(), now)
            if packet is not None:
                packets.append(packet)
        while waiting and self._under_way() < self._window:
            entry = self._queue.next(now)
            if entry is None:
                break
            message, expires_at = entry
            packet = self._send(counted_down(message, expires_at, now), expires_at)
            if packet is not None:
                packets.append(packet)
        return packets

    # -- towards the client -----------------------------------------------------------------------

    def deliver(self, message: Publish, expires_at: Instant | None, now: Instant) -> Publish | None:
        """The packet to send now; None if `message` has to wait or was dropped (counted)."""
        if not message.qos:
            if self.conn is None:
                self._counters.dropped_offline += 1
                return None
            return message if self._plain else self._fitted(message)
        self.changed = True
        if self.conn is not None and len(self._inflight) - len(self._again) < self._window:
            return self._send(message, expires_at)
        self._queue.add(message, expires_at, now)
        return None

    def acknowledged(self, packet_id: int) -> bool:
        """PUBACK came. False: it answers a message of QoS 2, which the protocol does not allow."""
        held = self._inflight.get(packet_id)
        if held is None:
            return True  # of an earlier session: nothing left to do
        if type(held) is not Publish or held.qos != 1:
            return False
        self._done(packet_id)
        return True

    def received(self, packet_id: int) -> Pubrel | None:
        """PUBREC came; the packet that answers it. None: it answers a message of QoS 1."""
        held = self._inflight.get(packet_id)
        if held is None:  # 3.1.1 has no word for that
            known = self.terms.level != LEVEL_5
            return Pubrel(packet_id, Code.SUCCESS if known else Code.ID_NOT_FOUND)
        if type(held) is Publish and held.qos != 2:
            return None
        # To the end: PUBRELs are repeated in the order of the PUBRECs (4.6-4).
        del self._inflight[packet_id]
        if type(held) is Publish:
            self._queue.end(held)
        self._expiries.pop(packet_id, None)
        release = self._inflight[packet_id] = Pubrel(packet_id)
        self.changed = True
        return release

    def declined(self, packet_id: int) -> bool:
        """PUBREC came with an error: the message is done. False: it was of QoS 1, or released."""
        held = self._inflight.get(packet_id)
        if held is None:
            return True
        if type(held) is not Publish or held.qos != 2:
            return False
        self._done(packet_id)
        return True

    def completed(self, packet_id: int) -> bool:
        """PUBCOMP came. False: that message has not been released."""
        held = self._inflight.get(packet_id)
        if held is None:
            return True
        if type(held) is Publish:
            return False
        self._done(packet_id)
        return True

    def awaits(self, packet_id: int, sent: type) -> bool:
        """Whether the packet under way with this id is a `sent`."""
        return type(self._inflight.get(packet_id)) is sent

    @property
    def waiting(self) -> int:
        """Messages under way or queued."""
        return len(self._inflight) + len(self._queue)

    def _under_way(self) -> int:
        return len(self._inflight) - len(self._again)

    def _done(self, packet_id: int) -> None:
        held = self._inflight.pop(packet_id)
        if type(held) is Publish:
            self._queue.end(held)
        if self._expiries:
            self._expiries.pop(packet_id, None)
        if self._again and packet_id in self._again:  # answered before it was repeated
            self._again.remove(packet_id)
        self.changed = True

    def _send(self, message: Publish, expires_at: Instant | None) -> Publish | None:
        packet_id = self._next_id
        while packet_id in self._inflight:
            packet_id = packet_id % PACKET_IDS + 1
        packet = Publish(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            False,
            packet_id,
            message.properties,
        )
        if not self._queue.begin(packet):
            return None
        sent = packet if self._plain else self._fitted(packet)
        if sent is None:
            self._queue.end(packet)
            return None
        self._next_id = packet_id % PACKET_IDS + 1
        self._inflight[packet_id] = packet
        if expires_at is not None:
            self._expiries[packet_id] = expires_at
        return sent

    def _repeated(self, packet_id: int, now: Instant) -> Packet | None:
        held = self._inflight[packet_id]
        if type(held) is not Publish:
            return held
        if not held.dup:
            held = self._inflight[packet_id] = replace(held, dup=True)
        packet = counted_down(held, self._expiries.get(packet_id), now)
        sent = packet if self._plain else self._fitted(packet)
        if sent is None:
            self._done(packet_id)
        return sent

    def _fitted(self, packet: Publish) -> Publish | None:
        """The packet as the client takes it: with a short name for its topic, if it allows some;
        None (counted) if it is larger than the client takes (3.1.2-24, 3.1.2-25)."""
        bytes_max = self.terms.packet_bytes_max
        topic = packet.topic
        alias = self._aliases.get(topic)
        # The first topics keep their aliases: who comes later is not worth a table of uses.
        fresh = alias is None and len(self._aliases) < self.terms.aliases_max
        if fresh:
            alias = len(self._aliases) + 1
        if alias is not None:
            properties = replace(packet.properties or Properties(), topic_alias=alias)
            short = replace(packet, topic=topic if fresh else "", properties=properties)
            if bytes_max is None or len(encode(short, LEVEL_5)) <= bytes_max:
                self._aliases[topic] = alias
                return short
        if bytes_max is None or len(encode(packet, self.terms.level)) <= bytes_max:
            return packet
        self._counters.dropped_too_large += 1
        return None

    def withdraw(self, may_read: Callable[[str], bool], now: Instant) -> None:
        """Rights are others: what waits and may no longer be read is not sent. What is under way
        has begun, and is repeated (4.4-1)."""
        self._queue.withdraw(may_read, now)

    def discard(self) -> None:
        """It has ended: what waited is given up."""
        self._queue.discard()

    # -- records ----------------------------------------------------------------------------------

    def change(self, will_at: Instant | None, everything: bool) -> SessionChange:
        """What a store has to do to hold this session, after the last answer or from nothing."""
        self.changed = False
        self.recorded = True
        appended = self._queue.unsaved(everything)
        return SessionChange(self._record(will_at), self._queue.first, appended)

    def unrecord(self) -> None:
        """A store holds nothing of it any more."""
        self.recorded = False
        self._queue.unsave()

    def restore(self, record: SessionRecord, queue: tuple[Waiting, ...], now: Instant) -> None:
        """Take back what a store held; the session is new and has no connection."""
        self.expiry_s = record.expiry_s
        self.offline_since = now if record.offline_since is None else record.offline_since
        self.subscriptions = {wanted.pattern: wanted for wanted in record.subscriptions}
        self.unreleased = dict.fromkeys(record.unreleased)
        self.will = record.will
        self.will_delay_s = record.will_delay_s
        self._next_id = (record.next_id + RESTART_SKIP) % PACKET_IDS + 1
        for flight in record.flights:
            if flight.message is None:
                self._inflight[flight.packet_id] = Pubrel(flight.packet_id)
                continue
            self._inflight[flight.packet_id] = replace(flight.message, packet_id=flight.packet_id)
            if flight.expires_at is not None:
                self._expiries[flight.packet_id] = flight.expires_at
        under_way = [flight.message for flight in record.flights if flight.message is not None]
        self._queue.restore(under_way, queue)
        self.changed = record.offline_since is None  # since now, and the store does not know it
        self.recorded = True

    def _record(self, will_at: Instant | None) -> SessionRecord:
        return SessionRecord(
            self.client_id,
            self.user,
            self.expiry_s,
            self.offline_since,
            tuple(self.subscriptions.values()),
            tuple(
                Flight(
                    packet_id,
                    held if type(held) is Publish else None,
                    self._expiries.get(packet_id),
                )
                for packet_id, held in self._inflight.items()
            ),
            tuple(self.unreleased),
            self._next_id,
            self.will,
            self.will_delay_s,
            will_at,
        )


def without_delay(will: Publish) -> tuple[Publish, int]:
    """A will as it is published, and how many seconds after the end of the connection."""
    properties = will.properties
    if properties is None or properties.will_delay_s is None:
        return will, 0
    rest = replace(properties, will_delay_s=None)
    kept = None if rest == Properties() else rest
    return replace(will, properties=kept), properties.will_delay_s
