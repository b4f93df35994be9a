"""Voters that break the rules, one class each. Up to f of them by weight must not matter.

Each runs honest code and changes what leaves it: that keeps its lies close to what is believed.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from demesh_consensus import Block, Certificate, Proposal, Statement, StatementKind, Vote
from demesh_consensus.chain import filler
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.disk import Link
from demesh_sim.campaign.messages import GotBlocks, GotVotes, Said
from demesh_sim.campaign.peer import Peer
from demesh_sim.campaign.signing import digest_of

NOTARIZE, NULLIFY, FINALIZE = StatementKind.NOTARIZE, StatementKind.NULLIFY, StatementKind.FINALIZE

# What is looked through for something to say again: the last few views of a mesh of ten.
RECENT = 400


class Adversary:
    """What a voter sends to one other voter instead of `message`."""

    def __init__(self, arena: Arena, me: int, dice: Random) -> None:
        self.arena, self.me, self.dice = arena, me, dice

    def instead(self, target: int, message: Said) -> list[Said]:
        return [message]

    def answer(self, message: GotVotes | GotBlocks) -> GotVotes | GotBlocks | None:
        """It remembers nobody's votes and lies about its tip, epoch and clock."""
        if isinstance(message, GotBlocks):
            return message
        time_s = self.dice.choice([0, message.time_s, 2**53 - 1])
        tip = self.dice.choice([None, message.tip])
        epoch = self.dice.choice([0, message.epoch, message.epoch, message.epoch + 1, 2**53 - 1])
        return replace(message, votes=(), tip=tip, epoch=epoch, time_s=time_s)

    @property
    def epoch(self) -> int:
        """Where I am."""
        return self.arena.peers[self.me].core.voters.epoch

    def vote(self, kind: StatementKind, view: int, digest: bytes = b"") -> Vote:
        """A vote of mine."""
        return self.sign(Statement(kind, self.epoch, view, digest))

    def sign(self, statement: Statement) -> Vote:
        """My vote for anything; a liar keeps the key that it began with."""
        return Vote(statement, self.me, self.arena.signing.sign(self.me, statement))

    def proposal(self, block: Block) -> Proposal:
        """A block of mine, without any reason."""
        statement = Statement(NOTARIZE, block.epoch, block.view, digest_of(block))
        return Proposal(block, (), self.sign(statement))

    def digest_at(self, view: int) -> bytes:
        """The digest of a proposal in this view, or of none."""
        where = self.epoch, view
        for _, message in reversed(self.arena.sent[-RECENT:]):
            if not isinstance(message, Proposal):
                continue
            if (message.block.epoch, message.block.view) == where:
                return digest_of(message.block)
        return bytes(32)


class Silent(Adversary):
    """Hears everything and says nothing."""

    def instead(self, target: int, message: Said) -> list[Said]:
        return []

    def answer(self, message: GotVotes | GotBlocks) -> GotVotes | GotBlocks | None:
        return None


class Equivocating(Adversary):
    """Says one thing to one half and another to the other: votes and proposals."""

    def instead(self, target: int, message: Said) -> list[Said]:
        if target % 2:
            return [message]
        if isinstance(message, Vote) and message.voter == self.me:
            other = NULLIFY if message.statement.kind is FINALIZE else FINALIZE
            digest = b"" if other is NULLIFY else self.digest_at(message.statement.view)
            return [self.vote(other, message.statement.view, digest)]
        if isinstance(message, Proposal) and message.vote.voter == self.me:
            other_block = replace(message.block, time_s=message.block.time_s + 1)
            return [replace(self.proposal(other_block), justification=message.justification)]
        return [message]


class Twin(Adversary):
    """Correct code, run twice with one key: two lives that do not know of each other."""

    def __init__(self, arena: Arena, me: int, dice: Random) -> None:
        super().__init__(arena, me, dice)
        others = [peer.index for peer in arena.peers if peer.index != me]
        both = dice.sample(others, dice.randrange(len(others) // 2 + 1))
        first = {voter for voter in others if dice.random() < 0.5}
        twin, peer = arena.double(me), arena.peers[me]
        twin.adversary = self
        peer.audience = frozenset(first | set(both))
        twin.audience = frozenset(voter for voter in others if voter not in first or voter in both)

    def answer(self, message: GotVotes | GotBlocks) -> GotVotes | GotBlocks | None:
        return message


class Withholding(Adversary):
    """Gives proposals and certificates to one voter only, and never a FINALIZE."""

    def instead(self, target: int, message: Said) -> list[Said]:
        if isinstance(message, Vote):
            return [] if message.statement.kind is FINALIZE else [message]
        view = message.block.view if isinstance(message, Proposal) else message.statement.view
        return [message] if target == view % len(self.arena.peers) else []


class StaleReplayer(Adversary):
    """Says again, any time, what anybody ever said."""

    def instead(self, target: int, message: Said) -> list[Said]:
        past = [said for _, said in self.arena.sent[-RECENT:]]
        return [message, *self.dice.sample(past, min(3, len(past)))]


class Mutating(Adversary):
    """Changes one thing in each message, signing anew what it can."""

    def instead(self, target: int, message: Said) -> list[Said]:
        match message:
            case Vote():
                return [self._vote(message)]
            case Certificate():
                return [self._certificate(message)]
            case Proposal():
                return [message if self.dice.random() < 0.3 else self._proposal(message)]

    def answer(self, message: GotVotes | GotBlocks) -> GotVotes | GotBlocks | None:
        if isinstance(message, GotVotes):
            lie = super().answer(message)
            moved = (replace(v, statement=_next_view(v.statement)) for v in message.votes)
            return replace(lie, votes=tuple(moved)) if isinstance(lie, GotVotes) else lie
        wrong = replace(message.blocks[-1], state_root=bytes(32))
        forged = (
            message,
            replace(message, blocks=(*message.blocks[:-1], wrong)),
            replace(message, blocks=message.blocks[:-1] or (wrong,)),
            replace(message, certificate=self._certificate(message.certificate)),
        )
        return self.dice.choice(forged)

    def _vote(self, vote: Vote) -> Vote:
        view = vote.statement.view + self.dice.choice([-1, 0, 0, 1, 2, 60, 10**15])
        digest = self.dice.choice([vote.statement.digest, self.digest_at(max(view, 0))])
        kind = self.dice.choice(list(StatementKind))
        return self.vote(kind, max(view, 0), b"" if kind is NULLIFY else digest or bytes(32))

    def _certificate(self, given: Certificate) -> Certificate:
        statement = given.statement
        own = (self.me, self.arena.signing.sign(self.me, statement))
        skip = replace(statement, kind=NULLIFY, digest=b"")
        mine = (self.me, self.arena.signing.sign(self.me, skip))
        forged = (
            given,
            replace(given, statement=replace(statement, view=statement.view + 1)),
            replace(given, statement=replace(statement, epoch=statement.epoch + 1)),
            replace(given, statement=replace(statement, rules_version=2)),
            replace(given, statement=skip),
            Certificate(skip, (mine,)),
            replace(given, statement=replace(statement, kind=FINALIZE)),
            replace(given, signatures=given.signatures[:-1]),
            replace(given, signatures=(own,) * len(given.signatures)),
            replace(given, signatures=given.signatures[1:] * 2),
            replace(given, signatures=tuple((v, b"") for v, _ in given.signatures)),
            replace(given, signatures=((10**6, b""), *given.signatures)),
        )
        return self.dice.choice(forged)

    def _proposal(self, proposal: Proposal) -> Proposal:
        block, shown = proposal.block, proposal.justification
        views = [block.view, block.view + 1, max(block.view - 1, 0), block.view + 64]
        parents = self.arena.peers[self.me].chain[-2:]
        changed: list[Block] = [
            replace(block, view=self.dice.choice(views)),
            replace(block, time_s=block.time_s + self.dice.choice([-5, 1, 2, 2, 3, 3600])),
            replace(block, height=block.height + self.dice.choice([-1, 1, 10**9])),
            replace(block, state_root=bytes(32)),
            replace(block, ops=block.ops * 2),
            replace(block, parent_view=self.dice.choice([0, block.parent_view + 1, block.view])),
            replace(block, closing=not block.closing),
            replace(block, epoch=block.epoch + self.dice.choice([-1, 1])),
        ]
        if parents and self.dice.random() < 0.6:
            changed = [self._undermined(block, self.dice.choice(parents))]
        other = self.proposal(self.dice.choice(changed))
        cut = shown[self.dice.randrange(len(shown) + 1) :]
        forged = tuple(self._certificate(certificate) for certificate in shown)
        return replace(other, justification=self.dice.choice([shown, cut, forged]))

    def _undermined(self, block: Block, below: Link) -> Block:
        """The same block on an earlier one, as if what is between had been skipped."""
        views = (below.block.view, block.parent_view, block.view - 1)
        return replace(
            block,
            parent=below.digest,
            parent_view=self.dice.choice(views),
            height=below.block.height + 1,
            ops=(),
            state_root=below.block.state_root,
        )


class Hasty(Adversary):
    """Proposes the latest time that others may accept, or a later one."""

    def instead(self, target: int, message: Said) -> list[Said]:
        if not isinstance(message, Proposal) or message.vote.voter != self.me:
            return [message]
        # The same to all: drawn from the view.
        ahead = 3600 if message.block.view % 11 == 0 else 2
        late = self.proposal(replace(message.block, time_s=message.block.time_s + ahead))
        return [replace(late, justification=message.justification)]


class Untimely(Adversary):
    """Speaks of other epochs: says again what was said in earlier ones, and claims later ones."""

    def instead(self, target: int, message: Said) -> list[Said]:
        lies = self.dice.choice((self._earlier, self._moved, self._later))(message)
        return [message, *lies]

    def _earlier(self, message: Said) -> list[Said]:
        """What anybody said in an earlier epoch."""
        past = [said for _, said in self.arena.sent[-RECENT:] if epoch_of(said) < self.epoch]
        return self.dice.sample(past, min(3, len(past)))

    def _moved(self, message: Said) -> list[Said]:
        """The same in another epoch, signed anew if it is mine."""
        epoch = max(0, epoch_of(message) + self.dice.choice([-1, -1, 1]))
        match message:
            case Vote(statement, voter):
                moved = replace(statement, epoch=epoch)
                if voter == self.me:
                    return [self.sign(moved)]
                return [replace(message, statement=moved)]
            case Certificate(statement):
                return [replace(message, statement=replace(statement, epoch=epoch))]
            case Proposal(block):
                return [self.proposal(replace(block, epoch=epoch))]

    def _later(self, message: Said) -> list[Said]:
        """A flood of hints at epochs that never were."""
        epoch = self.epoch + self.dice.choice([1, 1, 2, 10**9])
        mine = self.sign(Statement(FINALIZE, epoch, 1, bytes(32)))
        return [mine, Certificate(mine.statement, ((self.me, mine.signature),))]


class Usurping(Adversary):
    """Meddles with the end of an epoch: its last block, what stands on it, and how it is told."""

    def instead(self, target: int, message: Said) -> list[Said]:
        if isinstance(message, Proposal) and message.vote.voter == self.me:
            return [self._proposal(message)]
        closed = self.arena.peers[self.me].core.tip.view == 0
        if isinstance(message, Certificate) and message.statement.kind is FINALIZE and closed:
            return []  # the next epoch is nobody else's business
        return [message]

    def answer(self, message: GotVotes | GotBlocks) -> GotVotes | GotBlocks | None:
        if isinstance(message, GotVotes):
            return super().answer(message)
        blocks, trail = message.blocks, message.trail
        last = blocks[-1]
        above = filler(trail[-1] + 1 if trail else last.view + 1, last, digest_of(last))
        reopened = (*blocks[:-1], replace(last, closing=not last.closing))
        # A block that nobody made, below a finalization that the asker has: a part without an end.
        old = replace(blocks[0], view=0, closing=False, ops=())
        known = [link.certificate for link in self.arena.peers[self.me].chain if link.certificate]
        below = [c for c in known if c.statement.epoch == last.epoch][:1]
        forged = (
            message,
            replace(message, trail=()),
            replace(message, trail=trail[:-1]),
            replace(message, trail=(*trail, above.view)),
            replace(message, trail=(last.view, *trail)),
            replace(message, blocks=reopened),
            replace(message, blocks=(*blocks, above), trail=()),
            *(GotBlocks((old,), certificate) for certificate in below),
        )
        return self.dice.choice(forged)

    def _proposal(self, proposal: Proposal) -> Proposal:
        block = proposal.block
        changed = [replace(block, closing=not block.closing)]
        if self._past_end(block):
            changed += [self._with_an_op(block)] * 3
            changed += [
                replace(block, time_s=block.time_s + 1),
                replace(block, height=block.height - 1),
                replace(block, parent_view=0, epoch=block.epoch + 1),
                block,
            ]
        elif self.dice.random() < 0.5:
            return proposal
        other = self.proposal(self.dice.choice(changed))
        return replace(other, justification=proposal.justification)

    def _past_end(self, block: Block) -> bool:
        return not block.ops and self.arena.peers[self.me].core._chain.ends(block.parent)

    def _with_an_op(self, block: Block) -> Block:
        """As if the epoch went on: an op of mine, with the right root after it."""
        log = self.arena.peers[self.me].log
        below = block.parent
        while below not in log.states:
            below = self.arena.peers[self.me].core._chain._blocks[below].parent
        op = b"op of liar %d in view %d" % (self.me, block.view)
        return replace(block, ops=(op,), state_root=log.states[below].after((op,)).root)


def _next_view(statement: Statement) -> Statement:
    return replace(statement, view=statement.view + 1)


def epoch_of(message: Said) -> int:
    """The epoch that a message is of."""
    if isinstance(message, Proposal):
        return message.block.epoch
    return message.statement.epoch


# Those of the first seasons, and those that need more than one epoch.
WITHIN_AN_EPOCH: tuple[type[Adversary], ...] = (
    Silent,
    Equivocating,
    Twin,
    Withholding,
    StaleReplayer,
    Mutating,
    Hasty,
)
ADVERSARIES = (*WITHIN_AN_EPOCH, Untimely, Usurping)


def corrupt(peer: Peer, arena: Arena, cls: type[Adversary], seed: int) -> None:
    """From now on this peer is an adversary."""
    peer.adversary = cls(arena, peer.index, Random(f"{seed}/liar/{peer.index}"))
