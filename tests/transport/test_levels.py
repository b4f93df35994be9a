"""MQTT 5 where the broker speaks it and 3.1.1 where not, and what 5 says that 3.1.1 cannot."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from demesh.broker.codec import (
    LEVEL_3,
    LEVEL_5,
    Code,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Properties,
    Puback,
    Subscribe,
)
from demesh.broker.codec import Publish as PublishPacket
from demesh.ports import Linked, Publish
from demesh.transport.mqtt import (
    BACKOFF_FIRST_S,
    BACKOFF_MAX_S,
    BACKOFF_RECENT_S,
    BACKOFF_THROWN_OUT_S,
    RECENT_S,
    STEADY_S,
    Backoff,
)
from demesh.transport.packets import Level
from demesh.transport.pipe import RECEIVE_MAX, SESSION_S
from transport.brokers import BROKERS, embedded
from transport.peer import Peer, running
from transport.scripted import Answer, Line, ScriptedBroker, old, polite
from transport.test_mqtt import link_to


def levels(broker: ScriptedBroker) -> list[int]:
    """Of every CONNECT, in order."""
    return [p.level for line in broker.lines for p in line.packets if isinstance(p, Connect)]


def welcome(properties: Properties) -> Answer:
    """A polite broker with such limits."""

    def answer(line: Line, packet: Packet) -> None:
        if isinstance(packet, Connect):
            line.say(Connack(properties=properties))
        else:
            polite(line, packet)

    return answer


async def test_5_is_asked_for_with_a_session_and_nothing_of_ones_own() -> None:
    broker = ScriptedBroker()
    async with broker.listening():
        peer = Peer(replace(broker.link("device", "a/+", "b"), will=("gone", b"1")))
        async with running(peer):
            await peer.up()
            hello, wanted = broker.lines[0].packets[:2]
    assert isinstance(hello, Connect)
    assert isinstance(wanted, Subscribe)
    assert (hello.level, hello.clean_start, hello.keep_alive_s) == (LEVEL_5, False, 20)
    assert hello.properties == Properties(session_expiry_s=SESSION_S, receive_maximum=RECEIVE_MAX)
    assert hello.will is not None
    assert (hello.will.topic, hello.will.payload, hello.will.qos) == ("gone", b"1", 1)
    assert [(one.pattern, one.qos, one.no_local) for one in wanted.filters] == [
        ("a/+", 1, True),
        ("b", 1, True),
    ]


async def test_a_broker_that_refuses_5_is_spoken_to_in_3_1_1_from_then_on() -> None:
    broker = ScriptedBroker(old)
    async with broker.listening():
        peer = Peer(broker.link("device", "t"))
        async with running(peer):
            await peer.up()
            assert peer.transport.state()["level"] == "3.1.1"
            peer.publish(Publish("t", b"frame"))
            await peer.until(lambda: b"frame" in broker.lines[-1].payloads)
            broker.lines[-1].transport.abort()
            await peer.up(times=2)
    assert levels(broker) == [LEVEL_5, LEVEL_3, LEVEL_3]
    hello = broker.lines[1].packets[0]
    assert isinstance(hello, Connect)
    assert not hello.clean_start, "its session waits, as that of 5 does"


async def test_a_broker_that_hangs_up_at_5_is_tried_in_3_1_1_at_once_and_asked_again_later() -> (
    None
):
    def touchy(line: Line, packet: Packet) -> None:
        if isinstance(packet, Connect) and packet.level == LEVEL_5:
            line.transport.close()
        else:
            polite(line, packet)

    broker = ScriptedBroker(touchy, touchy, polite)
    async with broker.listening():
        peer = Peer(broker.link("device", "t"))
        async with running(peer):
            await peer.up()
            broker.lines[-1].transport.abort()
            await peer.up(times=2)
    assert levels(broker) == [LEVEL_5, LEVEL_3, LEVEL_5]


async def test_a_refused_login_is_not_tried_at_another_level() -> None:
    def strict(line: Line, packet: Packet) -> None:
        line.say(Connack(Code.BUSY if len(broker.lines) < 3 else Code.SUCCESS))

    broker = ScriptedBroker(strict)
    async with broker.listening():
        peer = Peer(broker.link("device"))
        async with running(peer):
            await peer.up()
    assert levels(broker) == [LEVEL_5] * 3


async def test_what_the_broker_says_it_can_take_is_kept_to() -> None:
    limits = Properties(receive_maximum=3, maximum_packet_bytes=1000, server_keep_alive_s=7)
    held: list[int] = []

    def slow(line: Line, packet: Packet) -> None:
        if isinstance(packet, PublishPacket):
            held.append(packet.packet_id)
            asyncio.get_running_loop().call_later(0.02, line.say, Puback(held[-1]))
        else:
            welcome(limits)(line, packet)

    broker = ScriptedBroker(slow)
    async with broker.listening():
        peer = Peer(broker.link("device"))
        async with running(peer):
            await peer.up()
            assert peer.transport._connection is not None
            assert peer.transport._connection._patience.keepalive_s == 7
            for number in range(20):
                peer.publish(Publish("t", b"%d" % number))
                peer.publish(Publish("t", bytes(1000)))
            taken = []
            while len(peer.transport._outbox):
                taken.append(peer.transport._outbox._taken)
                await asyncio.sleep(0)
    assert max(taken) == 3
    assert broker.lines[0].payloads == [b"%d" % number for number in range(20)]
    assert peer.transport._outbox.refused == 20
    assert [r for r in peer.reports if "does not take t: it takes 1,000 bytes" in r] != []


@pytest.mark.parametrize(("asked_s", "kept_s"), [(0, 20), (5, 5), (65_535, 20)])
async def test_no_broker_makes_us_wait_longer_until_it_counts_as_dead(
    asked_s: int, kept_s: int
) -> None:
    broker = ScriptedBroker(welcome(Properties(server_keep_alive_s=asked_s)))
    async with broker.listening():
        peer = Peer(broker.link("device"))
        async with running(peer):
            await peer.up()
            assert peer.transport._connection is not None
            assert peer.transport._connection._patience.keepalive_s == kept_s


async def test_a_broker_without_retained_messages_cannot_carry_a_mesh() -> None:
    broker = ScriptedBroker(welcome(Properties(retain_available=0)), polite)
    async with broker.listening():
        peer = Peer(replace(broker.link("device", "t"), least_qos=1))
        async with running(peer):
            await peer.up()
    assert any("keeps no retained messages" in report for report in peer.reports)


async def test_a_topic_we_may_not_publish_on_is_said_once_with_what_to_do() -> None:
    def guarded(line: Line, packet: Packet) -> None:
        if isinstance(packet, PublishPacket) and packet.topic == "others":
            line.say(Puback(packet.packet_id, Code.NOT_AUTHORIZED))
        else:
            polite(line, packet)

    broker = ScriptedBroker(guarded)
    async with broker.listening():
        peer = Peer(broker.link("device"))
        async with running(peer):
            await peer.up()
            for _ in range(3):
                peer.publish(Publish("others", b"x"))
            peer.publish(Publish("mine", b"y"))
            await peer.until(lambda: not len(peer.transport._outbox))
            await peer.until(lambda: peer.transport._outbox.refused == 3)
    said = [report for report in peer.reports if "others" in report]
    assert len(said) == 1
    assert "does not take others: this device's login has no right to it" in said[0]
    assert broker.lines[0].payloads.count(b"x") == 3, "none is tried again"
    assert peer.transport.dropped == 0, "that is no overload"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (Code.SHUTTING_DOWN, "it shuts down"),
        (Code.QUOTA, "a quota is used up"),
        (Code.TAKEN_OVER, "another program connected with this device's id"),
        (Code.BUSY, "reason code 0x89"),
        (Code.SUCCESS, "it says goodbye"),
    ],
)
async def test_why_a_broker_ends_the_connection_is_said_in_words(code: Code, says: str) -> None:
    def leaving(line: Line, packet: Packet) -> None:
        polite(line, packet)
        if isinstance(packet, Subscribe):
            line.say(Disconnect(code))

    broker = ScriptedBroker(leaving, polite)
    async with broker.listening():
        peer = Peer(broker.link("device", "t"))
        async with running(peer):
            await peer.until(lambda: any(says in report for report in peer.reports))
            await peer.up(times=2)


@pytest.mark.parametrize("kind", BROKERS)
@pytest.mark.parametrize("level", list(Level))
async def test_a_device_hears_itself_only_where_the_broker_cannot_help_it(
    kind: str, level: Level, tmp_path: Path
) -> None:
    broker = BROKERS[kind](tmp_path)
    await asyncio.to_thread(broker.start)
    try:
        peer, other = Peer(link_to(broker, "device", "t")), Peer(link_to(broker, "other", "t"))
        peer.transport._outdated = level is Level.V3
        async with running(peer, other):
            await peer.up()
            await other.up()
            peer.publish(Publish("t", b"mine"))
            await other.until(lambda: other.payloads == [b"mine"])
            other.publish(Publish("t", b"yours"))
            await peer.until(lambda: b"yours" in peer.payloads)
    finally:
        broker.stop(kill=True)
    assert peer.transport.state()["level"] == level.spoken
    assert (b"mine" in peer.payloads) is (level is Level.V3)


async def test_two_daemons_with_one_id_are_told_by_who_knows_it_and_slow_down(
    tmp_path: Path,
) -> None:
    broker = embedded(tmp_path)  # mosquitto says nothing
    await asyncio.to_thread(broker.start)
    try:
        one, two = Peer(link_to(broker, "device"), seed=1), Peer(link_to(broker, "device"), seed=2)
        async with running(one, two):
            await one.until(lambda: any("run one daemon only" in r for r in one.reports))
            await two.until(lambda: any("run one daemon only" in r for r in two.reports))
            await one.until(lambda: one.transport._backoff._next_s >= 2)
    finally:
        broker.stop(kill=True)
    assert one.inputs.count(Linked(0, up=True)) < 10


def backoff() -> Backoff:
    return Backoff(random.Random(1))


def pauses(one: Backoff, count: int, now: float = 0.0) -> list[float]:
    return [one.pause_s(now) for _ in range(count)]


def test_pauses_double_up_to_a_bound_and_half_of_each_is_chance() -> None:
    for number, pause_s in enumerate(pauses(backoff(), 12)):
        whole = min(BACKOFF_FIRST_S * 2**number, BACKOFF_MAX_S)
        assert whole / 2 <= pause_s <= whole
    assert len(set(pauses(backoff(), 12))) == 12


def test_a_broker_that_was_there_a_moment_ago_is_tried_often_for_a_while() -> None:
    one = backoff()
    pauses(one, 10)
    one.ended(100, 0.5)
    one.failed()
    assert max(pauses(one, 10, 100 + RECENT_S - 1)) <= BACKOFF_RECENT_S
    assert min(pauses(one, 10, 100 + RECENT_S)) > BACKOFF_RECENT_S


def test_who_is_thrown_out_again_and_again_by_a_broker_that_is_there_slows_down() -> None:
    one, taken = backoff(), []
    for number in range(10):
        one.ended(number, 0.5)
        taken.append(one.pause_s(number))
    assert taken[0] <= BACKOFF_FIRST_S
    assert min(taken[4:]) >= BACKOFF_THROWN_OUT_S / 2


def test_who_meets_a_broker_between_its_restarts_goes_on_trying_as_often() -> None:
    one = backoff()
    for number in range(100):
        one.ended(number, 0.5)
        assert one.pause_s(number) <= BACKOFF_FIRST_S
        one.failed()
        assert one.pause_s(number) <= BACKOFF_RECENT_S


def test_a_connection_that_held_starts_the_pauses_anew() -> None:
    one = backoff()
    pauses(one, 10)
    one.ended(100, STEADY_S + 1)
    assert one.pause_s(100 + RECENT_S) <= BACKOFF_FIRST_S
