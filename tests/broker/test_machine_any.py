"""Whatever clients say, in whatever order: the broker's answers are packets that they can read."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.packets import connects, levels, of_level, publishes, qos
from demesh.broker.codec import (
    LEVEL_5,
    Code,
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Malformed,
    Packet,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Wanted,
    encode,
)
from demesh.broker.limits import Limits
from demesh.broker.machine import Broker, Close, Effect, Transmit
from demesh.ports import SECOND

# Few, so that clients meet: most of what is drawn concerns somebody else too.
LIMITS = Limits(
    packet_bytes_max=4096,
    connections_max=4,
    sessions_max=3,
    inflight_max=2,
    unreleased_max=2,
    queued_max=3,
    queued_bytes_max=300,
    retained_max=2,
    retained_bytes_max=300,
    subscriptions_max=3,
    aliases_max=2,
)
names = st.sampled_from(["a", "a/b", "$x/b", "c" * 30])
patterns = st.sampled_from(["#", "+/b", "a/#", "a", "$x/#", "$SYS/broker/uptime", "$share/g/a"])
client_ids = st.sampled_from(["one", "two", "three", "four"])
few = st.integers(1, 4)
STEPS = ["enter", *["publish"] * 6, *["subscribe"] * 3, *["answer"] * 4, "any", "lose"]


@st.composite
def messages(draw: st.DrawFn, level: int) -> Publish:
    """A PUBLISH that is accepted more often than not."""
    packet = draw(publishes(level))
    # A subscription id of a client would be a mistake, which ends its connection.
    allowed = _but(packet.properties, subscription_ids=(), response_topic=None)
    topic = draw(names)
    if allowed is not None and allowed.topic_alias is not None:
        allowed = replace(allowed, topic_alias=draw(st.integers(1, 3)))
        topic = draw(st.sampled_from(["", topic]))
    pid = packet.packet_id and draw(few)
    return replace(packet, topic=topic, packet_id=pid, properties=allowed)


@st.composite
def wishes(draw: st.DrawFn, level: int) -> Subscribe:
    """A SUBSCRIBE to what others say."""
    options = (st.booleans(), st.booleans(), qos) if level == LEVEL_5 else ()
    wanted = st.tuples(patterns, qos, *options).map(lambda one: Wanted(*one))
    number = draw(st.none() | st.integers(1, 300)) if level == LEVEL_5 else None
    said = None if number is None else Properties(subscription_ids=(number,))
    return Subscribe(draw(few), tuple(draw(st.lists(wanted, min_size=1, max_size=3))), said)


@st.composite
def greetings(draw: st.DrawFn, level: int) -> Connect:
    """A CONNECT that is accepted more often than not."""
    packet = draw(connects(level))
    will = packet.will and replace(packet.will, topic=draw(names))
    allowed = _but(packet.properties, auth_method=None, auth_data=None)
    return replace(packet, client_id=draw(client_ids), will=will, properties=allowed)


def _but(properties: Properties | None, **changes: object) -> Properties | None:
    if properties is None:
        return None
    changed = replace(properties, **changes)  # type: ignore[arg-type]
    return None if changed == Properties() else changed


Answer = Puback | Pubrec | Pubcomp


class Line:
    """One connection: bytes both ways, and what its client has agreed with the broker."""

    def __init__(self, hello: Connect) -> None:
        self.level = hello.level
        self.up = Decoder(LIMITS.packet_bytes_max)
        self.down = Decoder(1 << 20, hello.level)
        self.wishes = hello.properties or Properties()
        self.under_way: set[int] = set()  # messages of QoS 1 and 2 that were not acknowledged
        self.awaited: dict[int, type[Answer]] = {}  # what the client has to say next, by packet id
        self.aliases: dict[int, str] = {}

    def say(self, packet: Packet) -> Packet | Malformed:
        """What of it arrives at the broker."""
        match packet:
            case Puback(packet_id) | Pubcomp(packet_id):
                self.under_way.discard(packet_id)
            case Pubrec(packet_id, code) if code >= Code.UNSPECIFIED:
                self.under_way.discard(packet_id)
        (arrived,) = self.up.feed(encode(packet, self.level))
        return arrived

    def hear(self, packet: Packet) -> None:
        """Hold what the broker says against what the standard allows it."""
        wire = encode(packet, self.up.level)
        assert len(wire) <= (self.wishes.maximum_packet_bytes or len(wire))
        (came,) = self.down.feed(wire)
        assert not isinstance(came, Malformed), came
        got = getattr(came, "properties", None) or Properties()
        if isinstance(came, Publish):
            assert not set(came.topic) & set("+#")
            if came.qos:
                self.awaited[came.packet_id] = Puback if came.qos == 1 else Pubrec
                self.under_way.add(came.packet_id)
                assert len(self.under_way) <= (self.wishes.receive_maximum or 65_535)
            if got.topic_alias is not None:
                assert got.topic_alias <= (self.wishes.topic_alias_maximum or 0)
                self.aliases[got.topic_alias] = came.topic or self.aliases[got.topic_alias]
        elif isinstance(came, Pubrel):
            self.awaited[came.packet_id] = Pubcomp
        if (
            not isinstance(came, Publish | Connack | Disconnect)
            and self.wishes.request_problem == 0
        ):
            assert (got.reason, got.user) == (None, ())


class Table:
    """A broker, its clients and the time."""

    def __init__(self) -> None:
        self.broker = Broker(LIMITS, 0)
        self.now = 0
        self.lines: dict[int, Line] = {}
        self._last = 0

    def carry_out(self, effects: list[Effect]) -> None:
        """Let the clients hear it."""
        for effect in effects:
            line = self.lines[effect.conn]  # nothing for a connection that is closed
            if isinstance(effect, Transmit):
                line.hear(effect.packet)
            elif isinstance(effect, Close):
                del self.lines[effect.conn]

    def wait(self, span: int) -> None:
        """Time passes."""
        self.now += span
        at = self.broker.deadline()
        if at is not None and at <= self.now:
            self.carry_out(self.broker.tick(self.now))

    def enter(self, hello: Connect) -> None:
        """A new connection says CONNECT."""
        self._last += 1
        self.lines[self._last] = Line(hello)
        self.carry_out(self.broker.connected(self._last, self.now))
        if self._last in self.lines:
            self.say(self._last, hello)

    def say(self, conn: int, packet: Packet) -> None:
        """A client says something."""
        arrived = self.lines[conn].say(packet)
        self.carry_out(self.broker.receive(conn, arrived, self.now))

    def lose(self, conn: int) -> None:
        """A connection is cut."""
        effects = self.broker.disconnected(conn, self.now)
        del self.lines[conn]
        self.carry_out(effects)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whatever_clients_say_the_answers_are_packets_they_can_read(data: st.DataObject) -> None:
    table = Table()
    for _ in range(data.draw(st.integers(1, 40))):
        table.wait(data.draw(st.sampled_from([0, 0, 0, SECOND, 100 * SECOND])))
        conns = sorted(table.lines)
        step = data.draw(st.sampled_from(STEPS))
        if step == "enter" or not conns:
            table.enter(data.draw(levels.flatmap(greetings)))
            continue
        conn = data.draw(st.sampled_from(conns))
        line = table.lines[conn]
        match step:
            case "lose":
                table.lose(conn)
            case "publish":
                table.say(conn, data.draw(messages(line.level)))
            case "subscribe":
                table.say(conn, data.draw(wishes(line.level)))
            case "answer" if line.awaited:
                packet_id = data.draw(st.sampled_from(sorted(line.awaited)))
                table.say(conn, line.awaited.pop(packet_id)(packet_id))
            case _:
                table.say(conn, data.draw(of_level(line.level)))
