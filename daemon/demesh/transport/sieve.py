"""Takes the publications out of what a broker sends, and leaves the rest to the MQTT client.

Theory of operation. A broker without passwords, or a captured one, hands over whatever anybody
publishes, faster than a client library takes it apart: at 60 us and more a message, some 10,000 a
second are all a core can do, and what matters waits behind them. So publications are read here, in
a microsecond or two, and given away at once; who takes them judges them before they wait anywhere.
They are acknowledged whatever becomes of them: a message twice helps nobody.

What is published and subscribed to at QoS 1 is delivered at QoS 1 (R-WIRE-4). So what comes below
`least_qos` is none of ours and is dropped unread; what is longer than any frame is dropped while it
streams in.
"""

from __future__ import annotations

from collections.abc import Callable

from demesh.ports import Received

# The largest sealed frame with its topic, twice: what is longer is never held in memory.
PACKET_BYTES_MAX = 128 * 1024

# Answers in one read: we have 16 publications, a subscription and a ping under way at most. Each
# costs the client 100 us, so a read full of them would keep the loop from everything else.
ANSWERS_MAX = 32

_PUBLISH = 3
_ANSWERS = (2, 4, 9, 13)  # CONNACK, PUBACK, SUBACK, PINGRESP: all that a broker has to answer us
_PUBACK = b"\x40\x02"


class Sieve:
    """One connection's packets, before the MQTT client sees them."""

    def __init__(
        self, deliver: Callable[[Received], None], least_qos: int = 0, broker: int = 0
    ) -> None:
        self._deliver, self._least_qos, self._broker = deliver, least_qos, broker
        self._rest = b""  # of a packet that has not arrived as a whole
        self._skip = 0  # bytes of a dropped packet that are still to come
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
                _check_answer(first >> 4, end - at)
                if end > size:
                    break
                answered += 1
                if answered > ANSWERS_MAX:
                    raise ConnectionError("the broker answers what nobody asked")
                at = end
                continue
            if first >> 1 & 3 < self._least_qos:
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

    def _publication(self, data: bytes, first: int, body: int, end: int) -> bytes | None:
        """Deliver it, if it is not too long; what to answer, None if too little is there to say."""
        qos = first >> 1 & 3
        if qos > 1:
            raise ConnectionError("the broker sent a publication at a QoS nobody asked for")
        topic_end = body + 2 + int.from_bytes(data[body : body + 2], "big")
        payload = topic_end + 2 * qos
        if payload > end:
            raise ConnectionError("the broker sent what is not MQTT: a topic beyond its packet")
        if payload > len(data):
            return None
        if end - body > PACKET_BYTES_MAX:
            self.unread += 1
        else:
            topic = data[body + 2 : topic_end].decode("utf-8", "replace")
            self._deliver(Received(topic, data[payload:end], bool(first & 1), self._broker))
        return _PUBACK + data[topic_end:payload] if qos else b""


def _head(data: bytes, at: int, size: int) -> tuple[int, int] | None:
    """Where the body of the packet at `at` begins and ends; None if its head is not all there."""
    if at + 2 > size:
        return None
    length = data[at + 1]
    if length < 0x80:
        return at + 2, at + 2 + length
    length &= 0x7F
    for place in range(1, 4):
        if at + place + 1 >= size:
            return None
        byte = data[at + place + 1]
        length |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return at + place + 2, at + place + 2 + length
    raise ConnectionError("the broker sent a packet without a length")


def _check_answer(kind: int, length: int) -> None:
    if kind not in _ANSWERS:
        raise ConnectionError(f"the broker sent a packet of type {kind}")
    if length > PACKET_BYTES_MAX:
        raise ConnectionError(f"the broker sent a packet of {length:,} bytes")
