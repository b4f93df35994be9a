"""What one decision costs in messages and syncs: exact counts, from a virtual mesh of four."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from benchmarks.plan import Plan
from benchmarks.row import Row
from demesh.ports import Instant, Publish
from demesh_sim.bare import Customer, found_bare
from demesh_sim.links import PROFILES
from demesh_sim.memory_store import MemoryStore
from demesh_sim.swarm import Swarm
from demesh_sim.witness import Witness

GROUP = "consensus"

VOTERS = 4
WARM_S = 5
EVERY_MS = 1_000  # far more than a decision takes: an op a block

# Simplex at its best: a proposal that is its leader's vote, the others' notarize, all finalize.
LEAST_MESSAGES = 1 + (VOTERS - 1) + VOTERS
LEAST_SYNCS = 2 * VOTERS


class Frames(Witness):
    """Counts publications by area of their topic."""

    def __init__(self) -> None:
        self.areas: Counter[str] = Counter()

    def publishing(self, board: int, at: Instant, message: Publish, store: MemoryStore) -> None:
        """See Witness."""
        self.areas[message.topic.split("/")[3]] += 1


def rows(plan: Plan) -> Iterator[Row]:
    """A transfer a second, on Ethernet, no fault."""
    until_s = WARM_S + plan.count(120, 10)
    bare, frames = found_bare(VOTERS, seed=1), Frames()
    swarm = Swarm(bare.members, bare.genesis, 1, PROFILES["ethernet"], witnesses=[frames])
    customer = Customer(swarm, bare, EVERY_MS, until_s)
    swarm.run(WARM_S)
    areas, syncs = Counter(frames.areas), _syncs(swarm)
    blocks, packets = swarm.report().blocks, swarm.network.packets
    swarm.run(until_s + 5)
    blocks, syncs = swarm.report().blocks - blocks, _syncs(swarm) - syncs
    packets = swarm.network.packets - packets
    said = {area: count - areas[area] for area, count in sorted(frames.areas.items())}
    parts = ", ".join(f"{count / blocks:.3g} {area}" for area, count in said.items() if count)
    how = f"{VOTERS} voters, {customer.sent} ops, {blocks} blocks, virtual Ethernet"
    yield Row(GROUP, "frames published per decision", sum(said.values()) / blocks, "",
              f"{parts}; {how}", LEAST_MESSAGES, "Simplex")  # fmt: skip
    yield Row(GROUP, "MQTT packets at the broker per decision", packets / blocks, "",
              "publications and acknowledgements that came in")  # fmt: skip
    yield Row(GROUP, "fsyncs per decision", syncs / blocks, "",
              f"all {VOTERS} voters, database flushes included", LEAST_SYNCS, "votes")  # fmt: skip


def _syncs(swarm: Swarm) -> int:
    return sum(host.store.syncs for host in swarm.hosts)
