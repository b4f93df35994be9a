"""How long a channel may be served on, whatever is paid: its expiry, and what is known of it.

Mesh time stands still an hour after the last block that a device knows, so that a ledger that halts
eats nobody's window. A provider that is cut off from a ledger that goes on must not believe it: it
would serve past expiry and window, on promises that no ledger takes any more.

R-MET-31 Expiry is judged by the greater of mesh time and the latest mesh time that was read for
         this agreement with the own time since added: it never stands still.
R-MET-32 It serves only while the channel can be shown to be open: not before a block became final
         since the daemon's start, and no longer than the channel's window less 60 s after the last
         one. A payer's CLOSE that it was not told of cannot have settled the channel before.
"""

from __future__ import annotations

from demesh.metering.meter import MeshClock
from demesh.ports import SECOND, Instant
from demesh.wire.intents import ChannelFact

# The last reading, its voucher and the Close want to be through before expiry. After it the channel
# still waits its window of an hour, so this is comfort, not safety.
EXPIRY_MARGIN_S = 60


class Term:
    """The time for which one channel is served."""

    __slots__ = ("_at", "_clock", "_time_s", "_window_s", "expiry_s")

    def __init__(self, clock: MeshClock, now: Instant) -> None:
        self._clock = clock
        self._at, self._time_s = now, clock.time_s(now)
        self.expiry_s = self._window_s = 0

    def told(self, fact: ChannelFact) -> None:
        """What the ledger says of the channel, which is open."""
        self.expiry_s, self._window_s = fact.expiry_s, fact.window_s

    @property
    def proven(self) -> bool:
        """Whether a block became final since the start."""
        return self._clock.final_s is not None

    def over(self, now: Instant) -> bool:
        """Whether nothing may be served any more."""
        return self._late_s(now) >= self._ends_s

    def ends(self) -> Instant:
        """When it is over at the latest; a block may make it sooner or later."""
        own = self._at + max(0, self._ends_s - self._time_s) * SECOND
        return min(own, self._clock.reaches(self._ends_s))

    def _late_s(self, now: Instant) -> int:
        """The latest that mesh time can be now, rounded down (R-MET-31)."""
        own_s = self._time_s + (now - self._at) // SECOND
        mesh_s = self._clock.time_s(now)
        if mesh_s > own_s:
            self._at, self._time_s = now, mesh_s
        return max(own_s, mesh_s)

    @property
    def _ends_s(self) -> int:
        ends_s, final_s = self.expiry_s, self._clock.final_s
        if final_s is not None:
            ends_s = min(ends_s, final_s + self._window_s)  # R-MET-32
        return ends_s - EXPIRY_MARGIN_S
