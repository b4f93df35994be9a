"""Validation of frames: valid ones against bare Ed25519, bad ones by class, known ones, threads."""

from __future__ import annotations

import hashlib
import importlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from benchmarks import footprint, instructions
from benchmarks.frames import (
    BINDING,
    KEY,
    KID,
    VERIFIED,
    allowance,
    bad_frames,
    validator,
    vouchers,
)
from benchmarks.plan import Plan
from benchmarks.row import Row, Skipped
from benchmarks.sodium import RawLoop, missing
from benchmarks.timing import Work, per_item_ns
from benchmarks.usual import Usual
from demesh.wire import _reference
from demesh.wire.frame import signed_bytes, split
from demesh.wire.kinds import Kind, Reject

GROUP = "validate"

THREADS = 2
HASHED = 20  # verifications that take as long as hashing a MiB


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """All rows of this group."""
    try:
        compiled: Any = importlib.import_module("demesh.wire._hotpath")
    except ImportError:
        yield Skipped(GROUP, "the extension is not built: make run builds it where there is a cc")
    else:
        yield from _valid(plan, compiled)
        yield from _known(plan, compiled)
        for code, frames in bad_frames(plan.count(1000, 20)).items():
            yield _rejected(plan, compiled, code, frames)
        yield _threads(plan, compiled)
        yield from instructions.rows(plan)
    yield from footprint.rows(plan)


def _valid(plan: Plan, compiled: Any) -> Iterator[Row | Skipped]:
    frames = vouchers(plan.count(1000, 20))
    rounds = plan.count(15)

    # A new validator each round, or its cache would answer instead of the signature.
    def fresh(module: Any) -> Callable[[], object]:
        unused = iter([validator(module) for _ in range(rounds + 1)])
        return lambda: next(unused).check_batch(frames)

    usual = Usual(BINDING, {KID: bytes(KEY.verify_key)})
    assert not any(isinstance(v, Reject) for v in validator(compiled).check_batch(frames))
    assert None not in usual.check_batch(frames)
    works = [fresh(compiled), fresh(_reference), lambda: usual.check_batch(frames)]
    why = missing()
    if not why:
        parts = [split(frame) for frame in frames]
        signed = [s + signed_bytes(Kind.VOUCHER, BINDING, payload) for _, payload, s in parts]
        works.append(RawLoop(plan.folder, bytes(KEY.verify_key), signed))
    fast, *taken = per_item_ns(works, len(frames), rounds)
    how = f"{len(frames)} voucher frames, median of {rounds} alternating rounds, CPU time"
    names = ("pure", "cbor2 + VerifyKey")
    if why:
        yield Skipped(GROUP, why)
        for name, slower in zip(names, taken, strict=True):
            yield Row(
                GROUP, f"valid frames, beside {name}", 1e9 / fast, "/s", how, 1e9 / slower, name
            )
        return
    *slow, raw = taken
    for name, one in zip(("compiled", *names), (fast, *slow), strict=True):
        yield Row(GROUP, f"valid frames, {name}", 1e9 / one, "/s", how, 1e9 / raw, "C loop")


def _known(plan: Plan, compiled: Any) -> Iterator[Row]:
    frames = vouchers(plan.count(1000, 20))
    knowing = validator(compiled)
    knowing.check_batch(frames)
    rounds = plan.count(15)

    unused = iter([validator(compiled) for _ in range(rounds + 1)])
    works: list[Callable[[], object]] = [
        lambda: knowing.check_batch(frames),
        lambda: next(unused).check_batch(frames),
    ]
    hit, miss = per_item_ns(works, len(frames), rounds)
    how = f"{len(frames)} statements seen before, batch; reference: the first time"
    yield Row(GROUP, "statement known already", 1e9 / hit, "/s", how, 1e9 / miss, "verify")


def _rejected(plan: Plan, compiled: Any, code: Reject, frames: Sequence[bytes]) -> Row:
    fast, pure = validator(compiled), validator(_reference)
    spent, spent_pure = allowance(compiled, code), allowance(_reference, code)
    for one, none in ((fast, spent), (pure, spent_pure)):
        assert set(one.check_batch(frames, none)) == {code}, f"{code.name} is not what it says"
    repeats, rounds = plan.count(1 if code in VERIFIED else 20), plan.count(9)

    def again() -> None:
        for _ in range(repeats):
            fast.check_batch(frames, spent)

    works: list[Callable[[], object]] = [again, lambda: pure.check_batch(frames, spent_pure)]
    quick, slow = per_item_ns(works, len(frames), rounds)
    how = f"{len(frames)} different frames, batch, CPU time, median of {rounds}"
    what = f"reject {code.name}"
    return Row(GROUP, what, repeats * 1e9 / quick, "/s", how, 1e9 / slow, "pure")


def _threads(plan: Plan, compiled: Any) -> Row:
    """Threads with a batch each, beside one with all: libsodium runs without the GIL, as hashing.

    Hashing is the reference, for on a machine with other work no two threads are twice as fast.
    """
    each, rounds = plan.count(1000, 20), plan.count(15)
    frames = vouchers(THREADS * each)
    batches = [frames[n * each : (n + 1) * each] for n in range(THREADS)]
    fresh = iter([validator(compiled) for _ in range(2 * rounds)])
    content = bytes(1 << 20)

    def hashing() -> list[Work]:
        def work() -> None:
            for _ in range(max(1, each // HASHED)):
                hashlib.blake2b(content).digest()

        return [work] * THREADS

    def checking() -> list[Work]:
        one = next(fresh)
        return [partial(one.check_batch, batch) for batch in batches]

    gained: list[list[float]] = [[], []]
    for _ in range(rounds):
        for works, gains in zip((checking, hashing), gained, strict=True):
            gains.append(_alone_ns(works()) / _together_ns(works()))
    ours, hashed = map(statistics.median, gained)
    how = f"{THREADS} batches of {each}, one validator, wall time, median of {rounds}"
    return Row(GROUP, f"speed-up by {THREADS} threads", ours, "x", how, hashed, "BLAKE2b")


def _alone_ns(works: Sequence[Work]) -> int:
    began = time.monotonic_ns()
    for work in works:
        work()
    return time.monotonic_ns() - began


def _together_ns(works: Sequence[Work]) -> int:
    threads = [threading.Thread(target=work) for work in works]
    began = time.monotonic_ns()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic_ns() - began
