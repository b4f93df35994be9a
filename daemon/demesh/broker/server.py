"""The embedded broker on TCP: a thin asyncio shell around `machine.Broker`.

Everything runs in one event loop. What the machine wants sent is collected per connection and
written once per turn of the loop: a write is a system call, and costs more than the packet.

Of one connection a turn carries out `turn_packets_max` packets, and none after the machine's
`Pause`. What was read beyond that waits, and its socket is not read meanwhile: then the kernel's
buffers fill up, and the sender's.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import time
from collections.abc import Iterable
from types import TracebackType

from demesh.broker.codec import Decoder, Malformed, Packet, encode
from demesh.broker.limits import Counters, Limits, Reason
from demesh.broker.machine import Broker, Close, Effect, Pause, Transmit
from demesh.errors import ConfigError, TemporaryError
from demesh.ports import SECOND, Instant

_log = logging.getLogger("demesh.broker")

# A closing connection gets this long to take what was already written to it. Refusals arrive in one
# round trip; a client that does not read keeps its buffer in our memory for as long as this.
LINGER_S = 2.0

# How often the log may say that clients are slowed down; in between it is counted.
TOLD_EVERY_NS = 60 * SECOND

# What is collected for one connection before it is written even within a turn: one turn may ask for
# much more than a connection is allowed to have waiting, and that must be seen while it happens.
TURN_BYTES_MAX = 256 * 1024


class Server:
    """A broker listening on one address; `async with`, or `start` and `stop`.

    Without accounts of its own it serves this machine only. A new start is a new broker: sessions
    and retained messages live in memory, as a mesh must not depend on them.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, limits: Limits | None = None
    ) -> None:
        self.host = "127.0.0.1" if host == "localhost" else host
        self.port = port  # after `start`: the one in use
        self.limits = limits if limits is not None else Limits()
        self._broker = Broker(self.limits, time.monotonic_ns())
        self._listener: asyncio.Server | None = None
        self._peers: dict[int, _Peer] = {}
        self._closing: dict[int, _Peer] = {}
        self._unwritten: list[_Peer] = []
        self._behind: list[_Peer] = []  # to be heard in the next turn, without reading
        self._last_conn = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: Instant | None = None
        self._empty = asyncio.Event()
        self._told_at: Instant | None = None

    @property
    def counters(self) -> Counters:
        """What happened since the start."""
        return self._broker.counters

    async def start(self) -> None:
        """Listen; raises ConfigError for an address not allowed, TemporaryError if it is taken."""
        _check_address(self.host, self.port)
        self._loop = asyncio.get_running_loop()
        self._broker = Broker(self.limits, time.monotonic_ns())
        try:
            self._listener = await self._loop.create_server(
                lambda: _Peer(self), self.host, self.port, reuse_address=True
            )
        except OSError as error:
            raise TemporaryError(_no_listener(self.host, self.port, error)) from error
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and close all connections; wills are not published."""
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_at = None
        for peer in self._behind:  # what was read before the stop still counts
            for packet in peer.decoder.feed(b""):
                self._carry_out(self._broker.receive(peer.conn, packet, time.monotonic_ns()))
        self._behind.clear()
        self._write()
        for peer in [*self._peers.values(), *self._closing.values()]:
            peer.transport.close()
        try:
            async with asyncio.timeout(LINGER_S):
                while self._peers or self._closing:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            for peer in [*self._peers.values(), *self._closing.values()]:
                peer.transport.abort()
            self._peers.clear()
            self._closing.clear()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    # -- called by the peers ----------------------------------------------------------------------

    def opened(self, peer: _Peer) -> None:
        """A connection was accepted."""
        if self._listener is None:
            peer.transport.abort()
            return
        self._last_conn += 1
        peer.conn = self._last_conn
        self._peers[peer.conn] = peer
        self._carry_out(self._broker.connected(peer.conn, time.monotonic_ns()))
        self._set_timer()

    def arrived(self, peer: _Peer, data: bytes) -> None:
        """Bytes arrived."""
        self._hear(peer, data)
        self._set_timer()

    def lost(self, peer: _Peer) -> None:
        """The connection is gone, by either side."""
        if self._closing.pop(peer.conn, None) is None and self._listener is not None:
            self._peers.pop(peer.conn, None)
            self._carry_out(self._broker.disconnected(peer.conn, time.monotonic_ns()))
            self._set_timer()
        self._peers.pop(peer.conn, None)
        self._empty.set()

    # -- turns ------------------------------------------------------------------------------------

    def _hear(self, peer: _Peer, data: bytes) -> None:
        """Carry out a turn's worth of what a peer says; read on only if that was all of it."""
        now = time.monotonic_ns()
        receive = self._broker.receive
        conn = peer.conn
        packets = peer.unheard
        if data or not packets:
            packets = packets + peer.decoder.feed(data, self.limits.turn_packets_max)
        for number, packet in enumerate(packets, 1):
            self._carry_out(receive(conn, packet, now))
            if peer.paused:
                peer.unheard = packets[number:]
                return
        peer.unheard = []
        if peer.decoder.more:
            self._hear_soon(peer)
        else:
            peer.transport.resume_reading()

    def _hear_soon(self, peer: _Peer) -> None:
        peer.transport.pause_reading()
        if not self._behind:
            self._loop.call_soon(self._hear_behind)
        self._behind.append(peer)

    def _hear_behind(self) -> None:
        peers = self._behind
        self._behind = []
        for peer in peers:
            if peer.conn in self._peers:
                self._hear(peer, b"")
        if self._listener is not None:
            self._set_timer()

    # -- carrying out -----------------------------------------------------------------------------

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            peer = self._peers.get(effect.conn)
            if peer is None:
                continue
            if type(effect) is Transmit:
                if not peer.unwritten:
                    if not self._unwritten:
                        self._loop.call_soon(self._write)
                    self._unwritten.append(peer)
                wire = encode(effect.packet, peer.decoder.level)
                peer.unwritten.append(wire)
                peer.unwritten_bytes += len(wire)
                if peer.unwritten_bytes > TURN_BYTES_MAX:
                    self._write_to(peer)
            elif type(effect) is Close:
                self._close(peer)
            elif type(effect) is Pause:
                peer.paused = True
                peer.transport.pause_reading()
                self._tell(effect)
            else:
                peer.paused = False
                self._hear_soon(peer)

    def _tell(self, pause: Pause) -> None:
        now = time.monotonic_ns()
        if self._told_at is None or now - self._told_at >= TOLD_EVERY_NS:
            self._told_at = now
            _log.warning(
                "client %r says more than %s packets or %s bytes a second and is read no faster; "
                "%s pauses of clients so far",
                pause.client_id,
                self.limits.packets_per_s_max,
                self.limits.bytes_per_s_max,
                self.counters.pauses,
            )

    def _close(self, peer: _Peer) -> None:
        """Let the connection end after what was written to it, or after `LINGER_S`."""
        del self._peers[peer.conn]
        self._closing[peer.conn] = peer
        peer.flush()
        peer.transport.close()
        self._loop.call_later(LINGER_S, peer.transport.abort)

    def _write(self) -> None:
        """Write what this turn of the loop has collected; close those who do not read."""
        peers = self._unwritten
        self._unwritten = []
        for peer in peers:
            if peer.unwritten:
                self._write_to(peer)

    def _write_to(self, peer: _Peer) -> None:
        peer.flush()
        backlog = peer.transport.get_write_buffer_size()
        if backlog > self.limits.write_buffer_bytes_max and peer.conn in self._peers:
            peer.transport.abort()
            self._carry_out(self._broker.close(peer.conn, Reason.SLOW, time.monotonic_ns()))

    def _set_timer(self) -> None:
        at = self._broker.deadline()
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = None
        if at is not None:
            delay_s = max(0, at - time.monotonic_ns()) / SECOND
            self._timer = self._loop.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = self._timer_at = None
        self._carry_out(self._broker.tick(time.monotonic_ns()))
        self._set_timer()


class _Peer(asyncio.Protocol):
    """One connection. asyncio sets TCP_NODELAY on it (a test holds it to that)."""

    __slots__ = (
        "_server",
        "conn",
        "decoder",
        "paused",
        "transport",
        "unheard",
        "unwritten",
        "unwritten_bytes",
    )

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self.conn = 0
        self.decoder = Decoder(server.limits.packet_bytes_max)
        self.paused = False  # by the machine
        self.unheard: list[Packet | Malformed] = []  # read, and left over when the pause came
        self.unwritten: list[bytes] = []
        self.unwritten_bytes = 0

    def flush(self) -> None:
        """Hand what was collected to the transport."""
        self.transport.write(b"".join(self.unwritten))
        self.unwritten.clear()
        self.unwritten_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        self._server.arrived(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.lost(self)


def _check_address(host: str, port: int) -> None:
    if not 0 <= port <= 0xFFFF:
        raise ConfigError(f"expected a port from 0 (any free one) to 65535, got {port}")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"the embedded broker has no accounts and serves this machine only: expected a "
            f"loopback address such as 127.0.0.1, got {host!r}; for other machines run mosquitto"
        )


def _no_listener(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; stop what listens there, or choose port 0"
    return f"cannot listen on {host} port {port}: {error.strerror or error}"
