"""The broker's listeners on real sockets: TCP, TLS, WebSocket, both; peers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from broker.papers import Papers, needs_openssl
from broker.rawclient import PATIENCE_S, RawClient
from broker.webclient import dial_web, masked_frame
from demesh.broker.codec import Connack, Connect, Disconnect, Pingreq, Publish, encode
from demesh.broker.limits import Limits, Reason
from demesh.broker.server import Server
from demesh.broker.settings import BrokerConfig, Endpoint, read_trust

SCHEMES = ("mqtt", "mqtts", "ws", "wss")
EVERYWHERE = tuple(Endpoint(scheme=scheme) for scheme in SCHEMES)

pytestmark = needs_openssl


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """An authority, and a certificate of the broker."""
    return Papers(tmp_path_factory.mktemp("papers"))


class Street:
    """A server with all four listeners, and clients of each."""

    def __init__(self, papers: Papers, limits: Limits | None = None, **files: Path) -> None:
        self.papers = papers
        self.config = BrokerConfig(
            EVERYWHERE, certificate=papers.certificate, key=papers.key, **files
        )
        self.server = Server(
            *EVERYWHERE, limits=limits, trust=read_trust(self.config, int(time.time()))
        )
        self._clients: list[RawClient] = []

    def port(self, scheme: str) -> int:
        return self.server.endpoints[SCHEMES.index(scheme)].port

    async def dial(self, scheme: str, name: str | None = None) -> RawClient:
        """Ready for CONNECT; under TLS with the certificate of `name`."""
        context = self.papers.context(name) if scheme in ("mqtts", "wss") else None
        port = self.port(scheme)
        if scheme in ("ws", "wss"):
            client = await dial_web(port, context)
        else:
            async with asyncio.timeout(PATIENCE_S):
                streams = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            client = RawClient(*streams)
        self._clients.append(client)
        return client

    async def connect(self, scheme: str, client_id: str = "", **fields: object) -> RawClient:
        client = await self.dial(scheme)
        client.send(Connect(client_id, **fields))  # type: ignore[arg-type]
        await client.expect(Connack(0))
        return client

    async def __aenter__(self) -> Street:
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.abort()
        await self.server.stop()


@pytest.fixture
async def street(papers: Papers) -> AsyncIterator[Street]:
    """All four listeners, open to everybody."""
    async with Street(papers) as street:
        yield street


async def until(condition: Callable[[], bool], step: Callable[[], Awaitable[object]]) -> None:
    """Take a step that waits for the server, until the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await step()


async def test_clients_of_every_listener_hear_one_another(street: Street) -> None:
    clients = [await street.connect(scheme) for scheme in SCHEMES]
    for client in clients:
        await client.subscribe(("t/#", 0))
    for number, client in enumerate(clients):
        message = Publish(f"t/{number}", bytes(range(256)) * 700)
        client.send(message)
        for receiver in clients:
            await receiver.expect(message)


async def test_every_connection_has_no_delay_and_waits_for_nobody(street: Street) -> None:
    for scheme in SCHEMES:
        await street.connect(scheme)
    for peer in street.server._peers.values():
        sock = peer.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert len(street.server._peers) == len(SCHEMES)


async def test_ipv6_is_served_where_it_is_asked_for() -> None:
    async with Server(Endpoint("::1"), Endpoint()) as server:
        for host, endpoint in zip(("::1", "127.0.0.1"), server.endpoints, strict=True):
            client = RawClient(*await asyncio.open_connection(host, endpoint.port))
            client.send(Connect("a" + host))
            await client.expect(Connack(0))
            client.abort()
        assert str(server.endpoints[0]) == f"mqtt://[::1]:{server.port}"


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_packets_that_come_byte_by_byte_are_understood(street: Street, scheme: str) -> None:
    client = await street.dial(scheme)
    for packet in (Connect("slow"), Publish("t", b"x" * 50), Pingreq()):
        for byte in encode(packet):
            client.send(bytes((byte,)))
    await client.expect(Connack(0))
    assert await client.messages() == []


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_goodbye_is_one_and_a_loss_publishes_the_will(street: Street, scheme: str) -> None:
    watcher = await street.connect("mqtt")
    await watcher.subscribe(("gone/#", 0))
    polite = await street.connect(scheme, "polite", will=Publish("gone/polite"))
    polite.send(Disconnect())
    await polite.closed()
    cut = await street.connect(scheme, "cut", will=Publish("gone/cut"))
    cut.abort()
    await watcher.expect(Publish("gone/cut"))
    await watcher.nothing()


async def test_closing_a_websocket_is_no_goodbye_of_mqtt(street: Street) -> None:
    watcher = await street.connect("mqtt")
    await watcher.subscribe(("#", 0))
    client = await street.connect("ws", "a", will=Publish("gone"))
    last = masked_frame(encode(Publish("last")))
    client.writer.writer.write(last + masked_frame((1001).to_bytes(2), 8))
    await watcher.expect(Publish("last"), Publish("gone"))
    await client.closed()
    assert client.reader.closed_with == 1001
    assert Reason.WEBSOCKET not in street.server.counters.closed


async def test_the_broker_takes_its_leave_in_every_layer(street: Street) -> None:
    clients = [await street.connect(scheme) for scheme in SCHEMES]
    await street.server.stop()
    for client in clients:
        await client.closed()
    assert clients[2].reader.closed_with == clients[3].reader.closed_with == 1000


async def test_pings_of_websocket_are_answered_between_packets(street: Street) -> None:
    client = await street.connect("ws")
    client.writer.writer.write(masked_frame(b"are you there", 9))
    await client.nothing()
    assert client.reader.pongs == [b"are you there"]


@pytest.mark.parametrize("scheme", ["mqtts", "ws", "wss"])
async def test_who_begins_a_handshake_and_says_no_more_is_closed_in_time(
    papers: Papers, scheme: str
) -> None:
    async with Street(papers, Limits(connect_timeout_ms=100)) as street:
        for first in (b"", b"\x16\x03\x01\x02", b"GET /mqtt HTTP/1.1\r\n"):
            if first == b"GET /mqtt HTTP/1.1\r\n" and scheme != "ws":
                continue
            reader, writer = await asyncio.open_connection("127.0.0.1", street.port(scheme))
            writer.write(first)
            async with asyncio.timeout(PATIENCE_S):
                assert await reader.read() == b""
            writer.close()
        assert set(street.server.counters.closed) == {Reason.CONNECT_TIMEOUT}


async def test_half_open_handshakes_are_counted_as_the_connections_they_are(
    papers: Papers,
) -> None:
    async with Street(papers, Limits(connections_max=8)) as street:
        half = [await asyncio.open_connection("127.0.0.1", street.port("mqtts")) for _ in range(8)]
        honest = await street.connect("mqtts")
        async with asyncio.timeout(PATIENCE_S):
            assert await half[0][0].read() == b""  # it made room
        await honest.nothing()
        assert street.server.counters.closed == {Reason.CONNECTIONS_FULL: 1}
        for _, writer in half:
            writer.close()


async def test_handshakes_of_many_keep_nobody_waiting(street: Street) -> None:
    incoming, hello = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        street.papers.context().wrap_bio(
            incoming, hello, server_hostname="localhost"
        ).do_handshake()
    greeting = hello.read()
    honest = await street.connect("mqtt")
    port = street.port("mqtts")
    many = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
    answered = [asyncio.ensure_future(reader.read(1)) for reader, _ in many]
    for _, writer in many:
        writer.write(greeting)
    await honest.nothing()
    assert sum(answer.done() for answer in answered) < 50
    async with asyncio.timeout(PATIENCE_S):
        assert set(await asyncio.gather(*answered)) == {b"\x16"}  # all in their turn
    for _, writer in many:
        writer.close()


@pytest.mark.parametrize(
    ("scheme", "reason"), [("mqtts", Reason.TLS), ("wss", Reason.TLS), ("ws", Reason.WEBSOCKET)]
)
async def test_what_is_not_spoken_at_a_listener_is_refused_and_counted(
    street: Street, scheme: str, reason: Reason, caplog: pytest.LogCaptureFixture
) -> None:
    steady = await street.connect("mqtt")
    garbage = bytes(range(256)) * 40
    for shift in range(32):
        reader, writer = await asyncio.open_connection("127.0.0.1", street.port(scheme))
        writer.write(encode(Connect("a")) * (shift % 2) + garbage[shift:])
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            await reader.read()
        writer.close()
    await steady.nothing()
    closed = street.server.counters.closed
    assert sum(closed.values()) == 32
    assert closed[reason] >= 30
    assert len(caplog.messages) <= len(closed)
    assert all("127.0.0.1: " in line for line in caplog.messages)


async def test_a_flood_of_pings_ends_the_connection_and_not_the_broker(street: Street) -> None:
    steady, client = await street.connect("mqtt"), await street.connect("ws")
    client.writer.writer.write(masked_frame(b"", 9) * 100_000)
    while await client.next() is not None:
        pass
    await steady.nothing()
    assert client.reader.closed_with == 1008
    assert street.server.counters.closed == {Reason.WEBSOCKET: 1}


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_client_that_does_not_read_is_closed(papers: Papers, scheme: str) -> None:
    async with Street(papers, Limits(write_buffer_bytes_max=1_000_000)) as street:
        slow = await street.connect(scheme)
        await slow.subscribe(("flood", 0))
        slow.writer.transport.pause_reading()
        fast = await street.connect("mqtt")

        async def more() -> None:
            fast.send(Publish("flood", bytes(100_000)))
            await fast.nothing()

        await until(lambda: bool(street.server.counters.closed), more)
        assert street.server.counters.closed == {Reason.SLOW: 1}


@pytest.mark.parametrize("scheme", ("ws", "wss"))
async def test_answers_to_pings_that_nobody_reads_end_the_connection(
    papers: Papers, scheme: str
) -> None:
    limits = Limits(write_buffer_bytes_max=100_000, packets_per_s_max=None)
    async with Street(papers, limits) as street:
        client = await street.connect(scheme)
        client.reader.reader._transport.pause_reading()  # type: ignore[attr-defined]
        message = masked_frame(encode(Publish("t", b"")))  # has no answer, and pays for pings
        pings = masked_frame(bytes(125), 9) * 8

        async def more() -> None:
            client.writer.writer.write((message + pings) * 50)
            with contextlib.suppress(ConnectionError):
                await client.writer.writer.drain()

        await until(lambda: bool(street.server.counters.closed), more)
        assert street.server.counters.closed == {Reason.SLOW: 1}


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_flood_is_read_no_faster_than_it_may_come(papers: Papers, scheme: str) -> None:
    async with Street(papers, Limits(packets_per_s_max=1000, burst_new_ms=10)) as street:
        client = await street.connect(scheme)
        await client.subscribe(("t", 0))
        client.send(encode(Publish("t", b"x")) * 500)
        for _ in range(500):
            await client.expect(Publish("t", b"x"))
        assert street.server.counters.pauses > 5


async def test_a_new_certificate_is_for_new_connections_and_cuts_nobody_off(
    papers: Papers, tmp_path: Path
) -> None:
    async with Street(papers) as street:
        before = await street.connect("mqtts")
        other = Papers(tmp_path / "other")
        street.config = BrokerConfig(EVERYWHERE, certificate=other.certificate, key=other.key)
        street.server.set_trust(read_trust(street.config, int(time.time())))
        with pytest.raises(ssl.SSLCertVerificationError):
            await street.dial("mqtts")
        street.papers = other
        await (await street.connect("mqtts")).nothing()
        await before.nothing()
