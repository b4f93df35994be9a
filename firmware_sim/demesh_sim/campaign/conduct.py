"""What must hold of each voter by itself.

recall      no new vote in a life before voters of quorum weight, itself included, answered
quarantine  who learns of an own vote that its disk lacks gives up its key at once, for good;
            who lost nothing never does
evidence    who is accused did contradict itself, in two signed statements
memory      what a core holds is bounded by how far its view is from its tip
"""

from __future__ import annotations

from collections.abc import Sequence

from demesh_consensus import Misbehaved, Proposal, StatementKind, Vote
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.checkers import Violation, name_of
from demesh_sim.campaign.disk import Kept
from demesh_sim.campaign.messages import GotVotes, Message
from demesh_sim.campaign.peer import Peer, Watcher

NULLIFY, FINALIZE = StatementKind.NULLIFY, StatementKind.FINALIZE

# R-CON-1 and R-CON-11: votes are taken 64 views ahead, and kept for 16 below the tip.
VIEWS_AHEAD, VIEWS_KEPT = 64, 16
# Counting all that a core holds takes longer than a turn.
TURNS_PER_COUNT = 16


class Conduct(Watcher):
    """The rules above; `lossy` voters have a broken disk, `liars` no conduct at all."""

    def __init__(self, arena: Arena, liars: frozenset[int], lossy: frozenset[int]) -> None:
        self.arena, self.liars, self.lossy = arena, liars, lossy
        self.quarantines = 0
        self._answered: dict[int, dict[int, None]] = {}
        self._floor: dict[int, int] = {}
        self._own: dict[int, dict[Vote, None]] = {}  # on the disk, at the start or since
        self._given_up: dict[int, None] = {}
        self._must: dict[int, Vote] = {}
        self._turns = 0
        weights = arena.voters.weights
        self._quorum = 2 * sum(weights) // 3 + 1

    def booted(self, peer: Peer) -> None:
        me = peer.index
        self._answered[me] = {me: None}
        self._floor[me] = max(peer.core.tip.view, peer.standing.floor)
        self._own[me] = dict.fromkeys(_own_votes(me, list(peer.disk.held)))
        self._must.pop(me, None)

    def synced(self, peer: Peer, entries: Sequence[Kept]) -> None:
        me = peer.index
        if me in self.liars:
            return
        for vote in _own_votes(me, entries):
            if vote in self._own[me]:
                continue
            weight = sum(self.arena.voters.weights[voter] for voter in self._answered[me])
            if weight < self._quorum:
                self._fail("recall", peer, f"{name_of(vote.statement)} after {weight} answered")
            if me in self._given_up:
                self._fail("quarantine", peer, f"{name_of(vote.statement)} with a key given up")
            if vote.statement.view <= self._floor[me]:
                self._fail("recall", peer, f"{name_of(vote.statement)} at or below the floor")
            self._own[me][vote] = None

    def hears(self, source: int, peer: Peer, message: Message) -> None:
        me = peer.index
        if me in self.liars:
            return
        votes: tuple[Vote, ...] = ()
        if isinstance(message, GotVotes) and message.nonce == peer.nonce:
            self._answered[me][source] = None
            votes = message.votes
        elif isinstance(message, Vote):
            votes = (message,)
        elif isinstance(message, Proposal):
            votes = (message.vote,)
        for vote in votes:
            view = vote.statement.view
            known = view <= max(self._floor[me], peer.core.tip.view - VIEWS_KEPT)
            genuine = vote.voter == me and self.arena.signing.verify(
                me, vote.statement, vote.signature
            )
            if genuine and not known and vote not in self._own[me]:
                self._must[me] = vote

    def turned(self, peer: Peer) -> None:
        me = peer.index
        if me in self.liars:
            return
        if peer.quarantined and me not in self._given_up:
            if me not in self.lossy:
                self._fail("quarantine", peer, "gives up its key, and its disk lost nothing")
            self._given_up[me] = None
            self.quarantines += 1
        lost = self._must.pop(me, None)
        if lost is not None and not peer.quarantined:
            self._fail("quarantine", peer, f"does not mind that it lost {name_of(lost.statement)}")
        self._turns += 1
        if self._turns % TURNS_PER_COUNT == 0:
            self._memory(peer)

    def accused(self, peer: Peer, proof: Misbehaved) -> None:
        first, second = proof.first.statement, proof.second.statement
        one = first.kind == second.kind and first.digest != second.digest
        both = {first.kind, second.kind} == {NULLIFY, FINALIZE}
        holds = all(
            self.arena.signing.verify(v.voter, v.statement, v.signature)
            for v in (proof.first, proof.second)
        )
        same = proof.first.voter == proof.second.voter and first.view == second.view
        if not (holds and same and (one or both)):
            self._fail("evidence", peer, "accuses without two statements that exclude each other")
        if proof.first.voter not in self.liars | self.lossy:
            self._fail("evidence", peer, f"accuses voter {proof.first.voter}, who is honest")

    def _memory(self, peer: Peer) -> None:
        """Reads private fields: what they hold is what is bounded."""
        core, voters = peer.core, len(self.arena.voters.weights)
        above = core.view - core.tip.view
        rounds = core._rounds._rounds
        views_max = above + VIEWS_AHEAD + VIEWS_KEPT + 1
        votes = max((len(round_._votes) for round_ in rounds.values()), default=0)
        blocks = len(core._chain._blocks)
        heard = len(core.catchup._heard)
        below = sum(1 for view in rounds if view <= core.tip.view)
        if below > VIEWS_KEPT or len(rounds) > views_max or votes > 3 * voters:
            self._fail("memory", peer, f"{len(rounds)} views, {votes} votes in one")
        if blocks > 2 * views_max or len(peer.log.states) > blocks + 1:
            self._fail("memory", peer, f"{blocks} blocks, {len(peer.log.states)} states")
        if heard > 3 * views_max or len(core._chain._fetched) > 1024:
            self._fail("memory", peer, f"{heard} certificates heard")

    def _fail(self, rule: str, peer: Peer, text: str) -> None:
        raise Violation(rule, peer.index, self.arena.now, text)


def _own_votes(me: int, entries: Sequence[Kept]) -> list[Vote]:
    votes = (entry.vote if isinstance(entry, Proposal) else entry for entry in entries)
    return [vote for vote in votes if isinstance(vote, Vote) and vote.voter == me]
