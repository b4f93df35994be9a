"""Several brokers that look like one: everything goes to all of them and comes from all of them.

Whoever hears one of them hears all, so a broker that is lost, slow or lies takes nothing away and
delays nothing as long as another does its work. Each has a queue of its own (`outbox.py`): none
waits for another. What comes twice comes twice here too; the node takes the first copy and drops
the other at once (R-BRK-1).

Giving up: a broker that lets nobody in is told once and tried for ever, as long as any was up or
may still come up. If none was up, and each is given up, so is the start, with what was wrong with
each.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from demesh.errors import ConfigError, DemeshError, TemporaryError
from demesh.ports import Json, Linked, Publish, Received
from demesh.transport.client import Link
from demesh.transport.mqtt import MqttTransport
from demesh.transport.outbox import Letter


class Fanout:
    """The connections to all brokers; their jobs run in the runtime's task group."""

    def __init__(
        self,
        links: Sequence[Link],
        deliver: Callable[[Received | Linked], None],
        report: Callable[[str], None],
        randomness: random.Random,
    ) -> None:
        self._report = report
        self._transports = [MqttTransport(link, deliver, report, randomness) for link in links]
        self._given_up: list[DemeshError] = []

    @property
    def dropped(self) -> int:
        """Publications given up so far, each for one broker."""
        return sum(transport.dropped for transport in self._transports)

    @property
    def unread(self) -> int:
        """Publications of others that were dropped unread so far."""
        return sum(transport.unread for transport in self._transports)

    def state(self) -> list[Json]:
        """What people may want to know of each broker, in the configuration's order."""
        return [transport.state() for transport in self._transports]

    def jobs(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        """What to run, by name, until cancelled; raises TemporaryError, ConfigError."""
        return [(transport.name, self._keep(transport)) for transport in self._transports]

    def publish(self, publish: Publish) -> None:
        """Queue a publication for all brokers, or for the one it is meant for; never blocks."""
        letter = Letter(publish, asyncio.get_running_loop().time())
        for number, transport in enumerate(self._transports):
            if publish.broker in (None, number):
                transport.post(letter)

    async def stop(self, seconds: float) -> None:
        """Let what is queued leave, as far as there is a link; the jobs may be cancelled then."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        for transport in self._transports:  # all of them work meanwhile
            await transport.stop(max(0, end - clock()))

    async def _keep(self, transport: MqttTransport) -> None:
        try:
            await transport.run()
        except (TemporaryError, ConfigError) as error:
            self._given_up.append(error)
            if len(self._given_up) == len(self._transports) and not self._any_was_up():
                raise self._failure() from None
            self._report(f"{error}; going on with the others")
            await transport.run(patient=True)

    def _any_was_up(self) -> bool:
        return any(transport.was_up for transport in self._transports)

    def _failure(self) -> DemeshError:
        """One error for all of them; waiting may help if it may help with one."""
        if len(self._given_up) == 1:
            return self._given_up[0]
        text = "; ".join(map(str, self._given_up))
        every = all(isinstance(error, ConfigError) for error in self._given_up)
        return ConfigError(text) if every else TemporaryError(text)
