"""Ops and what each asks of the ledger (docs/protocol.md).

An op is [type, nonce, valid_until, fields]; its id is the BLAKE2b-256 of signer and payload, so
that neither another signature nor another envelope makes it a second op. Amounts are
micro-credits, times are mesh time in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from demesh.wire.certificates import DeviceCertificate
from demesh.wire.offers import Split
from demesh.wire.schema import TAIL, U32, U53, Bounds, Id, Nonce, Signature, Signed53


class OpType(IntEnum):
    """What an op does."""

    TRANSFER = 1
    OPEN = 2
    CLAIM = 3
    CLOSE = 4
    MEMBER = 5
    TOP_UP = 6
    EXTEND = 7
    SETTLE = 8
    CAP = 9
    ALLOT = 10
    GUARANTEE = 15
    RELEASE = 16
    CALL = 17


@dataclass(frozen=True, slots=True)
class Transfer:
    """Move `amount` from the signer's account."""

    to: Id
    amount: U53


@dataclass(frozen=True, slots=True)
class OpenChannel:
    """The signer escrows for `payee`. The channel's id is the first 16 bytes of the op's id."""

    payee: Id
    escrow: U53
    expiry_s: U53
    window_s: U32
    agreement: Id
    splits: Annotated[tuple[Split, ...], Bounds(0, 4)]


@dataclass(frozen=True, slots=True)
class Claim:
    """Anyone: record the payer's voucher (its whole frame), and the link that is `count` on."""

    voucher: Annotated[bytes, Bounds(1, 256)]
    count: Annotated[int, Bounds(0, 4096), TAIL] = 0
    link: Annotated[bytes, Bounds(0, 16), TAIL] = b""


@dataclass(frozen=True, slots=True)
class Close:
    """The payee closes at once, the payer after the window; a voucher frame may ride along."""

    channel: Id
    voucher: Annotated[bytes, Bounds(0, 256)]
    count: Annotated[int, Bounds(0, 4096), TAIL] = 0
    link: Annotated[bytes, Bounds(0, 16), TAIL] = b""


@dataclass(frozen=True, slots=True)
class Approval:
    """An owner's signature over a device's membership (wire/identity.py makes and checks it)."""

    owner: Id
    signature: Signature


@dataclass(frozen=True, slots=True)
class SetMember:
    """Anyone: what a device is in the mesh from now on, approved by owners; weight 0 observes."""

    certificate: DeviceCertificate
    weight: U32
    serial: U32
    approvals: Annotated[tuple[Approval, ...], Bounds(1, 64)]


@dataclass(frozen=True, slots=True)
class TopUp:
    """The payer adds `amount` to the escrow."""

    channel: Id
    amount: U53


@dataclass(frozen=True, slots=True)
class Extend:
    """The payer moves the expiry to a later time."""

    channel: Id
    expiry_s: U53


@dataclass(frozen=True, slots=True)
class Settle:
    """The payee has what was claimed so far paid out; a voucher frame may ride along."""

    channel: Id
    voucher: Annotated[bytes, Bounds(0, 256)]
    count: Annotated[int, Bounds(0, 4096), TAIL] = 0
    link: Annotated[bytes, Bounds(0, 16), TAIL] = b""


@dataclass(frozen=True, slots=True)
class CapLane:
    """Anyone: record the payee's cap (its whole frame)."""

    cap: Annotated[bytes, Bounds(1, 256)]


@dataclass(frozen=True, slots=True)
class Allot:
    """The signer gives `amount` of its credit to an account of its own; below 0 takes it back."""

    to: Id
    amount: Signed53


@dataclass(frozen=True, slots=True)
class Guarantee:
    """The signer answers with `amount` of its own money for what `taker` owes."""

    taker: Id
    amount: U53


@dataclass(frozen=True, slots=True)
class Release:
    """The signer has `amount` of its guarantee for `taker` back."""

    taker: Id
    amount: U53


@dataclass(frozen=True, slots=True)
class Call:
    """The signer pays `amount` of what `taker` owes out of its guarantee."""

    taker: Id
    amount: U53


# A frame of 4,096 bytes less its envelope. The longest op that must fit is a MEMBER op with the
# approvals of 33 of 64 owners and the longest names: 3,455 bytes.
OP_FIELDS_BYTES_MAX = 3_840


@dataclass(frozen=True, slots=True)
class Op:
    """The payload of an OP frame. `fields` is the encoded body for `type`."""

    type: OpType
    nonce: Nonce
    valid_until_s: U53
    fields: Annotated[bytes, Bounds(0, OP_FIELDS_BYTES_MAX)]


OP_BODIES: dict[OpType, type] = {
    OpType.TRANSFER: Transfer,
    OpType.OPEN: OpenChannel,
    OpType.CLAIM: Claim,
    OpType.CLOSE: Close,
    OpType.MEMBER: SetMember,
    OpType.TOP_UP: TopUp,
    OpType.EXTEND: Extend,
    OpType.SETTLE: Settle,
    OpType.CAP: CapLane,
    OpType.ALLOT: Allot,
    OpType.GUARANTEE: Guarantee,
    OpType.RELEASE: Release,
    OpType.CALL: Call,
}

OpBody = (
    Transfer
    | OpenChannel
    | Claim
    | Close
    | SetMember
    | TopUp
    | Extend
    | Settle
    | CapLane
    | Allot
    | Guarantee
    | Release
    | Call
)
