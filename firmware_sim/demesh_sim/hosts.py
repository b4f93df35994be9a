"""One simulated computer: a real node between a disk, a network client and a device.

It does what the runtime does, on the heap's clock: inputs wait in one inbox, a turn takes up to 64
of them, and its effects are carried out in order. Where the runtime waits for the disk, the host is
busy for that long; a crash inside that time finds the turn half on disk and nothing of it sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from demesh.node import Node, NodeSettings
from demesh.passport import NodeIdentity
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
    Linked,
    Measured,
    Observe,
    Persist,
    Publish,
    Received,
    SeekChunk,
    Stopping,
)
from demesh.storage.answers import answered
from demesh.wire import identity
from demesh.wire.messages import Genesis
from demesh_sim.heap import Alarm, Heap
from demesh_sim.letters import Letters
from demesh_sim.memory_store import MemoryStore
from demesh_sim.network import Network
from demesh_sim.uplinks import Uplinks
from demesh_sim.witness import Witness

# The runtime's figures: one sync serves a burst, and no burst keeps the loop from its sockets.
TURN_INPUTS_MAX = 64
FLUSH_NS = 1 * SECOND
DRAIN_NS = 3 * SECOND

# A sync on a good SD card, drawn from half of this to one and a half. Far less hides what happens
# while a turn waits for it; far more makes every run a test of slow disks.
SYNC_NS = 3 * MILLISECOND

# A monotonic clock says nothing about another board's, nor about its own before a reboot.
CLOCK_START_MAX = 3600 * SECOND

# A node that asks for so many turns within one instant is going round in circles.
TURNS_PER_INSTANT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Member:
    """A board of the swarm: who it is, how it behaves, and its hardware."""

    identity: NodeIdentity
    settings: NodeSettings
    device: Device
    make_node: type[Node] = Node  # another class is a board that misbehaves


class Host:
    """The computer of board `index`; off until `boot`."""

    def __init__(
        self,
        index: int,
        member: Member,
        genesis: Genesis,
        heap: Heap,
        networks: Sequence[Network],
        chance: Random,
        witnesses: Sequence[Witness],
        letters: Letters,
    ) -> None:
        self.index = index
        self.member = member
        self.store = MemoryStore()
        self.node: Node | None = None
        self.uplinks: Uplinks | None = None
        self.turns = 0
        self._genesis = genesis
        self._heap = heap
        self._networks = tuple(networks)
        self._chance = chance
        self._witnesses = tuple(witnesses)
        self._letters = letters
        self._own: deque[Input] = deque()  # as in the runtime, taken before messages
        self._messages: deque[Input] = deque()
        self._busy = False
        self._device = identity.device_id(bytes(member.identity.device_key.verify_key))
        self._life = 0  # counts boots and ends; what an earlier life put on the heap is void
        self._zero: Instant = 0  # the heap's time at which this boot's own clock stood at 0
        self._due: Instant | None = None  # the node's deadline after the last turn
        self._flush_at: Instant | None = None
        self._timer = Alarm(heap, self._turn)
        self._instant: tuple[Instant, int] = (0, 0)

    # -- power ------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Power is on and a node runs."""
        return self.node is not None

    def boot(self) -> None:
        """Switch on: restore the node from the disk, start it, dial the brokers."""
        assert self.node is None, "a running board cannot be switched on"
        self._life += 1
        self._zero = self._heap.now - self._chance.randrange(CLOCK_START_MAX)
        member, now = self.member, self._heap.now - self._zero
        restored = self.store.load()
        for witness in self._witnesses:
            witness.booted(self.index, self._heap.now, self.store)
        self.node = member.make_node(member.identity, self._genesis, restored, member.settings, now)
        effects = self.node.start(now)
        self.uplinks = Uplinks(
            self._networks,
            identity.text(self._device),
            self.node.subscriptions,
            self.node.will,
            self._linked,
            self._received,
        )
        self._due = self.node.deadline()
        self._execute((), effects)
        life = self._life
        first = self._chance.randrange(member.device.sample_ms * MILLISECOND)
        self._heap.after(first, lambda: self._sample(life))

    def crash(self) -> None:
        """Power gone: memory lost, disk torn, connection dead."""
        assert self.uplinks is not None, "a board that is off cannot crash"
        self.uplinks.strand()
        self.store.crash(self._chance)
        self._off()

    def stop(self) -> None:
        """Ask the daemon to end: last messages, a clean goodbye, everything on disk."""
        self._put(Stopping())
        life = self._life
        self._heap.after(DRAIN_NS, lambda: self._stopped(life))

    def _stopped(self, life: int) -> None:
        if life == self._life and self.uplinks is not None:
            self.uplinks.leave()
            self.store.flush()
            self._off()

    def _off(self) -> None:
        self._life += 1
        self.node = self.uplinks = None
        self._own.clear()
        self._messages.clear()
        self._busy = False
        self._flush_at = None
        self._timer.set(None)
        for witness in self._witnesses:
            witness.stopped(self.index, self._heap.now)

    # -- inputs -----------------------------------------------------------------------------------

    def _linked(self, broker: int, up: bool) -> None:
        self._put(Linked(broker, up))

    def _received(self, broker: int, topic: str, payload: bytes, retained: bool) -> None:
        if self.node is not None:
            received = Received(topic, payload, retained, broker)
            if admitted := self.node.admit(received, self._heap.now - self._zero):
                self._put(admitted)

    def _sample(self, life: int) -> None:
        if life != self._life:
            return
        device = self.member.device
        self._put(Measured(device.read(self._heap.now)))
        self._heap.after(device.sample_ms * MILLISECOND, lambda: self._sample(life))

    def _put(self, item: Input) -> None:
        if self.node is None:
            return
        (self._messages if isinstance(item, Admitted) else self._own).append(item)
        if not self._busy:
            self._timer.set(self._heap.now)

    def _take(self) -> list[Input]:
        own = [self._own.popleft() for _ in range(min(TURN_INPUTS_MAX, len(self._own)))]
        room = min(TURN_INPUTS_MAX - len(own), len(self._messages))
        return own + [self._messages.popleft() for _ in range(room)]

    # -- turns ------------------------------------------------------------------------------------

    def _turn(self) -> None:
        node, now = self.node, self._heap.now
        if node is None or self._busy:
            return
        self._count_turn()
        inputs = self._take()
        effects: list[Effect] = []
        again = False
        for item in inputs:
            effects += (made := node.handle(item, now - self._zero))
            if again := any(isinstance(effect, Adopt) for effect in made):
                break  # as the runtime does: the node is of the past
        self._due = node.deadline()
        if self._due is not None and self._due <= now - self._zero and not again:
            effects += node.tick(now - self._zero)
            self._due = node.deadline()
        self._execute(inputs, effects)

    def _execute(self, inputs: Sequence[Input], effects: Sequence[Effect]) -> None:
        """Carry out a turn: persist, perhaps waiting for the disk, then the rest."""
        self._busy = True
        for witness in self._witnesses:
            witness.turned(self.index, self._heap.now, inputs, effects)
        lasting = [effect for effect in effects if isinstance(effect, Persist)]
        if self.store.begin(lasting):
            life = self._life
            took = SYNC_NS // 2 + self._chance.randrange(SYNC_NS)
            self._heap.after(took, lambda: self._synced(life, lasting, effects))
        else:
            self._finish(lasting, effects)

    def _synced(self, life: int, lasting: Sequence[Persist], effects: Sequence[Effect]) -> None:
        if life == self._life:
            self._finish(lasting, effects)

    def _finish(self, lasting: Sequence[Persist], effects: Sequence[Effect]) -> None:
        assert self.uplinks is not None
        now = self._heap.now
        self.store.finish()
        self._batch(now)
        if lasting:
            for witness in self._witnesses:
                witness.persisted(self.index, now, lasting, self.store)
        if any(isinstance(effect, Adopt) for effect in lasting):
            self.uplinks.leave()
            self._off()
            self.boot()
            return
        for effect in effects:
            if isinstance(effect, Publish):
                told = self._letters.opened(self._device, effect)
                for witness in self._witnesses:
                    witness.publishing(self.index, now, told, self.store)
                self.uplinks.publish(effect)
        for effect in effects:
            if isinstance(effect, Actuate):
                self.member.device.actuate(effect, now)
            elif isinstance(effect, Fetch | SeekChunk):
                self._own.append(answered(self.store, effect))
        for effect in effects:
            if isinstance(effect, Observe):
                for witness in self._witnesses:
                    witness.observed(self.index, now, effect)
        self._busy = False
        self._rest(now)

    def _batch(self, now: Instant) -> None:
        """Commit what is not urgent in time."""
        if self._flush_at is not None and self._flush_at <= now:
            self.store.flush()
        if not self.store.pending:
            self._flush_at = None
        elif self._flush_at is None:
            self._flush_at = now + FLUSH_NS

    def _rest(self, now: Instant) -> None:
        """Until the node's deadline, or for no time at all if something came meanwhile."""
        assert self.node is not None
        if self._own or self._messages:
            self._timer.set(now)
            return
        times = [] if self._due is None else [self._due + self._zero]
        if self._flush_at is not None:
            times.append(self._flush_at)
        self._timer.set(min(times, default=None))

    def _count_turn(self) -> None:
        self.turns += 1
        at, turns = self._instant
        turns = turns + 1 if at == self._heap.now else 1
        self._instant = (self._heap.now, turns)
        assert turns <= TURNS_PER_INSTANT_MAX, (
            f"{self.member.identity.name}: {turns} turns at {at} ns: its deadline never passes"
        )
