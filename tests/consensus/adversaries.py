"""Voters that break the rules, one class each. Up to f of them must not matter.

Each runs honest code and changes what leaves it: that keeps its lies close to what is believed.
"""

from __future__ import annotations

import random
from dataclasses import replace

from consensus.cluster import Cluster, Peer, digest_of, signature
from demesh_consensus import (
    Block,
    Certificate,
    Proposal,
    Statement,
    StatementKind,
    Vote,
)

NOTARIZE, NULLIFY, FINALIZE = StatementKind.NOTARIZE, StatementKind.NULLIFY, StatementKind.FINALIZE

Message = Vote | Proposal | Certificate


class Adversary:
    """What a voter sends to one other voter instead of `message`."""

    def __init__(self, cluster: Cluster, me: int, dice: random.Random) -> None:
        self.cluster, self.me, self.dice = cluster, me, dice

    def instead(self, target: int, message: Message) -> list[Message]:
        return [message]

    def vote(self, kind: StatementKind, view: int, digest: bytes = b"") -> Vote:
        statement = Statement(kind, 0, view, digest)
        return Vote(statement, self.me, signature(self.me, statement))


class Silent(Adversary):
    """Hears everything and says nothing."""

    def instead(self, target: int, message: Message) -> list[Message]:
        return []


class Equivocating(Adversary):
    """Says one thing to one half and another to the other: votes and proposals."""

    def instead(self, target: int, message: Message) -> list[Message]:
        if target % 2:
            return [message]
        if isinstance(message, Vote) and message.voter == self.me:
            other = NULLIFY if message.statement.kind is FINALIZE else FINALIZE
            digest = b"" if other is NULLIFY else digest_at(self.cluster, message.statement.view)
            return [self.vote(other, message.statement.view, digest)]
        if isinstance(message, Proposal) and message.vote.voter == self.me:
            return [reproposed(self, replace(message.block, time_s=message.block.time_s + 1))]
        return [message]


class Withholding(Adversary):
    """Gives proposals and certificates to one voter only, and never a FINALIZE."""

    def instead(self, target: int, message: Message) -> list[Message]:
        if isinstance(message, Vote):
            return [] if message.statement.kind is FINALIZE else [message]
        view = message.block.view if isinstance(message, Proposal) else message.statement.view
        return [message] if target == view % len(self.cluster.peers) else []


class StaleReplayer(Adversary):
    """Says again, any time, what anybody ever said."""

    def instead(self, target: int, message: Message) -> list[Message]:
        past = [said for _, said in self.cluster.sent[-400:] if not isinstance(said, bytes)]
        return [message, *self.dice.sample(past, min(3, len(past)))]  # type: ignore[list-item]


class Mutating(Adversary):
    """Changes one thing in each message, signing anew what it can."""

    def instead(self, target: int, message: Message) -> list[Message]:
        match message:
            case Vote():
                return [self._vote(message)]
            case Certificate():
                return [self._certificate(message)]
            case Proposal():
                return [message if self.dice.random() < 0.3 else self._proposal(message)]

    def _vote(self, vote: Vote) -> Vote:
        view = vote.statement.view + self.dice.choice([-1, 0, 0, 1, 2, 60, 10**15])
        digest = self.dice.choice([vote.statement.digest, digest_at(self.cluster, max(view, 0))])
        kind = self.dice.choice(list(StatementKind))
        return self.vote(kind, max(view, 0), b"" if kind is NULLIFY else digest or bytes(32))

    def _certificate(self, given: Certificate) -> Certificate:
        statement = given.statement
        own = (self.me, signature(self.me, statement))
        forged = (
            given,
            replace(given, statement=replace(statement, view=statement.view + 1)),
            replace(given, statement=replace(statement, kind=NULLIFY, digest=b"")),
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
        parents = sorted(self.cluster.truth.items())[-3:]
        changed: list[Block] = [
            replace(block, view=self.dice.choice(views)),
            replace(block, time_s=block.time_s + self.dice.choice([-5, 1, 2, 3, 3600])),
            replace(block, height=block.height + self.dice.choice([-1, 1, 10**9])),
            replace(block, state_root=bytes(32)),
            replace(block, ops=block.ops * 2),
            replace(block, parent_view=self.dice.choice([0, block.parent_view + 1, block.view])),
            replace(block, closing=True),
            replace(block, epoch=1),
        ]
        for height, digest in parents:
            view = view_of(self.cluster, digest)
            changed.append(replace(block, parent=digest, parent_view=view, height=height + 1))
        other = reproposed(self, self.dice.choice(changed))
        cut = shown[self.dice.randrange(len(shown) + 1) :]
        forged = tuple(self._certificate(certificate) for certificate in shown)
        return replace(other, justification=self.dice.choice([shown, cut, forged]))


ADVERSARIES: tuple[type[Adversary], ...] = (
    Silent,
    Equivocating,
    Withholding,
    StaleReplayer,
    Mutating,
)


def reproposed(adversary: Adversary, block: Block) -> Proposal:
    vote = adversary.vote(NOTARIZE, block.view, digest_of(block))
    return Proposal(block, (), vote)


def digest_at(cluster: Cluster, view: int) -> bytes:
    """The digest of a proposal in this view, or of none."""
    for _, message in reversed(cluster.sent[-400:]):
        if isinstance(message, Proposal) and message.block.view == view:
            return digest_of(message.block)
    return bytes(32)


def view_of(cluster: Cluster, digest: bytes) -> int:
    for peer in cluster.peers:
        for known, block, _ in peer.chain:
            if known == digest:
                return block.view
    return 0


def corrupt(peer: Peer, cluster: Cluster, cls: type[Adversary], seed: int) -> None:
    """From now on this peer is an adversary."""
    peer.adversary = cls(cluster, peer.index, random.Random(seed))
