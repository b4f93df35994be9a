"""The clients people use, against the embedded broker: paho-mqtt in its thread, and aiomqtt."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from demesh.broker.server import Server

PATIENCE_S = 10.0


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """An embedded broker on a free port."""
    async with Server() as server:
        yield server


class PahoClient:
    """paho with its own network thread, and its callbacks as queues."""

    def __init__(self, port: int, client_id: str, clean_session: bool) -> None:
        self.arrived: queue.Queue[tuple[str, bytes, int, bool]] = queue.Queue()
        self.events: queue.Queue[str] = queue.Queue()
        self.session_present = False
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, clean_session, protocol=paho.MQTTv311
        )
        self.client.on_message = lambda _c, _u, m: self.arrived.put(
            (m.topic, m.payload, m.qos, m.retain)
        )
        self.client.on_connect = self._connected
        self.client.on_subscribe = lambda *_: self.events.put("subscribed")
        self.client.on_publish = lambda *_: self.events.put("published")
        self.client.will_set("gone", client_id, qos=1)
        self.client.connect("127.0.0.1", port, keepalive=30)
        self.client.loop_start()

    def _connected(self, _client, _data, flags, _reason, _properties) -> None:
        self.session_present = flags.session_present
        self.events.put("connected")

    def wait(self, event: str) -> None:
        assert self.events.get(timeout=PATIENCE_S) == event

    def leave(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def talk_with_paho(port: int) -> None:
    sender = PahoClient(port, "sender", True)
    sender.wait("connected")
    receiver = PahoClient(port, "receiver", False)
    receiver.wait("connected")
    receiver.client.subscribe("mesh/#", 2)
    receiver.wait("subscribed")
    for qos in (0, 1, 2):
        sender.client.publish("mesh/x", b"%d" % qos, qos)
        sender.wait("published")
        assert receiver.arrived.get(timeout=PATIENCE_S) == ("mesh/x", b"%d" % qos, qos, False)
    receiver.leave()
    for n in range(200):
        sender.client.publish("mesh/kept", b"%d" % n, 1 + n % 2, retain=n == 199)
    for _ in range(200):
        sender.wait("published")
    receiver = PahoClient(port, "receiver", False)
    receiver.wait("connected")
    assert receiver.session_present
    kept = [receiver.arrived.get(timeout=PATIENCE_S) for _ in range(200)]
    for qos in (1, 2):  # the order holds within a QoS: paho waits for the release of QoS 2
        expected = [b"%d" % n for n in range(200) if 1 + n % 2 == qos]
        assert [payload for _, payload, came_with, _ in kept if came_with == qos] == expected
    sender.client.subscribe("mesh/kept", 0)
    assert sender.arrived.get(timeout=PATIENCE_S) == ("mesh/kept", b"199", 0, True)
    receiver.leave()
    sender.leave()


async def test_paho_speaks_all_qos_sessions_and_retained(server: Server) -> None:
    await asyncio.to_thread(talk_with_paho, server.port)


async def test_aiomqtt_speaks_all_qos_retained_and_wills(server: Server) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async with aiomqtt.Client("127.0.0.1", server.port, identifier="watcher") as watcher:
            await watcher.subscribe("#", qos=2)
            will = aiomqtt.Will("gone", b"speaker", 1)
            with pytest.raises(ZeroDivisionError):
                async with aiomqtt.Client("127.0.0.1", server.port, will=will) as speaker:
                    for qos in (0, 1, 2):
                        await speaker.publish(f"t/{qos}", b"x" * 1000, qos, retain=qos == 1)
                    speaker._client._sock_close()  # not a goodbye
                    raise ZeroDivisionError
            got = []
            async for message in watcher.messages:
                got.append((str(message.topic), message.qos, message.retain))
                if message.topic.matches("gone"):
                    break
            assert got == [
                ("t/0", 0, False),
                ("t/1", 1, False),
                ("t/2", 2, False),
                ("gone", 1, False),
            ]
            await watcher.subscribe("t/1")
            async for message in watcher.messages:
                assert (str(message.topic), message.retain) == ("t/1", True)
                break


async def test_aiomqtt_comes_back_after_the_broker_was_restarted(server: Server) -> None:
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(aiomqtt.MqttError):
            async with aiomqtt.Client("127.0.0.1", server.port) as client:
                await client.subscribe("t")
                await server.stop()
                async for _ in client.messages:
                    pass
        await server.start()
        async with aiomqtt.Client("127.0.0.1", server.port) as client:
            await client.subscribe("t", qos=1)
            await client.publish("t", b"back", qos=1)
            async for message in client.messages:
                assert message.payload == b"back"
                break
