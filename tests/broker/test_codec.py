"""Packets to bytes and back; whatever else arrives is a `Malformed`, never an exception."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.broker.codec import (
    LEVEL,
    SUBSCRIBE_FAILED,
    Connack,
    Connect,
    Decoder,
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
    encode,
)
from demesh.broker.limits import Reason

PACKET_BYTES_MAX = 100_000


def decode(data: bytes) -> list[Packet | Malformed]:
    return Decoder(PACKET_BYTES_MAX).feed(data)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
packet_ids = st.integers(1, 65_535)
qos = st.integers(0, 2)
wills = st.builds(Publish, texts, st.binary(max_size=200), qos, st.booleans())


@st.composite
def publishes(draw: st.DrawFn) -> Publish:
    level = draw(qos)
    return Publish(
        draw(texts),
        draw(st.binary(max_size=300)),
        level,
        draw(st.booleans()),
        draw(st.booleans()) if level else False,
        draw(packet_ids) if level else 0,
    )


@st.composite
def connects(draw: st.DrawFn) -> Connect:
    username = draw(st.none() | texts)
    return Connect(
        draw(texts),
        draw(st.booleans()),
        draw(st.integers(0, 65_535)),
        draw(st.none() | wills),
        username,
        None if username is None else draw(st.none() | st.binary(max_size=50)),
    )


filters = st.lists(st.tuples(texts, qos), min_size=1, max_size=5).map(tuple)
codes = st.lists(st.sampled_from([0, 1, 2, SUBSCRIBE_FAILED]), min_size=1, max_size=5).map(tuple)
packets = st.one_of(
    publishes(),
    connects(),
    st.builds(Connack, st.integers(0, 5), st.booleans()),
    *(st.builds(kind, packet_ids) for kind in (Puback, Pubrec, Pubrel, Pubcomp, Unsuback)),
    st.builds(Subscribe, packet_ids, filters),
    st.builds(Suback, packet_ids, codes),
    st.builds(Unsubscribe, packet_ids, st.lists(texts, min_size=1, max_size=5).map(tuple)),
    st.sampled_from([Pingreq(), Pingresp(), Disconnect()]),
)


@given(st.lists(packets, max_size=6), st.data())
def test_every_packet_comes_back_however_the_bytes_are_cut(
    sent: list[Packet], data: st.DataObject
) -> None:
    wire = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    decoder = Decoder(PACKET_BYTES_MAX)
    came: list[Packet | Malformed] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        came += decoder.feed(wire[start:end])
    assert came == sent
    assert [encode(packet) for packet in came if not isinstance(packet, Malformed)] == [
        encode(packet) for packet in sent
    ]


@given(packets)
def test_a_packet_cut_off_at_any_byte_is_waited_for(packet: Packet) -> None:
    wire = encode(packet)
    for cut in range(len(wire)):
        decoder = Decoder(PACKET_BYTES_MAX)
        assert decoder.feed(wire[:cut]) == []
        assert decoder.feed(wire[cut:]) == [packet]


@given(packets, st.data())
def test_a_packet_whose_length_says_less_is_never_an_exception(
    packet: Packet, data: st.DataObject
) -> None:
    wire = encode(packet)
    if len(wire) > 129:  # the length has two bytes
        return
    size = data.draw(st.integers(0, wire[1]))
    decode(bytes((wire[0], size)) + wire[2 : 2 + size])


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_garbage_is_never_an_exception_and_nothing_follows_a_malformed(pieces: list[bytes]) -> None:
    decoder = Decoder(PACKET_BYTES_MAX)
    came = [packet for piece in pieces for packet in decoder.feed(piece)]
    faults = [index for index, packet in enumerate(came) if isinstance(packet, Malformed)]
    assert faults in ([], [len(came) - 1])


@given(packets, st.data())
def test_one_changed_byte_is_never_an_exception(packet: Packet, data: st.DataObject) -> None:
    wire = bytearray(encode(packet))
    index = data.draw(st.integers(0, len(wire) - 1))
    wire[index] ^= data.draw(st.integers(1, 255))
    decode(bytes(wire))


@pytest.mark.parametrize(
    ("packet", "wire"),
    [
        (Connect("a", True, 60), "10 0d 0004 4d515454 04 02 003c 0001 61"),
        (
            Connect("a", False, 1, Publish("w", b"x", 2, True), "u", b"p"),
            "10 19 0004 4d515454 04 f4 0001 0001 61 0001 77 0001 78 0001 75 0001 70",
        ),
        (Connack(0, True), "20 02 01 00"),
        (Publish("a/b", b"hi"), "30 07 0003 612f62 6869"),
        (Publish("a", b"", 1, True, True, 0x1234), "3b 05 0001 61 1234"),
        (Puback(1), "40 02 0001"),
        (Pubrec(2), "50 02 0002"),
        (Pubrel(3), "62 02 0003"),
        (Pubcomp(65_535), "70 02 ffff"),
        (Subscribe(5, (("a", 1), ("#", 2))), "82 0a 0005 0001 61 01 0001 23 02"),
        (Suback(5, (1, 128)), "90 04 0005 01 80"),
        (Unsubscribe(6, ("a", "b")), "a2 08 0006 0001 61 0001 62"),
        (Unsuback(6), "b0 02 0006"),
        (Pingreq(), "c0 00"),
        (Pingresp(), "d0 00"),
        (Disconnect(), "e0 00"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_the_bytes_are_those_of_the_standard(packet: Packet, wire: str) -> None:
    assert encode(packet) == bytes.fromhex(wire)
    assert decode(bytes.fromhex(wire)) == [packet]


@pytest.mark.parametrize("size", [127, 128, 16_383, 16_384, 99_000])
def test_the_length_takes_as_many_bytes_as_it_needs(size: int) -> None:
    packet = Publish("t", bytes(size - 3))
    wire = encode(packet)
    assert len(wire) - size == (2 if size < 128 else 3 if size < 16_384 else 4)
    assert decode(wire) == [packet]


def test_a_length_with_needless_bytes_is_read_but_not_passed_on() -> None:
    (packet,) = decode(bytes.fromhex("30 84 80 00 0001 61 78"))
    assert packet == Publish("a", b"x")
    assert encode(packet) == bytes.fromhex("30 04 0001 61 78")


def test_a_packet_above_the_limit_is_refused_by_its_head_alone() -> None:
    exact = encode(Publish("t", bytes(60)))
    assert Decoder(len(exact)).feed(exact) == [Publish("t", bytes(60))]
    decoder = Decoder(len(exact) - 1)
    (fault,) = decoder.feed(exact[:2])
    assert isinstance(fault, Malformed)
    assert fault.reason is Reason.TOO_LARGE
    assert decoder.feed(encode(Pingreq())) == []


def test_packets_before_a_malformed_one_are_still_given() -> None:
    came = decode(encode(Pingreq()) + b"\xff\x00" + encode(Pingreq()))
    assert came == [Pingreq(), Malformed(Reason.MALFORMED, "first byte 0xff")]


def test_another_protocol_level_is_read_no_further() -> None:
    five = bytes.fromhex("10 11 0004 4d515454 05 02 003c 03 21 0014 0001 61")
    assert decode(five) == [Connect(level=5)]
    (older,) = decode(bytes.fromhex("10 0f 0006 4d5149736470 03 02 003c 0001 61"))
    assert isinstance(older, Connect)
    assert older.level != LEVEL


def test_no_client_can_choose_an_id_with_a_nul() -> None:
    (fault,) = decode(encode(Connect("\0001")))
    assert fault == Malformed(Reason.MALFORMED, "text with a NUL character")


def test_a_message_is_encoded_once_for_all_its_receivers() -> None:
    packet = Publish("t", b"x")
    assert encode(packet) is encode(packet)
    (forwarded,) = decode(encode(packet))
    assert encode(forwarded) is encode(forwarded)


def test_a_field_too_long_for_its_length_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="16 bits"):
        encode(Publish("t" * 65_536))


def test_dribbled_bytes_cost_time_in_proportion_to_their_number() -> None:
    """A packet fed byte by byte is looked at when it is complete, not at every byte."""
    wire = encode(Publish("t", bytes(90_000)))
    decoder = Decoder(PACKET_BYTES_MAX)
    looked = 0
    for octet in wire:
        before = decoder._need
        if decoder.feed(bytes((octet,))):
            break
        looked += decoder._need != before
    assert looked < 8
