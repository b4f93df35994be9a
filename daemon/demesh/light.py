"""Light verification: what the ledger says, for who has the genesis and trusts nobody.

Theory of operation. The genesis names the voters of epoch 0. A quorum of an epoch's voters made its
closing block final, and with it a state root; under that root lies the record of the next epoch's
voters. So one hand-over an epoch leads from the genesis to the voters of any epoch, and a
finalization by them to the root of a block, and a Merkle path to one record. Every byte of a proof
is bound by a signature or a hash: whoever hands it over can leave it out, and not change it.

What is not shown: that there is no later block, and that a record is absent.

R-LGT-1   The voters of epoch 0 follow from the genesis alone (R-LED-20). Those of epoch e + 1 are
          shown by a HandOver: the header of the block that closed e, its Final, the encoded
          Electorate of e + 1, and the Path to it in the state of that block. It holds if the block
          is of e, closing, and final by the voters of e (R-LGT-2), the path gives its state root,
          and the electorate is of the same mesh and generation and of epoch e + 1.
R-LGT-2   A block is final by the voters of its epoch if the certificate of its Final is a FINALIZE,
          of that epoch and its rules version, for just that block or, with a trail, for the last of
          the fillers that the trail's views give above it (R-CON-14); its voters exist and are
          different, every signature in it holds, and their weight is at least the quorum.
R-LGT-3   A Proof shows the record that the ledger had under a key after one block: a hand-over for
          every epoch before the block's, in order; the header of the block, final by R-LGT-2; the
          record and the path to it in the block's state. It names the mesh, which must be that of
          the genesis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from demesh.ledger.ledger import Ledger
from demesh.ledger.proof import Path, root_of
from demesh.ledger.rules import RULES_VERSIONS
from demesh.ledger.state import ELECTORATE, Electorate
from demesh.wire import identity, statements
from demesh.wire.frame import Binding
from demesh.wire.messages import GenesisBody
from demesh.wire.schema import Bounds, Digest, Malformed, decode
from demesh.wire.statements import Header
from demesh_consensus.chain import filler
from demesh_consensus.types import Block, Certificate, StatementKind, Voters

# An electorate of 128 voters takes 7.4 kB, and no other record comes near it.
_Record = Annotated[bytes, Bounds(0, 8_192)]
_Final = Annotated[bytes, Bounds(1, 26_000)]

# An epoch a day for 180 years; what is read is bounded by the size of the file.
HAND_OVERS_MAX = 65_536


@dataclass(frozen=True, slots=True)
class HandOver:
    """How an epoch ended, and who votes in the next one (R-LGT-1)."""

    header: Header
    final: _Final
    electorate: _Record
    path: Path


@dataclass(frozen=True, slots=True)
class Proof:
    """The record under a key after one block, from the genesis up (R-LGT-3)."""

    mesh_id: Digest
    hand_overs: Annotated[tuple[HandOver, ...], Bounds(0, HAND_OVERS_MAX)]
    header: Header
    final: _Final
    key: Annotated[bytes, Bounds(1, 41)]
    record: _Record
    path: Path


@dataclass(frozen=True, slots=True)
class Proved:
    """What a proof shows: a record as of a block, and which voters of the epoch signed that."""

    epoch: int
    height: int
    time_s: int
    key: bytes
    record: bytes
    electorate: Electorate
    signed: tuple[int, ...]


# -- making ---------------------------------------------------------------------------------------


def hand_over(header: Header, final: bytes, ledger: Ledger) -> HandOver:
    """Of a closing block, what makes it final, and the ledger after it."""
    found = ledger.prove(ELECTORATE)
    assert found is not None, "a ledger has voters from its genesis on"
    return HandOver(header, final, *found)


def prove(
    ledger: Ledger, header: Header, final: bytes, hand_overs: Sequence[HandOver], key: bytes
) -> Proof | None:
    """The proof of a record in the ledger after a final block; None if there is no such record.

    `hand_overs` are those of all epochs before the block's.
    """
    found = ledger.prove(key)
    if found is None:
        return None
    return Proof(ledger.electorate.mesh_id, tuple(hand_overs), header, final, key, *found)


# -- checking -------------------------------------------------------------------------------------


def verify(body: GenesisBody, proof: Proof) -> Proved:
    """What the proof shows about the mesh of this sound genesis (R-LGT-3).

    ValueError says in one line which link of it does not hold.
    """
    if proof.mesh_id != identity.mesh_id(body):
        raise ValueError(
            f"it is of mesh {proof.mesh_id.hex()[:16]}, the genesis is of mesh "
            f"{identity.mesh_id(body).hex()[:16]} ({body.name})"
        )
    electorate = Ledger.genesis(body).electorate
    for link in proof.hand_overs:
        electorate = follow(electorate, link)
    header = proof.header
    signed = signers(electorate, header, proof.final)
    if not _leads(proof.key, proof.record, proof.path, header):
        raise ValueError(f"its record is not in the state of block {header.height}")
    where = header.epoch, header.height, header.time_s
    return Proved(*where, proof.key, proof.record, electorate, signed)


def follow(electorate: Electorate, link: HandOver) -> Electorate:
    """The voters of the next epoch (R-LGT-1); ValueError if the hand-over does not hold."""
    place = f"the hand-over to epoch {electorate.epoch + 1}"
    try:
        signers(electorate, link.header, link.final)
        if not link.header.closing:
            raise ValueError(f"block {link.header.height} does not close its epoch")
        if not _leads(ELECTORATE, link.electorate, link.path, link.header):
            raise ValueError(f"its voters are not in the state of block {link.header.height}")
        after = decode(Electorate, link.electorate)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    expected = electorate.mesh_id, electorate.generation, electorate.epoch + 1
    if (after.mesh_id, after.generation, after.epoch) != expected:
        raise ValueError(f"{place}: its voters are of epoch {after.epoch} or of another mesh")
    return after


def signers(electorate: Electorate, header: Header, final: bytes) -> tuple[int, ...]:
    """The voters that made a block final (R-LGT-2); ValueError if they did not."""
    place = f"block {header.height}"
    if header.epoch != electorate.epoch:
        raise ValueError(f"{place}: it is of epoch {header.epoch}, expected {electorate.epoch}")
    if electorate.rules_version not in RULES_VERSIONS:
        raise ValueError(
            f"{place}: its rules are of version {electorate.rules_version}, this demesh knows "
            f"{max(RULES_VERSIONS)} at most; update it"
        )
    try:
        certificate, trail = statements.decode_final(final)
    except Malformed as error:
        raise ValueError(f"{place}: what makes it final cannot be read: {error}") from None
    if trail and not header.closing:
        raise ValueError(f"{place}: only above a closing block is there a trail")
    view, digest = _finalized(header, trail)
    weights = tuple(one.weight for one in electorate.voters)
    voters = Voters(electorate.epoch, weights, b"", electorate.rules_version)
    if certificate.statement != voters.statement(StatementKind.FINALIZE, view, digest):
        raise ValueError(f"{place}: the certificate is for something else")
    _check_signatures(electorate, voters, certificate, place)
    return tuple(voter for voter, _ in certificate.signatures)


def _finalized(header: Header, trail: Sequence[int]) -> tuple[int, bytes]:
    """View and digest of the block that the certificate is for: this one, or a filler above it."""
    view, digest = header.view, header.digest
    below = Block(
        header.epoch,
        header.view,
        header.parent_view,
        header.parent,
        header.height,
        header.time_s,
        (),  # a filler takes nothing from the ops below it but what the digest says
        header.state_root,
        header.closing,
    )
    for view in trail:
        below = filler(view, below, digest)
        digest = statements.digest_of(below)
    return view, digest


def _check_signatures(
    electorate: Electorate, voters: Voters, certificate: Certificate, place: str
) -> None:
    binding = Binding(electorate.mesh_id, electorate.generation)
    message = statements.statement_bytes(certificate.statement, binding)
    weight = 0
    for voter, signature in certificate.signatures:  # different: they come from a bitmap
        if voter >= len(electorate.voters):
            raise ValueError(f"{place}: signed by voter {voter} of {len(electorate.voters)}")
        elector = electorate.voters[voter]
        if not identity.signed_by(elector.vote_key, message, signature):
            raise ValueError(f"{place}: the signature of voter {voter} does not hold")
        weight += elector.weight
    if weight < voters.quorum:
        raise ValueError(
            f"{place}: signed with weight {weight}, expected {voters.quorum} of {voters.total}"
        )


def _leads(key: bytes, record: bytes, path: Path, header: Header) -> bool:
    """Does the path show the record in the state after this block?"""
    try:
        return root_of(key, record, path) == header.state_root
    except ValueError:  # a path that no such key can have
        return False
