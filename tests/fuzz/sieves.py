"""The target of the sieve before the MQTT client: pieces of any size, and what it lets through."""

from __future__ import annotations

from demesh.broker.codec import Decoder, Malformed, Puback, Publish, encode
from demesh.ports import Received
from demesh.transport import sieve as module
from demesh.transport.sieve import Sieve
from fuzz.mutate import of_bytes
from fuzz.target import Target, expect
from fuzz.texts import PACKETS

PACKET_BYTES_MAX = 600  # so that short inputs have packets that are too long
STREAM_BYTES_MAX = 65_536


def wanted(message: Received) -> bool:
    """Stands for what the node would say."""
    return len(message.payload) % 2 == 1


class Fed:
    """All that came of a stream, in pieces of some size."""

    def __init__(self, data: bytes, step: int) -> None:
        sieve, asked = Sieve(self._screen, 3), list[Received]()
        self.asked = asked
        self.passed = self.answers = b""
        self.broken = False
        try:
            for at in range(0, len(data), step):
                passed, answers = sieve.feed(data[at : at + step])
                self.passed += passed
                self.answers += answers
                held = len(sieve._rest)
                expect(held <= PACKET_BYTES_MAX + 65_540, "it holds more than it may", held)
        except ConnectionError:
            self.broken = True
        self.unread = sieve.unread
        self.left = sieve._rest, sieve._skip

    def _screen(self, message: Received) -> bool:
        self.asked.append(message)
        return wanted(message)


def sieves() -> Target:
    """Pieces give what the whole gives; what passes is wanted, what does not is acknowledged."""

    def run(data: bytes) -> None:
        before, module.PACKET_BYTES_MAX = module.PACKET_BYTES_MAX, PACKET_BYTES_MAX
        try:
            whole = Fed(data, max(1, len(data)))
            pieces = Fed(data, 1 + (data[0] if data else 0) % 9)
        finally:
            module.PACKET_BYTES_MAX = before
        expect(pieces.broken == whole.broken, "pieces break it, or the whole does")
        if whole.broken:
            return
        for name in ("passed", "answers", "unread", "asked", "left"):
            one, other = getattr(pieces, name), getattr(whole, name)
            expect(one == other, f"{name}: pieces give something else", one, other)
        came, let = (Decoder(STREAM_BYTES_MAX).feed(one) for one in (data, whole.passed))
        if came and isinstance(came[-1], Malformed):
            return  # the client sees to that
        for packet in let:
            if isinstance(packet, Publish):
                expect(packet.qos > 0, "let pass what is none of ours")
                expect(wanted(Received(packet.topic, packet.payload)), "let pass the unwanted")
        others = [one for one in came if not isinstance(one, Publish)]
        expect(
            [one for one in let if not isinstance(one, Publish)] == others, "lost another packet"
        )
        refused = [
            one.packet_id
            for one in came
            if isinstance(one, Publish)
            and one.qos
            and (len(encode(one)) > PACKET_BYTES_MAX + 8 or len(one.payload) % 2 == 0)
        ]
        acknowledged = [
            one.packet_id for one in Decoder(64).feed(whole.answers) if isinstance(one, Puback)
        ]
        missing = [one for one in refused if one not in acknowledged]
        expect(not missing, "dropped, and not acknowledged", missing)

    streams = [encode(packet) for packet in PACKETS]
    long = encode(Publish("a/b", bytes(900), 1, False, False, 77))
    long_unasked = encode(Publish("a/b", bytes(900)))
    streams += [b"".join(streams), long + streams[0] + long_unasked + streams[3], long[:40]]
    streams.append(b"\x90\xbc\x05" + bytes(700))  # too long, and no publication
    return Target(run, tuple(streams), of_bytes, burst=2)
