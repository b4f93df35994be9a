"""What nodes say about the chain, the genesis, and which message each kind of frame carries.

Amounts are micro-credits, times are mesh time in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from demesh.wire.certificates import DeviceCertificate
from demesh.wire.kinds import Kind
from demesh.wire.offers import Accept, Ack, Card, Refuse
from demesh.wire.opbodies import Op
from demesh.wire.readings import Cap, End, Reading, Voucher
from demesh.wire.schema import (
    U8,
    U32,
    U53,
    Bounds,
    Digest,
    Id,
    Name,
    Nonce,
    PublicKey,
    Signature,
    Signed53,
)

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
    Kind.CAP: Cap,
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
