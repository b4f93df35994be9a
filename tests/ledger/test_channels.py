"""Channels: opened within bounds, claimed by anybody, settled once and on time."""

from __future__ import annotations

import itertools

import pytest

from demesh.ledger import channels as channels_module
from demesh.ledger import ledger as ledger_module
from demesh.ledger import ops as ops_module
from demesh.ledger.channels import EXPIRY_S_MAX, LANES_MAX, WINDOW_S_MAX, WINDOW_S_MIN
from demesh.ledger.events import Cause, Claimed, Closing, Opened, Settled
from demesh.ledger.ledger import Ledger
from demesh.ledger.ops import SignedOp
from demesh.ledger.state import PPM, TIME_S_MAX, Result
from demesh.wire.frame import seal_statement
from demesh.wire.kinds import Kind
from demesh.wire.offers import Split
from demesh.wire.readings import Voucher
from demesh.wire.schema import encode
from ledger.book import (
    AGREEMENT,
    ANN,
    BEN,
    BINDING,
    CEM,
    COMMONS,
    DAY_S,
    DORA,
    FLOOR,
    HOUR_S,
    KEYS,
    START_S,
    STRANGER,
    Book,
    claiming,
    closing,
    genesis_body,
    open_voucher,
    opening,
    signed,
    transfer,
    voucher_frame,
)

ESCROW = 100_000
EVERYBODY = (ANN, BEN, CEM, DORA, COMMONS)


def opened(**options: object) -> tuple[Book, bytes]:
    """A street in which ann pays ben through an open channel."""
    book = Book()
    return book, book.open(opening(ANN, BEN, ESCROW, **options))


# -- open -----------------------------------------------------------------------------------------


def test_opening_takes_the_escrow_from_the_payer_and_keeps_the_sum():
    book = Book()
    op = opening(ANN, BEN, ESCROW)
    id = book.open(op)
    assert id == op.id[:16]
    assert book.balance(ANN) == -ESCROW
    channel = book.ledger.channel(id)
    assert (channel.payer, channel.payee, channel.escrow) == (ANN, BEN, ESCROW)
    assert (channel.claimed, channel.close_at_s, channel.agreement) == (0, None, AGREEMENT)
    assert book.events == (Opened(id, AGREEMENT, ANN, BEN, ESCROW, START_S + DAY_S),)
    assert book.ledger.total() == 0


NOW_S = START_S + 1


@pytest.mark.parametrize(
    ("op", "result"),
    [
        (opening(STRANGER, BEN), Result.SIGNER),
        (opening(ANN, ANN), Result.PEER),
        (opening(ANN, STRANGER), Result.PEER),
        (opening(ANN, BEN, 0), Result.AMOUNT),
        (opening(ANN, BEN, -FLOOR + 1), Result.FUNDS),
        (opening(ANN, BEN, expiry_s=NOW_S), Result.EXPIRY),
        (opening(ANN, BEN, expiry_s=NOW_S + EXPIRY_S_MAX + 1), Result.EXPIRY),
        (opening(ANN, BEN, window_s=WINDOW_S_MIN - 1), Result.WINDOW),
        (opening(ANN, BEN, window_s=WINDOW_S_MAX + 1), Result.WINDOW),
        (opening(ANN, BEN, splits=(Split(STRANGER, 1),)), Result.SPLITS),
        (opening(ANN, BEN, splits=(Split(CEM, 0),)), Result.SPLITS),
        (opening(ANN, BEN, splits=(Split(CEM, 1), Split(CEM, 1))), Result.SPLITS),
        (opening(ANN, BEN, splits=(Split(CEM, PPM - 10_000 + 1),)), Result.SPLITS),
        (opening(ANN, BEN, splits=tuple(Split(id, 1) for id in EVERYBODY)), Result.SPLITS),
    ],
)
def test_an_opening_outside_its_bounds_is_refused_and_takes_nothing(op, result):
    book = Book()
    assert book.block(op) == (result,)
    assert book.ledger.channels() == ()
    assert all(account.balance == 0 for _, account in book.ledger.accounts())


@pytest.mark.parametrize(
    "op",
    [
        opening(ANN, BEN, -FLOOR),
        opening(ANN, BEN, expiry_s=NOW_S + 1),
        opening(ANN, BEN, expiry_s=NOW_S + EXPIRY_S_MAX),
        opening(ANN, BEN, window_s=WINDOW_S_MAX),
        opening(ANN, BEN, splits=(Split(CEM, PPM - 10_000),)),
        opening(ANN, BEN, splits=(Split(CEM, 1), Split(DORA, 2), Split(BEN, 3), Split(ANN, 4))),
    ],
)
def test_an_opening_at_its_bounds_is_taken(op):
    assert Book().block(op) == (Result.OK,)


def test_a_payer_has_a_bounded_number_of_channels_and_may_open_again_after_one_is_gone(
    monkeypatch,
):
    monkeypatch.setattr(channels_module, "CHANNELS_MAX", 2)
    book, id = opened(nonce=1)
    assert book.block(opening(ANN, BEN, nonce=2), opening(ANN, BEN, nonce=3)) == (
        Result.OK,
        Result.CHANNELS,
    )
    assert book.block(opening(BEN, ANN)) == (Result.OK,)
    book.block(closing(BEN, id))
    assert book.block(opening(ANN, BEN, nonce=4)) == (Result.OK,)


def test_an_id_that_is_in_use_is_not_opened_again():
    book, id = opened()
    op = opening(CEM, BEN)
    twin = SignedOp(id + bytes(16), op.signer, op.valid_until_s, op.body)
    assert book.block(twin) == (Result.TAKEN,)
    assert book.balance(CEM) == 0


# -- claim ----------------------------------------------------------------------------------------


def test_anyone_may_claim_and_nothing_moves_yet():
    book, id = opened()
    frame = voucher_frame(ANN, id, 300)
    assert book.block(claiming(STRANGER, frame)) == (Result.OK,)
    assert book.events == (Claimed(id, AGREEMENT, ANN, BEN, 0, 300, 300),)
    assert book.ledger.channel(id).claimed == 300
    assert (book.balance(BEN), book.balance(ANN)) == (0, -ESCROW)


def test_a_claim_that_raises_nothing_is_refused():
    book, id = opened()
    claims = [claiming(BEN, voucher_frame(ANN, id, cum)) for cum in (300, 299, 0, 301)]
    assert book.block(*claims, claiming(CEM, voucher_frame(ANN, id, 301))) == (
        Result.OK,
        Result.NOTHING,
        Result.NOTHING,
        Result.OK,
        Result.NOTHING,
    )
    assert book.ledger.channel(id).claimed == 301


def test_lanes_add_up_and_never_beyond_the_escrow():
    book, id = opened()
    book.block(
        claiming(BEN, voucher_frame(ANN, id, 10, lane=5)),
        claiming(BEN, voucher_frame(ANN, id, 20, lane=2)),
        claiming(BEN, voucher_frame(ANN, id, 15, lane=5)),
    )
    channel = book.ledger.channel(id)
    assert [(lane.lane, lane.cum) for lane in channel.lanes] == [(2, 20), (5, 15)]
    assert channel.claimed == 35
    assert book.block(claiming(BEN, voucher_frame(ANN, id, 2**53 - 1))) == (Result.OK,)
    assert book.ledger.channel(id).claimed == ESCROW


def test_a_channel_has_a_bounded_number_of_lanes_and_all_of_them_work():
    book, id = opened()
    claims = [claiming(BEN, voucher_frame(ANN, id, 1, lane)) for lane in range(LANES_MAX + 1)]
    assert book.block(*claims) == (Result.OK,) * LANES_MAX + (Result.LANE,)
    assert book.ledger.channel(id).claimed == LANES_MAX


def test_a_voucher_that_is_not_the_payers_is_refused():
    book, id = opened()
    assert book.block(claiming(BEN, voucher_frame(BEN, id, 300))) == (Result.VOUCHER,)
    assert book.ledger.channel(id).claimed == 0


def test_a_voucher_with_a_broken_signature_or_of_another_kind_is_refused():
    book, id = opened()
    frame = voucher_frame(ANN, id, 300)
    broken = frame[:-1] + bytes([frame[-1] ^ 1])
    payload = encode(Voucher(id, 0, 300))
    other_kind = seal_statement(
        Kind.CARD, BINDING, ANN, payload, lambda message: KEYS["ann"].sign(message).signature
    )
    claims = [claiming(BEN, content) for content in (broken, other_kind, b"garbage", frame[:-1])]
    assert book.block(*claims) == (Result.VOUCHER,) * 4


def test_a_voucher_for_a_channel_that_is_gone_or_never_was_is_refused():
    book, id = opened()
    book.block(closing(BEN, id))
    assert book.block(claiming(BEN, voucher_frame(ANN, id, 5))) == (Result.CHANNEL,)
    assert book.block(claiming(BEN, voucher_frame(ANN, b"?" * 16, 5))) == (Result.CHANNEL,)


# -- close ----------------------------------------------------------------------------------------


def test_the_payee_closes_at_once_with_its_best_voucher():
    book, id = opened()
    frame = voucher_frame(ANN, id, 30_000)
    assert book.block(closing(BEN, id, frame)) == (Result.OK,)
    assert book.events == (
        Claimed(id, AGREEMENT, ANN, BEN, 0, 30_000, 30_000),
        Settled(id, AGREEMENT, ANN, BEN, 30_000, 29_700, 300, (), 70_000, Cause.PAYEE),
    )
    assert (book.balance(ANN), book.balance(BEN), book.balance(COMMONS)) == (-30_000, 29_700, 300)
    assert book.ledger.channel(id) is None
    assert book.ledger.settlement_s() is None


def test_a_voucher_that_a_watchtower_has_claimed_before_does_not_spoil_the_payees_close():
    book, id = opened()
    frame = voucher_frame(ANN, id, 30_000)
    assert book.block(claiming(CEM, frame), closing(BEN, id, frame)) == (Result.OK, Result.OK)
    assert book.balance(BEN) == 29_700


def test_a_close_with_a_voucher_that_is_wrong_closes_nothing():
    book, id = opened(nonce=1)
    other = book.open(opening(ANN, BEN, ESCROW, nonce=2))
    assert book.block(
        closing(BEN, id, b"garbage"),
        closing(BEN, id, voucher_frame(ANN, other, 5)),
        closing(BEN, id, voucher_frame(BEN, id, 5)),
        closing(BEN, id, voucher_frame(ANN, id, 5, lane=LANES_MAX)),
    ) == (Result.VOUCHER, Result.VOUCHER, Result.VOUCHER, Result.LANE)
    assert book.ledger.channel(id).claimed == 0
    assert book.ledger.channel(other).claimed == 0


def test_nobody_else_closes_a_channel():
    book, id = opened()
    assert book.block(closing(CEM, id), closing(STRANGER, id)) == (Result.PARTY,) * 2
    assert book.block(closing(BEN, b"?" * 16)) == (Result.CHANNEL,)


def test_a_payers_close_starts_a_window_in_which_the_payee_can_still_claim():
    book, id = opened()
    assert book.block(closing(ANN, id)) == (Result.OK,)
    ends_s = book.time_s + HOUR_S
    assert book.events == (Closing(id, AGREEMENT, ANN, BEN, ends_s),)
    assert book.ledger.settlement_s() == ends_s
    claim = claiming(BEN, voucher_frame(ANN, id, 500), valid_until_s=ends_s)
    assert book.block(claim, after_s=HOUR_S - 1) == (Result.OK,)
    assert book.ledger.channel(id) is not None
    book.block()
    assert book.ledger.channel(id) is None
    assert book.events[-1].why == Cause.PAYER
    assert (book.balance(ANN), book.balance(BEN), book.balance(COMMONS)) == (-500, 495, 5)


def test_a_claim_in_the_block_that_ends_the_window_still_counts():
    book, id = opened()
    book.block(closing(ANN, id))
    claim = claiming(BEN, voucher_frame(ANN, id, 500), valid_until_s=START_S + 3 * HOUR_S)
    assert book.block(claim, after_s=2 * HOUR_S) == (Result.OK,)
    assert book.ledger.channel(id) is None
    assert book.balance(BEN) == 495


def test_a_payer_cannot_restart_or_shorten_a_window_that_runs():
    book, id = opened()
    book.block(closing(ANN, id, nonce=1))
    ends_s = book.ledger.channel(id).close_at_s
    assert book.block(closing(ANN, id, nonce=2)) == (Result.CLOSING,)
    assert book.ledger.channel(id).close_at_s == ends_s


def test_a_payee_may_close_at_once_while_the_payers_window_runs():
    book, id = opened()
    book.block(closing(ANN, id))
    assert book.block(closing(BEN, id)) == (Result.OK,)
    assert book.ledger.channel(id) is None
    assert book.ledger.settlement_s() is None


def test_a_payer_may_hand_in_its_own_voucher_when_it_closes():
    book, id = opened()
    assert book.block(closing(ANN, id, voucher_frame(ANN, id, 40))) == (Result.OK,)
    assert book.ledger.channel(id).claimed == 40


def test_expiry_starts_the_window_by_itself_and_the_escrow_comes_back_without_anybodys_help():
    book, id = opened(expiry_s=START_S + DAY_S, window_s=2 * HOUR_S)
    assert book.ledger.settlement_s() == START_S + DAY_S + 2 * HOUR_S
    book.block(after_s=DAY_S - 2)
    late = signed(ANN, closing(ANN, id).body, valid_until_s=START_S + DAY_S)
    assert book.block(late) == (Result.CLOSING,)  # in the second of the expiry itself
    book.block(after_s=2 * HOUR_S - 1)
    assert book.ledger.channel(id) is not None
    book.block()
    assert book.ledger.channel(id) is None
    assert book.events == (Settled(id, AGREEMENT, ANN, BEN, 0, 0, 0, (), ESCROW, Cause.EXPIRY),)
    assert all(account.balance == 0 for _, account in book.ledger.accounts())


def test_a_payer_that_closes_a_second_before_expiry_gains_nothing():
    book, id = opened(expiry_s=START_S + HOUR_S)
    book.time_s = START_S + HOUR_S - 2
    assert book.block(closing(ANN, id)) == (Result.OK,)
    assert book.ledger.settlement_s() == START_S + 2 * HOUR_S - 1


def test_settling_is_bounded_per_block_longest_due_first_and_goes_on_in_the_next(monkeypatch):
    monkeypatch.setattr(ledger_module, "SETTLED_MAX", 2)
    book = Book()
    expiries = [START_S + 100 + n for n in (3, 1, 0, 2)]
    ids = [book.open(opening(ANN, BEN, 10, expiry_s=at)) for at in expiries]
    book.block(after_s=DAY_S)
    assert [event.channel for event in book.events] == [ids[2], ids[1]]
    assert book.ledger.deadline_s() <= book.time_s
    book.block()
    assert [event.channel for event in book.events] == [ids[3], ids[0]]
    assert book.ledger.channels() == ()
    assert book.balance(ANN) == 0


# -- settlement -----------------------------------------------------------------------------------


def test_splits_are_floors_of_the_total_and_the_payee_gets_the_rest():
    splits = (Split(CEM, 333_333), Split(DORA, 1))
    book, id = opened(splits=splits)
    book.block(closing(BEN, id, voucher_frame(ANN, id, 99_999)))
    settled = book.events[-1]
    assert settled.fee == 999
    assert settled.shares == ((CEM, 33_332), (DORA, 0))
    assert settled.received == 99_999 - 999 - 33_332
    assert settled.refund == 1
    assert book.balance(BEN) == settled.received
    assert book.ledger.total() == 0


def test_splits_may_name_the_parties_and_the_commons():
    book, id = opened(splits=(Split(ANN, 500_000), Split(BEN, 100_000), Split(COMMONS, 90_000)))
    book.block(closing(BEN, id, voucher_frame(ANN, id, ESCROW)))
    assert (book.balance(ANN), book.balance(BEN), book.balance(COMMONS)) == (
        -50_000,
        40_000,
        10_000,
    )


def test_a_commons_of_zero_takes_nothing():
    book = Book(Ledger.genesis(genesis_body(commons_ppm=0)))
    id = book.open(opening(ANN, BEN))
    book.block(closing(BEN, id, voucher_frame(ANN, id, 777)))
    assert (book.balance(BEN), book.balance(COMMONS)) == (777, 0)


def test_the_payout_is_free_of_order_duplicates_and_submitters():
    totals = [(0, 10), (0, 30), (1, 5), (1, 7)]
    outcomes = []
    for order in itertools.permutations(totals):
        book, id = opened()
        for nonce, (lane, cum) in enumerate((*order, *order)):
            book.block(claiming((BEN, CEM)[nonce % 2], voucher_frame(ANN, id, cum, lane)))
        book.block(closing(BEN, id))
        outcomes.append([account.balance for _, account in book.ledger.accounts()])
    assert outcomes == [outcomes[0]] * 24
    assert book.balance(BEN) == 37


def test_a_payee_below_its_floor_by_nothing_can_still_be_paid():
    book = Book()
    book.block(transfer(BEN, CEM, -FLOOR))
    id = book.open(opening(ANN, BEN))
    book.block(closing(BEN, id, voucher_frame(ANN, id, 1_000)))
    assert book.balance(BEN) == FLOOR + 990


def test_a_record_with_every_lane_and_split_in_use_is_read_back():
    splits = tuple(Split(id, 200_000) for id in (BEN, CEM, DORA, COMMONS))
    book, id = opened(splits=splits)
    for lane in reversed(range(LANES_MAX)):
        book.block(claiming(CEM, voucher_frame(ANN, id, 2**53 - 1, lane)))
    restored = Ledger.restore(book.ledger.records())
    assert restored.channel(id) == book.ledger.channel(id)
    assert len(dict(book.ledger.records())[b"c" + id]) <= 1024
    applied = restored.apply((closing(BEN, id),), book.time_s, open_voucher)
    assert applied.results == (Result.OK,)
    assert applied.ledger.total() == 0


# -- bounds ---------------------------------------------------------------------------------------


def test_the_bounds_are_part_of_the_rules_and_change_only_with_the_ledgers_version():
    # Two daemons that differ in one of these disagree about a block, and the mesh stops.
    assert (EXPIRY_S_MAX, WINDOW_S_MIN, WINDOW_S_MAX) == (2_764_800, 3_600, 604_800)
    assert (channels_module.CHANNELS_MAX, LANES_MAX) == (256, 64)
    assert (ops_module.VALIDITY_S_MAX, ops_module.REMEMBERED_MAX) == (86_400, 4_096)
    assert (ledger_module.SETTLED_MAX, ledger_module.FORGOTTEN_MAX) == (256, 512)
    assert ledger_module.COMMONS_PPM_MAX == 20_000


def test_near_the_end_of_time_a_channel_whose_end_could_not_be_written_is_not_opened():
    book = Book()
    book.block(after_s=TIME_S_MAX - START_S - 2 * HOUR_S)
    now_s = book.time_s
    late = opening(ANN, BEN, expiry_s=TIME_S_MAX - HOUR_S + 1, nonce=1, valid_until_s=now_s)
    last = opening(ANN, BEN, expiry_s=TIME_S_MAX - HOUR_S, nonce=2, valid_until_s=now_s)
    assert book.block(late, last, after_s=0) == (Result.EXPIRY, Result.OK)
    assert book.ledger.settlement_s() == TIME_S_MAX
    book.block(after_s=10 * HOUR_S)  # beyond the end of time, which is where mesh time stays
    assert book.ledger.time_s == TIME_S_MAX
    assert book.ledger.channels() == ()
