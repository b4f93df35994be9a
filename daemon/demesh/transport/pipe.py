"""paho's end of a connection: a client whose socket is two buffers in memory.

paho reads byte by byte, writes packet by packet and waits while it connects. At a pipe each of
these costs no system call, and none of them blocks: the bytes come and go elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike

# As much as asyncio takes before it asks for a pause; paho keeps the packets that come after.
UNSENT_BYTES_MAX = 64 * 1024


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
        if self.paused or len(self.unsent) >= UNSENT_BYTES_MAX:
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

    def __init__(self, client_id: str, pipe: Pipe) -> None:
        version = CallbackAPIVersion.VERSION2
        super().__init__(version, client_id, clean_session=False, reconnect_on_failure=False)
        self._pipe = pipe

    def _create_socket(self) -> SocketLike:
        # The only private name we use: by its public ones paho connects by itself, and waits.
        return self._pipe
