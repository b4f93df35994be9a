"""The fuzzer itself: it can be repeated, reaches far, and finds what is there to be found."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from demesh.wire.kinds import Reject
from fuzz import blind, cbor, corpus, wire
from fuzz.mutate import of_bytes, of_tree
from fuzz.tape import Tape, programs
from fuzz.target import FindingError, Target, expect
from fuzz.targets import TARGETS
from fuzz.test_corpus import target


@pytest.mark.parametrize("name", TARGETS)
def test_the_same_seed_gives_the_same_inputs(name: str) -> None:
    one = target(name)
    first, again, other = (
        list(itertools.islice(blind._inputs(name, one, seed), 400)) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert max(map(len, first)) <= max(one.bytes_max, *map(len, one.seeds))


def test_an_exception_is_a_finding_and_its_input_is_kept(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(data: bytes) -> None:
        expect(b"\xff" not in data, "no such byte")

    monkeypatch.setattr(corpus, "FOLDER", tmp_path)
    outcome = blind.run("bytes", Target(run, (bytes(8),), of_bytes), 1, lambda n: n < 10_000)
    assert outcome.finding is not None and outcome.inputs < 10_000
    assert b"\xff" in outcome.finding.data and "no such byte" in outcome.finding.trace
    corpus.keep("bytes", outcome.finding.data)
    assert corpus.kept("bytes") == (outcome.finding.data,)


def test_an_input_that_never_ends_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(data: bytes) -> None:
        while data:
            try:
                data += b""
            except Exception:  # noqa: BLE001  what must not be swallowed here
                continue

    monkeypatch.setattr(blind, "INPUT_SECONDS_MAX", 0.05)
    outcome = blind.run("endless", Target(run, (b"x",), of_bytes), 1, lambda n: n < 1)
    assert outcome.finding is not None and "processor time" in outcome.finding.trace


def test_programs_of_calls_reach_every_verdict_of_a_validator() -> None:
    """One that refuses everything at its first check would agree with any other."""
    one, dice, seen = target("validator"), Random(3), set[object]()
    allowed = [(2, 2, False), (0, 0, False), (1, 1, True)]
    for _ in range(400):
        tape = Tape(programs(dice, dice.choice(one.seeds), one.seeds))
        program = wire.Program(tape)
        pair = [wire.Party(wire._reference, 2, allowed) for _ in range(2)]
        for _ in range(wire.CALLS_MAX):
            verdict = program.step(*pair)
            seen.update([verdict] if isinstance(verdict, Reject) else [])
            seen.add(type(verdict))
    judged = {code for code in Reject if code <= Reject.PAYLOAD} | {Reject.BUDGET}
    assert judged <= seen and {tuple, list, bool} <= seen


def test_a_good_share_of_changed_payloads_is_still_canonical_and_a_good_share_is_not() -> None:
    one, dice = target("walker"), Random(5)
    verdicts = [
        cbor.canonical(of_tree(dice, dice.choice(one.seeds), one.seeds)) for _ in range(2_000)
    ]
    assert 0.2 < sum(verdicts) / len(verdicts) < 0.8


SHORTER_EXISTS = "1800 190017 1a0000ffff 1b00000000ffffffff 5800 9800 a1000018"
DISORDER = "a201000100 a202000100 a2180000"
FORBIDDEN = "9fff 5f41ff c100 f90000 f7 f814 61ff 62c080"
CUT = "0000 82 5bffffffffffffffff 9bffffffffffffffff"
DETERMINISTIC = (
    "00 17 1818 20 3bffffffffffffffff 40 60 62c3a9 80 a0 f4 f6 a20100181800 a22000616100"
)


@pytest.mark.parametrize(
    "written",
    f"{SHORTER_EXISTS} {DISORDER} {FORBIDDEN} {CUT} {'81' * 17}00 {'81' * 60}00".split(),
)
def test_the_third_reader_knows_what_is_not_deterministic(written: str) -> None:
    assert not cbor.canonical(bytes.fromhex(written))
    assert not cbor.canonical(b"")


@pytest.mark.parametrize("written", f"{DETERMINISTIC} {'81' * 16}00".split())
def test_the_third_reader_knows_what_is_deterministic(written: str) -> None:
    assert cbor.canonical(bytes.fromhex(written))


def test_a_frame_with_a_longer_head_is_not_the_one_encoding() -> None:
    frame = wire.GOOD[0]
    at = len(frame) - 66
    longer = frame[:at] + b"\x59\x00\x40" + frame[at + 2 :]
    wire.expect_one_encoding(frame)
    with pytest.raises(FindingError, match="longer way"):
        wire.expect_one_encoding(longer)
