"""Lines that are silent or slow: the first are noticed, the second are waited for."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from demesh.broker.codec import Packet, Subscribe
from demesh.broker.codec import Publish as PublishPacket
from demesh.ports import Linked, Publish
from demesh.transport import patience
from demesh.transport.client import Link
from demesh.transport.packets import Level
from transport.brokers import BROKERS
from transport.device import Device, heard
from transport.peer import Peer, running
from transport.proxies import Proxy
from transport.scripted import Line, ScriptedBroker, polite

KEEPALIVE_S = 1

# A keepalive until the ping, another for its answer, and our own ticks and a busy machine's.
NOTICED_S = 2 * KEEPALIVE_S + 1.5


def through(proxy: Proxy, name: str, *topics: str) -> Link:
    url = f"mqtt://127.0.0.1:{proxy.port}"
    return Link("127.0.0.1", proxy.port, url, name, topics, keepalive_s=KEEPALIVE_S)


@pytest.mark.parametrize("busy", [False, True])
async def test_a_line_that_falls_silent_is_noticed_in_time_and_the_other_carries_on(
    busy: bool,
) -> None:
    one, two = ScriptedBroker(), ScriptedBroker()
    async with one.listening(), two.listening():
        proxy = Proxy(one.port)
        async with proxy.listening():
            device = Device([through(proxy, "device", "t"), two.link("device", "t")])
            async with device.running():
                await device.up(0, 1)
                clock = asyncio.get_running_loop().time
                proxy.fall_silent()
                silent_at = clock()
                if busy:
                    device.fanout.publish(Publish("t", b"meanwhile"))
                    async with asyncio.timeout(1):
                        await device.until(lambda: heard(two) == [b"meanwhile"])
                await device.until(lambda: Linked(0, up=False) in device.inputs)
                assert clock() - silent_at < NOTICED_S
                assert any("the broker is silent" in report for report in device.reports)
                assert Linked(1, up=False) not in device.inputs
                device.fanout.publish(Publish("t", b"later"))
                await device.until(lambda: b"later" in heard(two))


SLOW_BYTES_S = 1000


@pytest.mark.parametrize("level", list(Level))
async def test_all_of_it_arrives_over_a_slow_line_and_the_connection_stays(
    level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said takes nine times as long as an answer may, and the largest frame three times."""
    monkeypatch.setattr(patience, "REQUEST_S", 1.0)
    broker = ScriptedBroker()
    frames = [bytes([number]) * 250 for number in range(20)]
    frames.insert(10, bytes(3000))
    views = [b"view %d" % number + bytes(200) for number in range(5)]
    async with broker.listening():
        proxy = Proxy(broker.port, SLOW_BYTES_S)
        async with proxy.listening():
            peer = Peer(replace(through(proxy, "voter", "t"), keepalive_s=2))
            peer.transport._outdated = level is Level.V3
            async with running(peer):
                await peer.up()
                for payload in views:
                    peer.publish(Publish("obs", payload, qos=0))
                for payload in frames:
                    peer.publish(Publish("t", payload))
                await peer.until(lambda: not len(peer.transport._outbox))
                assert peer.transport.state()["connections"] == 1, peer.reports
                (line,) = broker.lines
                await peer.until(lambda: len(line.payloads) == len(frames) + len(views))
    assert [payload for payload in line.payloads if payload not in views] == frames
    assert peer.transport.dropped == 0
    assert peer.transport.state()["connections"] == 1, peer.reports


async def test_a_frame_is_acknowledged_behind_all_that_a_slow_line_brings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four seconds of what others say stand before the answer, which has one."""
    monkeypatch.setattr(patience, "REQUEST_S", 1.0)
    others = [PublishPacket("t", bytes(200), 1, packet_id=number) for number in range(1, 21)]

    def talkative(line: Line, packet: Packet) -> None:
        polite(line, packet)
        if isinstance(packet, Subscribe):
            line.say(*others)

    broker = ScriptedBroker(talkative)
    async with broker.listening():
        proxy = Proxy(broker.port, SLOW_BYTES_S)
        async with proxy.listening():
            peer = Peer(replace(through(proxy, "voter", "t"), keepalive_s=2))
            async with running(peer):
                await peer.up()
                peer.publish(Publish("t", b"frame"))
                await peer.until(lambda: not len(peer.transport._outbox))
                assert len(peer.payloads) == len(others)
    assert peer.transport.state()["connections"] == 1, peer.reports


async def test_a_line_that_is_slower_than_what_is_to_be_said_makes_us_hold_little() -> None:
    """Ten times too much: the oldest goes, the latest arrives, the connection stays."""
    broker = ScriptedBroker()
    async with broker.listening():
        proxy = Proxy(broker.port, 4 * SLOW_BYTES_S)
        async with proxy.listening():
            peer = Peer(replace(through(proxy, "voter", "t"), keepalive_s=2))
            outbox = peer.transport._outbox
            outbox._frames.most = 40
            async with running(peer):
                await peer.up()
                for number in range(400):
                    peer.publish(Publish("t", b"%03d" % number * 100))
                    if number % 10 == 9:
                        await asyncio.sleep(0)
                    assert len(outbox) <= 40 + outbox.window
                await peer.until(lambda: not len(outbox))
    assert broker.lines[0].payloads[-1] == b"399" * 100
    assert len(broker.lines[0].payloads) + outbox.dropped == 400
    assert peer.transport.state()["connections"] == 1, peer.reports


@pytest.mark.parametrize("kind", BROKERS)
async def test_a_slow_line_to_a_real_broker_carries_both_ways(kind: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    broker = BROKERS[kind](tmp_path)
    await asyncio.to_thread(broker.start)
    proxy = Proxy(broker.port, 2 * SLOW_BYTES_S)
    try:
        async with proxy.listening():
            slow = Peer(replace(through(proxy, "slow", "t/+"), keepalive_s=5))
            fast = Peer(Link("127.0.0.1", broker.port, broker.url, "fast", ("t/+",)))
            async with running(slow, fast):
                await slow.up()
                await fast.up()
                sent = [b"%d" % number + bytes(150) for number in range(30)]
                for payload in sent:
                    slow.publish(Publish("t/slow", payload))
                    fast.publish(Publish("t/fast", payload))
                await slow.until(lambda: slow.payloads.count(sent[-1]) >= 1)
                await fast.until(lambda: fast.payloads.count(sent[-1]) >= 1)
                await slow.until(lambda: not len(slow.transport._outbox))
    finally:
        broker.stop(kill=True)
    assert slow.transport.state()["connections"] == 1, slow.reports
    assert set(fast.payloads) == set(sent) == set(slow.payloads)
