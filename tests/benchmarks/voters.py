"""How many voters a mesh carries: throughput in virtual time, every line at 1 Mbit/s.

Only bytes, latency and disks take time here, never a processor: what a mesh of slow lines can reach
at best. Ops come from customers with such lines of their own, in a closed loop: one at a time, or
so many that every block is full. Rates are exact counts over virtual time; a run is a function of
its seed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context

from benchmarks import boards
from benchmarks.plan import Plan
from benchmarks.row import Row
from benchmarks.virtual import swarm_of
from demesh.cli.run import DELAY_FLOOR_MS
from demesh.ports import SECOND, Instant, Persist, Publish, StoreBlock
from demesh.wire.statements import decode_block
from demesh_sim.links import PROFILES
from demesh_sim.memory_store import MemoryStore
from demesh_sim.swarm import Swarm
from demesh_sim.witness import Witness

GROUP = "voters at 1 Mbit/s"

VOTERS = (4, 10, 20, 31, 40, 64, 100)
GOAL = 40

PENDING = 512  # two full blocks and more; half of what a voter's pool takes
CUSTOMERS = 4  # one line would be the narrowest of all while few voters need little
WARM_BLOCKS = 2  # the first blocks are not full, and the timers do not know the lines yet
BLOCKS = 4  # they hardly differ, and with 100 voters each costs a core some 20 s
VIRTUAL_S_MAX = 300  # a mesh that decides less than this allows has stopped


@dataclass(frozen=True, slots=True)
class Rate:
    """What a run came to, after its first blocks."""

    ops_per_s: float
    blocks: int
    ops_per_block: float
    views_per_block: float  # 1 if no leader was given up
    virtual_s: float
    cpu_s: float

    def text(self) -> str:
        """For the table."""
        return (
            f"{self.blocks} blocks of {self.ops_per_block:.0f} in {self.virtual_s:.2f} s, "
            f"{self.views_per_block:.2f} views a block; {self.cpu_s:.0f} s of processor"
        )


@dataclass(frozen=True, slots=True)
class Decided:
    """A block that the first board had on its disk."""

    at: Instant
    ops: int
    view: int


class Load(Witness):
    """Keeps so many ops pending, and remembers when blocks were final."""

    def __init__(self, mesh: boards.Boards, pending: int) -> None:
        self.decided: list[Decided] = []
        self._mesh = mesh
        self._pending = pending
        self._sent = 0
        self._heights: set[int] = set()

    def attach(self, swarm: Swarm) -> None:
        """Begin once everybody is up."""
        self._clients = [
            swarm.network.join(
                f"customer-{n}", ("nothing",), ("nothing", b""), lambda _: None, lambda *_: None
            )
            for n in range(CUSTOMERS)
        ]
        swarm.heap.at(3 * SECOND, lambda: self._buy(self._pending))

    def persisted(
        self, board: int, at: Instant, effects: Sequence[Persist], store: MemoryStore
    ) -> None:
        """What is final makes room for as much."""
        for effect in effects:
            if isinstance(effect, StoreBlock) and effect.height not in self._heights:
                self._heights.add(effect.height)
                block = decode_block(effect.block)
                self.decided.append(Decided(at, len(block.ops), block.view))
                self._buy(len(block.ops))

    def _buy(self, count: int) -> None:
        topic = self._mesh.topics.mine("op")
        for _ in range(count):
            number, self._sent = self._sent, self._sent + 1
            frame = self._mesh.transfer(number, number)
            self._clients[number % CUSTOMERS].publish(Publish(topic, frame))


def rows(plan: Plan) -> Iterator[Row]:
    """Both loads for each number of voters, then where throughput halves."""
    counts = VOTERS if not plan.quick else VOTERS[:2]
    loads = (("ops finalized", plan.count(PENDING, 8)), ("decisions", 1))
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        # The longest first, or the last one would run alone.
        running = {
            (n, pending): pool.submit(measure, plan, n, pending)
            for n in reversed(counts)
            for _, pending in loads
        }
        found = {load: future.result() for load, future in running.items()}
    for what, pending in loads:
        curve = [(n, found[n, pending].ops_per_s) for n in counts]
        for n in counts:
            how = f"{pending} pending; {found[n, pending].text()}"
            yield Row(GROUP, f"{what}, {n} voters", found[n, pending].ops_per_s, "/s", how,
                      curve[0][1], f"{counts[0]} voters")  # fmt: skip
        number, reached = halved(curve)
        how = "by a straight line between two of the rows above"
        if not reached:
            how = f"not halved by {number} voters, the most that were tried"
        yield Row(GROUP, f"voters before {what} halve", number, "", how, GOAL, "to exceed")


def measure(plan: Plan, voters: int, pending: int) -> Rate:
    """One mesh with so many ops pending, until enough blocks are final."""
    mesh = boards.found(plan.folder / f"virtual-{voters}-{pending}", voters)
    load = Load(mesh, pending)
    swarm = swarm_of(mesh, PROFILES["megabit"], DELAY_FLOOR_MS["wan"], [load])
    load.attach(swarm)
    began, now_s = time.process_time(), 0
    wanted = WARM_BLOCKS + 1 + plan.count(BLOCKS, 2)
    while len(load.decided) < wanted and now_s < VIRTUAL_S_MAX:
        now_s += 1
        swarm.run(now_s)
    first, *rest = load.decided[WARM_BLOCKS:wanted]
    taken_ns = rest[-1].at - first.at
    ops = sum(block.ops for block in rest)
    views = rest[-1].view - first.view
    return Rate(
        ops * SECOND / taken_ns, len(rest), ops / len(rest), views / len(rest),
        taken_ns / SECOND, time.process_time() - began,
    )  # fmt: skip


def halved(curve: Sequence[tuple[int, float]]) -> tuple[int, bool]:
    """The greatest number with half of the first one's rate, and whether fewer come after it."""
    half = curve[0][1] / 2
    for (low, above), (high, below) in pairwise(curve):
        if below < half:
            return low + int((high - low) * (above - half) / (above - below)), True
    return curve[-1][0], False
