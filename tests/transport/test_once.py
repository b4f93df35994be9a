"""One publication over connections of its own: the first broker that takes it is enough."""

from __future__ import annotations

import pytest

from demesh.broker.codec import Code, Connack, Connect, Packet, Puback
from demesh.broker.codec import Publish as PublishPacket
from demesh.errors import ConfigError, RefusedError, TemporaryError
from demesh.ports import Publish
from demesh.transport import once, patience
from demesh.transport.client import Link
from demesh.transport.once import publish_once
from transport.brokers import free_port
from transport.scripted import Line, ScriptedBroker, old, polite

OP = Publish("op/device", b"signed")


def nowhere() -> Link:
    port = free_port()
    return Link("127.0.0.1", port, f"mqtt://127.0.0.1:{port}", "device-1", (), lasting=False)


def answering(code: Code) -> ScriptedBroker:
    """A broker that lets nobody in, for this reason."""

    def answer(line: Line, packet: Packet) -> None:
        line.say(Connack(code))
        line.transport.close()

    return ScriptedBroker(answer)


async def test_it_is_acknowledged_and_nothing_is_left_behind() -> None:
    for broker in (ScriptedBroker(), ScriptedBroker(old)):
        async with broker.listening():
            link = Link("127.0.0.1", broker.port, "mqtt://b", "device-1", (), lasting=False)
            await publish_once([link], OP)
        hello, said = broker.lines[-1].packets[:2]
        assert isinstance(hello, Connect)
        assert hello.clean_start and hello.client_id == "device-1"
        assert isinstance(said, PublishPacket)
        assert (said.topic, said.payload, said.qos) == ("op/device", b"signed", 1)


async def test_the_next_broker_is_tried_where_one_does_not_take_it() -> None:
    def guarded(line: Line, packet: Packet) -> None:
        if isinstance(packet, PublishPacket):
            line.say(Puback(packet.packet_id, Code.NOT_AUTHORIZED))
        else:
            polite(line, packet)

    closed, shy, last = answering(Code.BAD_LOGIN), ScriptedBroker(guarded), ScriptedBroker()
    async with closed.listening(), shy.listening(), last.listening():
        links = [nowhere(), closed.link("d"), shy.link("d"), last.link("d")]
        await publish_once(links, OP)
        assert last.lines[0].payloads == [b"signed"]
        with pytest.raises(RefusedError, match=r"op/device: this device's login has no right"):
            await publish_once(links[:3], OP)
        with pytest.raises(ConfigError, match="refused the login"):
            await publish_once(links[:2], OP)
        with pytest.raises(TemporaryError, match="Connection refused; is it running"):
            await publish_once(links[:1], OP)


async def test_a_broker_that_takes_it_and_says_nothing_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "REQUEST_S", 0.2)
    monkeypatch.setattr(once, "REQUEST_S", 0.2)

    def mute(line: Line, packet: Packet) -> None:
        if isinstance(packet, Connect):
            polite(line, packet)

    broker = ScriptedBroker(mute)
    async with broker.listening():
        with pytest.raises(TemporaryError, match="does not a"):  # answer, or acknowledge
            await publish_once([broker.link("d")], OP)


async def test_a_broker_that_hangs_up_on_it_is_told_from_one_that_took_it() -> None:
    def touchy(line: Line, packet: Packet) -> None:
        if isinstance(packet, PublishPacket):
            line.transport.abort()
        else:
            polite(line, packet)

    broker = ScriptedBroker(touchy)
    async with broker.listening():
        with pytest.raises(TemporaryError, match="no broker"):
            await publish_once([broker.link("d")], OP)
