"""What MQTT 5 adds to the bytes: properties, reason codes, options; and how it fits with 3.1.1."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.packets import some_properties
from demesh.broker.codec import (
    LEVEL_3,
    LEVEL_5,
    Auth,
    Code,
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Malformed,
    Packet,
    Pingreq,
    Properties,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Wanted,
    encode,
)
from demesh.broker.limits import Reason
from demesh.broker.properties import PARTS_MAX, TABLE, VARINT_MAX, Place, read_varint, write_varint

PACKET_BYTES_MAX = 100_000


def decode(data: bytes | str, level: int = LEVEL_5) -> list[Packet | Malformed]:
    wire = bytes.fromhex(data) if isinstance(data, str) else data
    return Decoder(PACKET_BYTES_MAX, level).feed(wire)


@pytest.mark.parametrize(
    ("packet", "wire"),
    [
        (
            Connect("a", True, 60, level=5, properties=Properties(session_expiry_s=20)),
            "10 13 0004 4d515454 05 02 003c 05 11 00000014 0001 61",
        ),
        (
            Connect(
                "a",
                False,
                1,
                Publish("w", b"x", 1, True, properties=Properties(will_delay_s=5)),
                password=b"p",
                level=5,
            ),
            "10 1d 0004 4d515454 05 6c 0001 00 0001 61 05 18 00000005 0001 77 0001 78 0001 70",
        ),
        (Connack(), "20 03 00 00 00"),
        (
            Connack(Code.BUSY, False, Properties(receive_maximum=10, shared_available=0)),
            "20 08 00 89 05 21 000a 2a 00",
        ),
        (Publish("a/b", b"hi"), "30 08 0003 612f62 00 6869"),
        (
            Publish("a", b"x", 1, False, True, 7, Properties(topic_alias=9, payload_format=1)),
            "3a 0c 0001 61 0007 05 01 01 23 0009 78",
        ),
        (
            Publish("a", properties=Properties(subscription_ids=(1, 200), user=(("k", "v"),))),
            "30 10 0001 61 0c 0b 01 0b c801 26 0001 6b 0001 76",
        ),
        (
            Publish("a", properties=Properties(0, 9, "t", "r", b"\0")),
            "30 17 0001 61 13 01 00 02 00000009 03 0001 74 08 0001 72 09 0001 00",
        ),
        (Puback(1), "40 02 0001"),
        (Puback(1, Code.NO_SUBSCRIBERS), "40 03 0001 10"),
        (Pubrec(1, Code.SUCCESS, Properties(reason="r")), "50 08 0001 00 04 1f 0001 72"),
        (Pubrel(3, Code.ID_NOT_FOUND), "62 03 0003 92"),
        (
            Subscribe(5, (Wanted("a", 1, True, True, 2),), Properties(subscription_ids=(7,))),
            "82 09 0005 02 0b 07 0001 61 2d",
        ),
        (Suback(5, (Code.GRANTED_2, Code.NO_SHARED)), "90 05 0005 00 02 9e"),
        (Unsubscribe(6, ("a",)), "a2 06 0006 00 0001 61"),
        (Unsuback(6, (Code.SUCCESS, Code.NO_SUBSCRIPTION)), "b0 05 0006 00 00 11"),
        (Disconnect(), "e0 00"),
        (Disconnect(Code.DISCONNECT_WITH_WILL), "e0 01 04"),
        (Disconnect(properties=Properties(session_expiry_s=0)), "e0 07 00 05 11 00000000"),
        (Auth(), "f0 00"),
        (Auth(Code.CONTINUE_AUTH), "f0 02 18 00"),
        (Auth(Code.AUTH_AGAIN, Properties(auth_method="m")), "f0 06 19 04 15 0001 6d"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_the_bytes_are_those_of_the_standard(packet: Packet, wire: str) -> None:
    assert encode(packet, LEVEL_5) == bytes.fromhex(wire)
    assert decode(wire) == [packet]


@pytest.mark.parametrize(
    ("wire", "packet"),
    [
        ("40 03 0001 00", Puback(1)),
        ("40 04 0001 00 00", Puback(1)),
        ("e0 01 00", Disconnect()),
        ("e0 02 00 00", Disconnect()),
        ("f0 02 00 00", Auth()),
    ],
)
def test_what_may_be_left_out_may_also_be_said(wire: str, packet: Packet) -> None:
    assert decode(wire) == [packet]


WRONG = {
    "property of another packet": ("30 08 0001 61 03 21 0001 78", 0x81),
    "unknown property": ("30 07 0001 61 02 7f 00 78", 0x81),
    "property twice": ("30 09 0001 61 04 01 00 01 00 78", 0x82),
    "boolean 2": ("30 07 0001 61 02 01 02 78", 0x82),
    "topic alias 0": ("30 08 0001 61 03 23 0000 78", 0x94),
    "subscription id 0": ("30 07 0001 61 02 0b 00 78", 0x82),
    "two subscription ids to make": ("82 0b 0005 04 0b 07 0b 08 0001 61 00", 0x82),
    "no topic and no alias": ("30 04 0000 00 78", 0x82),
    "no properties": ("30 03 0001 61", 0x81),
    "properties cut off": ("30 06 0001 61 03 01 00", 0x81),
    "a property cut off": ("30 06 0001 61 02 02 00", 0x81),
    "a text beyond the properties": ("30 0a 0001 61 04 03 0005 78 7878", 0x81),
    "a pair of one": ("30 08 0001 61 04 26 0001 6b", 0x81),
    "properties with a needless length byte": ("30 06 0001 61 8000 78", 0x81),
    "an id with a needless byte": ("30 08 0001 61 03 0b 8100 78", 0x81),
    "an id of five bytes": ("30 0b 0001 61 06 0b 8080808001 78", 0x81),
    "a packet with a needless length byte": ("30 84 00 0001 61 00", 0x81),
    "text with a NUL": ("30 09 0001 61 04 03 0001 00 78", 0x81),
    "text that is a surrogate": ("30 0b 0001 61 06 03 0003 eda080 78", 0x81),
    "receive maximum 0": ("10 11 0004 4d515454 05 02 003c 03 21 0000 0001 61", 0x82),
    "packet size 0": ("10 13 0004 4d515454 05 02 003c 05 27 00000000 0001 61", 0x82),
    "auth data without a method": ("10 12 0004 4d515454 05 02 003c 04 16 0001 61 0001 61", 0x82),
    "will delay outside of a will": ("10 13 0004 4d515454 05 02 003c 05 18 00000001 0001 61", 0x81),
    "CONNECT without properties": ("10 0d 0004 4d515454 05 02 003c 0001 61", 0x81),
    "bytes after CONNECT": ("10 0f 0004 4d515454 05 02 003c 00 0001 61 00", 0x81),
    "retain handling 3": ("82 07 0005 00 0001 61 30", 0x82),
    "reserved options": ("82 07 0005 00 0001 61 40", 0x81),
    "QoS 3 wanted": ("82 07 0005 00 0001 61 03", 0x81),
    "a filter without options": ("82 06 0005 00 0001 61", 0x81),
    "no filter": ("82 03 0005 00", 0x82),
    "nothing to unsubscribe": ("a2 03 0005 00", 0x82),
    "SUBACK without codes": ("90 03 0005 00", 0x82),
    "UNSUBACK without codes": ("b0 03 0005 00", 0x82),
    "a code of another packet": ("40 03 0001 92", 0x81),
    "a code there is not": ("e0 01 7f", 0x81),
    "a session and a refusal": ("20 03 01 87 00", 0x82),
    "reserved flags of CONNACK": ("20 03 02 00 00", 0x81),
    "CONNACK of 3.1.1": ("20 02 00 00", 0x81),
    "bytes after DISCONNECT": ("e0 03 00 00 00", 0x81),
    "bytes after PUBACK": ("40 05 0001 00 00 00", 0x81),
    "AUTH with a code alone": ("f0 01 18", 0x81),
    "reserved flags of AUTH": ("f1 00", 0x81),
    "PINGREQ with a body": ("c0 01 00", 0x81),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_standard_forbids_is_refused_with_its_code(name: str) -> None:
    wire, code = WRONG[name]
    (fault,) = decode(wire)
    assert isinstance(fault, Malformed)
    assert fault.code == code
    assert fault.reason is (Reason.MALFORMED if code == 0x81 else Reason.PROTOCOL)


def test_a_packet_above_the_limit_has_a_code_of_its_own() -> None:
    (fault,) = Decoder(100).feed(encode(Publish("t", bytes(100))))
    assert isinstance(fault, Malformed)
    assert (fault.reason, fault.code) == (Reason.TOO_LARGE, Code.TOO_LARGE)


# Table 2-4 of MQTT 5, once more: packets by their numbers, 0 for a will.
STANDARD = {
    0x01: {3, 0},
    0x02: {3, 0},
    0x03: {3, 0},
    0x08: {3, 0},
    0x09: {3, 0},
    0x0B: {3, 8},
    0x11: {1, 2, 14},
    0x12: {2},
    0x13: {2},
    0x15: {1, 2, 15},
    0x16: {1, 2, 15},
    0x17: {1},
    0x18: {0},
    0x19: {1},
    0x1A: {2},
    0x1C: {2, 14},
    0x1F: {2, 4, 5, 6, 7, 9, 11, 14, 15},
    0x21: {1, 2},
    0x22: {1, 2},
    0x23: {3},
    0x24: {2},
    0x25: {2},
    0x26: {1, 2, 3, 0, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15},
    0x27: {1, 2},
    0x28: {2},
    0x29: {2},
    0x2A: {2},
}
NUMBERS = {
    Place.WILL: 0,
    Place.CONNECT: 1,
    Place.CONNACK: 2,
    Place.PUBLISH: 3,
    Place.PUBACK: 4,
    Place.PUBREC: 5,
    Place.PUBREL: 6,
    Place.PUBCOMP: 7,
    Place.SUBSCRIBE: 8,
    Place.SUBACK: 9,
    Place.UNSUBSCRIBE: 10,
    Place.UNSUBACK: 11,
    Place.DISCONNECT: 14,
    Place.AUTH: 15,
}


def test_the_table_of_properties_is_that_of_the_standard() -> None:
    assert {row.number: {NUMBERS[place] for place in row.places} for row in TABLE} == STANDARD


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_property_stands_where_the_table_says_and_nowhere_else(row) -> None:
    value: object = {"O": 1, "B": b"b", "T": "t"}["O" if row.most else "T"]
    if row.name in ("correlation_data", "auth_data"):
        value = b"b"
    elif row.name == "user":
        value = (("k", "v"),)
    elif row.name == "subscription_ids":
        value = (5,)
    properties = Properties(**{row.name: value})
    if row.name == "auth_data":
        properties = replace(properties, auth_method="m")
    for place, packet in _packets(properties).items():
        if place in row.places:
            assert decode(encode(packet, LEVEL_5)) == [packet]
        else:
            with pytest.raises(ValueError, match="may not stand in"):
                encode(packet, LEVEL_5)


def _packets(properties: Properties) -> dict[Place, Packet]:
    will = Publish("w", properties=properties)
    return {
        Place.CONNECT: Connect("a", level=5, properties=properties),
        Place.WILL: Connect("a", will=will, level=5),
        Place.CONNACK: Connack(properties=properties),
        Place.PUBLISH: Publish("t", properties=properties),
        Place.PUBREC: Pubrec(1, Code.SUCCESS, properties),
        Place.SUBSCRIBE: Subscribe(1, (Wanted("a"),), properties),
        Place.SUBACK: Suback(1, (Code.SUCCESS,), properties),
        Place.UNSUBSCRIBE: Unsubscribe(1, ("a",), properties),
        Place.UNSUBACK: Unsuback(1, (Code.SUCCESS,), properties),
        Place.DISCONNECT: Disconnect(Code.SUCCESS, properties),
        Place.AUTH: Auth(Code.SUCCESS, properties),
    }


@pytest.mark.parametrize(
    "properties",
    [
        Properties(payload_format=2),
        Properties(topic_alias=0),
        Properties(topic_alias=65_536),
        Properties(message_expiry_s=1 << 32),
        Properties(subscription_ids=(VARINT_MAX + 1,)),
    ],
)
def test_a_value_out_of_its_range_is_our_own_mistake(properties: Properties) -> None:
    with pytest.raises(ValueError, match="expected"):
        encode(Publish("t", properties=properties), LEVEL_5)


@given(st.integers(0, VARINT_MAX))
def test_a_number_takes_the_fewest_bytes(value: int) -> None:
    wire = write_varint(value)
    assert read_varint(wire, 0, len(wire)) == (value, len(wire))
    assert len(wire) == 1 + (value > 0x7F) + (value > 0x3FFF) + (value > 0x1F_FFFF)


# -- two levels -----------------------------------------------------------------------------------


def test_the_first_connect_sets_the_level_of_its_connection() -> None:
    decoder = Decoder(PACKET_BYTES_MAX)
    assert decoder.level == LEVEL_3
    newer = Connect("a", level=5)
    publish = Publish("t", properties=Properties(message_expiry_s=1))
    assert decoder.feed(encode(newer) + encode(publish, LEVEL_5)) == [newer, publish]
    assert decoder.level == LEVEL_5
    # A second one is a mistake to be answered at the level there is.
    older = Connect("a")
    assert decoder.feed(encode(older) + encode(publish, LEVEL_5)) == [older, publish]
    assert decoder.level == LEVEL_5


def test_a_connect_of_no_level_that_we_have_is_answered_as_at_3_1_1() -> None:
    decoder = Decoder(PACKET_BYTES_MAX)
    assert decoder.feed(bytes.fromhex("10 0d 0004 4d515454 07 02 003c 0001 61")) == [
        Connect(level=7)
    ]
    assert encode(Connack(Code.UNSUPPORTED_VERSION), decoder.level) == bytes.fromhex("20020001")


@given(some_properties(Place.PUBLISH), st.integers(0, 2))
def test_3_1_1_gets_a_message_without_its_properties(said: Properties | None, qos: int) -> None:
    packet = Publish("t", b"x", qos, False, False, 5 if qos else 0, said)
    assert encode(packet, LEVEL_3) == encode(replace(packet, properties=None), LEVEL_3)
    assert decode(encode(packet, LEVEL_5)) == [packet]  # what is remembered is of one level


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (Code.SUCCESS, 0),
        (Code.UNSUPPORTED_VERSION, 1),
        (Code.CLIENT_ID_INVALID, 2),
        (Code.UNAVAILABLE, 3),
        (Code.BUSY, 3),
        (Code.QUOTA, 3),
        (Code.BAD_LOGIN, 4),
        (Code.BAD_AUTH_METHOD, 4),
        (Code.NOT_AUTHORIZED, 5),
        (Code.BANNED, 5),
    ],
)
def test_a_refusal_has_one_of_five_reasons_at_3_1_1(code: Code, number: int) -> None:
    assert encode(Connack(code)) == bytes((0x20, 2, 0, number))


def test_acknowledgements_at_3_1_1_say_no_more_than_it_has_room_for() -> None:
    said = Properties(reason="because")
    assert encode(Puback(1, Code.QUOTA, said)) == encode(Puback(1))
    assert encode(Suback(1, (Code.GRANTED_1, Code.NO_SHARED), said)) == bytes.fromhex(
        "90 04 0001 01 80"
    )
    assert encode(Unsuback(1, (Code.NO_SUBSCRIPTION,), said)) == bytes.fromhex("b0 02 0001")
    assert encode(Subscribe(1, (Wanted("a", 1, True, True, 2),))) == bytes.fromhex(
        "82 06 0001 0001 61 01"
    )
    with pytest.raises(ValueError, match="Auth is no packet of level 4"):
        encode(Auth())
    assert decode("f0 00", LEVEL_3) == [Malformed(Reason.MALFORMED, "first byte 0xf0")]


# -- as it came -----------------------------------------------------------------------------------


def test_a_message_goes_on_as_it_came_property_by_property() -> None:
    # Another order than the encoder's: it is still passed on unchanged (3.3.2-15 to -20).
    wire = bytes.fromhex("30 13 0001 61 0e 26 0001 6b 0001 76 02 0000003c 01 01 78")
    (packet,) = decode(wire)
    assert isinstance(packet, Publish)
    assert encode(packet, LEVEL_5) == wire
    assert encode(packet, LEVEL_5) is encode(packet, LEVEL_5)
    assert encode(packet, LEVEL_3) == bytes.fromhex("30 04 0001 61 78")
    one = replace(packet, qos=1, packet_id=9)
    assert wire[6:] in encode(one, LEVEL_5)
    # The bytes are those of the properties that came, not of others made of them.
    assert packet.properties is not None
    later = replace(packet, properties=replace(packet.properties, message_expiry_s=59))
    assert decode(encode(later, LEVEL_5)) == [later]


def test_a_message_with_an_alias_is_not_remembered_as_it_came() -> None:
    (packet,) = decode("30 08 0001 61 03 23 0001 78")
    assert isinstance(packet, Publish)
    assert packet._wires == (None, None)
    plain = replace(packet, properties=None)
    assert encode(plain, LEVEL_5) == bytes.fromhex("30 05 0001 61 00 78")


def test_one_message_is_encoded_once_for_each_level() -> None:
    packet = Publish("t", b"x", properties=Properties(content_type="c"))
    older, newer = encode(packet, LEVEL_3), encode(packet, LEVEL_5)
    assert older != newer
    assert encode(packet, LEVEL_3) is older
    assert encode(packet, LEVEL_5) is newer
    # With an id it is for one receiver, who may take long to acknowledge it: not held twice.
    single = replace(packet, qos=1, packet_id=3)
    encode(single, LEVEL_5)
    assert single._wires == (None, None)


# -- bounds ---------------------------------------------------------------------------------------


def _full(parts: int) -> dict[str, tuple[Packet, bytes]]:
    """Packets of so many parts each, as small as they can be, and their bytes at MQTT 5."""
    said = Properties(user=(("", ""),) * parts)
    ids = Properties(subscription_ids=(1,) * parts)
    packets: dict[str, Packet] = {
        "properties": Publish("a", properties=said),
        "subscription ids": Publish("a", properties=ids),
        "properties before anybody is known": Connect(level=LEVEL_5, properties=said),
        "properties of a will": Connect(level=LEVEL_5, will=Publish("a", properties=said)),
        "filters": Subscribe(1, (Wanted("a"),) * parts),
        "filters to end": Unsubscribe(1, ("a",) * parts),
        "codes": Suback(1, (Code.SUCCESS,) * parts),
        "codes of an end": Unsuback(1, (Code.SUCCESS,) * parts),
    }
    return {name: (packet, encode(packet, LEVEL_5)) for name, packet in packets.items()}


@pytest.mark.parametrize("name", _full(1))
def test_a_packet_has_so_few_parts_that_reading_it_holds_nobody_up(name: str) -> None:
    packet, wire = _full(PARTS_MAX)[name]
    assert decode(wire) == [packet]
    (fault,) = decode(_full(PARTS_MAX + 1)[name][1])
    assert isinstance(fault, Malformed)
    assert (fault.reason, fault.code) == (Reason.TOO_LARGE, Code.TOO_LARGE)


@pytest.mark.parametrize("claimed", [100, 99_000])
def test_what_is_announced_and_does_not_come_takes_no_memory(claimed: int) -> None:
    decoder = Decoder(PACKET_BYTES_MAX)
    assert decoder.feed(b"\x30" + write_varint(claimed)) == []
    assert len(decoder._rest) <= 4
    for _ in range(50):
        assert decoder.feed(b"\0") == []
    assert len(decoder._rest) <= 54


def test_nothing_is_held_after_a_malformed_packet() -> None:
    decoder = Decoder(PACKET_BYTES_MAX)
    assert len(decoder.feed(b"\xff" + bytes(10_000))) == 1
    assert decoder.feed(encode(Pingreq()) * 1_000) == []
    assert not decoder.more
    assert len(decoder._rest) == 0
