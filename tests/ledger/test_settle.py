"""Channels that pay while they are open, are capped, and get more money and time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.ledger.events import Capped, Extended, Paid, Settled
from demesh.ledger.ledger import Ledger
from demesh.ledger.state import Channel, Result
from demesh.wire.offers import Split
from ledger.book import (
    ANN,
    BEN,
    CEM,
    COMMONS,
    DAY_S,
    DORA,
    HOUR_S,
    START_S,
    STRANGER,
    Book,
    cap_frame,
    capping,
    claiming,
    closing,
    extending,
    genesis_body,
    opening,
    settling,
    topping_up,
    transfer,
    voucher_frame,
)

PEOPLE = (ANN, BEN, CEM, DORA, COMMONS)
OK = (Result.OK,)


def balances(book: Book) -> list[int]:
    return [book.balance(id) for id in PEOPLE]


def channel(book: Book, id: bytes) -> Channel:
    found = book.ledger.channel(id)
    assert found is not None
    return found


# -- SETTLE (R-LED-44) ----------------------------------------------------------------------------


def test_settle_pays_the_payee_and_the_commons_and_leaves_the_channel_open() -> None:
    book = Book(rules=3)
    id = book.open(opening(ANN, BEN, 100_000))
    assert book.block(settling(BEN, id, voucher_frame(ANN, id, 10_000))) == OK
    assert balances(book) == [-100_000, 9_900, 0, 0, 100]
    assert book.events[1:] == (
        Paid(id, b"\xaa" * 16, ANN, BEN, paid=10_000, received=9_900, fee=100, shares=()),
    )
    assert channel(book, id).paid == 10_000


def test_what_was_settled_is_not_paid_again_at_the_end() -> None:
    book = Book(rules=3)
    id = book.open(opening(ANN, BEN, 100_000))
    book.block(settling(BEN, id, voucher_frame(ANN, id, 10_000)))
    assert book.block(closing(BEN, id, voucher_frame(ANN, id, 30_000))) == OK
    assert balances(book) == [-30_000, 29_700, 0, 0, 300]
    (settled,) = [event for event in book.events if isinstance(event, Settled)]
    assert (settled.earlier, settled.paid, settled.refund) == (10_000, 20_000, 70_000)


def test_only_the_payee_settles() -> None:
    book = Book(rules=3)
    id = book.open(opening(ANN, BEN))
    frame = voucher_frame(ANN, id, 10)
    assert book.block(settling(ANN, id, frame), settling(CEM, id, frame)) == (Result.PARTY,) * 2
    assert book.block(settling(BEN, bytes(16), frame)) == (Result.CHANNEL,)
    assert book.block(settling(BEN, id, voucher_frame(BEN, id, 10))) == (Result.VOUCHER,)


def test_a_settle_without_anything_to_pay_is_refused_and_writes_nothing() -> None:
    book = Book(rules=3)
    id = book.open(opening(ANN, BEN, 500))
    assert book.block(settling(BEN, id)) == (Result.NOTHING,)
    assert book.block(settling(BEN, id, voucher_frame(ANN, id, 500))) == OK
    before = channel(book, id)
    assert book.block(settling(BEN, id, voucher_frame(ANN, id, 900))) == (Result.NOTHING,)
    assert channel(book, id) == before


def test_several_floors_that_rise_at_once_take_nothing_back_from_the_payee() -> None:
    """At 100 fee, splits and so four floors rise by one: the payee's rest of 100 is below 99."""
    book = Book(rules=3)
    splits = tuple(Split(account, 10_000) for account in (CEM, DORA))
    id = book.open(opening(ANN, BEN, 1_000, splits=splits))
    for cum in (99, 100, 101):
        op = settling(BEN, id, voucher_frame(ANN, id, cum), nonce=cum)
        assert book.block(op)[0] in (Result.OK, Result.NOTHING)
    assert book.block(closing(BEN, id)) == OK
    assert balances(book) == [-101, 98, 1, 1, 1]


@given(
    steps=st.lists(st.tuples(st.integers(1, 3_000), st.integers(0, 2), st.booleans()), max_size=12),
    ppms=st.lists(st.integers(1, 330_000), max_size=2),
    escrow=st.integers(1, 9_000),
)
def test_settling_on_the_way_changes_nothing_of_what_everybody_has_at_the_end(
    steps: list[tuple[int, int, bool]], ppms: list[int], escrow: int
) -> None:
    splits = tuple(Split(account, ppm) for account, ppm in zip((CEM, DORA), ppms, strict=False))
    ends = []
    for settles in (True, False):
        book = Book(rules=3)
        id = book.open(opening(ANN, BEN, escrow, splits=splits))
        for nonce, (cum, lane, now) in enumerate(steps):
            book.block(claiming(CEM, voucher_frame(ANN, id, cum, lane), nonce=nonce))
            if settles and now:
                before = balances(book)
                book.block(settling(BEN, id, nonce=nonce))
                pairs = zip(before, balances(book), strict=True)
                assert all(after >= early for early, after in pairs)
            assert book.ledger.total() == 0
        book.block(closing(BEN, id))
        ends.append(balances(book))
    assert ends[0] == ends[1]


# -- CAP (R-LED-45) -------------------------------------------------------------------------------


def test_a_cap_bounds_what_a_lane_pays_whenever_it_comes() -> None:
    ends = []
    for order in (0, 1):
        book = Book(rules=3)
        id = book.open(opening(ANN, BEN, 100_000))
        claim = claiming(CEM, voucher_frame(ANN, id, 10_000))
        other = claiming(CEM, voucher_frame(ANN, id, 500, lane=1))
        cap = capping(DORA, cap_frame(BEN, id, 4_000))
        assert book.block(*((claim, other, cap) if order else (cap, claim, other))) == OK * 3
        book.block(closing(BEN, id))
        ends.append(balances(book))
    assert ends[0] == ends[1] == [-4_500, 4_455, 0, 0, 45]


def test_a_cap_below_what_was_settled_takes_nothing_back_and_stops_what_would_come() -> None:
    book = Book(rules=3)
    id = book.open(opening(ANN, BEN, 100_000))
    book.block(settling(BEN, id, voucher_frame(ANN, id, 10_000)))
    assert book.block(capping(ANN, cap_frame(BEN, id, 4_000))) == OK
    assert book.events == (Capped(id, b"\xaa" * 16, ANN, BEN, 0, 10_000, 10_000),)
    book.block(claiming(BEN, voucher_frame(ANN, id, 50_000)))
    book.block(closing(BEN, id))
    assert balances(book) == [-10_000, 9_900, 0, 0, 100]


def test_only_a_lower_cap_of_the_payee_on_a_lane_of_the_channel_counts() -> None:
    book = Book(rules=3)
    id = book.open(opening(ANN, BEN))
    frames = {
        cap_frame(ANN, id, 5): Result.CAP,
        voucher_frame(BEN, id, 5): Result.CAP,
        b"\x00": Result.CAP,
        cap_frame(BEN, bytes(16), 5): Result.CHANNEL,
        cap_frame(BEN, id, 5, lane=64): Result.LANE,
        cap_frame(BEN, id, 5, lane=63): Result.OK,
        cap_frame(BEN, id, 6, lane=63): Result.NOTHING,
        cap_frame(BEN, id, 0, lane=63): Result.OK,
    }
    assert book.block(*[capping(CEM, frame) for frame in frames]) == tuple(frames.values())


# -- TOP_UP and EXTEND (R-LED-42, 43) -------------------------------------------------------------


def test_more_escrow_lets_the_channel_pay_what_was_claimed_above_it() -> None:
    book = Book(rules=3)
    id = book.open(opening(ANN, BEN, 500))
    book.block(settling(BEN, id, voucher_frame(ANN, id, 800)))
    assert book.block(topping_up(ANN, id, 200)) == OK
    assert book.events == (Extended(id, b"\xaa" * 16, ANN, BEN, 700, START_S + DAY_S),)
    assert book.block(settling(BEN, id, nonce=1)) == OK
    assert balances(book) == [-700, 693, 0, 0, 7]


@pytest.mark.parametrize(
    ("signer", "amount", "result"),
    [
        (BEN, 1, Result.PARTY),
        (STRANGER, 1, Result.PARTY),
        (ANN, 0, Result.AMOUNT),
        (ANN, 999_501, Result.FUNDS),
        (ANN, 999_500, Result.OK),
    ],
)
def test_only_the_payer_tops_up_from_what_it_has(
    signer: bytes, amount: int, result: Result
) -> None:
    book = Book(rules=3)
    id = book.open(opening(ANN, BEN, 500))
    assert book.block(topping_up(signer, id, amount)) == (result,)
    assert book.ledger.total() == 0


def test_money_in_a_circle_never_takes_an_escrow_out_of_its_range() -> None:
    book = Book(Ledger.genesis(genesis_body(floor=1 - 2**51, commons_ppm=0, rules=3)))
    whole = 2**51 - 1
    id = book.open(opening(ANN, BEN, whole))
    for turn in range(1, 5):
        settle = settling(BEN, id, voucher_frame(ANN, id, turn * whole), nonce=turn)
        back = transfer(BEN, ANN, whole, nonce=turn)
        assert book.block(settle, back) == OK * 2
        expected = Result.OK if (turn + 1) * whole < 2**53 else Result.AMOUNT
        assert book.block(topping_up(ANN, id, whole, nonce=turn)) == (expected,)
    assert expected is Result.AMOUNT


@pytest.mark.parametrize(
    ("signer", "days", "result"),
    [
        (BEN, 2, Result.PARTY),
        (ANN, 1, Result.EXPIRY),
        (ANN, 33, Result.EXPIRY),
        (ANN, 2, Result.OK),
    ],
)
def test_only_the_payer_extends_and_only_to_later(signer: bytes, days: int, result: Result) -> None:
    book = Book(rules=3)
    id = book.open(opening(ANN, BEN))
    assert book.block(extending(signer, id, START_S + days * DAY_S)) == (result,)
    settles_s = (days if result is Result.OK else 1) * DAY_S + START_S + HOUR_S
    assert book.ledger.settlement_s() == settles_s


def test_a_channel_that_is_closing_or_expired_gets_no_more_of_anything() -> None:
    book = Book(rules=3)
    first = book.open(opening(ANN, BEN, 500))
    second = book.open(opening(ANN, BEN, 500, nonce=1))
    book.block(closing(ANN, first))
    assert book.block(topping_up(ANN, first, 1), extending(ANN, first, START_S + 2 * DAY_S)) == (
        (Result.CLOSING,) * 2
    )
    late = {"valid_until_s": START_S + 2 * DAY_S}
    ops = topping_up(ANN, second, 1, **late), extending(ANN, second, START_S + 3 * DAY_S, **late)
    assert book.block(*ops, after_s=DAY_S) == (Result.CLOSING,) * 2
