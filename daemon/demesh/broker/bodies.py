"""The body of each MQTT packet, from its bytes; use it through `codec`."""

from __future__ import annotations

from collections.abc import Callable

from demesh.broker.codes import (
    AUTH,
    CONNACK,
    CONNACK_3,
    DISCONNECT,
    RECEIVED,
    RELEASED,
    SUBACK,
    SUBACK_3,
    UNSUBACK,
    Code,
)
from demesh.broker.packets import (
    LEVEL_3,
    LEVEL_5,
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    Disconnect,
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
    PARTS_MAX,
    FaultError,
    Place,
    read_binary,
    read_properties,
    read_text,
    too_many,
)

_set = object.__setattr__

PROTOCOL_NAME = b"MQTT"
PROTOCOL_NAME_31 = b"MQIsdp"  # of MQTT 3.1, which is refused politely


def _code(number: int, allowed: dict[int, Code], place: Place) -> Code:
    code = allowed.get(number)
    if code is None:
        raise FaultError(f"{place.name} with code 0x{number:02x}")
    return code


class _Body:
    """A cursor over the body of one packet."""

    __slots__ = ("at", "data", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.at = 0

    def octet(self) -> int:
        at = self.at
        if at >= self.size:
            raise FaultError("a packet that is cut off")
        self.at = at + 1
        return self.data[at]

    def number(self) -> int:
        return self.octet() << 8 | self.octet()

    def packet_id(self) -> int:
        pid = self.number()
        if not pid:
            raise FaultError("packet id 0")
        return pid

    def binary(self) -> bytes:
        value, self.at = read_binary(self.data, self.at, self.size)
        return value

    def text(self) -> str:
        value, self.at = read_text(self.data, self.at, self.size)
        return value

    def properties(self, place: Place) -> Properties | None:
        value, self.at = read_properties(self.data, self.at, self.size, place)
        return value

    def more(self) -> bool:
        return self.at < self.size

    def end(self) -> None:
        if self.more():
            raise FaultError("bytes after the end of a packet")


def decode_publish(data: bytes, start: int, at: int, end: int, five: bool, keep: bool) -> Publish:
    """The PUBLISH that is `data[start:end]`, its body from `at`; `keep`: its bytes may go on as
    they are."""
    first = data[start]
    qos = first >> 1 & 3
    if qos == 3:
        raise FaultError("PUBLISH with QoS 3")
    if first & 8 and not qos:
        raise FaultError("PUBLISH with QoS 0 marked as a duplicate")
    if end - at < 2:
        raise FaultError("PUBLISH without a topic")
    payload = at + 2 + (data[at] << 8 | data[at + 1])
    if payload > end:
        raise FaultError("PUBLISH whose topic is cut off")
    try:  # what `to_text` does, a twentieth of the whole faster
        topic = data[at + 2 : payload].decode()
    except UnicodeDecodeError:
        raise FaultError("text that is not UTF-8") from None
    if "\0" in topic:
        raise FaultError("text with a NUL character")
    pid = 0
    if qos:
        if payload + 2 > end:
            raise FaultError("PUBLISH without a packet id")
        pid = data[payload] << 8 | data[payload + 1]
        if not pid:
            raise FaultError("packet id 0")
        payload += 2
    properties = None
    if five:
        if payload < end and not data[payload]:
            payload += 1
        else:
            properties, payload = read_properties(data, payload, end, Place.PUBLISH)
        if not topic and (properties is None or properties.topic_alias is None):
            raise FaultError("PUBLISH without a topic and without an alias", Code.PROTOCOL_ERROR)
    packet = Publish(topic, data[payload:end], qos, first & 1 == 1, first & 8 == 8, pid, properties)
    # Most messages go on to others exactly so. An alias means something to this connection only.
    if first == 0x30 and keep and (properties is None or properties.topic_alias is None):
        wire = data[start:end]
        _set(packet, "_wires", (None, wire) if five else (wire, None))
    return packet


def _decode_connect(data: bytes) -> Connect:
    body = _Body(data)
    name = body.binary()
    level = body.octet()
    if name not in (PROTOCOL_NAME, PROTOCOL_NAME_31):
        raise FaultError("CONNECT of another protocol")
    if name != PROTOCOL_NAME or level not in (LEVEL_3, LEVEL_5):
        return Connect(level=0 if level in (LEVEL_3, LEVEL_5) else level)
    five = level == LEVEL_5
    flags = body.octet()
    if flags & 0x01:
        raise FaultError("CONNECT with the reserved flag")
    if flags & 0x38 and not flags & 0x04:
        raise FaultError("CONNECT with QoS or retain of a will, and no will")
    if flags & 0x18 == 0x18:
        raise FaultError("CONNECT with a will of QoS 3")
    if flags & 0x40 and not flags & 0x80 and not five:
        raise FaultError("CONNECT with a password and no user name")
    keep_alive_s = body.number()
    properties = body.properties(Place.CONNECT) if five else None
    if (
        properties is not None
        and properties.auth_method is None
        and properties.auth_data is not None
    ):
        raise FaultError("auth_data without auth_method", Code.PROTOCOL_ERROR)
    client_id = body.text()
    will = None
    if flags & 0x04:
        will_properties = body.properties(Place.WILL) if five else None
        qos, retain = flags >> 3 & 3, flags & 0x20 == 0x20
        will = Publish(body.text(), body.binary(), qos, retain, properties=will_properties)
    username = body.text() if flags & 0x80 else None
    password = body.binary() if flags & 0x40 else None
    body.end()
    clean_start = flags & 0x02 == 0x02
    return Connect(
        client_id, clean_start, keep_alive_s, will, username, password, level, properties
    )


def _decode_connack(data: bytes) -> Connack:
    code = CONNACK_3.get(data[1]) if len(data) == 2 and data[0] < 2 else None
    if code is None:
        raise FaultError("CONNACK of another form")
    return _connack(code, data[0], None)


def _decode_connack_5(data: bytes) -> Connack:
    body = _Body(data)
    flags = body.octet()
    if flags > 1:
        raise FaultError("CONNACK with reserved flags")
    code = _code(body.octet(), CONNACK, Place.CONNACK)
    properties = body.properties(Place.CONNACK)
    body.end()
    return _connack(code, flags, properties)


def _connack(code: Code, flags: int, properties: Properties | None) -> Connack:
    if flags and code is not Code.SUCCESS:  # 3.2.2-4, 3.2.2-6 of MQTT 5
        raise FaultError("CONNACK with a session and a refusal", Code.PROTOCOL_ERROR)
    return Connack(code, flags == 1, properties)


def _acknowledgement(make: Callable[[int], Acknowledgement]) -> Callable[[bytes], Packet]:
    def decode(data: bytes) -> Packet:
        if len(data) != 2:
            raise FaultError("an acknowledgement of another length")
        return make(_packet_id(data))

    return decode


def _acknowledgement_5(
    make: Callable[[int, Code, Properties | None], Acknowledgement],
    place: Place,
    allowed: dict[int, Code],
) -> Callable[[bytes], Packet]:
    def decode(data: bytes) -> Packet:
        size = len(data)
        if size < 2:
            raise FaultError("a packet that is cut off")
        pid = _packet_id(data)
        if size == 2:
            return make(pid, Code.SUCCESS, None)
        code = _code(data[2], allowed, place)
        return make(pid, code, _last_properties(data, 3, place))

    return decode


def _packet_id(data: bytes) -> int:
    pid = data[0] << 8 | data[1]
    if not pid:
        raise FaultError("packet id 0")
    return pid


def _last_properties(data: bytes, at: int, place: Place) -> Properties | None:
    """The properties that end a packet and may be left out with their length."""
    if at >= len(data):
        return None
    properties, at = read_properties(data, at, len(data), place)
    if at < len(data):
        raise FaultError("bytes after the end of a packet")
    return properties


def _without_body(packet: Packet) -> Callable[[bytes], Packet]:
    def decode(data: bytes) -> Packet:
        if data:
            raise FaultError("bytes after the end of a packet")
        return packet

    return decode


def _reason(
    make: Callable[[Code, Properties | None], Packet], place: Place, allowed: dict[int, Code]
) -> Callable[[bytes], Packet]:
    def decode(data: bytes) -> Packet:
        if len(data) == 1 and place is Place.AUTH:  # 3.15.2.1: both may be left out, or neither
            raise FaultError("AUTH with a code and no properties")
        code = _code(data[0], allowed, place) if data else Code.SUCCESS
        return make(code, _last_properties(data, 1, place))

    return decode


def _decode_subscribe(data: bytes) -> Subscribe:
    return _subscribe(_Body(data), five=False)


def _decode_subscribe_5(data: bytes) -> Subscribe:
    return _subscribe(_Body(data), five=True)


def _subscribe(body: _Body, *, five: bool) -> Subscribe:
    pid = body.packet_id()
    properties = body.properties(Place.SUBSCRIBE) if five else None
    filters: list[Wanted] = []
    while body.more():
        if len(filters) == PARTS_MAX:
            raise too_many(Place.SUBSCRIBE)
        name = body.text()
        options = body.octet()
        if options & 3 == 3 or options & (0xC0 if five else 0xFC):
            raise FaultError(f"SUBSCRIBE with options 0x{options:02x}")
        if options & 0x30 == 0x30:
            raise FaultError("SUBSCRIBE with retain handling 3", Code.PROTOCOL_ERROR)
        filters.append(Wanted(name, options & 3, options & 4 == 4, options & 8 == 8, options >> 4))
    if not filters:
        raise FaultError("SUBSCRIBE without a filter", Code.PROTOCOL_ERROR)
    return Subscribe(pid, tuple(filters), properties)


def _decode_suback(data: bytes) -> Suback:
    body = _Body(data)
    pid = body.packet_id()
    return Suback(pid, _last_codes(body, SUBACK_3, Place.SUBACK))


def _decode_suback_5(data: bytes) -> Suback:
    body = _Body(data)
    pid = body.packet_id()
    properties = body.properties(Place.SUBACK)
    return Suback(pid, _last_codes(body, SUBACK, Place.SUBACK), properties)


def _last_codes(body: _Body, allowed: dict[int, Code], place: Place) -> tuple[Code, ...]:
    if not body.more():
        raise FaultError(f"{place.name} without a code", Code.PROTOCOL_ERROR)
    if body.size - body.at > PARTS_MAX:
        raise too_many(place)
    return tuple(_code(number, allowed, place) for number in body.data[body.at :])


def _decode_unsubscribe(data: bytes) -> Unsubscribe:
    return _unsubscribe(_Body(data), five=False)


def _decode_unsubscribe_5(data: bytes) -> Unsubscribe:
    return _unsubscribe(_Body(data), five=True)


def _unsubscribe(body: _Body, *, five: bool) -> Unsubscribe:
    pid = body.packet_id()
    properties = body.properties(Place.UNSUBSCRIBE) if five else None
    filters: list[str] = []
    while body.more():
        if len(filters) == PARTS_MAX:
            raise too_many(Place.UNSUBSCRIBE)
        filters.append(body.text())
    if not filters:
        raise FaultError("UNSUBSCRIBE without a filter", Code.PROTOCOL_ERROR)
    return Unsubscribe(pid, tuple(filters), properties)


def _decode_unsuback(data: bytes) -> Unsuback:
    body = _Body(data)
    pid = body.packet_id()
    body.end()
    return Unsuback(pid)


def _decode_unsuback_5(data: bytes) -> Unsuback:
    body = _Body(data)
    pid = body.packet_id()
    properties = body.properties(Place.UNSUBACK)
    return Unsuback(pid, _last_codes(body, UNSUBACK, Place.UNSUBACK), properties)


# By the whole first byte: every type but PUBLISH has fixed flags.
_DECODERS_3: dict[int, Callable[[bytes], Packet]] = {
    0x10: _decode_connect,
    0x20: _decode_connack,
    0x40: _acknowledgement(Puback),
    0x50: _acknowledgement(Pubrec),
    0x62: _acknowledgement(Pubrel),
    0x70: _acknowledgement(Pubcomp),
    0x82: _decode_subscribe,
    0x90: _decode_suback,
    0xA2: _decode_unsubscribe,
    0xB0: _decode_unsuback,
    0xC0: _without_body(Pingreq()),
    0xD0: _without_body(Pingresp()),
    0xE0: _without_body(Disconnect()),
}
_DECODERS_5: dict[int, Callable[[bytes], Packet]] = _DECODERS_3 | {
    0x20: _decode_connack_5,
    0x40: _acknowledgement_5(Puback, Place.PUBACK, RECEIVED),
    0x50: _acknowledgement_5(Pubrec, Place.PUBREC, RECEIVED),
    0x62: _acknowledgement_5(Pubrel, Place.PUBREL, RELEASED),
    0x70: _acknowledgement_5(Pubcomp, Place.PUBCOMP, RELEASED),
    0x82: _decode_subscribe_5,
    0x90: _decode_suback_5,
    0xA2: _decode_unsubscribe_5,
    0xB0: _decode_unsuback_5,
    0xE0: _reason(Disconnect, Place.DISCONNECT, DISCONNECT),
    0xF0: _reason(Auth, Place.AUTH, AUTH),
}
DECODERS = (_DECODERS_3, _DECODERS_5)
"""By whether it is MQTT 5."""
