"""One MQTT broker behind a small port: bytes in, bytes out, connected again and again.

Knows nothing of the protocol. Delivers `Received` and `Linked`; publishes what it is given at least
once: what was not acknowledged when a connection ends goes back to the front of the queue. A
duplicate harms nobody, a loss costs a timeout.

MQTT 5 is tried first. A broker that says it cannot is spoken to in 3.1.1 from then on; one that
hangs up instead of an answer is tried in 3.1.1 at once, and in 5 again the next time.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

from demesh.errors import TemporaryError
from demesh.ports import Json, Linked, Received
from demesh.transport.client import Connection, Desk, Link, connected
from demesh.transport.outbox import Letter, Outbox
from demesh.transport.packets import Level
from demesh.transport.reasons import (
    LEVEL_REFUSED,
    Refused,
    TakenOverError,
    UnansweredError,
    check_login,
    reason_of,
)

# A broker restarts in about a second: try soon, then spare radio and broker. Half of it is jitter,
# or a street of boards comes back in one instant.
BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 15.0

# A broker that was there a moment ago is being started again, or its line is poor: three tries a
# second cost nothing. With fewer, one that fails every second is met only now and then.
BACKOFF_RECENT_S = 0.5
RECENT_S = 60.0

# One that was there all the time may have thrown us out for another with our client id, as not all
# of them say: two such daemons must not keep it busy.
BACKOFF_THROWN_OUT_S = 2.0

# A connection that lasts shorter is not a success: whoever cannot stay must slow down.
STEADY_S = 10.0

# Lines about one broker in a minute. If it comes and goes, all else has to be found as well.
LINES_MAX = 6
MINUTE_S = 60.0

# Topics on which a broker does not let us publish, said once each; a device has some ten.
TOLD_MAX = 64


class MqttTransport:
    """The connection to one broker; `run` belongs into the runtime's task group."""

    def __init__(
        self,
        link: Link,
        deliver: Callable[[Received | Linked], None],
        report: Callable[[str], None],
        randomness: random.Random,
    ) -> None:
        self._link, self._deliver, self._report = link, deliver, report
        self._backoff = Backoff(randomness)
        self._outbox = Outbox()
        self._desk = Desk(self._outbox, deliver, self._refused)
        self._connection: Connection | None = None
        self._level, self._outdated = Level.V5, False  # as the broker said
        self._unread = 0  # by connections that have ended
        self._connections = 0
        self._stopping = False
        self._complaint = ""
        self._told: set[str] = set()
        self._lines: deque[float] = deque(maxlen=LINES_MAX)  # when they were said
        self._unsaid = 0

    @property
    def name(self) -> str:
        """For its task."""
        return f"broker-{self._link.broker}"

    @property
    def was_up(self) -> bool:
        """Was there a connection, ever?"""
        return self._connections > 0

    @property
    def dropped(self) -> int:
        """Publications given up so far: overflow, or tried in vain again and again."""
        return self._outbox.dropped

    @property
    def unread(self) -> int:
        """Publications of others that were dropped unread so far."""
        return self._unread + (self._connection.unread if self._connection else 0)

    def state(self) -> dict[str, Json]:
        """What people may want to know of it."""
        return {
            "url": self._link.url,
            "up": self._connection is not None,
            "level": self._level.spoken,
            "connections": self._connections,
            "queued": len(self._outbox),
            "dropped": self._outbox.dropped,
            "late": self._outbox.late,
            "refused": self._outbox.refused,
            "unread": self.unread,
        }

    def post(self, letter: Letter) -> None:
        """Queue a publication; never blocks."""
        self._outbox.put(letter)
        if self._connection is not None:
            self._connection.wake()

    async def stop(self, seconds: float) -> None:
        """Let what is queued leave, if the link is up; the job may be cancelled afterwards."""
        self._stopping = True
        if self._connection is not None:
            await self._outbox.emptied(seconds)

    async def run(self, *, patient: bool = False) -> None:
        """Connect again and again, until cancelled.

        Unless `patient`, raises TemporaryError or ConfigError when it is time to give up, which is
        never after the first connection.
        """
        clock = asyncio.get_running_loop().time
        started = clock()
        while not self._stopping:
            begun, taken_over = clock(), False
            try:
                await self._attempt()
            except OSError as error:
                self._complain(error, patient, clock() - started)
                taken_over = isinstance(error, TakenOverError)
            finally:
                was_up = self._down()
            if not was_up:
                self._backoff.failed()
            elif not taken_over:
                self._backoff.ended(clock(), clock() - begun)
            await asyncio.sleep(self._backoff.pause_s(clock()))

    async def _attempt(self) -> None:
        """One connection from its beginning to its end; raises OSError."""
        self._level = Level.V3 if self._outdated else Level.V5
        try:
            await self._connect()
        except Refused as error:
            if self._outdated or error.code != LEVEL_REFUSED:
                raise
            self._outdated = True
        except UnansweredError:
            if self._outdated:
                raise
        self._level = Level.V3
        await self._connect()

    async def _connect(self) -> None:
        async with connected(self._link, self._desk, self._level) as connection:
            self._connection = connection
            self._connections += 1
            self._complaint = ""
            self._say(f"connected to {self._link.url} (MQTT {self._level.spoken})")
            self._deliver(Linked(self._link.broker, up=True))
            await connection.ended()

    def _complain(self, error: OSError, patient: bool, waited_s: float) -> None:
        """Say once what is wrong; before the first connection, give up in time."""
        url, reason = self._link.url, reason_of(error)
        if not self.was_up and not patient:
            if isinstance(error, Refused):
                check_login(url, error.code)
            if 0 < self._link.wait_s <= waited_s:
                raise TemporaryError(
                    f"{url}: no broker: {reason}; start it, or correct [broker] url"
                )
        if reason != self._complaint:
            self._complaint = reason
            what = "lost the broker" if self._connection else "no broker"
            self._say(f"{what} at {url}: {reason}; trying again")

    def _say(self, text: str) -> None:
        """That it came or went, as long as that does not happen all the time."""
        now = asyncio.get_running_loop().time()
        if len(self._lines) == LINES_MAX and now < self._lines[0] + MINUTE_S:
            self._unsaid += 1
            return
        self._lines.append(now)
        more = (
            f" (and {self._unsaid} such lines left out: it comes and goes)" if self._unsaid else ""
        )
        self._unsaid = 0
        self._report(text + more)

    def _refused(self, topic: str, reason: str) -> None:
        if topic not in self._told and len(self._told) < TOLD_MAX:
            self._told.add(topic)
            self._report(
                f"{self._link.url} does not take {topic}: {reason}; "
                "see what demesh doctor brokers says"
            )

    def _down(self) -> bool:
        """Whether it was up."""
        if self._connection is None:
            return False
        self._unread += self._connection.unread
        self._connection = None
        self._deliver(Linked(self._link.broker, up=False))
        return True


class Backoff:
    """How long to wait before trying again; told the time in seconds."""

    def __init__(self, randomness: random.Random) -> None:
        self._random = randomness
        self._next_s = BACKOFF_FIRST_S
        self._up_at = -RECENT_S
        self._failed = False  # since it was last up

    def failed(self) -> None:
        """There was no connection: it is away."""
        self._failed = True

    def ended(self, now: float, lasted_s: float) -> None:
        """A connection ended that had been up."""
        if lasted_s > STEADY_S or self._failed:
            self._next_s = BACKOFF_FIRST_S
        self._up_at, self._failed = now, False

    def pause_s(self, now: float) -> float:
        """The next pause; each is twice as long as the one before, up to a bound."""
        most = BACKOFF_MAX_S
        if now < self._up_at + RECENT_S:
            most = BACKOFF_RECENT_S if self._failed else BACKOFF_THROWN_OUT_S
        pause_s = min(self._next_s, most)
        self._next_s = min(2 * self._next_s, BACKOFF_MAX_S)
        return pause_s * self._random.uniform(0.5, 1.0)
