"""The virtual swarm: how much faster than the wall a street runs, and what an event costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from benchmarks.plan import STREET, Plan
from benchmarks.row import Row
from demesh_sim import scenario
from demesh_sim.heap import Heap
from demesh_sim.swarm import Report
from demesh_sim.virtual import virtual_run

GROUP = "virtual swarm"

BARE_EVENTS = 200_000


def rows(plan: Plan) -> Iterator[Row]:
    """The street in virtual time, a seed a round."""
    street = scenario.load(STREET)
    seconds, rounds = plan.count(60, 3), plan.count(3)
    taken: list[tuple[Report, int]] = []
    bare: list[float] = []
    for seed in range(1, rounds + 1):
        bare.append(_bare_events_per_s(plan.count(BARE_EVENTS, 2_000)))
        began = time.process_time_ns()
        report = virtual_run(street, seed, seconds).report
        taken.append((report, time.process_time_ns() - began))
    wall = statistics.median(r.simulated_ns / r.wall_ns for r, _ in taken)
    cpu = statistics.median(r.simulated_ns / cpu_ns for r, cpu_ns in taken)
    events = statistics.median(r.events * 1e9 / cpu_ns for r, cpu_ns in taken)
    turns = statistics.median(cpu_ns / r.turns / 1000 for r, cpu_ns in taken)
    boards = len(street.board)
    how = f"{boards} boards, {seconds} s, all checkers; median of {rounds} seeds"
    yield Row(GROUP, "street, simulated / wall", wall, "x", how, 1.0, "real time")
    yield Row(GROUP, "street, simulated / CPU", cpu, "x", how, 1.0, "real time")
    how = "per CPU second, the heap's count; reference: events that do nothing"
    yield Row(GROUP, "events", events, "/s", how, statistics.median(bare), "bare heap")
    yield Row(GROUP, "CPU per turn of a board", turns, "us", "network, disk and checkers included")


def _bare_events_per_s(count: int) -> float:
    heap = Heap()
    for number in range(count):
        heap.at(number, _nothing)
    began = time.thread_time_ns()
    heap.run(count)
    return count * 1e9 / (time.thread_time_ns() - began)


def _nothing() -> None:
    pass
