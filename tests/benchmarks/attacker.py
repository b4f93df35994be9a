"""An attacker as a process of its own: raw connections that flood, one that listens.

    python -m benchmarks.attacker PORT GENESIS

It knows what anybody knows, and no key. Each line of its input is the flood to go on with: `rest`,
`garbage`, `oversize`, `replayed`, `forged` (or one area of it: `forged-vote`), the QoS, and over
how many connections. It is answered with messages, bytes and nanoseconds of the flood that ended.
Its connections are reset: what the broker has not read by then was not sent.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys
import time
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.forgery import Public, Replay, Volley, forged, garbage, oversize
from demesh.broker.codec import (
    Connack,
    Connect,
    Decoder,
    Packet,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Wanted,
    encode,
)
from demesh.wire._reference import read_envelope
from demesh.wire.frame import split
from demesh.wire.identity import text
from demesh.wire.kinds import Kind, Reject
from demesh.wire.messages import Genesis
from demesh.wire.schema import decode
from demesh.wire.sealing import SEALED
from demesh.wire.statements import decode_statement

PATIENCE_S = 30.0
HEARD_MAX = 512  # frames to replay
AREAS = ("vote/+", "op/+", "tip/+", "card/+", "to/+/+")
SIOCOUTQNSD = 0x894B  # of linux/sockios.h: what has not left, while SIOCOUTQ has what came as well
KIND_AT = 11  # in a statement's frame


class Line:
    """One connection; its packets as they come."""

    def __init__(self, port: int, name: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._decoder = Decoder(1 << 20)
        self._unsent = memoryview(b"")
        self.say(Connect(name), Connack)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def abort(self) -> int:
        """Hang up, throwing away what waits; bytes that the broker has not read."""
        mine, broker = self._socket.getsockname()[1], self._socket.getpeername()[1]
        there = unread(broker, mine)  # first: what moves on meanwhile must not count twice
        waiting = array("i", [0])
        fcntl.ioctl(self._socket, SIOCOUTQNSD, waiting)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
        return there + waiting[0] + len(self._unsent)

    def say(self, packet: Packet, answer: type) -> Iterator[Packet]:
        """Send one packet, after what is under way; what has come when its answer has."""
        self._socket.settimeout(PATIENCE_S)
        self._socket.sendall(bytes(self._unsent) + encode(packet))
        self._unsent = memoryview(b"")
        before, answered = [], False
        while not answered:
            for got in self._decoder.feed(self._read()):
                answered = answered or isinstance(got, answer)
                before.append(got)
        self._socket.setblocking(False)
        return iter(before)

    def take(self) -> Iterator[Packet]:
        """What has come."""
        return iter(self._decoder.feed(self._read()))

    def drain(self) -> None:
        """Throw away what has come: acknowledgements."""
        self._read()

    @property
    def idle(self) -> bool:
        """Has all been handed to the kernel?"""
        return not self._unsent

    def send(self, burst: bytes) -> None:
        """Begin to send; `go_on` until it is `idle`."""
        self._unsent = memoryview(burst)
        self.go_on()

    def go_on(self) -> None:
        """Send as much as goes."""
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return

    def _read(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the broker hung up on the attacker")
        return data


def unread(local: int, remote: int) -> int:
    """Bytes that wait at this end of a connection to be read."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        near, far, _, queues = line.split()[1:5]
        if (int(near[-4:], 16), int(far[-4:], 16)) == (local, remote):
            return int(queues.partition(":")[2], 16)
    return 0


class Attacker:
    """What it heard, and what it makes of it."""

    def __init__(self, port: int, public: Public) -> None:
        self._public = public
        self._base = public.topics.mine("vote").rsplit("/", 2)[0]
        self._port, self._ear = port, Line(port, "ear")
        self._guns: list[Line] = []
        self._heard: deque[tuple[str, bytes]] = deque(maxlen=HEARD_MAX)
        self._filters: tuple[str, ...] = ()
        self._view = (0, 1)
        self._proposal = b""
        self._volleys: Sequence[Volley | Replay] = ()
        self._flood, self._qos = "rest", 0
        self._aimed = (-1, -1)
        self._next = 0
        self._sent = self._bytes = 0
        self._began_ns = time.monotonic_ns()
        self._listen()

    def run(self) -> None:
        """Until its input ends."""
        while True:
            armed = self._guns if self._volleys else []
            ready, open_, _ = select.select([0, self._ear, *self._guns], armed, [])
            if 0 in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                self._order(*line.split())
                continue  # what was ready was read, or is gone
            if self._ear in ready:
                self._hear(self._ear.take())
            for place, gun in enumerate(self._guns):
                try:
                    if gun in ready:
                        gun.drain()
                    if gun in open_ and self._volleys:
                        self._fire(gun)
                except ConnectionError:  # thrown out: come back and go on
                    self._guns[place] = Line(self._port, f"gun-{place}")

    def _order(self, flood: str, qos: str, lines: str) -> None:
        """End what goes on, tell what it was, go on with this."""
        taken_ns = time.monotonic_ns() - self._began_ns
        left = self._bytes - sum(gun.abort() for gun in self._guns)
        sent = self._sent * left // max(1, self._bytes)
        told = f"{sent} {left} {taken_ns}\n"
        self._flood, self._qos = flood, int(qos)
        self._listen()
        self._guns = [Line(self._port, f"gun-{number}") for number in range(int(lines))]
        self._volleys, self._aimed = (), (-1, -1)
        self._load()
        self._sent = self._bytes = self._next = 0
        self._began_ns = time.monotonic_ns()
        os.write(1, told.encode())

    def _listen(self) -> None:
        """To what it does not send itself."""
        if self._flood == "rest":
            wanted = tuple(f"{self._base}/{area}" for area in AREAS)
        elif self._flood.startswith("forged"):
            wanted = tuple(f"{self._base}/vote/{text(other)}" for other in self._public.others)
        else:
            wanted = ()
        if self._filters:
            self._hear(self._ear.say(Unsubscribe(2, self._filters), Unsuback))
        if wanted:
            self._hear(self._ear.say(Subscribe(3, tuple(Wanted(one, 0) for one in wanted)), Suback))
        self._filters = wanted

    def _load(self) -> None:
        """Make what to send, for the view as it is now."""
        flood, _, area = self._flood.partition("-")
        if flood == "forged":
            if self._aimed != self._view:
                self._aimed = self._view
                made = forged(self._public, self._qos, self._view, self._proposal)
                areas = (area,) if area else tuple(made)
                self._volleys = [volley for name in areas for volley in made[name]]
        elif self._volleys or flood == "rest":
            return
        elif flood == "garbage":
            self._volleys = garbage(self._public, self._qos)
        elif flood == "oversize":
            self._volleys = oversize(self._public, self._qos)
        else:
            assert flood == "replayed" and self._heard, f"{flood}, {len(self._heard)} heard"
            self._volleys = [Replay(self._heard, self._qos)]

    def _fire(self, gun: Line) -> None:
        if not gun.idle:
            gun.go_on()
            return
        self._load()
        volley = self._volleys[self._next % len(self._volleys)]
        self._next += 1
        burst = volley.altered()
        self._sent += volley.messages
        self._bytes += len(burst)
        gun.send(burst)

    def _hear(self, packets: Iterator[Packet]) -> None:
        for packet in packets:
            if isinstance(packet, Publish) and not self._junk(packet.payload):
                if self._flood == "rest":
                    self._heard.append((packet.topic, packet.payload))
                if "/vote/" in packet.topic:
                    self._look(packet.payload)

    def _junk(self, payload: bytes) -> bool:
        """What is left of its own floods."""
        return isinstance(read_envelope(payload), Reject) and not payload.startswith(SEALED)

    def _look(self, frame: bytes) -> None:
        """At a real vote or proposal, for what the forged ones shall look like."""
        if frame[KIND_AT] == Kind.PROPOSAL:
            self._proposal = frame
        elif frame[KIND_AT] == Kind.VOTE:
            statement = decode_statement(split(frame)[1])
            self._view = max(self._view, (statement.epoch, statement.view))


if __name__ == "__main__":
    genesis = decode(Genesis, Path(sys.argv[2]).read_bytes())
    Attacker(int(sys.argv[1]), Public.of(genesis)).run()
