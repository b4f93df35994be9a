"""Validation of frames: valid ones against bare Ed25519, bad ones by class, known ones."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from typing import Any

from nacl.signing import SigningKey

from benchmarks.plan import Plan
from benchmarks.row import Row, Skipped
from benchmarks.sodium import RawLoop, missing
from benchmarks.timing import per_item_ns
from demesh.wire import _reference
from demesh.wire.frame import Binding, seal_statement, signal_frame, signed_bytes, split
from demesh.wire.identity import device_id, signer
from demesh.wire.kinds import FRAME_BYTES_MAX, KIND_BYTES_MAX, WIRE_VERSION, Kind, Reject
from demesh.wire.messages import Ack, Voucher
from demesh.wire.schema import encode

GROUP = "validate"

BINDING = Binding(hashlib.blake2b(b"benchmark mesh", digest_size=32).digest(), 1)
ELSEWHERE = Binding(hashlib.blake2b(b"another mesh", digest_size=32).digest(), 1)
KEY = SigningKey(hashlib.blake2b(b"benchmark key", digest_size=32).digest())
KID = device_id(bytes(KEY.verify_key))
STRANGER = hashlib.blake2b(b"stranger", digest_size=16).digest()

Check = Callable[[Sequence[bytes]], Sequence[object]]


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """All rows of this group."""
    try:
        compiled: Any = importlib.import_module("demesh.wire._hotpath")
    except ImportError:
        yield Skipped(GROUP, "the extension is not built: make run builds it where there is a cc")
        return
    yield from _valid(plan, compiled)
    yield from _known(plan, compiled)
    for code, frames in bad_frames(plan.count(1000, 20)).items():
        yield _rejected(plan, compiled, code, frames)


def vouchers(count: int) -> list[bytes]:
    """Valid frames of the most frequent statement of a trading device, all different."""
    sign = signer(KEY)
    return [
        seal_statement(Kind.VOUCHER, BINDING, KID, encode(Voucher(bytes(16), 0, cum)), sign)
        for cum in range(1, count + 1)
    ]


def bad_frames(count: int) -> dict[Reject, list[bytes]]:
    """For each class of `Reject`, `count` frames that must be rejected for that reason."""
    zero = bytes(64)

    def unsigned(_: bytes) -> bytes:
        return zero

    def voucher(cum: int, kid: bytes = KID, mesh: Binding = BINDING) -> bytes:
        return seal_statement(Kind.VOUCHER, mesh, kid, encode(Voucher(bytes(16), 0, cum)), unsigned)

    def ack(seq: int, version: int = WIRE_VERSION) -> bytes:
        payload = encode(Ack(bytes(16)))
        return signal_frame(Kind.ACK, BINDING, KID, 1, seq, payload, unsigned, version=version)

    numbers = range(1, count + 1)
    too_long = KIND_BYTES_MAX[Kind.VOUCHER]
    kind_at = voucher(1).index(b"\x3a\x00\x01\x00\x00") + 5
    return {
        Reject.SIZE: list(islice(cycle([b"", bytes(FRAME_BYTES_MAX + 1)]), count)),
        Reject.SHAPE: [hashlib.blake2b(b"%d" % n).digest() * 3 for n in numbers],
        Reject.VERSION: [ack(n, WIRE_VERSION + 1) for n in numbers],
        Reject.MESH: [voucher(n, mesh=ELSEWHERE) for n in numbers],
        Reject.KIND: [_with_byte(voucher(n), kind_at, 0x0F) for n in numbers],
        Reject.KIND_SIZE: [
            _with_byte(
                seal_statement(Kind.OP, BINDING, KID, bytes(too_long) + b"%d" % n, unsigned),
                kind_at,
                Kind.VOUCHER,
            )
            for n in numbers
        ],
        Reject.SENDER: [voucher(n, kid=STRANGER) for n in numbers],
        Reject.REPLAY: [ack(n) for n in numbers],
    }


def _with_byte(frame: bytes, at: int, value: int) -> bytes:
    return frame[:at] + bytes((value,)) + frame[at + 1 :]


def _validator(module: Any) -> Any:
    """A validator that knows KEY and has seen its signals up to a very high sequence."""
    validator = module.Validator(BINDING)
    validator.enrol(KID, bytes(KEY.verify_key))
    validator.set_window(KID, 1, 1 << 40)
    return validator


def _valid(plan: Plan, compiled: Any) -> Iterator[Row | Skipped]:
    frames = vouchers(plan.count(1000, 20))
    rounds = plan.count(15)

    # A new validator each round, or its cache would answer instead of the signature.
    def fresh(module: Any) -> Callable[[], object]:
        unused = iter([_validator(module) for _ in range(rounds + 1)])
        return lambda: next(unused).check_batch(frames)

    assert not any(isinstance(v, Reject) for v in _validator(compiled).check_batch(frames))
    works = [fresh(compiled), fresh(_reference)]
    why = missing()
    if not why:
        parts = [split(frame) for frame in frames]
        signed = [s + signed_bytes(Kind.VOUCHER, BINDING, payload) for _, payload, s in parts]
        works.append(RawLoop(plan.folder, bytes(KEY.verify_key), signed))
    fast, pure, *raw = per_item_ns(works, len(frames), rounds)
    how = f"{len(frames)} voucher frames, median of {rounds} alternating rounds, CPU time"
    if raw:
        yield Row(GROUP, "valid frames, compiled", 1e9 / fast, "/s", how, 1e9 / raw[0], "C loop")
        yield Row(GROUP, "valid frames, pure", 1e9 / pure, "/s", how, 1e9 / raw[0], "C loop")
    else:
        yield Skipped(GROUP, why)
        yield Row(GROUP, "valid frames, compiled", 1e9 / fast, "/s", how, 1e9 / pure, "pure")


def _known(plan: Plan, compiled: Any) -> Iterator[Row]:
    frames = vouchers(plan.count(1000, 20))
    knowing = _validator(compiled)
    knowing.check_batch(frames)
    rounds = plan.count(15)

    unused = iter([_validator(compiled) for _ in range(rounds + 1)])
    works: list[Callable[[], object]] = [
        lambda: knowing.check_batch(frames),
        lambda: next(unused).check_batch(frames),
    ]
    hit, miss = per_item_ns(works, len(frames), rounds)
    how = f"{len(frames)} statements seen before, batch; reference: the first time"
    yield Row(GROUP, "statement known already", 1e9 / hit, "/s", how, 1e9 / miss, "verify")


def _rejected(plan: Plan, compiled: Any, code: Reject, frames: Sequence[bytes]) -> Row:
    fast, pure = _validator(compiled), _validator(_reference)
    for validator in (fast, pure):
        assert set(validator.check_batch(frames)) == {code}, f"{code.name} is not what it says"
    repeats, rounds = plan.count(20), plan.count(9)

    def again(check: Check, times: int) -> None:
        for _ in range(times):
            check(frames)

    (quick,) = per_item_ns(
        [lambda: again(fast.check_batch, repeats)], repeats * len(frames), rounds
    )
    (slow,) = per_item_ns([lambda: again(pure.check_batch, 1)], len(frames), rounds)
    how = f"{len(frames)} different frames, batch, CPU time, median of {rounds}"
    what = f"reject {code.name}"
    return Row(GROUP, what, 1e9 / quick, "/s", how, 1e9 / slow, "pure")
