"""The cheap groups with the least counts: that they run, and what they give back."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from benchmarks import boards, floor, instructions, sockets, voters
from benchmarks import frames as made
from benchmarks.__main__ import main
from benchmarks.plan import Plan
from benchmarks.row import HEADINGS, Row, amount, table
from benchmarks.suite import run
from demesh.wire import _reference
from demesh.wire.kinds import Reject
from demesh_sim.links import HEADER_BYTES

CHEAP = (
    "validate",
    "ledger",
    "claims",
    "metering",
    "quantum",
    "street",
    "swarm",
    "traffic",
    "voters",
)


def test_every_cheap_group_gives_rows_that_say_what_they_measured(tmp_path: Path) -> None:
    told: list[str] = []
    rows, skipped = run(Plan(tmp_path, quick=True), CHEAP, told.append)
    assert [line.split(":")[0] for line in told] == list(CHEAP)
    groups = {row.group for row in rows} | {one.group for one in skipped}
    assert groups == {
        "validate",
        "ledger",
        "metering",
        "virtual swarm",
        "consensus",
        "voters at 1 Mbit/s",
    }
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
    before, after = written["machine"]["busy_percent"]
    assert 0 <= min(before, after) <= max(before, after) <= 100
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == list(HEADINGS)
    for row in written["rows"]:
        assert row["ratio"] == pytest.approx(row["value"] / row["reference"])
        assert any(line.startswith(row["what"]) for line in lines)


def test_a_bad_frame_is_rejected_for_what_its_class_says() -> None:
    for code, frames in made.bad_frames(5).items():
        spent = made.allowance(_reference, code)
        assert made.validator(_reference).check_batch(frames, spent) == [code] * 5
    before_meaning = {code for code in Reject if code <= Reject.PAYLOAD} | {Reject.BUDGET}
    assert set(made.bad_frames(1)) == before_meaning


def test_of_a_callgrind_dump_every_instruction_counts_once_and_libsodium_s_apart() -> None:
    dump = """desc: Trigger: Client Request: valid frame x2
ob=/lib/_hotpath.abi3.so
fn=check
12 100
cob=/lib/_sodium.abi3.so
cfn=crypto_sign_open
calls=1 7
13 90000
+1 5
ob=/lib/_sodium.abi3.so
fn=crypto_sign_open
7 90000
ob=/usr/bin/python3.11
* 20
"""
    name, cost = instructions.read(dump)
    assert name == "valid frame x2"
    assert cost == {instructions.OWN: 125, instructions.LIBSODIUM: 90000}


def test_throughput_halves_between_the_two_numbers_around_half() -> None:
    assert voters.halved([(4, 100.0), (10, 90.0), (20, 60.0), (30, 20.0)]) == (22, True)
    assert voters.halved([(4, 100.0), (10, 50.0)]) == (10, False)
    assert voters.halved([(4, 100.0), (10, 80.0), (20, 51.0)]) == (20, False)


def test_a_line_of_so_many_bits_is_what_bounds_a_mesh_of_many_ops(tmp_path: Path) -> None:
    rate = voters.measure(Plan(tmp_path, quick=True), 4, voters.PENDING)
    # Every op comes to a voter twice, by itself and in its block, so a line of 125,000 bytes a
    # second cannot carry more than half as many ops as would fill it.
    frame_bytes = len(boards.found(tmp_path / "frame", 1).transfer(0, 0))
    assert rate.ops_per_block > 100
    assert rate.ops_per_s < 125_000 / (2 * frame_bytes)


def test_sockets_are_counted_at_the_ends_that_belong_to_the_measured(tmp_path: Path) -> None:
    if sockets.MISSING:
        pytest.skip(sockets.MISSING)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as near, server.accept()[0] as far:
            near.sendall(b"before")
            assert far.recv(6, socket.MSG_WAITALL) == b"before"
            one, both = (sockets.Meter((port,), both_ends=both) for both in (False, True))
            near.sendall(bytes(1000))
            far.sendall(bytes(200))
            assert len(far.recv(1000, socket.MSG_WAITALL)) == 1000
            assert len(near.recv(200, socket.MSG_WAITALL)) == 200
            assert one.read().payload_bytes == 1200
            counted = both.read()
            assert counted.payload_bytes == 2400
            assert counted.framed_bytes > 2400 + 4 * HEADER_BYTES
            assert sockets.Meter((port,), both_ends=True).read() == sockets.Traffic(0, 0)
    day = sockets.Traffic(1200, 12).of_a_day(seconds=60, nodes=4)
    assert day == sockets.Traffic(300 * 1440, 3 * 1440)


def test_the_floor_of_more_voters_has_a_greater_quorum_to_verify() -> None:
    assert [floor.quorum(n) for n in (1, 4, 6, 10, 31)] == [1, 3, 5, 7, 21]
    four, many = (floor.Floor(n, [10**6], [10**6], [10**6], 0, 10**5) for n in (4, 31))
    assert four.ms(50) == pytest.approx(7 + 6 * 0.1)
    assert many.ms(50) == pytest.approx(7 + 42 * 0.1)
    assert four.signatures_ns == 4 * 8 * 10**5


def test_amounts_have_three_digits() -> None:
    values = (0, 0.01234, 1.0, 12.345, 999.6, 12_345, 17_123_456)
    written = ["0", "0.0123", "1.00", "12.3", "1000", "12,300", "17,100,000"]
    assert [amount(value) for value in values] == written


def test_a_row_without_a_reference_has_no_ratio() -> None:
    row = Row("group", "what", 2.0, "ms", "how")
    assert row.ratio is None
    assert table([row])[-1].split() == ["what", "2.00", "ms", "how"]
