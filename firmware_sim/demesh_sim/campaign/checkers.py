"""What must hold of votes, certificates and blocks, whatever happens; no code of the core decides.

    agreement    one chain over all epochs: one block per height, on the one before it; each op
                 once; roots recomputed; `closing` just where the voters change, and nothing of that
                 epoch above it
    hand-over    an epoch begins, for everybody, with the block that closed the last one and the
                 voters of its state; nobody votes in it before quorum weight has closed that one
    certificate  what an honest voter shows or finalizes on has good signatures of quorum weight
    one          in a view one block is notarized, and it is not both nullified and finalized; an
                 epoch has one closing block
    durable      an honest vote that leaves is on its voter's disk, with what it rests on
    discipline   NOTARIZE and FINALIZE once per view, never FINALIZE and NULLIFY, over all lives
    grounded     NOTARIZE only on a certified parent with what is skipped nullified, FINALIZE only
                 for a notarized block, both counted from the votes of the whole mesh; above a
                 closing block only the empty block that may stand there
    time         no final block is ahead of the fastest honest clock by more than the slack

What counts as said is in `history`. What no rule forbids is not looked for: NOTARIZE after NULLIFY
is safe in Simplex.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from demesh_consensus import Block, Certificate, Finalized, Proposal, Statement, StatementKind, Vote
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.disk import Kept
from demesh_sim.campaign.history import History, Place, View, Violation, filler_on, name_of
from demesh_sim.campaign.ledger import GENESIS, START, Roll
from demesh_sim.campaign.messages import GotBlocks, GotVotes, Message, Said
from demesh_sim.campaign.peer import Peer, Watcher
from demesh_sim.campaign.signing import digest_of
from demesh_sim.campaign.weather import SECOND

NOTARIZE, NULLIFY, FINALIZE = StatementKind.NOTARIZE, StatementKind.NULLIFY, StatementKind.FINALIZE

# R-CON-13: what a voter accepts ahead of its own clock.
SLACK_S = 2


class Checkers(Watcher):
    """All rules above. `faulty` voters need not keep the word of their first key.

    They are liars, or lost their journals: with another key these are as honest as all.
    """

    def __init__(self, arena: Arena, faulty: frozenset[int] = frozenset()) -> None:
        self.arena, self.faulty = arena, faulty
        self.history = History(arena)
        self.truth: dict[int, bytes] = {0: GENESIS}
        self.checked = 0
        self._said: dict[tuple[int, View], dict[StatementKind, bytes]] = {}
        self._began: dict[Peer, tuple[int, int]] = {}

    @property
    def roll(self) -> Roll:
        """Who votes after the highest final block."""
        return self._final().state.roll

    @property
    def ops(self) -> tuple[bytes, ...]:
        """All that is final, anywhere."""
        return self._final().state.ops

    def _final(self) -> Place:
        place = self.history.place(self.truth[len(self.truth) - 1])
        assert place is not None
        return place

    def _honest(self, peer: Peer, vote: Vote) -> bool:
        """Is this an own vote whose voter has to stand by it?"""
        if vote.voter != peer.index or peer.adversary is not None:
            return False
        return peer.index not in self.faulty or self.history.key(*_seat(vote)) != 0

    # -- votes ------------------------------------------------------------------------------------

    def booted(self, peer: Peer) -> None:
        self._began.pop(peer, None)
        self._commit(peer, list(peer.disk.held))

    def synced(self, peer: Peer, entries: Sequence[Kept]) -> None:
        self._commit(peer, entries)
        for entry in entries:
            vote = entry.vote if isinstance(entry, Proposal) else entry
            if isinstance(vote, Vote) and self._honest(peer, vote):
                self._rests(peer, vote.statement)

    def _commit(self, peer: Peer, entries: Sequence[Kept]) -> None:
        """What is on the disk is said, even if it is sent only after the next start."""
        for entry in entries:
            if isinstance(entry, Proposal):
                self.history.see(entry.block)
            vote = entry.vote if isinstance(entry, Proposal) else entry
            if isinstance(vote, Vote) and vote.voter == peer.index:
                if self._honest(peer, vote):
                    self._discipline(peer, vote)
                self.history.count(vote)

    def said(self, peer: Peer, message: Said) -> None:
        self.checked += 1
        self.history.hear(message)
        honest = peer.adversary is None
        match message:
            case Vote():
                if self._honest(peer, message):
                    self._durable(peer, message)
            case Certificate():
                if honest and not self.history.weighs(message):
                    self._fail("certificate", peer, f"{name_of(message.statement)} does not hold")
            case Proposal(_, shown, vote):
                if not self._honest(peer, vote):
                    return
                if not all(self.history.weighs(certificate) for certificate in shown):
                    self._fail("certificate", peer, "shows a bad certificate")
                self._durable(peer, vote)

    def hears(self, source: int, peer: Peer, message: Message) -> None:
        if isinstance(message, GotBlocks):
            self.history.weighs(message.certificate)
        elif isinstance(message, GotVotes) and message.tip is not None:
            self.history.weighs(message.tip)

    def _durable(self, peer: Peer, vote: Vote) -> None:
        """R-CON-10: a vote of mine that leaves is safe; what is final may be left out."""
        statement, held = vote.statement, peer.disk.held
        if (statement.epoch, statement.view) <= _left_out(peer):
            return
        if vote not in held and not any(_is_of(entry, vote) for entry in held):
            text = f"{name_of(statement)} leaves, and its disk does not hold it"
            self._fail("durable", peer, text)

    def _rests(self, peer: Peer, statement: Statement) -> None:
        """R-CON-10: the certificate a new vote rests on is safe with it, or its view is final.

        Final for anybody: who said FINALIZE there has the notarization on its disk, and they are
        quorum weight. The voter itself may have lost the block since.
        """
        epoch, view = statement.epoch, statement.view - (statement.kind is not FINALIZE)
        wanted = (NOTARIZE,) if statement.kind is FINALIZE else tuple(StatementKind)
        if (epoch, view) in self.history.finalized:
            return
        if (epoch, view) > _left_out(peer) and not any(
            isinstance(entry, Certificate)
            and (entry.statement.epoch, entry.statement.view) == (epoch, view)
            and entry.statement.kind in wanted
            for entry in peer.disk.held
        ):
            text = f"{name_of(statement)} rests on what its disk does not hold"
            self._fail("durable", peer, text)

    def _discipline(self, peer: Peer, vote: Vote) -> None:
        """An epoch's roll names one key per voter, so a voter's epoch stands for its key too."""
        statement = vote.statement
        view, kind, digest = (statement.epoch, statement.view), statement.kind, statement.digest
        said = self._said.setdefault((peer.index, view), {})
        if kind in said:
            if said[kind] != digest:
                self._fail("discipline", peer, f"{name_of(statement)}, and another digest before")
            return
        said[kind] = digest
        roll = self.history.rolls.get(statement.epoch)
        if roll is None:
            text = f"{name_of(statement)}, and nobody can have closed the epoch before"
            self._fail("hand-over", peer, text)
        if not roll.weights[peer.index] or not self.history.genuine(vote):
            self._fail("discipline", peer, f"{name_of(statement)} without a seat for its key")
        if FINALIZE in said and NULLIFY in said:
            self._fail("discipline", peer, f"{name_of(statement)}: both FINALIZE and NULLIFY")
        if kind is FINALIZE:
            if said.get(NOTARIZE) != digest:
                self._fail("grounded", peer, f"{name_of(statement)} without its own NOTARIZE")
            if self.history.notarized.get(view) != digest:
                self._fail("grounded", peer, f"{name_of(statement)} for what is not notarized")
        if kind is NOTARIZE:
            self._grounded(peer, view, digest)

    def _grounded(self, peer: Peer, view: View, digest: bytes) -> None:
        """R-CON-3, from the votes of the whole mesh."""
        (epoch, number), history = view, self.history
        block = history.block(digest)
        if block is None or (block.epoch, block.view) != view:
            self._fail("grounded", peer, f"NOTARIZE{view} for an unknown or unfit block")
        if not block.parent_view < number:
            self._fail("grounded", peer, f"NOTARIZE{view} on parent view {block.parent_view}")
        below = epoch, block.parent_view
        if block.parent not in (history.notarized.get(below), history.finalized.get(below)):
            self._fail("grounded", peer, f"NOTARIZE{view} on a parent that is not certified")
        for skipped in range(block.parent_view + 1, number):
            if (epoch, skipped) not in history.nullified:
                self._fail("grounded", peer, f"NOTARIZE{view} skips {skipped}, not nullified")
        self._executes(peer, block)

    def _executes(self, peer: Peer, block: Block) -> None:
        where, digest = f"epoch {block.epoch}, view {block.view}", digest_of(block)
        below, place = self.history.place(block.parent), self.history.place(digest)
        if below is None or place is None:
            self._fail("grounded", peer, f"{where}: nobody ever showed what it stands on")
        if below.end is not None and block.epoch == below.epoch:
            if block != filler_on(block.parent, below, block.view):
                self._fail("grounded", peer, f"{where}: not the empty block that may stand there")
            return
        if block.epoch != below.state.roll.epoch:
            self._fail("grounded", peer, f"{where}: not the epoch of what it stands on")
        if below.end is not None and block.parent != below.end:
            self._fail("grounded", peer, f"{where}: begins on another block than the closing one")
        if block.height != below.height + 1 or block.time_s < below.time_s:
            self._fail("grounded", peer, f"{where}: height or time does not follow")
        if len(dict.fromkeys(place.state.ops)) != len(place.state.ops):
            self._fail("grounded", peer, f"{where}: an op is there twice")
        if block.state_root != place.state.root:
            self._fail("grounded", peer, f"{where}: another state root")
        if block.closing != (place.end is not None):
            self._fail("grounded", peer, f"{where}: closing, or not, and the voters say otherwise")

    # -- blocks -----------------------------------------------------------------------------------

    def final(self, peer: Peer, effect: Finalized) -> None:
        if peer.adversary is not None:
            return
        height = peer.chain[-1].block.height if peer.chain else START.height
        for digest, block in effect.blocks:
            height += 1
            if self.history.see(block) != digest or block.height != height:
                self._fail("agreement", peer, f"height {block.height} is not the next block")
            if self.truth.setdefault(height, digest) != digest:
                self._fail("agreement", peer, f"fork at height {height}")
            if block.parent != self.truth[height - 1]:
                self._fail("agreement", peer, f"height {height} is on another parent")
            self._follows(peer, block)
            self._executes(peer, block)
            self._time(peer, block)
        if any(block.closing for _, block in effect.blocks[:-1]):
            self._fail("agreement", peer, "a closing block is not the last one of its epoch")
        self._certified(peer, effect)

    def _follows(self, peer: Peer, block: Block) -> None:
        """R-CON-14: nothing of an epoch is above its closing block, and the next begins at 0."""
        below = self.history.place(block.parent)
        if below is None or below.end is None:
            return
        if block.epoch != below.epoch + 1:
            text = f"height {block.height} is above the closing block of its epoch"
            self._fail("agreement", peer, text)
        if block.parent_view != 0:
            text = f"height {block.height} begins its epoch on view {block.parent_view}"
            self._fail("agreement", peer, text)

    def _certified(self, peer: Peer, effect: Finalized) -> None:
        """The certificate is for the last block, or for the empty blocks above a closing one."""
        digest, block = effect.blocks[-1]
        view = block.view
        for view in effect.trail:
            below = self.history.place(digest)
            if below is None or below.end is None or view <= below.view:
                self._fail("certificate", peer, f"height {block.height} by an unfit trail")
            digest = self.history.see(filler_on(digest, below, view))
        statement = effect.certificate.statement
        if statement != Statement(FINALIZE, block.epoch, view, digest):
            self._fail("certificate", peer, f"height {block.height} by {name_of(statement)}")
        if not self.history.weighs(effect.certificate):
            self._fail("certificate", peer, f"height {block.height} without quorum weight")

    def turned(self, peer: Peer) -> None:
        """Everybody's epoch has the same voters and begins with the same block."""
        core = peer.core
        epoch, life = core.voters.epoch, peer.life
        if peer.adversary is not None or self._began.get(peer) == (epoch, life):
            return
        self._began[peer] = epoch, life
        roll = self.history.rolls.get(epoch)
        if roll is None:
            self._fail("hand-over", peer, f"is in epoch {epoch}, which nobody has begun")
        if (core.voters.weights, core.voters.seed) != (roll.weights, roll.seed):
            self._fail("hand-over", peer, f"has other voters in epoch {epoch}")
        begun = self.history.place(self.history.starts[epoch])
        assert begun is not None
        tip = core.tip
        if tip.view == 0 and (tip.digest, tip.height, tip.time_s) != (
            self.history.starts[epoch],
            begun.height,
            begun.time_s,
        ):
            self._fail("hand-over", peer, f"begins epoch {epoch} on another block")

    def _time(self, peer: Peer, block: Block) -> None:
        honest = (p for p in self.arena.peers if p.adversary is None)
        fastest = START.time_s + max(self.arena.local(p) for p in honest) // SECOND
        if block.time_s > fastest + SLACK_S:
            ahead = block.time_s - fastest
            self._fail("time", peer, f"height {block.height} is {ahead} s ahead of every clock")

    def _fail(self, rule: str, peer: Peer, text: str) -> NoReturn:
        raise Violation(rule, peer.index, self.arena.now, text)


def _left_out(peer: Peer) -> View:
    """Up to here a journal may have left out what it held."""
    return max((peer.core.voters.epoch, peer.core.tip.view), peer.standing.floor)


def _seat(vote: Vote) -> tuple[int, int]:
    return vote.voter, vote.statement.epoch


def _is_of(entry: Kept, vote: Vote) -> bool:
    return isinstance(entry, Proposal) and entry.vote == vote
