"""The embedded broker on the network: a thin asyncio shell around `machine.Broker`.

Everything runs in one event loop. What the machine wants sent is collected per connection and
written once per turn of the loop: a write is a system call, and costs more than the packet.

Of one connection a turn carries out `turn_packets_max` packets, and none after the machine's
`Pause`. What was read beyond that waits, and its socket is not read meanwhile: then the kernel's
buffers fill up, and the sender's.

A fault of ours while one connection is served closes that one and is logged and counted; the others
go on, or whoever knows of a bug could end everybody's broker as often as he likes. The machine may
be left half way: connections it has given up are closed, and what it wanted sent in that turn is
lost until its receiver comes back; no decision of a mesh depends on it. A connection that it cannot
give up, and a fault that is nobody's (timers, saving), end the process (`process.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial

from demesh.broker.alarm import Alarm
from demesh.broker.codec import encode
from demesh.broker.limits import (
    TURN_BYTES_MAX,
    TURN_EFFECTS_MAX,
    TURN_HANDSHAKES_MAX,
    Counters,
    Limits,
    Reason,
)
from demesh.broker.listening import listen
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
from demesh.ports import Instant

_log = logging.getLogger("demesh.broker")


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
        self._alarm = Alarm(self._tick)
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
                listener, bound = await listen(endpoint, partial(self._peer, endpoint))
                self._listeners.append(listener)
                endpoints.append(bound)
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

    def _peer(self, endpoint: Endpoint) -> Peer:
        trust = self._trust
        web = WebSocket(trusting=trust.trusting, secure=endpoint.secure) if endpoint.web else None
        context = trust.context if endpoint.secure else None
        return Peer(self, self.limits.packet_bytes_max, context, web)

    def _deafen(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._alarm.set(None)

    async def stop(self) -> None:
        """Stop listening, close all connections and save; wills are not published."""
        if not self._running:
            return
        self._running = False
        self._deafen()
        for peer in self._behind:  # what was read before the stop still counts
            self._serve(peer, self._hear_last, peer)
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
            self._abort()

    async def abandon(self) -> None:
        """End as by a kill: nobody is told, and nothing more is saved."""
        self._running = False
        self._deafen()
        self._abort()
        if self._saving is not None:
            await self._saving.abandon()

    def _abort(self) -> None:
        for peer in [*self._peers.values(), *self._closing.values()]:
            peer.transport.abort()
        self._peers.clear()
        self._closing.clear()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
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
        now = time.monotonic_ns()
        self._serve(peer, lambda: self._carry_out(self._broker.connected(peer.conn, now, origin)))
        self._set_timer()

    def arrived(self, peer: Peer, data: bytes) -> None:
        """Bytes arrived."""
        if peer.layers and peer.shaking:
            peer.hold(data)
            self._hear_soon(peer)
            return
        self._serve(peer, self._hear, peer, data)
        self._set_timer()

    def lost(self, peer: Peer) -> None:
        """The connection is gone, by either side."""
        self._unsent.forget(peer)
        if self._closing.pop(peer.conn, None) is None and self._running:
            self._peers.pop(peer.conn, None)
            now = time.monotonic_ns()
            self._serve(peer, lambda: self._carry_out(self._broker.disconnected(peer.conn, now)))
            self._set_timer()
        self._peers.pop(peer.conn, None)
        self._empty.set()

    # -- faults of ours ---------------------------------------------------------------------------

    def _serve(self, peer: Peer, act: Callable[..., None], *values: object) -> None:
        try:
            act(*values)
        except Exception:  # noqa: BLE001 (whatever it is: it is ours, and came up for this peer)
            self._fail(peer)

    def _fail(self, peer: Peer) -> None:
        """Close the one for whom a fault of ours came up, and whom the machine gave up by it."""
        now = time.monotonic_ns()
        text = f"a fault of the broker itself, please report it; {peer.address} is cut off"
        self._tell("fault", text, logging.ERROR)
        peer.unwritten.clear()
        peer.transport.abort()
        if self._peers.pop(peer.conn, None) is not None:
            self._closing[peer.conn] = peer
        try:
            self._carry_out(self._broker.close(peer.conn, Reason.FAULT, now))
        except Exception:
            if peer.conn in self._broker:
                raise
        for other in [*self._peers.values()]:
            if other.conn not in self._broker:
                self._end(other)

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

    def _hear_last(self, peer: Peer) -> None:
        for packet in peer.unheard + peer.feed(b"", self.limits.turn_packets_max):
            self._carry_out(self._broker.receive(peer.conn, packet, time.monotonic_ns()))

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
            self._serve(peer, self._hear, peer, b"")
        if self._running:
            self._set_timer()

    # -- carrying out -----------------------------------------------------------------------------

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            peer = self._peers.get(effect.conn)
            if peer is None:
                continue
            if type(effect) is Transmit:
                try:
                    if not peer.unwritten:
                        if not self._unwritten:
                            self._loop.call_soon(self._write)
                        self._unwritten.append(peer)
                    wire = encode(effect.packet, peer.decoder.level)
                    peer.unwritten.append(wire)
                    peer.unwritten_bytes += len(wire)
                    if peer.unwritten_bytes > TURN_BYTES_MAX:
                        self._write_to(peer)
                except Exception:  # noqa: BLE001 (as in `_serve`)
                    self._fail(peer)
            elif type(effect) is Close:
                if not effect.reason.ordinary:
                    why = peer.fault[1] if peer.fault else effect.reason.value
                    who = f"{effect.who} at {peer.address}" if effect.who else peer.address
                    self._tell(effect.reason.name, f"{who}: {why}")
                self._serve(peer, self._end, peer)
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

    def _tell(self, kind: str, text: str, level: int = logging.WARNING) -> None:
        line = self._notices.line(kind, text, time.monotonic_ns())
        if line is not None:
            _log.log(level, "%s", line, exc_info=level == logging.ERROR)

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
                self._serve(peer, self._write_to, peer)

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
        self._alarm.set(self._broker.deadline())

    def _tick(self) -> None:
        self._carry_out(self._broker.tick(time.monotonic_ns()))
        self._set_timer()
