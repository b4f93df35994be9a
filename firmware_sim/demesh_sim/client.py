"""A small MQTT 3.1.1 client on the heap's clock: what `demesh.transport` does, without bytes.

Persistent session, subscribes on every connection, pings, redials with the same patience. What is
published waits in a bounded outbox (while the broker does not read us, too), QoS 1 messages are
under way a few at a time, and those that were not acknowledged when a connection ended go out again
first: at least once, not exactly once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from random import Random
from typing import Protocol

from demesh import ports
from demesh.broker.codec import (
    Code,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Wanted,
)
from demesh.ports import MILLISECOND, SECOND, Instant
from demesh_sim.heap import Alarm, Heap

# The figures of `demesh.transport`, which gives the reasons.
KEEP_ALIVE_S = 20
BACKOFF_FIRST_MS = 250
BACKOFF_MAX_MS = 15_000
BACKOFF_RECENT_MS = 500
BACKOFF_THROWN_OUT_MS = 2_000
RECENT_NS = 60 * SECOND
STEADY_NS = 10 * SECOND
UNDER_WAY_MAX = 16
FRAMES_MAX = 1024

PACKET_ID_MAX = 65_535


class Phase(Enum):
    """Where a client stands."""

    DOWN = "down"  # waiting to dial
    GREETING = "greeting"  # CONNECT sent
    SUBSCRIBING = "subscribing"
    UP = "up"
    GONE = "gone"  # left for good


class Wire(Protocol):
    """An open connection, seen from the client."""

    held: bool
    """Whether the broker does not read; `Client.released` follows."""

    def send(self, packet: Packet) -> None:
        """Put a packet under way to the broker."""

    def close(self) -> None:
        """Close our end; the broker notices when the network tells it."""


class Client:
    """One device's MQTT client; a new one for every start of the device's daemon."""

    def __init__(
        self,
        client_id: str,
        subscriptions: Sequence[str],
        will: tuple[str, bytes],
        linked: Callable[[bool], None],
        received: Callable[[str, bytes, bool], None],
        heap: Heap,
        chance: Random,
        dial: Callable[[Client], Wire | None],
    ) -> None:
        self.client_id = client_id
        self.phase = Phase.DOWN
        self.dropped = 0  # publications pushed out of the outbox
        self._filters = tuple(Wanted(topic_filter, 1) for topic_filter in subscriptions)
        self._will = Publish(will[0], will[1], qos=1)
        self._linked = linked
        self._received = received
        self._heap = heap
        self._chance = chance
        self._dial = dial
        self._wire: Wire | None = None
        self._packet_id = 0
        self._outbox: deque[ports.Publish] = deque()
        self._under_way: dict[int, ports.Publish] = {}
        self._backoff_ms = BACKOFF_FIRST_MS
        self._up_at: Instant | None = None  # when it was last up
        self._failed = False  # to connect, since then
        self._dialled: Instant = 0
        self._answered: Instant = 0  # when the broker last said anything
        self._timer = Alarm(heap, self._tick)
        self._timer.set(heap.now)

    # -- from the host ----------------------------------------------------------------------------

    def publish(self, message: ports.Publish) -> None:
        """Publish as soon as there is a connection; the oldest in a full outbox goes, counted."""
        self._outbox.append(message)
        if len(self._outbox) > FRAMES_MAX:
            self._outbox.popleft()
            self.dropped += 1
        self._drain()

    def leave(self) -> None:
        """Say goodbye (no will) and never come back."""
        if self.phase is Phase.UP:
            self._send(Disconnect())
        self._depart(close=True)

    def vanish(self) -> None:
        """The device lost power: not a word more."""
        self._depart(close=False)

    # -- from the network -------------------------------------------------------------------------

    def receive(self, packet: Packet) -> None:
        """A packet arrived from the broker."""
        self._answered = self._heap.now
        match packet:
            case Publish():
                if packet.qos:
                    self._send(Puback(packet.packet_id))
                self._received(packet.topic, packet.payload, packet.retain)
            case Puback(packet_id):
                if self._under_way.pop(packet_id, None) is not None:
                    self._drain()
            case Connack(code):
                self._greeted(code)
            case Suback():
                if self.phase is Phase.SUBSCRIBING:
                    self._subscribed()
            case Pingresp():
                pass
            case _:
                raise AssertionError(f"a broker does not send {packet}")

    def released(self) -> None:
        """The broker reads again."""
        self._drain()

    def lost(self) -> None:
        """The connection is gone."""
        was_up = self.phase is Phase.UP
        self._wire = None
        self.phase = Phase.DOWN
        self._outbox.extendleft(reversed(self._under_way.values()))
        self._under_way.clear()
        self._timer.set(self._heap.now + self._pause_ms(was_up) * MILLISECOND)
        if was_up:
            self._linked(False)

    def _pause_ms(self, was_up: bool) -> int:
        """How long to wait before dialling again."""
        now = self._heap.now
        if was_up:
            if self._failed or now - self._dialled > STEADY_NS:
                self._backoff_ms = BACKOFF_FIRST_MS
            self._up_at = now
        self._failed = not was_up
        most = BACKOFF_MAX_MS
        if self._up_at is not None and now < self._up_at + RECENT_NS:
            most = BACKOFF_RECENT_MS if self._failed else BACKOFF_THROWN_OUT_MS
        pause_ms = min(self._backoff_ms, most)
        self._backoff_ms = min(2 * self._backoff_ms, BACKOFF_MAX_MS)
        return self._chance.randrange(pause_ms // 2, pause_ms)

    # -- inside -----------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = self._heap.now
        if self.phase is Phase.DOWN:
            self._dialled = self._answered = now
            self._wire = self._dial(self)
            if self._wire is None:
                self.lost()
                return
            self.phase = Phase.GREETING
            self._send(Connect(self.client_id, False, KEEP_ALIVE_S, self._will))
        elif now - self._answered >= 2 * KEEP_ALIVE_S * SECOND:
            if self._wire is not None:
                self._wire.close()
            self.lost()
            return
        elif self.phase is Phase.UP:
            self._send(Pingreq())
        self._timer.set(now + KEEP_ALIVE_S * SECOND)

    def _greeted(self, code: Code) -> None:
        assert code is Code.SUCCESS, f"the broker refused {self.client_id} with code {code}"
        self.phase = Phase.SUBSCRIBING
        self._send(Subscribe(self._next_packet_id(), self._filters))

    def _subscribed(self) -> None:
        self.phase = Phase.UP
        self._linked(True)
        self._drain()

    def _may_send(self) -> bool:
        return (
            self.phase is Phase.UP
            and bool(self._outbox)
            and len(self._under_way) < UNDER_WAY_MAX
            and not (self._wire is not None and self._wire.held)
        )

    def _drain(self) -> None:
        """Send from the outbox as far as acknowledgements and the broker's reading allow."""
        while self._may_send():
            message = self._outbox.popleft()
            packet_id = self._next_packet_id() if message.qos else 0
            if packet_id:
                self._under_way[packet_id] = message
            topic, payload = message.topic, message.payload
            self._send(Publish(topic, payload, message.qos, message.retain, packet_id=packet_id))

    def _send(self, packet: Packet) -> None:
        if self._wire is not None:
            self._wire.send(packet)

    def _next_packet_id(self) -> int:
        while True:
            self._packet_id = self._packet_id % PACKET_ID_MAX + 1
            if self._packet_id not in self._under_way:
                return self._packet_id

    def _depart(self, *, close: bool) -> None:
        if close and self._wire is not None:
            self._wire.close()
        self._wire = None
        self.phase = Phase.GONE
        self._timer.set(None)
