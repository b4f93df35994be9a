"""A tariff in words: the sentence a person reads, written from the tariff and nothing else.

Two tariffs of one unit that read the same cost the same; so nothing that changes a bill is left out
or rounded, and amounts are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from demesh.metering.tariff import money
from demesh.metering.windows import MINUTE_S
from demesh.wire.offers import Tariff, Tier, Window

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

PREFIXES = {-9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
"""SI prefixes by their exponents."""

PREFIXED = frozenset({"Wh", "J", "VAs", "vars", "varh", "bit", "B", "l", "g"})
"""Units that may be written with a prefix: not m3, where k would count for the metre."""

UNITS = (*sorted(PREFIXED), "count", "kg", "m", "m3", "s")
"""SenML units (RFC 8428, RFC 8798) in which a meter counts."""


def sentence(tariff: Tariff) -> str:
    """The line a person reads; written from the tariff, never the other way round."""
    start = f"{money(tariff.start)} to start" if tariff.start else ""
    prices = [f"{window_text(window)} {_tiers(window.tiers, tariff)}" for window in tariff.windows]
    rest = _tiers(tariff.tiers, tariff)
    if prices:
        parts = [start, *prices, f"else {rest}"]
    else:
        parts = [f"{start}, then {rest}" if start else rest]
    if tariff.least:
        parts.append(f"at least {money(tariff.least)}")
    if tariff.most is not None:
        parts.append(f"at most {money(tariff.most)}")
    if tariff.windows:
        parts.append(f"times {zone(tariff.offset_min)}")
    parts.append(_validity(tariff))
    return "; ".join(part for part in parts if part)


def window_text(window: Window) -> str:
    """`Mon-Fri 22:00-24:00`."""
    return f"{_days(window.days)} {clock(window.from_min)}-{clock(window.to_min)}"


def clock(minute: int) -> str:
    """A minute of the day as HH:MM, the end of the day as 24:00."""
    return f"{minute // 60:02d}:{minute % 60:02d}"


def zone(offset_min: int) -> str:
    """`UTC`, `UTC+01:00`."""
    if not offset_min:
        return "UTC"
    return f"UTC{'-' if offset_min < 0 else '+'}{clock(abs(offset_min))}"


def moment(time_s: int, offset_min: int) -> str:
    """A time where the tariff is at home: the date, and what is not zero of hour and second."""
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time_s + offset_min * MINUTE_S)
    if local.second:
        return f"{local:%Y-%m-%d %H:%M:%S}"
    return f"{local:%Y-%m-%d %H:%M}" if local.hour or local.minute else f"{local:%Y-%m-%d}"


def unit_name(tariff: Tariff) -> str:
    """What one count is: `Wh`, `kWh` where the scale is 3, `(10^3 m3)`."""
    found = _prefixed(tariff, tariff.scale)
    if found is not None:
        return found
    return tariff.unit if not tariff.scale else f"(10^{tariff.scale} {tariff.unit})"


def _prefixed(tariff: Tariff, exponent: int) -> str | None:
    """10^`exponent` of the unit as one word, if it has one."""
    known = tariff.unit in PREFIXED and exponent in PREFIXES
    return PREFIXES[exponent] + tariff.unit if known else None


def _days(days: int) -> str:
    """`daily`, `Mon-Fri`, `Sat, Sun`."""
    if days == 2 ** len(DAYS) - 1:
        return "daily"
    runs: list[list[str]] = [[]]
    for place, name in enumerate(DAYS):
        if days >> place & 1:
            runs[-1].append(name)
        else:
            runs.append([])
    shown = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs if run]
    return ", ".join(shown)


def _tiers(tiers: Sequence[Tier], tariff: Tariff) -> str:
    parts = []
    for tier in tiers:
        upto = "" if tier.upto is None else f" up to {_amount(tier.upto, tariff)}"
        parts.append(_price(tier, tariff) + upto)
    return ", then ".join(parts)


def _amount(units: int, tariff: Tariff) -> str:
    thousand = _prefixed(tariff, tariff.scale + 3)
    if units % 1000 or thousand is None:
        return f"{units} {unit_name(tariff)}"
    return f"{units // 1000} {thousand}"


def _price(tier: Tier, tariff: Tariff) -> str:
    if tier.price == 0:
        return "free"
    per_thousand, rest = divmod(tier.price * 1000, tier.per)
    if rest:
        return f"{money(tier.price)} per {tier.per} {unit_name(tariff)}"
    thousand = _prefixed(tariff, tariff.scale + 3)
    return f"{money(per_thousand)} per {thousand or f'1000 {unit_name(tariff)}'}"


def _validity(tariff: Tariff) -> str:
    first = moment(tariff.from_s, tariff.offset_min) if tariff.from_s else ""
    end = "" if tariff.to_s is None else moment(tariff.to_s, tariff.offset_min)
    if not first and not end:
        return ""
    parts = ["valid", f"from {first}" if first else "", f"to {end}" if end else ""]
    if not tariff.windows and tariff.offset_min:
        parts.append(zone(tariff.offset_min))
    return " ".join(part for part in parts if part)
