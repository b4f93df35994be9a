"""Consensus on the wire: CBOR of statements, votes, certificates, blocks, proposals (R-WIRE-11).

A vote's payload is its statement; voter and signature stand in the frame, so that the signed bytes
are the same for every voter. A certificate is a bitmap of voters and their signatures in order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated

from demesh.wire.frame import Binding, Sign, signed_bytes, statement_frame
from demesh.wire.kinds import KIND_BYTES_MAX, Kind
from demesh.wire.schema import U32, U53, U64, Bounds, Digest, Malformed, Signature, decode, encode
from demesh_consensus.types import (
    Block,
    Certificate,
    Proposal,
    Statement,
    StatementKind,
    Vote,
)

OPS_PER_BLOCK_MAX = 256
BLOCK_OPS_BYTES_MAX = 40 * 1024
"""Leaves room in a 64 KiB frame for 16 KiB of certificates and the envelope."""
TRAIL_MAX = 1024
"""A view adds to a trail only if it is notarized and then nullified: hours of it, one by one."""


@dataclass(frozen=True, slots=True)
class _Statement:
    kind: StatementKind
    epoch: U32
    view: U64
    digest: Annotated[bytes, Bounds(0, 32)]
    rules_version: U32


@dataclass(frozen=True, slots=True)
class _Certificate:
    statement: _Statement
    voters: Annotated[bytes, Bounds(1, 128)]
    signatures: Annotated[bytes, Bounds(64, 1024 * 64)]


_OpFrame = Annotated[bytes, Bounds(1, KIND_BYTES_MAX[Kind.OP])]


@dataclass(frozen=True, slots=True)
class _Block:
    epoch: U32
    view: U64
    parent_view: U64
    parent: Digest
    height: U53
    time_s: U53
    ops: Annotated[tuple[_OpFrame, ...], Bounds(0, OPS_PER_BLOCK_MAX)]
    state_root: Digest
    closing: bool


@dataclass(frozen=True, slots=True)
class Header:
    """A block without its ops, which `ops` names by their hash; its hash is the block's digest.

    So whoever checks what a block leads to need not carry what was in it.
    """

    epoch: U32
    view: U64
    parent_view: U64
    parent: Digest
    height: U53
    time_s: U53
    ops: Digest
    state_root: Digest
    closing: bool

    @property
    def digest(self) -> bytes:
        """BLAKE2b-256 of the encoded header: 32 bytes."""
        return hashlib.blake2b(encode(self), digest_size=32).digest()


Trail = Annotated[tuple[U64, ...], Bounds(0, TRAIL_MAX)]
"""Views of the empty blocks above a closing one, up to the one that is finalized (R-CON-14)."""


@dataclass(frozen=True, slots=True)
class _Final:
    certificate: _Certificate
    trail: Trail


@dataclass(frozen=True, slots=True)
class _Proposal:
    block: _Block
    justification: Annotated[tuple[_Certificate, ...], Bounds(0, 1024)]
    leader: U32
    rules_version: U32
    signature: Signature


def _statement(value: _Statement) -> Statement:
    if len(value.digest) != (0 if value.kind is StatementKind.NULLIFY else 32):
        raise Malformed("statement: a digest of 32 bytes, or none for NULLIFY")
    return Statement(value.kind, value.epoch, value.view, value.digest, value.rules_version)


def _plain_statement(value: Statement) -> _Statement:
    return _Statement(value.kind, value.epoch, value.view, value.digest, value.rules_version)


def encode_statement(statement: Statement) -> bytes:
    """Payload of a vote: what all voters sign."""
    return encode(_plain_statement(statement))


def decode_statement(payload: bytes | memoryview) -> Statement:
    """Raises Malformed."""
    return _statement(decode(_Statement, payload))


def encode_block(block: Block) -> bytes:
    """A block as it is stored and given to others."""
    return encode(_plain_block(block))


def decode_block(payload: bytes | memoryview) -> Block:
    """Raises Malformed."""
    return _block(decode(_Block, payload))


def encode_certificate(certificate: Certificate) -> bytes:
    """Payload of a certificate frame."""
    return encode(_plain_certificate(certificate))


def decode_certificate(payload: bytes | memoryview) -> Certificate:
    """Raises Malformed."""
    return _certificate(decode(_Certificate, payload))


def encode_final(certificate: Certificate, trail: tuple[int, ...]) -> bytes:
    """What is stored with the last block of a run: its finalization."""
    return encode(_Final(_plain_certificate(certificate), trail))


def decode_final(stored: bytes) -> tuple[Certificate, tuple[int, ...]]:
    """(certificate, trail); raises Malformed."""
    value = decode(_Final, stored)
    return _certificate(value.certificate), value.trail


def encode_proposal(proposal: Proposal) -> bytes:
    """Payload of a proposal frame; also its journal record."""
    return encode(
        _Proposal(
            _plain_block(proposal.block),
            tuple(_plain_certificate(c) for c in proposal.justification),
            proposal.vote.voter,
            proposal.vote.statement.rules_version,
            proposal.vote.signature,
        )
    )


def decode_proposal(payload: bytes | memoryview) -> Proposal:
    """Raises Malformed. The leader's vote is rebuilt from the block it signed."""
    value = decode(_Proposal, payload)
    block = _block(value.block)
    statement = Statement(
        StatementKind.NOTARIZE, block.epoch, block.view, digest_of(block), value.rules_version
    )
    return Proposal(
        block,
        tuple(_certificate(c) for c in value.justification),
        Vote(statement, value.leader, value.signature),
    )


def header_of(block: Block) -> Header:
    """The block's header; `ops` is the BLAKE2b-256 of their hashes, each 32 bytes, in order."""
    ops = hashlib.blake2b(digest_size=32)
    for op in block.ops:
        ops.update(hashlib.blake2b(op, digest_size=32).digest())
    return Header(
        block.epoch,
        block.view,
        block.parent_view,
        block.parent,
        block.height,
        block.time_s,
        ops.digest(),
        block.state_root,
        block.closing,
    )


def digest_of(block: Block) -> bytes:
    """The digest of the block's header: 32 bytes."""
    return header_of(block).digest


def vote_frame(vote: Vote, binding: Binding, kid: bytes) -> bytes:
    """The frame of a vote, whoever cast it: `kid` is the voter's vote key."""
    payload = encode_statement(vote.statement)
    return statement_frame(Kind.VOTE, binding, kid, payload, vote.signature)


def sign_statement(statement: Statement, binding: Binding, sign: Sign) -> bytes:
    """A vote key's signature over a statement."""
    return sign(statement_bytes(statement, binding))


def statement_bytes(statement: Statement, binding: Binding) -> bytes:
    """What a vote's signature covers."""
    return signed_bytes(Kind.VOTE, binding, encode_statement(statement))


def _plain_block(block: Block) -> _Block:
    return _Block(
        block.epoch,
        block.view,
        block.parent_view,
        block.parent,
        block.height,
        block.time_s,
        block.ops,
        block.state_root,
        block.closing,
    )


def _block(value: _Block) -> Block:
    return Block(
        value.epoch,
        value.view,
        value.parent_view,
        value.parent,
        value.height,
        value.time_s,
        value.ops,
        value.state_root,
        value.closing,
    )


def _plain_certificate(certificate: Certificate) -> _Certificate:
    bits = 0
    for voter, _ in certificate.signatures:
        bits |= 1 << voter
    statement = certificate.statement
    return _Certificate(
        _plain_statement(statement),
        bits.to_bytes((bits.bit_length() + 7) // 8, "little"),
        b"".join(signature for _, signature in certificate.signatures),
    )


def _certificate(value: _Certificate) -> Certificate:
    bits = int.from_bytes(value.voters, "little")
    voters = [voter for voter in range(bits.bit_length()) if bits >> voter & 1]
    if len(value.voters) != (bits.bit_length() + 7) // 8:
        raise Malformed("certificate: its bitmap is longer or shorter than its last voter")
    if len(value.signatures) != 64 * len(voters):
        raise Malformed("certificate: one signature of 64 bytes per voter")
    return Certificate(
        _statement(value.statement),
        tuple(
            (voter, value.signatures[64 * place : 64 * place + 64])
            for place, voter in enumerate(voters)
        ),
    )
