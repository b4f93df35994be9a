"""A tariff: monotone, free of chunking, never rounded against the payer, and readable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.metering.tariff import check, cost, money, quote, sentence, units_for
from demesh.wire.offers import Tariff, Tier

AMOUNTS = st.integers(0, 10**9)
UNITS = st.integers(0, 10**7)


@st.composite
def tariffs(draw: st.DrawFn) -> Tariff:
    """Any tariff that `check` accepts."""
    ends = sorted(draw(st.sets(st.integers(1, 10**6), max_size=7)))
    prices = st.tuples(st.integers(0, 10**6), st.integers(1, 10**4))
    tiers = tuple(Tier(end, *draw(prices)) for end in [*ends, None])
    start, least = draw(AMOUNTS), draw(AMOUNTS)
    most = draw(st.none() | st.integers(max(start, least), 2 * 10**9))
    return Tariff("Wh", start, least, most, tiers)


def flat(price: int, per: int = 1, **parts: int) -> Tariff:
    return Tariff(
        "Wh",
        parts.get("start", 0),
        parts.get("least", 0),
        parts.get("most"),
        (Tier(None, price, per),),
    )


@given(tariffs(), UNITS, UNITS)
def test_more_units_never_cost_less(tariff, units, more):
    check(tariff)
    assert cost(tariff, units) <= cost(tariff, units + more)


@given(tariffs(), st.lists(st.integers(0, 10**5), max_size=20))
def test_a_bill_in_pieces_adds_up_to_the_bill_in_one(tariff, pieces):
    billed, units = cost(tariff, 0), 0
    for piece in pieces:
        billed += cost(tariff, units + piece) - cost(tariff, units)
        units += piece
    assert billed == cost(tariff, sum(pieces))


@given(tariffs(), AMOUNTS, UNITS)
def test_units_for_is_the_most_that_a_credit_buys(tariff, credit, units_max):
    units = units_for(tariff, credit, units_max)
    assert 0 <= units <= units_max
    assert units == 0 or cost(tariff, units) <= credit
    assert units == units_max or cost(tariff, units + 1) > credit


@given(st.integers(0, 10**6), st.integers(1, 10**4), UNITS)
def test_a_flat_price_rounds_down_by_less_than_one_credit(price, per, units):
    exact = price * units
    assert exact - per < cost(flat(price, per), units) * per <= exact


def test_the_least_counts_from_the_first_unit_and_the_most_is_never_exceeded():
    tariff = flat(10, least=100, most=500)
    assert [cost(tariff, units) for units in (0, 1, 11, 60)] == [0, 100, 110, 500]


def test_tiers_price_each_unit_once():
    tariff = Tariff("Wh", 7, 0, None, (Tier(10, 3, 1), Tier(20, 2, 1), Tier(None, 1, 1)))
    assert [cost(tariff, units) for units in (0, 10, 11, 20, 25)] == [7, 37, 39, 57, 62]


def test_units_never_run_below_zero():
    with pytest.raises(ValueError, match="only grow from 0, got -1"):
        cost(flat(1), -1)


@pytest.mark.parametrize(
    ("tariff", "text"),
    [
        (Tariff("Wh", 0, 0, None, ()), "at least one tier"),
        (Tariff("Wh", 0, 0, None, (Tier(5, 1, 1),)), "above 5 have no price"),
        (Tariff("Wh", 0, 0, None, (Tier(None, 1, 1),) * 2), "tier 1 has no end"),
        (
            Tariff("Wh", 0, 0, None, (Tier(9, 1, 1), Tier(9, 2, 1), Tier(None, 1, 1))),
            "tier 2 ends at 9, expected more than 9",
        ),
        (flat(1, 0), "per >= 1, got 1 / 0"),
        (flat(-1), "price >= 0"),
        (flat(1, start=-1), "0 or more"),
        (flat(1, start=9, most=8), "most is 8, expected at least 9"),
    ],
)
def test_what_is_no_tariff_is_refused_in_words_and_quoted_as_nothing(tariff, text):
    with pytest.raises(ValueError, match=text):
        check(tariff)
    assert quote(tariff, 1) is None


def test_a_stranger_s_good_tariff_is_quoted():
    assert quote(flat(3, 2), 3) == 4


@pytest.mark.parametrize(
    ("tariff", "text"),
    [
        (flat(240_000, 1000), "0.24 per kWh"),
        (flat(240_001, 1000), "0.240001 per kWh"),
        (flat(2, 3), "0.000002 per 3 Wh"),
        (flat(0), "free"),
        (
            Tariff("Wh", 10**6, 5, 10**7, (Tier(500, 400, 1), Tier(None, 300, 1))),
            "1.00 to start, then 0.40 per kWh up to 500 Wh, then 0.30 per kWh"
            "; at least 0.000005; at most 10.00",
        ),
    ],
)
def test_the_sentence_says_what_is_paid(tariff, text):
    assert sentence(tariff) == text


@given(st.integers(-(10**12), 10**12))
def test_money_is_written_exactly(micro):
    whole, digits = money(micro).lstrip("-").split(".")
    assert (int(whole) * 10**6 + int(digits.ljust(6, "0"))) * (-1 if micro < 0 else 1) == micro
