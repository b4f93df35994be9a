"""Whatever stands in an op: apply answers it, keeps the sum and does all of it or nothing."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from demesh.ledger.ledger import Ledger
from demesh.ledger.ops import SignedOp
from demesh.ledger.state import Result
from demesh.wire.offers import Split
from demesh.wire.opbodies import Approval, Claim, Close, OpenChannel, SetMember, Transfer
from demesh.wire.readings import Voucher
from ledger.book import (
    AGREEMENT,
    ANN,
    BEN,
    CEM,
    COMMONS,
    START_S,
    STRANGER,
    Book,
    certificate,
    enrolling,
    opening,
    voucher_frame,
)

book = Book()
CHANNEL = book.open(opening(ANN, BEN))
LEDGER = book.ledger
GOOD_FRAME = voucher_frame(ANN, CHANNEL, 5)

# Far beyond what the wire lets through, to both sides: the ledger does not lean on it for numbers.
numbers = st.sampled_from([0, 1, 3_599, 3_600, 2**32, 2**53 - 1, 2**64, -(2**64)]) | st.integers()
times = numbers | st.integers(START_S - 100, START_S + 200_000)
ids = st.sampled_from([ANN, BEN, CEM, COMMONS, STRANGER, CHANNEL]) | st.binary(
    min_size=16, max_size=16
)
splits = st.lists(st.builds(Split, ids, numbers), max_size=6).map(tuple)
frames = st.binary(max_size=40) | st.just(GOOD_FRAME)
certificates = [
    certificate("roof", "ann"),
    certificate("attic", "ben", vote="x"),
    certificate("barn", "cem"),
    certificate("barn", "cem", vote="roof votes"),
    certificate("silo", "dora"),
]
bodies = (
    st.builds(Transfer, ids, numbers)
    | st.builds(OpenChannel, ids, numbers, times, numbers, st.just(AGREEMENT), splits)
    | st.builds(
        OpenChannel,
        ids,
        st.integers(1, 2_000_000),
        st.integers(START_S, START_S + 9_000_000),
        st.integers(3_000, 700_000),
        st.just(AGREEMENT),
        splits,
    )
    | st.builds(Claim, frames)
    | st.builds(Close, ids, frames)
    | st.builds(
        SetMember,
        st.sampled_from(certificates),
        numbers,
        st.integers(0, 2) | numbers,
        st.lists(st.builds(Approval, ids, st.binary(max_size=64)), max_size=3).map(tuple),
    )
    | st.builds(
        lambda held, weight: enrolling(held, weight).body,
        st.sampled_from(certificates),
        st.sampled_from([0, 1, 2**32 - 1]),
    )
)
signed_ops = st.builds(
    SignedOp, st.binary(min_size=32, max_size=32), ids, times | st.just(START_S + 60), bodies
)
answers = st.none() | st.tuples(
    ids, st.builds(Voucher, ids, st.integers(-1, 300), st.integers(-5, 2**53 - 1))
)
MEMORY_TABLES = (b"o", b"f", b"q", b"p")


def money_records(ledger: Ledger) -> list[tuple[bytes, bytes]]:
    return [record for record in ledger.records() if record[0][:1] not in MEMORY_TABLES]


@settings(max_examples=300, deadline=None)
@given(signed_ops, times, answers)
@example(
    SignedOp(bytes(32), ANN, 2**64, Transfer(BEN, 1)), START_S, None
)  # a time that no key could hold
def test_any_single_op_is_answered_and_does_all_or_nothing(op, time_s, answer):
    settles = LEDGER.settlement_s() <= time_s
    applied = LEDGER.apply((op,), time_s, lambda frame: answer)
    assert len(applied.results) == 1
    assert applied.ledger.total() == 0
    if applied.results[0] is not Result.OK and not settles:
        assert money_records(applied.ledger) == money_records(LEDGER)
    if applied.results[0] is not Result.OK:
        assert len(applied.events) == settles
    assert Ledger.restore(applied.ledger.records()).root == applied.ledger.root
    assert [applied.ledger.account(id) for id, _ in LEDGER.accounts()].count(None) == 0
    assert applied.ledger.channels() is not None


@settings(max_examples=100, deadline=None)
@given(st.lists(signed_ops, max_size=30), times)
def test_any_block_is_answered_and_keeps_the_sum_and_the_floors(ops, time_s):
    frames_seen: list[bytes] = []

    def port(frame: bytes) -> tuple[bytes, Voucher]:
        frames_seen.append(frame)
        return ANN, Voucher(CHANNEL, len(frame) % 70, 1_000 * len(frames_seen))

    applied = LEDGER.apply(ops, time_s, port)
    assert len(applied.results) == len(ops)
    assert applied.ledger.total() == 0
    assert all(account.balance >= account.floor for _, account in applied.ledger.accounts())
    again = applied.ledger.apply(ops, time_s, port)
    # Two bodies under one id cannot happen outside a test; the first one's answer stands for both.
    recorded = [applied.ledger.result(op.id) for op in ops]
    assert [
        result for result, kept in zip(again.results, recorded, strict=True) if kept is not None
    ] == [kept for kept in recorded if kept is not None]
    assert again.ledger.total() == 0
