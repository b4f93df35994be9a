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

_KINDS = tuple(StatementKind)
_EXCLUDES = {
    StatementKind.FINALIZE: StatementKind.NULLIFY,
    StatementKind.NULLIFY: StatementKind.FINALIZE,
}


class Round:
    """Tally of one view."""

    __slots__ = (
        "_accused",
        "_voters",
        "_votes",
        "_weights",
        "certificates",
        "digest",
        "early",
        "proposals",
        "recorded",
        "spoiled",
    )

    def __init__(self, voters: Voters) -> None:
        self._voters = voters
        self._votes: dict[tuple[StatementKind, int], Vote] = {}
        self._weights: dict[Statement, int] = {}
        self._accused: set[int] = set()
        self.certificates: dict[StatementKind, Certificate] = {}
        self.recorded: list[StatementKind] = []  # of the certificates, those that are durable
        self.proposals: dict[bytes, Proposal] = {}  # the first two of the leader's, by digest
        self.digest = b""  # of the one that counts
        self.spoiled = False  # the proposal is invalid, or there were two
        self.early = False  # when the proposal came, its time had not come yet

    @property
    def proposal(self) -> Proposal | None:
        """The first proposal of the view; of two, the one that quorum weight took."""
        return self.proposals.get(self.digest)

    def propose(self, digest: bytes, proposal: Proposal) -> bool:
        """Keep what the leader proposes; is it the first? A second one spoils the view.

        It is kept all the same, for quorum weight may have taken it.
        """
        if digest in self.proposals:
            return False
        first = not self.proposals
        self.spoiled |= not first
        if len(self.proposals) < 2 or digest == self.notarized:
            self.proposals[digest] = proposal
        if first or digest == self.notarized:
            self.digest = digest
        return first

    def hold(self, certificate: Certificate) -> None:
        """Quorum weight said so."""
        self.certificates[certificate.statement.kind] = certificate
        if self.notarized in self.proposals:
            self.digest = self.notarized

    def add(self, vote: Vote) -> Certificate | Misbehaved | None:
        """Count a vote whose signature is good; the certificate if it completes one."""
        statement, kind = vote.statement, vote.statement.kind
        held = self._votes.get((kind, vote.voter))
        if held is not None:
            return None if held.statement == statement else self._accuse(held, vote)
        if kind in _EXCLUDES and (other := self._votes.get((_EXCLUDES[kind], vote.voter))):
            return self._accuse(other, vote)
        self._votes[kind, vote.voter] = vote
        weight = self._weights.get(statement, 0) + self._voters.weights[vote.voter]
        self._weights[statement] = weight
        if weight < self._voters.quorum or kind in self.certificates:
            return None
        return self._certify(statement)

    def _accuse(self, first: Vote, second: Vote) -> Misbehaved | None:
        """Evidence, once per voter and view: saying more lies makes nobody else say more."""
        if first.voter in self._accused:
            return None
        self._accused.add(first.voter)
        return Misbehaved(first, second)

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
        return tuple(v for kind in _KINDS if (v := self._votes.get((kind, voter))))

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


class Rounds:
    """All views in memory, by number; what they say together. Nothing here votes."""

    __slots__ = ("_rounds", "_voters")

    def __init__(self, voters: Voters) -> None:
        self._voters = voters
        self._rounds: dict[int, Round] = {}

    def at(self, view: int) -> Round:
        """The round of a view, made if need be."""
        if view not in self._rounds:
            self._rounds[view] = Round(self._voters)
        return self._rounds[view]

    def get(self, view: int) -> Round | None:
        """The round of a view, if anything was heard of it."""
        return self._rounds.get(view)

    def above(self, view: int) -> list[tuple[int, Round]]:
        """Rounds of later views, ascending."""
        return [(v, self._rounds[v]) for v in sorted(self._rounds) if v > view]

    def prune(self, view: int) -> None:
        """Forget all up to a view."""
        self._rounds = {v: r for v, r in self._rounds.items() if v > view}

    def said(self, voter: int | None, view: int, kind: StatementKind) -> Vote | None:
        """What a voter said of this kind in a view."""
        round_ = self._rounds.get(view)
        return round_.said(voter, kind) if round_ and voter is not None else None

    def lacks(self, voter: int, statement: Statement) -> bool:
        """Might this vote still count: is neither it nor what it would help to prove known?"""
        round_ = self._rounds.get(statement.view)
        kind = statement.kind
        return round_ is None or (
            round_.said(voter, kind) is None and kind not in round_.certificates
        )

    def latest_votes(self, voter: int) -> tuple[Vote, ...]:
        """The voter's latest vote of each kind."""
        latest: dict[StatementKind, Vote] = {}
        for view in sorted(self._rounds):
            for vote in self._rounds[view].votes_of(voter):
                latest[vote.statement.kind] = vote
        return tuple(latest.values())

    def weight_from(self, view: int, me: int | None) -> int:
        """Weight of all others who said anything in this view or later (R-CON-7).

        With my own f liars and I would be reason enough for me to repeat myself for ever.
        """
        voices: set[int] = set()
        for number, round_ in self._rounds.items():
            if number >= view:
                voices |= round_.voices()
        return sum(self._voters.weights[voter] for voter in voices if voter != me)

    def last_certified(self, view: int) -> int | None:
        """The highest view from `view` on that has any certificate (R-CON-1)."""
        certified = (v for v, r in self._rounds.items() if v >= view and r.certificates)
        return max(certified, default=None)

    def last_notarized(self, floor: int) -> int:
        """The highest notarized view above `floor`, else `floor`."""
        return max((v for v, r in self._rounds.items() if v > floor and r.notarized), default=floor)

    def last_finalization(self, floor: int) -> Certificate | None:
        """The highest finalization above `floor`."""
        for _, round_ in reversed(self.above(floor)):
            if final := round_.certificates.get(StatementKind.FINALIZE):
                return final
        return None

    def skipped(self, after: int, before: int) -> bool:
        """Is every view between these two nullified?"""
        return all(
            (round_ := self._rounds.get(view)) is not None and round_.nullified
            for view in range(after + 1, before)
        )

    def parent_view(self, view: int, floor: int) -> int | None:
        """The highest certified view below `view`, all between nullified; None if one lacks."""
        for candidate in range(view - 1, floor, -1):
            round_ = self._rounds.get(candidate)
            if round_ is not None and round_.notarized:
                return candidate
            if round_ is None or not round_.nullified:
                return None
        return floor

    def proposed(self) -> dict[bytes, Proposal]:
        """Proposals at hand by the digest of their block."""
        return {d: p for r in self._rounds.values() for d, p in r.proposals.items()}
