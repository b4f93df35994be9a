"""A tariff as its owner writes it in TOML, read into the tariff that goes on the wire."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from demesh.cli.reading import line_of, parse_toml, read_text
from demesh.config import AMOUNT_MAX
from demesh.errors import ConfigError
from demesh.metering.tariff import check
from demesh.metering.windows import DAY_MIN
from demesh.metering.wording import DAYS, PREFIXED, UNITS, clock
from demesh.section import EntryError, Section
from demesh.wire.offers import Tariff, Tier, Window

RATES_MAX = 8
TIERS_MAX = 8
PER_MAX = 2**32

_WINDOW = ("days", "from", "to")
_NAMES = tuple(name.lower() for name in DAYS)


def read_tariff(path: Path) -> Tariff:
    """The tariff in a file; raises ConfigError with file and line."""
    text = read_text(path)
    table = parse_toml(path, text)
    try:
        return parse(table, str(path))
    except EntryError as error:
        line = line_of(text, error.section, error.key, error.number)
        place = f"{path}:{line}" if line else str(path)
        raise ConfigError(f"{place}: {error.text}") from None


def read_sold_tariff(path: Path) -> Tariff:
    """A tariff that a device may sell energy under by now (R-MKT-11); raises ConfigError."""
    tariff = read_tariff(path)
    if (tariff.unit, tariff.scale) != ("Wh", 0):
        raise ConfigError(f'{path}: energy is sold in Wh; write unit = "Wh", and no scale')
    if not tariff.timeless:
        raise ConfigError(
            f"{path}: nothing can be sold yet under a tariff with windows, valid_from or valid_to; "
            "name one with a single [[rate]] and neither of them"
        )
    return tariff


def parse(table: Mapping[str, Any], where: str) -> Tariff:
    """The tariff in a TOML table; `where` names the file. Raises EntryError or ConfigError."""
    top = Section(where, "", table)
    top.known(
        *("unit", "scale", "start", "least", "most"),
        *("utc_offset_min", "valid_from", "valid_to", "rate"),
    )
    *windows, (last, rest) = found = [_rate(section) for section in top.sections("rate", RATES_MAX)]
    if last is not None:
        raise top.misfit("rate", f"no. {len(found)} is the last: leave days, from and to out")
    listed = []
    for number, (window, tiers) in enumerate(windows, 1):
        if window is None:
            raise top.misfit(
                "rate", f"no. {number} has no days, from and to; only the last one may be without"
            )
        listed.append(Window(*window, tiers))
    unit, scale = _unit(top), top.integer("scale", -9, 9, 0)
    if scale and unit not in PREFIXED:
        known = ", ".join(sorted(PREFIXED))
        raise top.misfit("scale", f"goes with units that take a prefix: {known}; leave it out")
    tariff = Tariff(
        unit,
        top.integer("start", 0, AMOUNT_MAX, 0),
        top.integer("least", 0, AMOUNT_MAX, 0),
        top.integer("most", 0, AMOUNT_MAX) if "most" in table else None,
        rest,
        tuple(listed),
        top.integer("utc_offset_min", -720, 840, 0),
        _time(top, "valid_from") or 0,
        _time(top, "valid_to"),
        scale,
    )
    try:
        check(tariff)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    return tariff


def _unit(top: Section) -> str:
    unit = top.text("unit", chars_max=64)
    if unit in UNITS:
        return unit
    hint = f"expected one of {', '.join(UNITS)}"
    bare = unit[1:]
    if bare in PREFIXED and unit[0] in "kM":
        hint = f'write unit = "{bare}" and scale = {3 if unit[0] == "k" else 6}'
    elif near := [one for one in UNITS if one.lower() == unit.lower()]:
        hint = f'did you mean "{near[0]}"?'
    raise top.misfit("unit", f'= "{unit}" is not known; {hint}')


def _rate(section: Section) -> tuple[tuple[int, int, int] | None, tuple[Tier, ...]]:
    """Days, first and last minute of a rate, or None, and its tiers."""
    section.known(*_WINDOW, "tiers")
    window = None
    if any(key in section.table for key in _WINDOW):
        begin, end = _minute(section, "from", "00:00"), _minute(section, "to", "24:00")
        if begin >= end:
            raise section.misfit(
                "to",
                f'= "{clock(end)}" is not after from = "{clock(begin)}"; for a night write two: '
                f'one from "{clock(begin)}" to "24:00", one from "00:00" to "{clock(end)}"',
            )
        window = (_days(section), begin, end)
    return window, _tiers(section)


def _days(section: Section) -> int:
    names = section.table.get("days", list(_NAMES))
    if not isinstance(names, list) or not names:
        raise section.misfit("days", 'must be a list of days; write days = ["mon", "tue"]')
    days = 0
    for name in names:
        if name not in _NAMES:
            near = difflib.get_close_matches(str(name).lower()[:3], _NAMES, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(_NAMES)}"
            raise section.misfit("days", f'holds "{name}", which is none; {hint}')
        bit = 1 << _NAMES.index(name)
        if days & bit:
            raise section.misfit("days", f'holds "{name}" twice')
        days |= bit
    return days


def _minute(section: Section, key: str, default: str) -> int:
    value = section.table.get(key, default)
    found = re.fullmatch(r"([01]\d|2[0-4]):([0-5]\d)", value) if isinstance(value, str) else None
    minute = int(found[1]) * 60 + int(found[2]) if found else DAY_MIN + 1
    if minute > DAY_MIN:
        raise section.misfit(key, f'= {value} is no time of day; write {key} = "22:00" in quotes')
    return minute


def _tiers(section: Section) -> tuple[Tier, ...]:
    form = "write tiers = [{ price = 240_000, per = 1_000 }]"
    if "tiers" not in section.table:
        text = f"{section.title} tiers are missing; {form}"
        raise EntryError(section.where, section.name, "", text, section.number or 0)
    listed = section.table["tiers"]
    if not isinstance(listed, list) or not 0 < len(listed) <= TIERS_MAX:
        raise section.misfit("tiers", f"must be a list of 1 to {TIERS_MAX}; {form}")
    found = []
    for number, entry in enumerate(listed, 1):
        if not isinstance(entry, dict):
            raise section.misfit("tiers", f"no. {number} must be {{ price = ..., per = ... }}")
        tier = Section(section.where, "", entry)
        try:
            tier.known("upto", "price", "per")
            upto = tier.integer("upto", 1, AMOUNT_MAX) if "upto" in entry else None
            price, per = tier.integer("price", 0, AMOUNT_MAX), tier.integer("per", 1, PER_MAX)
        except EntryError as error:
            raise section.misfit("tiers", f"no. {number}: {error.text.lstrip()}") from None
        found.append(Tier(upto, price, per))
    return tuple(found)


def _time(top: Section, key: str) -> int | None:
    """A TOML date and time with its offset, in whole seconds since 1970, or None."""
    value = top.table.get(key)
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise top.misfit(key, f"= {value} must say its offset; write 2026-01-01T00:00:00+01:00")
    if value.microsecond or value.timestamp() < 0:
        raise top.misfit(key, f"= {value} must be a whole second since 1970")
    return (value - _EPOCH) // timedelta(seconds=1)


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
