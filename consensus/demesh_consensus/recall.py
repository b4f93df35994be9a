"""R-CON-10, the second half: after a start, ask what the others hold of mine before voting again.

A journal whose unsynced tail was cut is honest: nothing of that tail was ever sent. A journal that
lost what it had synced would let this voter contradict itself. Answers of quorum weight (mine
included) contain an honest voter that saw any vote of mine that mattered.
"""

from __future__ import annotations

from demesh_consensus.effects import AskVotes, Effect
from demesh_consensus.types import Instant, Voters

# First repetition of the question, doubled up to the last: a restarted mesh is whole within a
# second; a voter alone in the dark asks every 16 s.
ASK_FIRST = 1_000_000_000
ASK_LAST = 16_000_000_000


class Recall:
    """Whether this voter may vote yet."""

    __slots__ = (
        "_answered",
        "_attempt",
        "_due",
        "_me",
        "_voters",
        "floor",
        "quarantined",
        "weight",
    )

    def __init__(self, voters: Voters, me: int | None, floor: int) -> None:
        self._voters, self._me = voters, me
        self.floor = floor  # votes of views up to here may be gone from the journal honestly
        self.quarantined = False
        self._answered: dict[int, None] = {}
        self.weight = 0  # that answered, mine included
        self._attempt = 0
        self._due: Instant | None = None
        if me is not None:
            self.answered(me)

    @property
    def cleared(self) -> bool:
        """May this voter vote?"""
        return self._me is not None and not self.quarantined and self.weight >= self._voters.quorum

    def answered(self, voter: int) -> None:
        """A voter told what it holds of mine."""
        if voter not in self._answered:
            self._answered[voter] = None
            self.weight += self._voters.weights[voter]

    def tick(self, now: Instant) -> list[Effect]:
        """Ask, and ask again."""
        if self._me is None or self.quarantined or self.weight >= self._voters.quorum:
            self._due = None
            return []
        if self._due is not None and now < self._due:
            return []
        self._due = now + min(ASK_FIRST << self._attempt, ASK_LAST)
        self._attempt = min(self._attempt + 1, 8)
        return [AskVotes(self._attempt)]

    def deadlines(self) -> tuple[Instant, ...]:
        """When to ask again."""
        return () if self._due is None else (self._due,)
