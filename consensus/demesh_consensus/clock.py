"""Mesh time: integer seconds in blocks, the only clock of the ledger (R-CON-13).

A voter's clock starts from the finalized tip, the slack below its time; it advances with its own
monotonic time and follows finalized blocks and, until it votes, what more than f weight of peers
says from below. It never follows one block's time itself: a minority of leaders would run time
ahead of the fastest honest clock.
"""

from __future__ import annotations

from collections.abc import Mapping

from demesh_consensus.chain import Tip
from demesh_consensus.types import Instant, Voters

SECOND = 1_000_000_000

# A leader may be this much ahead of a voter: more than the skew of clocks that follow each other,
# less than anybody's payment window.
SLACK_S = 2

# Between two finalizations time advances by at most this: a halted ledger eats nobody's window.
ADVANCE_S_MAX = 3600


class MeshClock:
    """One node's view of mesh time."""

    __slots__ = ("_anchor_ns", "_claims", "_since", "_time_ns")

    def __init__(self, time_s: int, now: Instant) -> None:
        self._time_ns = time_s * SECOND
        self._anchor_ns = self._time_ns  # at the last finalization, or at the start
        self._since = now
        self._claims: dict[int, int] = {}  # voter -> what its clock showed, minus my `now`

    @classmethod
    def since(cls, tip: Tip, now: Instant) -> MeshClock:
        """The clock of a node that has just started, as if its tip had become final now.

        The genesis has a time that nobody proposed, and that all begin with.
        """
        return cls(tip.time_s - (SLACK_S if tip.height else 0), now)

    def read_s(self, now: Instant) -> int:
        """Mesh time in whole seconds."""
        return self._read_ns(now) // SECOND

    def accepts(self, time_s: int, now: Instant) -> bool:
        """May a voter notarize a block of this time yet?"""
        return time_s <= self.read_s(now) + SLACK_S

    def finalized(self, time_s: int, now: Instant) -> None:
        """Follow a finalized block's time from below."""
        self._time_ns = max(self._read_ns(now), (time_s - SLACK_S) * SECOND)
        self._anchor_ns = self._time_ns
        self._since = now

    def heard(self, voter: int, time_s: int, voters: Voters, now: Instant) -> None:
        """A voter told its clock: catch up to what more than f weight has reached.

        At least one of them is honest, so this never passes the fastest honest clock.
        """
        self._claims[voter] = time_s * SECOND - now
        reached = self._reached(self._claims, voters, now)
        if reached is not None and reached > self._read_ns(now):
            self._time_ns, self._since = reached, now

    def forget_claims(self) -> None:
        """Voters get other numbers with a new epoch."""
        self._claims.clear()

    def agree(self, me: int, voters: Voters, now: Instant) -> None:
        """Before my first vote since the start my own clock is but one claim among the others.

        So it may go back, though not behind the tip: whoever started first has counted on its own,
        and would propose times that nobody accepts for as long as it runs.
        """
        claims = self._claims | {me: self._read_ns(now) - now}
        reached = self._reached(claims, voters, now)
        if reached is not None:
            self._time_ns, self._since = max(reached, self._anchor_ns), now

    @staticmethod
    def _reached(claims: Mapping[int, int], voters: Voters, now: Instant) -> int | None:
        """The greatest mesh time in ns that more than f weight claims to have reached."""
        weight = 0
        for offset, claimant in sorted(((o, v) for v, o in claims.items()), reverse=True):
            weight += voters.weights[claimant]
            if weight > voters.faulty_max:
                return offset + now
        return None

    def instant_of(self, time_s: int) -> Instant | None:
        """When this clock shows `time_s`; None if it will not without a finalization."""
        if time_s * SECOND > self._anchor_ns + ADVANCE_S_MAX * SECOND:
            return None
        return self._since + time_s * SECOND - self._time_ns

    def _read_ns(self, now: Instant) -> int:
        ceiling = self._anchor_ns + ADVANCE_S_MAX * SECOND
        return min(self._time_ns + max(0, now - self._since), ceiling)
