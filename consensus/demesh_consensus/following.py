"""What every node does in an epoch, voter or not: takes what others say, and follows it.

    R-CON-1  enter     view u+1 on any certificate for a view u >= mine
    R-CON-9  tip, R-CON-12 backfill: see `catchup`
    R-CON-11 evidence  see `round`
    R-CON-13 time      see `clock`
    R-CON-14 epochs    a closing block is the last one: see `chain` and `epochs`

Votes arrive with their signature already verified by the host; certificates and the vote inside a
proposal are verified here. Whatever is of another epoch says one thing only: that somebody is
ahead, and may be asked for blocks, or behind, and may need my tip.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

from demesh_consensus.away import Away
from demesh_consensus.catchup import Catchup
from demesh_consensus.chain import Chain, Tip
from demesh_consensus.clock import MeshClock
from demesh_consensus.effects import (
    Application,
    Effect,
    Finalized,
    Franchise,
    Misbehaved,
    Quarantined,
    Refusal,
    Refused,
)
from demesh_consensus.pacemaker import Pacemaker, Timing
from demesh_consensus.proposals import is_good
from demesh_consensus.recall import Recall
from demesh_consensus.round import Rounds
from demesh_consensus.types import (
    Block,
    Certificate,
    Instant,
    Proposal,
    Statement,
    StatementKind,
    Vote,
)

NOTARIZE, NULLIFY, FINALIZE = StatementKind.NOTARIZE, StatementKind.NULLIFY, StatementKind.FINALIZE

# Votes further ahead than this are dropped: a voter that is behind needs certificates, not votes.
VIEWS_AHEAD_MAX = 64

# Views below the tip that are remembered: long enough to find evidence and to answer a restarted
# voter; a second is about ten views at full speed.
VIEWS_KEPT = 16

# Good certificates since the tip that need not be verified again: every voter may have one of its
# own. With fewer, who replays them makes everybody verify.
PROOFS_MAX = 128


class Follower(ABC):
    """All that a node knows of one epoch. `_advance` is what it makes of it."""

    def __init__(
        self,
        franchise: Franchise,
        application: Application,
        tip: Tip,
        timing: Timing,
        salt: bytes,
        now: Instant,
        floor: int,
        clock: MeshClock | None,
        before: Franchise | None,
    ) -> None:
        self.franchise, self._before = franchise, before
        self.voters, self.me = franchise.voters, franchise.me
        self.clock = clock or MeshClock.since(tip, now)
        self.closed = False  # the tip is the last block of this epoch
        floor = max(floor, tip.view)
        self.view = floor + 1
        self.recall = Recall(self.voters, self.me, floor)
        self.catchup = Catchup(self.voters, self.me, salt, timing.delay_min)
        self._crypto, self._application = franchise.crypto, application
        self._chain = Chain(tip, application)
        self._rounds = Rounds(self.voters)
        self._away = Away()
        self._pace = Pacemaker(timing, self.view, now)
        self._proofs: tuple[bytes, set[Certificate]] = b"", set()  # good ones, since this tip
        self._booted = clock is None  # so that its clock has yet to agree with the others
        self.catchup.start(tip.certificate, now)

    @property
    def tip(self) -> Tip:
        """The latest finalized block."""
        return self._chain.tip

    @property
    def voting(self) -> bool:
        """May I vote at all?"""
        return self.me is not None and self.recall.cleared and not self.closed

    @abstractmethod
    def _advance(self, now: Instant) -> list[Effect]:
        """Apply the rules until none applies any more."""

    # -- messages ---------------------------------------------------------------------------------

    def receive_vote(self, vote: Vote, now: Instant) -> list[Effect]:
        """A vote with a good signature."""
        statement = vote.statement
        if statement.epoch != self.voters.epoch:
            return self._elsewhere(statement.epoch, now)
        if not self.voters.heard(statement):
            return [Refused(Refusal.INVALID)]
        if statement.view <= self.tip.view - VIEWS_KEPT:
            return [Refused(Refusal.STALE)]
        if statement.view > self.view + VIEWS_AHEAD_MAX:
            return [Refused(Refusal.AHEAD)]
        if alien := self._alien(vote):
            return alien
        said_before = self._rounds.said(vote.voter, statement.view, statement.kind) == vote
        if said_before and self.tip.view < statement.view < self.view:
            self.catchup.stuck(statement.view, now, self._delay())
        return self._count(vote, now) + self._advance(now)

    def receive_proposal(self, proposal: Proposal, now: Instant) -> list[Effect]:
        """A block proposed by its view's leader, relayed by whomever."""
        block, vote = proposal.block, proposal.vote
        if block.epoch != self.voters.epoch:
            return self._elsewhere(block.epoch, now)
        digest = self._crypto.digest(block)
        stated = self.voters.statement(NOTARIZE, block.view, digest)
        if vote.statement != stated or vote.voter != self.voters.leader(block.view):
            return [Refused(Refusal.INVALID)]
        if block.view <= self.tip.view:
            return [Refused(Refusal.STALE)]
        if block.view > self.view + VIEWS_AHEAD_MAX:
            return [Refused(Refusal.AHEAD)]
        round_ = self._rounds.get(block.view)
        known = round_ is not None and digest in round_.proposals
        if not known and not self._crypto.verify(vote.voter, stated, vote.signature):
            return [Refused(Refusal.INVALID)]
        if alien := self._alien(vote):
            return alien
        effects: list[Effect] = []
        good: list[Certificate] = []
        for certificate in proposal.justification:
            taken = self._take(certificate, now)
            effects += taken
            if Refused(Refusal.CERTIFICATE) in taken:
                break  # whoever relayed this makes nobody verify the rest
            held = self._held(certificate.statement)
            if held and len(held.signatures) <= len(certificate.signatures):
                good.append(held)  # a larger one may not fit the frame
        # The leader signed the block alone: what a relay spoilt beside it is not passed on.
        kept = replace(proposal, justification=tuple(good))
        if self._rounds.at(block.view).propose(digest, kept):
            self._pace.proposed(block.view, now)
        effects += self._count(vote, now)
        return effects + self._advance(now)

    def receive_certificate(
        self, certificate: Certificate, now: Instant, live: bool = True, everywhere: bool = True
    ) -> list[Effect]:
        """A certificate from anybody; `live` is False for a retained one.

        What not all brokers brought is no reason to keep quiet: `everywhere` is False (R-BRK-3).
        """
        statement = certificate.statement
        if statement.epoch != self.voters.epoch:
            return self._foreign(certificate, now, live, everywhere)
        last = statement.kind is FINALIZE and certificate != self.tip.certificate
        if statement.view < self.tip.view or (statement.view == self.tip.view and not last):
            # It proves nothing that is not known here; so replaying it makes nobody verify it.
            # Another proof of my tip must be good, for it may keep me from giving mine.
            if live and statement.kind is FINALIZE:
                self._heard_tip(statement.view, everywhere, now)
            old = statement.view <= self.tip.view - VIEWS_KEPT
            return [*([Refused(Refusal.STALE)] if old else []), *self._advance(now)]
        if not self._proves(certificate, self._good):
            return [Refused(Refusal.CERTIFICATE)]
        if live and everywhere and statement.view > self.tip.view:
            self.catchup.heard(statement)
        effects = self._take(certificate, now)
        if live and statement.kind is FINALIZE:  # after it was taken: then it may be my tip too
            self._heard_tip(statement.view, everywhere, now)
        return effects + self._advance(now)

    def receive_blocks(
        self,
        blocks: Sequence[Block],
        certificate: Certificate,
        now: Instant,
        voter: int | None = None,
        trail: Sequence[int] = (),
    ) -> list[Effect]:
        """An answer to AskBlocks: a hash chain and a finalization of its last block or a later one.

        Only whoever was asked may leave the end open, for nothing proves such a part yet.
        """
        from_asked = voter is not None and voter == self.catchup.asked
        links = self._chain.links(blocks, trail, self._crypto)
        if links is None:
            if from_asked:  # one of us holds a liar's part
                self._chain.forget()
            return [Refused(Refusal.INVALID)]
        if not links:
            return [Refused(Refusal.STALE)]
        statement, (last, block) = certificate.statement, links[-1]
        if statement.kind is not FINALIZE or statement.view < block.view:
            return [Refused(Refusal.INVALID)]
        part = statement.digest != last
        if part and not from_asked:
            return [Refused(Refusal.INVALID)]
        if not self._good(certificate):
            return [Refused(Refusal.CERTIFICATE)]
        if part:
            self._chain.hold(links)
            return self._take(certificate, now) + self._advance(now)
        for digest, block in links:
            executed = self._chain.execute(block, digest)
            assert executed, f"finalized block {block.height} gives another state root here"
        effects = self._finalize(certificate, now)
        if not self.closed:
            self.catchup.helped(self._chain.wanted, now)
        return effects + self._advance(now)

    def receive_recalled(
        self, voter: int, votes: Sequence[Vote], epoch: int, time_s: int, now: Instant
    ) -> list[Effect]:
        """A voter's answer to AskVotes: votes of mine (signatures verified), its epoch and clock.

        Who is in a later epoch has forgotten what was said in mine.
        """
        if epoch > self.voters.epoch:
            return self._elsewhere(epoch, now)
        silent = not self.voting
        if silent:  # who votes follows what is final: what was claimed before grows old
            self.clock.heard(voter, time_s, self.voters, now)
        for vote in votes:
            if alien := self._alien(vote):
                return alien
        self.recall.answered(voter)
        if silent and self.voting and self._booted and self.me is not None:
            self.clock.agree(self.me, self.voters, now)
        return self._advance(now)

    def receive_gone(self, voter: int, now: Instant) -> list[Effect]:
        """A broker says that a voter's connection ended: a hint for R-CON-6."""
        self._away.reported(voter, self.view, now)
        return self._advance(now)

    def votes_of(self, voter: int) -> tuple[Vote, ...]:
        """The voter's latest vote of each kind that I hold, for its recall."""
        return self._rounds.latest_votes(voter)

    def awaits_vote(self, voter: int, statement: Statement) -> bool:
        """Would this voter's vote bring on the current view, or one before it that is not final?"""
        near = self.tip.view < statement.view <= self.view + 1
        return near and self.voters.heard(statement) and self._rounds.lacks(voter, statement)

    def awaits_proposal(self, voter: int) -> bool:
        """Is it, or is it next, this voter's turn to propose, and has it not?"""
        views = [v for v in (self.view, self.view + 1) if self.voters.leader(v) == voter]
        rounds = [self._rounds.get(view) for view in views]
        return any(round_ is None or not round_.proposals for round_ in rounds)

    def tick(self, now: Instant) -> list[Effect]:
        """Time passed, or the application has new work."""
        return self._advance(now)

    def _elsewhere(self, epoch: int, now: Instant) -> list[Effect]:
        """R-CON-14: somebody speaks of another epoch, which I know nothing more of."""
        if epoch > self.voters.epoch:
            self.catchup.ahead(self._chain.wanted, now)
            return [Refused(Refusal.AHEAD), *self._advance(now)]
        self.catchup.behind(now, self._delay())
        return [Refused(Refusal.STALE), *self._advance(now)]

    def _heard_tip(self, view: int, everywhere: bool, now: Instant) -> None:
        """Somebody's tip: it may need mine, or make mine superfluous."""
        if everywhere or view < self.tip.view:
            self.catchup.heard_tip(view, self.tip.view, now, self._delay())

    def _foreign(
        self, certificate: Certificate, now: Instant, live: bool, everywhere: bool
    ) -> list[Effect]:
        """A certificate of another epoch: perhaps the one that closed the last, which is my tip."""
        mine, statement = self.tip.certificate, certificate.statement
        if mine is not None and _ends_alike(statement, mine.statement):
            if live and (certificate == mine or self._proves(certificate, self._ended)):
                self._heard_tip(self.tip.view, everywhere, now)
            return self._advance(now)
        if live or statement.epoch > self.voters.epoch:
            return self._elsewhere(statement.epoch, now)
        return [Refused(Refusal.STALE)]

    def _proves(self, certificate: Certificate, good: Callable[[Certificate], bool]) -> bool:
        """Is it good? Those of my tip are said again and again, by different signers."""
        tip, proofs = self._proofs
        if tip != self.tip.digest:
            proofs = set()
            self._proofs = self.tip.digest, proofs
        if certificate in proofs:
            return True
        if not good(certificate):
            return False
        if len(proofs) < PROOFS_MAX:
            proofs.add(certificate)
        return True

    def _ended(self, certificate: Certificate) -> bool:
        """Did the voters of the last epoch sign this? After a restart I do not know them."""
        before = self._before
        return before is not None and is_good(certificate, before.voters, before.crypto, None)

    # -- counting ---------------------------------------------------------------------------------

    def _count(self, vote: Vote, now: Instant) -> list[Effect]:
        self._away.heard(vote.voter, vote.statement.view, now)
        outcome = self._rounds.at(vote.statement.view).add(vote)
        if isinstance(outcome, Misbehaved):
            return [outcome]
        return self._hold(outcome, now) if outcome else []

    def _take(self, certificate: Certificate, now: Instant) -> list[Effect]:
        """A certificate that others sent: hold it if it is new and good."""
        statement = certificate.statement
        if statement.epoch != self.voters.epoch or statement.view <= self.tip.view:
            return []
        round_ = self._rounds.get(statement.view)
        if round_ and statement.kind in round_.certificates:
            return []
        if not self._proves(certificate, self._good):
            return [Refused(Refusal.CERTIFICATE)]
        return self._hold(certificate, now)

    def _held(self, statement: Statement) -> Certificate | None:
        """The good certificate that I have for this, of the tip or above it."""
        held, tip = None, self.tip.certificate
        if statement.view > self.tip.view and (round_ := self._rounds.get(statement.view)):
            held = round_.certificates.get(statement.kind)
        return next((c for c in (held, tip) if c is not None and c.statement == statement), None)

    def _good(self, certificate: Certificate) -> bool:
        round_ = self._rounds.get(certificate.statement.view)
        return is_good(certificate, self.voters, self._crypto, round_)

    def _hold(self, certificate: Certificate, now: Instant) -> list[Effect]:
        statement = certificate.statement
        if statement.kind is NOTARIZE and statement.view > self._tail_view():
            self._pace.tail_grew(now)
        if statement.kind is NOTARIZE:
            self._pace.notarized(statement.view, now)
        self._rounds.at(statement.view).hold(certificate)
        return self._finalize(certificate, now) if statement.kind is FINALIZE else []

    def _alien(self, vote: Vote) -> list[Effect]:
        """Quarantine, if this is a vote of mine that my journal lacks (R-CON-10)."""
        statement = vote.statement
        if vote.voter != self.me or not self.voters.heard(statement):
            return []
        if statement.view <= max(self.recall.floor, self.tip.view - VIEWS_KEPT):
            return []  # too long ago to remember
        held = self._rounds.said(self.me, statement.view, statement.kind)
        if self.recall.quarantined or (held is not None and held.statement == statement):
            return []
        self.recall.quarantined = True
        return [Quarantined(vote)]

    def _enter(self) -> None:
        """R-CON-1."""
        certified = self._rounds.last_certified(self.view)
        if certified is not None or self.view <= self.tip.view:
            self.view = max(certified or 0, self.tip.view) + 1
            self._pace.entered(self.view)

    def _delay(self) -> Instant:
        return self._pace.delay(self.view - self.tip.view - 1)

    # -- blocks -----------------------------------------------------------------------------------

    def _tail_view(self) -> int:
        return self._rounds.last_notarized(self.tip.view)

    def _tail_digest(self) -> bytes:
        """The highest notarized block that is executed here, else the tip."""
        for _, round_ in reversed(self._rounds.above(self.tip.view)):
            if round_.notarized and self._chain.place(round_.notarized):
                return round_.notarized
        return self.tip.digest

    def _finalize_held(self, now: Instant) -> list[Effect]:
        """Follow the highest finalization above the tip, if its blocks are here by now."""
        held = self._rounds.last_finalization(self.tip.view)
        if held is None:
            self.catchup.found()
            return []
        return self._finalize(held, now)

    def _finalize(self, certificate: Certificate, now: Instant) -> list[Effect]:
        if self.closed:
            return []  # what stands above the end is final as well, and nothing to execute
        path = self._chain.path(certificate.statement.digest, self._rounds.proposed())
        if path is None:
            if self.catchup.in_vain(now):
                self._chain.forget()
            self.catchup.missing(self._chain.wanted, now)
            return []
        if not path:
            return []
        blocks, trail = self._chain.finalize(path, certificate)
        final = Finalized(blocks, certificate, trail)
        self.clock.finalized(self.tip.time_s, now)
        if blocks[-1][1].closing:
            self.closed = True
            return [final]
        self._rounds.prune(self.tip.view - VIEWS_KEPT)
        scribe = self.voters.leader(self.tip.view)
        self.catchup.finalized(certificate, scribe, now, self._delay())
        return [final, *self._finalize_held(now)]


def _ends_alike(statement: Statement, mine: Statement) -> bool:
    """Is it a finalization at or above the one that closed an epoch for me?

    Then whoever says it may have closed that epoch too, by another empty block: if both answered,
    they would answer each other for ever.
    """
    same = (statement.kind, statement.epoch) == (FINALIZE, mine.epoch)
    return same and statement.view >= mine.view
