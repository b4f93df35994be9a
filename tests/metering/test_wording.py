"""The sentence of a tariff: twenty of them to the letter, and none that hides a difference."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.metering.tariff import check, cost, rates
from demesh.metering.windows import rate_at
from demesh.metering.wording import sentence
from demesh.wire.offers import Tariff, Tier, Window
from metering.tariffs import PATIENT

CENTS_24 = (Tier(None, 240_000, 1000),)
CENTS_18 = (Tier(None, 180_000, 1000),)
STEPS = (Tier(10_000, 260_000, 1000), Tier(None, 320_000, 1000))
PLAIN = Tariff("Wh", 0, 0, None, CENTS_24)
NIGHT = Window(0b0011111, 1320, 1440, CENTS_18)
NEW_YEAR_S = 1_767_222_000  # 2026-01-01 in UTC+01:00
YEAR_S = 365 * 86_400


def priced(price: int, per: int, unit: str = "Wh", scale: int = 0) -> Tariff:
    return Tariff(unit, 0, 0, None, (Tier(None, price, per),), scale=scale)


TABLE = [
    (PLAIN, "0.24 per kWh"),
    (priced(240_001, 1000), "0.240001 per kWh"),
    (priced(2, 3), "0.000002 per 3 Wh"),
    (priced(0, 1), "free"),
    (
        Tariff("Wh", 10**6, 5, 10**7, (Tier(500, 400, 1), Tier(None, 300, 1))),
        "1.00 to start, then 0.40 per kWh up to 500 Wh, then 0.30 per kWh"
        "; at least 0.000005; at most 10.00",
    ),
    (priced(240_000, 1000, scale=3), "0.24 per MWh"),
    (priced(7, 2, "Wh", -3), "0.0035 per Wh"),
    (priced(7, 3, "Wh", 3), "0.000007 per 3 kWh"),
    (priced(1_800_000, 1, "m3"), "1800.00 per 1000 m3"),
    (priced(1, 1, "m3", -3), "0.001 per 1000 (10^-3 m3)"),
    (priced(5, 1, "s"), "0.005 per 1000 s"),
    (priced(3, 1, "bit", 6), "0.003 per Gbit"),
    (replace(PLAIN, tiers=STEPS), "0.26 per kWh up to 10 kWh, then 0.32 per kWh"),
    (
        replace(PLAIN, windows=(NIGHT,)),
        "Mon-Fri 22:00-24:00 0.18 per kWh; else 0.24 per kWh; times UTC",
    ),
    (
        replace(PLAIN, windows=(replace(NIGHT, days=127),), offset_min=-210),
        "daily 22:00-24:00 0.18 per kWh; else 0.24 per kWh; times UTC-03:30",
    ),
    (
        replace(PLAIN, windows=(replace(NIGHT, days=0b1100000),)),
        "Sat, Sun 22:00-24:00 0.18 per kWh; else 0.24 per kWh; times UTC",
    ),
    (
        replace(PLAIN, windows=(replace(NIGHT, days=0b1110101, from_min=5, to_min=65),)),
        "Mon, Wed, Fri-Sun 00:05-01:05 0.18 per kWh; else 0.24 per kWh; times UTC",
    ),
    (replace(PLAIN, from_s=86_400), "0.24 per kWh; valid from 1970-01-02"),
    (
        replace(PLAIN, to_s=NEW_YEAR_S + 1, offset_min=60),
        "0.24 per kWh; valid to 2026-01-01 00:00:01 UTC+01:00",
    ),
    (
        Tariff(
            *("Wh", 50_000, 0, 20_000_000, STEPS, (NIGHT,), 60),
            *(NEW_YEAR_S, NEW_YEAR_S + YEAR_S),
        ),
        "0.05 to start; Mon-Fri 22:00-24:00 0.18 per kWh; else 0.26 per kWh up to 10 kWh, "
        "then 0.32 per kWh; at most 20.00; times UTC+01:00; valid from 2026-01-01 to 2027-01-01",
    ),
    (replace(PLAIN, from_s=90_060, to_s=3 * 86_400), "0.24 per kWh; valid from 1970-01-02 01:01 "
     "to 1970-01-04"),
]  # fmt: skip


@pytest.mark.parametrize(("tariff", "text"), TABLE)
def test_the_sentence_says_what_is_paid(tariff, text):
    check(tariff)
    assert sentence(tariff) == text


# Few values of each part, so that tariffs that read alike are drawn.
TIERS = st.sampled_from([CENTS_24, CENTS_18, STEPS, (Tier(None, 240, 1),), (Tier(None, 0, 3),)])
SMALL = st.sampled_from([0, 1, 50_000])
TARIFFS = st.builds(
    Tariff,
    st.just("Wh"),
    SMALL,
    SMALL,
    st.none() | st.just(20_000_000),
    TIERS,
    st.lists(
        st.builds(
            Window,
            st.sampled_from([1, 31, 96, 127]),
            st.sampled_from([0, 1]),
            st.sampled_from([2, 1440]),
            TIERS,
        ),
        max_size=2,
    ).map(tuple),
    st.sampled_from([0, 60, -60]),
)
GRID = (0, 1, 999, 1_000, 10_001, 10**8)


@PATIENT
@given(TARIFFS, TARIFFS)
def test_what_reads_the_same_costs_the_same(one, other):
    if sentence(one) != sentence(other):
        return
    assert len(rates(one)) == len(rates(other))
    for units in GRID:
        for rate in range(len(rates(one))):
            counts = [0] * rate + [units]
            assert cost(one, counts) == cost(other, counts)
    hours = range(0, 7 * 86_400, 3_600)
    assert [rate_at(one, at_s) for at_s in hours] == [rate_at(other, at_s) for at_s in hours]


@PATIENT
@given(TARIFFS, st.data())
def test_what_costs_or_counts_otherwise_reads_otherwise(one, data):
    changed = data.draw(
        st.sampled_from(
            [
                replace(one, start=one.start + 1),
                replace(one, least=one.least + 1),
                replace(one, most=(one.most or 30_000_000) + 1),
                replace(one, scale=3, tiers=CENTS_24, windows=(NIGHT,)),
                replace(one, tiers=(Tier(7, 1, 1), *one.tiers[-1:])),
                replace(one, windows=(*one.windows, NIGHT)),
                replace(one, from_s=1),
                replace(one, to_s=61),
            ]
        )
    )
    assert sentence(changed) != sentence(one)
