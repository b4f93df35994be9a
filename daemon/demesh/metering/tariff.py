"""What counted units cost: a pure, monotone integer function, so chunking cannot change a bill.

    cost(U0, U1, ...) = clamp(start + sum over rates and their tiers of
                              floor(units in the tier * price / per), least, most)

A tariff without windows has one rate, and U is all units; windows.py says which rate counts when.

R-MET-1  Tiers rise strictly and the last has no end, so every unit has exactly one price.
R-MET-2  Each tier's sum rounds down, once, on its cumulative units: never against the payer, and
         how readings, vouchers or claims were cut changes nothing.
R-MET-3  `least` counts from the first unit on; `most` is never exceeded, not even by `start`.
R-MET-46 Units are counted for each rate by itself, over the whole agreement: the tiers of a rate go
         on where they stood when its window comes again, and the other rates do not move them.
R-MET-47 No way to spread units over rates costs more than `bound`; without windows it is the cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from demesh.wire.offers import Tariff, Tier
from demesh.wire.schema import encode

AMOUNT_MAX = 2**53 - 1
MICRO = 1_000_000
"""Micro-credits in a credit."""

# A tariff lies in every card and accept, whose frames are 4,096 and 2,048 bytes at most; 7 windows
# of two tiers take some 400.
TARIFF_BYTES_MAX = 1_024

# The end of the year 9998: what is valid from or until then can be written as a date everywhere.
TIME_S_MAX = 253_370_764_800

# A reading's unit is a thousandth, a million of something; nobody says a hundredth.
SCALE_STEP = 3


@dataclass(frozen=True, slots=True)
class Item:
    """A line of a bill: `units` of one tier, and what they cost in micro-credits."""

    rate: int
    tier: int
    units: int
    amount: int


def check(tariff: Tariff) -> None:
    """R-MET-1, R-MET-3 and the sizes; ValueError says what was expected and what came."""
    _check_tiers(tariff.tiers, "")
    for place, window in enumerate(tariff.windows, 1):
        if window.from_min >= window.to_min:
            raise ValueError(
                f"window {place} ends at minute {window.to_min}, expected more than "
                f"{window.from_min}; one that spans midnight is two"
            )
        _check_tiers(window.tiers, f"window {place}, ")
    least = max(tariff.start, tariff.least)
    if tariff.start < 0 or tariff.least < 0:
        raise ValueError("start and least are amounts of 0 or more")
    if tariff.most is not None and tariff.most < least:
        raise ValueError(f"most is {tariff.most}, expected at least {least} (start and least)")
    if tariff.scale % SCALE_STEP:
        raise ValueError(f"scale is {tariff.scale}, expected a multiple of 3: a unit is 10^scale")
    _check_validity(tariff)
    if tariff.windows and len(encode(tariff)) > TARIFF_BYTES_MAX:
        size = len(encode(tariff))
        raise ValueError(f"it takes {size} bytes, expected {TARIFF_BYTES_MAX} at most; use less")


def _check_tiers(tiers: Sequence[Tier], where: str) -> None:
    below = 0
    if not tiers:
        raise ValueError(f"{where}a tariff needs at least one tier; one without an end is enough")
    for number, tier in enumerate(tiers, 1):
        last = number == len(tiers)
        if tier.per < 1 or tier.price < 0:
            raise ValueError(
                f"{where}tier {number}: expected price >= 0 and per >= 1, "
                f"got {tier.price} / {tier.per}"
            )
        if tier.upto is None:
            if not last:
                raise ValueError(
                    f"{where}tier {number} has no end, so tier {number + 1} never applies"
                )
        elif last:
            raise ValueError(
                f"{where}units above {tier.upto} have no price; leave the last tier open"
            )
        elif tier.upto <= below:
            raise ValueError(
                f"{where}tier {number} ends at {tier.upto}, expected more than {below}"
            )
        else:
            below = tier.upto


def _check_validity(tariff: Tariff) -> None:
    for time_s in (tariff.from_s, tariff.to_s or 0):
        if not 0 <= time_s <= TIME_S_MAX:
            raise ValueError(f"a time is {time_s}, expected 0 to {TIME_S_MAX}: the year 9998")
    if tariff.to_s is not None and tariff.to_s <= tariff.from_s:
        raise ValueError("it ends before it begins: valid_to must come after valid_from")


def rates(tariff: Tariff) -> tuple[tuple[Tier, ...], ...]:
    """The tiers of every rate: those without a window, then each window's."""
    return (tariff.tiers, *(window.tiers for window in tariff.windows))


def itemise(tariff: Tariff, counts: Sequence[int]) -> Iterator[Item]:
    """Every tier that has units, by rate (R-MET-2, R-MET-46); of `counts` missing ones are 0."""
    if len(counts) > 1 + len(tariff.windows):
        raise ValueError(f"expected counts of {1 + len(tariff.windows)} rates, got {len(counts)}")
    for rate, (tiers, units) in enumerate(zip(rates(tariff), counts, strict=False)):
        if units < 0:
            raise ValueError(f"units only grow from 0, got {units}")
        below = 0
        for place, tier in enumerate(tiers):
            if units == below:
                break
            upto = units if tier.upto is None else min(units, tier.upto)
            yield Item(rate, place, upto - below, (upto - below) * tier.price // tier.per)
            below = upto


def cost(tariff: Tariff, units: int | Sequence[int]) -> int:
    """Micro-credits for `units` in total, or units of every rate, of a checked tariff.

    A number alone is for a tariff without windows; ValueError for one that has them.
    """
    if isinstance(units, int):
        if tariff.windows:
            raise ValueError("a tariff with windows needs the units of each rate")
        units = (units,)
    total = tariff.start + sum(item.amount for item in itemise(tariff, units))
    return _clamp(tariff, total, any(units))


def cheaper(tariff: Tariff, counts: Sequence[int], units: int, either: tuple[int, int]) -> int:
    """Which of two rates asks less for `units` more on top of `counts`; the lesser of equals."""

    def more(rate: int) -> tuple[int, int]:
        grown = list(counts) + [0] * (1 + len(tariff.windows) - len(counts))
        grown[rate] += units
        return sum(item.amount for item in itemise(tariff, grown)), rate

    return min(either, key=more)


def bound(tariff: Tariff, units: int) -> int:
    """What `units` cost at most, however the time spreads them (R-MET-47); escrow must hold it."""
    if not tariff.windows:
        return cost(tariff, units)
    most = max(-(-units * tier.price // tier.per) for tiers in rates(tariff) for tier in tiers)
    return _clamp(tariff, tariff.start + most, bool(units))


def _clamp(tariff: Tariff, total: int, any_units: bool) -> int:
    """R-MET-3."""
    if any_units:
        total = max(total, tariff.least)
    return total if tariff.most is None else min(total, tariff.most)


def quote(tariff: Tariff, units: int) -> int | None:
    """`bound` of a tariff that a stranger wrote: None where `check` finds fault with it."""
    try:
        check(tariff)
    except ValueError:
        return None
    return bound(tariff, units)


def units_for(tariff: Tariff, credit: int, units_max: int) -> int:
    """The most units, up to `units_max`, that cost at most `credit`; 0 where not even one does."""
    below, above = 0, units_max + 1
    while above - below > 1:
        middle = (below + above) >> 1
        if cost(tariff, middle) <= credit:
            below = middle
        else:
            above = middle
    return below


def money(micro: int) -> str:
    """Credits as a person writes them: 240000 is 0.24, two places at least, exact."""
    whole, rest = divmod(abs(micro), MICRO)
    places = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micro < 0 else ''}{whole}.{places}"
