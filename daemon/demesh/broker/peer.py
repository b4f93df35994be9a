"""One connection of the embedded broker: bytes in and out, through the layers of its listener."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol

from demesh.broker.codec import Decoder, Malformed, Packet
from demesh.broker.layers import CLOSED, Layer, farewells, received, wrapped
from demesh.broker.limits import Reason
from demesh.broker.tls import Tls
from demesh.broker.websocket import WebSocket

# A closing connection gets this long to take what was already written to it. Refusals arrive in one
# round trip; a client that does not read keeps its buffer in our memory for as long as this.
LINGER_S = 2.0


class Host(Protocol):
    """What a connection tells its server."""

    def opened(self, peer: Peer) -> None:
        """It was accepted."""
        ...

    def arrived(self, peer: Peer, data: bytes) -> None:
        """Bytes arrived."""
        ...

    def lost(self, peer: Peer) -> None:
        """It is gone, by either side."""
        ...


class Peer(asyncio.Protocol):
    """One connection. asyncio sets TCP_NODELAY on it (a test holds it to that)."""

    __slots__ = (
        "_held",
        "_host",
        "_linger",
        "_tls",
        "_web",
        "certified",
        "conn",
        "decoder",
        "feed",
        "layers",
        "paused",
        "transport",
        "unheard",
        "unwritten",
        "unwritten_bytes",
    )

    transport: asyncio.Transport

    def __init__(
        self, host: Host, packet_bytes_max: int, tls: ssl.SSLContext | None, web: WebSocket | None
    ) -> None:
        self._host = host
        self._tls = None if tls is None else Tls(tls)
        self._web = web
        self.layers: tuple[Layer, ...] = tuple(
            layer for layer in (self._tls, self._web) if layer is not None
        )
        self._held = b""
        self._linger: asyncio.TimerHandle | None = None
        self.conn = 0
        self.certified = False  # the machine was told the name in its certificate, if any
        self.decoder = Decoder(packet_bytes_max)
        # At most so many packets of what came; without layers the decoder itself.
        self.feed: Callable[[bytes, int], list[Packet | Malformed]] = (
            self._feed if self.layers else self.decoder.feed
        )
        self.paused = False  # by the machine
        self.unheard: list[Packet | Malformed] = []  # read, and left over when the pause came
        self.unwritten: list[bytes] = []
        self.unwritten_bytes = 0

    @property
    def address(self) -> str:
        """The other side's address; empty when the connection was gone at once."""
        name = self.transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    @property
    def unsent_bytes(self) -> int:
        """Bytes handed to the transport that the system has not taken."""
        return self.transport.get_write_buffer_size()

    @property
    def shaking(self) -> bool:
        """Whether the next bytes are a part of a TLS handshake."""
        return self._tls is not None and not self._tls.shaken

    @property
    def certificate(self) -> str | None:
        """The verified name of the client's certificate."""
        return None if self._tls is None else self._tls.name

    @property
    def fault(self) -> tuple[Reason, str] | None:
        """What layer ended the connection, and why."""
        for layer in self.layers:
            if layer.ended == CLOSED:
                return Reason.LOST, CLOSED
            if layer.ended is not None:
                return Reason.TLS if layer is self._tls else Reason.WEBSOCKET, layer.ended
        return None

    @property
    def more(self) -> bool:
        """Whether `feed(b"")` gives more of what came already."""
        return self.decoder.more or any(layer.more for layer in self.layers)

    def hold(self, data: bytes) -> None:
        """Keep these bytes for the next `feed`."""
        self._held += data

    def _feed(self, data: bytes, packets_max: int) -> list[Packet | Malformed]:
        """As the decoder's, through the layers, whose answers are sent."""
        data, self._held = self._held + data, b""
        packets = self.decoder.feed(received(self.layers, data), packets_max)
        if self._web is not None:
            self._web.earned(len(packets))
        answers = wrapped(self.layers, b"")
        if answers:
            self.transport.write(answers)
        return packets

    def flush(self) -> None:
        """Hand what was collected to the transport."""
        data = b"".join(self.unwritten)
        self.transport.write(wrapped(self.layers, data) if self.layers else data)
        self.unwritten.clear()
        self.unwritten_bytes = 0

    def finish(self) -> None:
        """Close after what was collected, or after `LINGER_S`."""
        self.flush()
        if self.layers:
            self.transport.write(farewells(self.layers))
        self.transport.close()
        self._linger = asyncio.get_running_loop().call_later(LINGER_S, self.transport.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._host.opened(self)

    def data_received(self, data: bytes) -> None:
        self._host.arrived(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        # Neither timer nor circle is to keep all this in memory.
        if self._linger is not None:
            self._linger.cancel()
        self.feed = self.decoder.feed
        self._host.lost(self)
