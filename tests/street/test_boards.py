"""A board's physics: exact energies, registers that only grow, the same day for the same seed."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from demesh.ports import MILLISECOND, SECOND, Actuate
from demesh_sim import physics, scenario
from demesh_sim.boards import WATCHDOG_SAMPLES, BoardState, SharedCable, SimulatedBoard
from demesh_sim.physics import MINUTE, WATT_HOUR, DayClock

STREET = scenario.load(Path(__file__).parents[2] / "configs" / "scenarios" / "street.toml")
CLOCK = DayClock(origin=0, starts_minute=STREET.clock.starts_minute, speed_up=1440)
FLOW, OTHER = b"f" * 16, b"g" * 16


def board(name, street=STREET, cable=None, state=None):
    return SimulatedBoard(street, name, CLOCK, cable or SharedCable(8), 0, state=state)


def watched(device, until, since=0):
    """Read it every second, as a daemon does; the last measurement."""
    for now in range(since + SECOND, until, SECOND):
        device.read(now)
    return device.read(until)


def energy_is_conserved(device):
    start = device.plan.battery.start_wh * WATT_HOUR
    state = device.state
    return state.sun + start == state.stored + state.delivered + state.spilled


def test_a_day_passes_in_a_minute():
    device = board("feeder")
    assert device.time_of_day(0) == (0, 390)
    assert device.time_of_day(60 * SECOND) == (1, 390)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2000), st.sampled_from([FLOW, OTHER]), st.sampled_from([0, 700, 9000])
        ),
        max_size=25,
    )
)
def test_a_battery_conserves_energy_and_keeps_its_bounds(commands):
    device = board("ada-battery")
    battery, now, before = device.plan.battery, 0, {}
    for after_ms, flow, power_w in commands:
        now += after_ms * MILLISECOND
        device.actuate(Actuate(flow, power_w), now)
        registers = dict(device.read(now).flows)
        assert all(registers[name] >= value for name, value in before.items())
        before = registers
        stored = device.state.stored
        assert battery.reserve_wh * WATT_HOUR <= stored <= battery.capacity_wh * WATT_HOUR
        assert energy_is_conserved(device)


def test_a_reading_does_not_depend_on_how_often_it_is_taken():
    often, once = board("boris-battery"), board("boris-battery")
    for device in (often, once):
        device.actuate(Actuate(FLOW, 2000), 0)
    for step in range(1, 240):
        often.read(step * 125 * MILLISECOND)
    # A limit that bites inside a piece rounds down per piece: less than a watt of it.
    assert often.read(30 * SECOND).flows == watched(once, 30 * SECOND).flows
    assert abs(often.state.stored - once.state.stored) < WATT_HOUR


def test_a_battery_stops_at_its_reserve_and_says_that_it_has_nothing_to_sell():
    dark = replace(STREET, profile=tuple(replace(p, watts=(0,) * 24) for p in STREET.profile))
    device = board("ada-battery", dark)
    assert device.read(0).supply_w == device.plan.battery.power_w_max
    device.actuate(Actuate(FLOW, 8000), 0)
    measured = watched(device, 60 * SECOND)
    assert measured.stored_wh == device.plan.battery.reserve_wh
    assert measured.supply_w == 0 and measured.power_w == 0
    (register,) = (units for _, units in measured.flows)
    assert abs(register - 17_000) <= 17_000 // 200 + 1


def test_the_oldest_flow_is_served_first_when_the_inverter_is_at_its_limit():
    device = board("boris-battery")
    device.actuate(Actuate(FLOW, 5000), 0)
    device.actuate(Actuate(OTHER, 5000), 0)
    flows = dict(device.read(SECOND).flows)
    assert 4.9 < flows[FLOW] / flows[OTHER] < 5.1


def test_both_meters_of_a_flow_agree_within_one_percent():
    seller, buyer = board("ada-battery"), board("chloe-meter")
    seller.actuate(Actuate(FLOW, 2000), 0)
    buyer.actuate(Actuate(FLOW, -2000), 0)
    sold = dict(watched(seller, 5 * SECOND).flows)[FLOW]
    bought = dict(watched(buyer, 5 * SECOND).flows)[FLOW]
    assert sold > 3900 and abs(sold - bought) * 100 < sold


def test_a_board_that_nobody_watches_ends_its_flows_by_itself():
    left, cut = board("ada-battery"), board("ada-battery")
    limit = WATCHDOG_SAMPLES * left.sample_ms * MILLISECOND
    for device in (left, cut):
        device.actuate(Actuate(FLOW, 2000), 0)
    cut.read(limit)
    cut.actuate(Actuate(FLOW, 0), limit)
    assert left.read(30 * SECOND).flows == cut.read(30 * SECOND).flows
    assert dict(left.read(40 * SECOND).flows) == dict(left.read(30 * SECOND).flows)


def test_an_ended_flow_keeps_its_register_for_the_last_reading():
    device = board("ada-battery")
    device.actuate(Actuate(FLOW, 2000), 0)
    device.actuate(Actuate(FLOW, 0), SECOND)
    first = device.read(SECOND).flows
    assert first[0][1] > 0
    assert device.read(9 * SECOND).flows == first


def test_demand_is_what_is_wanted_and_not_yet_bought():
    device = board("ada-meter")
    wanted = device.read(0).demand_w
    assert wanted > 500 and wanted % 100 == 0
    device.actuate(Actuate(FLOW, -(wanted - 300)), 0)
    assert device.read(0).demand_w == 300
    device.actuate(Actuate(OTHER, -300), 0)
    assert device.read(0).demand_w == 0


def test_a_car_takes_only_what_was_bought_and_no_more_than_it_wanted():
    device = board("chloe-wallbox")
    assert device.read(9 * SECOND).demand_w == 0
    plugged = watched(device, 10 * SECOND, 9 * SECOND)  # 10:30
    assert (plugged.power_w, plugged.demand_w) == (0, 7400)
    device.actuate(Actuate(FLOW, -4000), 10 * SECOND)
    device.read(11 * SECOND)  # 24 simulated minutes
    assert device.state.charged == 4000 * 24 * MINUTE
    full = watched(device, 23 * SECOND, 11 * SECOND)
    assert device.state.charged <= 18_000 * WATT_HOUR and full.demand_w == 0
    assert watched(device, 24 * SECOND, 23 * SECOND).demand_w == 0  # it has left at 16:00


def test_the_feeder_meter_sees_the_sum_of_the_street():
    cable = SharedCable(8)
    names = [plan.name for plan in STREET.board]
    boards = [board(name, cable=cable) for name in names]
    feeder = boards[names.index("feeder")]
    powers = [device.read(SECOND).power_w for device in boards]
    total = sum(powers) - powers[names.index("feeder")]
    assert total > 1000
    assert abs(feeder.read(SECOND).power_w - total) < total // 100 + 10


def test_the_same_seed_gives_the_same_day_and_another_seed_another():
    def day(seed):
        device = board("ada-battery", replace(STREET, seed=seed))
        return [device.read(second * SECOND) for second in range(60)]

    assert day(7) == day(7)
    assert day(7) != day(8)


def test_a_board_that_lost_power_goes_on_with_its_registers_and_charge():
    before = board("ada-battery")
    before.actuate(Actuate(FLOW, 3000), 0)
    register = before.read(2 * SECOND).flows
    stored = before.state.stored
    after = SimulatedBoard(
        STREET, "ada-battery", CLOCK, SharedCable(8), 4 * SECOND, state=before.state
    )
    assert after.read(4 * SECOND).flows[0] >= register[0]
    assert after.state.stored == stored


def test_a_day_leaves_enough_to_trade_at_any_hour():
    """Demand meets charge from the first second, and the sun refills what was sold."""
    meters = [board(n) for n in ("ada-meter", "boris-meter", "chloe-meter", "boris-heatpump")]
    assert sum(device.read(0).demand_w for device in meters) > 3000
    battery = board("ada-battery")
    battery.read(60 * SECOND)
    assert battery.state.sun > 25_000 * WATT_HOUR


def test_a_fresh_state_is_empty_and_a_full_battery_spills():
    device = board("ada-battery", state=BoardState(stored=36_000 * WATT_HOUR))
    device.read(20 * SECOND)
    assert device.state.spilled > 0
    assert device.read(20 * SECOND).power_w < 0
    assert physics.stay_at((), 0) is None
