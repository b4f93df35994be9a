"""The embedded broker on the network: a thin asyncio shell around `machine.Broker`.

Everything runs in one event loop. What the machine wants sent is collected per connection and
written once per turn of the loop: a write is a system call, and costs more than the packet.

Of one connection a turn carries out `turn_packets_max` packets, and none after the machine's
`Pause`. What was read beyond that waits, and its socket is not read meanwhile: then the kernel's
buffers fill up, and the sender's.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType

from demesh.broker.codec import encode
from demesh.broker.limits import Counters, Limits, Reason
from demesh.broker.machine import Broker, Close, Effect, Pause, Transmit
from demesh.broker.notices import Notices
from demesh.broker.origins import origin_of
from demesh.broker.peer import LINGER_S, Peer
from demesh.broker.saving import Saving
from demesh.broker.settings import Endpoint, Trust
from demesh.broker.store import Store
from demesh.broker.unsent import Unsent
from demesh.broker.websocket import WebSocket
from demesh.errors import TemporaryError
from demesh.ports import SECOND, Instant

_log = logging.getLogger("demesh.broker")

# What is collected for one connection before it is written even within a turn: one turn may ask for
# much more than a connection is allowed to have waiting, and that must be seen while it happens.
TURN_BYTES_MAX = 256 * 1024

# After so many effects, some 10 ms, a turn of one connection ends though it has packets left: 128
# messages to 300 clients were a fifth of a second.
TURN_EFFECTS_MAX = 2048

# A handshake takes 1 ms or 2, and anybody may begin hundreds at once: nobody else is to wait for
# more than some of them.
TURN_HANDSHAKES_MAX = 4

# Ends that are nobody's fault, and that a healthy broker sees all day.
ORDINARY = frozenset(
    {Reason.LEFT, Reason.LOST, Reason.TAKEN_OVER, Reason.KEEP_ALIVE, Reason.STOPPED}
)


class Server:
    """A broker listening on some addresses; `async with`, or `start` and `stop`.

    A new start is a new broker with what the `store` kept; without a store it knows nothing.
    """

    def __init__(
        self,
        *listen: Endpoint,
        limits: Limits | None = None,
        trust: Trust | None = None,
        store: Store | None = None,
    ) -> None:
        """Listen on a free port of 127.0.0.1 if nothing else is said."""
        self.endpoints = listen or (Endpoint(),)  # after `start`: with the ports in use
        self.limits = limits if limits is not None else Limits()
        self._trust = trust if trust is not None else Trust()
        self._saving = None if store is None else Saving(store)
        self._broker = Broker(self.limits, time.monotonic_ns(), self._trust.access)
        self._listeners: list[asyncio.Server] = []
        self._running = False
        self._peers: dict[int, Peer] = {}
        self._closing: dict[int, Peer] = {}
        self._unwritten: list[Peer] = []
        self._unsent: Unsent[Peer] = Unsent(self.limits.write_buffer_bytes_total_max)
        self._behind: list[Peer] = []  # to be heard in the next turn, without reading
        self._last_conn = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: Instant | None = None
        self._empty = asyncio.Event()
        self._notices = Notices()

    @property
    def port(self) -> int:
        """The port of the first address."""
        return self.endpoints[0].port

    @property
    def counters(self) -> Counters:
        """What happened since the start."""
        return self._broker.counters

    @property
    def trust(self) -> Trust:
        """Whom it lets in now."""
        return self._trust

    async def start(self) -> None:
        """Listen; raises TemporaryError if an address is taken, StorageError if saved state is."""
        self._loop = asyncio.get_running_loop()
        now = time.monotonic_ns()
        saved = None if self._saving is None else self._saving.open(now)
        self._broker = Broker(self.limits, now, self._trust.access, saved)
        endpoints = []
        try:
            for endpoint in self.endpoints:
                endpoints.append(await self._listen(endpoint))
        except TemporaryError:
            self._deafen()
            if self._saving is not None:
                self._saving.close()
            raise
        self.endpoints = tuple(endpoints)
        self._running = True
        if self._saving is not None:
            self._saving.start(self._broker)
        self._set_timer()

    async def _listen(self, endpoint: Endpoint) -> Endpoint:
        try:
            listener = await self._loop.create_server(
                lambda: self._peer(endpoint), endpoint.host, endpoint.port, reuse_address=True
            )
        except OSError as error:
            raise TemporaryError(_no_listener(endpoint, error)) from error
        self._listeners.append(listener)
        return replace(endpoint, port=listener.sockets[0].getsockname()[1])

    def _peer(self, endpoint: Endpoint) -> Peer:
        trust = self._trust
        web = WebSocket(trusting=trust.trusting, secure=endpoint.secure) if endpoint.web else None
        context = trust.context if endpoint.secure else None
        return Peer(self, self.limits.packet_bytes_max, context, web)

    def _deafen(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def stop(self) -> None:
        """Stop listening, close all connections and save; wills are not published."""
        if not self._running:
            return
        self._running = False
        self._deafen()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_at = None
        for peer in self._behind:  # what was read before the stop still counts
            for packet in peer.unheard + peer.feed(b"", self.limits.turn_packets_max):
                self._carry_out(self._broker.receive(peer.conn, packet, time.monotonic_ns()))
        self._behind.clear()
        self._carry_out(self._broker.stop(time.monotonic_ns()))
        self._write()
        if self._saving is not None:
            await self._saving.stop()
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

    def set_trust(self, trust: Trust) -> None:
        """New accounts, rights and certificates, at once: who may not log in any more is closed.

        If those who vouch for clients have changed, or whom they have revoked, every client with a
        certificate is closed and has to show it again.
        """
        now = time.monotonic_ns()
        again = trust.authorities != self._trust.authorities
        self._trust = trust
        self._carry_out(self._broker.set_access(trust.access, now))
        for peer in [*self._peers.values()] if again else ():
            if peer.certificate is not None:
                self._carry_out(self._broker.close(peer.conn, Reason.RIGHTS_GONE, now))
        self._set_timer()

    # -- called by the peers ----------------------------------------------------------------------

    def opened(self, peer: Peer) -> None:
        """A connection was accepted."""
        if not self._running:
            peer.transport.abort()
            return
        self._last_conn += 1
        peer.conn = self._last_conn
        self._peers[peer.conn] = peer
        origin = origin_of(peer.address)
        self._carry_out(self._broker.connected(peer.conn, time.monotonic_ns(), origin))
        self._set_timer()

    def arrived(self, peer: Peer, data: bytes) -> None:
        """Bytes arrived."""
        if peer.layers and peer.shaking:
            peer.hold(data)
            self._hear_soon(peer)
            return
        self._hear(peer, data)
        self._set_timer()

    def lost(self, peer: Peer) -> None:
        """The connection is gone, by either side."""
        self._unsent.forget(peer)
        if self._closing.pop(peer.conn, None) is None and self._running:
            self._peers.pop(peer.conn, None)
            self._carry_out(self._broker.disconnected(peer.conn, time.monotonic_ns()))
            self._set_timer()
        self._peers.pop(peer.conn, None)
        self._empty.set()

    # -- turns ------------------------------------------------------------------------------------

    def _hear(self, peer: Peer, data: bytes) -> None:
        """Carry out a turn's worth of what a peer says; read on only if that was all of it."""
        now = time.monotonic_ns()
        receive = self._broker.receive
        conn = peer.conn
        packets = peer.unheard
        if data or not packets:
            packets = packets + peer.feed(data, self.limits.turn_packets_max)
            if peer.layers:  # they answer by themselves
                self._look_at(peer)
        if peer.layers and packets and not peer.certified:
            self._certify(peer)
        carried_out = 0
        for number, packet in enumerate(packets, 1):
            effects = receive(conn, packet, now)
            self._carry_out(effects)
            carried_out += len(effects)
            if peer.paused or carried_out > TURN_EFFECTS_MAX:
                peer.unheard = packets[number:]
                if not peer.paused:
                    self._hear_soon(peer)
                return
        peer.unheard = []
        if peer.decoder.more or (peer.layers and peer.more):
            self._hear_soon(peer)
        elif peer.layers and peer.fault is not None:
            self._break_off(peer, now)
        else:
            peer.transport.resume_reading()

    def _certify(self, peer: Peer) -> None:
        """Tell the machine who the client's certificate says it is, before its first packet."""
        peer.certified = True
        name = peer.certificate
        if name is not None:
            self._broker.certified(peer.conn, name)

    def _break_off(self, peer: Peer, now: Instant) -> None:
        """A layer below MQTT has ended, by the client's wish or by its fault."""
        fault = peer.fault
        if fault is None or peer.conn not in self._peers:
            return
        reason, _ = fault
        if reason is Reason.LOST:
            self._end(peer)
            self._carry_out(self._broker.disconnected(peer.conn, now))
            return
        self._carry_out(self._broker.close(peer.conn, reason, now))

    def _hear_soon(self, peer: Peer) -> None:
        peer.transport.pause_reading()
        if not self._behind:
            self._loop.call_soon(self._hear_behind)
        self._behind.append(peer)

    def _hear_behind(self) -> None:
        peers = self._behind
        self._behind = []
        handshakes = 0
        for peer in peers:
            if peer.conn not in self._peers:
                continue
            if peer.layers and peer.shaking:
                handshakes += 1
                if handshakes > TURN_HANDSHAKES_MAX:
                    self._hear_soon(peer)
                    continue
            self._hear(peer, b"")
        if self._running:
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
                if effect.reason not in ORDINARY:
                    why = peer.fault[1] if peer.fault else effect.reason.value
                    who = f"{effect.who} at {peer.address}" if effect.who else peer.address
                    self._tell(effect.reason.name, f"{who}: {why}")
                self._end(peer)
            elif type(effect) is Pause:
                peer.paused = True
                peer.transport.pause_reading()
                self._tell(
                    "pause",
                    f"client {effect.client_id!r} says more than {self.limits.packets_per_s_max} "
                    f"packets or {self.limits.bytes_per_s_max} bytes a second and is read no "
                    f"faster; {self.counters.pauses} pauses of clients so far",
                )
            else:
                peer.paused = False
                self._hear_soon(peer)

    def _tell(self, kind: str, text: str) -> None:
        line = self._notices.line(kind, text, time.monotonic_ns())
        if line is not None:
            _log.warning("%s", line)

    def _end(self, peer: Peer) -> None:
        del self._peers[peer.conn]
        self._closing[peer.conn] = peer
        peer.finish()

    def _write(self) -> None:
        """Write what this turn of the loop has collected; close those who do not read."""
        peers = self._unwritten
        self._unwritten = []
        for peer in peers:
            if peer.unwritten:
                self._write_to(peer)

    def _write_to(self, peer: Peer) -> None:
        peer.flush()
        self._look_at(peer)

    def _look_at(self, peer: Peer) -> None:
        """Close whoever does not read what is sent to it."""
        if peer.unsent_bytes > self.limits.write_buffer_bytes_max:
            self._give_up(peer)
        while (furthest := self._unsent.look(peer)) is not None:
            self._give_up(furthest)

    def _give_up(self, peer: Peer) -> None:
        peer.transport.abort()
        if peer.conn in self._peers:
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


def _no_listener(endpoint: Endpoint, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        place = f"port {endpoint.port} on {endpoint.host}"
        return f"{place} is in use; stop what listens there, or choose port 0"
    why = os.strerror(error.errno) if error.errno else error
    return f"cannot listen on {endpoint}: {why}"
