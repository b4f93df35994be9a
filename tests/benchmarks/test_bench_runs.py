"""The cheap groups with the least counts: that they run, and what they give back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import validate
from benchmarks.__main__ import main
from benchmarks.plan import Plan
from benchmarks.row import HEADINGS, Row, amount, table
from benchmarks.suite import run
from demesh.wire import _reference
from demesh.wire.kinds import Reject

CHEAP = ("validate", "ledger", "metering", "street", "swarm", "traffic")


def test_every_cheap_group_gives_rows_that_say_what_they_measured(tmp_path: Path) -> None:
    told: list[str] = []
    rows, skipped = run(Plan(tmp_path, quick=True), CHEAP, told.append)
    assert [line.split(":")[0] for line in told] == list(CHEAP)
    groups = {row.group for row in rows} | {one.group for one in skipped}
    assert groups == {"validate", "ledger", "metering", "virtual swarm", "consensus"}
    assert all(one.why for one in skipped)
    for row in rows:
        assert row.value > 0, row
        assert row.what
        assert row.how, row
        assert (row.reference is None) == (not row.reference_what), row
    assert len({(row.group, row.what) for row in rows}) == len(rows)


def test_the_command_prints_one_table_and_writes_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "--quick", "--only", "ledger", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    assert main() == 0
    (path,) = tmp_path.iterdir()
    written = json.loads(path.read_text())
    assert written["machine"]["cores"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == list(HEADINGS)
    for row in written["rows"]:
        assert row["ratio"] == pytest.approx(row["value"] / row["reference"])
        assert any(line.startswith(row["what"]) for line in lines)


def test_a_bad_frame_is_rejected_for_what_its_class_says() -> None:
    for code, frames in validate.bad_frames(5).items():
        one = _reference.Validator(validate.BINDING)
        one.enrol(validate.KID, bytes(validate.KEY.verify_key))
        one.set_window(validate.KID, 1, 1000)
        assert one.check_batch(frames) == [code] * 5
    checked = set(validate.bad_frames(1))
    assert checked >= {Reject.SIZE, Reject.SHAPE, Reject.VERSION, Reject.SENDER, Reject.REPLAY}


def test_amounts_have_three_digits() -> None:
    values = (0, 0.01234, 1.0, 12.345, 999.6, 12_345, 17_123_456)
    written = ["0", "0.0123", "1.00", "12.3", "1000", "12,300", "17,100,000"]
    assert [amount(value) for value in values] == written


def test_a_row_without_a_reference_has_no_ratio() -> None:
    row = Row("group", "what", 2.0, "ms", "how")
    assert row.ratio is None
    assert table([row])[-1].split() == ["what", "2.00", "ms", "how"]
