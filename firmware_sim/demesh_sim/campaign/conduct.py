"""What must hold of each voter by itself.

recall      no new vote in a life and an epoch before voters of quorum weight, itself included,
            answered; no seat in an epoch of which its journal has left votes out
quarantine  who learns of an own vote that its disk lacks gives up its key at once, for good, in
            every epoch; who lost nothing never does
evidence    who is accused did contradict itself, in two signed statements
memory      what a core holds is bounded by how far its view is from its tip
"""

from __future__ import annotations

from collections.abc import Sequence

from demesh_consensus import Misbehaved, Proposal, StatementKind, Vote
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.checkers import Checkers
from demesh_sim.campaign.disk import Kept
from demesh_sim.campaign.history import View, Violation, name_of
from demesh_sim.campaign.messages import GotVotes, Message
from demesh_sim.campaign.peer import Peer, Watcher

NULLIFY, FINALIZE = StatementKind.NULLIFY, StatementKind.FINALIZE

# R-CON-1 and R-CON-11: votes are taken 64 views ahead, and kept for 16 below the tip.
VIEWS_AHEAD, VIEWS_KEPT = 64, 16
# Counting all that a core holds takes longer than a turn.
TURNS_PER_COUNT = 16


class Conduct(Watcher):
    """The rules above; `lossy` voters have a broken disk, `liars` no conduct at all.

    Rolls and signatures are those of the checkers, which must watch already.
    """

    def __init__(self, arena: Arena, liars: frozenset[int], lossy: frozenset[int]) -> None:
        self.arena, self.liars, self.lossy = arena, liars, lossy
        self.quarantines = 0
        self._history = next(w.history for w in arena.watchers if isinstance(w, Checkers))
        self._answered: dict[tuple[int, int], dict[int, None]] = {}  # by voter and epoch
        self._floor: dict[int, View] = {}
        self._own: dict[int, dict[Vote, None]] = {}  # on the disk, at the start or since
        self._given_up: dict[tuple[int, int], None] = {}  # voter and key
        # The last answer: from whom, of which epoch, and in which I heard it.
        self._heard: dict[int, tuple[int, int, int]] = {}
        self._must: dict[int, Vote] = {}
        self._turns = 0

    def booted(self, peer: Peer) -> None:
        me = peer.index
        self._answered = {at: who for at, who in self._answered.items() if at[0] != me}
        self._floor[me] = max(_tip(peer), peer.standing.floor)
        self._own[me] = dict.fromkeys(_own_votes(me, list(peer.disk.held)))
        self._heard.pop(me, None)
        self._must.pop(me, None)

    def synced(self, peer: Peer, entries: Sequence[Kept]) -> None:
        me = peer.index
        if me in self.liars:
            return
        self._credit(peer)
        for vote in _own_votes(me, entries):
            if vote in self._own[me]:
                continue
            statement, said = vote.statement, name_of(vote.statement)
            epoch, answered = statement.epoch, self._answers(me, statement.epoch)
            weight = self._history.weight(answered, epoch)
            if weight < self._history.quorum(epoch):
                self._fail("recall", peer, f"{said} after {weight} answered")
            if (me, self._history.key(me, epoch)) in self._given_up:
                self._fail("quarantine", peer, f"{said} with a key given up")
            if (epoch, statement.view) <= self._floor[me]:
                self._fail("recall", peer, f"{said} at or below the floor")
            self._own[me][vote] = None

    def _credit(self, peer: Peer) -> None:
        """The last answer counts in the epochs that its turn went through, but not before its own.

        Its tip may close one, and so may the vote that I cast because of it.
        """
        if peer.index not in self._heard:
            return
        source, own, first = self._heard.pop(peer.index)
        for epoch in range(max(own, first), peer.core.voters.epoch + 1):
            self._answers(peer.index, epoch)[source] = None

    def _answers(self, me: int, epoch: int) -> dict[int, None]:
        return self._answered.setdefault((me, epoch), {me: None})

    def hears(self, source: int, peer: Peer, message: Message) -> None:
        me = peer.index
        if me in self.liars:
            return
        self._credit(peer)
        votes: tuple[Vote, ...] = ()
        if isinstance(message, GotVotes) and message.nonce == peer.nonce:
            self._heard[me] = source, message.epoch, peer.core.voters.epoch
            votes = message.votes
        elif isinstance(message, Vote):
            votes = (message,)
        elif isinstance(message, Proposal):
            votes = (message.vote,)
        for vote in votes:
            if vote.voter == me and vote not in self._own[me] and self._lost(peer, vote):
                self._must[me] = vote

    def _lost(self, peer: Peer, vote: Vote) -> bool:
        """Is it a vote of mine that I ought to remember?"""
        at, (epoch, tip_view) = (vote.statement.epoch, vote.statement.view), _tip(peer)
        if at[0] != epoch or self._history.key(peer.index, epoch) != peer.log.key:
            return False
        forgotten = max(self._floor[peer.index], (epoch, tip_view - VIEWS_KEPT))
        return at > forgotten and self._history.genuine(vote)

    def turned(self, peer: Peer) -> None:
        me = peer.index
        if me in self.liars:
            return
        self._credit(peer)
        if peer.quarantined and (me, peer.log.key) not in self._given_up:
            if me not in self.lossy or peer.log.key != 0:
                self._fail("quarantine", peer, "gives up its key, and its disk lost nothing")
            self._given_up[me, peer.log.key] = None
            self.quarantines += 1
        if peer.core.voters.epoch < peer.standing.floor[0] and peer.core.me is not None:
            self._fail("recall", peer, f"has a seat in epoch {peer.core.voters.epoch}, left out")
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
        voter, view = proof.first.voter, (first.epoch, first.view)
        same = voter == proof.second.voter and view == (second.epoch, second.view)
        holds = all(self._history.genuine(vote) for vote in (proof.first, proof.second))
        if not (holds and same and (one or both)):
            self._fail("evidence", peer, "accuses without two statements that exclude each other")
        lost = voter in self.lossy and self._history.key(voter, first.epoch) == 0
        if voter not in self.liars and not lost:
            self._fail("evidence", peer, f"accuses voter {voter}, who is honest")

    def _memory(self, peer: Peer) -> None:
        """Reads private fields: what they hold is what is bounded."""
        core, voters = peer.core, len(self.arena.peers)
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


def _tip(peer: Peer) -> View:
    return peer.core.voters.epoch, peer.core.tip.view


def _own_votes(me: int, entries: Sequence[Kept]) -> list[Vote]:
    votes = (entry.vote if isinstance(entry, Proposal) else entry for entry in entries)
    return [vote for vote in votes if isinstance(vote, Vote) and vote.voter == me]
