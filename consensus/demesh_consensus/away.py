"""Leaders that seem to be away: a hint that ends a view's patience at once, and nothing more.

A broker tells whose connection ended, and it can lie. So a hint never outweighs what a voter says
itself: who is heard after it was reported gone is believed to be here, and for a while no report
about it counts, or faked reports would skip every leader again and again.
"""

from __future__ import annotations

from demesh_consensus.types import Instant

# After a report that turned out to be false, or a reboot: a liar skips each leader six times an
# hour at most, and an honest broker's word is missed for this long.
IGNORED = 600_000_000_000


class Away:
    """What is believed of each voter, by index."""

    __slots__ = ("_gone", "_ignored")

    def __init__(self) -> None:
        self._gone: dict[int, int] = {}  # voter -> the view in which it was reported
        self._ignored: dict[int, Instant] = {}

    def reported(self, voter: int, view: int, now: Instant) -> None:
        """Somebody says that this voter's connection ended, in my view `view`."""
        if now >= self._ignored.get(voter, now):
            self._gone.setdefault(voter, view)

    def heard(self, voter: int, view: int, now: Instant) -> None:
        """The voter signed something about `view`; of an earlier view it proves nothing."""
        if view >= self._gone.get(voter, view + 1):
            del self._gone[voter]
            self._ignored[voter] = now + IGNORED

    def seems(self, voter: int) -> bool:
        """Is it not worth while to wait for this voter?"""
        return voter in self._gone
