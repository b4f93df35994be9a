"""SIGKILL between any two effects of either side: money and energy stay within the promises."""

from __future__ import annotations

import pytest

from metering.world import PAYER, PROVIDER, World, agreement, run_fair, run_out

DURATION_S = 5


def session(kill_at: int | None = None, *, synced: bool = False) -> World:
    """A session of `DURATION_S` that begins, to be killed before its effect `kill_at`."""
    world = World(agreement(duration_s=DURATION_S))
    world.kill_at, world.synced = kill_at, synced
    world.start()
    return world


def whole_session() -> World:
    world = session()
    run_fair(world, 60, (3, 3))
    return world


def test_a_session_without_crash_is_paid_to_the_last_unit():
    whole = whole_session()
    assert whole.settled
    assert whole.paid == whole.units(PROVIDER) * 10 > 1_000


@pytest.mark.parametrize("synced", [False, True], ids=["unsynced", "synced"])
@pytest.mark.parametrize("restart_after", [1, 12, 45], ids=["at-once", "late", "too-late"])
def test_a_kill_before_any_effect_ends_settled_and_within_the_bounds(restart_after, synced):
    for place in range(whole_session().executed):
        broken = session(place, synced=synced)
        run_fair(broken, 120, (3, 3), restart_after=restart_after)
        run_out(broken)
        assert broken.settled, f"killed before effect {place}:\n" + "\n".join(broken.log)


@pytest.mark.parametrize("place", range(0, 44, 4))
def test_a_second_kill_during_the_recovery_changes_nothing(place):
    for second in range(1, 12):
        broken = session(place)
        run_fair(broken, 1, (3, 3), restart_after=3)
        broken.kill_at = broken.executed + second
        run_fair(broken, 120, (3, 3), restart_after=3)
        run_out(broken)
        assert broken.settled, f"killed at {place} and +{second}:\n" + "\n".join(broken.log)


@pytest.mark.parametrize("dead", [PROVIDER, PAYER], ids=["provider", "payer"])
def test_a_side_that_never_returns_leaves_a_channel_that_ends_by_itself(dead):
    for tenths in range(2, 60, 3):
        broken = session()
        for _ in range(tenths):
            step_fair(broken)
        broken.kill(dead)
        run_fair(broken, 120, (3, 3))
        run_out(broken)
        assert broken.settled, f"killed after {tenths}:\n" + "\n".join(broken.log)


@pytest.mark.parametrize("back_after", [1, 5])
def test_a_provider_that_comes_back_in_time_goes_on_serving(back_after):
    broken = session()
    for _ in range(20):
        step_fair(broken)
    before = broken.units(PROVIDER)
    broken.kill(PROVIDER)
    run_fair(broken, 120, (3, 3), restart_after=back_after)
    assert broken.units(PROVIDER) > before + 30
    assert broken.paid == broken.units(PROVIDER) * 10


@pytest.mark.parametrize("back_after", [1, 5])
def test_a_payer_that_comes_back_in_time_goes_on_paying(back_after):
    broken = session()
    for _ in range(20):
        step_fair(broken)
    before = broken.paid
    broken.kill(PAYER)
    run_fair(broken, 120, (3, 3), restart_after=back_after)
    assert broken.paid > before + 300
    assert broken.units(PROVIDER) * 10 - broken.paid <= broken.terms.offer.lag


def step_fair(world: World) -> None:
    """One sample of a fair world."""
    world.pass_time(100_000_000, (3, 3))
    while world.network:
        world.deliver(0)
    if world.ops:
        world.decide()
