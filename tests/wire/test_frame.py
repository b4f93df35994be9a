"""Frames are COSE_Sign1 as RFC 9052 has it, seen by an independent decoder."""

from __future__ import annotations

from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from demesh.wire.frame import (
    Binding,
    head,
    seal_statement,
    signal_frame,
    signed_bytes,
    split,
    statement_frame,
)
from demesh.wire.identity import signer
from demesh.wire.kinds import WIRE_VERSION, Kind
from vectors.make import ALICE, BINDING, BOB, KID, SIGN, STATEMENTS, kid_of

PAYLOAD = STATEMENTS[Kind.VOUCHER]


def test_a_statement_is_a_cose_sign1_that_rfc_9052_verifies() -> None:
    frame = seal_statement(Kind.VOUCHER, BINDING, KID, PAYLOAD, SIGN)
    tagged = cbor2.loads(frame)
    protected, unprotected, payload, signature = tagged.value
    assert tagged.tag == 18
    assert cbor2.loads(protected) == {1: -19, -65537: int(Kind.VOUCHER)}
    assert list(unprotected) == [4, -65538]
    assert unprotected[4] == KID
    assert list(unprotected[-65538]) == [WIRE_VERSION, BINDING.mesh_id[:4]]
    assert payload == PAYLOAD
    aad = cbor2.dumps([BINDING.mesh_id, BINDING.generation])
    structure = cbor2.dumps(["Signature1", protected, aad, payload])
    VerifyKey(bytes(ALICE.verify_key)).verify(structure, signature)
    assert structure == signed_bytes(Kind.VOUCHER, BINDING, PAYLOAD)


def test_a_signal_carries_sender_and_sequence_under_its_signature() -> None:
    frame = signal_frame(Kind.READING, BINDING, KID, 7, 300, PAYLOAD, SIGN)
    protected, unprotected, payload, signature = cbor2.loads(frame).value
    assert cbor2.loads(protected) == {1: -19, 4: KID, -65537: [int(Kind.READING), 7, 300]}
    assert list(unprotected) == [-65538]
    assert list(unprotected[-65538]) == [WIRE_VERSION, BINDING.mesh_id[:4]]
    aad = cbor2.dumps([BINDING.mesh_id, BINDING.generation])
    structure = cbor2.dumps(["Signature1", protected, aad, payload])
    VerifyKey(bytes(ALICE.verify_key)).verify(structure, signature)


def test_frames_are_deterministic_cbor() -> None:
    for frame in (
        seal_statement(Kind.VOUCHER, BINDING, KID, PAYLOAD, SIGN),
        signal_frame(Kind.READING, BINDING, KID, 2**40, 2**63, PAYLOAD, SIGN),
    ):
        assert cbor2.dumps(cbor2.loads(frame), canonical=True) == frame


def test_all_signers_of_a_statement_sign_the_same_bytes() -> None:
    seen: list[bytes] = []
    for key in (ALICE, BOB):

        def record(message: bytes) -> bytes:
            seen.append(message)
            return bytes(64)

        seal_statement(Kind.VOTE, BINDING, kid_of(key), PAYLOAD, record)
    assert seen[0] == seen[1] == signed_bytes(Kind.VOTE, BINDING, PAYLOAD)


@given(st.binary(max_size=1500), st.sampled_from([0, 1, 23, 24, 255, 256, 65536, 2**32]))
def test_split_gives_back_what_was_put_together(payload: bytes, version: int) -> None:
    signature = bytes(range(64))
    binding = replace(BINDING, version=version)
    frame = statement_frame(Kind.OP, binding, KID, payload, signature)
    assert split(frame) == (KID, payload, signature)


@given(st.integers(0, 7), st.integers(0, 2**64 - 1))
def test_a_head_is_as_short_as_can_be(major: int, argument: int) -> None:
    if major <= 1:
        assert head(major, argument) == cbor2.dumps(argument if major == 0 else -1 - argument)
    assert head(major, argument)[0] >> 5 == major
    assert len(head(major, argument)) == (
        1
        if argument < 24
        else 2
        if argument < 2**8
        else 3
        if argument < 2**16
        else 5
        if argument < 2**32
        else 9
    )


def test_signatures_differ_by_mesh_generation_and_kind() -> None:
    other = Binding(bytes(32), BINDING.generation)
    later = Binding(BINDING.mesh_id, BINDING.generation + 1)
    signed = {
        signed_bytes(kind, binding, PAYLOAD)
        for kind in (Kind.VOTE, Kind.OP)
        for binding in (BINDING, other, later)
    }
    assert len(signed) == 6


def test_a_binding_needs_a_whole_mesh_id() -> None:
    with pytest.raises(ValueError, match="32 bytes, got 31"):
        Binding(bytes(31), 0)
    with pytest.raises(ValueError, match="generation"):
        Binding(bytes(32), -1)


def test_our_own_oversized_or_misfiled_frame_is_an_assertion() -> None:
    with pytest.raises(AssertionError, match="above"):
        seal_statement(Kind.VOTE, BINDING, KID, bytes(200), SIGN)
    with pytest.raises(AssertionError, match="is a signal"):
        seal_statement(Kind.ACK, BINDING, KID, PAYLOAD, signer(ALICE))
    with pytest.raises(AssertionError, match="is a statement"):
        signal_frame(Kind.VOTE, BINDING, KID, 0, 0, PAYLOAD, SIGN)
