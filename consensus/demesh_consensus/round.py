"""One view's memory: the proposal, everybody's votes, certificates, and what I said myself.

A voter's second, different statement of a kind does not count: it is evidence (R-CON-11). So a view
holds at most three votes per voter, whatever is sent.
"""

from __future__ import annotations

from demesh_consensus.effects import Misbehaved
from demesh_consensus.types import (
    Certificate,
    Proposal,
    Statement,
    StatementKind,
    Vote,
    Voters,
)

_EXCLUDES = {
    StatementKind.FINALIZE: StatementKind.NULLIFY,
    StatementKind.NULLIFY: StatementKind.FINALIZE,
}


class Round:
    """Tally of one view."""

    __slots__ = ("_voters", "_votes", "_weights", "certificates", "digest", "proposal", "spoiled")

    def __init__(self, voters: Voters) -> None:
        self._voters = voters
        self._votes: dict[tuple[StatementKind, int], Vote] = {}
        self._weights: dict[Statement, int] = {}
        self.certificates: dict[StatementKind, Certificate] = {}
        self.proposal: Proposal | None = None
        self.digest = b""
        self.spoiled = False  # the proposal is invalid, or there were two

    def add(self, vote: Vote) -> Certificate | Misbehaved | None:
        """Count a vote whose signature is good; the certificate if it completes one."""
        statement, kind = vote.statement, vote.statement.kind
        held = self._votes.get((kind, vote.voter))
        if held is not None:
            return None if held.statement == statement else Misbehaved(held, vote)
        if kind in _EXCLUDES and (other := self._votes.get((_EXCLUDES[kind], vote.voter))):
            return Misbehaved(other, vote)
        self._votes[kind, vote.voter] = vote
        weight = self._weights.get(statement, 0) + self._voters.weights[vote.voter]
        self._weights[statement] = weight
        if weight < self._voters.quorum or kind in self.certificates:
            return None
        return self._certify(statement)

    def _certify(self, statement: Statement) -> Certificate:
        signatures = tuple(
            (voter, vote.signature)
            for voter in range(len(self._voters.weights))
            if (vote := self._votes.get((statement.kind, voter))) and vote.statement == statement
        )
        return Certificate(statement, signatures)

    def said(self, voter: int, kind: StatementKind) -> Vote | None:
        """What the voter said of this kind."""
        return self._votes.get((kind, voter))

    def votes_of(self, voter: int) -> tuple[Vote, ...]:
        """All that the voter said in this view."""
        return tuple(v for kind in StatementKind if (v := self._votes.get((kind, voter))))

    def weight_nullifying(self) -> int:
        """Weight that wants to skip this view."""
        return sum(w for s, w in self._weights.items() if s.kind is StatementKind.NULLIFY)

    def voices(self) -> frozenset[int]:
        """Who said anything in this view."""
        return frozenset(voter for _, voter in self._votes)

    @property
    def notarized(self) -> bytes | None:
        """The digest that quorum weight notarized."""
        held = self.certificates.get(StatementKind.NOTARIZE)
        return held.statement.digest if held else None

    @property
    def nullified(self) -> bool:
        """Quorum weight skipped this view."""
        return StatementKind.NULLIFY in self.certificates
