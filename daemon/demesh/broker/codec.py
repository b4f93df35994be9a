"""MQTT 3.1.1 packets and their bytes (OASIS MQTT 3.1.1, sections 2 and 3): the one place to import.

`encode(packet)` gives the bytes of one packet; `Decoder.feed(data)` gives the packets that have
arrived. A peer's fault is a value: the decoder ends with one `Malformed` and is silent afterwards.
The same codec serves both directions. Rules about topics are not checked here (see `topics.py`).
"""

from __future__ import annotations

from demesh.broker.decoder import Decoder
from demesh.broker.packets import (
    ACCEPTED,
    LEVEL,
    REFUSED_CLIENT_ID,
    REFUSED_UNAVAILABLE,
    REFUSED_VERSION,
    SUBSCRIBE_FAILED,
    Acknowledgement,
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

__all__ = [
    "ACCEPTED",
    "LEVEL",
    "REFUSED_CLIENT_ID",
    "REFUSED_UNAVAILABLE",
    "REFUSED_VERSION",
    "SUBSCRIBE_FAILED",
    "Acknowledgement",
    "Connack",
    "Connect",
    "Decoder",
    "Disconnect",
    "Malformed",
    "Packet",
    "Pingreq",
    "Pingresp",
    "Puback",
    "Pubcomp",
    "Publish",
    "Pubrec",
    "Pubrel",
    "Suback",
    "Subscribe",
    "Unsuback",
    "Unsubscribe",
    "encode",
]

REMAINING_MAX = 268_435_455  # four length bytes of seven bits

_ACK_FIRST: dict[type, int] = {
    Puback: 0x40,
    Pubrec: 0x50,
    Pubrel: 0x62,
    Pubcomp: 0x70,
    Unsuback: 0xB0,
}


def encode(packet: Packet) -> bytes:
    """The bytes of one packet; raises ValueError for a field too long for its length prefix."""
    if isinstance(packet, Publish):
        return _encode_publish(packet)
    if isinstance(packet, Puback | Pubrec | Pubrel | Pubcomp | Unsuback):
        pid = packet.packet_id
        return bytes((_ACK_FIRST[type(packet)], 2, pid >> 8, pid & 0xFF))
    return _encode_other(packet)


def _encode_publish(packet: Publish) -> bytes:
    wire = packet._wire
    if wire is None:
        topic = packet.topic.encode()
        size = len(topic)
        qos = packet.qos
        pid = packet.packet_id
        ident = bytes((pid >> 8, pid & 0xFF)) if qos else b""
        body = b"".join((_length16(size), topic, ident, packet.payload))
        wire = _head(0x30 | packet.dup << 3 | qos << 1 | packet.retain, len(body)) + body
        if not qos:  # with an id of its own, a packet is for one receiver
            object.__setattr__(packet, "_wire", wire)
    return wire


def _encode_other(packet: Packet) -> bytes:
    match packet:
        case Connect():
            first, body = 0x10, _connect_body(packet)
        case Connack(code, session_present):
            first, body = 0x20, bytes((session_present, code))
        case Subscribe(pid, wanted):
            first = 0x82
            body = _length16(pid) + b"".join(_text(name) + bytes((qos,)) for name, qos in wanted)
        case Suback(pid, codes):
            first, body = 0x90, _length16(pid) + bytes(codes)
        case Unsubscribe(pid, filters):
            first, body = 0xA2, _length16(pid) + b"".join(map(_text, filters))
        case Pingreq():
            first, body = 0xC0, b""
        case Pingresp():
            first, body = 0xD0, b""
        case _:
            first, body = 0xE0, b""
    return _head(first, len(body)) + body


def _connect_body(packet: Connect) -> bytes:
    will = packet.will
    flags = packet.clean_session << 1
    parts = [_text(packet.client_id)]
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
        parts += _text(will.topic), _length16(len(will.payload)), will.payload
    if packet.username is not None:
        flags |= 0x80
        parts.append(_text(packet.username))
    if packet.password is not None:
        flags |= 0x40
        parts += _length16(len(packet.password)), packet.password
    fixed = b"\x00\x04MQTT" + bytes((packet.level, flags)) + _length16(packet.keep_alive_s)
    return fixed + b"".join(parts)


def _head(first: int, remaining: int) -> bytes:
    if remaining < 0x80:
        return bytes((first, remaining))
    if remaining > REMAINING_MAX:
        raise ValueError(f"a packet of {remaining} bytes; MQTT ends at {REMAINING_MAX}")
    head = bytearray((first,))
    while remaining > 0x7F:
        head.append(remaining & 0x7F | 0x80)
        remaining >>= 7
    head.append(remaining)
    return bytes(head)


def _length16(size: int) -> bytes:
    if size > 0xFFFF:
        raise ValueError(f"{size} does not fit the 16 bits that MQTT has for it")
    return bytes((size >> 8, size & 0xFF))


def _text(value: str) -> bytes:
    data = value.encode()
    return _length16(len(data)) + data
