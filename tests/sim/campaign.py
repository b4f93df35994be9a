"""One run of a fault campaign over a bare mesh: what a seed means, what must hold at its end."""

from __future__ import annotations

from random import Random

from demesh_sim.bare import Customer, found_bare
from demesh_sim.faults import Faults
from demesh_sim.lies import LIES
from demesh_sim.links import PROFILES
from demesh_sim.swarm import Report, Swarm

TROUBLE_S = 30
# The longest fault, the longest back-off of a client, the longest silence of a timer.
RECOVERY_S = 40
CALM_S = 50  # customers go on until then
QUIET_S = 25  # to decide what is left
LYING_EVERY = 4
REPLAY = "python -m pytest tests/sim/test_seeds.py -k 'seed-{seed}-'"


def campaign(seed: int) -> tuple[Swarm, Customer]:
    """The swarm of a seed: 4 to 8 voters, one of three networks, every kind of fault.

    Every fourth has two brokers, of which one lies to the end.
    """
    chance = Random(f"{seed}/campaign")
    voters = chance.randrange(4, 9)
    profile = PROFILES[chance.choice(("ethernet", "wifi", "poor-wifi"))]
    faults = Faults(
        crash_s=chance.randrange(5, 30),
        disconnect_s=chance.randrange(5, 30),
        stall_s=chance.randrange(5, 30),
        deaf_s=chance.randrange(10, 60),
        mute_s=chance.randrange(10, 60),
        broker_s=chance.randrange(20, 120),
        longest_ms=chance.choice((1_000, 8_000, 20_000)),
        duplicate_ppm=chance.choice((0, 20_000)),
        calm_s=TROUBLE_S,
    )
    bare = found_bare(voters, seed)
    minds = ((), LIES) if seed % LYING_EVERY == LYING_EVERY - 1 else ((),)
    swarm = Swarm(
        bare.members,
        bare.genesis,
        seed,
        profile,
        faults,
        replay=REPLAY.format(seed=seed),
        minds=minds,
    )
    return swarm, Customer(swarm, bare, every_ms=800, until_s=TROUBLE_S + CALM_S)


def run(seed: int) -> Report:
    """Run a seed: the checkers watch every event, and a healed mesh must be whole again."""
    swarm, _ = campaign(seed)
    swarm.run(TROUBLE_S + RECOVERY_S)
    healed = swarm.report()
    swarm.run(TROUBLE_S + CALM_S)
    busy = swarm.report()
    swarm.run(TROUBLE_S + CALM_S + QUIET_S)
    report = swarm.report()
    said = f"seed {seed}: {report}\nreplay: {REPLAY.format(seed=seed)}"
    assert len(set(report.heights)) == 1, f"boards are left behind: {said}"
    assert busy.blocks > healed.blocks, f"no decision after healing: {said}"
    assert not any(
        list(host.node.application.pool) for host in swarm.hosts if host.node is not None
    ), f"ops wait for ever: {said}"
    assert all(host.node is not None and host.node.consensus.voting for host in swarm.hosts), (
        f"an honest board does not vote: {said}"
    )
    return report
