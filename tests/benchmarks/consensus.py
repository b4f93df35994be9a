"""Consensus of four voters as real processes, every fsync on, beside the floor of the same run."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator

from benchmarks import boards, floor
from benchmarks.customer import Customer
from benchmarks.plan import Plan
from benchmarks.programs import BROKERS, missing, running_broker
from benchmarks.row import Row, Skipped
from benchmarks.timing import percentile

GROUP = "consensus"

# After a decision its tips, documents and last votes are still on their way; finality is measured
# when they have arrived, decisions a second when nobody waits for them.
PAUSE_S = 0.05

OPS_PER_SIGNER = 12  # 768 ops: several full blocks, below what any queue refuses


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """Both brokers, one after the other."""
    for name in reversed(BROKERS):
        if why := missing(name):
            yield Skipped(GROUP, why)
        else:
            yield from asyncio.run(_measure(plan, name))


async def _measure(plan: Plan, broker: str) -> list[Row]:
    singles, floods = plan.count(150, 5), plan.count(3)
    each = max(1, singles // 10)
    mesh = boards.found(plan.folder / f"mesh-{broker}", floor.VOTERS)
    with running_broker(broker, plan.folder) as (_, port), mesh.running(port) as programs:
        customer = Customer(mesh)
        async with customer.connected(port):
            await customer.everybody()
            final: list[int] = []
            hops: list[int] = []
            lone: list[int] = []
            joint: list[int] = []
            # In turns, so that a slow spell of the machine falls on both.
            for part in range(10):
                hops += await floor.hops_ns(port, each)
                lone += floor.sync_ns(mesh.folder, each, 1, 1)
                joint += floor.sync_ns(mesh.folder, each, floor.VOTERS, floor.QUORUM)
                for number in range(each):
                    await asyncio.sleep(PAUSE_S)
                    final.append(await customer.buy(number, 1 + part * singles + number))
            idle_ns, blocks = sum(p.cpu_ns for p in programs.values()), customer.blocks
            chain = [await customer.buy(number, (1 << 24) + number) for number in range(singles)]
            await asyncio.sleep(PAUSE_S)
            spent_ns = sum(p.cpu_ns for p in programs.values()) - idle_ns
            spent_ns //= customer.blocks - blocks
            rates = []
            for flood in range(floods):
                frames = [
                    mesh.transfer(signer, (1 << 32) + (flood << 16) + number)
                    for number in range(plan.count(OPS_PER_SIGNER))
                    for signer in range(boards.OWNERS)
                ]
                taken_ns = await customer.buy_all(frames)
                rates.append(len(frames) * 1e9 / taken_ns)
        for program in programs.values():
            program.check()
    parts = floor.Floor(hops, lone, joint, *floor.signature_ns(plan.count(200, 5)))
    return _rows(broker, final, chain, parts, spent_ns, rates)


def _rows(
    broker: str,
    final: list[int],
    chain: list[int],
    parts: floor.Floor,
    cpu_ns: float,
    rates: list[float],
) -> list[Row]:
    least, worst = parts.ms(50), parts.ms(99)
    how = f"{len(final)} ops, {PAUSE_S:g} s apart, from op sent to quorum of finalize votes heard"
    per_s = 1e9 / statistics.fmean(chain)
    flood = f"{OPS_PER_SIGNER} transfers of {boards.OWNERS} signers at once, median of {len(rates)}"
    verifies = (
        floor.VOTERS * floor.VERIFIES * parts.verify + floor.VOTERS * floor.SIGNS * parts.sign
    )
    return [
        Row(GROUP, f"finality p50, {broker}", percentile(final, 50) / 1e6, "ms", how,
            least, "floor"),
        Row(GROUP, f"finality p99, {broker}", percentile(final, 99) / 1e6, "ms",
            "the same; reference: the sum of the parts' p99", worst, "floor"),
        Row(GROUP, f"floor of finality, {broker}", least, "ms", parts.text()),
        Row(GROUP, f"decisions, {broker}", per_s, "/s",
            f"{len(chain)} ops, the next one when one is final", 1000 / least, "floor"),
        Row(GROUP, f"CPU per decision, {broker}", cpu_ns / 1e6, "ms",
            f"all {floor.VOTERS} voters together, one op a block", verifies / 1e6, "signatures"),
        Row(GROUP, f"ops finalized, batched, {broker}", statistics.median(rates), "/s", flood,
            per_s, "one by one"),
    ]  # fmt: skip
