"""What the broker keeps for one client: subscriptions, messages under way, messages waiting.

Theory of operation. Towards the client, a message of QoS 1 or 2 is in one of two places: in
`_queue` (no packet id yet) or in `_inflight` (sent at least once, by packet id, in the order of
sending). An entry of `_inflight` is the packet to repeat when the client comes back:

    Publish   until PUBACK (QoS 1, then it is done) or PUBREC (QoS 2, then it becomes a Pubrel)
    Pubrel    until PUBCOMP

MQTT 3.1.1 repeats only after a reconnection (4.4-1), marked as duplicates and in the old order
(4.6-1). From the client, QoS 2 messages are passed on at once and only their packet ids are kept
until PUBREL (section 4.3.3, method B), so that a repeated one is not passed on again.

Invariants: 1. `_queue` is empty unless the client is away or `_inflight` is full.
2. Messages of one QoS > 0 leave in the order in which they came.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from demesh.broker.limits import Counters, Limits
from demesh.broker.packets import Packet, Publish, Pubrel

PACKET_IDS = 65_535


class Session:
    """State of one client id, with a connection (`conn`) or without one."""

    __slots__ = (
        "_counters",
        "_inflight",
        "_limits",
        "_next_id",
        "_queue",
        "_queued_bytes",
        "clean",
        "client_id",
        "conn",
        "subscriptions",
        "unreleased",
    )

    def __init__(self, client_id: str, clean: bool, limits: Limits, counters: Counters) -> None:
        self.client_id = client_id
        self.clean = clean
        self.conn: int | None = None
        self.subscriptions: dict[str, int] = {}
        self.unreleased: dict[int, None] = {}
        self._inflight: dict[int, Publish | Pubrel] = {}
        self._queue: deque[Publish] = deque()
        self._queued_bytes = 0
        self._next_id = 1
        self._limits = limits
        self._counters = counters

    def deliver(self, message: Publish) -> Publish | None:
        """The packet to send now; None if `message` has to wait or was dropped (counted)."""
        if not message.qos:
            if self.conn is None:
                self._counters.dropped_offline += 1
                return None
            return message
        if self.conn is not None and len(self._inflight) < self._limits.inflight_max:
            return self._send(message)
        size = _weight(message)
        if (
            len(self._queue) >= self._limits.queued_max
            or self._queued_bytes + size > self._limits.queued_bytes_max
        ):
            self._counters.dropped_queue_full += 1
            return None
        self._queue.append(message)
        self._queued_bytes += size
        return None

    def acknowledged(self, packet_id: int) -> bool:
        """PUBACK came. False: it answers a message of QoS 2, which the protocol does not allow."""
        held = self._inflight.get(packet_id)
        if held is None:
            return True  # of an earlier session: nothing left to do
        if type(held) is not Publish or held.qos != 1:
            return False
        del self._inflight[packet_id]
        return True

    def received(self, packet_id: int) -> Pubrel | None:
        """PUBREC came; the packet that answers it. None: it answers a message of QoS 1."""
        held = self._inflight.get(packet_id)
        release = Pubrel(packet_id)
        if held is not None:
            if type(held) is Publish and held.qos != 2:
                return None
            # To the end: PUBRELs are repeated in the order of the PUBRECs (4.6-4).
            del self._inflight[packet_id]
            self._inflight[packet_id] = release
        return release

    def completed(self, packet_id: int) -> bool:
        """PUBCOMP came. False: that message has not been released."""
        held = self._inflight.get(packet_id)
        if held is None:
            return True
        if type(held) is Publish:
            return False
        del self._inflight[packet_id]
        return True

    def awaits(self, packet_id: int, sent: type) -> bool:
        """Whether the packet under way with this id is a `sent`."""
        return type(self._inflight.get(packet_id)) is sent

    def resume(self) -> list[Packet]:
        """What a client that came back gets: everything under way again, then what waited."""
        packets: list[Packet] = []
        for packet_id, held in self._inflight.items():
            if type(held) is Publish and not held.dup:
                # Only values change, so the iteration stays valid.
                held = self._inflight[packet_id] = replace(held, dup=True)  # noqa: PLW2901
            packets.append(held)
        return packets + self.advance()

    def advance(self) -> list[Packet]:
        """Messages that waited and may be sent now."""
        packets: list[Packet] = []
        while self._queue and len(self._inflight) < self._limits.inflight_max:
            message = self._queue.popleft()
            self._queued_bytes -= _weight(message)
            packets.append(self._send(message))
        return packets

    @property
    def waiting(self) -> int:
        """Messages under way or queued."""
        return len(self._inflight) + len(self._queue)

    def _send(self, message: Publish) -> Publish:
        packet_id = self._next_id
        while packet_id in self._inflight:
            packet_id = packet_id % PACKET_IDS + 1
        self._next_id = packet_id % PACKET_IDS + 1
        packet = Publish(
            message.topic, message.payload, message.qos, message.retain, False, packet_id
        )
        self._inflight[packet_id] = packet
        return packet


def _weight(message: Publish) -> int:
    return len(message.topic) + len(message.payload)
