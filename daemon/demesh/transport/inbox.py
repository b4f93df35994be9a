"""The one queue into the node: bounded, and honest about what it drops.

Overflow policy. Only messages from brokers are bounded, by number and by bytes; only those are here
that the node has admitted, so no forger fills it. When they exceed either bound, the oldest goes,
for the newest votes are the ones that still decide something, and every protocol asks again for
what it misses. Everything else (links, measurements, answers of the store) is rare, made by
ourselves, never dropped, and taken first.
"""

from __future__ import annotations

import asyncio
from collections import deque

from demesh.ports import Admitted, Input

# 2,048 messages are about 8 s of 30 boards finalizing at full speed: longer than any pause of ours.
# Fewer lose votes in a slow fsync; more only hand the node messages about views long past.
MESSAGES_MAX = 2048

# 128 of the largest frames: what a Pi with 512 MB can spare without a second thought.
BYTES_MAX = 8 * 1024 * 1024


class Inbox:
    """Inputs waiting for the next turn; `put` never blocks and is called on the loop's thread."""

    def __init__(self, messages_max: int = MESSAGES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._messages_max, self._bytes_max = messages_max, bytes_max
        self._messages: deque[Admitted] = deque()
        self._own: deque[Input] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._messages) + len(self._own)

    def put(self, item: Input) -> None:
        """Queue an input; a message may push out the oldest messages, which are counted."""
        self._filled.set()
        if not isinstance(item, Admitted):
            self._own.append(item)
            return
        self._messages.append(item)
        self._bytes += len(item.received.payload)
        while len(self._messages) > self._messages_max or self._bytes > self._bytes_max:
            self._bytes -= len(self._messages.popleft().received.payload)
            self.dropped += 1

    def take(self, count: int) -> list[Input]:
        """Up to `count` inputs: our own first, then messages in the order they came."""
        taken: list[Input] = []
        while self._own and len(taken) < count:
            taken.append(self._own.popleft())
        while self._messages and len(taken) < count:
            message = self._messages.popleft()
            self._bytes -= len(message.received.payload)
            taken.append(message)
        return taken

    async def wait(self, seconds: float | None) -> None:
        """Until there is an input, or that much time has passed; None waits for an input only."""
        if len(self):
            await asyncio.sleep(0)  # a busy consumer still leaves the loop to the sockets
            return
        self._filled.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._filled.wait()
        except TimeoutError:
            return
