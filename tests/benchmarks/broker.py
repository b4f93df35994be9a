"""The embedded broker beside mosquitto and amqtt: floods, and the everyday of 200 clients."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from benchmarks.flood import Flood
from benchmarks.meshload import CLIENTS, MESH, Load, MeshLoad
from benchmarks.plan import Plan
from benchmarks.programs import AMQTT, BROKERS, Program, missing, running_broker
from benchmarks.row import Row, Skipped
from benchmarks.timing import percentile

GROUP = "broker"

# A mesh of eight in miniature: a vote of some 190 bytes goes to seven others.
FAN_OUT = 7
PAYLOAD_BYTES = 190
BURST = 100

# At once, and how many in all: a catching-up device or a flood, and a mesh's everyday.
PATTERNS = ((BURST, 8000), (1, 1000))

# The same rates from a tenth of the messages, or it would take ten times as long as the others.
SLOW = {AMQTT: 10}

# Of all clients together: 1,600 deliveries a second, and 8,000.
LOADS_PER_S = (200, 1000)
LOAD_S = 10
MEGABYTE = 1_000_000

Found = dict[tuple[str, ...], float]


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """All that are installed: floods in alternating rounds, then one mesh load after the other."""
    names = []
    for name in (*BROKERS, AMQTT):
        if why := missing(name):
            yield Skipped(GROUP, why)
        else:
            names.append(name)
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(running_broker(name, plan.folder, paced=False))
            for name in names
        }
        yield from _floods(plan, running)
    for per_s in LOADS_PER_S:
        yield from _loads(plan, names, per_s)


def _floods(plan: Plan, running: dict[str, tuple[Program, int]]) -> Iterator[Row]:
    rates: dict[tuple[str, int, int], list[float]] = {}
    costs: dict[tuple[str, int, int], list[float]] = {}
    rounds = plan.count(5)
    for _ in range(rounds):
        for name, (program, port) in running.items():
            for qos, (burst, full) in itertools.product((0, 1), PATTERNS):
                count = plan.count(full, 20) // SLOW.get(name, 1)
                rate, cost = _flood(program, port, qos, burst, count)
                rates.setdefault((name, qos, burst), []).append(rate)
                costs.setdefault((name, qos, burst), []).append(cost)
    how = f"1 to {FAN_OUT}, {PAYLOAD_BYTES} B, median of {rounds} rounds"
    for label, unit, found in (("deliveries", "/s", rates), ("CPU per delivery", "us", costs)):
        medians = {
            (name, f"QoS {qos}, {'one by one' if burst == 1 else f'{burst} at once'}"): (
                statistics.median(values)
            )
            for (name, qos, burst), values in found.items()
        }
        yield from _beside(label, unit, how, medians)


def _flood(program: Program, port: int, qos: int, burst: int, count: int) -> tuple[float, float]:
    """(deliveries a second, CPU us of the broker per delivery)."""
    flood = Flood(port, qos, FAN_OUT, PAYLOAD_BYTES)
    try:
        flood.run(1, BURST)  # buffers and inline caches are warm, as after a minute of service
        began = program.cpu_ns
        seconds = flood.run(max(1, count // burst), burst)
        delivered = max(1, count // burst) * burst * FAN_OUT
        return delivered / seconds, (program.cpu_ns - began) / delivered / 1000
    finally:
        flood.close()


def _loads(plan: Plan, names: Sequence[str], per_s: int) -> Iterator[Row]:
    """As each is shipped, the embedded one with its pace."""
    p50: Found = {}
    p99: Found = {}
    cpu: Found = {}
    memory: Found = {}
    missed = []
    what = f"{CLIENTS} clients, {per_s:,} messages/s"
    for name in names:
        with running_broker(name, plan.folder) as (program, port):
            load, spent_ns = _load(program, port, per_s, plan.count(LOAD_S))
            memory[name, what] = program.rss_bytes / MEGABYTE
        p50[name, what], p99[name, what] = (percentile(load.latencies, p) / 1e6 for p in (50, 99))
        cpu[name, what] = spent_ns / len(load.latencies) / 1000
        if load.missing:
            missed.append(f"{name} owed {load.missing}")
    how = f"QoS 1, a message goes to all {MESH} of its mesh"
    how += f"; at the end {', '.join(missed)} deliveries" if missed else ""
    yield from _beside("p50", "ms", how, p50)
    yield from _beside("p99", "ms", how, p99)
    yield from _beside("CPU per delivery", "us", how, cpu)
    yield from _beside("memory after", "MB", how, memory)


def _load(program: Program, port: int, per_s: int, seconds: int) -> tuple[Load, int]:
    """The load, and the broker's CPU ns for it."""
    clients = MeshLoad(port)
    try:
        clients.run(LOADS_PER_S[0], 1)  # warm, see above
        began = program.cpu_ns
        return clients.run(per_s, seconds), program.cpu_ns - began
    finally:
        clients.close()


def _beside(label: str, unit: str, how: str, found: Found) -> Iterator[Row]:
    """Every broker's figure beside mosquitto's of the same run."""
    for (name, *what), value in found.items():
        if name != "mosquitto":
            reference = found.get(("mosquitto", *what))
            yield Row(GROUP, f"{label}, {', '.join(what)}, {name}", value, unit, how, reference,
                      "" if reference is None else "mosquitto")  # fmt: skip
