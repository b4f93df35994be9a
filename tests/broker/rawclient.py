"""A client that says exactly what a test wants said, and shows exactly what came back."""

from __future__ import annotations

import asyncio

from demesh.broker.codec import (
    GRANTED,
    LEVEL_3,
    LEVEL_5,
    Code,
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Malformed,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Wanted,
    encode,
)

LOOPBACK = "127.0.0.1"
PATIENCE_S = 10.0  # only ever waited for in full by a test that fails


class RawClient:
    """One TCP connection; packets or raw bytes out, packets in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.level = LEVEL_3  # of the last CONNECT sent
        self.connack = Connack()  # as the broker said it
        self._decoder = Decoder(1 << 28)
        self._arrived: list[Packet | Malformed] = []
        self._next_id = 100

    @classmethod
    async def dial(cls, port: int, host: str = LOOPBACK, source: str | None = None) -> RawClient:
        """Open a connection, from the address `source` if that is given; nothing is sent."""
        local = None if source is None else (source, 0)
        async with asyncio.timeout(PATIENCE_S):
            return cls(*await asyncio.open_connection(host, port, local_addr=local))

    def send(self, *packets: Packet | bytes) -> None:
        """Send packets, or bytes as they are, in one segment if the system likes."""
        self.writer.write(b"".join(map(self._encoded, packets)))

    def speak(self, level: int) -> None:
        """Read and write packets of this level from now on."""
        self.level = level
        self._decoder = Decoder(1 << 28, level)

    def _encoded(self, packet: Packet | bytes) -> bytes:
        if isinstance(packet, bytes):
            return packet
        if isinstance(packet, Connect):
            self.speak(LEVEL_5 if packet.level == LEVEL_5 else LEVEL_3)
        return encode(packet, self.level)

    async def next(self) -> Packet | None:
        """The next packet, or None when the broker has closed."""
        while not self._arrived:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    data = await self.reader.read(65536)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._arrived += self._decoder.feed(data)
        packet = self._arrived.pop(0)
        assert not isinstance(packet, Malformed), packet
        return packet

    async def expect(self, *packets: Packet) -> None:
        """These packets come next, in this order."""
        for packet in packets:
            assert await self.next() == packet

    async def nothing(self) -> None:
        """The broker has nothing for this client: the answer to a ping comes first."""
        self.send(Pingreq())
        await self.expect(Pingresp())

    async def quiet(self, span_s: float) -> None:
        """Nothing comes for a while: how a test of times lets them pass."""
        if self._arrived:
            raise AssertionError(self._arrived)
        try:
            async with asyncio.timeout(span_s):
                data = await self.reader.read(65536)
        except TimeoutError:
            return
        raise AssertionError(self._decoder.feed(data) or "closed")

    async def closed(self) -> None:
        """The broker closes without another word."""
        assert await self.next() is None

    async def dismissed(self, *codes: Code, silently: bool = False) -> None:
        """The broker says why, with one of these codes, and closes; or it does only that."""
        packet = await self.next()
        if silently and packet is None:
            return
        assert isinstance(packet, Disconnect), packet
        assert packet.code in codes, packet
        await self.closed()

    async def messages(self) -> list[Publish]:
        """All messages that are already under way."""
        self.send(Pingreq())
        found: list[Publish] = []
        while isinstance(packet := await self.next(), Publish):
            found.append(packet)
        assert packet == Pingresp(), packet
        return found

    async def message(self) -> Publish:
        """The next packet, which is a message; acknowledged if it has to be."""
        packet = await self.next()
        assert isinstance(packet, Publish), packet
        if packet.qos == 1:
            self.send(Puback(packet.packet_id))
        return packet

    async def subscribe(
        self, *filters: tuple[str, int] | Wanted, properties: Properties | None = None
    ) -> None:
        """Subscribe; every filter is granted the QoS asked for."""
        self._next_id += 1
        wanted = tuple(Wanted(*one) for one in filters)
        self.send(Subscribe(self._next_id, wanted, properties))
        await self.expect(Suback(self._next_id, tuple(GRANTED[one.qos] for one in wanted)))

    def abort(self) -> None:
        """Cut the connection without DISCONNECT."""
        self.writer.transport.abort()


class Visitors:
    """The clients of one test; none outlives it."""

    def __init__(self, port: int, host: str = LOOPBACK, source: str | None = None) -> None:
        self.port = port
        self._host = host
        self._source = source
        self._clients: list[RawClient] = []

    async def dial(self) -> RawClient:
        """A connection that has not said anything."""
        client = await RawClient.dial(self.port, self._host, self._source)
        self._clients.append(client)
        return client

    async def connect(
        self, client_id: str = "", present: bool = False, **fields: object
    ) -> RawClient:
        """A connected client: clean start unless told, `present` as the broker must answer."""
        client = await self.dial()
        client.send(Connect(client_id, **fields))  # type: ignore[arg-type]
        answer = await client.next()
        assert isinstance(answer, Connack), answer
        client.connack = answer
        assert (answer.code, answer.session_present) == (Code.SUCCESS, present), answer
        return client

    async def connect_5(
        self,
        client_id: str = "",
        present: bool = False,
        *,
        said: Properties | None = None,
        **fields: object,
    ) -> RawClient:
        """The same at MQTT 5; `said` are properties of CONNECT."""
        return await self.connect(client_id, present, level=LEVEL_5, properties=said, **fields)

    def leave(self) -> None:
        """Cut all connections."""
        for client in self._clients:
            client.abort()
