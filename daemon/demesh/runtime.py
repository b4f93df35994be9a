"""The asyncio shell around the node: one queue, one consumer, one commit a turn.

Theory of operation. Transports, the sampler, signals and the store put inputs into one inbox. A
turn takes up to TURN_MAX of them, asks the node for effects and executes these in the order

    persist  ->  publish  ->  actuate, fetch  ->  observe

so nothing is sent that is not durable, and one sync serves the whole turn. A turn runs on the
loop's thread without awaiting: the node needs no lock. Between turns everything else gets its go.

RT1  If a store fails, nothing of that turn is published or actuated, and the daemon ends (74): it
     can no longer keep its word about votes. The supervisor starts it again from the journal.
RT2  What is not urgent is durable within FLUSH_NS, or with the next urgent effect.
RT3  On SIGTERM and SIGINT the node hears `Stopping` once, its last effects are executed, what is
     queued leaves for at most DRAIN_S, and brokers see a clean DISCONNECT (no will). A second
     signal ends the process at once, which must be harmless, as SIGKILL is.
RT4  A message enters the queue once the node has admitted it, signature and all: what others make
     up never pushes out what is true.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from demesh.errors import DemeshError, StorageError
from demesh.observe.projection import Projection
from demesh.ports import (
    MILLISECOND,
    SECOND,
    Actuate,
    Admitted,
    Adopt,
    Device,
    Effect,
    Fetch,
    Input,
    Instant,
    Json,
    Linked,
    Measured,
    Observe,
    Persist,
    Publish,
    Received,
    SeekChunk,
    Stopping,
    Store,
)
from demesh.storage.answers import answered
from demesh.transport.client import Link
from demesh.transport.fanout import Fanout
from demesh.transport.inbox import Inbox

# One sync serves so many inputs; more would keep the loop from its sockets for too long.
TURN_MAX = 64

FLUSH_NS = 1 * SECOND

# Last words (an End, a last voucher) at 10-600 ms a round trip; systemd kills after 90 s.
DRAIN_S = 3.0

# An overloaded board must not be kept busy by telling so.
COMPLAIN_NS = 10 * SECOND

_log = logging.getLogger("demesh")


class NodePort(Protocol):
    """The protocol core as the shell sees it; `demesh.node.Node` is the one there is."""

    def start(self, now: Instant) -> list[Effect]:
        """Begin."""

    def admit(self, received: Received, now: Instant, /) -> Admitted | None:
        """The input that a message is, if any."""

    def handle(self, given: Input, now: Instant, /) -> list[Effect]:
        """React to an input."""

    def tick(self, now: Instant) -> list[Effect]:
        """React to the passing of time."""

    def deadline(self) -> Instant | None:
        """When `tick` is wanted at the latest."""


class StorePort(Store, Protocol):
    """A store that batches: what is `pending` becomes durable by `flush`."""

    @property
    def pending(self) -> bool:
        """Something committed is not durable yet."""

    def flush(self) -> None:
        """Make everything durable."""

    def close(self) -> None:
        """Flush and give up the store."""


class TransportPort(Protocol):
    """Connections that look after themselves."""

    @property
    def dropped(self) -> int:
        """Publications given up so far."""

    @property
    def unread(self) -> int:
        """Publications of others that were dropped unread so far."""

    def state(self) -> list[Json]:
        """What people may want to know of each broker."""

    def jobs(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        """What to run until cancelled, by name."""

    def publish(self, publish: Publish) -> None:
        """Queue a publication."""

    async def stop(self, seconds: float) -> None:
        """Let what is queued leave."""


Deliver = Callable[[Received | Linked], None]
OpenTransport = Callable[[Sequence[Link], Deliver, Callable[[str], None]], TransportPort]


def open_mqtt(
    links: Sequence[Link], deliver: Deliver, report: Callable[[str], None]
) -> TransportPort:
    """The transport of the shipped daemon."""
    return Fanout(links, deliver, report, random.Random())


class Runtime:
    """One node, its store, its device and its brokers, until it is told to stop."""

    def __init__(
        self,
        node: NodePort,
        store: StorePort,
        device: Device,
        projection: Projection,
        links: Sequence[Link],
        open_transport: OpenTransport = open_mqtt,
    ) -> None:
        self._node, self._store, self._device = node, store, device
        self._projection = projection
        self._inbox = Inbox()
        self._transport = open_transport(links, self._arrived, self._report)
        self._due: Instant | None = None  # the node's deadline after the last turn
        self._flush_at: Instant | None = None
        self._dropped = (0, 0, 0)
        self._brokers = self._brokers_now()  # as they were last shown
        self._complain_at: Instant = 0
        self._adopted = False  # a checkpoint: what is stored is not what the node knows
        self._stopped = False

    @property
    def again(self) -> bool:
        """Did `run` end to begin anew from what is stored, and nobody wants it to stay ended?"""
        return self._adopted and not self._stopped

    async def run(self) -> None:
        """Run until `stop`, a signal, or an adoption; closes the store. Raises DemeshError."""
        try:
            self._begin()
            async with asyncio.TaskGroup() as group:
                jobs = [group.create_task(self._sample_forever(), name="sampler")]
                for name, job in self._transport.jobs():
                    jobs.append(group.create_task(job, name=name))
                self._catch_signals()
                await self._turns()
                await self._transport.stop(DRAIN_S)
                for task in jobs:
                    task.cancel()
        except BaseException as error:
            self._abandon()
            told = _told(error)
            if told is None:
                raise
            raise told from None
        self._store.close()

    def stop(self) -> None:
        """Ask for the end, from the loop's thread; `run` returns when it is reached."""
        self._stopped = True
        self._inbox.put(Stopping())

    def _begin(self) -> None:
        now = time.monotonic_ns()
        effects = self._node.start(now)
        self._due = self._node.deadline()
        self._execute(effects, now)

    async def _turns(self) -> None:
        while True:
            await self._inbox.wait(self._patience_s())
            if self._turn():
                return

    def _turn(self) -> bool:
        """One turn; True if it was the last. Raises StorageError."""
        effects: list[Effect] = []
        last = False
        for item in self._inbox.take(TURN_MAX):
            effects += (made := self._node.handle(item, time.monotonic_ns()))
            last = last or isinstance(item, Stopping)
            self._adopted = any(isinstance(effect, Adopt) for effect in made)
            if self._adopted:
                break  # the node is of the past, and would go on writing where it was
        now = time.monotonic_ns()
        self._due = self._node.deadline()
        if self._due is not None and self._due <= now and not self._adopted:
            effects += self._node.tick(now)
            self._due = self._node.deadline()
        self._execute(effects, now)
        return last or self._adopted

    def _execute(self, effects: Sequence[Effect], now: Instant) -> None:
        """Execute a turn's effects in order; raises StorageError (RT1)."""
        self._persist(effects, now)
        if self._adopted:
            _log.info("far behind: took over a later state from the others, beginning anew")
            return
        for effect in effects:
            if isinstance(effect, Publish):
                self._transport.publish(effect)
        for effect in effects:
            if isinstance(effect, Actuate):
                self._device.actuate(effect, now)
            elif isinstance(effect, Fetch | SeekChunk):
                self._inbox.put(answered(self._store, effect))
        for effect in effects:
            if isinstance(effect, Observe):
                self._observe(effect)

    def _persist(self, effects: Sequence[Effect], now: Instant) -> None:
        kept = [effect for effect in effects if isinstance(effect, Persist)]
        if kept:
            self._store.commit(kept)
        if self._flush_at is not None and self._flush_at <= now:
            self._store.flush()
        if not self._store.pending:
            self._flush_at = None
        elif self._flush_at is None:
            self._flush_at = now + FLUSH_NS

    def _observe(self, effect: Observe) -> None:
        for publish in self._projection.publications(effect, time.time_ns()):
            self._transport.publish(publish)
        if effect.text:
            _log.info("%s", effect.text)

    def _arrived(self, item: Received | Linked) -> None:
        """From a transport; a message waits only if the node lets it in (RT4)."""
        if isinstance(item, Linked):
            self._inbox.put(item)
        elif admitted := self._node.admit(item, time.monotonic_ns()):
            self._inbox.put(admitted)

    def _report(self, text: str) -> None:
        self._observe(Observe("runtime", text=text))

    def _patience_s(self) -> float | None:
        """How long the next turn may wait for an input, in seconds; None: as long as it takes."""
        times = [t for t in (self._due, self._flush_at) if t is not None]
        return max(0, min(times) - time.monotonic_ns()) / SECOND if times else None

    async def _sample_forever(self) -> None:
        complaint = ""
        while True:
            try:
                self._inbox.put(Measured(self._device.read(time.monotonic_ns())))
                complaint = ""
            except OSError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    self._report(f"the device cannot be read: {complaint}; trying again")
            self._watch()
            await asyncio.sleep(self._device.sample_ms * MILLISECOND / SECOND)

    def _watch(self) -> None:
        """Say what was dropped, by full queues or unread, and which brokers came or went.

        At most every COMPLAIN_NS.
        """
        now = time.monotonic_ns()
        if now < self._complain_at:
            return
        dropped = (self._inbox.dropped, self._transport.dropped, self._transport.unread)
        brokers = self._brokers_now()
        if dropped == self._dropped and brokers == self._brokers:
            return
        self._complain_at = now + COMPLAIN_NS
        incoming, outgoing, unread = (
            count - before for count, before in zip(dropped, self._dropped, strict=True)
        )
        self._dropped, self._brokers = dropped, brokers
        said = []
        if incoming or outgoing:
            said.append(f"overloaded: dropped {incoming} incoming, {outgoing} outgoing messages")
        if unread:
            said.append(f"flood: dropped {unread} unread, for what comes at QoS 0 is not ours")
        names = ("dropped_in", "dropped_out", "unread")
        document: dict[str, Json] = dict(zip(names, dropped, strict=True))
        document["brokers"] = self._transport.state()
        self._observe(Observe("runtime", document, "; ".join(said)))

    def _brokers_now(self) -> list[Json]:
        """Of the brokers' state, what is worth showing anew."""
        found: list[Json] = []
        for state in self._transport.state():
            assert isinstance(state, dict)
            found.append([state[name] for name in ("up", "level", "connections", "refused")])
        return found

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        self.stop()

    def _abandon(self) -> None:
        """Close the store after a failure, whose own error is the one to be told."""
        try:
            self._store.close()
        except StorageError as error:
            _log.info("%s", error)


def _told(error: BaseException) -> DemeshError | None:
    """The error to tell a person, if that is what a failure consists of; None is our own fault."""
    if isinstance(error, DemeshError):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    _, ours = error.split(DemeshError)
    return None if ours else _told(error.exceptions[0])
