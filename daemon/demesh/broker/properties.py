"""Properties of MQTT 5 packets and their bytes (OASIS MQTT 5.0, section 2.2.2): one table.

A row of `TABLE` says all there is to say about one property; both directions read nothing else.
Use it through `codec`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, NamedTuple

from demesh.broker.codes import Code
from demesh.broker.packets import Properties

VARINT_MAX = 268_435_455  # four bytes of seven bits

# Properties of a packet, filters of a SUBSCRIBE, codes of its answer. Each costs a microsecond or
# so to read: a packet about a millisecond at most, which is what `pace.py` takes for it. Without a
# bound 256 KiB held 65,000, and all others waited an eighth of a second. Fewer would refuse who has
# many subscriptions to make at once.
PARTS_MAX = 1024


class FaultError(Exception):
    """Inside the codec only: why bytes cannot be read, and the code MQTT 5 has for it."""

    def __init__(self, detail: str, code: Code = Code.MALFORMED) -> None:
        super().__init__(detail)
        self.code = code


class Place(Enum):
    """What properties stand in: a packet, or the will inside CONNECT."""

    CONNECT = auto()
    WILL = auto()
    CONNACK = auto()
    PUBLISH = auto()
    PUBACK = auto()
    PUBREC = auto()
    PUBREL = auto()
    PUBCOMP = auto()
    SUBSCRIBE = auto()
    SUBACK = auto()
    UNSUBSCRIBE = auto()
    UNSUBACK = auto()
    DISCONNECT = auto()
    AUTH = auto()


# -- the forms of values --------------------------------------------------------------------------


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A variable byte integer at `at`, which must not be longer than needed (1.5.5-1), and where
    it ends."""
    value = shift = 0
    while True:
        if at >= end:
            raise FaultError("a number that is cut off")
        octet = data[at]
        at += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            if not octet and shift:
                raise FaultError("a number with needless bytes")
            return value, at
        shift += 7
        if shift > 21:
            raise FaultError("a number of five bytes")


def write_varint(value: int) -> bytes:
    """The shortest form of a variable byte integer; raises ValueError above `VARINT_MAX`."""
    if value < 0x80:
        return bytes((value,))
    if value > VARINT_MAX:
        raise ValueError(f"a length or number of {value}; MQTT ends at {VARINT_MAX}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_binary(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    """Bytes with a length of two before them, and where they end."""
    start = at + 2
    if start > end:
        raise FaultError("a length that is cut off")
    at = start + (data[start - 2] << 8 | data[start - 1])
    if at > end:
        raise FaultError("a field that is cut off")
    return data[start:at], at


def read_text(data: bytes, at: int, end: int) -> tuple[str, int]:
    """Text (1.5.4), and where it ends."""
    raw, at = read_binary(data, at, end)
    return to_text(raw), at


def to_text(data: bytes) -> str:
    """UTF-8 without surrogates and NUL (1.5.4-1, 1.5.4-2)."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise FaultError("text that is not UTF-8") from None
    if "\0" in text:
        raise FaultError("text with a NUL character")
    return text


def write_binary(data: bytes) -> bytes:
    """Bytes behind their length; raises ValueError above 65,535 of them."""
    size = len(data)
    if size > 0xFFFF:
        raise ValueError(f"{size} does not fit the 16 bits that MQTT has for it")
    return bytes((size >> 8, size & 0xFF)) + data


def write_text(text: str) -> bytes:
    """Text behind its length; raises ValueError above 65,535 bytes."""
    return write_binary(text.encode())


def _read_pair(data: bytes, at: int, end: int) -> tuple[tuple[str, str], int]:
    name, at = read_text(data, at, end)
    value, at = read_text(data, at, end)
    return (name, value), at


def _write_pair(pair: tuple[str, str]) -> bytes:
    return write_text(pair[0]) + write_text(pair[1])


def _reader(size: int) -> Callable[[bytes, int, int], tuple[int, int]]:
    def read(data: bytes, at: int, end: int) -> tuple[int, int]:
        if at + size > end:
            raise FaultError("a number that is cut off")
        return int.from_bytes(data[at : at + size]), at + size

    return read


def _writer(size: int) -> Callable[[int], bytes]:
    return lambda value: value.to_bytes(size)


class Form(NamedTuple):
    """How values of a kind are read and written."""

    read: Callable[[bytes, int, int], tuple[Any, int]]
    write: Callable[[Any], bytes]


OCTET = Form(_reader(1), _writer(1))
TWO = Form(_reader(2), _writer(2))
FOUR = Form(_reader(4), _writer(4))
VARINT = Form(read_varint, write_varint)
TEXT = Form(read_text, write_text)
BINARY = Form(read_binary, write_binary)
PAIR = Form(_read_pair, _write_pair)


# -- the table ------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One property: its number, its name in `Properties`, its form, where it may stand, and for a
    number the least and most it may be. `many`: where it may stand more than once."""

    number: int
    name: str
    form: Form
    places: frozenset[Place]
    least: int = 0
    most: int = 0
    many: frozenset[Place] = frozenset()


_MESSAGE = frozenset({Place.PUBLISH, Place.WILL})
_CONNECT = frozenset({Place.CONNECT})
_CONNACK = frozenset({Place.CONNACK})
_PUBLISH = frozenset({Place.PUBLISH})
_SUBSCRIBE = frozenset({Place.SUBSCRIBE})
_DISCONNECT = frozenset({Place.DISCONNECT})
_AUTH = _CONNECT | _CONNACK | {Place.AUTH}
_ALL = frozenset(Place)
_REQUESTS = _MESSAGE | _CONNECT | _SUBSCRIBE | {Place.UNSUBSCRIBE}

_BOOLEAN, _16, _32 = 1, 0xFFFF, 0xFFFF_FFFF

TABLE = (
    Row(0x01, "payload_format", OCTET, _MESSAGE, 0, _BOOLEAN),
    Row(0x02, "message_expiry_s", FOUR, _MESSAGE, 0, _32),
    Row(0x03, "content_type", TEXT, _MESSAGE),
    Row(0x08, "response_topic", TEXT, _MESSAGE),
    Row(0x09, "correlation_data", BINARY, _MESSAGE),
    Row(0x0B, "subscription_ids", VARINT, _PUBLISH | _SUBSCRIBE, 1, VARINT_MAX, _PUBLISH),
    Row(0x11, "session_expiry_s", FOUR, _CONNECT | _CONNACK | _DISCONNECT, 0, _32),
    Row(0x12, "assigned_client_id", TEXT, _CONNACK),
    Row(0x13, "server_keep_alive_s", TWO, _CONNACK, 0, _16),
    Row(0x15, "auth_method", TEXT, _AUTH),
    Row(0x16, "auth_data", BINARY, _AUTH),
    Row(0x17, "request_problem", OCTET, _CONNECT, 0, _BOOLEAN),
    Row(0x18, "will_delay_s", FOUR, frozenset({Place.WILL}), 0, _32),
    Row(0x19, "request_response", OCTET, _CONNECT, 0, _BOOLEAN),
    Row(0x1A, "response_information", TEXT, _CONNACK),
    Row(0x1C, "server_reference", TEXT, _CONNACK | _DISCONNECT),
    Row(0x1F, "reason", TEXT, _ALL - _REQUESTS),
    Row(0x21, "receive_maximum", TWO, _CONNECT | _CONNACK, 1, _16),
    Row(0x22, "topic_alias_maximum", TWO, _CONNECT | _CONNACK, 0, _16),
    Row(0x23, "topic_alias", TWO, _PUBLISH, 1, _16),
    Row(0x24, "maximum_qos", OCTET, _CONNACK, 0, _BOOLEAN),
    Row(0x25, "retain_available", OCTET, _CONNACK, 0, _BOOLEAN),
    Row(0x26, "user", PAIR, _ALL, many=_ALL),
    Row(0x27, "maximum_packet_bytes", FOUR, _CONNECT | _CONNACK, 1, _32),
    Row(0x28, "wildcards_available", OCTET, _CONNACK, 0, _BOOLEAN),
    Row(0x29, "subscription_ids_available", OCTET, _CONNACK, 0, _BOOLEAN),
    Row(0x2A, "shared_available", OCTET, _CONNACK, 0, _BOOLEAN),
)

_LISTED = ("subscription_ids", "user")  # tuples in `Properties`

_ROWS: dict[Place, dict[int, Row]] = {
    place: {row.number: row for row in TABLE if place in row.places} for place in Place
}

# -- reading and writing --------------------------------------------------------------------------


def read_properties(data: bytes, at: int, end: int, place: Place) -> tuple[Properties | None, int]:
    """The properties at `at`, with their length before them, and where they end; None for none."""
    size, at = read_varint(data, at, end)
    if not size:
        return None, at
    start, stop = at, at + size
    if stop > end:
        raise FaultError("properties that are cut off")
    rows = _ROWS[place]
    found: dict[str, Any] = {}
    left = PARTS_MAX
    while at < stop:
        left -= 1
        if left < 0:
            raise too_many(place)
        row = rows.get(data[at])
        if row is None:
            raise FaultError(f"property 0x{data[at]:02x} in {place.name}")
        _, name, form, _, least, most, many = row
        value, at = form.read(data, at + 1, stop)
        if most and not least <= value <= most:
            raise FaultError(f"{name} = {value}, expected {least} to {most}", _out_of_range(name))
        if place in many:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise FaultError(f"{name} twice in {place.name}", Code.PROTOCOL_ERROR)
        else:
            found[name] = (value,) if name in _LISTED else value
    for name in _LISTED:
        if name in found:
            found[name] = tuple(found[name])
    properties = Properties(**found)
    if place is Place.PUBLISH:  # most are passed on as they came
        object.__setattr__(properties, "_wire", data[start:stop])
    return properties, at


def too_many(place: Place) -> FaultError:
    """What there is to say of more than `PARTS_MAX` of anything."""
    return FaultError(f"{place.name} with more than {PARTS_MAX} parts", Code.TOO_LARGE)


def _out_of_range(name: str) -> Code:
    return Code.ALIAS_INVALID if name == "topic_alias" else Code.PROTOCOL_ERROR


def write_properties(properties: Properties | None, place: Place) -> bytes:
    """Properties with their length before them; raises ValueError for one that may not stand here,
    or whose value is out of its range: that is our own mistake."""
    if properties is None:
        return b"\0"
    wire = properties._wire if place is Place.PUBLISH else None
    if wire is None:
        wire = b"".join(_pieces(properties, place))
        if place is Place.PUBLISH:
            object.__setattr__(properties, "_wire", wire)
    return write_varint(len(wire)) + wire


def _pieces(properties: Properties, place: Place) -> list[bytes]:
    pieces: list[bytes] = []
    for number, name, form, places, least, most, many in TABLE:
        value = getattr(properties, name)
        if value is None or value == ():
            continue
        values = value if name in _LISTED else (value,)
        if place not in places or (len(values) > 1 and place not in many):
            raise ValueError(f"{name} = {value!r} may not stand in {place.name}")
        for one in values:
            if most and not least <= one <= most:
                raise ValueError(f"{name} = {one}, expected {least} to {most}")
            pieces += bytes((number,)), form.write(one)
    return pieces
