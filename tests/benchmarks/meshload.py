"""The everyday of many meshes on one broker: every client publishes now and then, eight hear it.

An open loop: messages leave at their times whether or not the broker keeps up, so a broker that is
too slow shows it in its latencies. One process speaks for all clients, in packets of one size.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from dataclasses import dataclass

from demesh.broker.codec import Connack, Connect, Decoder, Packet, Suback, Subscribe, encode
from demesh.broker.codec import Publish as PublishPacket

CLIENTS = 200
MESH = 8  # all of one mesh hear each other, and themselves
PAYLOAD_BYTES = 190
PATIENCE_S = 20.0  # for an answer, and for what is still under way at the end

_PUBLISH, _PUBACK = 0x32, 0x40
_STAMP = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it; latencies in ns, of every delivery that arrived."""

    latencies: list[int]
    missing: int
    seconds: float


class MeshLoad:
    """So many connected and subscribed clients, at QoS 1."""

    def __init__(self, port: int, clients: int = CLIENTS) -> None:
        self._selector = selectors.DefaultSelector()
        self._members = [_Member(port, number) for number in range(clients)]
        for member in self._members:
            self._selector.register(member.socket, selectors.EVENT_READ, member)

    def run(self, per_s: int, seconds: float) -> Load:
        """Publish at a rate in all, by each client in turn, and wait for what is under way."""
        count = int(per_s * seconds)
        meshes = -(-len(self._members) // MESH)
        hearers = [len(self._members[n // MESH * MESH :][:MESH]) for n in range(len(self._members))]
        order = sorted(range(len(self._members)), key=lambda n: (n % MESH, n // MESH % meshes))
        latencies: list[int] = []
        began = time.monotonic_ns()
        expected = 0
        for number in range(count):
            due = began + number * 1_000_000_000 // per_s
            self._listen_until(due, latencies)
            who = order[number % len(order)]
            expected += hearers[who]
            self._members[who].publish()
        end = time.monotonic_ns() + int(PATIENCE_S * 1e9)
        while len(latencies) < expected and time.monotonic_ns() < end:
            self._listen_until(min(end, time.monotonic_ns() + 10_000_000), latencies)
        taken_s = (time.monotonic_ns() - began) / 1e9
        return Load(latencies, expected - len(latencies), taken_s)

    def close(self) -> None:
        """Hang up everywhere."""
        self._selector.close()
        for member in self._members:
            member.socket.close()

    def _listen_until(self, due: int, latencies: list[int]) -> None:
        while (left := due - time.monotonic_ns()) > 0:
            for key, _ in self._selector.select(left / 1e9):
                key.data.take(latencies)


class _Member:
    """One client of one mesh."""

    def __init__(self, port: int, number: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        mesh = f"load/{number // MESH:04}"
        self._say(Connect(f"load-{number:04}"), Connack)
        self._say(Subscribe(1, ((f"{mesh}/+", 1),)), Suback)
        packet = PublishPacket(f"{mesh}/{number:04}", bytes(PAYLOAD_BYTES), 1, packet_id=1)
        self._packet = bytearray(encode(packet))
        self._stamp_at = len(self._packet) - PAYLOAD_BYTES
        self._sent = 0
        self._rest = b""

    def publish(self) -> None:
        """One message, with the time at which it leaves."""
        packet = self._packet
        self._sent = self._sent % 60_000 + 1
        packet[self._stamp_at - 2 : self._stamp_at] = self._sent.to_bytes(2, "big")
        _STAMP.pack_into(packet, self._stamp_at, time.monotonic_ns())
        self.socket.sendall(packet)

    def take(self, latencies: list[int]) -> None:
        """Read what is there and acknowledge it."""
        came = self.socket.recv(1 << 16)
        if not came:
            raise ConnectionError("the broker hung up in the middle of a load")
        data = self._rest + came
        now, at, size = time.monotonic_ns(), 0, len(self._packet)
        answers = []
        while at < len(data):
            if data[at] == _PUBACK:
                end = at + 4
            else:
                assert data[at] & 0xF7 == _PUBLISH, f"what is 0x{data[at]:02x} doing here?"
                end = at + size
                if end <= len(data):
                    stamp_at = at + self._stamp_at
                    answers.append(b"\x40\x02" + data[stamp_at - 2 : stamp_at])
                    latencies.append(now - _STAMP.unpack_from(data, stamp_at)[0])
            if end > len(data):
                break
            at = end
        self._rest = data[at:]
        if answers:
            self.socket.sendall(b"".join(answers))

    def _say(self, packet: Packet, answer: type) -> None:
        self.socket.sendall(encode(packet))
        decoder = Decoder(1 << 20)
        while True:
            for got in decoder.feed(self.socket.recv(4096)):
                assert isinstance(got, answer), got
                return
