"""The transport's benchmark with the least counts: every broker that is here gives every row."""

from __future__ import annotations

from pathlib import Path

from benchmarks import transport
from benchmarks.plan import Plan
from benchmarks.programs import BROKERS, missing
from benchmarks.row import Row


def test_every_broker_that_is_here_gives_the_same_rows(tmp_path: Path) -> None:
    found = [row for row in transport.rows(Plan(tmp_path, quick=True)) if isinstance(row, Row)]
    here = [name for name in BROKERS if not missing(name)]
    assert {row.what.split(", ")[-1] for row in found} == set(here)
    assert len({row.what for row in found}) == len(found) == 11 * len(here)
    assert all(row.value > 0 and row.ratio for row in found)
