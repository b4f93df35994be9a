"""A world in which each of a row of numbers is an event: what happens, to whom, how much."""

from __future__ import annotations

from collections.abc import Iterable

from metering.world import PAYER, PROVIDER, SAMPLE, World, agreement, offer, run_fair, run_out

TERMS = (
    offer(),
    offer(lead=0, lag=50),  # a single sample's step of slack
    offer(lag=5_000, quantum_ms=300),
    offer(units_max=60),  # used up within seconds
)


def chaos(world: World, events: Iterable[int]) -> None:
    """Let it happen."""
    for number in events:
        what, which = number % 16, number // 16
        if what < 6:
            steps = (which % (world.step_max + 1), which // 8 % (world.step_max + 1))
            world.pass_time(SAMPLE * (1 + which // 64 % 4), steps)
        elif what < 10 and world.network:
            world.deliver(which % len(world.network))
        elif what == 10 and world.network:
            world.network.pop(which % len(world.network))
        elif what == 11 and 0 < len(world.network) < 64:
            world.deliver(which % len(world.network), keep=True)
        elif what == 12 and world.ops:
            world.decide()
        elif what == 13 and world.ops and which % 4 == 0:
            world.ops.pop(0)
        elif what == 14 and which % 2 == 0:
            world.synced = bool(which & 2)
            world.kill_at = world.executed + which // 4 % 8
        elif what == 15:
            for who in (PROVIDER, PAYER):
                if world.sides[who].metering is None:
                    world.boot(who)


def play(events: Iterable[int], terms: int) -> World:
    """A session under chaos, then a fair world until everything is over."""
    world = World(agreement(TERMS[terms % len(TERMS)]))
    world.start()
    chaos(world, events)
    world.kill_at = None
    run_fair(world, 90, (2, 2), restart_after=2)
    run_out(world)
    return world
