"""The MQTT transport against a real broker: connecting, losing it, and losing nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import aiomqtt
import pytest

from demesh.errors import ConfigError, TemporaryError
from demesh.ports import Linked, Publish, Received
from demesh.transport.client import Link
from demesh.transport.outbox import WINDOW
from demesh.transport.packets import Level
from demesh.transport.patience import REQUEST_S
from transport.brokers import BROKERS, BrokerProcess, embedded, free_port, mosquitto
from transport.peer import PATIENCE_S, Peer, running


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    process = BROKERS[request.param](tmp_path)
    process.start()
    yield process
    process.stop(kill=True)


def link_to(broker: BrokerProcess, name: str, *topics: str) -> Link:
    return Link("127.0.0.1", broker.port, broker.url, name, topics)


async def test_a_publication_reaches_a_subscriber_and_both_hear_that_they_are_linked(
    broker: BrokerProcess,
) -> None:
    seller, buyer = Peer(link_to(broker, "seller")), Peer(link_to(broker, "buyer", "t/#"))
    async with running(seller, buyer):
        await seller.up()
        await buyer.up()
        seller.publish(Publish("t/1", b"frame"))
        seller.publish(Publish("t/2", b"view", qos=0))
        await buyer.until(lambda: len(buyer.payloads) == 2)
    assert Received("t/1", b"frame") in buyer.inputs
    assert Received("t/2", b"view") in buyer.inputs


async def test_many_publications_arrive_once_each_and_in_order(broker: BrokerProcess) -> None:
    seller, buyer = Peer(link_to(broker, "seller")), Peer(link_to(broker, "buyer", "t"))
    sent = [b"%d" % number for number in range(1000)]
    async with running(seller, buyer):
        await buyer.up()
        for payload in sent:
            seller.publish(Publish("t", payload))
        await buyer.until(lambda: len(buyer.payloads) == len(sent))
    assert buyer.payloads == sent
    assert seller.transport.dropped == 0


async def test_a_retained_message_is_told_as_retained(broker: BrokerProcess) -> None:
    seller = Peer(link_to(broker, "seller"))
    async with running(seller):
        await seller.up()
        seller.publish(Publish("card/1", b"offer", retain=True))
    buyer = Peer(link_to(broker, "buyer", "card/+"))
    async with running(buyer):
        await buyer.until(lambda: bool(buyer.payloads))
    assert Received("card/1", b"offer", retained=True) in buyer.inputs


async def retained(broker: BrokerProcess, count: int) -> set[bytes]:
    """What a stranger finds on t/+ once there are `count` messages."""
    stranger = Peer(link_to(broker, "stranger", "t/+"))
    async with running(stranger):
        await stranger.until(lambda: len(stranger.payloads) >= count)
    return set(stranger.payloads)


async def test_what_is_published_while_the_broker_is_down_arrives_when_it_is_back(
    broker: BrokerProcess,
) -> None:
    seller = Peer(link_to(broker, "seller"))
    sent = [b"%d" % number for number in range(200)]
    async with running(seller):
        await seller.up()
        broker.stop(kill=True)
        await seller.down()
        for payload in sent:
            seller.publish(Publish(f"t/{payload.decode()}", payload, retain=True))
        broker.start()
        assert await retained(broker, len(sent)) == set(sent)
    assert seller.transport.dropped == 0
    assert any("lost the broker" in report for report in seller.reports)
    assert seller.inputs.count(Linked(0, up=True)) == 2


async def test_what_a_dying_broker_took_and_never_acknowledged_is_sent_again(
    broker: BrokerProcess,
) -> None:
    seller = Peer(link_to(broker, "seller"))
    sent = [b"%d" % number for number in range(50)]
    async with running(seller):
        await seller.up()
        broker.freeze()
        for payload in sent:
            seller.publish(Publish(f"t/{payload.decode()}", payload, retain=True))
        # The window is full: so many were handed over and wait for their acknowledgement.
        await seller.until(lambda: seller.transport._outbox._taken == WINDOW)
        broker.stop(kill=True)
        broker.start()
        # At once, and not when the waits for the dead broker's acknowledgements run out.
        async with asyncio.timeout(REQUEST_S / 2):
            assert await retained(broker, len(sent)) == set(sent)
    assert seller.transport.dropped == 0


async def test_a_persistent_session_keeps_frames_for_a_device_that_is_away(
    broker: BrokerProcess,
) -> None:
    first = Peer(link_to(broker, "buyer", "t"))
    async with running(first):
        await first.up()
    seller = Peer(link_to(broker, "seller"))
    async with running(seller):
        await seller.up()
        seller.publish(Publish("t", b"meanwhile"))
    second = Peer(link_to(broker, "buyer", "t"))
    async with running(second):
        await second.until(lambda: second.payloads == [b"meanwhile"])


async def test_the_will_is_published_for_a_connection_that_breaks_and_not_for_a_clean_end(
    broker: BrokerProcess,
) -> None:
    watcher = Peer(link_to(broker, "watcher", "gone/+"))
    clean = Peer(replace(link_to(broker, "clean"), will=("gone/clean", b"1")))
    async with running(watcher):
        await watcher.up()
        async with running(clean):
            await clean.up()
        cut = Peer(replace(link_to(broker, "cut"), will=("gone/cut", b"7")))
        async with running(cut):
            await cut.up()
            # A second connection with the same id takes the session over: the first one breaks.
            async with aiomqtt.Client("127.0.0.1", broker.port, identifier="cut"):
                await watcher.until(lambda: bool(watcher.payloads))
    assert watcher.payloads[0] == b"7"


async def test_the_socket_sends_without_delay(broker: BrokerProcess) -> None:
    peer = Peer(link_to(broker, "seller"))
    async with running(peer):
        await peer.up()
        connection = peer.transport._connection
        assert connection is not None
        descriptor = connection._transport.get_extra_info("socket")
        assert descriptor.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_an_unreachable_broker_ends_the_start_with_one_line() -> None:
    port = free_port()
    peer = Peer(Link("127.0.0.1", port, f"mqtt://127.0.0.1:{port}", "seller", (), wait_s=1))
    with pytest.raises(TemporaryError, match=rf"{port}: no broker: .*refused"):
        async with asyncio.timeout(PATIENCE_S):
            await peer.transport.run()
    assert len([line for line in peer.reports if "no broker" in line]) == 1


async def test_a_refused_login_ends_the_start_with_one_line(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    strict = mosquitto(tmp_path, f"allow_anonymous false\npassword_file {passwords}\n")
    strict.start()
    peer = Peer(replace(link_to(strict, "seller"), username="me", password="wrong"))
    try:
        with pytest.raises(ConfigError, match="login"):
            async with asyncio.timeout(PATIENCE_S):
                await peer.transport.run()
    finally:
        strict.stop()


@pytest.mark.parametrize("level", list(Level))
async def test_a_frame_the_broker_finds_too_large_does_not_stop_those_around_it(
    level: Level, tmp_path: Path
) -> None:
    """256 KiB at most; with MQTT 5 it says so before, with 3.1.1 it hangs up."""
    small = embedded(tmp_path)
    small.start()
    seller, buyer = Peer(link_to(small, "seller")), Peer(link_to(small, "buyer", "t"))
    seller.transport._outdated = level is Level.V3
    frames = [b"before", bytes(1024 * 1024), b"behind"]
    try:
        async with running(seller, buyer):
            await seller.up()
            await buyer.up()
            for frame in frames:
                seller.publish(Publish("t", frame))
            outbox = seller.transport._outbox
            await seller.until(lambda: outbox.dropped + outbox.refused == 1)
            await buyer.until(lambda: b"behind" in buyer.payloads)
    finally:
        small.stop(kill=True)
    assert set(buyer.payloads) == {b"before", b"behind"}
    assert outbox.refused == (level is Level.V5)


async def test_a_name_with_more_than_one_address_is_tried_at_all_of_them(
    broker: BrokerProcess,
) -> None:
    peer = Peer(replace(link_to(broker, "seller"), host="localhost"))  # it listens at 127.0.0.1
    async with running(peer):
        await peer.up()
