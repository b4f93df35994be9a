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
    R-CON-6  timers    2D for the proposal, 3D for the view; D follows lateness, x 1.5 per
                       unfinalized view, capped
    R-CON-7  quiet     timers run only with work (`_working`)
    R-CON-8  standstill, R-CON-9 tip, R-CON-12 backfill: see `catchup`
    R-CON-10 durable   every `Broadcast` of an own vote follows its `Record`; no vote before quorum
                       weight answered what it holds of mine: see `recall`
    R-CON-11 evidence  see `round`

Votes arrive with their signature already verified by the host; certificates and the vote inside a
proposal are verified here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from demesh_consensus.catchup import Catchup
from demesh_consensus.clock import MeshClock
from demesh_consensus.effects import (
    Application,
    Broadcast,
    Crypto,
    Effect,
    Finalized,
    Misbehaved,
    Quarantined,
    Record,
    Refusal,
    Refused,
    StandingStill,
)
from demesh_consensus.recall import Recall
from demesh_consensus.round import Round
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

# Certificates carried inside a proposal, in bytes; a long run of skipped views goes ahead of it.
JUSTIFICATION_BYTES_MAX = 16 * 1024

# What one signature of a certificate costs on the wire, with its share of the envelope.
_SIGNATURE_BYTES = 72

# Lateness samples that D follows; the greatest of 32 stands for the 99th percentile.
_SAMPLES = 32


@dataclass(frozen=True, slots=True)
class Timing:
    """Bounds of D, the time one hop is given (R-CON-6)."""

    delay_min: Instant = 250_000_000
    delay_max: Instant = 8_000_000_000


@dataclass(frozen=True, slots=True)
class Tip:
    """The latest finalized block: all that the next one needs."""

    view: int
    height: int
    time_s: int
    digest: bytes
    certificate: Certificate | None


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
        restored: Sequence[Vote | Proposal] = (),
    ) -> None:
        self.voters, self.me, self.tip, self.timing = voters, me, tip, timing
        self.clock = MeshClock(tip.time_s, now)
        self.view = tip.view + 1
        self._crypto, self._application = crypto, application
        self._rounds: dict[int, Round] = {}
        self._blocks: dict[bytes, Block] = {}  # executed, above the tip
        self._since: Instant | None = None  # when work began in this view
        self._tail_at: Instant = now  # when the unfinalized tail was notarized
        self._lateness: deque[Instant] = deque(maxlen=_SAMPLES)
        self.recall = Recall(voters, me, tip.view)
        self.catchup = Catchup(voters, me, salt, timing.delay_min)
        self._restore(restored, now)

    def _restore(self, entries: Sequence[Vote | Proposal], now: Instant) -> None:
        """Take back what the journal says I said; being in a view again needs no certificate."""
        for entry in entries:
            vote = entry if isinstance(entry, Vote) else entry.vote
            view = vote.statement.view
            if view <= self.tip.view - VIEWS_KEPT or vote.statement.epoch != self.voters.epoch:
                continue
            round_ = self._round(view)
            if isinstance(entry, Proposal):
                round_.proposal, round_.digest = entry, vote.statement.digest
            round_.add(vote)
            if vote.voter == self.me:
                # Who finalized a view held its notarization, and so had left it.
                self.view = max(self.view, view + (vote.statement.kind is FINALIZE))
        self.catchup.start(self.tip.certificate, now)

    # -- what the host tells ----------------------------------------------------------------------

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
        if vote.voter == self.me and (alien := self._alien(vote)):
            return alien
        return self._count(vote, now) + self._advance(now)

    def receive_proposal(self, proposal: Proposal, now: Instant) -> list[Effect]:
        """A block proposed by its view's leader, relayed by whomever."""
        block, vote = proposal.block, proposal.vote
        digest = self._crypto.digest(block)
        stated = Statement(NOTARIZE, self.voters.epoch, block.view, digest)
        if vote.statement != stated or vote.voter != self.voters.leader(block.view):
            return [Refused(Refusal.INVALID)]
        if block.view <= self.tip.view:
            return [Refused(Refusal.STALE)]
        if block.view > self.view + VIEWS_AHEAD_MAX:
            return [Refused(Refusal.AHEAD)]
        round_ = self._round(block.view)
        known = round_.proposal is not None and round_.digest == digest
        if not known and not self._crypto.verify(vote.voter, stated, vote.signature):
            return [Refused(Refusal.INVALID)]
        effects: list[Effect] = []
        if round_.proposal is None:
            round_.proposal, round_.digest = proposal, digest
            self._note_lateness(block.view, now)
        elif round_.digest != digest:
            round_.spoiled = True
            if round_.notarized == digest:  # quorum weight took the other one: keep what is needed
                round_.proposal, round_.digest = proposal, digest
        for certificate in proposal.justification:
            effects += self._take(certificate, now)
        if vote.voter != self.me:
            effects += self._count(vote, now)
        return effects + self._advance(now)

    def receive_certificate(
        self, certificate: Certificate, now: Instant, live: bool = True
    ) -> list[Effect]:
        """A certificate from anybody; `live` is False for a retained one."""
        statement = certificate.statement
        if statement.kind is FINALIZE and live:
            self.catchup.heard_tip(statement.view, self.tip.view, now, self._delay())
        if statement.view > self.tip.view:
            self.catchup.heard(statement)
        elif statement.kind is not FINALIZE:
            return [Refused(Refusal.STALE)]
        return self._take(certificate, now) + self._advance(now)

    def receive_blocks(
        self, blocks: Sequence[Block], certificate: Certificate, now: Instant
    ) -> list[Effect]:
        """An answer to AskBlocks: a hash chain and the finalization of its last block."""
        chain = [(self._crypto.digest(block), block) for block in blocks]
        chain = [link for link in chain if link[1].height > self.tip.height]
        if not chain:
            return [Refused(Refusal.STALE)]
        parent, height = self.tip.digest, self.tip.height
        for digest, block in chain:
            if block.parent != parent or block.height != height + 1:
                return [Refused(Refusal.INVALID)]
            parent, height = digest, block.height
        statement = certificate.statement
        if statement.kind is not FINALIZE or statement.digest != parent:
            return [Refused(Refusal.INVALID)]
        if not self._certified(certificate):
            return [Refused(Refusal.CERTIFICATE)]
        for digest, block in chain:
            held = self._execute(block, digest)
            assert held, f"finalized block {block.height} gives another state root here"
        return self._finalize(certificate, now) + self._advance(now)

    def receive_recalled(
        self, voter: int, votes: Sequence[Vote], time_s: int, now: Instant
    ) -> list[Effect]:
        """A voter's answer to AskVotes: votes of mine (signatures verified), and its mesh clock."""
        self.clock.heard(voter, time_s, self.voters, now)
        for vote in votes:
            if alien := self._alien(vote):
                return alien
        self.recall.answered(voter)
        return self._advance(now)

    def votes_of(self, voter: int) -> tuple[Vote, ...]:
        """The voter's latest vote of each kind that I hold, for its recall."""
        latest: dict[StatementKind, Vote] = {}
        for view in sorted(self._rounds):
            for vote in self._rounds[view].votes_of(voter):
                latest[vote.statement.kind] = vote
        return tuple(latest.values())

    def tick(self, now: Instant) -> list[Effect]:
        """Time passed, or the application has new work."""
        return self._advance(now)

    def deadline(self) -> Instant | None:
        """When `tick` is needed next."""
        times = [*self.catchup.deadlines(), *self.recall.deadlines()]
        if self._since is not None:
            round_ = self._rounds.get(self.view)
            if self.voting and self._may_nullify():
                waits = 2 if round_ is None or round_.proposal is None else 3
                times.append(self._since + waits * self._delay())
        elif self._tail_view() > self.tip.view:
            times.append(self._tail_at + 2 * self._delay())
        wake_s = self._application.wake_s(self._tail_digest())
        if wake_s is not None and self._since is None:
            due = self.clock.instant_of(wake_s)
            if due is not None:
                times.append(due)
        return min(times) if times else None

    def journal(self) -> tuple[Vote | Proposal, ...]:
        """All own votes and held blocks that a restart still needs (above the tip)."""
        entries: list[Vote | Proposal] = []
        for view in sorted(self._rounds):
            if view <= self.tip.view or self.me is None:
                continue
            round_ = self._rounds[view]
            if round_.proposal and round_.said(self.me, NOTARIZE):
                entries.append(round_.proposal)
            entries.extend(round_.votes_of(self.me))
        return tuple(entries)

    # -- counting ---------------------------------------------------------------------------------

    def _round(self, view: int) -> Round:
        if view not in self._rounds:
            self._rounds[view] = Round(self.voters)
        return self._rounds[view]

    def _count(self, vote: Vote, now: Instant) -> list[Effect]:
        outcome = self._round(vote.statement.view).add(vote)
        if isinstance(outcome, Misbehaved):
            return [outcome]
        if isinstance(outcome, Certificate):
            return self._hold(outcome, now)
        return []

    def _take(self, certificate: Certificate, now: Instant) -> list[Effect]:
        """A certificate that others sent: hold it if it is new and good."""
        statement = certificate.statement
        if statement.view <= self.tip.view or statement.epoch != self.voters.epoch:
            return []
        round_ = self._rounds.get(statement.view)
        if round_ and statement.kind in round_.certificates:
            return []
        if not self._certified(certificate):
            return [Refused(Refusal.CERTIFICATE)]
        return self._hold(certificate, now)

    def _certified(self, certificate: Certificate) -> bool:
        """Quorum weight of distinct voters signed; votes already counted are not verified again."""
        statement = certificate.statement
        if (statement.digest == b"") != (statement.kind is NULLIFY):
            return False
        weight, before = 0, -1
        round_ = self._rounds.get(statement.view)
        for voter, signature in certificate.signatures:
            if not before < voter < len(self.voters.weights):
                return False
            held = round_.said(voter, statement.kind) if round_ else None
            known = held is not None and (held.statement, held.signature) == (statement, signature)
            if not known and not self._crypto.verify(voter, statement, signature):
                return False
            weight, before = weight + self.voters.weights[voter], voter
        return weight >= self.voters.quorum

    def _hold(self, certificate: Certificate, now: Instant) -> list[Effect]:
        statement = certificate.statement
        tail = self._tail_view()
        self._round(statement.view).certificates[statement.kind] = certificate
        if statement.kind is NOTARIZE and statement.view > tail:
            self._tail_at = now
        if statement.kind is FINALIZE:
            return self._finalize(certificate, now)
        return []

    def _alien(self, vote: Vote) -> list[Effect]:
        """Quarantine, if this vote of mine is one that my journal lacks (R-CON-10)."""
        assert self.me is not None
        statement = vote.statement
        if vote.voter != self.me or statement.view <= self.recall.floor:
            return []
        held = self._said(statement.view, statement.kind)
        if held is None and statement.view <= self.tip.view - VIEWS_KEPT:
            return []  # too long ago to remember
        if held is not None and held.statement == statement:
            return []
        if self.recall.quarantined:
            return []
        self.recall.quarantined = True
        return [Quarantined(vote)]

    # -- the rules --------------------------------------------------------------------------------

    def _advance(self, now: Instant) -> list[Effect]:
        """Apply the rules until none applies any more."""
        effects: list[Effect] = []
        while True:
            before = (len(effects), self.view)
            self._enter()
            effects += self._finalize_votes(now)
            effects += self._notarize(now)
            self._run_timers(now)
            effects += self._nullify(now)
            effects += self._propose(now)
            if before == (len(effects), self.view):
                break
        if self._target() is None:
            self.catchup.found()
        standing = self._since is not None or self._tail_view() > self.tip.view
        still = self.catchup.standing_for(standing, now)
        if still is not None:
            effects += [StandingStill(still), *self._repeat()]
        return effects + self.recall.tick(now) + self.catchup.tick(now)

    def _enter(self) -> None:
        """R-CON-1."""
        ahead = [v for v, r in self._rounds.items() if v >= self.view and r.certificates]
        if ahead or self.view <= self.tip.view:
            self.view = max([*ahead, self.tip.view]) + 1
            self._since = None

    def _propose(self, now: Instant) -> list[Effect]:
        """R-CON-2."""
        if not self.voting or self.voters.leader(self.view) != self.me or self._since is None:
            return []
        if self._said_anything(self.view):
            return []
        parent_view = self._parent_view()
        if parent_view is None:
            return []
        parent = self._round(parent_view).notarized if parent_view > self.tip.view else None
        parent = parent or self.tip.digest
        if not self._holds(parent):
            return []
        block = self._build(parent_view, parent, now)
        digest = self._crypto.digest(block)
        executed = self._execute(block, digest)
        assert executed, "my own block does not execute"
        statement = Statement(NOTARIZE, self.voters.epoch, self.view, digest)
        vote = Vote(statement, self.me, self._crypto.sign(statement))
        ahead, inline = self._justification(parent_view)
        proposal = Proposal(block, inline, vote)
        round_ = self._round(self.view)
        round_.proposal, round_.digest = proposal, digest
        effects: list[Effect] = [Record(proposal), *map(Broadcast, ahead), Broadcast(proposal)]
        return effects + self._count(vote, now)

    def _build(self, parent_view: int, parent: bytes, now: Instant) -> Block:
        height, time_s = self.tip.height, self.tip.time_s
        if parent != self.tip.digest:
            height, time_s = self._blocks[parent].height, self._blocks[parent].time_s
        time_s = max(time_s, self.clock.read_s(now))
        ops, root = self._application.build(parent, time_s)
        return Block(
            self.voters.epoch, self.view, parent_view, parent, height + 1, time_s, ops, root
        )

    def _parent_view(self) -> int | None:
        """The highest certified view above which all are nullified; None while one is missing."""
        for view in range(self.view - 1, self.tip.view, -1):
            round_ = self._rounds.get(view)
            if round_ and round_.notarized:
                return view
            if not round_ or not round_.nullified:
                return None
        return self.tip.view

    def _justification(
        self, parent_view: int
    ) -> tuple[tuple[Certificate, ...], tuple[Certificate, ...]]:
        """What shows that the parent is right: (to send ahead, to carry inside)."""
        first = (
            self.tip.certificate
            if parent_view == self.tip.view
            else self._rounds[parent_view].certificates[NOTARIZE]
        )
        skipped = [
            self._rounds[view].certificates[NULLIFY] for view in range(parent_view + 1, self.view)
        ]
        certificates = [c for c in (first, *skipped) if c is not None]
        room, cut = JUSTIFICATION_BYTES_MAX, 0
        for certificate in reversed(certificates):
            room -= 64 + _SIGNATURE_BYTES * len(certificate.signatures)
            if room < 0:
                break
            cut += 1
        split = len(certificates) - cut
        return tuple(certificates[:split]), tuple(certificates[split:])

    def _notarize(self, now: Instant) -> list[Effect]:
        """R-CON-3."""
        round_ = self._rounds.get(self.view)
        if not self.voting or round_ is None or round_.proposal is None or round_.spoiled:
            return []
        assert self.me is not None
        if round_.said(self.me, NOTARIZE) or round_.said(self.me, NULLIFY):
            return []
        verdict = self._judge(round_.proposal.block, round_.digest, now)
        if verdict is None:
            return []
        if not verdict:
            round_.spoiled = True
            return []
        statement = Statement(NOTARIZE, self.voters.epoch, self.view, round_.digest)
        return [Record(round_.proposal), *self._cast(statement, now)]

    def _judge(self, block: Block, digest: bytes, now: Instant) -> bool | None:
        """Is this block a valid next one? None: cannot be said yet."""
        if block.epoch != self.voters.epoch or block.closing or block.parent_view >= block.view:
            return False
        if block.parent_view < self.tip.view:
            return False
        if block.parent_view == self.tip.view:
            if block.parent != self.tip.digest:
                return False
            height, time_s = self.tip.height, self.tip.time_s
        else:
            held = self._rounds.get(block.parent_view)
            if held is None or held.notarized is None:
                return None
            if held.notarized != block.parent:
                return False
            if not self._holds(block.parent):
                return None
            height = self._blocks[block.parent].height
            time_s = self._blocks[block.parent].time_s
        for view in range(block.parent_view + 1, block.view):
            skipped = self._rounds.get(view)
            if skipped is None or not skipped.nullified:
                return None
        if block.height != height + 1 or block.time_s < time_s:
            return False
        if not self.clock.accepts(block.time_s, time_s, now):
            return None
        return self._execute(block, digest)

    def _finalize_votes(self, now: Instant) -> list[Effect]:
        """R-CON-4."""
        effects: list[Effect] = []
        if not self.voting:
            return effects
        for view in sorted(v for v in self._rounds if v > self.tip.view):
            round_ = self._rounds[view]
            digest, mine = round_.notarized, self._said(view, NOTARIZE)
            if digest is None or mine is None or mine.statement.digest != digest:
                continue
            if self._said(view, NULLIFY) or self._said(view, FINALIZE):
                continue
            effects += self._cast(Statement(FINALIZE, self.voters.epoch, view, digest), now)
        return effects

    def _nullify(self, now: Instant) -> list[Effect]:
        """R-CON-5."""
        if not self.voting or not self._may_nullify():
            return []
        round_ = self._rounds.get(self.view)
        leader = self.voters.leader(self.view)
        late = False
        if self._since is not None:
            missing = round_ is None or round_.proposal is None
            late = now >= self._since + (2 if missing else 3) * self._delay()
        if not late and (
            round_ is None
            or not (
                round_.spoiled
                or round_.said(leader, NULLIFY)
                or round_.weight_nullifying() > self.voters.faulty_max
            )
        ):
            return []
        return self._cast(Statement(NULLIFY, self.voters.epoch, self.view), now)

    def _may_nullify(self) -> bool:
        return not (self._said(self.view, NULLIFY) or self._said(self.view, FINALIZE))

    def _cast(self, statement: Statement, now: Instant) -> list[Effect]:
        """Say it: durable first, then to all, then counted (R-CON-10)."""
        assert self.me is not None and self.voting
        vote = Vote(statement, self.me, self._crypto.sign(statement))
        return [Record(vote), Broadcast(vote), *self._count(vote, now)]

    def _said(self, view: int, kind: StatementKind) -> Vote | None:
        round_ = self._rounds.get(view)
        return round_.said(self.me, kind) if round_ and self.me is not None else None

    def _said_anything(self, view: int) -> bool:
        return any(self._said(view, kind) for kind in StatementKind)

    # -- timers -----------------------------------------------------------------------------------

    def _delay(self) -> Instant:
        """D for the current view, in ns (R-CON-6)."""
        delay = max(self.timing.delay_min, *self._lateness, 0)
        for _ in range(self.view - self.tip.view - 1):
            delay = min(delay * 3 // 2, self.timing.delay_max)
            if delay == self.timing.delay_max:
                break
        return min(delay, self.timing.delay_max)

    def _note_lateness(self, view: int, now: Instant) -> None:
        if view == self.view and self._since is not None:
            self._lateness.append(min(now - self._since, self.timing.delay_max // 4))

    def _run_timers(self, now: Instant) -> None:
        if not self._working(now):
            self._since = None
        elif self._since is None:
            self._since = now

    def _working(self, now: Instant) -> bool:
        """R-CON-7: is there a reason for this view to end?"""
        if self._application.has_work(self._tail_digest(), self.clock.read_s(now)):
            return True
        if self._tail_view() > self.tip.view and now >= self._tail_at + 2 * self._delay():
            return True
        voices: set[int] = set()
        for view, round_ in self._rounds.items():
            if view >= self.view:
                voices |= round_.voices()
        return sum(self.voters.weights[voter] for voter in voices) > self.voters.faulty_max

    def _repeat(self) -> list[Effect]:
        """R-CON-8: all that may help somebody to move on."""
        certificates = [self.tip.certificate] if self.tip.certificate else []
        effects: list[Effect] = []
        for view in sorted(v for v in self._rounds if v > self.tip.view):
            round_ = self._rounds[view]
            certificates += [c for _, c in sorted(round_.certificates.items())]
            if round_.proposal and self.catchup.my_turn(view):
                effects.append(Broadcast(round_.proposal))
            if self.me is not None and not self.recall.quarantined:
                effects += [Broadcast(vote) for vote in round_.votes_of(self.me)]
        unheard = [c for c in certificates if self.catchup.unheard(c.statement)]
        self.catchup.repeated()
        return [*map(Broadcast, unheard), *effects]

    # -- blocks -----------------------------------------------------------------------------------

    def _tail_view(self) -> int:
        return max(
            (v for v, r in self._rounds.items() if v > self.tip.view and r.notarized),
            default=self.tip.view,
        )

    def _tail_digest(self) -> bytes:
        """The highest notarized block that is executed here, else the tip."""
        for view in sorted((v for v in self._rounds if v > self.tip.view), reverse=True):
            digest = self._rounds[view].notarized
            if digest and digest in self._blocks:
                return digest
        return self.tip.digest

    def _holds(self, digest: bytes) -> bool:
        """Is this block executed here, now that all that came may be used?"""
        if digest in (self.tip.digest, *self._blocks):
            return True
        return self._chain(digest) is not None

    def _execute(self, block: Block, digest: bytes) -> bool:
        if digest in self._blocks:
            return True
        if not self._application.execute(block, digest):
            return False
        self._blocks[digest] = block
        return True

    def _chain(self, digest: bytes) -> list[tuple[bytes, Block]] | None:
        """Blocks from above the tip up to this one, all executed; None if one is missing."""
        proposed = {r.digest: r.proposal.block for r in self._rounds.values() if r.proposal}
        chain: list[tuple[bytes, Block]] = []
        while digest != self.tip.digest:
            block = self._blocks.get(digest) or proposed.get(digest)
            if block is None or block.view <= self.tip.view:
                return None
            chain.append((digest, block))
            digest = block.parent
        chain.reverse()
        height = self.tip.height
        for digest, block in chain:
            if block.height != height + 1 or not self._execute(block, digest):
                return None
            height += 1
        return chain

    def _target(self) -> Certificate | None:
        """The highest finalization whose block is not here yet."""
        finals = (
            (v, c)
            for v, r in self._rounds.items()
            if v > self.tip.view and (c := r.certificates.get(FINALIZE))
        )
        return max(finals, default=(0, None), key=lambda pair: pair[0])[1]

    def _finalize(self, certificate: Certificate, now: Instant) -> list[Effect]:
        statement = certificate.statement
        chain = self._chain(statement.digest)
        if chain is None:
            self.catchup.missing(self.tip.height + 1, now)
            return []
        if not chain:
            return []
        digest, last = chain[-1]
        assert last.view == statement.view, "a finalization names the view of its block"
        self.tip = Tip(last.view, last.height, last.time_s, digest, certificate)
        self.clock.finalized(last.time_s, now)
        for view in [v for v in self._rounds if v <= last.view - VIEWS_KEPT]:
            del self._rounds[view]
        self._blocks = {d: b for d, b in self._blocks.items() if b.view > last.view}
        self._application.prune(frozenset({digest, *self._blocks}))
        scribe = self.voters.leader(last.view)
        self.catchup.finalized(certificate, scribe, now, self._delay())
        effects: list[Effect] = [Finalized(tuple(chain), certificate)]
        higher = self._target()
        return effects + (self._finalize(higher, now) if higher else [])
