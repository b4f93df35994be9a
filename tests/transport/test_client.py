"""One connection against brokers that misbehave: nothing lost, nothing held, nothing ends us."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest

from demesh.broker.codec import (
    Code,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Suback,
    Subscribe,
    encode,
)
from demesh.broker.codec import Publish as PublishPacket
from demesh.ports import Linked, Publish, Received
from demesh.transport import client, patience
from demesh.transport.client import (
    READ_BYTES,
    UNANSWERED_MAX,
    UNSENT_BYTES_MAX,
    Connection,
    Desk,
    Link,
    connected,
)
from demesh.transport.outbox import ATTEMPTS_MAX, WINDOW, Letter, Outbox
from demesh.transport.packets import Level
from demesh.transport.pipe import Pipe, PipedClient
from demesh.transport.reasons import reason_of
from transport.peer import PATIENCE_S, Peer, running
from transport.scripted import Line, ScriptedBroker, polite

LEVELS = tuple(Level)
FRAMES = [b"%d" % number for number in range(40)]


def mute(line: Line, packet: Packet) -> None:
    """Half open: it has connected, and was never heard again."""
    if isinstance(packet, Connect | Subscribe):
        polite(line, packet)


def desk(outbox: Outbox, deliver: Callable[[Received], None] = lambda _: None) -> Desk:
    """One at which nobody listens to what is refused."""
    return Desk(outbox, deliver)


def letter(publish: Publish) -> Letter:
    """One that was written just now."""
    return Letter(publish, asyncio.get_running_loop().time())


def publish_all(peer: Peer, payloads: list[bytes], topic: str = "t", qos: int = 1) -> None:
    for payload in payloads:
        peer.publish(Publish(topic, payload, qos))


async def test_what_was_acknowledged_is_not_sent_again_and_all_else_is_and_in_order() -> None:
    def every_other(line: Line, packet: Packet) -> None:
        if not isinstance(packet, PublishPacket):
            polite(line, packet)
        elif len(line.payloads) % 2:
            line.say(Puback(packet.packet_id))
        elif len(line.payloads) == 10:
            line.transport.close()  # its answers have left

    broker = ScriptedBroker(every_other, polite)
    async with broker.listening():
        peer = Peer(broker.link("seller"))
        async with running(peer):
            await peer.up()
            publish_all(peer, FRAMES)
            await peer.up(times=2)
            await peer.until(lambda: FRAMES[-1] in broker.lines[-1].payloads)
    first, second = (line.payloads for line in broker.lines)
    acknowledged = first[:10:2]
    assert acknowledged == FRAMES[:10:2]
    assert second == [frame for frame in FRAMES if frame not in acknowledged]
    assert peer.transport.dropped == 0


async def test_a_frame_that_makes_the_broker_hang_up_goes_and_takes_no_other_with_it() -> None:
    def touchy(line: Line, packet: Packet) -> None:
        if isinstance(packet, PublishPacket) and packet.payload == b"poison":
            line.transport.abort()
        else:
            polite(line, packet)

    broker = ScriptedBroker(touchy)
    async with broker.listening():
        peer = Peer(broker.link("seller"))
        async with running(peer):
            await peer.up()
            publish_all(peer, [*FRAMES[:5], b"poison", *FRAMES[5:]])
            await peer.until(lambda: peer.transport.dropped > 0)
            await peer.until(lambda: FRAMES[-1] in broker.lines[-1].payloads)
    assert peer.transport.dropped == 1
    assert sum(line.payloads.count(b"poison") for line in broker.lines) == ATTEMPTS_MAX
    assert {frame for line in broker.lines for frame in line.payloads} == {*FRAMES, b"poison"}


async def test_a_broker_that_stops_acknowledging_is_left_for_another_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "REQUEST_S", 0.3)
    monkeypatch.setattr(client, "TICK_S", 0.05)
    broker = ScriptedBroker(mute, polite)
    async with broker.listening():
        peer = Peer(broker.link("seller", "t"))
        async with running(peer):
            await peer.up()
            publish_all(peer, FRAMES)
            await peer.until(
                lambda: len(broker.lines) == 2 and FRAMES[-1] in broker.lines[1].payloads
            )
    assert any("does not acknowledge" in report for report in peer.reports)
    assert broker.lines[0].payloads == FRAMES[:WINDOW]
    assert broker.lines[1].payloads == FRAMES


async def test_a_broker_that_is_only_slow_is_kept_while_it_acknowledges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A window at this pace takes three times as long as one acknowledgement may."""
    monkeypatch.setattr(patience, "REQUEST_S", 0.5)
    monkeypatch.setattr(client, "TICK_S", 0.05)
    pace_s = 1.5 / WINDOW

    def slow(line: Line, packet: Packet) -> None:
        seconds = pace_s * len(line.payloads) if isinstance(packet, PublishPacket) else 0
        asyncio.get_running_loop().call_later(seconds, polite, line, packet)

    broker = ScriptedBroker(slow)
    async with broker.listening():
        peer = Peer(broker.link("seller"))
        async with running(peer):
            await peer.up()
            publish_all(peer, FRAMES[:WINDOW])
            await peer.until(lambda: not len(peer.transport._outbox))
    assert len(broker.lines) == 1
    assert broker.lines[0].payloads == FRAMES[:WINDOW]


async def test_a_half_open_connection_is_noticed_although_nothing_is_to_be_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "TICK_S", 0.05)
    broker = ScriptedBroker(mute, polite)
    async with broker.listening():
        peer = Peer(replace(broker.link("listener", "t"), keepalive_s=1))
        async with running(peer):
            await peer.up()
            await peer.up(times=2)
    assert any("silent" in report for report in peer.reports)


async def test_a_connection_that_is_answered_stays_although_nothing_is_to_be_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "TICK_S", 0.05)
    broker = ScriptedBroker(polite)
    async with broker.listening():
        peer = Peer(replace(broker.link("listener", "t"), keepalive_s=1))
        async with running(peer):
            await peer.up()
            (line,) = broker.lines
            # Connect, subscribe, and then as many pings as outlast a broker that is silent.
            await peer.until(lambda: len(line.packets) == 5)
    assert len(broker.lines) == 1


async def test_a_broker_that_reads_nothing_makes_us_hold_little_and_gets_all_of_it_later() -> None:
    def deaf(line: Line, packet: Packet) -> None:
        polite(line, packet)
        if isinstance(packet, PublishPacket) and len(line.payloads) == 1:
            line.transport.pause_reading()

    broker = ScriptedBroker(deaf)
    views = [b"%d" % number + bytes(16_000) for number in range(250)]
    async with broker.listening():
        peer = Peer(broker.link("seller"))
        async with running(peer):
            await peer.up()
            connection = peer.transport._connection
            assert connection is not None
            (line,) = broker.lines
            publish_all(peer, views, qos=0)
            await peer.until(lambda: connection._pipe.paused)
            # What asyncio holds before it asks for a pause, and a write and a packet more.
            assert connection._transport.get_write_buffer_size() < 4 * UNSENT_BYTES_MAX
            assert not connection._pipe.unsent
            assert peer.transport._outbox._taken <= WINDOW
            line.transport.resume_reading()
            await peer.until(lambda: len(line.payloads) == len(views))
    assert line.payloads == views


async def test_a_broker_that_talks_and_never_reads_is_left() -> None:
    """Its messages are to be acknowledged, and the answers are to be kept until it reads."""
    burst = b"".join(
        encode(PublishPacket("t", b"", 1, packet_id=n), Level.V5) for n in range(1, 1001)
    )

    def deaf(line: Line, packet: Packet) -> None:
        polite(line, packet)
        if isinstance(packet, PublishPacket):
            line.transport.pause_reading()

    broker, outbox = ScriptedBroker(deaf), Outbox()
    async with broker.listening():
        with pytest.raises(ConnectionError, match="does not read"):
            async with (
                asyncio.timeout(PATIENCE_S),
                connected(broker.link("voter", "t"), desk(outbox)) as connection,
            ):
                for _ in range(250):
                    outbox.put(letter(Publish("t", bytes(65_000), qos=0)))
                connection.wake()
                while not connection._pipe.paused:  # noqa: ASYNC110 - nobody is told of it
                    await asyncio.sleep(0)
                broker.lines[0].transport.write(burst * (1 + UNANSWERED_MAX // 1000))
                await connection.ended()


async def test_a_flood_does_not_keep_our_own_frames_from_leaving() -> None:
    flood, burst = 20_000, 100
    packet = encode(PublishPacket("t", bytes(200)), Level.V5)
    seen_at: list[int] = []

    def flooding(line: Line, packet_in: Packet) -> None:
        polite(line, packet_in)
        if isinstance(packet_in, Subscribe):
            for _ in range(flood // burst):
                line.transport.write(packet * burst)
        if isinstance(packet_in, PublishPacket):
            seen_at.append(len(peer.inputs))

    broker = ScriptedBroker(flooding)
    async with broker.listening():
        peer = Peer(broker.link("voter", "t"))
        async with running(peer):
            await peer.until(lambda: len(peer.inputs) > 1)
            publish_all(peer, FRAMES[:WINDOW])  # an answer would stand behind the flood
            await peer.until(lambda: len(seen_at) == WINDOW)
            assert seen_at[-1] < flood / 10
            await peer.until(lambda: len(peer.inputs) > flood)  # and `Linked`
    assert broker.lines[0].payloads == FRAMES[:WINDOW]


async def test_a_packet_longer_than_any_frame_is_acknowledged_and_dropped() -> None:
    large = random.Random(1).randbytes(3 * 1024 * 1024)

    def generous(line: Line, packet: Packet) -> None:
        polite(line, packet)
        if isinstance(packet, Subscribe):
            line.say(PublishPacket("t", large, 1, packet_id=7), PublishPacket("t", b"next"))

    broker = ScriptedBroker(generous)
    async with broker.listening():
        peer = Peer(broker.link("buyer", "t"))
        async with running(peer):
            await peer.until(lambda: len(peer.payloads) == 1)
            (line,) = broker.lines
            await peer.until(lambda: Puback(7) in line.packets)
    assert peer.payloads == [b"next"]


async def test_a_refused_subscription_is_said_and_tried_again() -> None:
    def closed(line: Line, packet: Packet) -> None:
        if isinstance(packet, Subscribe):
            line.say(Suback(packet.packet_id, (1, Code.UNSPECIFIED)))
        else:
            polite(line, packet)

    broker = ScriptedBroker(closed, polite)
    async with broker.listening():
        peer = Peer(broker.link("buyer", "open", "secret"))
        async with running(peer):
            await peer.up()
    assert any("the subscription to secret was refused" in report for report in peer.reports)
    assert broker.lines[0].packets[-1] == Disconnect()


async def test_a_broker_that_is_busy_is_tried_again() -> None:
    def busy(line: Line, packet: Packet) -> None:
        line.say(Connack(Code.UNAVAILABLE))
        line.transport.close()

    broker = ScriptedBroker(busy, polite)
    async with broker.listening():
        peer = Peer(broker.link("buyer"))
        async with running(peer):
            await peer.up()
    assert any("Server unavailable" in report for report in peer.reports), peer.reports


async def test_a_broker_that_never_answers_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "REQUEST_S", 0.1)
    broker = ScriptedBroker(lambda line, packet: None)
    async with broker.listening():
        with pytest.raises(TimeoutError):
            async with connected(broker.link("buyer"), desk(Outbox())):
                raise AssertionError("connected to nobody")


async def test_a_fault_of_ours_is_not_taken_for_a_lost_broker() -> None:
    def telling(line: Line, packet: Packet) -> None:
        polite(line, packet)
        if isinstance(packet, Subscribe):
            line.say(PublishPacket("t", b"news"))

    def fail(message: Received) -> None:
        raise AssertionError(message.payload)

    broker = ScriptedBroker(telling)
    async with broker.listening():
        with pytest.raises(AssertionError, match="news"):
            async with connected(broker.link("buyer", "t"), desk(Outbox(), fail)) as connection:
                await connection.ended()


async def test_a_fault_of_ours_in_writing_is_none_of_the_brokers_either() -> None:
    broker, outbox = ScriptedBroker(), Outbox()
    async with broker.listening():
        with pytest.raises(ValueError, match="wildcards"):
            async with connected(broker.link("seller"), desk(outbox)) as connection:
                outbox.put(letter(Publish("t/+", b"to everybody")))
                connection.wake()
                async with asyncio.timeout(PATIENCE_S):
                    await connection.ended()


async def test_an_address_that_swallows_everything_does_not_hide_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = ScriptedBroker()
    with ExitStack() as stack:
        hole = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # more than fit: what comes after them waits for ever
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(hole.getsockname())
        async with broker.listening():

            async def addresses(*_: object, **__: object) -> list[object]:
                ends = (hole.getsockname(), ("127.0.0.1", broker.port))
                return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", end) for end in ends]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
            async with connected(replace(broker.link("buyer"), host="two"), desk(Outbox())):
                assert len(broker.lines) == 1


class Wire(asyncio.Transport):
    """What asyncio gives a connection, without a socket: what is written is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """It is never full."""

    def close(self) -> None:
        self.closed = True


class Bench:
    """A connection on a wire, connected and subscribed."""

    def __init__(self, level: Level = Level.V5) -> None:
        self.outbox, self.wire, self.level = Outbox(), Wire(), level
        self.delivered: list[Received] = []
        link = Link("broker", 1883, "", "bench", ("t",))
        self.connection = Connection(link, desk(self.outbox, self.delivered.append), level)
        self.connection.connection_made(self.wire)

    def coded(self, *packets: Packet) -> bytes:
        """What a broker would send."""
        return b"".join(encode(packet, self.level) for packet in packets)

    def feed(self, data: bytes) -> None:
        """These bytes arrive."""
        for start in range(0, len(data), READ_BYTES):
            piece = data[start : start + READ_BYTES]
            self.connection.get_buffer(-1)[: len(piece)] = piece
            self.connection.buffer_updated(len(piece))

    async def start(self) -> None:
        """The handshake."""
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            group.create_task(self.connection.start())
            for answer in (Connack(), Suback(1, (Code.GRANTED_1,))):
                await asyncio.sleep(0)
                self.feed(self.coded(answer))
                await asyncio.sleep(0)


@pytest.mark.parametrize("level", LEVELS)
async def test_packets_are_the_same_in_whatever_pieces_they_arrive(level: Level) -> None:
    sent = [PublishPacket(f"t/{n}", bytes([n]) * 20 * n, n % 2, packet_id=n) for n in range(1, 60)]
    chance = random.Random(1)
    for most in (1, 3, 100, READ_BYTES):
        bench = Bench(level)
        await bench.start()
        rest = bench.coded(*sent)
        while rest:
            size = chance.randint(1, most)
            bench.feed(rest[:size])
            rest = rest[size:]
        bench.connection.close()
        assert bench.delivered == [Received(packet.topic, packet.payload) for packet in sent]
        answers = bench.coded(*(Puback(p.packet_id) for p in sent if p.qos), Disconnect())
        assert b"".join(bench.wire.written).endswith(answers)


async def test_all_that_is_said_in_one_turn_leaves_in_one_write() -> None:
    bench = Bench()
    await bench.start()
    await asyncio.sleep(0)
    before = len(bench.wire.written)
    for frame in FRAMES[:WINDOW]:
        bench.outbox.put(letter(Publish("t", frame)))
        bench.connection.wake()
    await asyncio.sleep(0)
    assert len(bench.wire.written) == before + 1
    # So do acknowledgements of what one read brought, and what the answers in it make room for.
    for frame in FRAMES[WINDOW:]:
        bench.outbox.put(letter(Publish("t", frame)))
    heard = [PublishPacket("t", b"vote", 1, packet_id=n) for n in range(1, 20)]
    first = 2  # the subscription was 1
    answers = [Puback(n) for n in range(first, first + WINDOW)]
    bench.feed(bench.coded(*heard, *answers))
    await asyncio.sleep(0)
    assert len(bench.wire.written) == before + 2
    assert len(bench.delivered) == len(heard)
    bench.connection.close()


@pytest.mark.parametrize("seed", range(100))
async def test_no_garbage_from_a_broker_ends_more_than_the_connection(seed: int) -> None:
    chance = random.Random(seed)
    bench = Bench(LEVELS[seed % 2])
    if seed % 3:
        await bench.start()
    for _ in range(20):
        body = chance.randbytes(chance.choice((0, 1, 2, 3, 5, 30)))
        if chance.random() < 0.5:  # a length that is plausible makes a topic of it
            body = bytes((0, chance.randint(0, 6))) + body
        kind = chance.choice((2, 3, 3, 3, 4, 5, 6, 7, 9, 13, 14, chance.randrange(16)))
        first = kind << 4 | chance.randrange(16)
        bench.feed(bytes((first, len(body))) + body if chance.random() < 0.9 else body)
    bench.connection.connection_lost(None)
    with suppress(OSError):
        await bench.connection.ended()
    assert bench.wire.closed
    bench.connection.close()


HOSTILE: dict[str, tuple[Packet, ...]] = {
    "two codes": (Suback(1, (Code.GRANTED_1, Code.GRANTED_1)),),
    "no code": (Suback(1, ()),),
    "the second answer first": (Suback(1, (Code.GRANTED_1,)), Connack()),
    "two welcomes": (Connack(), Connack()),
    "too many codes": (Connack(), Suback(1, (Code.GRANTED_1, Code.GRANTED_1))),
    "too few codes": (Connack(), Suback(1, ())),
    "goodbye": (Disconnect(Code.SHUTTING_DOWN),),
    "goodbye after the welcome": (Connack(), Disconnect(Code.SHUTTING_DOWN)),
}


@pytest.mark.parametrize("packets", HOSTILE.values(), ids=HOSTILE)
async def test_answers_in_the_wrong_order_or_number_are_the_brokers_fault(
    packets: tuple[Packet, ...],
) -> None:
    bench = Bench()
    async with asyncio.timeout(PATIENCE_S):
        starting = asyncio.ensure_future(bench.connection.start())
        await asyncio.sleep(0)
        bench.feed(bench.coded(*packets))
        with pytest.raises(ConnectionError):
            await starting
    bench.connection.close()
    assert bench.wire.closed


@pytest.mark.parametrize("seed", range(100))
async def test_no_garbage_in_place_of_a_welcome_is_taken_for_a_fault_of_ours(seed: int) -> None:
    chance = random.Random(seed)
    bench = Bench(LEVELS[seed % 2])
    starting = asyncio.ensure_future(bench.connection.start())
    for _ in range(10):
        await asyncio.sleep(0)
        body = chance.randbytes(chance.choice((0, 1, 2, 3, 4, 5, 9)))
        if chance.random() < 0.5:
            body = bytes((0, chance.choice((0, 1)), *body))
        kind = chance.choice((2, 2, 4, 9, 9, 13, 14))
        bench.feed(bytes((kind << 4, len(body))) + body)
    bench.connection.connection_lost(None)
    with suppress(OSError):
        await starting
        await bench.connection.ended()
    bench.connection.close()


async def test_a_topic_that_is_no_text_is_nobodys_and_ends_nothing() -> None:
    """A broker may hand on what anybody made up: hanging up would be what they want."""
    bench = Bench()
    await bench.start()
    no_text = b"\x30\x05\x00\x02\xc3\x28\x00"
    bench.feed(no_text + bench.coded(PublishPacket("t", b"fine")))
    assert bench.delivered == [Received("\N{REPLACEMENT CHARACTER}(", b""), Received("t", b"fine")]
    bench.connection.close()


def test_paho_takes_its_socket_from_us_and_opens_none() -> None:
    """Notices a paho in which our one private name has another meaning: it would ask the DNS."""
    pipe = Pipe()
    paho = PipedClient("device", pipe, Level.V5)
    paho.on_socket_register_write = lambda *_: None
    assert paho.connect("host.invalid", 1883) == 0
    assert paho.socket() is pipe
    paho.loop_write()
    assert b"device" in pipe.unsent


def test_a_reason_is_said_once_and_without_numbers() -> None:
    many = (
        "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1883, 0, 0), "
        "[Errno 111] Connect call failed ('127.0.0.1', 1883)"
    )
    assert reason_of(OSError(many)) == "Connection refused"
    assert reason_of(OSError(-2, "Name or service not known")) == "Name or service not known"
    assert reason_of(TimeoutError()) == "it does not answer"
    assert reason_of(ConnectionError("the broker hung up")) == "the broker hung up"


async def test_losing_the_link_is_told_once() -> None:
    broker = ScriptedBroker()
    async with broker.listening():
        peer = Peer(broker.link("seller"))
        async with running(peer):
            await peer.up()
            broker.lines[0].transport.abort()
            await peer.up(times=2)
    assert peer.inputs[:3] == [Linked(0, up=True), Linked(0, up=False), Linked(0, up=True)]
