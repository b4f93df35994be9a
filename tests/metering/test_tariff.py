"""A tariff: monotone, free of chunking, never rounded against the payer, and readable."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.metering.tariff import (
    AMOUNT_MAX,
    TARIFF_BYTES_MAX,
    TIME_S_MAX,
    bound,
    cheaper,
    check,
    cost,
    itemise,
    money,
    quote,
    rates,
    units_for,
)
from demesh.wire.offers import Tariff, Tier, Window
from demesh.wire.schema import encode
from metering.tariffs import AMOUNTS, PATIENT, UNITS, counted, tariffs, windowed

LARGE = (*(Tier(2**40 + n, AMOUNT_MAX, 2**32) for n in range(7)), Tier(None, 1, 1))


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


@PATIENT
@given(counted(), st.data(), UNITS)
def test_more_units_of_any_rate_never_cost_less(case, data, more):
    tariff, counts = case
    check(tariff)
    rate = data.draw(st.integers(0, len(counts) - 1))
    grown = [*counts[:rate], counts[rate] + more, *counts[rate + 1 :]]
    assert cost(tariff, counts) <= cost(tariff, grown)


@PATIENT
@given(windowed(), st.data(), st.lists(st.integers(0, 10**5), max_size=20))
def test_how_units_of_several_rates_were_cut_changes_nothing(tariff, data, pieces):
    """Tiers go on where they stood when their window comes again (R-MET-46)."""
    counts = [0] * len(rates(tariff))
    billed = cost(tariff, counts)
    for piece in pieces:
        before = cost(tariff, counts)
        counts[data.draw(st.integers(0, len(counts) - 1))] += piece
        billed += cost(tariff, counts) - before
    assert billed == cost(tariff, counts)
    alone = 0
    for own, units in zip(rates(tariff), counts, strict=True):
        alone += cost(Tariff("Wh", 0, 0, None, own), units)
    total = max(tariff.start + alone, tariff.least if any(counts) else 0)
    assert cost(tariff, counts) == (total if tariff.most is None else min(total, tariff.most))


@PATIENT
@given(counted())
def test_no_way_to_spread_units_costs_more_than_their_bound(case):
    tariff, counts = case
    assert cost(tariff, counts) <= bound(tariff, sum(counts))
    assert quote(tariff, sum(counts)) == bound(tariff, sum(counts))


@given(tariffs(), UNITS)
def test_without_windows_the_bound_is_the_cost(tariff, units):
    assert bound(tariff, units) == cost(tariff, units) == cost(tariff, (units,))


def test_the_bound_rounds_up_and_knows_every_rate_s_dearest_tier():
    dear = Window(1, 0, 1, (Tier(5, 1, 1), Tier(None, 10, 3)))
    tariff = replace(flat(2), windows=(dear,))
    assert [bound(tariff, units) for units in (0, 1, 2, 3)] == [0, 4, 7, 10]


@PATIENT
@given(counted(), st.data(), st.integers(0, 10**4))
def test_the_cheaper_rate_never_costs_more_than_the_other(case, data, units):
    tariff, counts = case
    either = data.draw(st.tuples(*[st.integers(0, len(counts) - 1)] * 2))
    uncapped = replace(tariff, least=0, most=None)

    def with_more(rate: int) -> int:
        return cost(uncapped, [n + units * (at == rate) for at, n in enumerate(counts)])

    chosen = cheaper(tariff, counts, units, either)
    assert with_more(chosen) == min(with_more(rate) for rate in either)
    assert chosen == cheaper(tariff, counts, units, either[::-1])


@PATIENT
@given(counted())
def test_the_items_of_a_bill_have_every_unit_once_and_add_up(case):
    tariff, counts = case
    items = list(itemise(tariff, counts))
    assert all(item.units > 0 for item in items)
    for rate, units in enumerate(counts):
        assert sum(item.units for item in items if item.rate == rate) == units
    total = tariff.start + sum(item.amount for item in items)
    assert total == cost(replace(tariff, least=0, most=None), counts)


def test_a_tariff_that_costs_nothing_at_most_costs_nothing():
    free = replace(flat(0), most=0, windows=(Window(1, 0, 1, (Tier(None, 1, 1),)),))
    assert cost(free, (0, 1)) == 0
    assert [item.amount for item in itemise(free, (0, 1))] == [1]


def test_rates_that_were_not_used_yet_may_be_missing_from_the_counts():
    tariff = replace(flat(2), windows=(Window(1, 0, 1, (Tier(None, 5, 1),)),))
    assert [cost(tariff, counts) for counts in ((), (3,), (3, 1))] == [0, 6, 11]
    assert cheaper(tariff, (), 1, (0, 1)) == 0


@pytest.mark.parametrize("units", [7, -1, (1, 2, 3), (1, -1)])
def test_what_are_no_counts_of_a_tariff_with_windows_is_refused(units):
    with pytest.raises(ValueError, match=r"needs the units|expected counts of 2|only grow"):
        cost(replace(flat(2), windows=(Window(1, 0, 1, (Tier(None, 5, 1),)),)), units)


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
        (
            replace(flat(1), windows=(Window(1, 60, 60, (Tier(None, 1, 1),)),)),
            "window 1 ends at minute 60, expected more than 60",
        ),
        (
            replace(flat(1), windows=(Window(1, 0, 60, (Tier(9, 1, 1),)),)),
            "window 1, units above 9 have no price",
        ),
        (replace(flat(1), scale=2), "scale is 2, expected a multiple of 3"),
        (replace(flat(1), from_s=9, to_s=9), "valid_to must come after valid_from"),
        (replace(flat(1), to_s=TIME_S_MAX + 1), "the year 9998"),
        (
            replace(
                flat(1),
                windows=(Window(1, 0, 60, LARGE),) * 7,
            ),
            "expected 1024 at most",
        ),
    ],
)
def test_what_is_no_tariff_is_refused_in_words_and_quoted_as_nothing(tariff, text):
    with pytest.raises(ValueError, match=text):
        check(tariff)
    assert quote(tariff, 1) is None


def test_a_stranger_s_good_tariff_is_quoted():
    assert quote(flat(3, 2), 3) == 4


def test_the_largest_tariff_without_windows_is_not_too_large():
    most = tuple(Tier(AMOUNT_MAX - 8 + n, AMOUNT_MAX, 2**32) for n in range(7))
    tariff = Tariff("\N{GRINNING FACE}" * 64, *[AMOUNT_MAX] * 3, (*most, Tier(None, AMOUNT_MAX, 1)))
    check(tariff)
    assert len(encode(tariff)) <= TARIFF_BYTES_MAX


@given(st.integers(-(10**12), 10**12))
def test_money_is_written_exactly(micro):
    whole, digits = money(micro).lstrip("-").split(".")
    assert (int(whole) * 10**6 + int(digits.ljust(6, "0"))) * (-1 if micro < 0 else 1) == micro
