"""A raw client whose packets travel in WebSocket frames, written here anew from RFC 6455."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import struct

from broker.rawclient import PATIENCE_S, RawClient


def masked_frame(
    content: bytes, opcode: int = 2, *, fin: bool = True, mask: bytes | None = None
) -> bytes:
    """One frame of a client, under a random mask if none is given."""
    size, mask = len(content), mask or os.urandom(4)
    if size < 126:
        length = bytes((0x80 | size,))
    else:
        length = b"\xff" + struct.pack("!Q", size)
        if size < 0x1_0000:
            length = b"\xfe" + struct.pack("!H", size)
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(content))
    return bytes((fin << 7 | opcode,)) + length + mask + body


class _Frames:
    """Reader and writer of a `RawClient` at once: packets within, frames without."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.closed_with: int | None = None
        self.pongs: list[bytes] = []

    @property
    def transport(self) -> asyncio.WriteTransport:
        return self.writer.transport

    def write(self, data: bytes) -> None:
        self.writer.write(masked_frame(data))

    async def read(self, _: int) -> bytes:
        while True:
            try:
                first, second = await self.reader.readexactly(2)
                size = second
                if second > 125:
                    size = int.from_bytes(await self.reader.readexactly(2 if second == 126 else 8))
                content = await self.reader.readexactly(size)
            except asyncio.IncompleteReadError:
                return b""
            assert second < 0x80 and first & 0x80
            if first & 0xF == 2:
                return content
            if first & 0xF == 8:
                self.closed_with = int.from_bytes(content[:2])
            else:
                assert first & 0xF == 0xA
                self.pongs.append(content)


async def dial_web(port: int, context: ssl.SSLContext | None = None) -> RawClient:
    """A WebSocket that is open and has said nothing; its `reader` and `writer` are `_Frames`."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: mqtt\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    frames = _Frames(reader, writer)
    return RawClient(frames, frames)  # type: ignore[arg-type]
