"""Which rate counts when: every minute of a week has one, and edges are where it changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.metering.windows import edge_after, rate_at
from demesh.wire.offers import Tariff, Tier, Window
from metering.tariffs import PATIENT, windowed

PRICE = (Tier(None, 1, 1),)
WEEK_S = 7 * 86_400
# 1970 to 2106, so that years, leap days and centuries are crossed.
TIMES_S = st.integers(0, 2**32)
WEEKDAYS, WEEKEND = 0b0011111, 0b1100000


def tariff(*windows: tuple[int, int, int], offset_min: int = 0) -> Tariff:
    listed = tuple(Window(*window, PRICE) for window in windows)
    return Tariff("Wh", 0, 0, None, PRICE, listed, offset_min)


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def by_calendar(one: Tariff, time_s: int) -> int:
    """The same as `rate_at`, by the library's calendar."""
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time_s, minutes=one.offset_min)
    minute = local.hour * 60 + local.minute
    held = [
        place
        for place, window in enumerate(one.windows, 1)
        if window.days >> local.weekday() & 1 and window.from_min <= minute < window.to_min
    ]
    return min(held, default=0)


@PATIENT
@given(windowed(), TIMES_S)
def test_a_rate_is_that_of_the_local_calendar(one, time_s):
    assert rate_at(one, time_s) == by_calendar(one, time_s)


@pytest.mark.parametrize(
    ("time", "rate"),
    [
        ("2026-11-23T21:59:59+01:00", 0),  # a Monday
        ("2026-11-23T22:00:00+01:00", 1),
        ("2026-11-23T23:59:59+01:00", 1),
        ("2026-11-24T00:00:00+01:00", 0),
        ("2026-11-28T00:00:00+01:00", 2),  # a Saturday
        ("2026-11-29T23:59:59+01:00", 2),
        ("2026-11-30T00:00:00+01:00", 0),
        ("2024-02-29T22:30:00+01:00", 1),
        ("2027-01-01T22:30:00+01:00", 1),  # a Friday
        ("1970-01-01T22:30:00+01:00", 1),  # a Thursday
    ],
)
def test_windows_begin_with_their_first_second_and_end_before_their_last(time, rate):
    one = tariff((WEEKDAYS, 1320, 1440), (WEEKEND, 0, 1440), offset_min=60)
    assert rate_at(one, seconds(time)) == rate


def test_of_windows_that_overlap_the_first_counts():
    one = tariff((127, 600, 660), (127, 0, 1440))
    assert [rate_at(one, minute * 60) for minute in (599, 600, 659, 660)] == [2, 1, 1, 2]


@PATIENT
@given(windowed(), TIMES_S)
def test_windows_come_again_every_week_and_each_minute_has_one_rate(one, time_s):
    assert rate_at(one, time_s) == rate_at(one, time_s + WEEK_S)
    first_s = time_s // 60 * 60
    assert len({rate_at(one, first_s + second) for second in range(0, 60, 7)}) == 1


def test_a_week_has_as_many_minutes_of_each_rate_as_its_windows_say():
    one = tariff((WEEKDAYS, 1320, 1440), (127, 0, 360), (WEEKEND, 0, 1440), offset_min=-210)
    found = [rate_at(one, minute * 60) for minute in range(7 * 1440)]
    assert [found.count(rate) for rate in range(4)] == [5 * 960, 5 * 120, 7 * 360, 2 * 1080]


@PATIENT
@given(windowed(), TIMES_S)
def test_an_edge_is_the_first_change_of_the_rate(one, time_s):
    edge_s = edge_after(one, time_s)
    now = rate_at(one, time_s)
    end_s = time_s + WEEK_S if edge_s is None else edge_s
    starts = range(time_s // 60 * 60 + 60, end_s, 60)
    assert all(rate_at(one, at_s) == now for at_s in starts)
    if edge_s is not None:
        assert edge_s > time_s
        assert edge_s % 60 == 0
        assert rate_at(one, edge_s) != now


def test_what_never_changes_has_no_edge():
    assert edge_after(tariff(), 0) is None
    assert edge_after(tariff((127, 0, 1440)), 12_345) is None


def test_an_edge_may_be_a_week_away_and_over_the_end_of_a_year():
    one = tariff((0b0000010, 30, 31), offset_min=840)  # Tuesdays, 00:30 to 00:31
    edge_s = seconds("2026-12-29T00:31:00+14:00")
    assert edge_after(one, edge_s) == seconds("2027-01-05T00:30:00+14:00")
    assert edge_after(one, edge_s - 1) == edge_s


@PATIENT
@given(windowed(), TIMES_S, st.integers(-720, 840))
def test_an_offset_moves_the_week_and_nothing_else(one, time_s, offset_min):
    moved = replace(one, offset_min=offset_min)
    back_s = 60 * (offset_min - one.offset_min)
    assert rate_at(moved, time_s + WEEK_S - back_s) == rate_at(one, time_s + WEEK_S)
