"""The daemon's own MQTT transport at a real broker: what a message costs the voter that moves it.

The other end is raw sockets with packets made beforehand (`flood.py`), in the same thread, so CPU
time is the transport's but for one system call in a hundred messages. The reference of a rate is
the same flood between raw sockets: what this broker can do when no client is in the way.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

from benchmarks.flood import TOPIC, Flood, Peer
from benchmarks.floor import signature_ns
from benchmarks.plan import Plan
from benchmarks.programs import BROKERS, Program, missing, running_broker
from benchmarks.row import Row, Skipped
from benchmarks.timing import percentile
from demesh.ports import Linked, Publish, Received
from demesh.transport.client import Link
from demesh.transport.fanout import Fanout

GROUP = "transport"

PAYLOAD_BYTES = 190  # a vote's frame
BURST = 100
PATIENCE_S = 30.0

Open = Callable[[Link, Callable[[Received | Linked], None]], Fanout]


def open_mqtt(link: Link, deliver: Callable[[Received | Linked], None]) -> Fanout:
    """As the daemon opens it, with nobody to report to."""
    return Fanout((link,), deliver, lambda _: None, random.Random(1))


class End:
    """A connected transport that counts what it receives."""

    def __init__(self, port: int, *topics: str, opened: Open = open_mqtt) -> None:
        link = Link("127.0.0.1", port, "", f"bench-{time.monotonic_ns()}", topics)
        self.transport = opened(link, self._deliver)
        self.received = 0
        self._wanted = 0
        self._reached = asyncio.Event()
        self._up = asyncio.Event()

    async def up(self) -> None:
        """Wait until it is connected and subscribed."""
        async with asyncio.timeout(PATIENCE_S):
            await self._up.wait()

    async def until(self, count: int) -> None:
        """Wait until so many messages have been received in all."""
        self._wanted = count
        if self.received < count:
            self._reached.clear()
            async with asyncio.timeout(PATIENCE_S):
                await self._reached.wait()

    def _deliver(self, item: Received | Linked) -> None:
        if isinstance(item, Linked):
            self._up.set()
            return
        self.received += 1
        if self.received >= self._wanted:
            self._reached.set()


@asynccontextmanager
async def working(*ends: End) -> AsyncIterator[None]:
    """Their jobs run, and all are connected, while the block runs."""
    async with asyncio.TaskGroup() as group:
        jobs = [job for end in ends for _, job in end.transport.jobs()]
        tasks = [group.create_task(job) for job in jobs]
        for end in ends:
            await end.up()
        yield
        for end in ends:
            await end.transport.stop(PATIENCE_S)
        for task in tasks:
            task.cancel()


async def round_trips_ns(opened: Open, port: int, qos: int, count: int) -> list[int]:
    """Times from `publish` until another transport has the message, one at a time."""
    end, other = End(port, "echo", opened=opened), End(port, opened=opened)
    taken = []
    async with working(end, other):
        for number in range(count):
            began = time.monotonic_ns()
            other.transport.publish(Publish("echo", bytes(PAYLOAD_BYTES), qos))
            await end.until(number + 1)
            taken.append(time.monotonic_ns() - began)
    return taken


async def published(opened: Open, port: int, qos: int, count: int) -> tuple[float, float]:
    """(Messages a second, CPU us of each) when a full outbox leaves, acknowledged at QoS 1."""
    end = End(port, opened=opened)
    async with working(end):
        wall, cpu = time.monotonic_ns(), time.thread_time_ns()
        for _ in range(-(-count // BURST)):
            for _ in range(BURST):
                end.transport.publish(Publish("nobody", bytes(PAYLOAD_BYTES), qos))
            assert await end.transport._transports[0]._outbox.emptied(PATIENCE_S)
        wall, cpu = time.monotonic_ns() - wall, time.thread_time_ns() - cpu
    sent = -(-count // BURST) * BURST
    assert end.transport.dropped == 0
    return sent * 1e9 / wall, cpu / sent / 1000


async def received(opened: Open, port: int, qos: int, count: int) -> tuple[float, float]:
    """(Messages a second, CPU us of each) of a flood, acknowledged at QoS 1."""
    end, sender = End(port, TOPIC, opened=opened), Peer(port, "flood", qos, bytes(PAYLOAD_BYTES))
    bursts = -(-count // BURST)
    async with working(end):
        wall, cpu = time.monotonic_ns(), time.thread_time_ns()
        for number in range(bursts):
            sender.burst(number * BURST, BURST)
            await end.until(number * BURST)  # all but this one: queues hold two bursts at most
            while qos and sender.acknowledged < number * BURST:
                sender.take_acknowledgements()
        await end.until(bursts * BURST)
        wall, cpu = time.monotonic_ns() - wall, time.thread_time_ns() - cpu
    sender.close()
    return bursts * BURST * 1e9 / wall, cpu / bursts / BURST / 1000


MOVES = {"published": published, "received": received}


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """Every broker in turn, at QoS 0 and 1."""
    verify_us = signature_ns(plan.count(2000, 5))[1] / 1000
    for name in BROKERS:
        if why := missing(name):
            yield Skipped(GROUP, why)
            continue
        with running_broker(name, plan.folder, paced=False) as (_, port):
            yield from _round_trips(plan, name, port)
            yield from _moves(plan, name, port, verify_us)
            yield _memory(plan, name, port)


def _round_trips(plan: Plan, name: str, port: int) -> Iterator[Row]:
    count = plan.count(1000, 3)
    for qos in (0, 1):
        taken = asyncio.run(round_trips_ns(open_mqtt, port, qos, count))
        flood = Flood(port, qos, 1, PAYLOAD_BYTES)
        raw_ms = flood.run(count, 1) * 1000 / count
        flood.close()
        value, tail = (percentile(taken, percent) / 1e6 for percent in (50, 99))
        how = f"{count} one by one, {PAYLOAD_BYTES} B; p99 {tail:.2f} ms"
        yield Row(GROUP, f"round trip, QoS {qos}, {name}", value, "ms", how, raw_ms, "raw sockets")


def _moves(plan: Plan, name: str, port: int, verify_us: float) -> Iterator[Row]:
    count, rounds = plan.count(5000, 1), plan.count(5)
    for (what, move), qos in itertools.product(MOVES.items(), (0, 1)):
        run = partial(move, open_mqtt, port, qos, count)
        rates, costs = zip(*(asyncio.run(run()) for _ in range(rounds)), strict=True)
        flood = Flood(port, qos, 1, PAYLOAD_BYTES)
        bursts = max(1, count // BURST)
        raw = bursts * BURST / flood.run(bursts, BURST)
        flood.close()
        label = f"QoS {qos}, {name}"
        how = f"{PAYLOAD_BYTES} B, {BURST} at once; median of {rounds} rounds of {count}"
        rate, cost = statistics.median(rates), statistics.median(costs)
        yield Row(GROUP, f"{what}, {label}", rate, "/s", how, raw, "raw sockets")
        yield Row(GROUP, f"CPU per message {what}, {label}", cost, "us", how, verify_us, "verify")


def _memory(plan: Plan, name: str, port: int) -> Row:
    """What a connected transport adds to a process that has Python and asyncio."""
    command = [sys.executable, "-c"]
    empty = f"import asyncio; {_TALK}"
    connected = f"from benchmarks.transport import stay; stay({port}, lambda: ({_TALK}))"
    held = []
    for code in (empty, connected):
        program = Program([*command, code], plan.folder / "memory.log", talks=True)
        try:
            program.ask("up?")
            held.append(program.pss_bytes / 1e6)
        finally:
            program.stop()
    how = "proportional set size with benchmark, sodium and codec loaded, connected and idle"
    return Row(GROUP, f"memory, {name}", held[1], "MB", how, held[0], "python with asyncio")


_TALK = "input(), print('up', flush=True), input()"


def stay(port: int, talk: Callable[[], object]) -> None:
    """Be connected, and talk."""

    async def connected() -> None:
        async with working(End(port)):
            talk()

    asyncio.run(connected())
