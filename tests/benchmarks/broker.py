"""The embedded broker beside mosquitto: messages a second, and CPU time per delivery."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.flood import Flood
from benchmarks.plan import Plan
from benchmarks.programs import BROKERS, Program, missing, running_broker
from benchmarks.row import Row, Skipped

GROUP = "broker"

# A mesh of eight in miniature: a vote of some 190 bytes goes to seven others.
FAN_OUT = 7
PAYLOAD_BYTES = 190
BURST = 100

# At once, and how many in all: a catching-up device or a flood, and a mesh's everyday.
PATTERNS = ((BURST, 8000), (1, 1000))


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """Both brokers in alternating rounds, at QoS 0 and 1."""
    rates: dict[tuple[str, int, int], list[float]] = {}
    costs: dict[tuple[str, int, int], list[float]] = {}
    rounds = plan.count(5)
    with ExitStack() as stack:
        running: dict[str, tuple[Program, int]] = {}
        for name in BROKERS:
            if why := missing(name):
                yield Skipped(GROUP, why)
            else:
                running[name] = stack.enter_context(running_broker(name, plan.folder, paced=False))
        for _ in range(rounds):
            for name, (program, port) in running.items():
                for qos, (burst, full) in itertools.product((0, 1), PATTERNS):
                    rate, cost = _flood(program, port, qos, burst, plan.count(full, 20))
                    rates.setdefault((name, qos, burst), []).append(rate)
                    costs.setdefault((name, qos, burst), []).append(cost)
    for label, unit, found in (("deliveries", "/s", rates), ("CPU per delivery", "us", costs)):
        for (name, qos, burst), values in found.items():
            if name != "embedded":
                continue
            other = found.get(("mosquitto", qos, burst))
            reference = statistics.median(other) if other else None
            what = f"{label}, QoS {qos}, {'one by one' if burst == 1 else 'bursts'}"
            how = f"embedded, 1 to {FAN_OUT}, {PAYLOAD_BYTES} B, {burst} at once; "
            how += f"median of {rounds} rounds"
            value = statistics.median(values)
            yield Row(GROUP, what, value, unit, how, reference, "mosquitto" if other else "")


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
