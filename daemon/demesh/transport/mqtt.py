"""One MQTT broker behind a small port: bytes in, bytes out, connected again and again.

Knows nothing of the protocol. Delivers `Received` and `Linked`; publishes what it is given at least
once. Theory of operation: one job holds the connection; SENDERS jobs publish, so that many QoS 1
round trips overlap. When the connection ends, all their waits end with it, and what was not
acknowledged goes back to the front of the queue: a duplicate harms nobody, a loss costs a timeout.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import aiomqtt

from demesh.errors import TemporaryError
from demesh.ports import Linked, Publish, Received
from demesh.transport.client import REQUEST_S, Link, check_login, new_client, reason_of, value_of
from demesh.transport.outbox import Outbox

# A broker restarts in about a second: try soon, then spare radio and broker. Half of it is jitter,
# or a street of boards comes back in one instant.
BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 15.0

# A connection that lasts shorter is not a success: two daemons with one client id throw each other
# out, and must slow down.
STEADY_S = 10.0

# QoS 1 publications under way at once: at 30 ms a round trip that is 500 a second. paho holds 20.
SENDERS = 16


class MqttTransport:
    """The connection to one broker; its jobs run in the runtime's task group."""

    def __init__(
        self,
        link: Link,
        deliver: Callable[[Received | Linked], None],
        report: Callable[[str], None],
        randomness: random.Random,
    ) -> None:
        self._link, self._deliver, self._report = link, deliver, report
        self._random = randomness
        self._outbox = Outbox()
        self._client: aiomqtt.Client | None = None
        self._up = asyncio.Event()
        self._waits: set[asyncio.Timeout] = set()
        self._was_up = False
        self._stopping = False
        self._complaint = ""

    @property
    def dropped(self) -> int:
        """Publications given up so far: overflow, or refused again and again."""
        return self._outbox.dropped

    def jobs(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        """What to run, by name, until cancelled; raises TemporaryError, ConfigError."""
        name = f"broker-{self._link.broker}"
        senders = [(f"{name}-send-{n}", self._send_forever()) for n in range(SENDERS)]
        return [(name, self._connect_forever()), *senders]

    def publish(self, publish: Publish) -> None:
        """Queue a publication; never blocks."""
        self._outbox.put(publish)

    async def stop(self, seconds: float) -> None:
        """Let what is queued leave, if the link is up; the jobs may be cancelled afterwards."""
        self._stopping = True
        if self._client is not None:
            await self._outbox.emptied(seconds)

    async def _connect_forever(self) -> None:
        clock = asyncio.get_running_loop().time
        started, delay = clock(), BACKOFF_FIRST_S
        while not self._stopping:
            begun = clock()
            try:
                async with new_client(self._link, self._deliver, SENDERS) as client:
                    await self._serve(client)
            except aiomqtt.MqttError as error:
                self._down(error, clock() - started)
            finally:
                self._lost()
            delay = BACKOFF_FIRST_S if clock() - begun > STEADY_S else delay
            await asyncio.sleep(delay * self._random.uniform(0.5, 1.0))
            delay = min(2 * delay, BACKOFF_MAX_S)

    async def _serve(self, client: aiomqtt.Client) -> None:
        if self._link.subscriptions:
            granted = await client.subscribe([(topic, 1) for topic in self._link.subscriptions])
            for topic, code in zip(self._link.subscriptions, granted, strict=True):
                if value_of(code) >= 128:
                    raise aiomqtt.MqttError(f"the subscription to {topic} was refused")
        self._client, self._was_up, self._complaint = client, True, ""
        self._up.set()
        self._report(f"connected to {self._link.url}")
        self._deliver(Linked(self._link.broker, up=True))
        async for _ in client.messages:  # ends by raising when the connection ends
            raise AssertionError("the funnel keeps this queue empty")

    def _down(self, error: aiomqtt.MqttError, waited_s: float) -> None:
        """Say once what is wrong; before the first connection, give up in time."""
        url, reason = self._link.url, reason_of(error)
        if not self._was_up:
            check_login(self._link, error)
            if 0 < self._link.wait_s <= waited_s:
                raise TemporaryError(
                    f"{url}: no broker: {reason}; start it, or correct [broker] url"
                )
        if reason != self._complaint:
            self._complaint = reason
            what = "lost the broker" if self._client else "no broker"
            self._report(f"{what} at {url}: {reason}; trying again")

    def _lost(self) -> None:
        """The connection is gone: end every wait for an acknowledgement, tell the node."""
        if self._client is None:
            return
        self._client = None
        self._up.clear()
        now = asyncio.get_running_loop().time()
        for wait in self._waits:
            if not wait.expired():  # else it has ended, and its task was not told yet
                wait.reschedule(now)
        self._deliver(Linked(self._link.broker, up=False))

    async def _send_forever(self) -> None:
        while True:
            await self._outbox.claim()
            while self._client is None:
                await self._up.wait()
            await self._send(self._client)

    async def _send(self, client: aiomqtt.Client) -> None:
        parcel = self._outbox.get()
        what = parcel.publish
        try:
            async with asyncio.timeout(REQUEST_S) as wait:
                self._waits.add(wait)
                try:
                    await client.publish(
                        what.topic, what.payload, what.qos, what.retain, timeout=2 * REQUEST_S
                    )
                finally:
                    self._waits.discard(wait)
        except (aiomqtt.MqttError, TimeoutError):
            self._outbox.failed(parcel)
        else:
            self._outbox.sent()
