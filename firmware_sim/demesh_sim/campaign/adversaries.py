"""Voters that break the rules, one class each. Up to f of them by weight must not matter.

Each runs honest code and changes what leaves it: that keeps its lies close to what is believed.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from demesh_consensus import Block, Certificate, Proposal, Statement, StatementKind, Vote
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
        """It remembers nobody's votes and lies about its tip and clock."""
        if isinstance(message, GotBlocks):
            return message
        time_s = self.dice.choice([0, message.time_s, 2**53 - 1])
        tip = self.dice.choice([None, message.tip])
        return replace(message, votes=(), tip=tip, time_s=time_s)

    def vote(self, kind: StatementKind, view: int, digest: bytes = b"") -> Vote:
        """A vote of mine."""
        statement = Statement(kind, 0, view, digest)
        return Vote(statement, self.me, self.arena.signing.sign(self.me, statement))

    def proposal(self, block: Block) -> Proposal:
        """A block of mine, without any reason."""
        return Proposal(block, (), self.vote(NOTARIZE, block.view, digest_of(block)))

    def digest_at(self, view: int) -> bytes:
        """The digest of a proposal in this view, or of none."""
        for _, message in reversed(self.arena.sent[-RECENT:]):
            if isinstance(message, Proposal) and message.block.view == view:
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
            return super().answer(message)
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
            replace(block, closing=True),
            replace(block, epoch=1),
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


ADVERSARIES: tuple[type[Adversary], ...] = (
    Silent,
    Equivocating,
    Twin,
    Withholding,
    StaleReplayer,
    Mutating,
    Hasty,
)


def corrupt(peer: Peer, arena: Arena, cls: type[Adversary], seed: int) -> None:
    """From now on this peer is an adversary."""
    peer.adversary = cls(arena, peer.index, Random(f"{seed}/liar/{peer.index}"))
