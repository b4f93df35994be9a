"""The clients people use, against the embedded broker: paho-mqtt in its thread, and aiomqtt."""

from __future__ import annotations

import asyncio
import queue
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from broker.papers import Papers, needs_openssl
from demesh.broker.server import Server
from demesh.broker.settings import BrokerConfig, Endpoint, read_trust

PATIENCE_S = 10.0


WAYS = ("mqtt", "mqtts", "ws", "wss")


@dataclass(frozen=True)
class Way:
    """A listener, and what a client needs to know to use it."""

    scheme: str
    port: int
    authority: Path

    @property
    def transport(self) -> str:
        return "websockets" if self.scheme in ("ws", "wss") else "tcp"

    @property
    def context(self) -> ssl.SSLContext | None:
        if self.scheme in ("mqtt", "ws"):
            return None
        return ssl.create_default_context(cafile=self.authority)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """An embedded broker on a free port."""
    async with Server() as server:
        yield server


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(params=WAYS)
async def way(request: pytest.FixtureRequest, papers: Papers) -> AsyncIterator[Way]:
    """An embedded broker that listens in one of the ways there are."""
    listen = (Endpoint(scheme=request.param),)
    config = BrokerConfig(listen, certificate=papers.certificate, key=papers.key)
    async with Server(*listen, trust=read_trust(config, int(time.time()))) as server:
        yield Way(request.param, server.port, papers.authority)


class PahoClient:
    """paho with its own network thread, and its callbacks as queues."""

    def __init__(self, way: Way, client_id: str, clean_session: bool) -> None:
        self.arrived: queue.Queue[tuple[str, bytes, int, bool]] = queue.Queue()
        self.events: queue.Queue[str] = queue.Queue()
        self.session_present = False
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session,
            protocol=paho.MQTTv311,
            transport=way.transport,
        )
        if way.context is not None:
            self.client.tls_set_context(way.context)
        self.client.on_message = lambda _c, _u, m: self.arrived.put(
            (m.topic, m.payload, m.qos, m.retain)
        )
        self.client.on_connect = self._connected
        self.client.on_subscribe = lambda *_: self.events.put("subscribed")
        self.client.on_publish = lambda *_: self.events.put("published")
        self.client.will_set("gone", client_id, qos=1)
        self.client.connect("127.0.0.1", way.port, keepalive=30)
        self.client.loop_start()

    def _connected(self, _client, _data, flags, _reason, _properties) -> None:
        self.session_present = flags.session_present
        self.events.put("connected")

    def wait(self, event: str) -> None:
        assert self.events.get(timeout=PATIENCE_S) == event

    def leave(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def talk_with_paho(way: Way) -> None:
    sender = PahoClient(way, "sender", True)
    sender.wait("connected")
    receiver = PahoClient(way, "receiver", False)
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
    receiver = PahoClient(way, "receiver", False)
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


@needs_openssl
async def test_paho_speaks_all_qos_sessions_and_retained(way: Way) -> None:
    await asyncio.to_thread(talk_with_paho, way)


@needs_openssl
@pytest.mark.parametrize("level", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
async def test_aiomqtt_speaks_all_qos_retained_and_wills(
    way: Way, level: aiomqtt.ProtocolVersion
) -> None:
    def client(identifier: str, will: aiomqtt.Will | None = None) -> aiomqtt.Client:
        return aiomqtt.Client(
            "127.0.0.1",
            way.port,
            identifier=identifier,
            will=will,
            protocol=level,
            transport=way.transport,
            tls_context=way.context,
        )

    async with asyncio.timeout(PATIENCE_S):
        async with client("watcher") as watcher:
            await watcher.subscribe("#", qos=2)
            will = aiomqtt.Will("gone", b"speaker", 1)
            with pytest.raises(ZeroDivisionError):
                async with client("speaker", will) as speaker:
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
