"""A handful of consensus cores on a virtual network: delays, losses, crashes; and a checker.

Signatures are keyed hashes: what is tested here is the voting, not Ed25519.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from demesh_consensus import (
    AskBlocks,
    AskVotes,
    Block,
    Broadcast,
    Certificate,
    Effect,
    Entry,
    Finalized,
    Misbehaved,
    Proposal,
    PublishTip,
    Quarantined,
    Record,
    Simplex,
    StandingStill,
    Statement,
    StatementKind,
    Timing,
    Tip,
    Vote,
    Voters,
)

MS = 1_000_000
SECOND = 1000 * MS
GENESIS = hashlib.blake2b(b"genesis", digest_size=32).digest()
START = Tip(0, 0, 1_000, GENESIS, None)


def digest_of(block: Block) -> bytes:
    return hashlib.blake2b(repr(block).encode(), digest_size=32).digest()


class HashCrypto:
    """Keyed hashes instead of signatures."""

    def __init__(self, me: int) -> None:
        self.me = me

    def digest(self, block: Block) -> bytes:
        return digest_of(block)

    def sign(self, statement: Statement) -> bytes:
        return signature(self.me, statement)

    def verify(self, voter: int, statement: Statement, given: bytes) -> bool:
        return given == signature(voter, statement)


def signature(voter: int, statement: Statement) -> bytes:
    return hashlib.blake2b(
        repr(statement).encode(), key=b"voter %d" % voter, digest_size=32
    ).digest()


class Log:
    """An application: an append-only list of ops; its state root is the hash of the list."""

    def __init__(self) -> None:
        self.states: dict[bytes, tuple[bytes, ...]] = {GENESIS: ()}
        self.pool: dict[bytes, None] = {}

    def _todo(self, parent: bytes) -> tuple[bytes, ...]:
        return tuple(op for op in self.pool if op not in self.states[parent])

    def has_work(self, parent: bytes, time_s: int) -> bool:
        return bool(self._todo(parent))

    def wake_s(self, parent: bytes) -> int | None:
        return None

    def build(self, parent: bytes, time_s: int) -> tuple[tuple[bytes, ...], bytes]:
        ops = self._todo(parent)
        return ops, self._root(self.states[parent] + ops)

    def execute(self, block: Block, digest: bytes) -> bool:
        state = self.states[block.parent] + block.ops
        if len(set(state)) != len(state) or self._root(state) != block.state_root:
            return False
        self.states[digest] = state
        return True

    def prune(self, keep: frozenset[bytes]) -> None:
        self.states = {d: s for d, s in self.states.items() if d in keep}

    @staticmethod
    def _root(state: tuple[bytes, ...]) -> bytes:
        return hashlib.blake2b(b"|".join(state), digest_size=32).digest()


class Liar(Protocol):
    """What a dishonest peer sends to one other instead of a message; see `adversaries`."""

    def instead(
        self, target: int, message: Vote | Proposal | Certificate
    ) -> list[Vote | Proposal | Certificate]: ...


@dataclass
class Peer:
    """One voter with its disk."""

    index: int
    core: Simplex
    log: Log
    up: bool = True
    journal: list[Entry] = field(default_factory=list)
    chain: list[tuple[bytes, Block, Certificate | None]] = field(default_factory=list)
    quarantined: bool = False
    adversary: Liar | None = None
    wake: int | None = None


class Cluster:
    """Runs peers until a virtual time; every finalization is compared with everybody else's."""

    def __init__(
        self, count: int, seed: int = 0, weights: tuple[int, ...] | None = None, loss: float = 0.0
    ) -> None:
        self.random = random.Random(seed)
        self.voters = Voters(0, weights or (1,) * count, GENESIS)
        self.now = 0
        self.loss = loss
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.sequence = 0
        self.truth: dict[int, bytes] = {}
        self.sent: list[tuple[int, object]] = []
        self.evidence: list[Misbehaved] = []
        self.cut: Callable[[int, int], bool] = lambda source, target: False
        self.peers = [self._boot(Peer(i, None, Log())) for i in range(count)]  # type: ignore[arg-type]
        for peer in self.peers:
            self.do(peer, peer.core.tick(0))

    def _boot(self, peer: Peer) -> Peer:
        tip = START
        peer.log.states = {GENESIS: ()}
        for digest, block, _ in peer.chain:
            peer.log.states[digest] = peer.log.states[block.parent] + block.ops
        if peer.chain:
            digest, block, certificate = peer.chain[-1]
            tip = Tip(block.view, block.height, block.time_s, digest, certificate)
        peer.core = Simplex(
            self.voters,
            peer.index,
            HashCrypto(peer.index),
            peer.log,
            tip,
            Timing(),
            b"salt %d" % peer.index,
            self.now,
            peer.journal,
        )
        peer.core.recall.quarantined = peer.quarantined
        return peer

    # -- the world --------------------------------------------------------------------------------

    def submit(self, op: bytes, to: tuple[int, ...] | None = None) -> None:
        for peer in self.peers:
            if to is None or peer.index in to:
                peer.log.pool[op] = None
                if peer.up:
                    self.do(peer, peer.core.tick(self.now))

    def crash(self, index: int) -> None:
        self.peers[index].up = False

    def restart(self, index: int) -> None:
        peer = self.peers[index]
        peer.up = True
        self._boot(peer)
        self.do(peer, peer.core.tick(self.now))

    def run(self, seconds: float) -> None:
        end = self.now + int(seconds * SECOND)
        while self.heap and self.heap[0][0] <= end:
            self.now, _, action = heapq.heappop(self.heap)
            action()
        self.now = end

    def run_until(self, done: Callable[[], bool], seconds: float) -> None:
        end = self.now + int(seconds * SECOND)
        while not done():
            assert self.heap and self.heap[0][0] <= end, f"not within {seconds} s"
            self.now, _, action = heapq.heappop(self.heap)
            action()

    def at(self, when: int, action: Callable[[], None]) -> None:
        self.sequence += 1
        heapq.heappush(self.heap, (when, self.sequence, action))

    @property
    def heights(self) -> list[int]:
        return [peer.core.tip.height for peer in self.peers]

    # -- effects ----------------------------------------------------------------------------------

    def do(self, peer: Peer, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Record):
                peer.journal.append(effect.entry)
        for effect in effects:
            match effect:
                case Broadcast(message):
                    if isinstance(message, Vote) and message.voter == peer.index:
                        assert self._durable(peer, message), "a vote left before it was durable"
                    self._multicast(peer, message)
                case PublishTip(certificate):
                    self._multicast(peer, certificate)
                case Finalized(blocks, certificate):
                    self._finalized(peer, blocks, certificate)
                case AskVotes():
                    for other in self.peers:
                        if other is not peer:
                            self._ask_votes(peer, other)
                case AskBlocks(voter, first):
                    self._ask_blocks(peer, self.peers[voter], first)
                case StandingStill():
                    for op in peer.log.pool:
                        self._spread(peer.index, op)
                case Misbehaved():
                    self.evidence.append(effect)
                case Quarantined():
                    peer.quarantined = True
        self._arm(peer)

    @staticmethod
    def _durable(peer: Peer, vote: Vote) -> bool:
        return any(e == vote or (isinstance(e, Proposal) and e.vote == vote) for e in peer.journal)

    def _finalized(
        self, peer: Peer, blocks: tuple[tuple[bytes, Block], ...], certificate: Certificate
    ) -> None:
        for digest, block in blocks:
            assert self.truth.setdefault(block.height, digest) == digest, "fork"
            known = certificate if digest == certificate.statement.digest else None
            peer.chain.append((digest, block, known))
            for op in block.ops:
                peer.log.pool.pop(op, None)

    def _multicast(self, peer: Peer, message: Vote | Proposal | Certificate) -> None:
        self.sent.append((peer.index, message))
        for other in self.peers:
            if other is not peer:
                liar = peer.adversary
                for said in [message] if liar is None else liar.instead(other.index, message):
                    self.send(peer.index, other.index, said)

    def send(self, source: int, target: int, message: Vote | Proposal | Certificate) -> None:
        if self.cut(source, target) or self.random.random() < self.loss:
            return
        delay = self.random.randint(1, 10) * MS
        self.at(self.now + delay, lambda: self._deliver(target, message))

    def _spread(self, source: int, op: bytes) -> None:
        def arrive(peer: Peer) -> None:
            if peer.up and not any(op in block.ops for _, block, _ in peer.chain):
                peer.log.pool[op] = None
                self.do(peer, peer.core.tick(self.now))

        for peer in self.peers:
            if peer.index != source and not self.cut(source, peer.index):
                self.at(self.now + 3 * MS, lambda peer=peer: arrive(peer))  # type: ignore[misc]

    def _deliver(self, target: int, message: Vote | Proposal | Certificate) -> None:
        peer = self.peers[target]
        if not peer.up:
            return
        match message:
            case Vote():
                good = signature(message.voter, message.statement)
                assert message.signature == good, "the host checks votes"
                self.do(peer, peer.core.receive_vote(message, self.now))
            case Proposal():
                self.do(peer, peer.core.receive_proposal(message, self.now))
            case Certificate():
                self.do(peer, peer.core.receive_certificate(message, self.now))

    def _ask_votes(self, peer: Peer, other: Peer) -> None:
        def ask() -> None:
            if not other.up or self.cut(peer.index, other.index):
                return
            votes = other.core.votes_of(peer.index)
            tip, time_s = other.core.tip.certificate, other.core.clock.read_s(self.now)
            if other.adversary is not None:
                votes, tip = (), self.random.choice([None, tip])
                time_s = self.random.choice([0, time_s, 2**53 - 1])

            def answer() -> None:
                if peer.up and not self.cut(other.index, peer.index):
                    if tip:
                        self.do(peer, peer.core.receive_certificate(tip, self.now, live=False))
                    effects = peer.core.receive_recalled(other.index, votes, time_s, self.now)
                    self.do(peer, effects)

            self.at(self.now + 2 * MS, answer)

        self.at(self.now + 2 * MS, ask)

    def _ask_blocks(self, peer: Peer, other: Peer, first: int) -> None:
        def ask() -> None:
            if not (other.up and peer.up) or self.cut(peer.index, other.index):
                return
            links = [link for link in other.chain if link[1].height >= first][:32]
            while links and links[-1][2] is None:
                links.pop()
            if links:
                blocks, certificate = [link[1] for link in links], links[-1][2]
                assert certificate is not None
                effects = peer.core.receive_blocks(blocks, certificate, self.now, other.index)
                self.do(peer, effects)

        self.at(self.now + 5 * MS, ask)

    def _arm(self, peer: Peer) -> None:
        due = peer.core.deadline()
        if due is None or (peer.wake is not None and peer.wake <= due):
            return
        peer.wake = due

        def tick() -> None:
            if peer.wake == due:
                peer.wake = None
            if peer.up:
                self.do(peer, peer.core.tick(self.now))

        self.at(max(due, self.now + 1), tick)


def vote(voter: int, kind: StatementKind, view: int, digest: bytes = b"") -> Vote:
    statement = Statement(kind, 0, view, digest)
    return Vote(statement, voter, signature(voter, statement))
