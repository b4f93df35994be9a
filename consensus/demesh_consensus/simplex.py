"""Simplex for publish/subscribe: the voting rules of one epoch (Chan and Pass, eprint 2023/463).

Theory of operation. Views follow one another; each has one leader and ends for a voter with a
certificate: quorum weight notarized its block, or quorum weight nullified the view. A block is
final once quorum weight says FINALIZE. Because nobody says both FINALIZE and NULLIFY in one view, a
finalized view can never be skipped, and every later proposal must show that what it skips was
nullified. Everything is multicast; votes are idempotent, so any transport that delivers at last
will do.

    R-CON-2  propose   (leader, with work, silent in this view) on the highest notarized or
                       finalized block above which every view has a nullification; certificates
                       inline
    R-CON-3  notarize  the first valid proposal of the view's leader; once; not after NULLIFY
    R-CON-4  finalize  what I notarized once I hold its notarization, unless I nullified the view
    R-CON-5  nullify   the current view, unless I finalized it: timer, invalid proposal, double
                       proposal, the leader's own nullify, more than f weight nullifying;
                       what may follow what in a view is the table of `discipline`
    R-CON-6  timers    2D for the proposal, 3D for the view: see `pacemaker`; none for a leader
                       that seems to be away: see `away`
    R-CON-7  quiet     timers run only with work (`_working`)
    R-CON-8  standstill, R-CON-9 tip, R-CON-12 backfill: see `catchup`
    R-CON-10 durable   every `Broadcast` of an own vote follows its `Record` and that of what it
                       rests on: see `journal`; no vote before quorum weight answered what it
                       holds of mine: see `recall`
    R-CON-1, 9, 11 to 14: what voters and observers do alike: see `following`
"""

from __future__ import annotations

from collections.abc import Sequence

from demesh_consensus.chain import Tip
from demesh_consensus.clock import SLACK_S, MeshClock
from demesh_consensus.discipline import may_say
from demesh_consensus.effects import (
    Application,
    Broadcast,
    Effect,
    Entry,
    Franchise,
    Record,
    StandingStill,
)
from demesh_consensus.following import FINALIZE, NOTARIZE, NULLIFY, VIEWS_KEPT, Follower
from demesh_consensus.journal import entries, grounds, restore
from demesh_consensus.pacemaker import Timing
from demesh_consensus.proposals import compose, judge, justification, place_of
from demesh_consensus.round import Round
from demesh_consensus.types import (
    Certificate,
    Instant,
    Proposal,
    Statement,
    StatementKind,
    Vote,
)


class Simplex(Follower):
    """One voter, or (me = None) one observer, in one epoch."""

    def __init__(
        self,
        franchise: Franchise,
        application: Application,
        tip: Tip,
        timing: Timing,
        salt: bytes,
        now: Instant,
        restored: Sequence[Entry] = (),
        floor: int = 0,
        quarantined: bool = False,
        clock: MeshClock | None = None,
        before: Franchise | None = None,
    ) -> None:
        super().__init__(franchise, application, tip, timing, salt, now, floor, clock, before)
        self._time_due: Instant | None = None  # when the clock allows the current proposal
        last = restore(restored, self._rounds, self.me, tip.view - VIEWS_KEPT)
        if last > self.view:
            self.view = last
            self._pace.entered(last)
        self.recall.quarantined = quarantined

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
            tail = self._tail_digest()
            wake_s = None if self._chain.ends(tail) else self._application.wake_s(tail)
            if wake_s is not None:
                times.append(self.clock.instant_of(wake_s))
        return min((time for time in times if time is not None), default=None)

    def journal(self) -> tuple[Entry, ...]:
        """All that a restart still needs (above the tip)."""
        return () if self.me is None else tuple(entries(self._rounds, self.tip.view, self.me))

    # -- the rules --------------------------------------------------------------------------------

    def _advance(self, now: Instant) -> list[Effect]:
        """Apply the rules until none applies any more."""
        effects: list[Effect] = []
        while True:
            before = (len(effects), self.view)
            effects += self._finalize_held(now)
            if self.closed:
                return effects
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

    def _propose(self, now: Instant) -> list[Effect]:
        """R-CON-2."""
        if not self.voting or self.voters.leader(self.view) != self.me or self._pace.since is None:
            return []
        parent_view = self._rounds.parent_view(self.view, self.tip.view)
        if parent_view is None or not self._may_say(self.view, NOTARIZE):
            return []
        on = self._rounds.at(parent_view).notarized if parent_view > self.tip.view else None
        parent = on or self.tip.digest
        if place_of(parent, self._chain, self._rounds) is None:
            return []
        time_s = self.clock.read_s(now)
        block = compose(self.voters.epoch, self.view, parent_view, parent, self._chain, time_s)
        digest = self._crypto.digest(block)
        executed = self._chain.execute(block, digest)
        assert executed, "my own block does not execute"
        statement = self.voters.statement(NOTARIZE, self.view, digest)
        vote = Vote(statement, self.me, self._crypto.sign(statement))
        ahead, inline = justification(parent_view, self.view, self._chain, self._rounds)
        proposal = Proposal(block, inline, vote)
        self._rounds.at(self.view).propose(digest, proposal)
        effects: list[Effect] = [*self._grounds(statement), Record(proposal)]
        for certificate in ahead:
            if self.catchup.unheard(certificate.statement):
                self.catchup.heard(certificate.statement)
                effects.append(Broadcast(certificate))
        return [*effects, Broadcast(proposal), *self._count(vote, now)]

    def _notarize(self, now: Instant) -> list[Effect]:
        """R-CON-3."""
        self._time_due = None
        round_ = self._rounds.get(self.view)
        if not self.voting or round_ is None or round_.proposal is None or round_.spoiled:
            return []
        if not self._may_say(self.view, NOTARIZE):
            return []
        block, digest = round_.proposal.block, round_.digest
        if round_.early and not block.ops and not self._working(now):
            return []  # its time may have come, and nobody needs it: a liar's, in an idle mesh
        verdict = judge(block, digest, self._chain, self._rounds, self.clock, now)
        if verdict is None and not self.clock.accepts(block.time_s, now):
            round_.early = True
            if block.ops or self._working(now):
                self._time_due = self.clock.instant_of(block.time_s - SLACK_S)
        if not verdict:
            round_.spoiled = verdict is False
            return []
        statement = self.voters.statement(NOTARIZE, self.view, digest)
        return [Record(round_.proposal), *self._cast(statement, now)]

    def _finalize_votes(self, now: Instant) -> list[Effect]:
        """R-CON-4."""
        effects: list[Effect] = []
        # What was said below the floor is forgotten, a NULLIFY too: nothing may be added there.
        floor = max(self.tip.view, self.recall.floor)
        for view, round_ in self._rounds.above(floor) if self.voting else ():
            if self.closed:
                break  # one of these votes has just done it
            digest, mine = round_.notarized, self._said(view, NOTARIZE)
            if digest is None or mine is None or mine.statement.digest != digest:
                continue
            if self._may_say(view, FINALIZE):
                effects += self._cast(self.voters.statement(FINALIZE, view, digest), now)
        return effects

    def _nullify(self, now: Instant) -> list[Effect]:
        """R-CON-5."""
        if not self.voting or not self._may_nullify():
            return []
        ends = self._view_ends()
        round_ = self._rounds.get(self.view)
        if (ends is None or now < ends) and (round_ is None or not self._hopeless(round_)):
            return []
        return self._cast(self.voters.statement(NULLIFY, self.view), now)

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
        return self._may_say(self.view, NULLIFY)

    def _cast(self, statement: Statement, now: Instant) -> list[Effect]:
        """Say it: durable first, then to all, then counted (R-CON-10)."""
        assert self.me is not None and self.voting
        vote = Vote(statement, self.me, self._crypto.sign(statement))
        durable = [*self._grounds(statement), Record(vote)]
        return [*durable, Broadcast(vote), *self._count(vote, now)]

    def _grounds(self, statement: Statement) -> list[Record]:
        return grounds(statement, self._rounds, self.tip.view)

    def _may_say(self, view: int, kind: StatementKind) -> bool:
        round_ = self._rounds.get(view)
        said = round_.votes_of(self.me) if round_ and self.me is not None else ()
        return may_say(said, kind)

    def _said(self, view: int, kind: StatementKind) -> Vote | None:
        return self._rounds.said(self.me, view, kind)

    # -- time and work ----------------------------------------------------------------------------

    def _view_ends(self) -> Instant | None:
        round_ = self._rounds.get(self.view)
        proposed = round_ is not None and round_.proposal is not None
        if not proposed and self._away.seems(self.voters.leader(self.view)):
            return self._pace.since
        return self._pace.view_ends(proposed, self._delay())

    def _working(self, now: Instant) -> bool:
        """R-CON-7: is there a reason for this view to end?"""
        if self.closed:
            return False
        tail = self._tail_digest()
        if not self._chain.ends(tail) and self._application.has_work(tail, self.clock.read_s(now)):
            return True
        if self._tail_view() > self.tip.view and now >= self._pace.tail_due(self._delay()):
            return True
        if self.me is None:
            return False  # how a view ends is not an observer's business, and nobody would tell it
        return self._rounds.weight_from(self.view, self.me) > self.voters.faulty_max

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
