"""Takes out of what a broker sends all that comes often, and leaves the handshake to the client.

Theory of operation. A broker without passwords, or a captured one, hands over whatever anybody
publishes, faster than a client library takes it apart: at 60 us and more a message, some 10,000 a
second are all a core can do, and what matters waits behind them. So publications are read here, in
a microsecond or two, and given away at once; who takes them judges them before they wait anywhere.
They are acknowledged whatever becomes of them: a message twice helps nobody.

What is published and subscribed to at QoS 1 is delivered at QoS 1 (R-WIRE-4). So what comes below
`least_qos` is none of ours and is dropped unread; what is longer than any frame is dropped while it
streams in. Properties (MQTT 5) say nothing that a signed frame does not say better: skipped.
"""

from __future__ import annotations

from collections.abc import Callable

from demesh.ports import Received
from demesh.transport.packets import PUBACK, Level

# The largest sealed frame with its topic, twice: what is longer is never held in memory.
PACKET_BYTES_MAX = 128 * 1024

# Answers in one read: we have 16 publications, a subscription and a ping under way at most. What
# goes on to the client costs it 100 us, so a read full of them would keep the loop from all else.
ANSWERS_MAX = 32

# The client reads properties at up to 30 us a byte, and the loop stands still meanwhile: a larger
# answer than this, or one more, would let one broker keep us from all others. What a broker can do,
# or a reason in words, is some hundred bytes.
ANSWER_BYTES_MAX = 1024

_PUBLISH, _PUBACK, _PINGRESP = 3, 4, 13

# What a broker has to say beside them, once: CONNACK, SUBACK; and in MQTT 5 DISCONNECT.
_HANDSHAKE = {Level.V3: (2, 9), Level.V5: (2, 9, 14)}

_NOT_MQTT = "the broker sent what is not MQTT: "

Acknowledged = Callable[[int, int], None]
"""Called with packet id and MQTT 5 reason code (0 at 3.1.1) of a publication of ours."""


class Sieve:
    """One connection's packets, before the MQTT client sees them."""

    def __init__(
        self,
        deliver: Callable[[Received], None],
        acknowledged: Acknowledged,
        least_qos: int = 0,
        broker: int = 0,
        level: Level = Level.V3,
    ) -> None:
        self._deliver, self._acknowledged = deliver, acknowledged
        self._least_qos, self._broker, self._level = least_qos, broker, level
        self._rest = b""  # of a packet that has not arrived as a whole
        self._skip = 0  # bytes of a dropped packet that are still to come
        self._handshake = set(_HANDSHAKE[level])  # what may still come of it
        self.unread = 0  # publications dropped without a look at them

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What is left for the client, and what to answer; raises ConnectionError."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        data = self._rest + data
        size, at, left, answered = len(data), 0, 0, 0
        others: list[bytes] = []
        answers: list[bytes] = []
        while (head := _head(data, at, size)) is not None:
            body, end = head
            first = data[at]
            if first >> 4 != _PUBLISH:
                self._check_answer(first >> 4, end - at)
                if end > size:
                    break
                answered += 1
                if answered > ANSWERS_MAX:
                    raise ConnectionError("the broker answers what nobody asked")
                if not self._took(first >> 4, data[body:end]):
                    at = end
                    continue
            elif first >> 1 & 3 < self._least_qos:
                self.unread += 1
            elif end > size and end - at <= PACKET_BYTES_MAX:
                break
            else:
                answer = self._publication(data, first, body, end)
                if answer is None:
                    break
                answers.append(answer)
            others.append(data[left:at])
            at = left = end
        self._skip += max(0, at - size)
        others.append(data[left:at])
        self._rest = data[at:]
        return b"".join(others), b"".join(answers)

    def _took(self, kind: int, body: bytes) -> bool:
        """Whether this packet ends here: an acknowledgement, or the answer to a ping."""
        if kind == _PUBACK:
            if len(body) < 2:
                raise ConnectionError(f"{_NOT_MQTT}an acknowledgement of nothing")
            reason = body[2] if len(body) > 2 and self._level is Level.V5 else 0
            self._acknowledged(int.from_bytes(body[:2]), reason)
        if kind in _HANDSHAKE[self._level]:
            if kind not in self._handshake:
                raise ConnectionError("the broker answers what nobody asked")
            self._handshake.remove(kind)
        return kind in (_PUBACK, _PINGRESP)

    def _publication(self, data: bytes, first: int, body: int, end: int) -> bytes | None:
        """Deliver it, if it is not too long; what to answer, None if too little is there to say."""
        qos = first >> 1 & 3
        if qos > 1:
            raise ConnectionError("the broker sent a publication at a QoS nobody asked for")
        topic_end = body + 2 + int.from_bytes(data[body : body + 2])
        payload = topic_end + 2 * qos
        answer = PUBACK + data[topic_end:payload] if qos else b""
        if payload > end:
            raise ConnectionError(f"{_NOT_MQTT}a topic beyond its packet")
        if payload > len(data):
            return None
        if end - body > PACKET_BYTES_MAX:
            self.unread += 1
            return answer
        if self._level is Level.V5:
            payload = _beyond_properties(data, payload, end)
        topic = data[body + 2 : topic_end].decode("utf-8", "replace")
        self._deliver(Received(topic, data[payload:end], bool(first & 1), self._broker))
        return answer

    def _check_answer(self, kind: int, length: int) -> None:
        if kind not in (_PUBACK, _PINGRESP, *_HANDSHAKE[self._level]):
            raise ConnectionError(f"the broker sent a packet of type {kind}")
        if length > ANSWER_BYTES_MAX:
            raise ConnectionError(f"the broker sent a packet of {length:,} bytes")


def _beyond_properties(data: bytes, at: int, end: int) -> int:
    """Where the payload begins of a publication whose properties begin at `at`."""
    found = _integer(data, at, end)
    if found is None or sum(found) > end:
        raise ConnectionError(f"{_NOT_MQTT}properties beyond their packet")
    return sum(found)


def _head(data: bytes, at: int, size: int) -> tuple[int, int] | None:
    """Where the body of the packet at `at` begins and ends; None if its head is not all there."""
    found = _integer(data, at + 1, size)
    return found and (found[1], sum(found))


def _integer(data: bytes, at: int, size: int) -> tuple[int, int] | None:
    """A variable byte integer, and where it ends; None if that is not before `size`."""
    if at >= size:
        return None
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    for place in range(1, 4):
        if at + place >= size:
            return None
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ConnectionError("the broker sent a packet without a length")
