"""One connection to one broker: asyncio keeps the socket and the clock, paho makes the handshake.

Theory of operation. paho works at a `Pipe`, in memory, for CONNECT, SUBSCRIBE and what answers
them. All that comes often is ours: what one recv brought is taken apart by the sieve, and all that
is to be said in one turn of the loop leaves by one send. Publications come from the outbox as its
window allows, and are ours until acknowledged or until the connection ends.

What ends a connection stands in `_answers` behind all that came before, so nothing that happens
between two awaits is missed. The broker's fault is an OSError; ours is what it was, and ends us.

When it counts as dead says `patience.py`; beside it TCP gives up, where the system can be told to,
when the other end has confirmed no byte for a keepalive and REQUEST_S.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from paho.mqtt.client import error_string
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from demesh.ports import Received
from demesh.transport import patience
from demesh.transport.outbox import WINDOW, Outbox, Parcel
from demesh.transport.packets import PINGREQ, Level, compose
from demesh.transport.patience import Patience
from demesh.transport.pipe import Pipe, PipedClient
from demesh.transport.reasons import (
    Refused,
    TakenOverError,
    UnansweredError,
    reason_of,
    refusal,
)
from demesh.transport.sieve import Sieve

# One and a half of it in silence and the broker publishes our will: a dead board is known in 30 s.
KEEPALIVE_S = 20

# Certificates are some kilobytes, there and back, and slow boards take a second to check them.
HANDSHAKE_S = 20.0

# How late we may be in noticing that something is overdue.
TICK_S = 1.0

# A second address of one name is tried when the first has been silent for so long (RFC 8305).
NEXT_ADDRESS_S = 0.25

# A few hundred messages: 1 ms to see that none is worth anything. With less, a flood costs a
# system call for every few of them; with more, our own votes wait behind what others say.
READ_BYTES = 64 * 1024

# So much is handed down before the line has taken it: on a slow one a vote waits behind what
# people read for no longer than 16 s, on a fast one it is a system call for 50 votes.
UNSENT_BYTES_MAX = 16 * 1024

# The same in the kernel, of what it has not sent either.
KERNEL_BYTES_MAX = 4 * 1024

# Messages taken from a broker that reads none of our answers. A real one stops at its own window,
# hundreds; these are 4 MB of answers to be kept.
UNANSWERED_MAX = 10_000

# A record of TLS, where an answer of MQTT is expected: an alert.
_TLS_ALERT = b"\x15\x03"


@dataclass(frozen=True, slots=True)
class Link:
    """How to reach a broker and what to say first. `wait_s`: see `config.BrokerSection`."""

    host: str
    port: int
    url: str
    client_id: str
    subscriptions: tuple[str, ...]
    will: tuple[str, bytes] | None = None
    username: str | None = None
    password: str | None = None
    wait_s: int = 30
    broker: int = 0
    least_qos: int = 0  # publications delivered below it are dropped unread
    tls: ssl.SSLContext | None = None
    keepalive_s: int = KEEPALIVE_S
    lasting: bool = True  # the broker keeps subscriptions and messages while we are away


@dataclass(frozen=True, slots=True)
class Desk:
    """Whom a connection works for: what it takes letters from and tells of others'."""

    outbox: Outbox
    deliver: Callable[[Received], None]
    refused: Callable[[str, str], None] = lambda topic, reason: None  # what it does not take, why


class Connection(asyncio.BufferedProtocol):
    """A connection at work; `connected` makes it."""

    def __init__(self, link: Link, desk: Desk, level: Level) -> None:
        self._link, self._desk, self._level = link, desk, level
        self._outbox = desk.outbox
        self._sieve = Sieve(
            desk.deliver, self._acknowledged, link.least_qos, link.broker, self._level
        )
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._answers: asyncio.Queue[tuple[str, list[ReasonCode]] | Exception] = asyncio.Queue()
        self._under_way: dict[int, tuple[Parcel, int]] = {}
        self._packet_id = 1  # the subscription's, which is answered before the next one is used
        self._packet_bytes_max: int | None = None
        self._keeps = True  # retained messages
        self._patience = Patience(link.keepalive_s, self._loop.time())
        self._open, self._ready, self._scheduled = True, False, False
        self._came = b""  # by the last recv
        self._unanswered = 0  # messages since the broker last read what we say
        self._timer: asyncio.TimerHandle | None = None
        self._pipe = Pipe()
        self._paho = paho = PipedClient(link.client_id, self._pipe, level, link.lasting)
        paho.username_pw_set(link.username, link.password)
        if link.will:
            paho.will_set(*link.will, qos=1)
        paho.on_connect = lambda _, __, ___, reason, props: self._welcomed(reason, props)
        paho.on_subscribe = lambda _, __, ___, codes, ____: self._answers.put_nowait(
            ("SUBACK", codes)
        )
        paho.on_disconnect = lambda _, __, flags, reason, ____: self._dismissed(
            reason, flags.is_disconnect_packet_from_server
        )
        paho.on_socket_register_write = lambda _, __, ___: self.wake()

    @property
    def unread(self) -> int:
        """Publications dropped without a look at them."""
        return self._sieve.unread

    def wake(self) -> None:
        """Something is to be sent: it leaves with all else that comes up in this turn."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run, self._write)

    async def start(self) -> None:
        """Say who we are and what we want to hear; raises OSError."""
        self._outbox.window = WINDOW
        self._paho.greet(self._link.host, self._link.port, self._link.keepalive_s)
        self._tick()
        try:
            (welcome,) = await self._answer("CONNACK", 1)
        except TimeoutError:
            raise
        except OSError as error:
            hint = "" if self._came or isinstance(error, ssl.SSLError) else self._hint()
            raise UnansweredError(reason_of(error) + hint) from error
        if welcome.is_failure:
            raise Refused(welcome)
        if self._link.least_qos and not self._keeps:
            raise ConnectionError("the broker keeps no retained messages; a mesh needs them")
        if self._link.subscriptions:
            self._paho.listen(self._link.subscriptions)
            granted = await self._answer("SUBACK", len(self._link.subscriptions))
            for topic, code in zip(self._link.subscriptions, granted, strict=True):
                if code.is_failure:
                    raise ConnectionError(f"the subscription to {topic} was refused: {code}")
                if code.value < self._link.least_qos:
                    raise ConnectionError(
                        f"the broker grants QoS {code.value} only; a mesh needs QoS 1"
                    )
        self._ready = True
        self.wake()

    def _hint(self) -> str:
        """Why a broker may hang up without a word."""
        if self._link.tls is None:
            return "; does it want TLS (mqtts://)?"
        return "; does it want another client_certificate, or one at all?"

    async def ended(self) -> None:
        """Wait until the connection is lost, and raise why."""
        while True:
            answer = await self._answers.get()
            if isinstance(answer, Exception):
                raise answer

    def close(self) -> None:
        """Say goodbye, if there is still somebody, and give back what was not acknowledged."""
        if self._open:
            self._paho.disconnect()
            self._paho.loop_write()
            self._transport.write(bytes(self._pipe.unsent))
            self._end(ConnectionError("we hung up"))
        for parcel, _ in reversed(self._under_way.values()):
            self._outbox.failed(parcel)
        self._under_way.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        if (plug := transport.get_extra_info("socket")) is not None:
            patience_ms = 1000 * (self._link.keepalive_s + round(patience.REQUEST_S))
            for name, value in (
                ("TCP_NODELAY", 1),  # or a round trip at QoS 1 takes 44 ms instead of 1
                ("TCP_USER_TIMEOUT", patience_ms),
                ("TCP_NOTSENT_LOWAT", KERNEL_BYTES_MAX),
            ):
                if hasattr(socket, name):
                    plug.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._came = self._buffer[:nbytes].tobytes()
        self._patience.heard(self._loop.time())
        self._run(self._read)

    def pause_writing(self) -> None:
        self._pipe.paused = True

    def resume_writing(self) -> None:
        self._pipe.paused = False
        self.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionError("the broker hung up"))

    async def _answer(self, kind: str, count: int) -> list[ReasonCode]:
        """The next one, which must be this; while others come, it may be behind them."""
        asked_at = self._loop.time()
        while True:
            try:
                async with asyncio.timeout(patience.REQUEST_S):
                    answer = await self._answers.get()
            except TimeoutError:
                if not self._patience.talks(asked_at, self._loop.time()):
                    raise
            else:
                if isinstance(answer, Exception):
                    raise answer
                came, codes = answer
                if (came, len(codes)) != (kind, count):
                    raise ConnectionError(f"the broker answers what nobody asked: {came}")
                return codes

    def _welcomed(self, reason: ReasonCode, properties: Properties) -> None:
        """CONNACK, with what the broker cannot do."""
        given = vars(properties).get
        mine = self._link.keepalive_s  # more is allowed to be asked, and none of our patience
        self._patience.keepalive_s = min(mine, given("ServerKeepAlive") or mine)
        self._outbox.window = min(WINDOW, given("ReceiveMaximum", WINDOW))
        self._packet_bytes_max = given("MaximumPacketSize")
        self._keeps = bool(given("RetainAvailable", True))
        self._answers.put_nowait(("CONNACK", [reason]))

    def _dismissed(self, reason: ReasonCode, by_broker: bool) -> None:
        if by_broker:
            taken_over = reason.value == TakenOverError.code
            why = ConnectionError(f"the broker ends the connection: {refusal(reason)}")
            self._end(TakenOverError() if taken_over else why)

    def _run(self, step: Callable[[], None]) -> None:
        """One step of the loop; what it raises ends the connection and is raised by `ended`."""
        if self._open:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - all of it is raised again, by `ended`
                self._end(error)

    def _end(self, error: Exception) -> None:
        if not self._open:
            return
        self._open = False
        if self._timer:
            self._timer.cancel()
        self._answers.put_nowait(error)
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # nobody reads it
        else:
            self._transport.close()

    def _read(self) -> None:
        self._scheduled = True  # what paho answers leaves below: another turn for it costs 10 us
        if self._came.startswith(_TLS_ALERT) and not self._ready:
            raise ConnectionError("it speaks TLS there; write mqtts:// in [broker] url")
        others, answers = self._sieve.feed(self._came)
        self._pipe.unsent += answers
        self._unanswered += len(answers) // 4  # bytes of a PUBACK
        self._pipe.fill(others)
        try:
            while self._pipe.readable and self._open:
                if code := self._paho.loop_read():
                    raise ConnectionError(error_string(code))
        except OSError:
            raise
        except Exception as error:  # none of our code runs in paho but the callbacks above
            raise ConnectionError(f"the broker sent what is not MQTT: {error}") from error
        if not self._pipe.paused:
            self._unanswered = 0
        if self._unanswered > UNANSWERED_MAX:
            raise ConnectionError("the broker does not read")
        self._write()

    def _write(self) -> None:
        self._scheduled = True  # what paho queues meanwhile leaves below
        more = self._open
        while more:
            self._paho.loop_write()
            more = self._ready and self._fill()
            if self._pipe.unsent:
                unsent, self._pipe.unsent = self._pipe.unsent, bytearray()
                self._patience.said(len(unsent), self._loop.time())
                self._transport.write(unsent)
        self._scheduled = False
        if self._paho.want_write() and not self._pipe.paused:
            self.wake()

    def _fill(self) -> bool:
        """Take what the window has room for; whether more is left than the line takes at once."""
        while not self._pipe.paused:
            if len(self._pipe.unsent) >= UNSENT_BYTES_MAX:
                return True
            parcel = self._outbox.take(self._loop.time())
            if parcel is None:
                return False
            self._hand_over(parcel)
        return False

    def _hand_over(self, parcel: Parcel) -> None:
        publish = parcel.publish
        if publish.qos:
            self._packet_id = self._packet_id % 0xFFFF + 1
        packet = compose(publish, self._packet_id, self._level)
        if self._packet_bytes_max is not None and len(packet) > self._packet_bytes_max:
            self._outbox.refuse(parcel)
            self._desk.refused(publish.topic, f"it takes {self._packet_bytes_max:,} bytes at most")
            return
        self._pipe.unsent += packet
        if not publish.qos:
            self._outbox.sent(parcel)
            return
        first = not self._under_way
        mark = self._patience.asked(len(self._pipe.unsent), first, self._loop.time())
        self._under_way[self._packet_id] = parcel, mark

    def _acknowledged(self, packet_id: int, reason: int) -> None:
        parcel, mark = self._under_way.pop(packet_id, (None, 0))
        if parcel is None:
            return
        if reason < 0x80:
            self._outbox.sent(parcel)
        else:
            self._outbox.refuse(parcel)
            self._desk.refused(parcel.publish.topic, refusal(reason))
        self._patience.acknowledged(mark, self._loop.time())

    def _tick(self) -> None:
        seconds = min(TICK_S, self._patience.keepalive_s / 4)
        self._timer = self._loop.call_later(seconds, self._run, self._tick)
        if self._ready and self._patience.check(bool(self._under_way), self._loop.time()):
            self._pipe.unsent += PINGREQ
            self.wake()


@asynccontextmanager
async def connected(link: Link, desk: Desk, level: Level = Level.V5) -> AsyncIterator[Connection]:
    """A connection with its subscriptions in place, which empties the outbox; raises OSError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(patience.REQUEST_S + (HANDSHAKE_S if link.tls else 0)):
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(link, desk, level),
                link.host,
                link.port,
                happy_eyeballs_delay=NEXT_ADDRESS_S,
                ssl=link.tls,
                ssl_handshake_timeout=HANDSHAKE_S if link.tls else None,
                ssl_shutdown_timeout=TICK_S if link.tls else None,
            )
        except (ConnectionResetError, ConnectionAbortedError, BrokenPipeError) as error:
            if link.tls is None:
                raise
            raise ConnectionError("TLS does not begin; is this its port for TLS?") from error
    try:
        await connection.start()
        yield connection
    finally:
        connection.close()
