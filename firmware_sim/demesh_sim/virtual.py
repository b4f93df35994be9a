"""A scenario in virtual time: the same boards, founding and node code as in processes, one heap."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from demesh.cli.run import DELAY_FLOOR_MS
from demesh.node import Node, NodeSettings
from demesh.passport import NodeIdentity
from demesh.ports import MILLISECOND, Instant, Json, Observe
from demesh.wire import identity
from demesh_sim import founding
from demesh_sim.boards import SharedCable, SimulatedBoard
from demesh_sim.faults import NO_FAULTS, Faults
from demesh_sim.founding import Founded, seeded
from demesh_sim.hosts import DRAIN_NS, Member
from demesh_sim.lies import Lie
from demesh_sim.links import PROFILES
from demesh_sim.memory_store import MemoryStore
from demesh_sim.physics import DayClock
from demesh_sim.scenario import REPORT_S, Scenario
from demesh_sim.swarm import Report, Swarm
from demesh_sim.witness import Witness

BEGINS_S = (
    1_800_000_000  # mesh time at the founding: fixed, or equal seeds would differ by the date
)

# How patient consensus is says what network it is meant for.
PROFILE_OF_PATIENCE = {"lan": "wifi", "wan": "lte-m"}

OnObserve = Callable[[str, str, Mapping[str, Json], int], None]
"""Called with a device's id text, the observation's topic, its document, and ms since the start."""


@dataclass(frozen=True, slots=True)
class VirtualReport:
    """What a virtual run came to: figures of the swarm, and every board's disk by its name."""

    report: Report
    founded: Founded
    stores: Mapping[str, MemoryStore]


class Onlooker(Witness):
    """Passes observations on, as the runtime would publish them."""

    def __init__(self, ids: tuple[str, ...], on_observe: OnObserve) -> None:
        self._ids = ids
        self._on_observe = on_observe

    def observed(self, board: int, at: Instant, observation: Observe) -> None:
        """A document, a line for people, or both."""
        at_ms = at // MILLISECOND
        if observation.document:
            self._on_observe(self._ids[board], observation.topic, observation.document, at_ms)
        if observation.text and observation.topic != "event":
            document: dict[str, Json] = {"text": observation.text}
            self._on_observe(self._ids[board], "event", document, at_ms)


def virtual_run(
    scenario: Scenario,
    seed: int,
    duration_s: int,
    on_observe: OnObserve | None = None,
    faults: Faults = NO_FAULTS,
    minds: Sequence[Sequence[type[Lie]]] = ((),),
) -> VirtualReport:
    """Run a scenario for `duration_s` of virtual time and let it end; raises Violation."""
    founded = founding.found(scenario, BEGINS_S, seeded(seed))
    swarm = street_swarm(scenario, founded, seed, faults, on_observe, minds=minds)
    swarm.run(duration_s)
    swarm.stop()
    swarm.run(duration_s + 1 + DRAIN_NS // 1_000_000_000)
    stores = {host.member.identity.name: host.store for host in swarm.hosts}
    return VirtualReport(swarm.report(), founded, stores)


def street_swarm(
    scenario: Scenario,
    founded: Founded,
    seed: int,
    faults: Faults = NO_FAULTS,
    on_observe: OnObserve | None = None,
    make_node: type[Node] = Node,
    minds: Sequence[Sequence[type[Lie]]] = ((),),
) -> Swarm:
    """The swarm of a founded scenario, at virtual time 0."""
    clock = DayClock(0, scenario.clock.starts_minute, scenario.clock.speed_up)
    cable = SharedCable(len(scenario.board))
    members = []
    for board in founded.boards:
        plan = board.plan
        secret = hashlib.blake2b(f"{seed}/{plan.name}".encode(), digest_size=32).digest()
        settings = NodeSettings(
            sell=plan.sell,
            buy=plan.buy,
            delay_floor_ms=DELAY_FLOOR_MS[scenario.mesh.patience],
            seed=secret,
            report_ms=REPORT_S * 1000,
        )
        name = NodeIdentity(plan.name, plan.device_class, board.device_key, board.vote_key)
        device = SimulatedBoard(scenario, plan.name, clock, cable, 0)
        members.append(Member(name, settings, device, make_node))
    witnesses: list[Witness] = []
    if on_observe is not None:
        ids = tuple(identity.text(board.id) for board in founded.boards)
        witnesses.append(Onlooker(ids, on_observe))
    profile = PROFILES[PROFILE_OF_PATIENCE[scenario.mesh.patience]]
    replay = f"demesh swarm run configs/scenarios/{scenario.name}.toml --virtual --seed {seed}"
    return Swarm(
        members,
        founded.genesis,
        seed,
        profile,
        faults,
        witnesses=witnesses,
        replay=replay,
        minds=minds,
    )
