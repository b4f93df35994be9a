"""The street on a terminal: a live view where there is one (extra `view`), plain lines where not.

Both show the same `Picture`. The live view (live.py) is imported only when it is wanted, for rich
comes with the extra `view`; without it the plain view says once how to get it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TextIO

from demesh_sim.picture import Picture
from demesh_sim.scenario import Scenario

INSTALL_HINT = "a live view needs rich; beside demesh: python -m pip install rich"

# A status line in plain text: often enough to see it live, rarely enough to read a log of an hour.
STATUS_MS = 5_000


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and when it is looked at."""

    picture: Picture
    title: str
    broker: str
    now_ms: int
    duration_ms: int
    day: int
    minute: int

    @property
    def time_of_day(self) -> str:
        """Simulated day and time, as on a kitchen clock."""
        return f"day {self.day + 1} {self.minute // 60:02d}:{self.minute % 60:02d}"

    @property
    def quorum_lost(self) -> str:
        """What most boards miss to decide, or nothing."""
        boards = [b for b in self.picture.boards.values() if b.up and b.of]
        without = [board for board in boards if board.have < board.need]
        if not without or 2 * len(without) < len(boards):
            return ""
        worst = without[0]
        return f"no quorum: have {worst.have} of {worst.of}, need {worst.need}"


def title(scenario: Scenario) -> str:
    """What is being watched."""
    return f"{scenario.name}, {len(scenario.board)} boards of {len(scenario.owner)} owners"


class View(Protocol):
    """Something that shows scenes until it is closed."""

    def show(self, scene: Scene) -> None:
        """Show the street as it is now."""

    def close(self) -> None:
        """Give the terminal back."""


def open_view(out: TextIO, *, plain: bool) -> View:
    """The live view on a terminal with rich, else the plain one."""
    if plain or not out.isatty():
        return PlainView(out)
    try:
        from demesh_sim.live import LiveView  # noqa: PLC0415 - rich is an extra
    except ImportError:
        print(INSTALL_HINT, file=out, flush=True)
        return PlainView(out)
    return LiveView(out)


# -- plain ----------------------------------------------------------------------------------------


class PlainView:
    """One line per event, and a status line every few seconds."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown = 0
        self._status_ms = 0

    def show(self, scene: Scene) -> None:
        """Print what is new."""
        lines = scene.picture.lines
        new = min(scene.picture.lines_total - self._shown, len(lines))
        self._shown = scene.picture.lines_total
        for line in list(lines)[len(lines) - new :]:
            self._print(f"{seconds(line.at_ms)}  {line.who}: {line.text}")
        if scene.now_ms - self._status_ms >= STATUS_MS:
            self._status_ms = scene.now_ms
            self._print(f"{seconds(scene.now_ms)}  -- {status(scene)}")

    def close(self) -> None:
        """Nothing to give back."""

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


def status(scene: Scene) -> str:
    """The whole street in one line."""
    picture = scene.picture
    up = sum(board.up for board in picture.boards.values())
    flows = picture.flows(scene.now_ms)
    power = kilo(sum(flow.power_w for flow in flows), "W")
    return (
        f"{scene.time_of_day} · {up}/{len(picture.boards)} up · height {picture.height} · "
        f"{len(flows)} flow{'s' * (len(flows) != 1)} {power} · "
        f"sold {kilo(picture.sold_wh, 'Wh')} · settled {picture.settled_total} "
        f"channel{'s' * (picture.settled_total != 1)}, "
        f"{credits(picture.paid_total)} credits"
    )


# -- numbers for people ---------------------------------------------------------------------------


def seconds(at_ms: int) -> str:
    """Minutes and seconds since the run began."""
    return f"{at_ms // 60_000:02d}:{at_ms // 1000 % 60:02d}"


def kilo(value: int, unit: str) -> str:
    """A power or an energy in thousands, cut to one decimal: 4250 W is 4.2 kW."""
    tenths = abs(value) // 100
    sign = "-" if value < 0 and tenths else ""
    return f"{sign}{tenths // 10}.{tenths % 10} k{unit}"


def credits(micro: int) -> str:
    """Micro-credits as credits with three decimals, cut towards zero."""
    milli = abs(micro) // 1000
    sign = "-" if micro < 0 and milli else ""
    return f"{sign}{milli // 1000}.{milli % 1000:03d}"
