"""Readings are registers: what may follow what (R-MET-4 to 10)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.metering.register import NO_PREVIOUS, Rate, Verdict, digest, judge
from demesh.wire.offers import Tariff, Tier
from demesh.wire.readings import Reading, Why

TARIFF = Tariff("Wh", 0, 0, None, (Tier(None, 10, 1),))
RATE = Rate(units=100, per_ms=1_000, resolution=5)

FIRST = Reading(b"A" * 16, b"C" * 16, 1, Why.BEGIN, 1_000, 50, 50, 0, NO_PREVIOUS)
SECOND = replace(
    FIRST, page=2, why=Why.QUOTA, time_s=1_001, register=80, need=300, previous=digest(FIRST)
)


def verdict(last: Reading | None, reading: Reading, elapsed_ms: int | None = 1_000) -> Verdict:
    return judge(last, reading, TARIFF, RATE, elapsed_ms)


def test_a_page_after_the_other_is_accepted():
    assert verdict(None, FIRST) is Verdict.OK
    assert verdict(FIRST, SECOND) is Verdict.OK


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"page": 1}, Verdict.FORK),
        ({"page": 3}, Verdict.GAP),
        ({"previous": NO_PREVIOUS}, Verdict.LINK),
        ({"begin": 0}, Verdict.BEGIN),
        ({"why": Why.BEGIN}, Verdict.BEGIN),
        ({"register": 49}, Verdict.BACKWARDS),
        ({"register": 161, "need": 0}, Verdict.RATE),
        ({"register": 160, "need": 0}, Verdict.OK),  # 100 x 1 s x 1.05 + 5 on top of 50
        ({"need": 301}, Verdict.NEED),
        ({"need": 299}, Verdict.OK),
        ({"channel": b"D" * 16}, Verdict.PARTY),
        ({"agreement": b"B" * 16}, Verdict.PARTY),
    ],
)
def test_each_rule_has_its_verdict(change, expected):
    assert verdict(FIRST, replace(SECOND, **change)) is expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"register": 51}, Verdict.BEGIN),  # a begin that is not where the meter stands
        ({"begin": 0}, Verdict.BEGIN),  # the 910 kWh bill
        ({"begin": 51}, Verdict.BACKWARDS),
        ({"page": 2}, Verdict.LINK),
        ({"previous": digest(FIRST)}, Verdict.LINK),
        ({"need": 1}, Verdict.NEED),
        ({"why": Why.QUOTA}, Verdict.GAP),
        ({"why": Why.RESYNC, "page": 7, "register": 60}, Verdict.OK),
    ],
)
def test_the_first_page_says_where_the_meter_stood(change, expected):
    assert verdict(None, replace(FIRST, **change)) is expected


@pytest.mark.parametrize("why", [Why.RESYNC, Why.FINAL])
def test_only_resync_and_final_may_skip_pages_but_no_other_rule(why):
    skipping = replace(SECOND, page=9, why=why, previous=bytes(32))
    assert verdict(FIRST, skipping) is Verdict.OK
    assert verdict(FIRST, replace(skipping, register=49)) is Verdict.BACKWARDS
    assert verdict(FIRST, replace(skipping, begin=0)) is Verdict.BEGIN
    assert verdict(FIRST, replace(skipping, need=301)) is Verdict.NEED
    assert verdict(FIRST, replace(skipping, register=500)) is Verdict.RATE
    assert verdict(FIRST, replace(skipping, page=2)) is Verdict.LINK


def test_the_same_page_again_is_answered_again_and_an_older_one_is_not():
    assert verdict(SECOND, SECOND) is Verdict.AGAIN
    assert verdict(SECOND, FIRST) is Verdict.STALE


def test_without_a_known_time_between_no_rate_can_be_judged():
    assert verdict(FIRST, replace(SECOND, register=10**6), None) is Verdict.OK


@given(st.lists(st.tuples(st.integers(0, 104), st.integers(1, 3)), max_size=30))
def test_what_an_honest_meter_says_is_always_accepted(steps):
    last = FIRST
    for units, seconds in steps:
        register = last.register + units * seconds
        reading = replace(
            last,
            page=last.page + 1,
            why=Why.QUOTA,
            register=register,
            need=(register - last.begin) * 10,
            previous=digest(last),
        )
        assert verdict(last, reading, seconds * 1_000) is Verdict.OK
        last = reading


@given(st.integers(0, 10**6), st.integers(1, 10**5), st.integers(0, 10**5))
def test_the_rate_bound_never_rounds_against_the_provider(units, per_ms, elapsed_ms):
    exact_hundredths = units * elapsed_ms * 105
    assert Rate(units, per_ms, 0).bound(elapsed_ms) * per_ms * 100 >= exact_hundredths
