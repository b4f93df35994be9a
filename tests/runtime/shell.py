"""Fake ports around the real runtime; all write into one record, in the order it happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from demesh.observe.projection import Projection
from demesh.ports import (
    Actuate,
    Admitted,
    Effect,
    Input,
    Instant,
    Json,
    Linked,
    Measurement,
    Persist,
    Publish,
    Received,
    Restored,
    StoredBlock,
)
from demesh.runtime import Runtime
from demesh.transport.client import Link

PATIENCE_S = 10

Record = list[tuple[str, object]]


class ScriptedNode:
    """A sans-IO node whose reactions are given as functions."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.first: list[Effect] = []
        self.on: Callable[[Input], list[Effect]] = lambda item: []
        self.on_tick: Callable[[Instant], list[Effect]] = lambda now: []
        self.next: Instant | None = None
        self.inputs: list[Input] = []
        self.ticks: list[Instant] = []

    def start(self, now: Instant) -> list[Effect]:
        return self.first

    def admit(self, received: Received, now: Instant) -> Admitted | None:
        return Admitted(received, received)

    def handle(self, item: Input, now: Instant) -> list[Effect]:
        if isinstance(item, Admitted):
            item = item.received
        self.inputs.append(item)
        return self.on(item)

    def tick(self, now: Instant) -> list[Effect]:
        self.ticks.append(now)
        return self.on_tick(now)

    def deadline(self) -> Instant | None:
        return self.next


class RecordingStore:
    """A store that keeps nothing and can fail."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.failure: Exception | None = None
        self.pending = False
        self.flushed = 0
        self.closed = False
        self.held: tuple[StoredBlock, ...] = ()

    def load(self) -> Restored:
        return Restored()

    def commit(self, effects: Sequence[Persist]) -> None:
        if self.failure:
            raise self.failure
        self.record.append(("commit", tuple(effects)))

    def blocks(self, first_height: int, count: int) -> tuple[StoredBlock, ...]:
        return self.held[:count]

    def final(self, height: int) -> bytes | None:
        found = (b.certificate for b in self.held if b.height >= height and b.certificate)
        return next(found, None)

    def hand_overs(self, first_epoch: int = 0, count: int = -1) -> tuple[bytes, ...]:
        return ()

    def checkpoint(self) -> bytes | None:
        return None

    def chunk(self, id: bytes) -> bytes | None:
        return None

    def flush(self) -> None:
        self.flushed += 1
        self.pending = False

    def close(self) -> None:
        self.closed = True


class RecordingDevice:
    """A device that measures the same for ever."""

    sample_ms = 50

    def __init__(self, record: Record) -> None:
        self.record = record
        self.failure: OSError | None = None

    def read(self, now: Instant) -> Measurement:
        if self.failure:
            raise self.failure
        return Measurement(power_w=7)

    def actuate(self, command: Actuate, now: Instant) -> None:
        self.record.append(("actuate", command))


class RecordingTransport:
    """A broker that takes everything."""

    def __init__(self, record: Record, deliver: Callable[[Received | Linked], None]) -> None:
        self.record, self.deliver = record, deliver
        self.up = False
        self.dropped = self.unread = 0
        self.failure: Exception | None = None
        self.running = self.stopped = self.cancelled = False
        self._broken = asyncio.Event()

    def state(self) -> list[Json]:
        connections = 1 if self.up else 0
        return [{"up": self.up, "level": "5", "connections": connections, "refused": 0}]

    def jobs(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        return [("broker", self._run())]

    def publish(self, publish: Publish) -> None:
        self.record.append(("publish", publish))

    async def stop(self, seconds: float) -> None:
        self.stopped = True

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self._broken.set()

    async def _run(self) -> None:
        self.running = True
        try:
            await self._broken.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        assert self.failure is not None
        raise self.failure


class Shell:
    """A runtime with fake ports around it."""

    def __init__(self) -> None:
        self.record: Record = []
        self.node = ScriptedNode(self.record)
        self.store = RecordingStore(self.record)
        self.device = RecordingDevice(self.record)
        self.runtime = Runtime(
            self.node,
            self.store,
            self.device,
            Projection("me", "obs/me/"),
            (Link("localhost", 1, "mqtt://localhost:1", "me", ()),),
            self._open,
        )

    def _open(
        self,
        links: Sequence[Link],
        deliver: Callable[[Received | Linked], None],
        report: Callable[[str], None],
    ) -> RecordingTransport:
        self.transport = RecordingTransport(self.record, deliver)
        return self.transport

    def send(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.transport.deliver(Received("t/1", payload))

    def named(self, *names: str) -> list[tuple[str, object]]:
        return [entry for entry in self.record if entry[0] in names]

    async def run(self, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the runtime beside a scenario, then stop it; raises what the runtime raises."""
        running = asyncio.create_task(self.runtime.run())
        try:
            await until(lambda: self.transport.running or running.done())
            await scenario()
            self.runtime.stop()
            async with asyncio.timeout(PATIENCE_S):
                await running
        finally:
            running.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until a condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        again = asyncio.Event()
        while not condition():
            again.clear()
            asyncio.get_running_loop().call_later(0.002, again.set)
            await again.wait()
