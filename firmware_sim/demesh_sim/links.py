"""Links as TCP shows them to MQTT: bytes come late, in order, in bursts after a stall, or never.

A lost datagram is no event here: TCP sends it again, which is what the latency tail and the stalls
stand for. What can be lost is the connection, and with it all that was under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from demesh.ports import MILLISECOND, Instant
from demesh_sim.heap import Heap

MICROSECOND = 1_000

# How long the weather on a link holds. Radio trouble comes in spells: if every packet drew from the
# tail for itself, a busy link would always wait for one of them, which no real link does.
SPELL_NS = 500 * MILLISECOND

PART = 1 << 16
TAIL = PART * 9 // 10

Packet = TypeVar("Packet")


@dataclass(frozen=True, slots=True)
class Profile:
    """One-way latency of a link between device and broker, and how often a device goes deaf.

    `outage_s` is the mean time between two outages of one device, 0 for never.
    """

    name: str
    p50_us: int
    p99_us: int
    outage_s: int = 0

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
        Profile("wifi", 4_000, 30_000),
        Profile("poor-wifi", 25_000, 600_000, outage_s=600),
        Profile("lte-m", 120_000, 800_000),
    )
}
"""Measured field values; ethernet's tail is a busy switch's."""


class Pipe(Generic[Packet]):
    """One direction of a connection. Delivers in order, holds during a stall, forgets on `cut`."""

    __slots__ = (
        "_chance",
        "_deliver",
        "_expecting",
        "_flying",
        "_heap",
        "_open",
        "_profile",
        "_spell",
        "_spell_until",
        "_stalled_until",
    )

    def __init__(
        self, heap: Heap, chance: Random, profile: Profile, deliver: Callable[[Packet], None]
    ) -> None:
        self._heap = heap
        self._chance = chance
        self._profile = profile
        self._deliver = deliver
        self._flying: deque[tuple[Instant, Packet]] = deque()
        self._stalled_until: Instant = 0
        self._spell = 0
        self._spell_until: Instant = 0
        self._open = True
        self._expecting = False  # an arrival is on the heap

    def send(self, packet: Packet) -> None:
        """Put a packet under way; it never overtakes an earlier one."""
        if not self._open:
            return
        due = self._heap.now + self._latency_ns()
        if self._flying:
            due = max(due, self._flying[-1][0])
        self._flying.append((due, packet))
        self._expect()

    def _latency_ns(self) -> int:
        """A packet's own draw in fair weather; in a bad spell the spell's, for all packets."""
        if self._heap.now >= self._spell_until:
            self._spell_until = self._heap.now + SPELL_NS
            self._spell = self._chance.getrandbits(16)
        draw = self._spell if self._spell >= TAIL else self._chance.randrange(TAIL)
        return self._profile.latency_ns(draw)

    def stall(self, until: Instant) -> None:
        """Let nothing through before `until`; what waits comes through then, in one burst."""
        self._stalled_until = max(self._stalled_until, until)

    def cut(self) -> None:
        """The connection is gone: nothing that is under way arrives."""
        self._open = False
        self._flying.clear()

    def _expect(self) -> None:
        if self._flying and not self._expecting:
            self._expecting = True
            self._heap.at(max(self._flying[0][0], self._stalled_until), self._arrive)

    def _arrive(self) -> None:
        self._expecting = False
        flying, now = self._flying, self._heap.now
        if now >= self._stalled_until:
            while flying and flying[0][0] <= now:
                self._deliver(flying.popleft()[1])
        self._expect()
