"""paho's end of a connection: a client whose socket is two buffers in memory.

paho reads byte by byte, writes packet by packet and waits while it connects. At a pipe each of
these costs no system call, and none of them blocks: the bytes come and go elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from demesh.transport.packets import Level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paho.mqtt.client import SocketLike

# How long a broker keeps what came for a device that is away: an hour is more than a reboot, and
# who is away for longer takes the blocks from its peers.
SESSION_S = 3600

# Publications the broker may have under way to us: at 1 kB/s all of them are out in 20 s, and at
# 100 ms a round trip they are 640 a second.
RECEIVE_MAX = 64


class Pipe:
    """What paho takes for its socket: bytes that have arrived, and bytes to be sent."""

    def __init__(self) -> None:
        self.unsent = bytearray()
        self.paused = False
        self._arrived, self._at = b"", 0

    def fill(self, data: bytes) -> None:
        """What has arrived; all of the last has been read."""
        self._arrived, self._at = data, 0

    @property
    def readable(self) -> bool:
        """Whether there is anything to read."""
        return self._at < len(self._arrived)

    def recv(self, buffer_size: int) -> bytes:
        if not self.readable:
            raise BlockingIOError
        found = self._arrived[self._at : self._at + buffer_size]
        self._at += len(found)
        return found

    def send(self, buffer: bytes | bytearray) -> int:
        if self.paused:
            raise BlockingIOError
        self.unsent += buffer
        return len(buffer)

    def fileno(self) -> int:
        return -1  # there is none

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def close(self) -> None:
        """The connection closes itself."""


class PipedClient(Client):
    """paho at a pipe: nothing it does blocks."""

    def __init__(self, client_id: str, pipe: Pipe, level: Level, lasting: bool = True) -> None:
        """With `lasting`, the broker's session for us waits when we are away."""
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=not lasting if level is Level.V3 else None,
            protocol=MQTTProtocolVersion(level),
            reconnect_on_failure=False,
        )
        self._pipe, self._level, self._lasting = pipe, level, lasting

    def greet(self, host: str, port: int, keepalive_s: int) -> None:
        """CONNECT, with what we wish for."""
        if self._level is Level.V3:
            self.connect(host, port, keepalive_s)
            return
        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's own gap
        wishes.ReceiveMaximum = RECEIVE_MAX  # but no size: mosquitto keeps a place for what is over
        if self._lasting:
            wishes.SessionExpiryInterval = SESSION_S
        self.connect(host, port, keepalive_s, clean_start=not self._lasting, properties=wishes)

    def listen(self, topics: Sequence[str]) -> None:
        """SUBSCRIBE at QoS 1, and not to ourselves where the broker can leave that out."""
        if self._level is Level.V3:
            self.subscribe([(topic, 1) for topic in topics])
        else:
            self.subscribe([(topic, SubscribeOptions(1, noLocal=True)) for topic in topics])

    def _create_socket(self) -> SocketLike:
        # The only private name we use: by its public ones paho connects by itself, and waits.
        return self._pipe
