"""Simplex for publish/subscribe: the voting rules of one epoch (Chan and Pass, eprint 2023/463).

Theory of operation. Views follow one another; each has one leader and ends for a voter with a
certificate: quorum weight notarized its block, or quorum weight nullified the view. A block is
final once quorum weight says FINALIZE. Because nobody says both FINALIZE and NULLIFY in one view, a
finalized view can never be skipped, and every later proposal must show that what it skips was
nullified. Everything is multicast; votes are idempotent, so any transport that delivers at last
will do.

    R-CON-1  enter     view u+1 on any certificate for a view u >= mine
    R-CON-2  propose   (leader, with work, silent in this view) on the highest notarized or
                       finalized block above which every view has a nullification; certificates
                       inline
    R-CON-3  notarize  the first valid proposal of the view's leader; once; not after NULLIFY
    R-CON-4  finalize  what I notarized once I hold its notarization, unless I nullified the view
    R-CON-5  nullify   the current view, unless I finalized it: timer, invalid proposal, double
                       proposal, the leader's own nullify, more than f weight nullifying
    R-CON-6  timers    2D for the proposal, 3D for the view: see `pacemaker`
    R-CON-7  quiet     timers run only with work (`_working`)
    R-CON-8  standstill, R-CON-9 tip, R-CON-12 backfill: see `catchup`
    R-CON-10 durable   every `Broadcast` of an own vote follows its `Record` and that of what it
                       rests on: see `journal`; no vote before quorum weight answered what it
                       holds of mine: see `recall`
    R-CON-11 evidence  see `round`
    R-CON-13 time      see `clock`

Votes arrive with their signature already verified by the host; certificates and the vote inside a
proposal are verified here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from demesh_consensus.catchup import Catchup
from demesh_consensus.chain import Chain, Tip
from demesh_consensus.clock import SLACK_S, MeshClock
from demesh_consensus.effects import (
    Application,
    Broadcast,
    Crypto,
    Effect,
    Entry,
    Finalized,
    Misbehaved,
    Quarantined,
    Record,
    Refusal,
    Refused,
    StandingStill,
)
from demesh_consensus.journal import entries, grounds, restore
from demesh_consensus.pacemaker import Pacemaker, Timing
from demesh_consensus.proposals import is_good, judge, justification, place_of
from demesh_consensus.recall import Recall
from demesh_consensus.round import Round, Rounds
from demesh_consensus.types import (
    Block,
    Certificate,
    Instant,
    Proposal,
    Statement,
    StatementKind,
    Vote,
    Voters,
)

NOTARIZE, NULLIFY, FINALIZE = StatementKind.NOTARIZE, StatementKind.NULLIFY, StatementKind.FINALIZE

# Votes further ahead than this are dropped: a voter that is behind needs certificates, not votes.
VIEWS_AHEAD_MAX = 64

# Views below the tip that are remembered: long enough to find evidence and to answer a restarted
# voter; a second is about ten views at full speed.
VIEWS_KEPT = 16


class Simplex:
    """One voter, or (me = None) one observer, in one epoch."""

    def __init__(
        self,
        voters: Voters,
        me: int | None,
        crypto: Crypto,
        application: Application,
        tip: Tip,
        timing: Timing,
        salt: bytes,
        now: Instant,
        restored: Sequence[Entry] = (),
        floor: int = 0,
    ) -> None:
        self.voters, self.me = voters, me
        self.clock = MeshClock(tip.time_s, now)
        floor = max(floor, tip.view)
        self.view = floor + 1
        self.recall = Recall(voters, me, floor)
        self.catchup = Catchup(voters, me, salt, timing.delay_min)
        self._crypto, self._application = crypto, application
        self._chain = Chain(tip, application)
        self._rounds = Rounds(voters)
        self._pace = Pacemaker(timing, now)
        self._time_due: Instant | None = None  # when the clock allows the current proposal
        kept_above = tip.view - VIEWS_KEPT
        last = restore(restored, self._rounds, me, kept_above, voters.epoch)
        self.view = max(self.view, last)
        self.catchup.start(tip.certificate, now)

    # -- what the host sees and tells -------------------------------------------------------------

    @property
    def tip(self) -> Tip:
        """The latest finalized block."""
        return self._chain.tip

    @property
    def voting(self) -> bool:
        """May I vote at all?"""
        return self.me is not None and self.recall.cleared

    def receive_vote(self, vote: Vote, now: Instant) -> list[Effect]:
        """A vote with a good signature."""
        statement = vote.statement
        if statement.epoch != self.voters.epoch:
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
        digest = self._crypto.digest(block)
        stated = Statement(NOTARIZE, self.voters.epoch, block.view, digest)
        of_leader = vote.statement == stated and vote.voter == self.voters.leader(block.view)
        if not of_leader or block.epoch != self.voters.epoch:
            return [Refused(Refusal.INVALID)]
        if block.view <= self.tip.view:
            return [Refused(Refusal.STALE)]
        if block.view > self.view + VIEWS_AHEAD_MAX:
            return [Refused(Refusal.AHEAD)]
        round_ = self._rounds.get(block.view)
        known = round_ is not None and round_.proposal is not None and round_.digest == digest
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
            if certificate.statement.view > self.tip.view or certificate == self.tip.certificate:
                good.append(certificate)
        # The leader signed the block alone: what a relay spoilt beside it is not passed on.
        self._keep(replace(proposal, justification=tuple(good)), digest, now)
        effects += self._count(vote, now)
        return effects + self._advance(now)

    def receive_certificate(
        self, certificate: Certificate, now: Instant, live: bool = True
    ) -> list[Effect]:
        """A certificate from anybody; `live` is False for a retained one."""
        statement = certificate.statement
        if not self._good(certificate):
            return [Refused(Refusal.CERTIFICATE)]
        if live and statement.view > self.tip.view:
            self.catchup.heard(statement)
        effects = self._take(certificate, now)
        if live and statement.kind is FINALIZE:  # after it was taken: then it may be my tip too
            self.catchup.heard_tip(statement.view, self.tip.view, now, self._delay())
        return effects + self._advance(now)

    def receive_blocks(
        self,
        blocks: Sequence[Block],
        certificate: Certificate,
        now: Instant,
        voter: int | None = None,
    ) -> list[Effect]:
        """An answer to AskBlocks: a hash chain and a finalization of its last block or a later one.

        Only whoever was asked may leave the end open, for nothing proves such a part yet.
        """
        links = self._chain.links(blocks, self._crypto)
        if links is None:
            return [Refused(Refusal.INVALID)]
        if not links:
            return [Refused(Refusal.STALE)]
        statement, (last, block) = certificate.statement, links[-1]
        if statement.kind is not FINALIZE or statement.view < block.view:
            return [Refused(Refusal.INVALID)]
        part = statement.digest != last
        if part and (voter is None or voter != self.catchup.asked):
            return [Refused(Refusal.INVALID)]
        if not self._good(certificate):
            return [Refused(Refusal.CERTIFICATE)]
        if part:
            self._chain.hold(links)
            return self._take(certificate, now) + self._advance(now)
        for digest, block in links:
            executed = self._chain.execute(block, digest)
            assert executed, f"finalized block {block.height} gives another state root here"
        return self._finalize(certificate, now) + self._advance(now)

    def receive_recalled(
        self, voter: int, votes: Sequence[Vote], time_s: int, now: Instant
    ) -> list[Effect]:
        """A voter's answer to AskVotes: votes of mine (signatures verified), and its mesh clock."""
        self.clock.heard(voter, time_s, self.voters, now)
        for vote in votes:
            if alien := self._alien(vote):
                return alien
        silent = not self.voting
        self.recall.answered(voter)
        if silent and self.voting and self.me is not None:
            self.clock.agree(self.me, self.voters, now)
        return self._advance(now)

    def votes_of(self, voter: int) -> tuple[Vote, ...]:
        """The voter's latest vote of each kind that I hold, for its recall."""
        return self._rounds.latest_votes(voter)

    def tick(self, now: Instant) -> list[Effect]:
        """Time passed, or the application has new work."""
        return self._advance(now)

    def deadline(self) -> Instant | None:
        """When `tick` is needed next."""
        times: list[Instant | None] = [
            self._time_due,
            *self.catchup.deadlines(),
            *self.recall.deadlines(),
        ]
        if self._pace.since is not None:
            if self.voting and self._may_nullify():
                times.append(self._view_ends())
        else:
            if self._tail_view() > self.tip.view:
                times.append(self._pace.tail_due(self._delay()))
            wake_s = self._application.wake_s(self._tail_digest())
            if wake_s is not None:
                times.append(self.clock.instant_of(wake_s))
        return min((time for time in times if time is not None), default=None)

    def journal(self) -> tuple[Entry, ...]:
        """All that a restart still needs (above the tip)."""
        return () if self.me is None else tuple(entries(self._rounds, self.tip.view, self.me))

    # -- counting ---------------------------------------------------------------------------------

    def _keep(self, proposal: Proposal, digest: bytes, now: Instant) -> None:
        """The first proposal of a view; of two, the one that quorum weight took."""
        view = proposal.block.view
        round_ = self._rounds.at(view)
        if round_.proposal is None:
            round_.proposal, round_.digest = proposal, digest
            if view == self.view:
                self._pace.proposal_came(now)
        elif round_.digest != digest:
            round_.spoiled = True
            if round_.notarized == digest:
                round_.proposal, round_.digest = proposal, digest

    def _count(self, vote: Vote, now: Instant) -> list[Effect]:
        outcome = self._rounds.at(vote.statement.view).add(vote)
        if isinstance(outcome, Misbehaved):
            return [outcome]
        return self._hold(outcome, now) if outcome else []

    def _take(self, certificate: Certificate, now: Instant) -> list[Effect]:
        """A certificate that others sent: hold it if it is new and good."""
        statement = certificate.statement
        if statement.view <= self.tip.view:
            return []
        round_ = self._rounds.get(statement.view)
        if round_ and statement.kind in round_.certificates:
            return []
        if not self._good(certificate):
            return [Refused(Refusal.CERTIFICATE)]
        return self._hold(certificate, now)

    def _good(self, certificate: Certificate) -> bool:
        round_ = self._rounds.get(certificate.statement.view)
        return is_good(certificate, self.voters, self._crypto, round_)

    def _hold(self, certificate: Certificate, now: Instant) -> list[Effect]:
        statement = certificate.statement
        if statement.kind is NOTARIZE and statement.view > self._tail_view():
            self._pace.tail_grew(now)
        self._rounds.at(statement.view).certificates[statement.kind] = certificate
        return self._finalize(certificate, now) if statement.kind is FINALIZE else []

    def _alien(self, vote: Vote) -> list[Effect]:
        """Quarantine, if this is a vote of mine that my journal lacks (R-CON-10)."""
        statement = vote.statement
        if vote.voter != self.me or statement.view <= self.recall.floor:
            return []
        if statement.view <= self.tip.view - VIEWS_KEPT or self.recall.quarantined:
            return []  # too long ago to remember, or known
        held = self._said(statement.view, statement.kind)
        if held is not None and held.statement == statement:
            return []
        self.recall.quarantined = True
        return [Quarantined(vote)]

    # -- the rules --------------------------------------------------------------------------------

    def _advance(self, now: Instant) -> list[Effect]:
        """Apply the rules until none applies any more."""
        effects: list[Effect] = []
        while True:
            before = (len(effects), self.view)
            effects += self._finalize_held(now)
            self._enter()
            effects += self._finalize_votes(now)
            effects += self._notarize(now)
            self._pace.work(self._working(now), now)
            effects += self._nullify(now)
            effects += self._propose(now)
            if before == (len(effects), self.view):
                break
        standing = self._pace.since is not None or self._tail_view() > self.tip.view
        still = self.catchup.standing_for(standing, now)
        if still is not None:
            effects += [StandingStill(still), *self._repeat()]
        stuck = self.catchup.helps(now)
        if stuck is not None:
            effects += map(Broadcast, self._unheard_from(stuck))
        return effects + self.recall.tick(now) + self.catchup.tick(now)

    def _enter(self) -> None:
        """R-CON-1."""
        certified = self._rounds.last_certified(self.view)
        if certified is not None or self.view <= self.tip.view:
            self.view = max(certified or 0, self.tip.view) + 1
            self._pace.entered()

    def _propose(self, now: Instant) -> list[Effect]:
        """R-CON-2."""
        if not self.voting or self.voters.leader(self.view) != self.me or self._pace.since is None:
            return []
        parent_view = self._rounds.parent_view(self.view, self.tip.view)
        if parent_view is None or any(self._said(self.view, kind) for kind in StatementKind):
            return []
        on = self._rounds.at(parent_view).notarized if parent_view > self.tip.view else None
        parent = on or self.tip.digest
        place = place_of(parent, self._chain, self._rounds)
        if place is None:
            return []
        height, time_s = place[0] + 1, max(place[1], self.clock.read_s(now))
        ops, root = self._application.build(parent, time_s)
        epoch = self.voters.epoch
        block = Block(epoch, self.view, parent_view, parent, height, time_s, ops, root)
        digest = self._crypto.digest(block)
        executed = self._chain.execute(block, digest)
        assert executed, "my own block does not execute"
        statement = Statement(NOTARIZE, epoch, self.view, digest)
        vote = Vote(statement, self.me, self._crypto.sign(statement))
        ahead, inline = justification(parent_view, self.view, self._chain, self._rounds)
        proposal = Proposal(block, inline, vote)
        round_ = self._rounds.at(self.view)
        round_.proposal, round_.digest = proposal, digest
        effects: list[Effect] = [*self._grounds(statement), Record(proposal)]
        effects += [*map(Broadcast, ahead), Broadcast(proposal)]
        return effects + self._count(vote, now)

    def _notarize(self, now: Instant) -> list[Effect]:
        """R-CON-3."""
        self._time_due = None
        round_ = self._rounds.get(self.view)
        if not self.voting or round_ is None or round_.proposal is None or round_.spoiled:
            return []
        if self._said(self.view, NOTARIZE) or self._said(self.view, NULLIFY):
            return []
        block, digest = round_.proposal.block, round_.digest
        verdict = judge(block, digest, self._chain, self._rounds, self.clock, now)
        if verdict is None and not self.clock.accepts(block.time_s, now):
            self._time_due = self.clock.instant_of(block.time_s - SLACK_S)
        if not verdict:
            round_.spoiled = verdict is False
            return []
        statement = Statement(NOTARIZE, self.voters.epoch, self.view, digest)
        return [Record(round_.proposal), *self._cast(statement, now)]

    def _finalize_votes(self, now: Instant) -> list[Effect]:
        """R-CON-4."""
        effects: list[Effect] = []
        # What was said below the floor is forgotten, a NULLIFY too: nothing may be added there.
        floor = max(self.tip.view, self.recall.floor)
        for view, round_ in self._rounds.above(floor) if self.voting else ():
            digest, mine = round_.notarized, self._said(view, NOTARIZE)
            if digest is None or mine is None or mine.statement.digest != digest:
                continue
            if not self._said(view, NULLIFY) and not self._said(view, FINALIZE):
                effects += self._cast(Statement(FINALIZE, self.voters.epoch, view, digest), now)
        return effects

    def _nullify(self, now: Instant) -> list[Effect]:
        """R-CON-5."""
        if not self.voting or not self._may_nullify():
            return []
        ends = self._view_ends()
        round_ = self._rounds.get(self.view)
        if (ends is None or now < ends) and (round_ is None or not self._hopeless(round_)):
            return []
        return self._cast(Statement(NULLIFY, self.voters.epoch, self.view), now)

    def _hopeless(self, round_: Round) -> bool:
        """A reason to skip the current view before its time is up."""
        return (
            round_.spoiled
            or round_.said(self.voters.leader(self.view), NULLIFY) is not None
            or round_.weight_nullifying() > self.voters.faulty_max
        )

    def _may_nullify(self) -> bool:
        """Not after FINALIZE, and not a view that ends with a certificate this very turn."""
        round_ = self._rounds.get(self.view)
        if round_ is not None and round_.certificates:
            return False
        return not (self._said(self.view, NULLIFY) or self._said(self.view, FINALIZE))

    def _cast(self, statement: Statement, now: Instant) -> list[Effect]:
        """Say it: durable first, then to all, then counted (R-CON-10)."""
        assert self.me is not None and self.voting
        vote = Vote(statement, self.me, self._crypto.sign(statement))
        durable = [*self._grounds(statement), Record(vote)]
        return [*durable, Broadcast(vote), *self._count(vote, now)]

    def _grounds(self, statement: Statement) -> list[Record]:
        return grounds(statement, self._rounds, self.tip.view)

    def _said(self, view: int, kind: StatementKind) -> Vote | None:
        return self._rounds.said(self.me, view, kind)

    # -- time and work ----------------------------------------------------------------------------

    def _delay(self) -> Instant:
        return self._pace.delay(self.view - self.tip.view - 1)

    def _view_ends(self) -> Instant | None:
        round_ = self._rounds.get(self.view)
        proposed = round_ is not None and round_.proposal is not None
        return self._pace.view_ends(proposed, self._delay())

    def _working(self, now: Instant) -> bool:
        """R-CON-7: is there a reason for this view to end?"""
        if self._application.has_work(self._tail_digest(), self.clock.read_s(now)):
            return True
        if self._tail_view() > self.tip.view and now >= self._pace.tail_due(self._delay()):
            return True
        return self._rounds.weight_from(self.view) > self.voters.faulty_max

    def _repeat(self) -> list[Effect]:
        """R-CON-8: all that may help somebody to move on."""
        effects: list[Effect] = []
        for view, round_ in self._rounds.above(self.tip.view):
            if round_.proposal and self.catchup.my_turn(view):
                effects.append(Broadcast(round_.proposal))
            if self.me is not None and not self.recall.quarantined:
                effects += [Broadcast(vote) for vote in round_.votes_of(self.me)]
        certificates = [self.tip.certificate] if self.tip.certificate else []
        certificates = [c for c in certificates if self.catchup.unheard(c.statement)]
        certificates += self._unheard_from(self.tip.view + 1)
        self.catchup.repeated()
        return [*map(Broadcast, certificates), *effects]

    def _unheard_from(self, view: int) -> list[Certificate]:
        """Certificates of this view and later ones that nobody else said in this interval."""
        return [
            certificate
            for _, round_ in self._rounds.above(max(view - 1, self.tip.view))
            for _, certificate in sorted(round_.certificates.items())
            if self.catchup.unheard(certificate.statement)
        ]

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
        path = self._chain.path(certificate.statement.digest, self._rounds.proposed())
        if path is None:
            if self.catchup.in_vain(now):
                self._chain.forget()
            self.catchup.missing(self._chain.wanted, now)
            return []
        if not path:
            return []
        self._chain.finalize(path, certificate)
        self.clock.finalized(self.tip.time_s, now)
        self._rounds.prune(self.tip.view - VIEWS_KEPT)
        scribe = self.voters.leader(self.tip.view)
        self.catchup.finalized(certificate, scribe, now, self._delay())
        return [Finalized(tuple(path), certificate), *self._finalize_held(now)]
