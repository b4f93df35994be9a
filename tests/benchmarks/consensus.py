"""Consensus of real processes, every fsync on, beside the floor of the same run.

Four voters over each broker, then more of them over mosquitto. All run on this one machine, so many
voters share its cores; what a decision costs them all in processor time is a row of its own.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import boards, floor
from benchmarks.customer import PATIENCE_S, Customer
from benchmarks.plan import Plan
from benchmarks.programs import BROKERS, missing, running_broker
from benchmarks.row import Row, Skipped
from benchmarks.timing import percentile

GROUP = "consensus"

# After a decision its tips, documents and last votes are still on their way; finality is measured
# when they have arrived, decisions a second when nobody waits for them.
PAUSE_S = 0.05

PARTS = 10  # ops and the floor's parts in turns, so that a slow spell of the machine falls on both
CLIENTS = 64
SECONDS_MAX = 30.0  # of one mesh's ops one by one; start, clients and end make a minute of it


@dataclass(frozen=True, slots=True)
class Load:
    """How many voters over which broker, and how much is asked of them."""

    voters: int
    broker: str
    singles: int  # ops one by one, for each of two rows
    batch_s: int  # how long the clients go on


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it; times in ns."""

    load: Load
    final: list[int]
    chain: list[int]
    cpu_ns: float  # of all voters, per decision
    batch_s: int
    batched: list[int]  # finality of the clients' ops
    parts: floor.Floor


LOADS = (
    Load(4, "mosquitto", 150, 8),
    Load(10, "mosquitto", 60, 8),
    Load(31, "mosquitto", 20, 15),
    Load(4, "embedded", 150, 8),
)


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """One mesh after the other."""
    for name in BROKERS:
        if why := missing(name):
            yield Skipped(GROUP, why)
    for load in LOADS:
        if not missing(load.broker) and (load.voters <= 4 or not plan.quick):
            try:
                yield from _rows(asyncio.run(_measure(plan, load)))
            except TimeoutError:
                why = f"nothing was final for {PATIENCE_S:g} s"
                yield Skipped(GROUP, f"{load.voters} voters over {load.broker}: {why}")


async def _measure(plan: Plan, load: Load) -> Measured:
    each = max(1, plan.count(load.singles, 5) // PARTS)
    mesh = boards.found(plan.folder / f"mesh-{load.broker}-{load.voters}", load.voters)
    quorum = floor.quorum(load.voters)
    with running_broker(load.broker, plan.folder) as (_, port), mesh.running(port) as programs:
        customer = Customer(mesh)
        async with customer.connected(port):
            await customer.everybody()
            final: list[int] = []
            hops: list[int] = []
            lone: list[int] = []
            joint: list[int] = []
            began = time.monotonic()
            for part in range(PARTS):
                hops += await floor.hops_ns(port, each)
                lone += floor.sync_ns(mesh.folder, each, 1, 1)
                joint += floor.sync_ns(mesh.folder, each, load.voters, quorum)
                for number in range(each):
                    await asyncio.sleep(PAUSE_S)
                    final.append(await customer.buy(number, 1 + part * each + number))
                if time.monotonic() - began > SECONDS_MAX * 2 / 3:
                    break
            idle_ns, blocks = sum(p.cpu_ns for p in programs.values()), customer.blocks
            chain: list[int] = []
            for number in range(each * PARTS):
                chain.append(await customer.buy(number, (1 << 24) + number))
                if time.monotonic() - began > SECONDS_MAX:
                    break
            await asyncio.sleep(PAUSE_S)
            spent_ns = sum(p.cpu_ns for p in programs.values()) - idle_ns
            spent_ns //= customer.blocks - blocks
            batch_s = plan.count(load.batch_s)
            batched = await customer.trade(CLIENTS, batch_s, 1 << 32)
        for program in programs.values():
            program.check()
    signing, verifying = floor.signature_ns(plan.count(200, 5))
    parts = floor.Floor(load.voters, hops, lone, joint, signing, verifying)
    return Measured(load, final, chain, spent_ns, batch_s, batched, parts)


def _rows(found: Measured) -> list[Row]:
    load, parts = found.load, found.parts
    name = f"{load.voters} over {load.broker}"
    least, worst = parts.ms(50), parts.ms(99)
    cores = os.cpu_count() or 1
    share_ms = found.cpu_ns / 1e6 / cores
    how = f"{len(found.final)} ops, {PAUSE_S:g} s apart, from op sent to quorum of finalize votes"
    how += f" heard; {load.voters} processes on {cores} cores are {share_ms:.0f} ms of each"
    per_s = 1e9 / statistics.fmean(found.chain)
    batch = f"{CLIENTS} clients for {found.batch_s} s, each its next op when one is final"
    if found.batched:
        batch += f"; p50 {percentile(found.batched, 50) / 1e6:.0f} ms"
    return [
        Row(GROUP, f"finality p50, {name}", percentile(found.final, 50) / 1e6, "ms", how,
            least, "floor"),
        Row(GROUP, f"finality p99, {name}", percentile(found.final, 99) / 1e6, "ms",
            "the same; reference: the sum of the parts' p99", worst, "floor"),
        Row(GROUP, f"floor of finality, {name}", least, "ms", parts.text()),
        Row(GROUP, f"decisions, {name}", per_s, "/s",
            f"{len(found.chain)} ops, the next one when one is final", 1000 / least, "floor"),
        Row(GROUP, f"CPU per decision, {name}", found.cpu_ns / 1e6, "ms",
            f"all {load.voters} voters together, one op a block",
            parts.signatures_ns / 1e6, "signatures"),
        Row(GROUP, f"ops finalized, {name}", len(found.batched) / found.batch_s, "/s",
            batch, per_s, "one by one"),
    ]  # fmt: skip
