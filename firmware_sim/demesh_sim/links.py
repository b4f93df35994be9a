"""Links as TCP shows them to MQTT: bytes come late, in order, in bursts after a stall, or never.

A lost datagram is no event here: TCP sends it again, which is what the latency tail and the stalls
stand for. What can be lost is the connection, and with it all that was under way.

Most profiles have no rate: their meshes send far less than their links carry. On one that has, a
packet waits until all earlier ones are on the line, then for its own bytes, then flies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from demesh.broker.limits import Limits
from demesh.ports import MILLISECOND, SECOND, Instant
from demesh_sim.heap import Heap

MICROSECOND = 1_000

# IPv4 and TCP with timestamps, in front of at most what Ethernet's 1,500 bytes leave.
HEADER_BYTES = 52
SEGMENT_BYTES_MAX = 1_448

# What may wait for a line, as the product's broker has it for a client that does not read: more is
# memory that no broker gives; less than a window of frames (64 of 64 KiB) cuts off honest devices.
QUEUE_BYTES_MAX = Limits().write_buffer_bytes_max

# How long the weather on a link holds. Radio trouble comes in spells: if every packet drew from the
# tail for itself, a busy link would always wait for one of them, which no real link does.
SPELL_NS = 500 * MILLISECOND

PART = 1 << 16
TAIL = PART * 9 // 10

Packet = TypeVar("Packet")


@dataclass(frozen=True, slots=True)
class Profile:
    """One-way latency of a link between device and broker, and how often a device goes deaf.

    `outage_s` is the mean time between two outages of one device, 0 for never; `rate_bit_s` is what
    the line of one device carries in each direction, 0 for more than anybody sends.
    """

    name: str
    p50_us: int
    p99_us: int
    outage_s: int = 0
    rate_bit_s: int = 0

    def latency_ns(self, draw: int) -> int:
        """The latency at `draw` (0 .. PART - 1) of the distribution, at most 3 x p99."""
        if draw < PART // 2:  # p50/2 .. p50
            return self.p50_us * (PART // 2 + draw) * MICROSECOND // PART
        if draw < PART * 99 // 100:  # p50 .. p99, with most of the mass close to p50
            x = (draw - PART // 2) * 1024 // (PART * 49 // 100)
            return (self.p50_us * 1024**4 + (self.p99_us - self.p50_us) * x**4) * 1000 // 1024**4
        return self.p99_us * (1000 + (draw - PART * 99 // 100) * 2000 // (PART // 100))


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("loopback", 100, 400),
        Profile("ethernet", 500, 1_500),
        Profile("megabit", 500, 1_500, rate_bit_s=1_000_000),
        Profile("wifi", 4_000, 30_000),
        Profile("poor-wifi", 25_000, 600_000, outage_s=600),
        Profile("lte-m", 120_000, 800_000),
    )
}
"""Measured field values; ethernet's tail is a busy switch's. On `megabit` only the rate is slow, so
that a mesh which sends too much shows it first."""


def line_bytes(data_bytes: int) -> int:
    """What so much data of one packet takes on the line, in segments of its own."""
    return data_bytes + HEADER_BYTES * max(1, -(-data_bytes // SEGMENT_BYTES_MAX))


class Pipe(Generic[Packet]):
    """One direction of a connection. Delivers in order, holds during a stall, forgets on `cut`.

    `measure` gives a packet's bytes on the line; it is asked only where the profile has a rate.
    """

    __slots__ = (
        "_chance",
        "_deliver",
        "_expecting",
        "_flying",
        "_free_at",
        "_heap",
        "_held",
        "_measure",
        "_open",
        "_profile",
        "_queued_bytes",
        "_rate_bit_s",
        "_spell",
        "_spell_until",
        "_stalled_until",
    )

    def __init__(
        self,
        heap: Heap,
        chance: Random,
        profile: Profile,
        deliver: Callable[[Packet], None],
        measure: Callable[[Packet], int],
    ) -> None:
        self._heap = heap
        self._chance = chance
        self._profile = profile
        self._deliver = deliver
        self._measure = measure
        self._rate_bit_s = profile.rate_bit_s
        self._free_at: Instant = 0  # when the last bit of all that was sent is on the line
        self._queued_bytes = 0  # sent and not arrived, where there is a rate
        self._flying: deque[tuple[Instant, int, Packet]] = deque()
        self._stalled_until: Instant = 0
        self._spell = 0
        self._spell_until: Instant = 0
        self._open = True
        self._expecting = False  # an arrival is on the heap
        self._held = False

    def send(self, packet: Packet) -> bool:
        """Put a packet under way; it never overtakes an earlier one. False: the queue is full."""
        if not self._open:
            return True
        size, on_line = 0, self._heap.now
        if self._rate_bit_s:
            size = self._measure(packet)
            if self._queued_bytes + size > QUEUE_BYTES_MAX:
                return False
            self._queued_bytes += size
            # Rounded up: a line never carries more than its rate.
            takes_ns = -(-size * 8 * SECOND // self._rate_bit_s)
            on_line = self._free_at = max(on_line, self._free_at) + takes_ns
        due = on_line + self._latency_ns()
        if self._flying:
            due = max(due, self._flying[-1][0])
        self._flying.append((due, size, packet))
        self._expect()
        return True

    def _latency_ns(self) -> int:
        """A packet's own draw in fair weather; in a bad spell the spell's, for all packets."""
        if self._heap.now >= self._spell_until:
            self._spell_until = self._heap.now + SPELL_NS
            self._spell = self._chance.getrandbits(16)
        draw = self._spell if self._spell >= TAIL else self._chance.randrange(TAIL)
        return self._profile.latency_ns(draw)

    def hold(self) -> None:
        """The receiver reads no more: what arrives stays in the line until `release`."""
        self._held = True

    def release(self) -> None:
        """The receiver reads again."""
        self._held = False
        self._expect()

    @property
    def idle(self) -> bool:
        """Whether the receiver reads, and nothing is under way."""
        return not self._held and not self._flying

    def stall(self, until: Instant) -> None:
        """Let nothing through before `until`; what waits comes then, as fast as the line allows."""
        pause_ns = until - max(self._stalled_until, self._heap.now)
        if pause_ns <= 0:
            return
        self._stalled_until = until
        if self._rate_bit_s:
            self._free_at = max(self._free_at, self._heap.now) + pause_ns
            for _ in range(len(self._flying)):
                due, size, packet = self._flying.popleft()
                self._flying.append((due + pause_ns, size, packet))

    def cut(self) -> None:
        """The connection is gone: nothing that is under way arrives."""
        self._open = False
        self._queued_bytes = 0
        self._flying.clear()

    def _expect(self) -> None:
        if self._flying and not self._expecting and not self._held:
            self._expecting = True
            self._heap.at(max(self._flying[0][0], self._stalled_until), self._arrive)

    def _arrive(self) -> None:
        self._expecting = False
        flying, now = self._flying, self._heap.now
        if now >= self._stalled_until:
            while not self._held and flying and flying[0][0] <= now:
                _, size, packet = flying.popleft()
                self._queued_bytes -= size
                self._deliver(packet)
        self._expect()
