"""What a validator promises beyond its vectors: order of checks, window, cache, enrolment."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest

from demesh.wire import _reference
from demesh.wire.frame import seal_statement, signed_bytes, statement_frame
from demesh.wire.identity import signer
from demesh.wire.kinds import FRAME_BYTES_MAX, Kind, Reject
from vectors.make import (
    ALICE,
    BINDING,
    BOB,
    ELSEWHERE,
    KID,
    SIGN,
    SIGNALS,
    STATEMENTS,
    STRANGER,
    flipped,
    kid_of,
    rewritten,
    signal,
    statement,
)

PUBLIC = bytes(ALICE.verify_key)
VOUCHER = statement(Kind.VOUCHER, STATEMENTS[Kind.VOUCHER])
ACK = signal(Kind.ACK, SIGNALS[Kind.ACK], 5, 9)


@pytest.fixture
def validator(mode: Any) -> Any:
    one = mode.Validator(BINDING)
    one.enrol(KID, PUBLIC)
    return one


def test_a_view_has_the_fields_of_the_frame(validator: Any) -> None:
    view = validator.check(ACK)
    assert (view.kind, view.sender, view.boot, view.seq) == (Kind.ACK, KID, 5, 9)
    assert view.kind is Kind.ACK
    assert view.payload == SIGNALS[Kind.ACK]
    assert view.payload.readonly
    assert view.payload.obj is ACK
    with pytest.raises(AttributeError):
        view.seq = 10


def test_a_statement_has_no_sequence_and_never_repeats(validator: Any) -> None:
    first, second = validator.check(VOUCHER), validator.check(bytes(bytearray(VOUCHER)))
    assert (first.boot, first.seq) == (0, 0)
    assert first == second
    assert hash(first) == hash(second)
    assert repr(first).startswith("View(kind=<Kind.VOUCHER: 5>")
    assert validator.window(KID) is None


def test_only_bytes_are_frames(validator: Any) -> None:
    for wrong in (bytearray(VOUCHER), memoryview(VOUCHER), "text", None):
        with pytest.raises(TypeError, match="a frame is bytes"):
            validator.check(wrong)
        with pytest.raises(TypeError, match="a frame is bytes"):
            validator.check_batch([VOUCHER, wrong])


def test_each_check_comes_before_the_next(mode: Any) -> None:
    """One frame with every fault, mended one by one in the order of the codes."""
    empty, validator = mode.Validator(BINDING), mode.Validator(BINDING)
    validator.enrol(KID, PUBLIC)
    payload = b"\x18\x01" * 2000
    bad = bytes(64)
    later = replace(ELSEWHERE, version=9)
    far = statement_frame(Kind.OP, later, KID, b"\x18\x01" * 900, bad)
    vote_head = b"\x3a\x00\x01\x00\x00\x04"
    stages = [
        (FRAME_BYTES_MAX * b"\xd2" + b"\xd2", Reject.SIZE),
        (rewritten(far, b"\x59\x07\x08", b"\x5a\x00\x00\x07\x08") + b"\0", Reject.CANONICAL),
        (rewritten(far, vote_head, b"\x3a\x00\x01\x00\x00\x0f") + b"\0", Reject.SHAPE),
        (rewritten(far, vote_head, b"\x3a\x00\x01\x00\x00\x0f"), Reject.VERSION),
    ]
    for frame, code in stages:
        assert validator.check(frame) is code
    foreign = statement_frame(Kind.PROPOSAL, ELSEWHERE, KID, payload, bad)
    ours = statement_frame(Kind.PROPOSAL, BINDING, KID, payload, bad)
    proposal = b"\x3a\x00\x01\x00\x00\x01"
    assert validator.check(rewritten(foreign, proposal, proposal[:-1] + b"\x0f")) is Reject.MESH
    assert validator.check(rewritten(ours, proposal, proposal[:-1] + b"\x0f")) is Reject.KIND
    assert empty.check(rewritten(ours, proposal, proposal[:-1] + b"\x02")) is Reject.KIND_SIZE
    assert empty.check(ours) is Reject.SENDER
    assert validator.check(ours) is Reject.SIGNATURE
    assert validator.check(statement(Kind.PROPOSAL, payload)) is Reject.PAYLOAD


def test_replay_is_found_before_the_signature_is_looked_at(validator: Any) -> None:
    validator.check(ACK)
    assert validator.check(flipped(ACK, -1)) is Reject.REPLAY


def test_a_forgery_does_not_use_up_a_sequence(validator: Any) -> None:
    assert validator.check(flipped(ACK, -1)) is Reject.SIGNATURE
    assert validator.window(KID) is None
    assert not isinstance(validator.check(ACK), Reject)
    assert validator.window(KID) == (5, 9)


def test_a_signed_signal_of_bad_payload_uses_up_its_sequence(validator: Any) -> None:
    bad = signal(Kind.ACK, b"\x18\x01", 5, 10)
    assert validator.check(bad) is Reject.PAYLOAD
    assert validator.check(bad) is Reject.REPLAY


def test_a_signed_statement_of_bad_payload_stays_bad(validator: Any) -> None:
    bad = statement(Kind.OP, b"\x18\x01")
    assert [validator.check(bad), validator.check(bad)] == [Reject.PAYLOAD, Reject.PAYLOAD]


def test_windows_are_kept_per_sender(validator: Any) -> None:
    validator.enrol(kid_of(BOB), bytes(BOB.verify_key))
    validator.check(ACK)
    assert validator.window(kid_of(BOB)) is None
    assert validator.window(kid_of(STRANGER)) is None


def test_a_restored_window_holds_off_what_was_seen_before_the_restart(validator: Any) -> None:
    validator.set_window(KID, 5, 9)
    assert validator.check(ACK) is Reject.REPLAY
    assert validator.window(KID) == (5, 9)
    assert not isinstance(validator.check(signal(Kind.ACK, SIGNALS[Kind.ACK], 5, 10)), Reject)
    with pytest.raises(KeyError):
        validator.set_window(kid_of(STRANGER), 0, 0)


def test_a_forgotten_sender_is_unknown_even_for_verified_frames(validator: Any) -> None:
    validator.check(VOUCHER)
    validator.forget(KID)
    validator.forget(KID)
    assert validator.check(VOUCHER) is Reject.SENDER
    assert not validator.verify(KID, b"", SIGN(b""))


def test_enrolling_again_keeps_the_window(validator: Any) -> None:
    validator.check(ACK)
    validator.enrol(KID, PUBLIC)
    assert validator.check(ACK) is Reject.REPLAY


def test_a_key_must_be_a_good_point_and_have_its_own_id(validator: Any) -> None:
    with pytest.raises(ValueError, match="another id"):
        validator.enrol(kid_of(BOB), PUBLIC)
    for key in (bytes(32), b"\x01" + bytes(31), PUBLIC[:31], b""):
        with pytest.raises(ValueError, match="not an Ed25519 public key"):
            validator.enrol(KID, key)


def test_verify_takes_any_message_of_an_enrolled_sender(validator: Any) -> None:
    for message in (b"", b"x", signed_bytes(Kind.VOTE, BINDING, b"\x80"), bytes(100_000)):
        signature = SIGN(message)
        assert validator.verify(KID, message, signature) is True
        assert validator.verify(KID, message + b"x", signature) is False
        assert validator.verify(KID, message, flipped(signature, 0)) is False
        assert validator.verify(KID, message, signature[:-1]) is False
        assert validator.verify(kid_of(BOB), message, signature) is False


def test_frames_up_to_the_largest_are_checked(validator: Any) -> None:
    overhead = len(statement(Kind.PROPOSAL, b"\x59\x10\x00" + bytes(4096))) - 4099
    content = FRAME_BYTES_MAX - overhead - 3
    frame = statement(Kind.PROPOSAL, b"\x59" + content.to_bytes(2, "big") + bytes(content))
    assert len(frame) == FRAME_BYTES_MAX
    assert not isinstance(validator.check(frame), Reject)
    assert validator.check(flipped(frame, 5000)) is Reject.SIGNATURE


def test_a_batch_gives_what_single_checks_give(mode: Any) -> None:
    frames = [VOUCHER, ACK, ACK, b"", flipped(VOUCHER, -1), VOUCHER]
    single, batch = mode.Validator(BINDING), mode.Validator(BINDING)
    for one in (single, batch):
        one.enrol(KID, PUBLIC)
    assert batch.check_batch(iter(frames)) == [single.check(frame) for frame in frames]


def test_the_version_before_is_understood_and_a_later_one_is_not(mode: Any) -> None:
    old, new = mode.Validator(BINDING, 1), mode.Validator(BINDING)
    for one in (old, new):
        one.enrol(KID, PUBLIC)
    accepted = []
    for version in (0, 1, 2, 3):
        binding = replace(BINDING, version=version)
        # The version is not under the signature.
        frame = statement_frame(Kind.VOUCHER, binding, KID, STATEMENTS[Kind.VOUCHER], VOUCHER[-64:])
        verdicts = [one.check(frame) for one in (old, new)]
        assert {v for v in verdicts if isinstance(v, Reject)} <= {Reject.VERSION}
        accepted.append([not isinstance(verdict, Reject) for verdict in verdicts])
    assert accepted == [[False, False], [True, True], [False, True], [False, False]]


def test_the_cache_of_verified_frames_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reference, "CACHE_MAX", 4)
    validator = _reference.Validator(BINDING)
    validator.enrol(KID, PUBLIC)
    for nonce in range(24):
        assert not isinstance(validator.check(statement(Kind.OP, bytes((nonce % 24,)))), Reject)
        assert len(validator._young) <= 4
        assert len(validator._old) <= 4


def test_a_verified_statement_costs_no_second_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    validator = _reference.Validator(BINDING)
    validator.enrol(KID, PUBLIC)
    validator.check(VOUCHER)
    monkeypatch.setattr(_reference, "signed_by", lambda *_: pytest.fail("verified again"))
    assert not isinstance(validator.check(VOUCHER), Reject)


def test_a_bad_frame_is_never_cached(validator: Any) -> None:
    forged = flipped(VOUCHER, -1)
    assert [validator.check(forged), validator.check(forged)] == [Reject.SIGNATURE] * 2
    assert not isinstance(validator.check(VOUCHER), Reject)
    assert validator.check(forged) is Reject.SIGNATURE


def test_a_signal_checked_by_many_threads_is_taken_once(validator: Any) -> None:
    frames = [signal(Kind.ACK, SIGNALS[Kind.ACK], 5, seq) for seq in range(50)]
    verdicts: list[Any] = []
    threads = [
        threading.Thread(target=lambda: verdicts.extend(validator.check_batch(frames)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [verdict for verdict in verdicts if not isinstance(verdict, Reject)]
    assert sorted(view.seq for view in taken) == list(range(50))
    assert set(verdicts) - set(taken) == {Reject.REPLAY}


def test_the_compiled_one_calls_libsodium_directly(hotpath: Any) -> None:
    assert hotpath.DIRECT


@pytest.mark.parametrize(("pure", "expected"), [("1", "False"), ("", "True")])
def test_the_environment_chooses_the_pure_one(hotpath: Any, pure: str, expected: str) -> None:
    program = "from demesh.wire.validate import COMPILED, Validator; print(COMPILED)"
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, "DEMESH_PURE": pure, "PYTHONPATH": path}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True
    )
    assert run.stdout.strip() == expected


def test_a_vote_is_found_under_its_vote_key(validator: Any) -> None:
    kid = kid_of(BOB)
    validator.enrol(kid, bytes(BOB.verify_key))
    frame = seal_statement(Kind.VOTE, BINDING, kid, b"\x80", signer(BOB))
    assert validator.check(frame).sender == kid
