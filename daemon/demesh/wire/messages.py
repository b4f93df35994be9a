"""Every message that crosses the wire, as the payload of its frame (docs/protocol.md).

Amounts are micro-credits, units are watt-hours, times are mesh time in seconds, unless said
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from demesh.wire.kinds import Kind
from demesh.wire.schema import (
    U8,
    U32,
    U53,
    U64,
    Bounds,
    Digest,
    Id,
    Name,
    Nonce,
    PublicKey,
    Signature,
    Signed53,
)

# -- identity -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceCertificate:
    """An owner's word that a device is theirs; signed by the owner's key."""

    name: Name
    device_class: Name
    owner: Id
    device_key: PublicKey
    vote_key: PublicKey
    signature: Signature


# -- market ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tier:
    """`price / per` micro-credits a unit up to `upto` cumulative units (None: without end)."""

    upto: U53 | None
    price: U53
    per: Annotated[int, Bounds(1, 2**32)]


@dataclass(frozen=True, slots=True)
class Tariff:
    """cost(U) = clamp(start + sum of tiers, least if any units, most); see metering/tariff.py."""

    unit: Name
    start: U53
    least: U53
    most: U53 | None
    tiers: Annotated[tuple[Tier, ...], Bounds(1, 8)]


@dataclass(frozen=True, slots=True)
class Split:
    """`ppm` millionths of what a channel pays go to `account`."""

    account: Id
    ppm: U32


@dataclass(frozen=True, slots=True)
class Offer:
    """What a provider sells. `lead` bounds the payer's risk, `lag` the payee's."""

    revision: U32
    service: Name
    tariff: Tariff
    power_w_max: U32
    units_max: U53
    quantum_ms: U32
    lead: U53
    lag: U53


@dataclass(frozen=True, slots=True)
class Card:
    """A device's register (boot, revision): who it is, what it offers now. The greatest wins."""

    boot: U64
    revision: U32
    certificate: DeviceCertificate
    offers: Annotated[tuple[Offer, ...], Bounds(0, 8)]


@dataclass(frozen=True, slots=True)
class Accept:
    """A payer takes an offer. The agreement's id is the hash of this message and both parties."""

    nonce: Nonce
    offer: Offer
    power_w: U32
    units_max: U53
    escrow: U53
    duration_s: U32


@dataclass(frozen=True, slots=True)
class Ack:
    """The provider agrees; the payer may open the channel."""

    agreement: Id


class Refusal(IntEnum):
    """Why an accept was refused."""

    OFFER_GONE = 1
    BUSY = 2
    EMPTY = 3
    TERMS = 4
    UNKNOWN = 5  # no such agreement: the other side lost it or it has ended


@dataclass(frozen=True, slots=True)
class Refuse:
    """The explicit no."""

    agreement: Id
    reason: Refusal


# -- metering -------------------------------------------------------------------------------------


class Why(IntEnum):
    """Why a reading was taken."""

    BEGIN = 1
    QUOTA = 2
    FINAL = 3
    RESYNC = 4


@dataclass(frozen=True, slots=True)
class Reading:
    """The provider's register: begin, now, and the total it asks a voucher for (`need`)."""

    agreement: Id
    channel: Id
    page: U32
    why: Why
    time_s: U53
    begin: U53
    register: U53
    need: U53
    previous: Digest


@dataclass(frozen=True, slots=True)
class Voucher:
    """The payer's promise: `cum` micro-credits in total on this lane of the channel."""

    channel: Id
    lane: U8
    cum: U53


class EndReason(IntEnum):
    """Why a session ended."""

    DONE = 1
    UNPAID = 2
    EMPTY = 3
    ESCROW = 4
    EXPIRY = 5
    STOPPING = 6
    DISPUTE = 7


@dataclass(frozen=True, slots=True)
class End:
    """Either side ends the session; units are the sender's own count."""

    agreement: Id
    reason: EndReason
    units: U53


# -- ops ------------------------------------------------------------------------------------------
# An op is [type, nonce, valid_until, fields]; its id is the BLAKE2b-256 of signer and payload, so
# that neither another signature nor another envelope makes it a second op.


class OpType(IntEnum):
    """What an op does."""

    TRANSFER = 1
    OPEN = 2
    CLAIM = 3
    CLOSE = 4
    MEMBER = 5


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
    """Anyone: record the payer's voucher (its whole frame)."""

    voucher: Annotated[bytes, Bounds(1, 256)]


@dataclass(frozen=True, slots=True)
class Close:
    """The payee closes at once, the payer after the window; a voucher frame may ride along."""

    channel: Id
    voucher: Annotated[bytes, Bounds(0, 256)]


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
}

OpBody = Transfer | OpenChannel | Claim | Close | SetMember

# -- consensus ------------------------------------------------------------------------------------
# Statements, votes, certificates, blocks and proposals are `demesh_consensus` types;
# wire/statements.py gives their CBOR.


@dataclass(frozen=True, slots=True)
class Recall:
    """A voter after a start asks: which votes of mine do you hold? (R-CON-10)"""

    nonce: Nonce


@dataclass(frozen=True, slots=True)
class Recalled:
    """The answer: the asker's latest vote frames, the sender's tip (or empty), epoch and clock."""

    nonce: Nonce
    votes: Annotated[tuple[Annotated[bytes, Bounds(1, 192)], ...], Bounds(0, 3)]
    tip: Annotated[bytes, Bounds(0, 16_384)]
    epoch: U32
    time_s: U53


@dataclass(frozen=True, slots=True)
class Want:
    """Ask for finalized blocks from this height upwards (R-CON-12), being in this epoch."""

    first_height: U53
    epoch: U32


@dataclass(frozen=True, slots=True)
class Blocks:
    """Consecutive encoded blocks of one epoch, ascending, and what makes the last one final."""

    blocks: Annotated[tuple[Annotated[bytes, Bounds(1, 60_000)], ...], Bounds(1, 64)]
    final: Annotated[bytes, Bounds(1, 26_000)]


@dataclass(frozen=True, slots=True)
class Leap:
    """Hand-overs from the asker's epoch on; with the last of them a checkpoint, else empty."""

    hand_overs: Annotated[tuple[Annotated[bytes, Bounds(1, 49_152)], ...], Bounds(0, 256)]
    checkpoint: Annotated[bytes, Bounds(0, 60_000)]


@dataclass(frozen=True, slots=True)
class Seek:
    """Ask for a chunk of a checkpoint by its id."""

    chunk: Digest


@dataclass(frozen=True, slots=True)
class Chunk:
    """The chunk that was asked for."""

    content: Annotated[bytes, Bounds(1, 32_768)]


# -- genesis --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GenesisAccount:
    """An account at height 0: balance 0, with a floor (starter credit)."""

    id: Id
    owner: Id
    kind: U8
    floor: Signed53


@dataclass(frozen=True, slots=True)
class GenesisDevice:
    """A founding device and its weight in votes (0: observer)."""

    certificate: DeviceCertificate
    weight: U32


@dataclass(frozen=True, slots=True)
class GenesisBody:
    """What the founders sign; BLAKE2b-256 of its encoding is the mesh id."""

    name: Name
    generation: U32
    nonce: Nonce
    time_s: U53
    rules_version: U32
    owners: Annotated[tuple[PublicKey, ...], Bounds(1, 64)]
    owner_names: Annotated[tuple[Name, ...], Bounds(1, 64)]
    devices: Annotated[tuple[GenesisDevice, ...], Bounds(1, 1024)]
    accounts: Annotated[tuple[GenesisAccount, ...], Bounds(1, 4096)]
    commons: Id
    commons_ppm: U32


@dataclass(frozen=True, slots=True)
class Genesis:
    """The body and every founding owner's signature over it, in the order of `owners`."""

    body: GenesisBody
    signatures: Annotated[tuple[Signature, ...], Bounds(1, 64)]


MESSAGE_OF_KIND: dict[Kind, type] = {
    Kind.OP: Op,
    Kind.VOUCHER: Voucher,
    Kind.CARD: Card,
    Kind.ACCEPT: Accept,
    Kind.ACK: Ack,
    Kind.REFUSE: Refuse,
    Kind.READING: Reading,
    Kind.END: End,
    Kind.RECALL: Recall,
    Kind.RECALLED: Recalled,
    Kind.WANT: Want,
    Kind.BLOCKS: Blocks,
    Kind.LEAP: Leap,
    Kind.SEEK: Seek,
    Kind.CHUNK: Chunk,
}
"""The payload class of every kind but the consensus statements."""

Signal = (
    Accept | Ack | Refuse | Reading | End | Recall | Recalled | Want | Blocks | Leap | Seek | Chunk
)
