"""What cumulative units cost: a pure, monotone integer function, so chunking cannot change a bill.

    cost(U) = clamp(start + sum over tiers of floor(units in the tier * price / per), least, most)

R-MET-1  Tiers rise strictly and the last has no end, so every unit has exactly one price.
R-MET-2  Each tier's sum rounds down, once, on its cumulative units: never against the payer, and
         how readings, vouchers or claims were cut changes nothing.
R-MET-3  `least` counts from the first unit on; `most` is never exceeded, not even by `start`.
"""

from __future__ import annotations

from demesh.wire.offers import Tariff

AMOUNT_MAX = 2**53 - 1
MICRO = 1_000_000
"""Micro-credits in a credit."""


def check(tariff: Tariff) -> None:
    """R-MET-1 and R-MET-3; ValueError says what was expected and what came."""
    below = 0
    if not tariff.tiers:
        raise ValueError("a tariff needs at least one tier; one without an end is enough")
    for number, tier in enumerate(tariff.tiers, 1):
        last = number == len(tariff.tiers)
        if tier.per < 1 or tier.price < 0:
            raise ValueError(
                f"tier {number}: expected price >= 0 and per >= 1, got {tier.price} / {tier.per}"
            )
        if tier.upto is None:
            if not last:
                raise ValueError(f"tier {number} has no end, so tier {number + 1} never applies")
        elif last:
            raise ValueError(f"units above {tier.upto} have no price; leave the last tier open")
        elif tier.upto <= below:
            raise ValueError(f"tier {number} ends at {tier.upto}, expected more than {below}")
        else:
            below = tier.upto
    least = max(tariff.start, tariff.least)
    if tariff.start < 0 or tariff.least < 0:
        raise ValueError("start and least are amounts of 0 or more")
    if tariff.most is not None and tariff.most < least:
        raise ValueError(f"most is {tariff.most}, expected at least {least} (start and least)")


def cost(tariff: Tariff, units: int) -> int:
    """Micro-credits for `units` in total, of a checked tariff; rounds down per tier (R-MET-2)."""
    if units < 0:
        raise ValueError(f"units only grow from 0, got {units}")
    total, below = tariff.start, 0
    for tier in tariff.tiers:
        upto = units if tier.upto is None else min(units, tier.upto)
        total += (upto - below) * tier.price // tier.per
        below = upto
        if upto == units:
            break
    if units:
        total = max(total, tariff.least)
    return total if tariff.most is None else min(total, tariff.most)


def quote(tariff: Tariff, units: int) -> int | None:
    """`cost` of a tariff that a stranger wrote: None where `check` finds fault with it."""
    try:
        check(tariff)
    except ValueError:
        return None
    return cost(tariff, units)


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


def sentence(tariff: Tariff) -> str:
    """The line a person reads; written from the tariff, never the other way round."""
    parts = [f"{money(tariff.start)} to start"] if tariff.start else []
    for tier in tariff.tiers:
        upto = "" if tier.upto is None else f" up to {tier.upto} {tariff.unit}"
        parts.append(_rate(tier.price, tier.per, tariff.unit) + upto)
    text = ", then ".join(parts)
    if tariff.least:
        text += f"; at least {money(tariff.least)}"
    if tariff.most is not None:
        text += f"; at most {money(tariff.most)}"
    return text


def money(micro: int) -> str:
    """Credits as a person writes them: 240000 is 0.24, two places at least, exact."""
    whole, rest = divmod(abs(micro), MICRO)
    places = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micro < 0 else ''}{whole}.{places}"


def _rate(price: int, per: int, unit: str) -> str:
    per_thousand, rest = divmod(price * 1000, per)
    if price == 0:
        return "free"
    if rest:
        return f"{money(price)} per {per} {unit}"
    return f"{money(per_thousand)} per k{unit}"
