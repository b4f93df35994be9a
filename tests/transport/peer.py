"""A transport with everything it delivered and reported, and its jobs running."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from demesh.ports import Linked, Publish, Received
from demesh.transport.client import Link
from demesh.transport.mqtt import MqttTransport
from demesh.transport.outbox import Letter

PATIENCE_S = 20


class Peer:
    """A transport with everything it delivered and reported."""

    def __init__(self, link: Link, seed: int = 1) -> None:
        self.inputs: list[Received | Linked] = []
        self.reports: list[str] = []
        self._changed = asyncio.Event()
        self.transport = MqttTransport(link, self._deliver, self._report, random.Random(seed))

    def _deliver(self, item: Received | Linked) -> None:
        self.inputs.append(item)
        self._changed.set()

    def _report(self, text: str) -> None:
        self.reports.append(text)
        self._changed.set()

    def publish(self, publish: Publish) -> None:
        """Give it to the transport, now."""
        self.transport.post(Letter(publish, asyncio.get_running_loop().time()))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                asyncio.get_running_loop().call_later(0.05, self._changed.set)
                await self._changed.wait()

    async def up(self, times: int = 1) -> None:
        await self.until(lambda: self.inputs.count(Linked(0, up=True)) >= times)

    async def down(self) -> None:
        await self.until(lambda: Linked(0, up=False) in self.inputs)

    @property
    def payloads(self) -> list[bytes]:
        return [item.payload for item in self.inputs if isinstance(item, Received)]


@asynccontextmanager
async def running(*peers: Peer) -> AsyncIterator[None]:
    """Their jobs run while the block runs; then they say goodbye."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(peer.transport.run(), name=peer.transport.name) for peer in peers
        ]
        yield
        for peer in peers:
            await peer.transport.stop(1)
        for task in tasks:
            task.cancel()
