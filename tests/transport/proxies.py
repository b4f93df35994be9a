"""A line between a client and a broker that can be slow, or go silent without an end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# The least the kernel gives: what waits for a slow line waits where we can see it.
SOCKET_BYTES = 4096
PIECE_BYTES = 256


class Proxy:
    """A loopback port that leads to another, at so many bytes a second each way."""

    def __init__(self, port: int, bytes_a_second: int | None = None) -> None:
        self._to, self._pace = port, bytes_a_second
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.opened = 0

    def fall_silent(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._speaks.clear()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """While the block runs."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=PIECE_BYTES)
        if self._pace:
            server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        plug = socket.socket()
        if self._pace:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        plug.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(plug, ("127.0.0.1", self._to))
            there, back = await asyncio.open_connection(sock=plug, limit=PIECE_BYTES)
        except OSError:
            plug.close()
            writer.close()
            return
        for source, sink in ((reader, back), (there, writer)):
            task = loop.create_task(self._carry(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        sink.transport.set_write_buffer_limits(high=0)
        try:
            while piece := await source.read(PIECE_BYTES if self._pace else 65_536):
                await self._speaks.wait()
                if self._pace:
                    await asyncio.sleep(len(piece) / self._pace)  # what the line takes
                sink.write(piece)
                await sink.drain()
        except OSError:
            pass
        finally:
            if self._speaks.is_set():
                sink.close()
