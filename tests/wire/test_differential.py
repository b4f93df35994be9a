"""The compiled implementation equals the pure one, on frames that are almost right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from demesh.wire import _reference
from demesh.wire.frame import signal_frame, statement_frame
from demesh.wire.kinds import Kind, Reject
from vectors.make import (
    ALICE,
    BINDING,
    BOB,
    ENROLLED,
    KID,
    SIGNALS,
    STATEMENTS,
    frames,
    kid_of,
    signal,
    statement,
)

GOOD = [statement(kind, payload) for kind, payload in STATEMENTS.items()]
GOOD += [signal(kind, payload, 2, kind) for kind, payload in SIGNALS.items()]
VECTORS = [frame for _, frame, _ in frames() if len(frame) < 4096]

# Bytes that mean something in CBOR or in our layout, so that mutations stay near the border.
TELLING = b"\x00\x01\x17\x18\x19\x1a\x1b\x1f\x32\x40\x44\x49\x50\x58\x59\x5f\x7f\x81\x82\x83\x84"
TELLING += b"\x9f\xa0\xa1\xa2\xa3\xbf\xc0\xd2\xf4\xf6\xf7\xf9\xff"


@st.composite
def nearly_good(draw: st.DrawFn) -> bytes:
    """A good frame with up to 3 bytes changed, put in, taken out, or spliced with another."""
    frame = bytearray(draw(st.sampled_from(GOOD + VECTORS)) or b"\xd2")
    for _ in range(draw(st.integers(0, 3))):
        # The first 60 bytes hold the envelope: most of what can go wrong goes wrong there.
        at = draw(st.integers(0, min(60, len(frame)) - 1) | st.integers(0, len(frame) - 1))
        byte = draw(st.sampled_from(TELLING) | st.integers(0, 255))
        match draw(st.integers(0, 5)):
            case 0 | 1:
                frame[at] = byte
            case 2:
                frame.insert(at, byte)
            case 3 if len(frame) > 1:
                del frame[at]
            case 4:
                frame = frame[: at + 1]
            case _:
                other = draw(st.sampled_from(GOOD))
                frame[at:] = other[at:]
                frame = frame or bytearray(b"\xd2")
    return bytes(frame)


def fields(verdict: Any) -> Any:
    if isinstance(verdict, Reject):
        return verdict
    return (
        verdict.kind,
        verdict.sender,
        verdict.boot,
        verdict.seq,
        bytes(verdict.payload),
    )


def twins(hotpath: Any) -> tuple[Any, Any]:
    pair = _reference.Validator(BINDING), hotpath.Validator(BINDING)
    for one in pair:
        for key in ENROLLED:
            one.enrol(kid_of(key), bytes(key.verify_key))
    return pair


@settings(max_examples=500)
@given(st.lists(nearly_good(), min_size=1, max_size=8))
def test_nearly_good_frames_get_equal_verdicts_and_windows(hotpath: Any, some: list[bytes]) -> None:
    pure, compiled = twins(hotpath)
    for frame in [*some, *some]:
        assert fields(compiled.check(frame)) == fields(pure.check(frame)), frame.hex()
        assert compiled.window(KID) == pure.window(KID)
    assert [fields(one) for one in compiled.check_batch(some)] == [
        fields(one) for one in pure.check_batch(some)
    ]


@settings(max_examples=500)
@given(nearly_good())
def test_envelopes_are_read_alike(hotpath: Any, frame: bytes) -> None:
    assert hotpath.read_envelope(frame) == _reference.read_envelope(frame)


def test_every_change_of_one_byte_in_an_envelope_is_judged_alike(hotpath: Any) -> None:
    for frame in (GOOD[4], GOOD[-1]):
        for at in range(len(frame) - 64):
            for byte in range(256):
                changed = frame[:at] + bytes((byte,)) + frame[at + 1 :]
                expected = _reference.read_envelope(changed)
                assert hotpath.read_envelope(changed) == expected, changed.hex()


def test_every_truncation_is_judged_alike(hotpath: Any) -> None:
    pure, compiled = twins(hotpath)
    for frame in GOOD:
        for size in range(len(frame)):
            verdict = pure.check(frame[:size])
            assert verdict in (Reject.SIZE, Reject.SHAPE)
            assert compiled.check(frame[:size]) is verdict


integers = st.sampled_from([0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1])


@given(integers, integers, integers, st.binary(max_size=300))
def test_envelopes_of_all_widths_are_read_alike(
    hotpath: Any, boot: int, seq: int, version: int, payload: bytes
) -> None:
    def sign(_: bytes) -> bytes:
        return bytes(64)

    binding = replace(BINDING, version=version)
    for frame in (
        signal_frame(Kind.ACCEPT, binding, KID, boot, seq, payload, sign),
        statement_frame(Kind.OP, binding, KID, payload, bytes(64)),
    ):
        envelope = _reference.read_envelope(frame)
        assert not isinstance(envelope, Reject)
        assert (envelope.version, envelope.kid) == (version, KID)
        assert hotpath.read_envelope(frame) == envelope


nearly_cbor = st.lists(
    st.sampled_from(TELLING).map(lambda byte: bytes((byte,)))
    | st.binary(max_size=4)
    | st.text(max_size=3).map(lambda text: bytes((0x60 + len(text.encode()),)) + text.encode()),
    max_size=12,
).map(b"".join)


@settings(max_examples=2000)
@given(nearly_cbor)
def test_payloads_are_walked_alike(hotpath: Any, data: bytes) -> None:
    assert hotpath.canonical(data) is _reference.canonical(data)


def test_all_payloads_of_two_bytes_and_of_three_with_telling_ones_are_walked_alike(
    hotpath: Any,
) -> None:
    for first in range(256):
        for second in range(256):
            data = bytes((first, second))
            assert hotpath.canonical(data) is _reference.canonical(data), data.hex()
    for first in (0x62, 0x63, 0x81, 0x82, 0xA1, 0xA2):
        for second in range(256):
            for third in TELLING:
                data = bytes((first, second, third))
                assert hotpath.canonical(data) is _reference.canonical(data), data.hex()


def test_all_text_of_two_bytes_and_all_starts_of_longer_text_are_walked_alike(hotpath: Any) -> None:
    borders = (0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)
    texts = [bytes((a, b)) for a in range(256) for b in range(256)]
    texts += [bytes((a, b, c)) for a in range(0xC0, 256) for b in borders for c in borders]
    texts += [
        bytes((a, b, c, d))
        for a in range(0xE0, 256)
        for b in borders
        for c in borders
        for d in borders
    ]
    for text in texts:
        data = bytes((0x60 + len(text),)) + text
        assert hotpath.canonical(data) is _reference.canonical(data), data.hex()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("check"), st.sampled_from(GOOD + VECTORS)),
        st.tuples(st.just("forget"), st.sampled_from([KID, kid_of(BOB), bytes(16)])),
        st.tuples(st.just("enrol"), st.sampled_from([ALICE, BOB])),
        st.tuples(st.just("set_window"), st.integers(0, 6), st.integers(0, 200)),
        st.tuples(st.just("verify"), st.binary(max_size=80), st.binary(min_size=63, max_size=65)),
    ),
    max_size=20,
)


@given(steps)
def test_any_calls_in_any_order_have_equal_results(hotpath: Any, calls: list[Any]) -> None:
    def run(validator: Any, call: Any) -> Any:
        match call:
            case ("check", frame):
                return fields(validator.check(frame))
            case ("forget", kid):
                return validator.forget(kid)
            case ("enrol", key):
                return validator.enrol(kid_of(key), bytes(key.verify_key))
            case ("set_window", boot, seq):
                try:
                    return validator.set_window(KID, boot, seq)
                except KeyError as error:
                    return repr(error)
            case _:
                return validator.verify(KID, *call[1:])

    pure, compiled = twins(hotpath)
    for call in calls:
        assert run(compiled, call) == run(pure, call)
        for kid in (KID, kid_of(BOB)):
            assert compiled.window(kid) == pure.window(kid)
