"""A broker that is killed and started again, over and over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from transport.brokers import BrokerProcess


class Flapping:
    """SIGKILL every so often, and a new process on the same port with nothing in its memory."""

    def __init__(self, broker: BrokerProcess, every_s: float = 1.0, down_s: float = 0.2) -> None:
        self._broker, self._every_s, self._down_s = broker, every_s, down_s
        self.kills = 0

    async def run(self) -> None:
        """Until cancelled; it is up when that is done."""
        clock = asyncio.get_running_loop().time
        try:
            while True:
                began = clock()
                await asyncio.to_thread(self._broker.stop, kill=True)
                self.kills += 1
                await asyncio.sleep(self._down_s)
                await asyncio.to_thread(self._broker.start)
                # However long it takes to start here, somebody must have time to meet it.
                await asyncio.sleep(max(self._every_s / 2, began + self._every_s - clock()))
        finally:
            self._broker.stop(kill=True)
            self._broker.start()

    @asynccontextmanager
    async def flapping(self) -> AsyncIterator[None]:
        """While the block runs."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.run(), name="flapping")
            yield
            task.cancel()
