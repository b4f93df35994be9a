"""Four voters beside what else replicates a log: Debian's etcd and PySyncObj, four nodes each.

Both trust every node and lose nothing but crashed ones: no signatures, no broker, one leader. Their
clients speak to that leader. Every row is the mesh's figure with the other's as its reference.
PySyncObj's journal is a mapped file that it never syncs; etcd and the mesh sync every write.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks import boards, etcd, quiet, raft, sockets
from benchmarks.customer import Customer
from benchmarks.plan import Plan
from benchmarks.programs import Program, missing, running_broker
from benchmarks.row import Row, Skipped
from benchmarks.timing import percentile

GROUP = "peers"

NODES = 4
CLIENTS = 64
VALUE_BYTES = 150  # about a transfer's frame
MEGABYTE = 1_000_000
SETTLE_S = 3

# Their leaders talk several times a second. The mesh's beacons grow rarer for an hour, so its day
# is counted in virtual time, packet by packet; `daemon` has a real minute beside a virtual one.
IDLE_S = 10
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one contestant; times in ns, bytes of one node at rest for a day."""

    name: str
    how: str
    alone: Sequence[int]
    together: Sequence[int]
    seconds: int
    idle: sockets.Traffic | None
    rss_bytes: float

    @property
    def alone_per_s(self) -> float:
        """Of one client."""
        return len(self.alone) / self.seconds

    @property
    def alone_p50_ms(self) -> float:
        """Of one client."""
        return percentile(self.alone, 50) / 1e6

    @property
    def together_per_s(self) -> float:
        """Of all clients."""
        return len(self.together) / self.seconds


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """One contestant after the other, the mesh first."""
    if why := missing("mosquitto"):
        yield Skipped(GROUP, why)
        return
    if sockets.MISSING:
        yield Skipped(GROUP, sockets.MISSING)
    ours = asyncio.run(_mesh(plan))
    contestants: list[Callable[[], Figures]] = []
    if etcd.MISSING:
        yield Skipped(GROUP, etcd.MISSING)
    else:
        contestants.append(lambda: asyncio.run(_etcd(plan)))
    if raft.MISSING:
        yield Skipped(GROUP, raft.MISSING)
    else:
        contestants.append(lambda: _raft(plan, "PySyncObj", {}))
        contestants.append(lambda: _raft(plan, "PySyncObj tuned", raft.TUNED))
    others = []
    for measure in contestants:
        try:
            others.append(measure())
        except TimeoutError as error:  # a cluster that did not come up must not cost the others
            yield Skipped(GROUP, str(error))
    for other in others:
        yield from _rows(ours, other)
    if not others:
        yield from _rows(ours, None)


async def _mesh(plan: Plan) -> Figures:
    seconds = plan.count(8)
    mesh = boards.found(plan.folder / "mesh-peers", NODES)
    with running_broker("mosquitto", plan.folder) as (_, port), mesh.running(port) as programs:
        customer = Customer(mesh)
        async with customer.connected(port):
            await customer.everybody()
            alone = await customer.trade(1, seconds, 1)
            together = await customer.trade(CLIENTS, seconds, 1 << 32)
        rss_bytes = _rss(programs.values())
    day_s = plan.count(DAY_S, 60)
    _, rest = quiet.measure(plan, NODES, quiet.WARM_S, day_s)
    segments = rest.packets * quiet.SEGMENTS_PER_PACKET
    idle = sockets.Traffic(rest.bytes, segments).of_a_day(day_s, NODES)
    return Figures("mesh", "", alone, together, seconds, idle, rss_bytes)


async def _etcd(plan: Plan) -> Figures:
    seconds = plan.count(8)
    with etcd.running(plan.folder, NODES) as cluster:
        await cluster.write(1, seconds / 4, VALUE_BYTES)
        alone = await cluster.write(1, seconds, VALUE_BYTES)
        together = await cluster.write(CLIENTS, seconds, VALUE_BYTES)
        idle = _idle(plan, cluster.peers)
        return Figures(
            "etcd",
            "synced, by its JSON gateway",
            alone,
            together,
            seconds,
            idle,
            _rss(cluster.programs),
        )


def _raft(plan: Plan, name: str, settings: dict[str, float]) -> Figures:
    seconds = plan.count(8)
    folder = plan.folder / name.replace(" ", "-")
    with raft.running(folder, NODES, settings) as cluster:
        cluster.write(1, seconds / 4, VALUE_BYTES)
        alone = cluster.write(1, seconds, VALUE_BYTES)
        together = cluster.write(CLIENTS, seconds, VALUE_BYTES)
        idle = _idle(plan, cluster.ports)
        return Figures(
            name,
            f"never synced, {settings or 'defaults'}",
            alone,
            together,
            seconds,
            idle,
            _rss(cluster.programs),
        )


def _idle(plan: Plan, ports: Collection[int]) -> sockets.Traffic | None:
    """What one node of a peer sends and receives in a day without work, from some seconds of it."""
    if sockets.MISSING:
        return None
    time.sleep(plan.count(SETTLE_S))
    meter, began = sockets.Meter(ports, both_ends=True), time.monotonic()
    time.sleep(plan.count(IDLE_S))
    return meter.read().of_a_day(time.monotonic() - began, NODES)


def _rss(programs: Iterable[Program]) -> float:
    return statistics.median(program.rss_bytes for program in programs)


def _rows(ours: Figures, other: Figures | None) -> Iterator[Row]:
    """All figures of the mesh beside one other's, or without a reference."""
    name = f", beside {other.name}" if other else ""
    told = other.name if other else ""
    nodes = f"{NODES} voters over mosquitto" + (f"; {NODES} nodes, {other.how}" if other else "")
    one = f"one client, its next op when one is final; {nodes}"
    many = f"{CLIENTS} clients, each its next op when one is final; {nodes}"
    yield Row(GROUP, f"decisions{name}", ours.alone_per_s, "/s", one,
              other and other.alone_per_s, told)  # fmt: skip
    yield Row(GROUP, f"p50{name}", ours.alone_p50_ms, "ms", "the same",
              other and other.alone_p50_ms, told)  # fmt: skip
    yield Row(GROUP, f"ops{name}", ours.together_per_s, "/s", many,
              other and other.together_per_s, told)  # fmt: skip
    yield Row(GROUP, f"RSS of a node{name}", ours.rss_bytes / MEGABYTE, "MB",
              "median, after the load", other and other.rss_bytes / MEGABYTE, told)  # fmt: skip
    if ours.idle is not None:
        idle, rest = ours.idle.payload_bytes / MEGABYTE, None
        how = f"payload in and out; with headers about {ours.idle.framed_bytes / MEGABYTE:.3g} MB"
        if other and other.idle:
            rest = other.idle.payload_bytes / MEGABYTE
            how += (
                f" and {other.idle.framed_bytes / MEGABYTE:,.0f} MB; a virtual day and {IDLE_S} s"
            )
        yield Row(GROUP, f"idle bytes per node-day{name}", idle, "MB", how, rest, told)
