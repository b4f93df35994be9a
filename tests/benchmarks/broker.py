"""The embedded broker beside mosquitto: messages a second, and CPU time per delivery."""

from __future__ import annotations

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


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """Both brokers in alternating rounds, at QoS 0 and 1."""
    rates: dict[tuple[str, int], list[float]] = {}
    costs: dict[tuple[str, int], list[float]] = {}
    bursts, rounds = plan.count(80, 2), plan.count(5)
    with ExitStack() as stack:
        running: dict[str, tuple[Program, int]] = {}
        for name in BROKERS:
            if why := missing(name):
                yield Skipped(GROUP, why)
            else:
                running[name] = stack.enter_context(running_broker(name, plan.folder))
        for _ in range(rounds):
            for name, (program, port) in running.items():
                for qos in (0, 1):
                    seconds, cpu_ns = _flood(program, port, qos, bursts)
                    delivered = bursts * BURST * FAN_OUT
                    rates.setdefault((name, qos), []).append(delivered / seconds)
                    costs.setdefault((name, qos), []).append(cpu_ns / delivered / 1000)
    how = f"1 to {FAN_OUT}, {PAYLOAD_BYTES} B, bursts of {BURST}; median of {rounds} rounds"
    for label, unit, found in (
        ("deliveries", "/s", rates),
        ("broker CPU per delivery", "us", costs),
    ):
        for qos in (0, 1):
            value = statistics.median(found["embedded", qos])
            other = found.get(("mosquitto", qos))
            reference = statistics.median(other) if other else None
            what = f"{label}, embedded, QoS {qos}"
            yield Row(GROUP, what, value, unit, how, reference, "mosquitto" if other else "")


def _flood(program: Program, port: int, qos: int, bursts: int) -> tuple[float, int]:
    flood = Flood(port, qos, FAN_OUT, PAYLOAD_BYTES)
    try:
        flood.run(1, BURST)  # buffers and inline caches are warm, as after a minute of service
        began = program.cpu_ns
        seconds = flood.run(bursts, BURST)
        return seconds, program.cpu_ns - began
    finally:
        flood.close()
