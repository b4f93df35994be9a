"""A small street for the ledger's tests: accounts, signed ops and real signed voucher frames."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b

from nacl.signing import SigningKey

from demesh.ledger.channels import OpenVoucher
from demesh.ledger.ledger import Ledger
from demesh.ledger.ops import SignedOp
from demesh.ledger.state import AccountKind, Result
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.frame import Binding, seal_statement
from demesh.wire.identity import approve_member, certify_device, device_id, mesh_id
from demesh.wire.kinds import Kind, Reject
from demesh.wire.messages import GenesisAccount, GenesisBody, GenesisDevice
from demesh.wire.offers import Split
from demesh.wire.opbodies import (
    Allot,
    Call,
    CapLane,
    Claim,
    Close,
    Extend,
    Guarantee,
    OpBody,
    OpenChannel,
    Release,
    SetMember,
    Settle,
    TopUp,
    Transfer,
)
from demesh.wire.payword import root_of
from demesh.wire.readings import Cap, Voucher
from demesh.wire.schema import Malformed, decode, encode
from demesh.wire.validate import Validator

BINDING = Binding(bytes(range(32)), 1)
START_S = 1_700_000_000
HOUR_S = 3_600
DAY_S = 86_400
FLOOR = -1_000_000
COMMONS_PPM = 10_000

NAMES = ("ann", "ben", "cem", "dora", "commons")
KEYS = {name: SigningKey(blake2b(name.encode(), digest_size=32).digest()) for name in NAMES}
IDS = {name: device_id(bytes(key.verify_key)) for name, key in KEYS.items()}
ANN, BEN, CEM, DORA, COMMONS = (IDS[name] for name in NAMES)
STRANGER = b"\xee" * 16
AGREEMENT = b"\xaa" * 16

OWNERS = ("ann", "ben", "cem")


def key_of(what: str) -> SigningKey:
    """A key that follows from its name."""
    return SigningKey(blake2b(what.encode(), digest_size=32).digest())


def public(what: str) -> bytes:
    return bytes(key_of(what).verify_key)


def certificate(
    device: str, owner: str, vote: str = "", name: str = "", device_class: str = "meter"
) -> DeviceCertificate:
    """A certificate by an owner of the street; its keys follow from the words, or from its name."""
    vote_key = public(vote or f"{device} votes")
    return certify_device(KEYS[owner], name or device, device_class, public(device), vote_key)


def device(name: str) -> bytes:
    """The id of the device whose key follows from this name."""
    return device_id(public(name))


FOUNDING = (("roof", "ann", 2), ("attic", "ben", 1), ("cellar", "cem", 0), ("yard", "ann", 1))
"""The founding devices, their owners and weights."""


def genesis_body(floor: int = FLOOR, commons_ppm: int = COMMONS_PPM, rules: int = 1) -> GenesisBody:
    """Three owners with four devices; four accounts with credit and a commons without."""
    accounts = [GenesisAccount(id, id, AccountKind.OWNER, floor) for id in (ANN, BEN, CEM, DORA)]
    return GenesisBody(
        name="street",
        generation=1,
        nonce=b"nonce...",
        time_s=START_S,
        rules_version=rules,
        owners=tuple(bytes(KEYS[owner].verify_key) for owner in OWNERS),
        owner_names=OWNERS,
        devices=_FOUNDING_DEVICES,
        accounts=(*accounts, GenesisAccount(COMMONS, COMMONS, AccountKind.COMMONS, 0)),
        commons=COMMONS,
        commons_ppm=commons_ppm,
    )


_FOUNDING_DEVICES = tuple(
    GenesisDevice(certificate(name, owner), weight) for name, owner, weight in FOUNDING
)


@cache
def mesh(rules: int) -> Binding:
    """What approvals are bound to in the street of these rules."""
    body = genesis_body(rules=rules)
    return Binding(mesh_id(body), body.generation)


MESH = mesh(1)


def new_validator() -> Validator:
    """A validator that knows everybody in the street."""
    validator = Validator(BINDING)
    for name, id in IDS.items():
        validator.enrol(id, bytes(KEYS[name].verify_key))
    return validator


def new_opener() -> OpenVoucher:
    """The port of `Ledger.apply` as a node implements it: checks envelope, kind and signature."""
    validator = new_validator()

    def open_voucher(frame: bytes) -> tuple[bytes, Voucher | Cap] | None:
        view = validator.check(frame)
        if isinstance(view, Reject) or view.kind not in (Kind.VOUCHER, Kind.CAP):
            return None
        try:
            return view.sender, decode(Voucher if view.kind is Kind.VOUCHER else Cap, view.payload)
        except Malformed:
            return None

    return open_voucher


open_voucher = new_opener()


def voucher_frame(payer: bytes, channel: bytes, cum: int, lane: int = 0) -> bytes:
    """A voucher signed by `payer`."""
    return statement(Kind.VOUCHER, payer, encode(Voucher(channel, lane, cum)))


def chain(channel: bytes, links: int, lane: int = 0, name: str = "chain") -> list[bytes]:
    """The root, and the links that are 1, 2, ... before it; they follow from the name."""
    way = [blake2b(name.encode(), digest_size=16).digest()]
    for _ in range(links):
        way.append(root_of(way[-1], 1, channel, lane))
    return way[::-1]


def chained_frame(
    payer: bytes, channel: bytes, cum: int, step: int, links: list[bytes], lane: int = 0
) -> bytes:
    """A voucher signed by `payer`, with all of this chain."""
    voucher = Voucher(channel, lane, cum, step, len(links) - 1, links[0])
    return statement(Kind.VOUCHER, payer, encode(voucher))


def cap_frame(payee: bytes, channel: bytes, cap: int, lane: int = 0) -> bytes:
    """A cap signed by `payee`."""
    return statement(Kind.CAP, payee, encode(Cap(channel, lane, cap)))


def statement(kind: Kind, signer: bytes, payload: bytes) -> bytes:
    name = next(name for name, id in IDS.items() if id == signer)
    return seal_statement(
        kind, BINDING, signer, payload, lambda message: KEYS[name].sign(message).signature
    )


def signed(
    signer: bytes, body: OpBody, nonce: int = 0, valid_until_s: int = START_S + HOUR_S
) -> SignedOp:
    """An op with an id that depends on all its content, as a hash of its frame does."""
    content = (
        encode(body)
        + signer
        + b"%s %d %d"
        % (
            type(body).__name__.encode(),
            nonce,
            valid_until_s,
        )
    )
    return SignedOp(blake2b(content, digest_size=32).digest(), signer, valid_until_s, body)


def transfer(payer: bytes, payee: bytes, amount: int, **options: int) -> SignedOp:
    return signed(payer, Transfer(payee, amount), **options)


def opening(
    payer: bytes,
    payee: bytes,
    escrow: int = 100_000,
    expiry_s: int = START_S + DAY_S,
    window_s: int = HOUR_S,
    splits: tuple[Split, ...] = (),
    **options: int,
) -> SignedOp:
    body = OpenChannel(payee, escrow, expiry_s, window_s, AGREEMENT, splits)
    return signed(payer, body, **options)


def claiming(
    submitter: bytes, frame: bytes, count: int = 0, link: bytes = b"", **options: int
) -> SignedOp:
    return signed(submitter, Claim(frame, count, link), **options)


def closing(
    signer: bytes,
    channel: bytes,
    frame: bytes = b"",
    count: int = 0,
    link: bytes = b"",
    **options: int,
) -> SignedOp:
    return signed(signer, Close(channel, frame, count, link), **options)


def allotting(signer: bytes, to: bytes, amount: int, **options: int) -> SignedOp:
    return signed(signer, Allot(to, amount), **options)


def guaranteeing(signer: bytes, taker: bytes, amount: int, **options: int) -> SignedOp:
    return signed(signer, Guarantee(taker, amount), **options)


def releasing(signer: bytes, taker: bytes, amount: int, **options: int) -> SignedOp:
    return signed(signer, Release(taker, amount), **options)


def calling(signer: bytes, taker: bytes, amount: int, **options: int) -> SignedOp:
    return signed(signer, Call(taker, amount), **options)


def capping(submitter: bytes, frame: bytes, **options: int) -> SignedOp:
    return signed(submitter, CapLane(frame), **options)


def settling(
    signer: bytes,
    channel: bytes,
    frame: bytes = b"",
    count: int = 0,
    link: bytes = b"",
    **options: int,
) -> SignedOp:
    return signed(signer, Settle(channel, frame, count, link), **options)


def topping_up(signer: bytes, channel: bytes, amount: int, **options: int) -> SignedOp:
    return signed(signer, TopUp(channel, amount), **options)


def extending(signer: bytes, channel: bytes, expiry_s: int, **options: int) -> SignedOp:
    return signed(signer, Extend(channel, expiry_s), **options)


def enrolling(
    held: DeviceCertificate,
    weight: int = 1,
    serial: int = 1,
    approvers: tuple[str, ...] = ("ann", "ben"),
    submitter: bytes = ANN,
    binding: Binding = MESH,
    **options: int,
) -> SignedOp:
    """A MEMBER op with the approvals of these owners."""
    approvals = [approve_member(KEYS[one], binding, held, weight, serial) for one in approvers]
    return signed(submitter, SetMember(held, weight, serial, tuple(approvals)), **options)


class Book:
    """A ledger that goes on block by block, for tests that read as a story."""

    def __init__(self, ledger: Ledger | None = None, rules: int = 1) -> None:
        self.ledger = ledger or Ledger.genesis(genesis_body(rules=rules))
        self.time_s = START_S
        self.events: tuple[object, ...] = ()
        self.closing = False

    def block(self, *ops: SignedOp, after_s: int = 1) -> tuple[Result, ...]:
        """Apply a block `after_s` seconds after the last one; its results."""
        self.time_s += after_s
        applied = self.ledger.apply(ops, self.time_s, open_voucher)
        self.ledger = applied.ledger
        self.events, self.closing = applied.events, applied.closing
        return applied.results

    def open(self, op: SignedOp) -> bytes:
        """Open a channel that must open; its id."""
        assert self.block(op) == (Result.OK,)
        return op.id[:16]

    def balance(self, id: bytes) -> int:
        account = self.ledger.account(id)
        assert account is not None
        return account.balance
