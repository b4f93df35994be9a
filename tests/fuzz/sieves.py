"""The target of the sieve before the MQTT client: pieces of any size, and what becomes of them."""

from __future__ import annotations

from demesh.broker.codec import Decoder, Malformed, Pingresp, Puback, Publish, encode
from demesh.ports import Received
from demesh.transport import sieve as module
from demesh.transport.packets import Level
from demesh.transport.sieve import Sieve
from fuzz.mutate import of_bytes
from fuzz.target import Target, expect
from fuzz.texts import PACKETS, PACKETS_5

PACKET_BYTES_MAX = 600  # so that short inputs have packets that are too long
STREAM_BYTES_MAX = 65_536
OURS = (Publish, Puback, Pingresp)  # what the client never sees


class Fed:
    """All that came of a stream, in pieces of some size."""

    def __init__(self, data: bytes, step: int, level: Level) -> None:
        self.delivered: list[Received] = []
        self.acknowledged: list[tuple[int, int]] = []
        sieve = Sieve(
            self.delivered.append, lambda *ack: self.acknowledged.append(ack), 1, 3, level
        )
        self.left = self.answers = b""
        self.broken = False
        try:
            for at in range(0, len(data), step):
                left, answers = sieve.feed(data[at : at + step])
                self.left += left
                self.answers += answers
                held = len(sieve._rest)
                expect(held <= PACKET_BYTES_MAX + 65_540, "it holds more than it may", held)
        except ConnectionError:
            self.broken = True
        self.unread = sieve.unread
        self.held = sieve._rest, sieve._skip


def sieves() -> Target:
    """Pieces give what the whole gives; publications are delivered and acknowledged, once each."""

    def run(data: bytes) -> None:
        for level in Level:
            _run(data, level)

    def _run(data: bytes, level: Level) -> None:
        before, module.PACKET_BYTES_MAX = module.PACKET_BYTES_MAX, PACKET_BYTES_MAX
        try:
            whole = Fed(data, max(1, len(data)), level)
            pieces = Fed(data, 1 + (data[0] if data else 0) % 9, level)
        finally:
            module.PACKET_BYTES_MAX = before
        expect(pieces.broken == whole.broken, "pieces break it, or the whole does")
        if whole.broken:
            return
        for name in ("left", "answers", "unread", "delivered", "acknowledged", "held"):
            one, other = getattr(pieces, name), getattr(whole, name)
            expect(one == other, f"{name}: pieces give something else", one, other)
        came, left = (Decoder(STREAM_BYTES_MAX, level).feed(one) for one in (data, whole.left))
        if came and isinstance(came[-1], Malformed):
            return  # the client sees to that
        others = [packet for packet in came if not isinstance(packet, OURS)]
        expect(left == others, "the client gets something else", left, others)
        acks = [(packet.packet_id, packet.code) for packet in came if isinstance(packet, Puback)]
        expect(whole.acknowledged == acks, "acknowledged is something else", acks)
        asked = [packet for packet in came if isinstance(packet, Publish) and packet.qos]
        given = [Received(p.topic, p.payload, p.retain, 3) for p in asked if _fits(p, level)]
        expect(given == whole.delivered, "delivered something else", given)
        answers = Decoder(STREAM_BYTES_MAX, level).feed(whole.answers)
        ids = [packet.packet_id for packet in answers if isinstance(packet, Puback)]
        # Of one that is too long and not all there, only the beginning is needed.
        expected = [packet.packet_id for packet in asked]
        expect(ids[: len(expected)] == expected, "not acknowledged as it came", ids, expected)
        expect(len(ids) <= len(expected) + 1, "acknowledged what did not come", ids, expected)

    def _fits(packet: Publish, level: Level) -> bool:
        size = len(encode(packet, level))
        return size - (2 if size < 130 else 3) <= PACKET_BYTES_MAX

    streams = [encode(packet) for packet in PACKETS]
    streams += [encode(packet, Level.V5) for packet in PACKETS_5]
    long = encode(Publish("a/b", bytes(900), 1, False, False, 77))
    long_unasked = encode(Publish("a/b", bytes(900)))
    streams += [b"".join(streams), long + streams[0] + long_unasked + streams[3], long[:40]]
    streams.append(b"\x90\xbc\x05" + bytes(700))  # too long, and no publication
    return Target(run, tuple(streams), of_bytes, burst=2)
