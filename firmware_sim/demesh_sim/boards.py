"""A simulated board behind the `Device` port: loads, a roof, a battery, a car, a meter.

Theory of operation. A board's physics advances in pieces that never cross a simulated minute; in
each piece all powers are constant and every energy is an exact integer (watt-nanoseconds). The
energy a piece moves is limited before it is moved, so a battery never goes below its reserve nor
above its capacity, and this holds at every instant:

    sun + start = stored + delivered + spilled                                        (battery)
    taken by a car <= what the driver wanted                                            (wallbox)

A flow is one agreement's share: `actuate(flow, +p)` delivers p from the battery as far as charge
and inverter allow, oldest flow first; `actuate(flow, -p)` takes in. What a home bought and does not
use runs on to the grid: it is the home's. Losses are left out. A meter errs by a constant gain
below 0.5 %, so two meters of one flow differ by less than 1 % and registers stay monotone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from demesh.ports import MILLISECOND, Actuate, Instant, Measurement
from demesh_sim import physics
from demesh_sim.physics import MINUTE, WATT_HOUR, DayClock
from demesh_sim.scenario import Board as Plan
from demesh_sim.scenario import Scenario

PPM = 1_000_000

# Class B meters (EN 50470-3) may err by 1 %; two must agree within the 2 % that a bill allows.
GAIN_PPM_MAX = 5_000

# Below this a contract costs more messages than the energy is worth.
TRADE_W_MIN = 100

# IEC 61851: a car takes no less than 6 A on one phase.
CAR_W_MIN = 1_400

# Ended flows whose registers are still reported, so that a last reading can be taken. A board ends
# a few in a second at most; one forgotten too early would be billed by its last voucher.
ENDED_FLOWS_MAX = 32


class Cable(Protocol):
    """The street's wire: every board puts what it draws, the feeder meter sees the sum."""

    def put(self, index: int, power_w: int) -> None:
        """Board `index` now draws (> 0) or delivers (< 0) this much."""

    def total(self) -> int:
        """What flows into the street, in W."""


class SharedCable:
    """A cable inside one process."""

    def __init__(self, boards: int) -> None:
        self._powers = [0] * boards

    def put(self, index: int, power_w: int) -> None:
        """See Cable."""
        self._powers[index] = power_w

    def total(self) -> int:
        """See Cable."""
        return sum(self._powers)


@dataclass(slots=True)
class Flow:
    """One agreement: set power, energy moved so far (watt-nanoseconds), still in service."""

    power_w: int
    moved: int = 0
    live: bool = True


@dataclass(slots=True)
class BoardState:
    """What a board remembers without power. Energies in watt-nanoseconds."""

    stored: int = 0
    stay: int = -1
    charged: int = 0
    sun: int = 0
    delivered: int = 0
    spilled: int = 0
    flows: dict[bytes, Flow] = field(default_factory=dict)


# A board whose daemon does not look for so many samples ends its flows: an inverter's watchdog.
# What is delivered after the daemon died is delivered for nothing, so not many; a loaded machine is
# late by a few, so not one.
WATCHDOG_SAMPLES = 10


class SimulatedBoard:
    """A board of a scenario as a `Device`. Reading it moves its physics up to `now`."""

    def __init__(
        self,
        scenario: Scenario,
        name: str,
        clock: DayClock,
        cable: Cable,
        now: Instant,
        *,
        state: BoardState | None = None,
    ) -> None:
        self.sample_ms = scenario.sample_ms
        self.plan: Plan = scenario.board_named(name)
        self._scenario = scenario
        self._index = scenario.index(name)
        self._clock = clock
        self._cable = cable
        self._at = clock.simulated(now)
        self._watched_at = now
        self._power_w = 0
        self._gain_ppm = (
            physics.chance(scenario.seed, name, "gain", 0, 2 * GAIN_PPM_MAX + 1) - GAIN_PPM_MAX
        )
        battery = self.plan.battery
        start = battery.start_wh * WATT_HOUR if battery else 0
        self.state = state if state is not None else BoardState(stored=start)

    def read(self, now: Instant) -> Measurement:
        """Advance to `now` and measure; see Device."""
        self._advance(now)
        if self.plan.feeder is None:
            self._cable.put(self._index, self._power_w)
            power_w = self._power_w
        else:
            power_w = self._cable.total()
        return Measurement(
            power_w=self._metered(power_w),
            demand_w=self._demand_w(),
            supply_w=self._supply_w(),
            stored_wh=self.state.stored // WATT_HOUR,
            flows=tuple(
                (name, self._metered(flow.moved) // WATT_HOUR)
                for name, flow in self.state.flows.items()
            ),
        )

    def actuate(self, command: Actuate, now: Instant) -> None:
        """Set a flow's power from `now` on; see Device. What cannot be delivered is not counted."""
        self._advance(now)
        flows = self.state.flows
        flow = flows.setdefault(command.flow, Flow(0))
        flow.power_w = command.power_w
        flow.live = command.power_w != 0
        ended = [name for name, other in flows.items() if not other.live]
        for name in ended[:-ENDED_FLOWS_MAX]:
            del flows[name]

    def time_of_day(self, now: Instant) -> tuple[int, int]:
        """(day, minute of the day) of the simulated time at `now`."""
        day, into = divmod(self._clock.simulated(now), physics.DAY)
        return day, into // MINUTE

    # -- physics ---------------------------------------------------------------------------------

    def _advance(self, now: Instant) -> None:
        """Move on to `now`; flows that nobody watched for too long ended by themselves."""
        watched_until = self._watched_at + WATCHDOG_SAMPLES * self.sample_ms * MILLISECOND
        if now > watched_until:
            self._move(watched_until)
            for flow in self.state.flows.values():
                flow.power_w, flow.live = 0, False
        self._move(now)
        self._watched_at = now

    def _move(self, now: Instant) -> None:
        until = self._clock.simulated(now)
        while self._at < until:
            piece = min(until, (self._at // MINUTE + 1) * MINUTE) - self._at
            self._power_w = self._piece(self._at, piece)
            self._at += piece

    def _piece(self, at: int, piece: int) -> int:
        """Move the energies of one piece; returns the board's draw in W during it."""
        draw = self._load_w(at)
        taken = sum(-flow.power_w for flow in self.state.flows.values() if flow.power_w < 0)
        if self.plan.car is not None:
            room_w = self._car_room_w(at, piece)
            taken = min(taken, room_w)
            self.state.charged += taken * piece
            draw += taken
        self._count_taken(taken, piece)
        return draw - self._battery(at, piece)

    def _battery(self, at: int, piece: int) -> int:
        """Charge from the roof, discharge into the flows; returns the W delivered to the street."""
        battery, state = self.plan.battery, self.state
        if battery is None:
            return 0
        reserve, capacity = battery.reserve_wh * WATT_HOUR, battery.capacity_wh * WATT_HOUR
        left_w = min(battery.power_w_max, max(0, state.stored - reserve) // piece)
        delivered_w = 0
        for flow in state.flows.values():
            power_w = min(flow.power_w, left_w)
            if power_w > 0:
                flow.moved += power_w * piece
                left_w -= power_w
                delivered_w += power_w
        state.stored -= delivered_w * piece
        state.delivered += delivered_w * piece
        sun_w = self._sun_w(at)
        charge_w = min(sun_w, battery.power_w_max, (capacity - state.stored) // piece)
        state.stored += charge_w * piece
        state.sun += sun_w * piece
        state.spilled += (sun_w - charge_w) * piece
        return delivered_w + sun_w - charge_w

    def _count_taken(self, taken_w: int, piece: int) -> None:
        for flow in self.state.flows.values():
            power_w = min(-flow.power_w, taken_w)
            if power_w > 0:
                flow.moved += power_w * piece
                taken_w -= power_w

    def _car_room_w(self, at: int, piece: int) -> int:
        """The most a plugged-in car takes during a piece; notices when another stay begins."""
        car, state = self.plan.car, self.state
        found = physics.stay_at(car.stays, at) if car else None
        if car is None or found is None:
            return 0
        number, stay = found
        if number != state.stay:
            state.stay, state.charged = number, 0
        return min(car.power_w_max, (stay.wants_wh * WATT_HOUR - state.charged) // piece)

    def _load_w(self, at: int) -> int:
        load, scenario = self.plan.load, self._scenario
        if load is None:
            return 0
        profile = scenario.profile_named(load.profile)
        return physics.load_w(profile, load.percent, scenario.seed, self.plan.name, at)

    def _sun_w(self, at: int) -> int:
        sun, scenario = self.plan.sun, self._scenario
        if sun is None:
            return 0
        profile = scenario.profile_named(sun.profile)
        return physics.sun_w(profile, sun.percent, sun.cloud_percent, scenario.seed, at)

    # -- what the meter says ---------------------------------------------------------------------

    def _metered(self, true: int) -> int:
        return true * (PPM + self._gain_ppm) // PPM

    def _demand_w(self) -> int:
        """What is wanted and not yet bought, in steps of TRADE_W_MIN so that noise buys nothing."""
        if self.plan.buy is None:
            return 0
        flows = self.state.flows.values()
        bought_w = sum(-flow.power_w for flow in flows if flow.power_w < 0)
        if self.plan.car is None:
            wanted_w, least_w = self._load_w(self._at), TRADE_W_MIN
        else:
            wanted_w, least_w = self._car_room_w(self._at, WATT_HOUR), CAR_W_MIN
        open_w = (wanted_w - bought_w) // TRADE_W_MIN * TRADE_W_MIN
        return open_w if open_w >= least_w else 0

    def _supply_w(self) -> int:
        """What the battery could deliver on top of its flows for at least half an hour."""
        battery = self.plan.battery
        if battery is None or self.plan.sell is None:
            return 0
        sold_w = sum(flow.power_w for flow in self.state.flows.values() if flow.power_w > 0)
        charge_w = 2 * (self.state.stored - battery.reserve_wh * WATT_HOUR) // WATT_HOUR
        return max(0, min(battery.power_w_max, charge_w) - sold_w)
