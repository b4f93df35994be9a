"""A scenario file (TOML) as frozen records: owners, boards, their physics, policies and the mesh.

Every key is known and typed. What is not is a ConfigError in one line that names the file, the
place and what was expected; see configs/scenarios/street.toml for a commented example.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from demesh.config import PROFILES, BuyPolicy, SellPolicy
from demesh.errors import ConfigError
from demesh.wire.schema import Bounds
from demesh_sim import records
from demesh_sim.records import Misfit, meant

HOURS = 24

# A simulated meter changes all the time: shown every second, a day of a minute is a film.
REPORT_S = 1

SECONDS_MAX = 7 * 86_400  # a run longer than a week is an installation

Percent = Annotated[int, Bounds(0, 1000)]
Watts = Annotated[int, Bounds(0, 1_000_000)]
WattHours = Annotated[int, Bounds(0, 10_000_000)]
BOARD_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Clock:
    """How time passes for physics only; protocol timers, quanta and vouchers keep wall time."""

    speed_up: Annotated[int, Bounds(1, 86_400)] = 1440  # a day in a minute
    starts_at: str = "00:00"
    duration_s: Annotated[int, Bounds(1, SECONDS_MAX)] = 60

    @property
    def starts_minute(self) -> int:
        """Minute of the simulated day at which a run begins."""
        return minute_of_day(self.starts_at)


@dataclass(frozen=True, slots=True)
class Mesh:
    """What the founders agree on: the commons' share and each device's starter credit (micro)."""

    commons_ppm: Annotated[int, Bounds(0, 20_000)] = 10_000
    starter_credit: Annotated[int, Bounds(0, 2**50)] = 50_000_000
    patience: str = "lan"  # consensus timers: "lan" or "wan"


@dataclass(frozen=True, slots=True)
class Owner:
    """A household that owns boards."""

    name: str


@dataclass(frozen=True, slots=True)
class Profile:
    """Watts at each full hour of a day; in between it is interpolated."""

    name: str
    watts: tuple[Watts, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """Consumption that happens whether or not it was bought: the grid delivers the rest."""

    profile: str
    percent: Percent = 100


@dataclass(frozen=True, slots=True)
class Sun:
    """A roof behind a battery. Clouds take up to `cloud_percent` away, slot by slot."""

    profile: str
    percent: Percent = 100
    cloud_percent: Annotated[int, Bounds(0, 100)] = 30


@dataclass(frozen=True, slots=True)
class Battery:
    """A store: it sells down to `reserve_wh`; `power_w_max` bounds charging and discharging."""

    capacity_wh: WattHours
    start_wh: WattHours
    power_w_max: Watts
    reserve_wh: WattHours = 0


@dataclass(frozen=True, slots=True)
class Stay:
    """A car is plugged in between two times of day and would like `wants_wh`."""

    arrives: str
    leaves: str
    wants_wh: WattHours


@dataclass(frozen=True, slots=True)
class Car:
    """Consumption that waits for a seller: only what was bought flows."""

    power_w_max: Watts
    stays: tuple[Stay, ...]


@dataclass(frozen=True, slots=True)
class Feeder:
    """A meter on the street's cable; it shows the sum of what all boards draw and deliver."""

    limit_w: Watts


@dataclass(frozen=True, slots=True)
class Board:
    """One simulated device: whose it is, what it is made of, what it may buy and sell."""

    name: str
    owner: str
    device_class: str = field(metadata={"key": "class"})
    load: Load | None = None
    sun: Sun | None = None
    battery: Battery | None = None
    car: Car | None = None
    feeder: Feeder | None = None
    sell: SellPolicy | None = None
    buy: BuyPolicy | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole scenario; `seed` fixes clouds, noise and every other chance of the physics."""

    name: str
    seed: int
    clock: Clock
    mesh: Mesh
    owner: tuple[Owner, ...]
    profile: tuple[Profile, ...]
    board: tuple[Board, ...]
    sample_ms: Annotated[int, Bounds(10, 10_000)] = 200

    def profile_named(self, name: str) -> Profile:
        """The profile of that name; `load` has checked that it exists."""
        return next(profile for profile in self.profile if profile.name == name)

    def board_named(self, name: str) -> Board:
        """The board of that name; raises ConfigError with the names there are."""
        for board in self.board:
            if board.name == name:
                return board
        raise ConfigError(f"scenario {self.name}: no board {name!r}{meant(name, self._boards())}")

    def index(self, name: str) -> int:
        """Position of a board in the scenario."""
        return self._boards().index(name)

    def _boards(self) -> list[str]:
        return [board.name for board in self.board]


def load(path: Path) -> Scenario:
    """Read and check a scenario file; raises ConfigError (exit 78) in one line."""
    return records.load(Scenario, path, _check)


def minute_of_day(text: str) -> int:
    """Minutes since midnight of "HH:MM"; raises ValueError saying what came."""
    match = re.fullmatch(r"([0-2]\d):([0-5]\d)", text)
    if match is None or int(match[1]) >= HOURS:
        raise ValueError(f'{text!r} is not a time of day; write it as "06:30"')
    return int(match[1]) * 60 + int(match[2])


# -- what a type cannot say ------------------------------------------------------------------------


def _check(scenario: Scenario) -> None:
    owners = _unique([owner.name for owner in scenario.owner], "owner")
    profiles = _unique([profile.name for profile in scenario.profile], "profile")
    _unique([board.name for board in scenario.board], "board")
    _time(scenario.clock.starts_at, "clock.starts_at")
    patience = scenario.mesh.patience
    if patience not in PROFILES:
        raise Misfit(f"mesh.patience = {patience!r} is none of {', '.join(PROFILES)}", "patience")
    for profile in scenario.profile:
        if len(profile.watts) != HOURS:
            raise Misfit(
                f"profile {profile.name}: watts has {len(profile.watts)} values, "
                f"expected {HOURS}, one for each full hour"
            )
    for board in scenario.board:
        where = f"board {board.name}: "
        if not BOARD_NAME.fullmatch(board.name):
            raise Misfit(f"{where}name must be of a-z, 0-9 and -, at most 32 characters")
        if board.owner not in owners:
            raise Misfit(f"{where}no owner {board.owner!r}{meant(board.owner, owners)}")
        for part in (board.load, board.sun):
            if part is not None and part.profile not in profiles:
                raise Misfit(f"{where}no profile {part.profile!r}{meant(part.profile, profiles)}")
        _check_parts(board, where)


def _check_parts(board: Board, where: str) -> None:
    if board.sun is not None and board.battery is None:
        raise Misfit(f"{where}sun needs a battery to fill")
    if board.sell is not None and board.battery is None:
        raise Misfit(f"{where}sell needs a battery to sell from")
    if board.buy is not None and board.load is None and board.car is None:
        raise Misfit(f"{where}buy needs a load or a car to buy for")
    battery = board.battery
    if battery is not None and not battery.reserve_wh <= battery.start_wh <= battery.capacity_wh:
        raise Misfit(f"{where}battery needs reserve_wh <= start_wh <= capacity_wh")
    for stay in board.car.stays if board.car else ():
        arrives = _time(stay.arrives, f"{where}stays.arrives")
        if arrives >= _time(stay.leaves, f"{where}stays.leaves"):
            raise Misfit(f"{where}a stay must leave after it arrives, on the same day")


def _unique(names: list[str], what: str) -> list[str]:
    if not names:
        raise Misfit(f"expected at least one [[{what}]]")
    for name in names:
        if names.count(name) > 1:
            raise Misfit(f"two [[{what}]] are named {name!r}")
    return names


def _time(text: str, where: str) -> int:
    try:
        return minute_of_day(text)
    except ValueError as error:
        raise Misfit(f"{where}: {error}", where.rpartition(".")[2]) from None
