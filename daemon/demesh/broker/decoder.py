"""Bytes to MQTT packets, incrementally and within a size limit; use it through `codec`."""

from __future__ import annotations

from demesh.broker.bodies import DECODERS, decode_publish
from demesh.broker.codes import Code
from demesh.broker.limits import Reason
from demesh.broker.packets import LEVEL_3, LEVEL_5, Connect, Malformed, Packet
from demesh.broker.properties import FaultError

ALL = 1 << 62
"""More packets than any bytes hold."""


class Decoder:
    """Bytes in, packets out, for one connection; holds at most one incomplete packet, and of the
    bytes it was last fed what is behind the last packet it gave.

    The level is that of the connection: the first CONNECT that is read sets it, so that only who
    hears a broker has to say it.
    """

    __slots__ = (
        "_ahead",
        "_ahead_at",
        "_ended",
        "_five",
        "_greeted",
        "_need",
        "_packet_bytes_max",
        "_rest",
    )

    def __init__(self, packet_bytes_max: int, level: int = LEVEL_3) -> None:
        self._five = level == LEVEL_5
        self._packet_bytes_max = packet_bytes_max
        self._rest = bytearray()
        self._need = 0  # length of `_rest` below which another look at it is in vain
        self._ended = False
        self._greeted = False  # by a CONNECT
        self._ahead = b""  # what was fed and not looked at begins at `_ahead_at` of it
        self._ahead_at = 0

    @property
    def level(self) -> int:
        """What to encode for this connection: the level of what is read."""
        return LEVEL_5 if self._five else LEVEL_3

    @property
    def more(self) -> bool:
        """Whether there are bytes left to look at: `feed(b"")` does so."""
        return bool(self._ahead)

    def feed(self, data: bytes, packets_max: int = ALL) -> list[Packet | Malformed]:
        """The packets completed by `data`, in order; a `Malformed` is the last value ever given.

        After `packets_max` (at least 1) of them the rest waits for the next call; see `more`.
        """
        if self._ended:
            return []
        at = 0
        if self._ahead or self._rest:
            data, at = self._joined(data)
        packets: list[Packet | Malformed] = []
        five = self._five
        decoders = DECODERS[five]
        end = len(data)
        while at < end:
            if len(packets) == packets_max:
                self._ahead = data
                self._ahead_at = at
                return packets
            start = at
            first = data[start]
            if first & 0xF0 != 0x30 and first not in decoders:
                return self._end(packets, f"first byte 0x{first:02x}")
            body = start + 2
            if body > end:
                return self._wait(data, start, 2, packets)
            length = data[start + 1]
            shortest = True
            if length > 0x7F:
                length &= 0x7F
                while True:
                    if body - start > 4:
                        return self._end(packets, "a length of five bytes")
                    if body >= end:
                        return self._wait(data, start, body - start + 1, packets)
                    more = data[body]
                    length |= (more & 0x7F) << 7 * (body - start - 1)
                    body += 1
                    if more < 0x80:
                        break
                shortest = more != 0
            at = body + length
            if at - start > self._packet_bytes_max:
                detail = f"a packet of {at - start} bytes"
                return self._end(packets, detail, Code.TOO_LARGE)
            if at > end:
                return self._wait(data, start, at - start, packets)
            try:
                if first & 0xF0 == 0x30:
                    packet: Packet = decode_publish(data, start, body, at, five, shortest)
                else:
                    packet = decoders[first](data[body:at])
                    if first == 0x10 and not self._greeted:
                        five = self._greet(packet)
                        decoders = DECODERS[five]
                if five and not shortest:  # 1.5.5-1; 3.1.1 has no such rule
                    raise FaultError("a length with needless bytes")
            except FaultError as fault:
                return self._end(packets, str(fault), fault.code)
            packets.append(packet)
        return packets

    def _joined(self, data: bytes) -> tuple[bytes, int]:
        """What there is to look at now that `data` has come, and where it begins; nothing if it is
        known to be too little."""
        if self._ahead:
            ahead, at = self._ahead, self._ahead_at
            self._ahead = b""
            return (ahead[at:] + data, 0) if data else (ahead, at)
        self._rest += data
        if len(self._rest) < self._need:
            return b"", 0
        data = bytes(self._rest)
        self._rest.clear()
        return data, 0

    def _greet(self, packet: Packet) -> bool:
        """From its first CONNECT on the connection has its level; whether that is MQTT 5."""
        assert isinstance(packet, Connect)
        self._greeted = True
        self._five = packet.level == LEVEL_5
        return self._five

    def _wait(
        self, data: bytes, start: int, need: int, packets: list[Packet | Malformed]
    ) -> list[Packet | Malformed]:
        self._rest += data[start:]
        self._need = need
        return packets

    def _end(
        self, packets: list[Packet | Malformed], detail: str, code: Code = Code.MALFORMED
    ) -> list[Packet | Malformed]:
        self._ended = True
        packets.append(Malformed(_REASONS.get(code, Reason.PROTOCOL), detail, code))
        return packets


_REASONS = {Code.MALFORMED: Reason.MALFORMED, Code.TOO_LARGE: Reason.TOO_LARGE}
