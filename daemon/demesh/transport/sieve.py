"""Takes out of what a broker sends the publications that are not worth anything more.

Theory of operation. A broker without passwords, or a captured one, hands over whatever anybody
publishes, faster than a client library takes it apart: at 60 us and more a message, some 10,000 a
second are all a core can do, and what matters waits behind them. So publications are looked at
while they still are bytes, for a microsecond or two, and what nobody wants ends here: it is
acknowledged, if it asks for that, and never becomes an object. All else passes as it came.

What we subscribe to is published and delivered at QoS 1 (R-WIRE-4). So what comes at QoS 0 is none
of ours and is dropped unread; a publication longer than any frame is dropped while it streams in.
"""

from __future__ import annotations

from collections.abc import Callable

from demesh.ports import Received

Screen = Callable[[Received], bool]
"""Is this message worth being taken in?"""

# The largest sealed frame with its topic, twice: what is longer is never held in memory.
PACKET_BYTES_MAX = 128 * 1024

_PUBLISH = 3
_PUBACK = b"\x40\x02"


class Sieve:
    """One connection's packets, before the MQTT client sees them."""

    def __init__(self, screen: Screen, broker: int) -> None:
        self._screen, self._broker = screen, broker
        self._rest = b""  # of a packet that has not arrived as a whole
        self._skip = 0  # bytes of a dropped packet that are still to come
        self.unread = 0  # publications dropped without a look at them

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What passes, and what to answer to the broker; raises ConnectionError."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        data = self._rest + data
        size, at, passed = len(data), 0, 0
        kept: list[bytes] = []
        answers: list[bytes] = []
        while (head := _head(data, at, size)) is not None:
            body, end = head
            first = data[at]
            if first >> 4 != _PUBLISH:
                _check_length(end - at)
                if end > size:
                    break
                at = end
                continue
            if first & 6:
                if end > size and end - at <= PACKET_BYTES_MAX:
                    break
                worth, answer = self._publication(data, first, body, end)
                if worth is None:
                    break
                answers.append(answer)
            else:
                self.unread += 1
                worth = False
            if not worth:
                kept.append(data[passed:at])
                passed = end
            at = end
        self._skip += max(0, at - size)
        kept.append(data[passed:at])
        self._rest = data[at:]
        return b"".join(kept), b"".join(answers)

    def _publication(
        self, data: bytes, first: int, body: int, end: int
    ) -> tuple[bool | None, bytes]:
        """(Is it worth passing on, what to answer if not); None: too little is there to say."""
        payload = body + 4 + int.from_bytes(data[body : body + 2], "big")
        if payload > end:
            raise ConnectionError("the broker sent what is not MQTT: a topic beyond its packet")
        if payload > len(data):
            return None, b""
        answer = _PUBACK + data[payload - 2 : payload]
        if end - body > PACKET_BYTES_MAX:
            self.unread += 1
            return False, answer
        topic = data[body + 2 : payload - 2].decode("utf-8", "replace")
        message = Received(topic, data[payload:end], bool(first & 1), self._broker)
        return (True, b"") if self._screen(message) else (False, answer)


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


def _check_length(length: int) -> None:
    if length > PACKET_BYTES_MAX:
        raise ConnectionError(f"the broker sent a packet of {length:,} bytes")
