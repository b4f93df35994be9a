"""A load generator that costs less than any broker: packets of one size, made once, never parsed.

All packets of a flood have the same length, so a receiver finds the packet ids of a whole read by
slicing and answers them in one write. Bursts are acknowledged by arrival: the next one is sent when
all subscribers have the last but one, so no queue overflows and nothing is lost.
"""

from __future__ import annotations

import select
import socket
import time

from demesh.broker.codec import (
    Connack,
    Connect,
    Decoder,
    Packet,
    Suback,
    Subscribe,
    Wanted,
    encode,
)
from demesh.broker.codec import Publish as PublishPacket

TOPIC = "demesh/1/bench/vote/one"
PATIENCE_S = 20.0
PUBACK = b"\x40\x02\x00\x00"


class Peer:
    """One connection that publishes or subscribes; everything after the handshake is raw bytes."""

    def __init__(self, port: int, name: str, qos: int, payload: bytes) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._qos = qos
        self._packet = encode(PublishPacket(TOPIC, payload, qos, packet_id=1 if qos else 0))
        self._id_at = 2 + (len(self._packet) > 129) + 2 + len(TOPIC)
        self._rest = b""
        self.received = self.acknowledged = 0
        self._say(Connect(name), Connack)

    def subscribe(self) -> None:
        """Subscribe at the QoS of the flood."""
        self._say(Subscribe(1, (Wanted(TOPIC, self._qos),)), Suback)

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def burst(self, first: int, count: int) -> None:
        """Publish `count` messages in one write, numbered from `first` on."""
        burst = bytearray(self._packet * count)
        if self._qos:
            size, at = len(self._packet), self._id_at
            ids = [1 + n % 60_000 for n in range(first, first + count)]
            burst[at::size] = bytes(n >> 8 for n in ids)
            burst[at + 1 :: size] = bytes(n & 0xFF for n in ids)
        self._socket.sendall(burst)

    def take(self) -> None:
        """Read what is there; a subscriber acknowledges it as its QoS asks."""
        data = self._rest + self._read()
        size = len(self._packet)
        whole = len(data) // size
        self._rest = data[whole * size :]
        self.received += whole
        if self._qos and whole:
            at, end = self._id_at, whole * size
            answer = bytearray(PUBACK * whole)
            answer[2::4], answer[3::4] = data[at:end:size], data[at + 1 : end : size]
            self._socket.sendall(answer)

    def take_acknowledgements(self) -> None:
        """Read PUBACKs, by their number alone."""
        data = self._rest + self._read()
        self.acknowledged += len(data) // len(PUBACK)
        self._rest = data[len(data) // len(PUBACK) * len(PUBACK) :]

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _read(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the broker hung up in the middle of a flood")
        return data

    def _say(self, packet: Packet, answer: type) -> None:
        self._socket.sendall(encode(packet))
        decoder = Decoder(1 << 20)
        while True:
            for got in decoder.feed(self._socket.recv(4096)):
                assert isinstance(got, answer), got
                return


class Flood:
    """One publisher, `fan_out` subscribers."""

    def __init__(self, port: int, qos: int, fan_out: int, payload_bytes: int) -> None:
        payload = bytes(payload_bytes)
        self._qos = qos
        self._receivers = [Peer(port, f"sub-{n}", qos, payload) for n in range(fan_out)]
        for receiver in self._receivers:
            receiver.subscribe()
        self._sender = Peer(port, "pub", qos, payload)
        self._sent = 0

    def run(self, bursts: int, burst: int) -> float:
        """Send so many bursts and wait for all of it; seconds it took."""
        began = time.monotonic()
        ahead = burst if burst > 1 else 0  # one by one means that nothing else is under way
        for _ in range(bursts):
            self._sender.burst(self._sent, burst)
            self._sent += burst
            self._collect(self._sent - ahead)
        self._collect(self._sent)
        return time.monotonic() - began

    def close(self) -> None:
        """Hang up everywhere."""
        for peer in (self._sender, *self._receivers):
            peer.close()

    def _collect(self, count: int) -> None:
        """Read until every subscriber has `count` messages and the publisher its answers."""
        everybody = [*self._receivers, *([self._sender] if self._qos else [])]
        while True:
            behind = any(receiver.received < count for receiver in self._receivers)
            if not behind and (not self._qos or self._sender.acknowledged >= count):
                return
            ready, _, _ = select.select(everybody, (), (), PATIENCE_S)
            if not ready:
                raise TimeoutError(f"stuck at {[r.received for r in self._receivers]} of {count}")
            for peer in ready:
                if peer is self._sender:
                    peer.take_acknowledgements()
                else:
                    peer.take()
