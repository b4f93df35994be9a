"""One MQTT broker behind a small port: bytes in, bytes out, connected again and again.

Knows nothing of the protocol. Delivers `Received` and `Linked`; publishes what it is given at least
once: what was not acknowledged when a connection ends goes back to the front of the queue. A
duplicate harms nobody, a loss costs a timeout.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from demesh.errors import TemporaryError
from demesh.ports import Linked, Publish, Received
from demesh.transport.client import Connection, Link, Refused, check_login, connected, reason_of
from demesh.transport.outbox import Outbox

# A broker restarts in about a second: try soon, then spare radio and broker. Half of it is jitter,
# or a street of boards comes back in one instant.
BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 15.0

# A connection that lasts shorter is not a success: two daemons with one client id throw each other
# out, and must slow down.
STEADY_S = 10.0


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
        self._connection: Connection | None = None
        self._unread = 0  # by connections that have ended
        self._was_up = False
        self._stopping = False
        self._complaint = ""

    @property
    def dropped(self) -> int:
        """Publications given up so far: overflow, or refused again and again."""
        return self._outbox.dropped

    @property
    def unread(self) -> int:
        """Publications of others that were dropped unread so far."""
        return self._unread + (self._connection.unread if self._connection else 0)

    def jobs(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        """What to run, by name, until cancelled; raises TemporaryError, ConfigError."""
        return [(f"broker-{self._link.broker}", self._connect_forever())]

    def publish(self, publish: Publish) -> None:
        """Queue a publication; never blocks."""
        self._outbox.put(publish)
        if self._connection is not None:
            self._connection.wake()

    async def stop(self, seconds: float) -> None:
        """Let what is queued leave, if the link is up; the jobs may be cancelled afterwards."""
        self._stopping = True
        if self._connection is not None:
            await self._outbox.emptied(seconds)

    async def _connect_forever(self) -> None:
        clock = asyncio.get_running_loop().time
        started, delay = clock(), BACKOFF_FIRST_S
        while not self._stopping:
            begun = clock()
            try:
                async with connected(self._link, self._outbox, self._deliver) as connection:
                    self._up(connection)
                    await connection.ended()
            except OSError as error:
                self._complain(error, clock() - started)
            finally:
                self._down()
            delay = BACKOFF_FIRST_S if clock() - begun > STEADY_S else delay
            await asyncio.sleep(delay * self._random.uniform(0.5, 1.0))
            delay = min(2 * delay, BACKOFF_MAX_S)

    def _up(self, connection: Connection) -> None:
        self._connection, self._was_up, self._complaint = connection, True, ""
        self._report(f"connected to {self._link.url}")
        self._deliver(Linked(self._link.broker, up=True))

    def _complain(self, error: OSError, waited_s: float) -> None:
        """Say once what is wrong; before the first connection, give up in time."""
        url, reason = self._link.url, reason_of(error)
        if not self._was_up:
            if isinstance(error, Refused):
                check_login(self._link, error.code)
            if 0 < self._link.wait_s <= waited_s:
                raise TemporaryError(
                    f"{url}: no broker: {reason}; start it, or correct [broker] url"
                )
        if reason != self._complaint:
            self._complaint = reason
            what = "lost the broker" if self._connection else "no broker"
            self._report(f"{what} at {url}: {reason}; trying again")

    def _down(self) -> None:
        if self._connection is not None:
            self._unread += self._connection.unread
            self._connection = None
            self._deliver(Linked(self._link.broker, up=False))
