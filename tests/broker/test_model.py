"""The machine against a slow and obvious broker: every filter tried, every queue a list.

Three clients of both levels do anything in any order, time passes, the broker crashes right after
it was saved. After each step everybody must have got exactly the messages the model gives, in its
order: identifiers, duplicates, marks and what is left of their time included.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.desk import Desk, Shelf, messages_to, sent_to
from demesh.broker.codec import (
    LEVEL_3,
    LEVEL_5,
    Connack,
    Disconnect,
    Packet,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
    Wanted,
)
from demesh.broker.machine import Effect
from demesh.broker.saved import Saved
from demesh.broker.session import NEVER
from demesh.broker.topics import matches
from demesh.ports import SECOND

WINDOW = 3
QUEUE = 4
NAMES = ("a", "b", "c")

# Only one topic is ever retained, so that the order of several is not asked for.
RETAINED = "r"
topics = st.sampled_from(["t", "t/1", "t/2", RETAINED])
patterns = st.sampled_from(["#", "+", "t/#", "t/+", "t/1", RETAINED])
names = st.sampled_from(NAMES)


@dataclass
class Letter:
    """A message as one client is to get it."""

    payload: bytes
    topic: str
    qos: int
    retain: bool
    ids: tuple[int, ...]
    ends_s: int | None  # in seconds of the model's clock

    def seen(self, now_s: int, level: int, dup: bool) -> tuple[object, ...]:
        left = None if self.ends_s is None else max(0, self.ends_s - now_s)
        more = (self.ids, left) if level == LEVEL_5 else ((), None)
        return (self.payload, self.topic, self.qos, self.retain, dup, *more)


@dataclass
class Flight:
    letter: Letter
    packet_id: int
    released: bool = False
    sent: bool = True  # on this connection


@dataclass
class Client:
    """What the model knows of one session."""

    expiry_s: int
    level: int = LEVEL_3
    conn: int | None = None
    window: int = WINDOW
    ends_s: int | None = None
    filters: dict[str, tuple[Wanted, int | None]] = field(default_factory=dict)
    flights: list[Flight] = field(default_factory=list)
    queue: list[Letter] = field(default_factory=list)


class Model(RuleBasedStateMachine):
    """Each rule does a thing to both, and compares who got what."""

    def __init__(self) -> None:
        super().__init__()
        self.shelf = Shelf()
        self.desk = Desk(saved=Saved(), inflight_max=WINDOW, queued_max=QUEUE)
        self.now_s = 0
        self.conns = 0
        self.count = 0
        self.clients: dict[str, Client] = {}
        self.retained: tuple[bytes, int, int | None, str] | None = None
        self.expected: dict[str, list[tuple[object, ...]]] = {}

    # -- what is compared -------------------------------------------------------------------------

    def compare(self, effects: list[Effect]) -> None:
        for name, client in self.clients.items():
            if client.conn is None:
                continue
            got = []
            for packet in messages_to(client.conn, effects):
                properties = packet.properties or Properties()
                five = client.level == LEVEL_5
                ids = tuple(sorted(properties.subscription_ids)) if five else ()
                left = properties.message_expiry_s if five else None
                got.append(
                    (packet.payload, packet.topic, packet.qos, packet.retain, packet.dup, ids, left)
                )
                if packet.qos:
                    self.number(client, packet)
            assert got == self.expected.pop(name, []), name
        assert not self.expected

    def number(self, client: Client, packet: Publish) -> None:
        """The model does not choose packet ids: it takes over a new one, and holds to it."""
        held = packet.packet_id if packet.dup else 0
        flight = next(f for f in client.flights if f.packet_id == held)
        assert flight.letter.payload == packet.payload
        flight.packet_id = packet.packet_id
        assert [f.packet_id for f in client.flights].count(packet.packet_id) == 1

    def expect(self, name: str, letter: Letter, dup: bool = False) -> None:
        client = self.clients[name]
        seen = letter.seen(self.now_s, client.level, dup)
        self.expected.setdefault(name, []).append(seen)

    # -- the model --------------------------------------------------------------------------------

    def give(self, name: str, letter: Letter) -> None:
        client = self.clients[name]
        if letter.qos == 0:
            if client.conn is not None:
                self.expect(name, letter)
            return
        under_way = sum(flight.sent for flight in client.flights)
        if client.conn is not None and under_way < client.window:
            client.flights.append(Flight(letter, 0))
            self.expect(name, letter)
            return
        while len(client.queue) >= QUEUE and self.over(client.queue[0]):
            client.queue.pop(0)
        if len(client.queue) < QUEUE:
            client.queue.append(letter)

    def over(self, letter: Letter) -> bool:
        return letter.ends_s is not None and letter.ends_s <= self.now_s

    def fill(self, name: str) -> None:
        """Send what there is room for: first what is repeated, then what waited."""
        client = self.clients[name]
        for flight in client.flights:
            if not flight.sent and sum(f.sent for f in client.flights) < client.window:
                flight.sent = True
                if not flight.released:
                    self.expect(name, flight.letter, dup=True)
        while client.queue and sum(f.sent for f in client.flights) < client.window:
            if any(not flight.sent for flight in client.flights):
                break
            letter = client.queue.pop(0)
            if not self.over(letter):
                client.flights.append(Flight(letter, 0))
                self.expect(name, letter)

    def pass_on(self, publisher: str, message: Letter) -> None:
        for name, client in self.clients.items():
            hits = [
                (wanted, ident)
                for pattern, (wanted, ident) in client.filters.items()
                if matches(pattern, message.topic) and not (wanted.no_local and name == publisher)
            ]
            if not hits:
                continue
            letter = replace(
                message,
                qos=min(message.qos, max(wanted.qos for wanted, _ in hits)),
                retain=message.retain and any(wanted.retain_as_published for wanted, _ in hits),
                ids=tuple(sorted(ident for _, ident in hits if ident is not None)),
            )
            self.give(name, letter)

    def leave(self, name: str) -> None:
        client = self.clients[name]
        client.conn = None
        for flight in client.flights:
            flight.sent = False
        if client.expiry_s == 0:
            del self.clients[name]
        elif client.expiry_s != NEVER:
            client.ends_s = self.now_s + client.expiry_s

    # -- rules ------------------------------------------------------------------------------------

    @rule(
        name=names,
        level=st.sampled_from([LEVEL_3, LEVEL_5]),
        clean=st.booleans(),
        expiry_s=st.sampled_from([0, 2, 5]),
        window=st.integers(1, WINDOW),
    )
    def connect(self, name: str, level: int, clean: bool, expiry_s: int, window: int) -> None:
        self.conns += 1
        if name in self.clients and self.clients[name].conn is not None:
            self.leave(name)
        if clean:
            self.clients.pop(name, None)
        there = name in self.clients
        if level == LEVEL_3:
            expiry_s, window = 0 if clean else NEVER, WINDOW
            properties = None
        else:
            properties = Properties(session_expiry_s=expiry_s, receive_maximum=window)
        client = self.clients.setdefault(name, Client(expiry_s))
        client.expiry_s, client.level, client.window = expiry_s, level, window
        client.conn, client.ends_s = self.conns, None
        self.fill(name)
        effects = self.desk.join(
            self.conns, name, level=level, clean_start=clean, properties=properties
        )
        (welcome,) = [p for p in sent_to(self.conns, effects) if isinstance(p, Connack)]
        assert welcome.session_present == there
        releases = [p for p in sent_to(self.conns, effects) if isinstance(p, Pubrel)]
        released = [f.packet_id for f in client.flights if f.released and f.sent]
        assert [release.packet_id for release in releases] == released
        self.compare(effects)

    def conn_of(self, name: str) -> int | None:
        client = self.clients.get(name)
        return None if client is None else client.conn

    def say(self, name: str, packet: Packet) -> None:
        conn = self.conn_of(name)
        assert conn is not None
        self.compare(self.desk.say(conn, packet))

    @rule(name=names, goodbye=st.booleans())
    def go(self, name: str, goodbye: bool) -> None:
        conn = self.conn_of(name)
        if conn is None:
            return
        self.leave(name)
        self.compare(self.desk.say(conn, Disconnect()) if goodbye else self.desk.lose(conn))

    @rule(
        name=names,
        wanted=st.builds(
            Wanted, patterns, st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2)
        ),
        ident=st.none() | st.integers(1, 3),
    )
    def subscribe(self, name: str, wanted: Wanted, ident: int | None) -> None:
        if self.conn_of(name) is None:
            return
        client = self.clients[name]
        if client.level == LEVEL_3:
            wanted, ident = Wanted(wanted.pattern, wanted.qos), None
        fresh = wanted.pattern not in client.filters
        client.filters[wanted.pattern] = (wanted, ident)
        handling = wanted.retain_handling
        if self.retained is not None and (handling == 0 or (handling == 1 and fresh)):
            payload, qos, ends_s, publisher = self.retained
            letter = Letter(
                payload,
                RETAINED,
                min(qos, wanted.qos),
                True,
                () if ident is None else (ident,),
                ends_s,
            )
            own = wanted.no_local and publisher == name
            if matches(wanted.pattern, RETAINED) and not self.over(letter) and not own:
                self.give(name, letter)
        properties = None if ident is None else Properties(subscription_ids=(ident,))
        self.say(name, Subscribe(1, (wanted,), properties))

    @rule(name=names, pattern=patterns)
    def unsubscribe(self, name: str, pattern: str) -> None:
        if self.conn_of(name) is not None:
            self.clients[name].filters.pop(pattern, None)
            self.say(name, Unsubscribe(1, (pattern,)))

    @rule(
        name=names,
        topic=topics,
        qos=st.integers(0, 2),
        retain=st.booleans(),
        expiry_s=st.none() | st.integers(1, 4),
        times=st.integers(1, 4),
    )
    def publish(
        self, name: str, topic: str, qos: int, retain: bool, expiry_s: int | None, times: int
    ) -> None:
        for _ in range(times):
            if self.conn_of(name) is None:
                return
            self.count += 1
            payload = b"%d" % self.count
            retain = retain and topic == RETAINED
            if self.clients[name].level == LEVEL_3:
                expiry_s = None
            ends_s = None if expiry_s is None else self.now_s + expiry_s
            if retain:
                self.retained = (payload, qos, ends_s, name)
            self.pass_on(name, Letter(payload, topic, qos, retain, (), ends_s))
            properties = None if expiry_s is None else Properties(message_expiry_s=expiry_s)
            message = Publish(topic, payload, qos, retain, False, 1 if qos else 0, properties)
            self.say(name, message)
            if qos == 2:
                self.say(name, replace(message, dup=True))  # said again, not passed on again
                self.say(name, Pubrel(1))

    @rule(name=names, which=st.integers(0, WINDOW))
    def answer(self, name: str, which: int) -> None:
        if self.conn_of(name) is None:
            return
        client = self.clients[name]
        sent = [flight for flight in client.flights if flight.sent]
        if not sent:
            return
        flight = sent[which % len(sent)]
        packet_id = flight.packet_id
        if flight.letter.qos == 2 and not flight.released:
            client.flights.remove(flight)
            client.flights.append(flight)
            flight.released = True
            self.say(name, Pubrec(packet_id))
            return
        client.flights.remove(flight)
        self.fill(name)
        self.say(name, Pubcomp(packet_id) if flight.released else Puback(packet_id))

    @rule(seconds=st.integers(1, 3))
    def pass_time(self, seconds: int) -> None:
        self.now_s += seconds
        if self.retained is not None and self.retained[2] is not None:
            self.retained = None if self.retained[2] <= self.now_s else self.retained
        for name, client in list(self.clients.items()):
            if client.ends_s is not None and client.ends_s <= self.now_s:
                del self.clients[name]
        self.compare(self.desk.wait(seconds * SECOND))

    @rule()
    def save(self) -> None:
        self.shelf.write(self.desk.broker.changes())

    @rule()
    def crash(self) -> None:
        self.save()
        for name in list(self.clients):
            if self.clients[name].conn is not None:
                self.leave(name)
        self.desk = Desk(
            saved=self.shelf.read(), now=self.desk.now, inflight_max=WINDOW, queued_max=QUEUE
        )

    # -- what always holds ------------------------------------------------------------------------

    @invariant()
    def both_know_the_same(self) -> None:
        broker = self.desk.broker
        assert {s.client_id for s in broker._sessions} == set(self.clients)
        for session in broker._sessions:
            client = self.clients[session.client_id]
            assert session.conn == client.conn
            assert list(session.subscriptions) == list(client.filters)
            assert session.waiting == len(client.flights) + len(client.queue)
        assert len(broker._retained) == (self.retained is not None)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
