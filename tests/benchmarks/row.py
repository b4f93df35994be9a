"""What a benchmark gives back, and how it is shown: one table for people, one JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HEADINGS = ("what", "value", "reference", "ratio", "how")


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement. `reference` was measured in the same run; `ratio` is value / reference."""

    group: str
    what: str
    value: float
    unit: str
    how: str
    reference: float | None = None
    reference_what: str = ""

    @property
    def ratio(self) -> float | None:
        """The only figure that means the same on two machines."""
        return self.value / self.reference if self.reference else None

    def document(self) -> dict[str, object]:
        """For the JSON file."""
        return {**asdict(self), "ratio": self.ratio}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A group, or a part of one, that cannot be measured here."""

    group: str
    why: str


def amount(value: float) -> str:
    """Three significant digits, thousands apart: 17,100,000 but 0.0123."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        keep = 10 ** max(0, len(str(int(abs(value)))) - 3)
        return f"{round(value / keep) * keep:,}"
    text = f"{value:#.3g}"
    return f"{float(text):.6f}".rstrip("0").rstrip(".") if "e" in text else text.rstrip(".")


def table(rows: Sequence[Row]) -> list[str]:
    """Aligned lines, one per row, groups under headings."""
    cells = [
        (
            row.what,
            f"{amount(row.value)} {row.unit}".rstrip(),
            "" if row.reference is None else f"{amount(row.reference)} ({row.reference_what})",
            "" if row.ratio is None else amount(row.ratio),
            row.how,
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *cells, strict=True)]
    lines = [_line(HEADINGS, widths), "  ".join("-" * width for width in widths[:-1])]
    group = ""
    for row, cell in zip(rows, cells, strict=True):
        if row.group != group:
            group = row.group
            lines.append(group)
        lines.append(_line(cell, widths))
    return lines


def write_json(
    path: Path, rows: Sequence[Row], skipped: Sequence[Skipped], machine: dict[str, object]
) -> None:
    """Everything of a run, in one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine,
        "rows": [row.document() for row in rows],
        "skipped": [asdict(one) for one in skipped],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    what, value, reference, ratio, how = cells
    return (
        f"{what:<{widths[0]}}  {value:>{widths[1]}}  {reference:>{widths[2]}}  "
        f"{ratio:>{widths[3]}}  {how}"
    ).rstrip()
