"""What a second broker costs a mesh, and what the loss of one of two does to it.

Four voters over one broker, then over two of the same kind, then one of the two gets SIGKILL while
ops go on one by one. The same seconds also show the longest time in which nothing was final.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks import boards
from benchmarks.customer import Customer
from benchmarks.plan import Plan
from benchmarks.programs import BROKERS, Program, missing, running_broker
from benchmarks.row import Row, Skipped
from benchmarks.timing import percentile

GROUP = "brokers"

VOTERS = 4
PAUSE_S = 0.05  # as the consensus group has it, and for the same reason
OPS = 150
MIDST_S = 0.005  # of a decision, which takes some 10 ms


@dataclass(frozen=True, slots=True)
class Phase:
    """So many ops, one by one: finality of each in ns, and CPU ns of all voters for one."""

    final: list[int]
    cpu_ns: float

    def ms(self, percent: int) -> float:
        """A percentile of finality."""
        return percentile(self.final, percent) / 1e6


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """Each kind of broker."""
    for name in BROKERS:
        if why := missing(name):
            yield Skipped(GROUP, why)
        else:
            (one,) = asyncio.run(_measure(plan, name, 1))
            both, killing, alone = asyncio.run(_measure(plan, name, 2))
            yield from _rows(name, one, both, killing, alone)


async def _measure(plan: Plan, name: str, count: int) -> list[Phase]:
    """The phases of a mesh over so many brokers; with more than one, the last is killed."""
    mesh = boards.found(plan.folder / f"mesh-{name}-of-{count}", VOTERS)
    ops = plan.count(OPS, 5)
    with ExitStack() as stack:
        running = []
        for number in range(count):
            folder = plan.folder / f"{name}-{number}-of-{count}"
            folder.mkdir()
            running.append(stack.enter_context(running_broker(name, folder)))
        ports = [port for _, port in running]
        programs = list(stack.enter_context(mesh.running(*ports)).values())
        customer = Customer(mesh)
        async with customer.connected(*ports):
            await customer.everybody()
            phases = [await _phase(customer, programs, 1, ops)]
            if count > 1:
                victim, _ = running[-1]
                phases.append(await _phase(customer, programs, 1 + ops, ops, victim))
                phases.append(await _phase(customer, programs, 1 + 2 * ops, ops))
        for program in programs:
            program.check()
    return phases


async def _phase(
    customer: Customer,
    programs: list[Program],
    first: int,
    count: int,
    victim: Program | None = None,
) -> Phase:
    """Buy one by one; the victim dies while the first op is on its way."""
    began = sum(program.cpu_ns for program in programs)
    final = []
    for number in range(count):
        await asyncio.sleep(PAUSE_S)
        buying = asyncio.ensure_future(customer.buy(number, first + number))
        if victim is not None and number == 0:
            await asyncio.sleep(MIDST_S)
            victim.kill()
        final.append(await buying)
    return Phase(final, (sum(program.cpu_ns for program in programs) - began) / count)


def _rows(name: str, one: Phase, both: Phase, killing: Phase, alone: Phase) -> Iterator[Row]:
    how = f"{VOTERS} voters, {len(one.final)} ops, {PAUSE_S:g} s apart; CPU of all voters"
    for what, phase in (("two", both), ("two, one killed during the first op", killing),
                        ("one left of two", alone)):  # fmt: skip
        yield Row(GROUP, f"finality p50, {what}, {name}", phase.ms(50), "ms", how,
                  one.ms(50), "one broker")  # fmt: skip
        yield Row(GROUP, f"finality max, {what}, {name}", phase.ms(100), "ms", how,
                  one.ms(100), "one broker")  # fmt: skip
        yield Row(GROUP, f"CPU per decision, {what}, {name}", phase.cpu_ns / 1e6, "ms", how,
                  one.cpu_ns / 1e6, "one broker")  # fmt: skip
