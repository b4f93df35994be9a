"""The simulated driver: the same day in every process, registers that outlive a crash."""

import time
from pathlib import Path

import pytest

from demesh.errors import ConfigError, StorageError
from demesh.ports import SECOND, Actuate
from demesh_sim.driver import FileCable, open_driver

STREET = Path(__file__).parents[2] / "configs" / "scenarios" / "street.toml"
FLOW = b"f" * 16


def options(board="ada-battery", **more):
    epoch_ms = time.time_ns() // 1_000_000
    return {"scenario": str(STREET), "board": board, "epoch_ms": epoch_ms, "cable": "", **more}


def test_a_killed_board_comes_back_with_its_registers_and_charge(tmp_path):
    first = open_driver(options(), tmp_path, 0)
    first.actuate(Actuate(FLOW, 2000), 0)
    before = first.read(3 * SECOND)
    second = open_driver(options(), tmp_path, 0)  # nobody closed the first
    after = second.read(0)
    assert dict(after.flows)[FLOW] == dict(before.flows)[FLOW] > 0
    assert abs(after.stored_wh - before.stored_wh) < 200  # some sun, since the epoch is not exact
    second.actuate(Actuate(FLOW, 2000), 0)
    assert dict(second.read(SECOND).flows)[FLOW] > dict(before.flows)[FLOW]


def test_processes_that_start_at_different_instants_see_the_same_time_of_day(tmp_path):
    epoch_ms = time.time_ns() // 1_000_000 - 10_000
    readings = []
    for number, now in enumerate((0, 77 * SECOND)):
        folder = tmp_path / str(number)
        folder.mkdir()
        device = open_driver(options("ada-meter", epoch_ms=epoch_ms), folder, now)
        readings.append(device.read(now + SECOND // 10).power_w)
    assert abs(readings[0] - readings[1]) < 100


def test_boards_in_two_processes_share_a_cable(tmp_path):
    path = tmp_path / "cable"
    FileCable.create(path, 8)
    one, other = FileCable(path, 8), FileCable(path, 8)
    one.put(3, -5_000)
    other.put(7, 2_000)
    assert one.total() == other.total() == -3_000


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"epoch_ms": "now"}, "epoch_ms = 'now' is not what the simulated driver needs"),
        ({"sped": 3}, "sped is unknown to the simulated driver"),
        ({"board": "adda"}, "no board 'adda'"),
    ],
)
def test_a_wrong_option_is_named(tmp_path, wrong, expected):
    with pytest.raises(ConfigError, match=expected):
        open_driver(options() | wrong, tmp_path, 0)


def test_a_spoilt_memory_and_a_missing_cable_are_said_and_not_guessed(tmp_path):
    (tmp_path / "meter.json").write_text("{")
    with pytest.raises(StorageError, match="not a meter's memory"):
        open_driver(options(), tmp_path, 0)
    with pytest.raises(StorageError, match="cannot use it as the street's cable"):
        open_driver(options(cable=str(tmp_path / "none")), tmp_path, 0)
