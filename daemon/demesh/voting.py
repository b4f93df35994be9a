"""Consensus on the wire: its messages in, its effects out, its journal.

`demesh_consensus` knows voters by index and neither frames nor topics; the rest of the node knows
blocks only once they are final, as `Decided`, and devices by their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import demesh_consensus as consensus
from demesh.application import Application
from demesh.backfill import BLOCKS_PER_ANSWER, Leaping, Questions, answer
from demesh.brokers import Manner
from demesh.direct import Direct
from demesh.ledger.events import Enrolled
from demesh.ledger.ops import SignedOp
from demesh.ledger.state import Result
from demesh.light import hand_over
from demesh.membership.directory import Directory, Member
from demesh.news import Accused, Decided, Failed, Proposed, Told
from demesh.past import Past, entries_of, read_vote, record_of
from demesh.ports import (
    MILLISECOND,
    SECOND,
    CompactJournal,
    Effect,
    Fetch,
    Fetched,
    Instant,
    Journal,
    Publish,
    SeekChunk,
    Sought,
    StoreBlock,
)
from demesh.seats import Seats
from demesh.snapshots import take
from demesh.wire import statements
from demesh.wire.kinds import Kind, Reject
from demesh.wire.messages import Blocks, Chunk, Leap, Recall, Recalled, Seek, Signal, Want
from demesh.wire.schema import Malformed, decode, encode
from demesh.wire.signer import Signer
from demesh.wire.topics import Topics
from demesh.wire.validate import Validator, View

# Pending ops that all voters together say again at a standstill, the oldest first: what waits
# longest is what others lack. Each says its share, for all of them may hold all of it: 64 from each
# of 31 are 60,000 deliveries, which keep a busy mesh from ever moving again.
OPS_REPEATED_MAX = 64
OPS_REPEATED_MIN = 2

# Own votes and blocks in the journal before it is written anew without what is final: a few hundred
# kilobytes, and one rewrite per some hundred blocks.
JOURNAL_RECORDS_MAX = 1024

# A device that is no member is not answered, until it has become one and does not know it yet. That
# people wait for, so not a minute; but one that waits for weeks shall not disturb an idle mesh.
GUEST_ASKS_EVERY = 10 * SECOND

# D grows up to 32 times its floor: 8 s in a local network, 32 s in a wide one.
DELAY_GROWTH_MAX = 32


Handler = Callable[[View, bytes, Manner, Instant], list[Effect | Told]]


class Voting:
    """One device's part in consensus. Methods return effects, and what the node must be told."""

    def __init__(
        self,
        directory: Directory,
        signer: Signer,
        validator: Validator,
        topics: Topics,
        direct: Direct,
        past: Past,
        delay_floor_ms: int,
        salt: bytes,
        now: Instant,
    ) -> None:
        self._directory, self._signer = directory, signer
        self._validator, self._topics, self._direct = validator, topics, direct
        self._standing = standing = past.standing
        self._seats = Seats(directory, signer, validator)
        self.application = Application(past.ledger, past.tip.digest, validator, self._seats.seat)
        floor = delay_floor_ms * MILLISECOND
        self._epochs = consensus.Epochs(
            self.application,
            past.tip,
            consensus.Timing(delay_min=floor, delay_max=DELAY_GROWTH_MAX * floor),
            salt,
            now,
            entries_of(past.journal, validator, signer.vote_id),
            (standing.epoch, standing.floor),
            standing.given_up == signer.vote_id,
        )
        self._seats.renew(past.ledger)
        self._nonce = b""  # of my last Recall
        self._journaled = len(past.journal)
        self._compact_above = JOURNAL_RECORDS_MAX
        self._guest_asks_at = now
        self._questions = Questions()
        self._leaping = Leaping(floor)
        self._handlers: dict[Kind, Handler] = {
            Kind.PROPOSAL: self._proposal,
            Kind.VOTE: self._vote,
            Kind.CERTIFICATE: self._certificate,
            Kind.RECALL: self._recall,
            Kind.RECALLED: self._recalled,
            Kind.WANT: self._want,
            Kind.BLOCKS: self._blocks,
            Kind.LEAP: self._leap,
            Kind.SEEK: self._seek,
            Kind.CHUNK: self._chunk,
        }

    # -- what the node calls ----------------------------------------------------------------------

    @property
    def core(self) -> consensus.Simplex:
        """The current epoch."""
        return self._epochs.core

    def start(self) -> Journal:
        """This boot's record, durable before anything is signed with its counter."""
        return Journal(self._standing.record())

    def takes(self, kind: Kind) -> bool:
        """Is this a kind of mine?"""
        return kind in self._handlers

    def receive(
        self, view: View, frame: bytes, manner: Manner, now: Instant
    ) -> list[Effect | Told]:
        """A valid frame of one of my kinds; raises Malformed."""
        return self._handlers[view.kind](view, frame, manner, now)

    def awaits(self, view: View) -> bool:
        """Does the current view wait for what this frame claims to be? Nobody has verified it."""
        member = self._directory.voter(view.sender)
        if member is None or member.voter is None:
            return False
        if view.kind is Kind.PROPOSAL:
            return self.core.awaits_proposal(member.voter)
        if view.kind is not Kind.VOTE:
            return False
        try:
            statement = statements.decode_statement(view.payload)
        except Malformed:
            return False
        return self.core.awaits_vote(member.voter, statement)

    def tick(self, now: Instant) -> list[Effect | Told]:
        """Time passed, or there is a new op."""
        return self._carry(self._epochs.tick(now), now)

    def linked(self, now: Instant) -> list[Effect | Told]:
        """A broker is (again) there, and no other: say where I am."""
        self.core.catchup.start(self.core.tip.certificate, now)
        return self.tick(now)

    def linked_too(self, broker: int) -> list[Effect]:
        """One more broker is (again) there: tell it where I am, the others know."""
        tip = self.core.tip.certificate
        if tip is None or self._directory.guest:
            return []
        frame = self._signer.certificate(tip)
        return [Publish(self._topics.mine("tip"), frame, retain=True, broker=broker)]

    def losing(self, now: Instant) -> None:
        """A flood: some of what others say does not reach me, nor some of mine them."""
        self.core.catchup.lossy(now)

    def gone(self, member: Member, now: Instant) -> list[Effect | Told]:
        """A device's connection ended, as far as a broker knows."""
        if member.voter is None:
            return []
        return self._carry(self._epochs.receive_gone(member.voter, now), now)

    def repeat_ops(self) -> list[Effect]:
        """Ops that wait and that nobody else repeated, published again (R-CON-8)."""
        topic = self._topics.mine("op")
        share = max(OPS_REPEATED_MAX // len(self._directory.voters), OPS_REPEATED_MIN)
        return [Publish(topic, frame) for frame in self.application.pool.unheard()[:share]]

    def found(self, found: Fetched | Sought) -> list[Effect | Told]:
        """Answer who asked with what was stored."""
        given = answer(found)
        return [] if given is None else self._send(found.asker, given)

    def turn_ends(self) -> list[Effect]:
        """Housekeeping after all that was decided is settled."""
        self.application.drop_losers()
        if self._journaled <= self._compact_above:
            return []
        epoch, floor = self._epochs.floor
        self._standing = replace(self._standing, epoch=epoch, floor=floor)
        entries = [record_of(entry, self._signer) for entry in self._epochs.journal()]
        records = (self._standing.record(), *entries)
        self._journaled = len(records)
        # While nothing becomes final nothing can be left out: not a rewrite with every vote then.
        self._compact_above = max(JOURNAL_RECORDS_MAX, 2 * len(records))
        return [CompactJournal(records)]

    # -- messages ---------------------------------------------------------------------------------

    def _vote(self, view: View, frame: bytes, manner: Manner, now: Instant) -> list[Effect | Told]:
        vote = read_vote(view, frame, self._directory)
        if vote is None:
            return [Reject.SENDER]
        return self._carry(self._epochs.receive_vote(vote, now), now)

    def _proposal(
        self, view: View, frame: bytes, manner: Manner, now: Instant
    ) -> list[Effect | Told]:
        proposal = statements.decode_proposal(view.payload)
        effects = self._epochs.receive_proposal(proposal, now)
        refused = any(isinstance(effect, consensus.Refused) for effect in effects)
        carried = self._carry(effects, now)
        return carried if refused else [Proposed(proposal.block.view), *carried]

    def _certificate(
        self, view: View, frame: bytes, manner: Manner, now: Instant
    ) -> list[Effect | Told]:
        certificate = statements.decode_certificate(view.payload)
        live, everywhere = manner is not Manner.RETAINED, manner is Manner.EVERYWHERE
        effects = self._epochs.receive_certificate(certificate, now, live, everywhere)
        return self._carry(effects, now)

    def _recall(
        self, view: View, frame: bytes, manner: Manner, now: Instant
    ) -> list[Effect | Told]:
        question = decode(Recall, view.payload)
        asker = self._directory.member(view.sender)
        if asker is None:
            return [Reject.SENDER]
        if not self._questions.takes(asker.id, now):
            return [Reject.FULL]
        tip = self.core.tip.certificate
        votes = () if asker.voter is None else self.core.votes_of(asker.voter)
        answer = Recalled(
            question.nonce,
            tuple(statements.vote_frame(v, self._signer.binding, asker.vote_id) for v in votes),
            statements.encode_certificate(tip) if tip else b"",
            self.core.voters.epoch,
            self.core.clock.read_s(now),
        )
        return self._send(asker.id, answer)

    def _recalled(
        self, view: View, frame: bytes, manner: Manner, now: Instant
    ) -> list[Effect | Told]:
        answer = decode(Recalled, view.payload)
        member = self._directory.member(view.sender)
        if member is None or member.voter is None or answer.nonce != self._nonce:
            return [Reject.STALE]
        votes = []
        for held in answer.votes:
            checked = self._validator.check(held)
            if isinstance(checked, Reject) or checked.sender != self._signer.vote_id:
                return [Reject.INVALID]
            if vote := read_vote(checked, held, self._directory):
                votes.append(vote)
        effects, asked_in = [], self.core
        if answer.tip:
            tip = statements.decode_certificate(answer.tip)
            effects += self._epochs.receive_certificate(tip, now, live=False)
        if self.core is asked_in:  # in another epoch the voter has another number, or none
            told = (votes, answer.epoch, answer.time_s, now)
            effects += self._epochs.receive_recalled(member.voter, *told)
        return self._carry(effects, now)

    def _want(self, view: View, frame: bytes, manner: Manner, now: Instant) -> list[Effect | Told]:
        wanted = decode(Want, view.payload)
        if wanted.first_height > self.core.tip.height:
            return []
        if not self._questions.takes(view.sender, now):
            return [Reject.FULL]
        return [Fetch(view.sender, wanted.first_height, BLOCKS_PER_ANSWER, wanted.epoch)]

    def _blocks(
        self, view: View, frame: bytes, manner: Manner, now: Instant
    ) -> list[Effect | Told]:
        given = decode(Blocks, view.payload)
        self._guest_asks_at = now  # somebody knows me
        blocks = [statements.decode_block(block) for block in given.blocks]
        certificate, trail = statements.decode_final(given.final)
        voter = self._voter(view.sender)
        effects = self._epochs.receive_blocks(blocks, certificate, now, voter, trail)
        return self._carry(effects, now)

    def _leap(self, view: View, frame: bytes, manner: Manner, now: Instant) -> list[Effect | Told]:
        given = decode(Leap, view.payload)
        self._guest_asks_at = now
        asked, ledger = self.core.catchup.asked, self.application.ledger
        if asked is None or self._voter(view.sender) != asked:
            return [Reject.STALE]
        outcome = self._leaping.leap(given, view.sender, ledger, self.core.tip.height)
        return [outcome] if outcome else self._ask_on(view.sender, now)

    def _seek(self, view: View, frame: bytes, manner: Manner, now: Instant) -> list[Effect | Told]:
        sought = decode(Seek, view.payload)
        if not self._questions.takes(view.sender, now):
            return [Reject.FULL]
        return [SeekChunk(view.sender, sought.chunk)]

    def _chunk(self, view: View, frame: bytes, manner: Manner, now: Instant) -> list[Effect | Told]:
        outcome = self._leaping.chunk(decode(Chunk, view.payload), self.core.tip.height)
        return [outcome] if outcome else self._ask_on(view.sender, now)

    def _ask_on(self, helper: bytes, now: Instant) -> list[Effect | Told]:
        """An answer helped: ask for what comes next, and again if nothing does."""
        self.core.catchup.ahead(self._want_more.first_height, now)
        return self._send(*self._leaping.next(self._want_more, helper, self._others(), now))

    @property
    def _want_more(self) -> Want:
        return Want(self.core.tip.height + 1, self.core.voters.epoch)

    def _voter(self, device: bytes) -> int | None:
        member = self._directory.member(device)
        return None if member is None else member.voter

    def _others(self) -> list[bytes]:
        """The ids of all other voters."""
        return [m.id for m in self._directory.voters if m.id != self._signer.id]

    # -- effects ----------------------------------------------------------------------------------

    def _carry(self, asked: Sequence[consensus.Effect], now: Instant) -> list[Effect | Told]:
        """What the core asks for, in frames and records."""
        effects: list[Effect | Told] = []
        for effect in asked:
            if self._in_vain(effect, now):
                continue
            match effect:
                case consensus.Record(entry):
                    self._journaled += 1
                    effects.append(Journal(record_of(entry, self._signer)))
                case consensus.Broadcast(consensus.Proposal() as proposal):
                    effects.append(Proposed(proposal.block.view))
                    effects.append(self._publish("vote", self._signer.proposal(proposal)))
                case consensus.Broadcast(consensus.Vote() as vote):
                    effects.append(self._publish("vote", self._signer.own_vote(vote)))
                case consensus.Broadcast(consensus.Certificate() as certificate):
                    effects.append(self._publish("vote", self._signer.certificate(certificate)))
                case consensus.PublishTip(certificate):
                    frame = self._signer.certificate(certificate)
                    effects.append(Publish(self._topics.mine("tip"), frame, retain=True))
                case consensus.Finalized():
                    effects += self._finalized(effect)
                case consensus.AskBlocks(voter, first_height):
                    to, want = (
                        self._directory.voters[voter].id,
                        replace(self._want_more, first_height=first_height),
                    )
                    if question := self._leaping.again(want, to, self._others(), now):
                        effects += self._send(*question)
                case consensus.AskVotes():
                    self._nonce = self._signer.nonce()
                    for to in self._others():
                        effects += self._send(to, Recall(self._nonce))
                case consensus.Quarantined():
                    self._standing = replace(self._standing, given_up=self._signer.vote_id)
                    effects += [Journal(self._standing.record()), effect]
                case consensus.StandingStill():
                    effects += [*self.repeat_ops(), effect]
                case consensus.Misbehaved(first):
                    device = self._seats.device(first.statement.epoch, first.voter)
                    effects.append(Accused(device, effect))
                case consensus.Refused(reason):
                    effects.append(Reject[reason.name])
        return effects

    def _in_vain(self, effect: consensus.Effect, now: Instant) -> bool:
        """R-ID-9: would nobody take it from me?"""
        if not self._directory.guest:
            return False
        match effect:
            case consensus.AskBlocks():
                if now < self._guest_asks_at:
                    return True
                self._guest_asks_at = now + GUEST_ASKS_EVERY
                return False
            case consensus.Broadcast() | consensus.PublishTip() | consensus.StandingStill():
                return True
        return False

    def _finalized(self, final: consensus.Finalized) -> list[Effect | Told]:
        """Store what is final. Only the last block of a run has a finalization of its own."""
        effects: list[Effect | Told] = []
        shown = statements.encode_final(final.certificate, final.trail)
        run = [block for _, block in final.blocks]
        for place, (digest, block) in enumerate(final.blocks):
            applied = self.application.settle(digest)
            encoded = shown if block is run[-1] else None
            stored = statements.encode_block(block)
            link = None
            if encoded is not None and block.closing:
                link = encode(hand_over(statements.header_of(block), encoded, applied.ledger))
            effects.append(StoreBlock(block.height, stored, encoded, applied.changes, link))
            effects += take(applied.ledger, run[place:], shown)
            effects.append(Decided(block, self._seats.leader(block), applied))
            if any(isinstance(event, Enrolled) for event in applied.events):
                self._seats.renew(self.application.ledger)
            for frame, result in zip(block.ops, applied.results, strict=True):
                op = self.application.open_op(frame) if result is not Result.OK else None
                if isinstance(op, SignedOp) and op.signer == self._signer.id:
                    effects.append(Failed(op.body, result))
        return effects

    def _publish(self, area: str, frame: bytes) -> Publish:
        return Publish(self._topics.mine(area), frame)

    def _send(self, to: bytes, message: Signal) -> list[Effect | Told]:
        return [*self._direct.send(to, message)]
