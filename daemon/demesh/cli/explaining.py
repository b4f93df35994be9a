"""What `demesh tariff` prints: a bill whose every line says how it came about."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from demesh.cli.tariffs import read_tariff
from demesh.config import AMOUNT_MAX
from demesh.errors import InputError
from demesh.metering.tariff import TIME_S_MAX, Item, cost, itemise, money, rates
from demesh.metering.windows import edge_after, rate_at
from demesh.metering.wording import (
    PREFIXED,
    PREFIXES,
    moment,
    sentence,
    unit_name,
    window_text,
    zone,
)
from demesh.wire.offers import Tariff
from demesh.wire.schema import encode

# A year's bill with seven windows a day is 5,000 edges, walked in a second.
SPAN_S_MAX = 366 * 86_400


@dataclass(frozen=True, slots=True)
class Span:
    """When something is used: at `first_s`, or evenly until before `end_s`."""

    first_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a bill: what for, how it was computed, micro-credits."""

    name: str
    sum: str
    amount: int
    rounded: bool = False


def wire(arguments: argparse.Namespace) -> int:
    """Print the encoded tariff in hexadecimal and its BLAKE2b-256; raises ConfigError."""
    content = encode(read_tariff(arguments.file))
    print(content.hex())
    print(f"BLAKE2b-256 {hashlib.blake2b(content, digest_size=32).hexdigest()}")
    return 0


def explain(arguments: argparse.Namespace) -> int:
    """Print the sentence, and with `--use` the bill; raises ConfigError, InputError."""
    tariff = read_tariff(arguments.file)
    units = None if arguments.use is None else read_use(tariff, arguments.use)
    span = None if arguments.at is None else read_at(tariff, arguments.at)
    if span is not None and units is None:
        raise InputError("--at needs --use: how much is used then, as in --use 12.4kWh")
    counts = None if units is None else spread(tariff, units, span)
    if arguments.json:
        print(json.dumps(_document(tariff, counts, span), indent=2))
        return 0
    print(sentence(tariff))
    if counts is not None:
        print()
        print("\n".join(bill(tariff, counts, span)))
    return 0


def read_use(tariff: Tariff, text: str) -> int:
    """`12.4kWh` in the tariff's units; raises InputError."""
    found = re.fullmatch(r"(\d{1,16}(?:\.\d{1,12})?)\s*(\D\S*)", text.strip(), re.ASCII)
    exponents = _exponents(tariff)
    if found is None or found[2] not in exponents:
        known = " or ".join(exponents)
        raise InputError(
            f'--use "{text}": expected an amount in {known}, as in 12{next(iter(exponents))}'
        )
    exact = Decimal(found[1]).scaleb(exponents[found[2]] - tariff.scale)
    units = int(exact)
    if units != exact:
        raise InputError(f'--use "{text}": the tariff counts whole {unit_name(tariff)}')
    if units > AMOUNT_MAX:
        raise InputError(f'--use "{text}": more than {AMOUNT_MAX} {unit_name(tariff)}')
    return units


def _exponents(tariff: Tariff) -> dict[str, int]:
    """The ways to write the unit, and the power of ten that each stands for."""
    if tariff.unit not in PREFIXED:
        return {tariff.unit: 0}
    ordered = sorted(PREFIXES.items(), key=lambda pair: (pair[0] not in (0, 3), pair[0]))
    return {prefix + tariff.unit: exponent for exponent, prefix in ordered}


def read_at(tariff: Tariff, text: str) -> Span:
    """`START` or `START/END` in ISO 8601, where the tariff is at home without an offset."""
    home = timezone(timedelta(minutes=tariff.offset_min))
    times = []
    for part in text.split("/"):
        try:
            when = datetime.fromisoformat(part)
            when = when.replace(tzinfo=home) if when.tzinfo is None else when
            times.append(int(when.timestamp()))
        except (ValueError, OverflowError):
            raise InputError(
                f'--at "{text}": "{part}" is no time; write 2026-11-23T21:00, or two with / between'
            ) from None
    first, end = (times[0], times[0] + 1) if len(times) == 1 else (times[0], times[-1])
    if len(times) > 2 or not 0 <= first < end <= min(first + SPAN_S_MAX, TIME_S_MAX):
        raise InputError(
            f'--at "{text}": expected START or START/END, from 1970 on, '
            "the end after the start, at most 366 days later"
        )
    if first < tariff.from_s or (tariff.to_s is not None and first >= tariff.to_s):
        raise InputError(f'--at "{text}": the tariff is not valid then: {sentence(tariff)}')
    return Span(first, end)


def spread(tariff: Tariff, units: int, span: Span | None) -> tuple[int, ...]:
    """The units of each rate, used evenly over the span and whole at every edge of a window."""
    if not tariff.windows:
        return (units,)
    if span is None:
        raise InputError("the price depends on the time; write --at 2026-11-23T21:00, or START/END")
    counts = [0] * (1 + len(tariff.windows))
    at_s, before = span.first_s, 0
    while at_s < span.end_s:
        edge_s = edge_after(tariff, at_s)
        next_s = span.end_s if edge_s is None else min(edge_s, span.end_s)
        until = units * (next_s - span.first_s) // (span.end_s - span.first_s)
        counts[rate_at(tariff, at_s)] += until - before
        at_s, before = next_s, until
    return tuple(counts)


def bill(tariff: Tariff, counts: tuple[int, ...], span: Span | None) -> list[str]:
    """The lines of a bill in micro-credits, and the total also in credits."""
    rows = [_row(tariff, item) for item in itemise(tariff, counts)]
    if tariff.start:
        rows.insert(0, Row("start", "", tariff.start))
    listed, total = sum(row.amount for row in rows), cost(tariff, counts)
    if len(rows) > 1:
        rows.append(Row("sum", "", listed))
    if total != listed:
        rows.append(Row("at least" if total > listed else "at most", "", total))
    rows.append(Row("total", f"{money(total)} credits", total))
    names, sums = max(len(row.name) for row in rows), max(len(row.sum) for row in rows)
    amounts = max(len(f"{row.amount:,}") for row in rows)
    lines = [_heading(tariff, sum(counts), span)]
    for row in rows:
        sign = "=" if " / " in row.sum else " "
        line = f"  {row.name:<{names}}  {row.sum:<{sums}} {sign} {row.amount:>{amounts},}"
        lines.append(line + (" (rounded down)" if row.rounded else ""))
    return lines


def _heading(tariff: Tariff, units: int, span: Span | None) -> str:
    text = f"{units:,} {unit_name(tariff)}"
    if span is not None:
        when = moment(span.first_s, tariff.offset_min)
        if span.end_s - span.first_s > 1:
            when = f"from {when} to {moment(span.end_s, tariff.offset_min)}, evenly"
        else:
            when = f"at {when}"
        text += f" {when}, {zone(tariff.offset_min)}"
    return text + ", in micro-credits:"


def _row(tariff: Tariff, item: Item) -> Row:
    """A line for the units of one tier, named by its rate, and its place if there are several."""
    tiers = rates(tariff)[item.rate]
    tier = tiers[item.tier]
    if item.rate:
        name = window_text(tariff.windows[item.rate - 1])
    else:
        name = "else" if tariff.windows else "use"
    if len(tiers) > 1:
        name += f", tier {item.tier + 1}" + (f" up to {tier.upto:,}" if tier.upto else "")
    text = f"{item.units:,} x {tier.price:,} / {tier.per:,}"
    return Row(name, text, item.amount, item.units * tier.price % tier.per > 0)


def _document(
    tariff: Tariff, counts: tuple[int, ...] | None, span: Span | None
) -> dict[str, object]:
    document: dict[str, object] = {
        "sentence": sentence(tariff),
        "unit": tariff.unit,
        "scale": tariff.scale,
    }
    if counts is None:
        return document
    lines = []
    for item in itemise(tariff, counts):
        tier = rates(tariff)[item.rate][item.tier]
        lines.append(
            {
                "rate": item.rate,
                "tier": item.tier + 1,
                "units": item.units,
                "price": tier.price,
                "per": tier.per,
                "amount": item.amount,
            }
        )
    return document | {
        "units": sum(counts),
        "counts": list(counts),
        "from_s": None if span is None else span.first_s,
        "to_s": None if span is None else span.end_s,
        "lines": lines,
        "start": tariff.start,
        "least": tariff.least,
        "most": tariff.most,
        "total": cost(tariff, counts),
    }
