"""The daemon at rest: memory, CPU and disk of real processes in a mesh of ten, and its start."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks import boards, quiet, sockets
from benchmarks.customer import Customer
from benchmarks.plan import Plan
from benchmarks.programs import Program, missing, running_broker
from benchmarks.row import Row, Skipped

GROUP = "daemon"

VOTERS = 10
SETTLE_S = 5  # the last tips and observations of the start
MEGABYTE = 1_000_000
DAY_S = 86_400

# All that `demesh run` imports before its first turn.
IMPORTS = (
    "import demesh.cli.main, demesh.cli.run, demesh.node, demesh.runtime, demesh.observe.lines, "
    "demesh.storage.store, demesh.transport.client, demesh.wire.identity"
)
SELF = (
    "import time; spent = time.process_time_ns(); lines = open('/proc/self/status').readlines(); "
    "print(spent, *(int(x.split()[1]) * 1024 for x in lines if x.startswith('VmRSS:')))"
)


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """Start, rest, and the virtual quiet."""
    rounds = plan.count(7)
    started = [(_run(""), _run(IMPORTS)) for _ in range(rounds)]
    bare_ms, bare_rss = (statistics.median(s[0][i] for s in started) for i in (0, 1))
    full_ms, full_rss = (statistics.median(s[1][i] for s in started) for i in (0, 1))
    how = f"a new interpreter imports the stack, median of {rounds}"
    yield Row(GROUP, "import time, CPU", full_ms, "ms", how, bare_ms, "bare Python")
    yield Row(GROUP, "RSS after imports", full_rss, "MB", how, bare_rss, "bare Python")
    if not plan.quick:
        yield from asyncio.run(_at_rest(plan, seconds=60, bare=full_rss))
    yield from quiet.rows(plan)


async def _at_rest(plan: Plan, seconds: int, bare: float) -> list[Row | Skipped]:
    """A minute of ten daemons over a broker, with one decision at its beginning."""
    mesh, name = boards.found(plan.folder / "mesh-quiet", VOTERS), _broker()
    with running_broker(name, plan.folder) as (broker, port), mesh.running(port) as programs:
        customer = Customer(mesh)
        async with customer.connected(port):
            await customer.everybody()
        await asyncio.sleep(SETTLE_S)
        daemons = list(programs.values())
        before = [(p.cpu_ns, p.written_bytes) for p in daemons]
        meter = None if sockets.MISSING else sockets.Meter((port,), both_ends=False)
        broker_before, began = broker.cpu_ns, time.monotonic_ns()
        await asyncio.sleep(seconds)
        taken_ns = time.monotonic_ns() - began
        after = [(p.cpu_ns, p.written_bytes) for p in daemons]
        traffic = meter and meter.read()
        memory = statistics.median(p.rss_bytes for p in daemons) / MEGABYTE
        own = statistics.median(p.pss_bytes for p in daemons) / MEGABYTE
        broker_cpu = (broker.cpu_ns - broker_before) / taken_ns
        _all_run(daemons)
    cpu = statistics.median(a[0] - b[0] for a, b in zip(after, before, strict=True)) / taken_ns
    wrote = statistics.median(a[1] - b[1] for a, b in zip(after, before, strict=True))
    how = f"median of {VOTERS} idle daemons, sampling once a second"
    per_day = wrote * DAY_S * 1e9 / taken_ns / MEGABYTE
    return [
        Row(GROUP, f"RSS after {seconds} s", memory, "MB", f"{how}; PSS {own:.1f} MB",
            bare, "imports alone"),
        Row(GROUP, "idle CPU of a core", cpu * 100, "%", f"{how}, {seconds} s",
            broker_cpu * 100, f"{name} broker"),
        Row(GROUP, "idle disk bytes per device-day", per_day, "MB",
            f"write_bytes of /proc, {seconds} s x {DAY_S // seconds}"),
        _sent(plan, seconds, name, traffic),
    ]  # fmt: skip


def _sent(plan: Plan, seconds: int, broker: str, traffic: sockets.Traffic | None) -> Row | Skipped:
    """What that minute took on the sockets, beside the same minute in virtual time."""
    if traffic is None:
        return Skipped(GROUP, sockets.MISSING)
    _, virtual = quiet.measure(plan, VOTERS, quiet.WORK_AT_S + SETTLE_S, seconds)
    each, framed = traffic.payload_bytes / VOTERS, traffic.framed_bytes / VOTERS
    how = f"{VOTERS} voters over {broker}, in and out, documents included; with headers about "
    how += f"{framed:,.0f} B in {traffic.segments / VOTERS:.0f} segments; reference: MQTT, counted"
    return Row(GROUP, f"socket bytes, {seconds} s after a decision", each, "B", how,
               virtual.bytes / VOTERS, "virtual time")  # fmt: skip


def _broker() -> str:
    """The one that a mesh of this size has, if it is there."""
    return "embedded" if missing("mosquitto") else "mosquitto"


def _all_run(daemons: list[Program]) -> None:
    for daemon in daemons:
        daemon.check()


def _run(imports: str) -> tuple[float, float]:
    """CPU ms and RSS in MB of an interpreter that imports this and ends."""
    words = [sys.executable, "-c", f"{imports}\n{SELF}"]
    said = subprocess.run(words, capture_output=True, check=True, text=True).stdout.split()
    return int(said[0]) / 1e6, int(said[1]) / MEGABYTE
