"""The driver `simulated`: a scenario's board as the device of a daemon, in a process of its own.

Options, in the daemon's `[driver]` section:
    scenario   path of the scenario file
    board      the board's name in it
    epoch_ms   wall time (Unix, ms) at which the simulated day started, the same for all processes
    cable      path of the street's cable, shared by all processes; "" for a board on its own

What a real meter keeps without power lies in `<folder>/meter.json`: it is written before a reading
is given, so no register that anybody has seen can ever go back.
"""

from __future__ import annotations

import json
import mmap
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demesh.errors import ConfigError, StorageError
from demesh.ports import MILLISECOND, Actuate, Device, Instant, Measurement
from demesh_sim import scenario as scenarios
from demesh_sim.boards import BoardState, Cable, Flow, SharedCable, SimulatedBoard
from demesh_sim.physics import DayClock

SLOT = struct.Struct("<q")
METER_FILE = "meter.json"
OPTIONS: dict[str, type] = {"scenario": str, "board": str, "epoch_ms": int, "cable": str}


def open_driver(options: Mapping[str, Any], folder: Path, now: Instant) -> Device:
    """The board that the options name, as it was left; raises ConfigError, StorageError."""
    _check(options)
    scenario = scenarios.load(Path(options["scenario"]))
    since_ns = time.time_ns() - options["epoch_ms"] * MILLISECOND
    clock = DayClock(now - since_ns, scenario.clock.starts_minute, scenario.clock.speed_up)
    boards = len(scenario.board)
    cable: Cable = (
        FileCable(Path(options["cable"]), boards) if options["cable"] else SharedCable(boards)
    )
    memory = MeterMemory(folder / METER_FILE)
    board = SimulatedBoard(scenario, options["board"], clock, cable, now, state=memory.load())
    return RememberingBoard(board, memory)


class RememberingBoard:
    """A board whose state is on disk before anybody is told a register."""

    def __init__(self, board: SimulatedBoard, memory: MeterMemory) -> None:
        self.sample_ms = board.sample_ms
        self._board = board
        self._memory = memory

    def read(self, now: Instant) -> Measurement:
        """See Device; raises StorageError."""
        measurement = self._board.read(now)
        self._memory.save(self._board.state)
        return measurement

    def actuate(self, command: Actuate, now: Instant) -> None:
        """See Device."""
        self._board.actuate(command, now)


class FileCable:
    """A cable between processes: one signed 64-bit slot per board in a small shared file."""

    def __init__(self, path: Path, boards: int) -> None:
        try:
            with path.open("r+b") as file:
                self._slots = mmap.mmap(file.fileno(), SLOT.size * boards)
        except (OSError, ValueError) as error:
            raise StorageError(f"{path}: cannot use it as the street's cable: {error}") from None
        self._boards = boards

    @staticmethod
    def create(path: Path, boards: int) -> None:
        """Lay a cable on which nothing flows."""
        path.write_bytes(bytes(SLOT.size * boards))

    def put(self, index: int, power_w: int) -> None:
        """See Cable. Aligned and of machine size, so a reader sees the old or the new value."""
        SLOT.pack_into(self._slots, index * SLOT.size, power_w)

    def total(self) -> int:
        """See Cable."""
        return sum(power for (power,) in SLOT.iter_unpack(self._slots[: SLOT.size * self._boards]))


class MeterMemory:
    """A board's state as a JSON file, replaced as a whole. Enough for SIGKILL; a power cut of the
    computer that plays the board would be one of the simulation, not of the board."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> BoardState | None:
        """The state left behind; None on a first start. Raises StorageError."""
        try:
            values = json.loads(self._path.read_text("ascii"))
            flows = {
                bytes.fromhex(name): Flow(0, moved, live=False)
                for name, moved in values.pop("flows").items()
            }
            return BoardState(**values, flows=flows)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(f"{self._path}: not a meter's memory: {error}") from None

    def save(self, state: BoardState) -> None:
        """Replace the file; raises StorageError."""
        values = {
            "stored": state.stored,
            "stay": state.stay,
            "charged": state.charged,
            "sun": state.sun,
            "delivered": state.delivered,
            "spilled": state.spilled,
            "flows": {name.hex(): flow.moved for name, flow in state.flows.items()},
        }
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(values), "ascii")
            fresh.replace(self._path)
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be written: {error.strerror}") from None


def _check(options: Mapping[str, Any]) -> None:
    for key, kind in OPTIONS.items():
        if type(options.get(key)) is not kind:
            raise ConfigError(
                f"[driver] {key} = {options.get(key)!r} is not what the simulated driver needs: "
                f"{'an integer' if kind is int else 'text'}"
            )
    for key in options:
        if key not in OPTIONS:
            raise ConfigError(
                f"[driver] {key} is unknown to the simulated driver; known are {', '.join(OPTIONS)}"
            )
