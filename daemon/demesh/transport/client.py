"""One connection to one broker: paho keeps the MQTT state, asyncio the socket and the clock.

Theory of operation. paho works at a `Pipe`, in memory: what one recv brought is taken apart there,
and all that is to be said in one turn of the loop leaves by one send. Publications come from the
outbox as its window allows, and are ours until acknowledged or until the connection ends.

What ends a connection stands in `_answers` behind all that came before, so nothing that happens
between two awaits is missed. The broker's fault is an OSError; ours is what it was, and ends us.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from paho.mqtt.client import error_string
from paho.mqtt.reasoncodes import ReasonCode

from demesh.errors import ConfigError
from demesh.ports import Received
from demesh.transport.outbox import Outbox, Parcel
from demesh.transport.pipe import Pipe, PipedClient
from demesh.transport.sieve import Sieve

# Without it, Nagle against delayed acknowledgements makes a QoS 1 round trip 44 ms instead of 1.
# asyncio sets it by itself.
SOCKET_OPTIONS = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)

# One and a half of it in silence and the broker publishes our will: a dead board is known in 30 s.
KEEPALIVE_S = 20

# TCP, CONNECT, SUBSCRIBE each, and from one acknowledgement to the next while any is missing; poor
# Wi-Fi stalls for seconds, a dead broker for ever.
REQUEST_S = 10.0

# How late we may be in noticing that something is overdue.
TICK_S = 1.0

# A second address of one name is tried when the first has been silent for so long (RFC 8305).
NEXT_ADDRESS_S = 0.25

# A few hundred messages: 1 ms to see that none is worth anything. With less, a flood costs a
# system call for every few of them; with more, our own votes wait behind what others say.
READ_BYTES = 64 * 1024

# Messages taken from a broker that reads none of our answers. A real one stops at its own window,
# hundreds; these are 4 MB of answers to be kept.
UNANSWERED_MAX = 10_000

# CONNACK refusals that no waiting mends (MQTT 5 codes, to which paho maps those of 3.1.1).
LOGIN_REFUSED = (134, 135)


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


class Refused(ConnectionError):
    """The broker answered CONNECT with this reason code."""

    def __init__(self, reason: ReasonCode) -> None:
        super().__init__(f"the broker refused the connection: {reason}")
        self.code = reason.value


class Connection(asyncio.BufferedProtocol):
    """A connection at work; `connected` makes it."""

    def __init__(
        self,
        link: Link,
        outbox: Outbox,
        deliver: Callable[[Received], None],
    ) -> None:
        self._link, self._outbox = link, outbox
        self._sieve = Sieve(deliver, link.least_qos, link.broker)
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._answers: asyncio.Queue[list[ReasonCode] | Exception] = asyncio.Queue()
        self._under_way: dict[int, Parcel] = {}
        self._heard = 0.0  # the latest acknowledgement, or since when the first is waited for
        self._open, self._ready, self._scheduled = True, False, False
        self._came = b""  # by the last recv
        self._unanswered = 0  # messages since the broker last read what we say
        self._timer: asyncio.TimerHandle | None = None
        self._pipe = Pipe()
        self._paho = paho = PipedClient(link.client_id, self._pipe)
        paho.username_pw_set(link.username, link.password)
        if link.will:
            paho.will_set(*link.will, qos=1)
        paho.on_connect = lambda _, __, ___, reason, ____: self._answers.put_nowait([reason])
        paho.on_subscribe = lambda _, __, ___, granted, ____: self._answers.put_nowait(granted)
        paho.on_publish = lambda _, __, packet_id, ___, ____: self._acknowledged(packet_id)
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
        self._paho.connect(self._link.host, self._link.port, KEEPALIVE_S)
        self._tick()
        for reason in await self._answer(REQUEST_S):
            if reason.is_failure:
                raise Refused(reason)
        if self._link.subscriptions:
            self._paho.subscribe([(topic, 1) for topic in self._link.subscriptions])
            granted = await self._answer(REQUEST_S)
            for topic, code in zip(self._link.subscriptions, granted, strict=False):
                if code.is_failure:
                    raise ConnectionError(f"the subscription to {topic} was refused")
                if code.value < self._link.least_qos:
                    raise ConnectionError(
                        f"the broker grants QoS {code.value} only; a mesh needs QoS 1"
                    )
        self._ready = True
        self.wake()

    async def ended(self) -> None:
        """Wait until the connection is lost, and raise why."""
        while True:
            await self._answer(None)

    def close(self) -> None:
        """Say goodbye, if there is still somebody, and give back what was not acknowledged."""
        if self._open:
            self._paho.disconnect()
            self._paho.loop_write()
            self._transport.write(bytes(self._pipe.unsent))
            self._end(ConnectionError("we hung up"))
        for parcel in reversed(self._under_way.values()):
            self._outbox.failed(parcel)
        self._under_way.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._came = self._buffer[:nbytes].tobytes()
        self._run(self._read)

    def pause_writing(self) -> None:
        self._pipe.paused = True

    def resume_writing(self) -> None:
        self._pipe.paused = False
        self.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionError("the broker hung up"))

    async def _answer(self, seconds: float | None) -> list[ReasonCode]:
        async with asyncio.timeout(seconds):
            answer = await self._answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

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
        others, answers = self._sieve.feed(self._came)
        self._pipe.unsent += answers
        self._unanswered += len(answers) // 4  # bytes of a PUBACK
        self._pipe.fill(others)
        try:
            while self._pipe.readable:
                if code := self._paho.loop_read():
                    raise ConnectionError(error_string(code))
        except (LookupError, ValueError, struct.error) as error:
            raise ConnectionError(f"the broker sent what is not MQTT: {error}") from error
        if not self._pipe.paused:
            self._unanswered = 0
        if self._unanswered > UNANSWERED_MAX:
            raise ConnectionError("the broker does not read")
        self._write()

    def _write(self) -> None:
        self._scheduled = True  # what paho queues meanwhile leaves below
        while True:
            taken = self._ready and self._fill()
            self._paho.loop_write()  # a view is done with once it is written, and makes room
            if not taken:
                break
        self._scheduled = False
        if self._pipe.unsent:
            unsent, self._pipe.unsent = self._pipe.unsent, bytearray()
            self._transport.write(unsent)
        if self._paho.want_write() and not self._pipe.paused:
            self.wake()

    def _fill(self) -> bool:
        """Hand paho what the window has room for; whether that was anything."""
        taken = False
        while parcel := self._outbox.take():
            if not self._under_way:
                self._heard = self._loop.time()
            what = parcel.publish
            sent = self._paho.publish(what.topic, what.payload, what.qos, what.retain)
            self._under_way[sent.mid] = parcel
            taken = True
        return taken

    def _acknowledged(self, packet_id: int) -> None:
        if self._under_way.pop(packet_id, None):
            self._heard = self._loop.time()
            self._outbox.sent()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._run, self._tick)
        if self._paho.loop_misc():
            raise ConnectionError("the broker is silent")
        if self._under_way and self._loop.time() - self._heard > REQUEST_S:
            raise ConnectionError("the broker does not acknowledge")


@asynccontextmanager
async def connected(
    link: Link,
    outbox: Outbox,
    deliver: Callable[[Received], None],
) -> AsyncIterator[Connection]:
    """A connection with its subscriptions in place, which empties `outbox`; raises OSError."""
    async with asyncio.timeout(REQUEST_S):
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(link, outbox, deliver),
            link.host,
            link.port,
            happy_eyeballs_delay=NEXT_ADDRESS_S,
        )
    try:
        await connection.start()
        yield connection
    finally:
        connection.close()


def reason_of(error: Exception) -> str:
    """What went wrong, in the system's words: without numbers, addresses and repetitions."""
    text = str(error)
    if number := re.search(r"\[Errno (\d+)\]", text):
        return os.strerror(int(number[1]))
    return re.sub(r"^\[[^]]*\] ", "", text) or "it does not answer"


def check_login(link: Link, code: int) -> None:
    """Raises ConfigError if the broker refused name and password: no waiting mends that."""
    if code in LOGIN_REFUSED:
        raise ConfigError(
            f"{link.url}: the broker refused the login; check [broker] username, password_file"
        ) from None
