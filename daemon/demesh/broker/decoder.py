"""Bytes to MQTT 3.1.1 packets, incrementally and within a size limit; use it through `codec`."""

from __future__ import annotations

from collections.abc import Callable

from demesh.broker.limits import Reason
from demesh.broker.packets import (
    LEVEL,
    SUBSCRIBE_FAILED,
    Connack,
    Connect,
    Disconnect,
    Malformed,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)

ALL = 1 << 62
"""More packets than any bytes hold."""


class _FaultError(Exception):
    """Inside this module only: why a packet cannot be read."""


class Decoder:
    """Bytes in, packets out, for one connection; holds at most one incomplete packet, and of the
    bytes it was last fed what is behind the last packet it gave."""

    __slots__ = ("_ahead", "_ahead_at", "_ended", "_need", "_packet_bytes_max", "_rest")

    def __init__(self, packet_bytes_max: int) -> None:
        self._packet_bytes_max = packet_bytes_max
        self._rest = bytearray()
        self._need = 0  # length of `_rest` below which another look at it is in vain
        self._ended = False
        self._ahead = b""  # what was fed and not looked at begins at `_ahead_at` of it
        self._ahead_at = 0

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
        at = self._ahead_at
        if self._ahead:
            if data:
                data = self._ahead[at:] + data
                at = 0
            else:
                data = self._ahead
            self._ahead = b""
            self._ahead_at = 0
        elif self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        packets: list[Packet | Malformed] = []
        end = len(data)
        while at < end:
            if len(packets) == packets_max:
                self._ahead = data
                self._ahead_at = at
                return packets
            start = at
            first = data[start]
            if first & 0xF0 != 0x30 and first not in _DECODERS:
                return self._end(Reason.MALFORMED, f"first byte 0x{first:02x}", packets)
            body = start + 2
            if body > end:
                return self._wait(data, start, 2, packets)
            length = data[start + 1]
            if length > 0x7F:
                length &= 0x7F
                while True:
                    if body - start > 4:
                        return self._end(Reason.MALFORMED, "a length of five bytes", packets)
                    if body >= end:
                        return self._wait(data, start, body - start + 1, packets)
                    more = data[body]
                    length |= (more & 0x7F) << 7 * (body - start - 1)
                    body += 1
                    if more < 0x80:
                        break
            at = body + length
            if at - start > self._packet_bytes_max:
                return self._end(Reason.TOO_LARGE, f"a packet of {at - start} bytes", packets)
            if at > end:
                return self._wait(data, start, at - start, packets)
            try:
                if first & 0xF0 == 0x30:
                    packet: Packet = _decode_publish(first, data, body, at)
                    if first == 0x30 and (body - start == 2 or data[body - 1]):
                        # Forwarded as it came: no need to encode it again.
                        object.__setattr__(packet, "_wire", data[start:at])
                else:
                    packet = _DECODERS[first](data[body:at])
            except _FaultError as fault:
                return self._end(Reason.MALFORMED, str(fault), packets)
            packets.append(packet)
        return packets

    def _wait(
        self, data: bytes, start: int, need: int, packets: list[Packet | Malformed]
    ) -> list[Packet | Malformed]:
        self._rest += data[start:]
        self._need = need
        return packets

    def _end(
        self, reason: Reason, detail: str, packets: list[Packet | Malformed]
    ) -> list[Packet | Malformed]:
        self._ended = True
        packets.append(Malformed(reason, detail))
        return packets


def _decode_publish(first: int, data: bytes, at: int, end: int) -> Publish:
    qos = first >> 1 & 3
    if qos == 3:
        raise _FaultError("PUBLISH with QoS 3")
    if first & 8 and not qos:
        raise _FaultError("PUBLISH with QoS 0 marked as a duplicate")
    if end - at < 2:
        raise _FaultError("PUBLISH without a topic")
    payload = at + 2 + (data[at] << 8 | data[at + 1])
    if payload > end:
        raise _FaultError("PUBLISH whose topic is cut off")
    topic = _utf8(data[at + 2 : payload])
    pid = 0
    if qos:
        if payload + 2 > end:
            raise _FaultError("PUBLISH without a packet id")
        pid = data[payload] << 8 | data[payload + 1]
        if not pid:
            raise _FaultError("packet id 0")
        payload += 2
    return Publish(topic, data[payload:end], qos, first & 1 == 1, first & 8 == 8, pid)


def _utf8(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _FaultError("text that is not UTF-8") from None
    if "\0" in text:
        raise _FaultError("text with a NUL character")
    return text


class _Body:
    """A cursor over the body of one packet."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        if len(piece) < size:
            raise _FaultError("a packet that is cut off")
        self.at += size
        return piece

    def octet(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        high, low = self.take(2)
        return high << 8 | low

    def packet_id(self) -> int:
        pid = self.number()
        if not pid:
            raise _FaultError("packet id 0")
        return pid

    def binary(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        return _utf8(self.binary())

    def more(self) -> bool:
        return self.at < len(self.data)

    def end(self) -> None:
        if self.more():
            raise _FaultError("bytes after the end of a packet")


def _decode_connect(data: bytes) -> Connect:
    body = _Body(data)
    name = body.binary()
    level = body.octet()
    if name not in (b"MQTT", b"MQIsdp"):
        raise _FaultError("CONNECT of another protocol")
    if name != b"MQTT" or level != LEVEL:
        return Connect(level=level if level != LEVEL else 0)
    flags = body.octet()
    if flags & 0x01:
        raise _FaultError("CONNECT with the reserved flag")
    if flags & 0x38 and not flags & 0x04:
        raise _FaultError("CONNECT with QoS or retain of a will, and no will")
    if flags & 0x18 == 0x18:
        raise _FaultError("CONNECT with a will of QoS 3")
    if flags & 0x40 and not flags & 0x80:
        raise _FaultError("CONNECT with a password and no user name")
    keep_alive_s = body.number()
    client_id = body.text()
    will = None
    if flags & 0x04:
        will = Publish(body.text(), body.binary(), flags >> 3 & 3, flags & 0x20 == 0x20)
    username = body.text() if flags & 0x80 else None
    password = body.binary() if flags & 0x40 else None
    body.end()
    return Connect(client_id, flags & 0x02 == 0x02, keep_alive_s, will, username, password)


def _decode_connack(data: bytes) -> Connack:
    if len(data) != 2 or data[0] > 1:
        raise _FaultError("CONNACK of another form")
    return Connack(data[1], data[0] == 1)


def _with_packet_id(make: Callable[[int], Packet]) -> Callable[[bytes], Packet]:
    def decode(data: bytes) -> Packet:
        body = _Body(data)
        pid = body.packet_id()
        body.end()
        return make(pid)

    return decode


def _without_body(packet: Packet) -> Callable[[bytes], Packet]:
    def decode(data: bytes) -> Packet:
        if data:
            raise _FaultError("bytes after the end of a packet")
        return packet

    return decode


def _decode_subscribe(data: bytes) -> Subscribe:
    body = _Body(data)
    pid = body.packet_id()
    filters = []
    while body.more():
        name = body.text()
        qos = body.octet()
        if qos > 2:
            raise _FaultError(f"SUBSCRIBE with QoS byte {qos}")
        filters.append((name, qos))
    if not filters:
        raise _FaultError("SUBSCRIBE without a filter")
    return Subscribe(pid, tuple(filters))


def _decode_suback(data: bytes) -> Suback:
    body = _Body(data)
    pid = body.packet_id()
    codes = tuple(data[2:])
    if not codes or any(code > 2 and code != SUBSCRIBE_FAILED for code in codes):
        raise _FaultError("SUBACK of another form")
    return Suback(pid, codes)


def _decode_unsubscribe(data: bytes) -> Unsubscribe:
    body = _Body(data)
    pid = body.packet_id()
    filters = []
    while body.more():
        filters.append(body.text())
    if not filters:
        raise _FaultError("UNSUBSCRIBE without a filter")
    return Unsubscribe(pid, tuple(filters))


# By the whole first byte: every type but PUBLISH has fixed flags.
_DECODERS: dict[int, Callable[[bytes], Packet]] = {
    0x10: _decode_connect,
    0x20: _decode_connack,
    0x40: _with_packet_id(Puback),
    0x50: _with_packet_id(Pubrec),
    0x62: _with_packet_id(Pubrel),
    0x70: _with_packet_id(Pubcomp),
    0x82: _decode_subscribe,
    0x90: _decode_suback,
    0xA2: _decode_unsubscribe,
    0xB0: _with_packet_id(Unsuback),
    0xC0: _without_body(Pingreq()),
    0xD0: _without_body(Pingresp()),
    0xE0: _without_body(Disconnect()),
}
