"""MQTT packets and their bytes, 3.1.1 and 5 (OASIS, sections 2 and 3): the one place to import.

`encode(packet, level)` gives the bytes of one packet; `Decoder.feed(data)` gives the packets that
have arrived, at the level of the CONNECT among them. A peer's fault is a value: the decoder ends
with one `Malformed` and is silent afterwards. The same codec serves both directions: what only one
side may say, and all rules about topics, are checked elsewhere (`machine.py`, `topics.py`).

At 3.1.1 a packet loses what there is no room for: properties, options of a subscription, the reason
of an acknowledgement. A refused CONNECT has one of five reasons there, a refused filter one.
"""

from __future__ import annotations

from demesh.broker.bodies import PROTOCOL_NAME
from demesh.broker.codes import GRANTED, Code, return_code
from demesh.broker.decoder import Decoder
from demesh.broker.packets import (
    LEVEL_3,
    LEVEL_5,
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Malformed,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Wanted,
)
from demesh.broker.properties import (
    Place,
    write_binary,
    write_properties,
    write_text,
    write_varint,
)

__all__ = [
    "GRANTED",
    "LEVEL_3",
    "LEVEL_5",
    "Acknowledgement",
    "Auth",
    "Code",
    "Connack",
    "Connect",
    "Decoder",
    "Disconnect",
    "Malformed",
    "Packet",
    "Pingreq",
    "Pingresp",
    "Properties",
    "Puback",
    "Pubcomp",
    "Publish",
    "Pubrec",
    "Pubrel",
    "Suback",
    "Subscribe",
    "Unsuback",
    "Unsubscribe",
    "Wanted",
    "encode",
]

_ACK_FIRST: dict[type, tuple[int, Place]] = {
    Puback: (0x40, Place.PUBACK),
    Pubrec: (0x50, Place.PUBREC),
    Pubrel: (0x62, Place.PUBREL),
    Pubcomp: (0x70, Place.PUBCOMP),
}


# Made once: as a union in its place, it takes three times as long to look at.
_ACKNOWLEDGEMENTS = (Puback, Pubrec, Pubrel, Pubcomp)


def encode(packet: Packet, level: int = LEVEL_3) -> bytes:
    """The bytes of one packet for a connection of this level.

    Raises ValueError, our own mistake, for a field too long for its length prefix, a property out
    of its range or in the wrong packet, and a packet this level does not have.
    """
    five = level == LEVEL_5
    if type(packet) is Publish:
        return packet._wires[five] or _encode_publish(packet, five)
    if isinstance(packet, _ACKNOWLEDGEMENTS):
        return _encode_acknowledgement(packet, five)
    return _encode_other(packet, level)


def _encode_publish(packet: Publish, five: bool) -> bytes:
    topic = packet.topic.encode()
    size = len(topic)
    if size > 0xFFFF:
        raise ValueError(f"{size} does not fit the 16 bits that MQTT has for it")
    qos = packet.qos
    payload = packet.payload
    if qos:
        pid = packet.packet_id
        topic += bytes((pid >> 8, pid & 0xFF))
    if five:
        topic += write_properties(packet.properties, Place.PUBLISH)
    rest = 2 + len(topic) + len(payload)
    first = 0x30 | packet.dup << 3 | qos << 1 | packet.retain
    if rest < 0x80:
        head = bytes((first, rest, size >> 8, size & 0xFF))
    elif rest < 0x4000:
        head = bytes((first, rest & 0x7F | 0x80, rest >> 7, size >> 8, size & 0xFF))
    else:
        head = _head(first, rest) + bytes((size >> 8, size & 0xFF))
    wire = b"".join((head, topic, payload))
    if not qos:  # with an id of its own, a packet is for one receiver
        wires = (packet._wires[0], wire) if five else (wire, packet._wires[1])
        object.__setattr__(packet, "_wires", wires)
    return wire


def _encode_acknowledgement(packet: Acknowledgement, five: bool) -> bytes:
    first, place = _ACK_FIRST[type(packet)]
    pid = packet.packet_id
    code = packet.code
    properties = packet.properties
    if not five or (not code and properties is None):
        return bytes((first, 2, pid >> 8, pid & 0xFF))
    if properties is None:
        return bytes((first, 3, pid >> 8, pid & 0xFF, code))
    body = bytes((pid >> 8, pid & 0xFF, code)) + write_properties(properties, place)
    return _head(first, len(body)) + body


def _encode_other(packet: Packet, level: int) -> bytes:
    five = level == LEVEL_5
    match packet:
        case Connect():
            first, body = 0x10, _connect_body(packet)
        case Connack(code, present, properties):
            number = int(code) if five else return_code(code)
            first = 0x20
            body = bytes((present, number)) + _properties(properties, Place.CONNACK, five)
        case Subscribe(pid, wanted, properties):
            first = 0x82
            body = _length16(pid) + _properties(properties, Place.SUBSCRIBE, five)
            body += b"".join(write_text(one[0]) + _options(one, five) for one in wanted)
        case Suback(pid, codes, properties):
            first = 0x90
            body = _length16(pid) + _properties(properties, Place.SUBACK, five)
            body += bytes(codes if five else (min(code, Code.UNSPECIFIED) for code in codes))
        case Unsubscribe(pid, filters, properties):
            first = 0xA2
            body = _length16(pid) + _properties(properties, Place.UNSUBSCRIBE, five)
            body += b"".join(map(write_text, filters))
        case Unsuback(pid, codes, properties):
            first, body = 0xB0, _length16(pid)
            if five:
                body += write_properties(properties, Place.UNSUBACK) + bytes(codes)
        case Pingreq():
            first, body = 0xC0, b""
        case Pingresp():
            first, body = 0xD0, b""
        case Disconnect(code, properties):
            first, body = 0xE0, _reason(code, properties, Place.DISCONNECT) if five else b""
        case Auth(code, properties) if five:
            first = 0xF0  # 3.15.2.1: only both together may be left out
            body = _reason(code, properties or (Properties() if code else None), Place.AUTH)
        case _:
            raise ValueError(f"{type(packet).__name__} is no packet of level {level}")
    return _head(first, len(body)) + body


def _connect_body(packet: Connect) -> bytes:
    five = packet.level == LEVEL_5
    will = packet.will
    flags = packet.clean_start << 1
    parts = [write_text(packet.client_id)]
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
        parts += (
            _properties(will.properties, Place.WILL, five),
            write_text(will.topic),
            write_binary(will.payload),
        )
    if packet.username is not None:
        flags |= 0x80
        parts.append(write_text(packet.username))
    if packet.password is not None:
        flags |= 0x40
        parts.append(write_binary(packet.password))
    fixed = write_binary(PROTOCOL_NAME) + bytes((packet.level, flags))
    fixed += _length16(packet.keep_alive_s) + _properties(packet.properties, Place.CONNECT, five)
    return fixed + b"".join(parts)


def _properties(properties: Properties | None, place: Place, five: bool) -> bytes:
    return write_properties(properties, place) if five else b""


def _options(wanted: Wanted, five: bool) -> bytes:
    if not five:
        return bytes((wanted[1],))
    _, qos, no_local, retain_as_published, retain_handling = wanted
    return bytes((qos | no_local << 2 | retain_as_published << 3 | retain_handling << 4,))


def _reason(code: Code, properties: Properties | None, place: Place) -> bytes:
    """A code and properties at the end of a packet, left out where they say nothing."""
    if properties is not None:
        return bytes((code,)) + write_properties(properties, place)
    return bytes((code,)) if code else b""


def _head(first: int, remaining: int) -> bytes:
    if remaining < 0x80:
        return bytes((first, remaining))
    return bytes((first,)) + write_varint(remaining)


def _length16(size: int) -> bytes:
    if size > 0xFFFF:
        raise ValueError(f"{size} does not fit the 16 bits that MQTT has for it")
    return bytes((size >> 8, size & 0xFF))
