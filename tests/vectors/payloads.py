"""Good messages of every kind: of a mesh at work, and with the least and the greatest values."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from enum import IntEnum
from typing import Any

from demesh.snapshots import id_of as chunk_id
from demesh.wire import statements
from demesh.wire.identity import certify_device
from demesh.wire.kinds import Kind
from demesh.wire.messages import MESSAGE_OF_KIND, Blocks, Chunk, Leap, Recall, Recalled, Seek, Want
from demesh.wire.offers import Accept, Ack, Card, Offer, Refusal, Refuse, Tariff, Tier
from demesh.wire.opbodies import OP_BODIES, CapLane, Claim, Close, Op, OpType, Settle, Transfer
from demesh.wire.readings import Cap, End, EndReason, Reading, Voucher, Why
from demesh.wire.schema import Bounds, encode, plain_hint, tails_of
from demesh_consensus import Block, Certificate, Proposal, Statement, StatementKind, Vote
from vectors.street import BEGINS_S, Street, id_of, key

ID = bytes(range(16))
DIGEST = bytes(range(32))
NONCE = bytes(range(8))

Good = dict[Kind, list[tuple[str, bytes]]]
"""Of every kind: what it is, and the payload. The first one of a kind has no name of its own."""

OFFER = Offer(
    1,
    "energy",
    Tariff("Wh", 1000, 0, None, (Tier(1000, 3, 10), Tier(None, 1, 4))),
    3600,
    8000,
    1000,
    2000,
    2000,
)
CAPPED = Offer(2, "energy", Tariff("Wh", 0, 100, 5_000, (Tier(None, 1, 4),)), 1, 1, 60_000, 1, 1)


def good(street: Street) -> Good:
    """Every good payload."""
    found = {kind: list[tuple[str, bytes]]() for kind in Kind}
    for made in (_statements(street), _ledger(street), _consensus(street), _market(), _extremes()):
        for kind, rows in made.items():
            found[kind] += rows
    assert all(rows and not rows[0][0] for rows in found.values()), "a kind without a plain vector"
    return found


def _statements(street: Street) -> Good:
    founders = street.founders
    says, certify = street.says, street.certify
    first, second, (lower, upper) = street.first, street.second, street.fillers
    notarize, nullify, finalize = StatementKind
    skipped = certify(founders, says(nullify, 2))
    said = [
        ("", Statement(notarize, 0, 42, DIGEST, street.rules_version)),
        ("NULLIFY", says(nullify, 2)),
        ("FINALIZE", says(finalize, upper.view, upper)),
        ("the least", Statement(notarize, 0, 0, bytes(32), 0)),
        ("the greatest", Statement(finalize, 2**32 - 1, 2**64 - 1, b"\xff" * 32, 2**32 - 1)),
        ("the greatest without a digest", Statement(nullify, 2**32 - 1, 2**64 - 1, b"", 2**32 - 1)),
    ]
    last = Statement(finalize, 2**32 - 1, 2**64 - 1, b"\xff" * 32, 2**32 - 1)
    certificates = [
        ("", certify(founders, says(notarize, first.view, first))),
        ("NULLIFY by the first ten voters", certify(founders, says(nullify, 2), range(10))),
        ("FINALIZE of the filler of a trail", street.closed[0]),
        ("one signature", Certificate(says(nullify, 1), ((0, bytes(64)),))),
        ("voter 127 alone", Certificate(says(nullify, 1), ((127, b"\xff" * 64),))),
        (
            "128 voters and the greatest values",
            Certificate(last, tuple((voter, bytes(64)) for voter in range(128))),
        ),
    ]
    notarized = [certify(founders, says(notarize, one.view, one)) for one in (first, second)]
    greatest = Block(
        *(2**32 - 1, 2**64 - 1, 2**64 - 1, b"\xff" * 32, 2**53 - 1, 2**53 - 1),
        street.closing.ops,
        b"\xff" * 32,
        closing=True,
    )
    least = Block(0, 0, 0, bytes(32), 0, 0, (), bytes(32), closing=False)
    proposals = [
        ("", street.propose(second, notarized[0], skipped)),
        ("on the tip with which the epoch began", street.propose(first)),
        ("a block that closes the epoch", street.propose(street.closing, notarized[1])),
        ("a filler", street.propose(lower)),
        ("the least", Proposal(least, (), Vote(Statement(notarize, 0, 0, b"", 0), 0, bytes(64)))),
        (
            "the greatest",
            Proposal(greatest, (certificates[-1][1],), Vote(last, 2**32 - 1, b"\xff" * 64)),
        ),
    ]
    return {
        Kind.VOTE: [(name, statements.encode_statement(one)) for name, one in said],
        Kind.CERTIFICATE: [(n, statements.encode_certificate(one)) for n, one in certificates],
        Kind.PROPOSAL: [(name, statements.encode_proposal(one)) for name, one in proposals],
    }


def _ledger(street: Street) -> Good:
    """The ops of the chain, and vouchers."""
    _, second, closing = street.first, street.second, street.closing
    frames = [*street.first.ops, *second.ops, *closing.ops]
    payloads = {name: street.payload(frame) for name, frame in zip(_OPS, frames, strict=True)}
    plain = Op(OpType.TRANSFER, NONCE, BEGINS_S, encode(Transfer(ID, 250_000)))
    unused = Op(OpType.CLOSE, NONCE, BEGINS_S, encode(Close(street.channel, b"")))
    ops = [("", encode(plain)), *payloads.items(), ("CLOSE without a voucher", encode(unused))]
    for type_, cls in OP_BODIES.items():
        for name, greatest in EXTREMES:
            most, lane = (2**53 - 1, 255) if greatest else (0, 0)
            body: object
            if cls is Claim:
                body = Claim(street.voucher(most, lane))
            elif cls in (Close, Settle):
                body = cls(bytes(16), street.voucher(most, lane))
            elif cls is CapLane:
                body = CapLane(street.cap(most, lane))
            else:
                body = extreme(cls, greatest)
            time_s = 2**53 - 1 if greatest else 0
            ops.append((f"{type_.name} of {name}", encode(Op(type_, NONCE, time_s, encode(body)))))
    return {
        Kind.OP: ops,
        Kind.VOUCHER: [("", encode(Voucher(ID, 0, 1_234_567)))],
        Kind.CAP: [("", encode(Cap(ID, 0, 1_234_000)))],
    }


_OPS = ("OPEN", "TRANSFER", "CLAIM", "CLAIM on lane 63", "CLOSE", "MEMBER")


def _consensus(street: Street) -> Good:
    """Questions and answers between nodes, true to the chain."""
    first, second, closing, fourth = street.first, street.second, street.closing, street.fourth
    checkpoint, chunks = street.snapshot
    notarize, nullify, finalize = StatementKind
    own = [
        street.says(notarize, 3, second),
        street.says(nullify, 2),
        street.says(finalize, 1, first),
    ]
    votes = tuple(
        statements.vote_frame(
            street.vote(street.founders, 0, said), street.binding, id_of("alice's votes")
        )
        for said in own
    )
    tip = street.certify(street.founders, street.says(finalize, 1, first))
    blocks = tuple(statements.encode_block(one) for one in (first, second, closing))
    later = (statements.encode_block(fourth),)
    rows: dict[Kind, list[tuple[str, object]]] = {
        Kind.RECALL: [("", Recall(NONCE))],
        Kind.RECALLED: [
            ("", Recalled(NONCE, votes, statements.encode_certificate(tip), 0, BEGINS_S + 12)),
            ("nothing held, at genesis", Recalled(NONCE, (), b"", 0, BEGINS_S)),
        ],
        Kind.WANT: [("", Want(17, 2))],
        Kind.BLOCKS: [
            ("", Blocks(later, street.final(fourth))),
            (
                "an epoch that ends with a trail",
                Blocks(blocks, statements.encode_final(*street.closed)),
            ),
        ],
        Kind.LEAP: [
            ("", Leap((encode(street.link),), checkpoint)),
            ("without a checkpoint", Leap((encode(street.link),), b"")),
            ("without a hand-over", Leap((), checkpoint)),
        ],
        Kind.SEEK: [("", Seek(chunk_id(chunks[0])))],
        Kind.CHUNK: [("", Chunk(chunks[0]))],
    }
    return {kind: [(name, encode(one)) for name, one in listed] for kind, listed in rows.items()}


def _market() -> Good:
    """What devices say to one another, and a card."""
    paper = certify_device(
        key("owner"), "cellar", "battery", _public("alice"), _public("alice's votes")
    )
    rows: dict[Kind, list[tuple[str, object]]] = {
        Kind.CARD: [
            ("", Card(7, 2, paper, (OFFER,))),
            ("two offers", Card(7, 3, paper, (OFFER, CAPPED))),
        ],
        Kind.ACCEPT: [("", Accept(NONCE, OFFER, 2000, 5000, 2_000_000, 3600))],
        Kind.ACK: [("", Ack(ID))],
        Kind.REFUSE: [("", Refuse(ID, Refusal.BUSY)), *_each(Refusal, lambda one: Refuse(ID, one))],
        Kind.READING: [
            ("", Reading(ID, ID, 3, Why.QUOTA, BEGINS_S, 100_000, 100_012, 4600, DIGEST)),
            ("BEGIN", Reading(ID, ID, 1, Why.BEGIN, BEGINS_S, 100_000, 100_000, 0, bytes(32))),
            *_each(
                Why,
                lambda one: Reading(ID, ID, 1_003, one, BEGINS_S, 7, 9, 3, DIGEST),
                (Why.FINAL, Why.RESYNC),
            ),
        ],
        Kind.END: [
            ("", End(ID, EndReason.DONE, 12)),
            *_each(EndReason, lambda one: End(ID, one, 0)),
        ],
    }
    return {kind: [(name, encode(one)) for name, one in listed] for kind, listed in rows.items()}


def _each(
    enum: type[IntEnum], make: Callable[[Any], object], chosen: Iterable[Any] = ()
) -> list[tuple[str, object]]:
    return [(one.name, make(one)) for one in chosen or enum]


def _public(name: str) -> bytes:
    return bytes(key(name).verify_key)


# -- the least and the greatest -------------------------------------------------------------------

EXTREMES = (("the least values", False), ("the greatest values", True))

# Byte strings that hold something encoded: whatever is in them must be true, so they stay as above.
_NESTED = (Kind.OP, Kind.RECALLED, Kind.BLOCKS, Kind.LEAP, Kind.CHUNK)


def _extremes() -> Good:
    return {
        kind: [(name, encode(extreme(cls, greatest))) for name, greatest in EXTREMES]
        for kind, cls in MESSAGE_OF_KIND.items()
        if kind not in _NESTED
    } | {
        Kind.RECALLED: [
            (name, encode(Recalled(NONCE, (), b"", *numbers)))
            for (name, _), numbers in zip(EXTREMES, ((0, 0), (2**32 - 1, 2**53 - 1)), strict=True)
        ]
    }


def extreme(cls: type, greatest: bool) -> Any:
    """A message of the least or the greatest values and texts; of arrays one item, if allowed.

    The least has nothing of what came later.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    listed = fields(cls)[: None if greatest else len(fields(cls)) - len(tails_of(cls))]
    return cls(*(_extreme(hints[field.name], greatest) for field in listed))


def _extreme(hint: Any, greatest: bool) -> Any:
    hint, found = plain_hint(hint)
    bounds = found or Bounds(0, 1)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return _extreme(typing.get_args(hint)[0], greatest) if greatest else None
    if typing.get_origin(hint) is tuple:
        item, *_ = typing.get_args(hint)
        return (_extreme(item, greatest),) * max(bounds.least, int(greatest))
    if is_dataclass(hint):
        return extreme(typing.cast(type, hint), greatest)
    if issubclass(hint, IntEnum):
        return list(hint)[-1 if greatest else 0]
    if hint is bool:
        return greatest
    if hint is int:
        return bounds.greatest if greatest else bounds.least
    if hint is str:
        return "\N{SNOWMAN}".ljust(bounds.greatest, "z") if greatest else "a" * bounds.least
    return (b"\xff" if greatest else b"\x00") * (bounds.greatest if greatest else bounds.least)
