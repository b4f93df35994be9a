"""A fanout with everything it delivered and reported, and its jobs running."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from demesh.errors import DemeshError
from demesh.ports import Linked, Received
from demesh.transport.client import Link
from demesh.transport.fanout import Fanout
from transport.peer import PATIENCE_S
from transport.scripted import ScriptedBroker


class Device:
    """A fanout with everything it delivered and reported."""

    def __init__(self, links: Sequence[Link]) -> None:
        self.inputs: list[Received | Linked] = []
        self.reports: list[str] = []
        numbered = [replace(link, broker=number) for number, link in enumerate(links)]
        self._listeners: list[Callable[[Received | Linked], None]] = [self.inputs.append]
        self.fanout = Fanout(numbered, self._deliver, self.reports.append, random.Random(1))

    def listen(self, listener: Callable[[Received | Linked], None]) -> None:
        """Tell somebody of all that is delivered from now on."""
        self._listeners.append(listener)

    def _deliver(self, item: Received | Linked) -> None:
        for listener in self._listeners:
            listener(item)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop run until a condition holds."""
        async with asyncio.timeout(PATIENCE_S):
            again = asyncio.Event()
            while not condition():
                again.clear()
                asyncio.get_running_loop().call_later(0.02, again.set)
                await again.wait()

    async def up(self, *brokers: int) -> None:
        await self.until(lambda: all(Linked(b, up=True) in self.inputs for b in brokers))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Its jobs run while the block runs; then it says goodbye."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job, name=name) for name, job in self.fanout.jobs()]
            yield
            await self.fanout.stop(1)
            for task in tasks:
                task.cancel()

    async def failure(self) -> DemeshError:
        """What its jobs end with."""
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
                for name, job in self.fanout.jobs():
                    group.create_task(job, name=name)
        (error,) = caught.value.exceptions
        assert isinstance(error, DemeshError)
        return error


def heard(broker: ScriptedBroker) -> list[bytes]:
    """All that was published there, by whatever connection."""
    return [payload for line in broker.lines for payload in line.payloads]
