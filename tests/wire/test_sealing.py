"""Sealed frames: for one peer, by one sender, in one mesh; anything else is told apart."""

from __future__ import annotations

from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.wire.kinds import FRAME_BYTES_MAX, Reject
from demesh.wire.sealing import SEALED_BYTES_MAX, Sealer
from vectors.make import ALICE, BINDING, BOB, ELSEWHERE, KID, STRANGER, flipped

A, B, S = (bytes(key.verify_key) for key in (ALICE, BOB, STRANGER))
FRAME = b"any frame"


def sealers() -> tuple[Sealer, Sealer]:
    return Sealer(ALICE, BINDING, 7), Sealer(BOB, BINDING, 3)


@given(st.binary(max_size=FRAME_BYTES_MAX))
def test_what_is_sealed_for_a_peer_is_opened_by_it(frame: bytes) -> None:
    alice, bob = sealers()
    sealed = alice.seal(B, frame)
    assert bob.open(A, sealed) == frame
    assert len(sealed) <= SEALED_BYTES_MAX


def test_the_envelope_is_a_cose_encrypt0_in_deterministic_cbor() -> None:
    alice, _ = sealers()
    sealed = alice.seal(B, FRAME)
    tagged = cbor2.loads(sealed)
    protected, headers, box = tagged.value
    assert (tagged.tag, protected) == (16, b"")
    assert headers[1] == -65539 and headers[4] == KID and len(headers[5]) == 24
    assert list(headers[-65538]) == [2, BINDING.tag]
    assert FRAME not in sealed and len(box) == len(FRAME) + 16
    assert cbor2.dumps(tagged, canonical=True) == sealed


def test_no_nonce_is_used_twice_by_anybody() -> None:
    alice, bob = sealers()
    said = [alice.seal(B, FRAME) for _ in range(50)] + [bob.seal(A, FRAME) for _ in range(50)]
    said += [Sealer(ALICE, BINDING, 8).seal(B, FRAME) for _ in range(2)]
    nonces = [cbor2.loads(one).value[1][5] for one in said]
    assert len(set(nonces)) == 101  # the last two are of the same boot and count


def test_counters_that_begin_anew_do_not_repeat_a_nonce() -> None:
    """A data folder that was put back, or the same keys in a mesh that is founded anew."""
    anew = replace(BINDING, generation=BINDING.generation + 1)
    said = [
        Sealer(ALICE, BINDING, 7).seal(B, FRAME),
        Sealer(ALICE, BINDING, 7).seal(B, b"another frame"),
        Sealer(ALICE, anew, 7).seal(B, FRAME),
        Sealer(ALICE, ELSEWHERE, 7).seal(B, FRAME),
    ]
    assert len({cbor2.loads(one).value[1][5] for one in said}) == 4


def test_the_same_boot_and_count_seal_the_same_bytes() -> None:
    assert sealers()[0].seal(B, FRAME) == sealers()[0].seal(B, FRAME)


def test_every_bit_counts() -> None:
    alice, bob = sealers()
    sealed = alice.seal(B, FRAME)
    for at in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[at] ^= 1 << bit
            assert isinstance(bob.open(A, bytes(changed)), Reject)


def test_every_length_but_the_right_one_is_rejected() -> None:
    alice, bob = sealers()
    sealed = alice.seal(B, FRAME)
    for size in range(len(sealed)):
        assert isinstance(bob.open(A, sealed[:size]), Reject)
    assert bob.open(A, sealed + b"\0") is Reject.SEAL


@pytest.mark.parametrize(
    ("peer", "sealed", "code"),
    [
        (A, b"", Reject.SIZE),
        (A, bytes(SEALED_BYTES_MAX + 1), Reject.SIZE),
        (A, FRAME, Reject.SEAL),
        (S, sealers()[0].seal(B, FRAME), Reject.SEAL),
        (A, sealers()[0].seal(S, FRAME), Reject.SEAL),
        (A, Sealer(STRANGER, BINDING, 1).seal(B, FRAME), Reject.SEAL),
        (B, sealers()[1].seal(A, FRAME), Reject.SEAL),
        (A, Sealer(ALICE, ELSEWHERE, 7).seal(B, FRAME), Reject.MESH),
        (A, Sealer(ALICE, replace(BINDING, version=1), 7).seal(B, FRAME), Reject.VERSION),
        (A, Sealer(ALICE, replace(BINDING, version=3), 7).seal(B, FRAME), Reject.VERSION),
        (A, Sealer(ALICE, replace(BINDING, version=300), 7).seal(B, FRAME), Reject.VERSION),
        (A, flipped(sealers()[0].seal(B, FRAME), -1), Reject.SEAL),
    ],
    ids=[
        "empty", "too long", "not sealed", "another publisher", "for another", "by another",
        "my own", "another mesh", "before sealing", "the next version", "a far version", "forged",
    ],
)  # fmt: skip
def test_what_is_not_for_us_by_the_publisher_is_told_apart(
    peer: bytes, sealed: bytes, code: Reject
) -> None:
    assert sealers()[1].open(peer, sealed) is code


def test_shared_keys_are_remembered_for_so_many_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demesh.wire.sealing.BOXES_MAX", 1)
    alice, bob = sealers()
    for peer in (B, S, B, S):
        alice.seal(peer, FRAME)
    assert len(alice._boxes) == 1
    assert bob.open(A, alice.seal(B, FRAME)) == FRAME
