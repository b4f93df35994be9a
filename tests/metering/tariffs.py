"""Tariffs as Hypothesis draws them, all of which `check` accepts."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from demesh.metering.tariff import rates
from demesh.wire.offers import Tariff, Tier, Window

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Drawing a tariff of eight rates takes a busy machine longer than the usual 200 ms."""

AMOUNTS = st.integers(0, 10**9)
UNITS = st.integers(0, 10**7)


PRICES = st.tuples(st.integers(0, 10**6), st.integers(1, 10**4))


@st.composite
def tiers(draw: st.DrawFn, tiers_max: int = 8) -> tuple[Tier, ...]:
    """Tiers that rise, the last without an end."""
    ends = sorted(draw(st.sets(st.integers(1, 10**6), max_size=tiers_max - 1)))
    return tuple(Tier(end, *draw(PRICES)) for end in [*ends, None])


@st.composite
def tariffs(draw: st.DrawFn) -> Tariff:
    """Any tariff of one rate that `check` accepts."""
    start, least = draw(AMOUNTS), draw(AMOUNTS)
    most = draw(st.none() | st.integers(max(start, least), 2 * 10**9))
    return Tariff("Wh", start, least, most, draw(tiers()))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Any window, of up to 3 tiers."""
    first = draw(st.integers(0, 1439))
    return Window(
        draw(st.integers(1, 127)), first, draw(st.integers(first + 1, 1440)), draw(tiers(3))
    )


@st.composite
def windowed(draw: st.DrawFn) -> Tariff:
    """A tariff of up to eight rates that `check` accepts."""
    some = draw(st.lists(windows(), max_size=7))
    return replace(draw(tariffs()), windows=tuple(some), offset_min=draw(st.integers(-720, 840)))


@st.composite
def counted(draw: st.DrawFn) -> tuple[Tariff, tuple[int, ...]]:
    """A tariff, and units of each of its rates."""
    tariff = draw(windowed())
    return tariff, tuple(draw(UNITS) for _ in rates(tariff))
