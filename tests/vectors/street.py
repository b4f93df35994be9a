"""The mesh of the vectors: founded from names, with a chain of blocks made by the real ledger.

Every key follows from its name and Ed25519 is deterministic, so whoever reads this can make each
byte again. Epoch 0 ends with block 3, which takes in a device and is final by a filler above it;
block 1,024 has a snapshot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property

from nacl.signing import SigningKey

from demesh.application import Application
from demesh.ledger.enrolment import enrol
from demesh.ledger.ledger import Ledger
from demesh.ledger.state import AccountKind, Electorate
from demesh.light import HandOver, hand_over
from demesh.snapshots import EVERY, take
from demesh.wire import statements
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.frame import seal_statement, split
from demesh.wire.identity import (
    binding_of,
    certify_device,
    device_id,
    make_genesis,
    mesh_id,
    signer,
)
from demesh.wire.kinds import Kind
from demesh.wire.messages import Genesis, GenesisAccount, GenesisBody, GenesisDevice
from demesh.wire.offers import Split
from demesh.wire.opbodies import OP_BODIES, Claim, Close, Op, OpBody, OpenChannel, Transfer
from demesh.wire.readings import Cap, Voucher
from demesh.wire.schema import encode
from demesh.wire.validate import Validator
from demesh_consensus import (
    Block,
    Certificate,
    Franchise,
    Proposal,
    Statement,
    StatementKind,
    Vote,
    Voters,
)
from demesh_consensus.chain import filler

BEGINS_S = 1_800_000_000
GENERATION = 3
OWNERS = ("owner", "neighbour")
WEIGHTS = {
    "alice": 3,
    "bob": 2,
    "carol": 1,
    "dave": 1,
    "erin": 1,
    "frank": 1,
    "grace": 1,
    "heidi": 1,
    "ivan": 1,
    "judy": 1,
    "olivia": 0,
}
"""The founding devices; their certificates are by the two owners in turn."""
NEWCOMER = "peggy"
SIGNING = (0, 1, 2, 4, 7, 8)
"""Voters whose weight is a quorum: 9 of 13."""


def key(name: str) -> SigningKey:
    """The key of that name; for tests only, anyone can make it."""
    return SigningKey(hashlib.blake2b(name.encode(), digest_size=32).digest())


def kid_of(key: SigningKey) -> bytes:
    """The id of a key's public half."""
    return device_id(bytes(key.verify_key))


def id_of(name: str) -> bytes:
    """The id of the key of that name."""
    return kid_of(key(name))


def certificate(name: str, owner: str) -> DeviceCertificate:
    """Of a device by that name; its vote key goes by the name and "'s votes"."""
    device, vote = key(name), key(f"{name}'s votes")
    return certify_device(
        key(owner), name, "battery", bytes(device.verify_key), bytes(vote.verify_key)
    )


def found(rules_version: int) -> Genesis:
    """Eleven devices of two owners, each with credit, and a commons."""
    commons = id_of("commons")
    devices = tuple(
        GenesisDevice(certificate(name, OWNERS[place % 2]), weight)
        for place, (name, weight) in enumerate(WEIGHTS.items())
    )
    accounts = [GenesisAccount(id_of(one), id_of(one), AccountKind.OWNER, 0) for one in OWNERS]
    accounts += [
        GenesisAccount(
            id_of(one.certificate.name), one.certificate.owner, AccountKind.DEVICE, -10_000_000
        )
        for one in devices
    ]
    body = GenesisBody(
        name="vectors",
        generation=GENERATION,
        nonce=bytes(range(8)),
        time_s=BEGINS_S,
        rules_version=rules_version,
        owners=tuple(bytes(key(one).verify_key) for one in OWNERS),
        owner_names=OWNERS,
        devices=devices,
        accounts=(*accounts, GenesisAccount(commons, commons, AccountKind.COMMONS, 0)),
        commons=commons,
        commons_ppm=10_000,
    )
    return make_genesis(body, [signer(key(one)) for one in OWNERS])


def founding_keys() -> tuple[SigningKey, ...]:
    """Of the owners, and of every device two."""
    names = (one for name in WEIGHTS for one in (name, f"{name}'s votes"))
    return tuple(key(name) for name in (*OWNERS, *names))


class Street:
    """The genesis and what became of it, block by block."""

    def __init__(self, rules_version: int) -> None:
        self.genesis = found(rules_version)
        body = self.genesis.body
        self.rules_version = rules_version
        self.binding = binding_of(mesh_id(body), body)
        validator = Validator(self.binding)
        for one in founding_keys():
            validator.enrol(kid_of(one), bytes(one.verify_key))
        self._tip = self.binding.mesh_id
        self._application = Application(Ledger.genesis(body), self._tip, validator, _no_seat)
        self._handed_over = self.ledger
        self._nonces, self._height = 0, 0

    # -- signing ----------------------------------------------------------------------------------

    def statement(self, kind: Kind, name: str, message: object) -> bytes:
        """The frame of a device's or an owner's statement."""
        return seal_statement(kind, self.binding, id_of(name), encode(message), signer(key(name)))

    def op(self, name: str, body: OpBody, after_s: int = 600) -> bytes:
        """The frame of an op, valid for a time from the beginning on."""
        self._nonces += 1
        type_ = next(one for one, cls in OP_BODIES.items() if cls is type(body))
        op = Op(type_, self._nonces.to_bytes(8, "big"), BEGINS_S + after_s, encode(body))
        return self.statement(Kind.OP, name, op)

    def payload(self, frame: bytes) -> bytes:
        """Of a statement made here."""
        return split(frame)[1]

    def vote(self, electorate: Electorate, voter: int, said: Statement) -> Vote:
        """What this voter of the epoch signs."""
        names = (*WEIGHTS, NEWCOMER)
        keys = {bytes(one.verify_key): one for one in (key(f"{name}'s votes") for name in names)}
        sign = signer(keys[electorate.voters[voter].vote_key])
        return Vote(said, voter, statements.sign_statement(said, self.binding, sign))

    def certify(
        self, electorate: Electorate, said: Statement, voters: Iterable[int] = SIGNING
    ) -> Certificate:
        """The voters' signatures over one statement."""
        votes = (self.vote(electorate, voter, said) for voter in voters)
        return Certificate(said, tuple((vote.voter, vote.signature) for vote in votes))

    def says(
        self, kind: StatementKind, view: int, block: Block | None = None, epoch: int = 0
    ) -> Statement:
        """A statement about a view, and a block in it."""
        digest = b"" if block is None else statements.digest_of(block)
        return Statement(kind, epoch, view, digest, self.rules_version)

    def propose(self, block: Block, *justification: Certificate) -> Proposal:
        """The proposal of its view's leader in epoch 0."""
        said = self.says(StatementKind.NOTARIZE, block.view, block)
        seed = hashlib.blake2b(encode(self.founders), digest_size=32).digest()
        weights = tuple(one.weight for one in self.founders.voters)
        leader = Voters(0, weights, seed, self.rules_version).leader(block.view)
        return Proposal(block, justification, self.vote(self.founders, leader, said))

    # -- the chain --------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """After the last block."""
        return self._application.ledger

    def grow(self, view: int, below: Block | None, time_s: int, ops: Sequence[bytes]) -> Block:
        """The next block of the chain, executed; `below` is None where an epoch begins."""
        application, parent = self._application, self._tip
        for op in ops:
            refused = application.submit(op, time_s)
            assert refused is None, f"an op was refused: {refused!r}"
        chosen, root, closing = application.build(parent, time_s)
        assert list(chosen) == list(ops), "every op is in the block it was made for"
        epoch, height = self.ledger.electorate.epoch, self._height + 1
        parent_view = 0 if below is None else below.view
        block = Block(epoch, view, parent_view, parent, height, time_s, chosen, root, closing)
        digest = statements.digest_of(block)
        assert application.execute(block, digest), "a block that its own ledger refuses"
        application.settle(digest)
        application.prune(frozenset((digest,)))
        self._tip, self._height = digest, height
        return block

    @cached_property
    def founders(self) -> Electorate:
        """The voters of epoch 0."""
        return Ledger.genesis(self.genesis.body).electorate

    @cached_property
    def first(self) -> Block:
        """View 1: Alice opens a channel for Bob, and Bob gives Carol something."""
        splits = (Split(id_of("owner"), 50_000), Split(id_of("carol"), 1))
        expiry_s = BEGINS_S + 86_400
        opened = OpenChannel(id_of("bob"), 2_000_000, expiry_s, 3_600, bytes(range(16)), splits)
        ops = (self.op("alice", opened), self.op("bob", Transfer(id_of("carol"), 250_000)))
        return self.grow(1, None, BEGINS_S + 10, ops)

    @cached_property
    def channel(self) -> bytes:
        """The channel that the first block opened."""
        assert self.first.height == 1
        ((id, _),) = self.ledger.channels()
        return id

    def voucher(self, cum: int, lane: int = 0) -> bytes:
        """Alice's promise to Bob."""
        return self.statement(Kind.VOUCHER, "alice", Voucher(self.channel, lane, cum))

    def cap(self, cap: int, lane: int = 0) -> bytes:
        """Bob's promise to Alice."""
        return self.statement(Kind.CAP, "bob", Cap(self.channel, lane, cap))

    @cached_property
    def second(self) -> Block:
        """View 3, for view 2 was nullified: Carol brings Alice's vouchers for Bob."""
        claims = (Claim(self.voucher(1_000_000)), Claim(self.voucher(2, lane=63)))
        ops = tuple(self.op("carol", one) for one in claims)
        return self.grow(3, self.first, BEGINS_S + 12, ops)

    @cached_property
    def closing(self) -> Block:
        """View 4: Bob closes the channel, and both owners take in a device that votes."""
        below = self.second
        close = Close(self.channel, self.voucher(1_234_567))
        member = enrol(self.ledger, certificate(NEWCOMER, "neighbour"), 2, map(key, OWNERS))
        ops = (self.op("bob", close), self.op("owner", member))
        block = self.grow(4, below, BEGINS_S + 12, ops)
        assert block.closing
        self._handed_over = self.ledger
        return block

    @cached_property
    def fillers(self) -> tuple[Block, Block]:
        """Views 5 and 7, above the closing block."""
        lower = filler(5, self.closing, statements.digest_of(self.closing))
        return lower, filler(7, lower, statements.digest_of(lower))

    @cached_property
    def closed(self) -> tuple[Certificate, tuple[int, ...]]:
        """What made the closing block final: the upper filler, and the trail to it."""
        upper = self.fillers[1]
        said = self.says(StatementKind.FINALIZE, upper.view, upper)
        return self.certify(self.founders, said), tuple(one.view for one in self.fillers)

    @cached_property
    def link(self) -> HandOver:
        """From epoch 0 to epoch 1."""
        header = statements.header_of(self.closing)
        return hand_over(header, statements.encode_final(*self.closed), self._handed_over)

    def final(self, block: Block) -> bytes:
        """The Final of a block of epoch 1, signed by ten of its eleven voters."""
        said = self.says(StatementKind.FINALIZE, block.view, block, epoch=1)
        return statements.encode_final(
            self.certify(self._handed_over.electorate, said, range(1, 11)), ()
        )

    @cached_property
    def fourth(self) -> Block:
        """View 1 of epoch 1, without ops."""
        assert self.link.header.height == 3
        return self.grow(1, None, BEGINS_S + 20, ())

    @cached_property
    def snapshot(self) -> tuple[bytes, tuple[bytes, ...]]:
        """The encoded Checkpoint of block 1,024 and its chunks."""
        block = self.fourth
        while block.height < EVERY:
            block = self.grow(block.view + 1, block, block.time_s + 1, ())
        (stored,) = take(self.ledger, [block], self.final(block))
        return stored.checkpoint, tuple(content for _, content in stored.chunks)


def _no_seat(electorate: Electorate) -> Franchise:
    raise AssertionError("nobody votes here: the votes are signed by hand")
