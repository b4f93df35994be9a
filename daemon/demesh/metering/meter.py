"""One flow as this device's own meter sees it, and mesh time as its own clock carries it on.

R-MET-11 Own units are monotone. A driver that lost a flow and starts its register again at 0 goes
         on from the units counted before; nothing is counted twice.
R-MET-12 A flow stands still when its register did not grow for two quanta and for eight times what
         a unit has taken so far. Both are needed: a quantum may be shorter than a unit's time, and
         how fast the metered world runs against this clock is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Callable

from demesh.ports import SECOND, Instant

QUANTA_PATIENCE = 2

# A load that flutters to an eighth of its mean is still one; at 3 kW a dead one is found in 10 s.
UNIT_TIMES_PATIENCE = 8

UNIT_SECONDS_AT_1_W = 3600


class MeshClock:
    """Mesh time as consensus reads it, never before a finalized block that told of a channel."""

    __slots__ = ("_at", "_floor_s", "_read", "_time_s", "final_s")

    def __init__(self, read: Callable[[Instant], int], now: Instant) -> None:
        self._read = read
        self._floor_s = 0
        self.final_s: int | None = None  # of the last block final since the start
        self._at, self._time_s = now, read(now)

    def told(self, time_s: int) -> None:
        """The ledger said something as of this mesh time."""
        self._floor_s = max(self._floor_s, time_s)

    def decided(self, time_s: int) -> None:
        """A block with this mesh time became final just now."""
        self.told(time_s)
        self.final_s = max(self.final_s or 0, time_s)

    def time_s(self, now: Instant) -> int:
        """Mesh time in seconds, rounded down."""
        self._at, self._time_s = now, max(self._floor_s, self._read(now))
        return self._time_s

    def reaches(self, time_s: int) -> Instant:
        """When it should be `time_s`, from when it was last read; a block may make it sooner."""
        return self._at + max(0, time_s - self._time_s) * SECOND


class Meter:
    """The own register of one flow: units, the last step, and since when it stands still."""

    __slots__ = ("_grew_at", "_power_w", "_ran_ns", "_since", "base", "last", "step")

    def __init__(self, power_w: int, base: int = 0, last: int = 0) -> None:
        self.base, self.last, self.step = base, last, 0
        self._power_w = max(1, power_w)
        self._since: Instant | None = None
        self._grew_at: Instant = 0
        self._ran_ns = 0

    @property
    def units(self) -> int:
        """Units moved in this agreement so far (R-MET-11)."""
        return self.base + self.last

    @property
    def running(self) -> bool:
        """Whether the flow is switched on."""
        return self._since is not None

    def run(self, now: Instant) -> None:
        """The flow was switched on."""
        self._since = self._grew_at = now

    def halt(self, now: Instant) -> None:
        """The flow was switched off."""
        if self._since is not None:
            self._ran_ns += now - self._since
        self._since = None

    def read(self, register: int, now: Instant) -> None:
        """The device's register of this flow now."""
        before = self.units
        if register < self.last:
            self.base += self.last
        self.last = register
        delta = self.units - before
        # What the next sample may add: the largest step of late, forgotten by halves.
        self.step = max(delta, self.step >> 1)
        if delta:
            self._grew_at = now

    def still_at(self, quantum_ns: int) -> Instant | None:
        """When this flow counts as standing still if it does not grow (R-MET-12); None if off."""
        if self._since is None:
            return None
        ran_ns = self._ran_ns + self._grew_at - self._since
        unit_ns = UNIT_SECONDS_AT_1_W * SECOND // self._power_w
        if self.units and ran_ns:
            unit_ns = min(unit_ns, ran_ns // self.units)
        return self._grew_at + max(QUANTA_PATIENCE * quantum_ns, UNIT_TIMES_PATIENCE * unit_ns)
