"""A broker that does what a test tells it: a real socket, the codec of ours, no state."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from demesh.broker.codec import (
    LEVEL_3,
    Code,
    Connack,
    Connect,
    Decoder,
    Malformed,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    encode,
)
from demesh.transport.client import Link

PACKET_BYTES_MAX = 4 * 1024 * 1024


class Line(asyncio.Protocol):
    """One connection of a client, and what it has said so far."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._decoder = Decoder(PACKET_BYTES_MAX)
        self.packets: list[Packet] = []
        self.transport: Any = None  # until it is connected

    @property
    def payloads(self) -> list[bytes]:
        """Of everything published, in order."""
        return [packet.payload for packet in self.packets if isinstance(packet, Publish)]

    @property
    def level(self) -> int:
        """What the client speaks."""
        return self._decoder.level

    def say(self, *packets: Packet) -> None:
        """Send them in one go."""
        self.transport.write(b"".join(encode(packet, self.level) for packet in packets))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for packet in self._decoder.feed(data):
            if isinstance(packet, Malformed):
                self.transport.close()
                return
            self.packets.append(packet)
            self._answer(self, packet)


Answer = Callable[[Line, Packet], None]


def polite(line: Line, packet: Packet) -> None:
    """What a broker without subscribers would do."""
    match packet:
        case Connect():
            line.say(Connack())
        case Subscribe(packet_id, filters):
            line.say(Suback(packet_id, (Code.GRANTED_1,) * len(filters)))
        case Publish(qos=1, packet_id=packet_id):
            line.say(Puback(packet_id))
        case Pingreq():
            line.say(Pingresp())


def old(line: Line, packet: Packet) -> None:
    """The same of a broker that was written before MQTT 5."""
    if not isinstance(packet, Connect):
        polite(line, packet)
    elif packet.level != LEVEL_3:
        line.transport.write(encode(Connack(Code.UNSUPPORTED_VERSION)))
        line.transport.close()
    else:
        line.say(Connack())


class ScriptedBroker:
    """`answers` are those of the first, second ... connection; the last is that of all others."""

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        self._answers, self._tls = answers or (polite,), tls
        self.lines: list[Line] = []
        self.port = 0

    def link(self, name: str, *topics: str) -> Link:
        """How to reach it."""
        return Link("127.0.0.1", self.port, f"mqtt://127.0.0.1:{self.port}", name, topics)

    def _connected(self) -> Line:
        self.lines.append(Line(self._answers[min(len(self.lines), len(self._answers) - 1)]))
        return self.lines[-1]

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[None]:
        """On a loopback port, a free one unless told, while the block runs."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._connected, "127.0.0.1", port, ssl=self._tls)
        # The kernel takes megabytes for who does not read; a deaf broker is to be felt soon.
        server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for line in self.lines:
                if line.transport is not None:
                    line.transport.abort()
