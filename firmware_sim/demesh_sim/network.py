"""The virtual network: the product's own broker machine behind links, and what can go wrong there.

Whatever a broker does to a message (queue it, repeat it, retain it, publish a will) is done by
`demesh.broker`, packet by packet; only bytes, sockets and time are virtual. TCP keeps its promise
inside a connection, so the faults here are late, cut, deaf and doubled, never one message missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random

from demesh.broker.codec import Packet, Puback, Publish, encode
from demesh.broker.limits import Limits, Reason
from demesh.broker.machine import Broker, Close, Effect, Pause, Transmit
from demesh.ports import Instant
from demesh_sim.client import Client, Phase
from demesh_sim.heap import Alarm, Heap
from demesh_sim.lies import EVERY_NS, LyingBroker, Post
from demesh_sim.links import Pipe, Profile, line_bytes

PPM = 1_000_000

# A broker for a thousand boards is configured for them; the product's defaults are for 200.
SWARM_LIMITS = Limits(
    connections_max=32_768,
    sessions_max=65_536,
    retained_max=131_072,
    retained_bytes_max=256 * 1024 * 1024,
)

# A liar numbers what it says itself; the machine's own numbers begin at 1.
LIES_FROM, LIES_TO = 0x8000, 0xFFFF

HANGUP = None
"""The end of a connection, as the last thing in a pipe."""


class Connection:
    """One TCP connection: a pipe up to the broker, a pipe down to the client. See client.Wire."""

    __slots__ = ("_network", "client", "down", "held", "number", "up")

    def __init__(
        self, network: Network, number: int, client: Client, heap: Heap, profile: Profile
    ) -> None:
        self._network = network
        self.number = number
        self.client = client
        self.held = False  # since a pause of the broker, until all that was on the line is read
        chance = network.chance
        self.up: Pipe[Packet | None] = Pipe(heap, chance, profile, self._at_broker, _on_line)
        self.down: Pipe[Packet | None] = Pipe(heap, chance, profile, self._at_client, _on_line)

    def send(self, packet: Packet) -> None:
        """Put a packet under way to the broker, now and then twice."""
        room = self.up.send(packet)
        if isinstance(packet, Publish) and packet.qos and self._network.doubles():
            room = room and self.up.send(replace(packet, dup=True))
        if not room:
            self._network.overflow(self)

    def hold(self) -> None:
        """The broker reads no more."""
        self.held = True
        self.up.hold()

    def release(self) -> None:
        """The broker reads again: first what is on the line, then what waits in the client."""
        self.up.release()
        self._let_on()

    def _let_on(self) -> None:
        if self.held and self.up.idle:
            self.held = False
            self.client.released()

    def close(self) -> None:
        """The client hangs up: what it sent still arrives, nothing comes back."""
        self.down.cut()
        self.up.send(HANGUP)
        self._network.forget(self)

    def cut(self) -> None:
        """All that is under way is lost."""
        self.up.cut()
        self.down.cut()
        self._network.forget(self)

    def _at_broker(self, packet: Packet | None) -> None:
        self._network.arrive(self.number, packet)
        self._let_on()

    def _at_client(self, packet: Packet | None) -> None:
        if packet is not HANGUP:
            self.client.receive(packet)
            return
        self.cut()
        self.client.lost()


class Network:
    """One broker and everybody's links to it."""

    def __init__(
        self,
        heap: Heap,
        chance: Random,
        profile: Profile,
        *,
        duplicate_ppm: int = 0,
        limits: Limits = SWARM_LIMITS,
    ) -> None:
        self.chance = chance
        self.broker: Broker | None = Broker(limits, heap.now)
        self.packets = 0
        self._heap = heap
        self._profile = profile
        self._duplicate_ppm = duplicate_ppm
        self._limits = limits
        self._numbers = 0
        self._at_broker: dict[int, Connection] = {}
        self._of_client: dict[Client, Connection] = {}
        self._alarm = Alarm(heap, self._tick)
        self.liar: LyingBroker | None = None
        self._lies = LIES_FROM
        self._shut_out: dict[str, Instant] = {}  # by a liar that hung up on them

    # -- for hosts --------------------------------------------------------------------------------

    def join(
        self,
        client_id: str,
        subscriptions: Sequence[str],
        will: tuple[str, bytes],
        linked: Callable[[bool], None],
        received: Callable[[str, bytes, bool], None],
    ) -> Client:
        """A client that dials until it is connected, and again whenever it is not."""
        return Client(
            client_id, subscriptions, will, linked, received, self._heap, self.chance, self._dial
        )

    def corrupt(self, liar: LyingBroker) -> None:
        """From now on the broker does what this mind says with what it is given."""
        self.liar = liar
        self._heap.after(EVERY_NS, self._muse)

    # -- faults -----------------------------------------------------------------------------------

    def disconnect(self, client: Client) -> None:
        """Break a client's connection; both ends hear of it, and all under way is lost."""
        connection = self._of_client.get(client)
        if connection is not None:
            connection.cut()
            client.lost()
            self._tell_lost(connection.number)

    def stall(self, client: Client, until: Instant, *, up: bool = True, down: bool = True) -> None:
        """Let nothing through before `until`, in one direction or both."""
        connection = self._of_client.get(client)
        if connection is None:
            return
        if up:
            connection.up.stall(until)
        if down:
            connection.down.stall(until)

    def strand(self, client: Client) -> None:
        """The client lost power; half the time the broker learns it only from the silence."""
        connection = self._of_client.get(client)
        client.vanish()
        if connection is not None:
            connection.cut()
            if self.chance.getrandbits(1):
                self._tell_lost(connection.number)

    def restart_broker(self, down_ns: int) -> None:
        """Kill the broker and start it again later: sessions and retained messages are gone."""
        if self.broker is None:
            return
        self.broker = None
        self._alarm.set(None)
        self._at_broker.clear()
        for connection in tuple(self._of_client.values()):
            connection.cut()
            connection.client.lost()
        self._heap.after(down_ns, self._start_broker)

    def doubles(self) -> bool:
        """Whether this QoS 1 publication is one that is sent twice."""
        return bool(self._duplicate_ppm) and self.chance.randrange(PPM) < self._duplicate_ppm

    # -- connections and the broker ---------------------------------------------------------------

    def arrive(self, number: int, packet: Packet | None) -> None:
        """A packet, or the end of connection `number`, reaches the broker."""
        broker = self.broker
        if broker is None:
            return
        if packet is HANGUP:
            self._tell_lost(number)
            return
        self.packets += 1
        if self.liar is not None and self._keeps(number, packet, self.liar):
            return
        self._perform(broker.receive(number, packet, self._heap.now))

    def overflow(self, connection: Connection) -> None:
        """More waits for a line than a sender may hold: as a real broker does, hang up on it."""
        connection.cut()
        connection.client.lost()
        if self._at_broker.pop(connection.number, None) is not None and self.broker is not None:
            self._perform(self.broker.close(connection.number, Reason.SLOW, self._heap.now))

    def forget(self, connection: Connection) -> None:
        """The client's end is gone."""
        self._of_client.pop(connection.client, None)

    def _dial(self, client: Client) -> Connection | None:
        if self.broker is None or self._heap.now < self._shut_out.get(client.client_id, 0):
            return None
        self._numbers += 1
        connection = Connection(self, self._numbers, client, self._heap, self._profile)
        self._at_broker[connection.number] = self._of_client[client] = connection
        self._perform(self.broker.connected(connection.number, self._heap.now))
        return connection

    def _tell_lost(self, number: int) -> None:
        self._at_broker.pop(number, None)
        if self.broker is not None:
            self._perform(self.broker.disconnected(number, self._heap.now))

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            connection = self._at_broker.get(effect.conn)
            if connection is None:
                continue
            if isinstance(effect, Transmit):
                packet, liar = effect.packet, self.liar
                if isinstance(packet, Publish) and liar is not None and not liar.honest:
                    self._lie(connection, packet, liar)
                elif not connection.down.send(packet):
                    self.overflow(connection)
            elif isinstance(effect, Close):
                del self._at_broker[effect.conn]
                connection.up.cut()
                connection.down.send(HANGUP)
            elif isinstance(effect, Pause):
                connection.hold()
            else:
                connection.release()
        if self.broker is not None:
            self._alarm.set(self.broker.deadline())

    # -- lies -------------------------------------------------------------------------------------

    def _keeps(self, number: int, packet: Packet | None, liar: LyingBroker) -> bool:
        """Is this the liar's alone: what it throws away, and what answers its own words?"""
        if isinstance(packet, Puback):
            return packet.packet_id >= LIES_FROM
        if not isinstance(packet, Publish):
            return False
        post = Post(packet.topic, packet.payload, packet.retain)
        if not liar.keeps(post, self._heap.now):
            return False
        connection = self._at_broker.get(number)
        if connection is not None and packet.qos:
            connection.down.send(Puback(packet.packet_id))
        return True

    def _lie(self, connection: Connection, packet: Publish, liar: LyingBroker) -> None:
        """The machine takes the message for delivered; the client gets what the liar likes."""
        number, now = connection.number, self._heap.now
        if packet.qos:
            taken = Puback(packet.packet_id)
            self._heap.after(0, lambda: self._acknowledged(number, taken))
        post = Post(packet.topic, packet.payload, packet.retain)
        for wait, given in liar.instead(post, connection.client.client_id, now):
            self._heap.after(wait, partial(self._hand, number, given))

    def _acknowledged(self, number: int, taken: Puback) -> None:
        if number in self._at_broker and self.broker is not None:
            self._perform(self.broker.receive(number, taken, self._heap.now))

    def _hand(self, number: int, post: Post) -> None:
        connection = self._at_broker.get(number)
        if connection is None:
            return
        assert isinstance(post.payload, bytes)
        self._lies = self._lies + 1 if self._lies < LIES_TO else LIES_FROM
        packet = Publish(post.topic, post.payload, 1, post.retained, packet_id=self._lies)
        if not connection.down.send(packet):
            self.overflow(connection)

    def _muse(self) -> None:
        """What a liar does by itself."""
        liar, now = self.liar, self._heap.now
        assert liar is not None
        self._heap.after(EVERY_NS, self._muse)
        if liar.honest:
            return
        for client, connection in tuple(self._of_client.items()):
            if client.phase is not Phase.UP:
                continue
            for post in liar.invents(client.client_id, now):
                self._hand(connection.number, post)
            if lasts := liar.cuts(client.client_id, now):
                self._shut_out[client.client_id] = now + lasts
                self.disconnect(client)

    def _tick(self) -> None:
        if self.broker is not None:
            self._perform(self.broker.tick(self._heap.now))

    def _start_broker(self) -> None:
        self.broker = Broker(self._limits, self._heap.now)


def _on_line(packet: Packet | None) -> int:
    """A packet's bytes on the line, with the headers of its segments; the end is a bare one."""
    return line_bytes(0 if packet is HANGUP else len(encode(packet)))
