"""Packets to bytes and back; whatever else arrives is a `Malformed`, never an exception."""

from __future__ import annotations

import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.packets import leveled, levels, of_level
from demesh.broker.codec import (
    LEVEL_3,
    LEVEL_5,
    Code,
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
    Wanted,
    encode,
)
from demesh.broker.limits import Reason

PACKET_BYTES_MAX = 100_000


def decode(data: bytes, level: int = LEVEL_3) -> list[Packet | Malformed]:
    return Decoder(PACKET_BYTES_MAX, level).feed(data)


@given(levels, st.data())
def test_every_packet_comes_back_however_the_bytes_are_cut(level: int, data: st.DataObject) -> None:
    sent = data.draw(st.lists(of_level(level), max_size=6))
    wire = b"".join(encode(packet, level) for packet in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    decoder = Decoder(PACKET_BYTES_MAX, level)
    came: list[Packet | Malformed] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        came += decoder.feed(wire[start:end])
    assert came == sent
    again = [encode(packet, level) for packet in came if not isinstance(packet, Malformed)]
    assert b"".join(again) == wire


@given(leveled())
def test_a_packet_cut_off_at_any_byte_is_waited_for(one: tuple[int, Packet]) -> None:
    level, packet = one
    wire = encode(packet, level)
    for cut in range(len(wire)):
        decoder = Decoder(PACKET_BYTES_MAX, level)
        assert decoder.feed(wire[:cut]) == []
        assert decoder.feed(wire[cut:]) == [packet]


@given(leveled())
def test_a_packet_that_ends_anywhere_inside_is_another_or_none_but_never_an_exception(
    one: tuple[int, Packet],
) -> None:
    """The length says less than there should be: nothing is read beyond it."""
    level, packet = one
    wire = encode(packet, level)
    if len(wire) > 129:  # the length has two bytes
        return
    for size in range(wire[1]):
        for came in decode(bytes((wire[0], size)) + wire[2 : 2 + size], level):
            if not isinstance(came, Malformed):
                assert len(encode(came, _level_of(came, level))) <= 2 + size


@given(leveled())
def test_one_byte_more_is_refused_unless_it_is_payload(one: tuple[int, Packet]) -> None:
    level, packet = one
    wire = encode(packet, level)
    if len(wire) > 127 or wire[1] == 0:
        return
    for octet in (0x00, 0x41, 0xFF):
        (came,) = decode(bytes((wire[0], wire[1] + 1)) + wire[2:] + bytes((octet,)), level)
        if isinstance(came, Malformed):
            continue
        # A code or a length that may be left out, one more of a list, one more byte of a payload.
        assert type(came) is type(packet)
        assert not isinstance(came, Connect | Connack | Subscribe | Unsubscribe)


@given(st.lists(st.binary(max_size=60), max_size=8), levels)
def test_garbage_is_never_an_exception_and_nothing_follows_a_malformed(
    pieces: list[bytes], level: int
) -> None:
    decoder = Decoder(PACKET_BYTES_MAX, level)
    came = [packet for piece in pieces for packet in decoder.feed(piece)]
    faults = [index for index, packet in enumerate(came) if isinstance(packet, Malformed)]
    assert faults in ([], [len(came) - 1])


@given(leveled(), st.integers(1, 255))
def test_any_one_changed_byte_is_never_an_exception_and_never_grows(
    one: tuple[int, Packet], change: int
) -> None:
    level, packet = one
    wire = encode(packet, level)
    for index in range(len(wire)):
        broken = bytearray(wire)
        broken[index] ^= change
        decoder = Decoder(PACKET_BYTES_MAX, level)
        for came in decoder.feed(bytes(broken)):
            if not isinstance(came, Malformed | Connect):
                assert decode(encode(came, level), level) == [came]
        assert len(decoder._rest) <= len(wire)


def _level_of(packet: Packet, level: int) -> int:
    return packet.level if isinstance(packet, Connect) else level


@pytest.mark.parametrize(
    ("packet", "wire"),
    [
        (Connect("a", True, 60), "10 0d 0004 4d515454 04 02 003c 0001 61"),
        (
            Connect("a", False, 1, Publish("w", b"x", 2, True), "u", b"p"),
            "10 19 0004 4d515454 04 f4 0001 0001 61 0001 77 0001 78 0001 75 0001 70",
        ),
        (Connack(Code.SUCCESS, True), "20 02 01 00"),
        (Publish("a/b", b"hi"), "30 07 0003 612f62 6869"),
        (Publish("a", b"", 1, True, True, 0x1234), "3b 05 0001 61 1234"),
        (Puback(1), "40 02 0001"),
        (Pubrec(2), "50 02 0002"),
        (Pubrel(3), "62 02 0003"),
        (Pubcomp(65_535), "70 02 ffff"),
        (Subscribe(5, (Wanted("a", 1), Wanted("#", 2))), "82 0a 0005 0001 61 01 0001 23 02"),
        (Suback(5, (Code.GRANTED_1, Code.UNSPECIFIED)), "90 04 0005 01 80"),
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
    newer = bytes.fromhex("10 11 0004 4d515454 06 02 003c 03 21 0014 0001 61")
    assert decode(newer) == [Connect(level=6)]
    for level in ("03", "04", "05"):  # under the name of MQTT 3.1 each of them is something else
        (older,) = decode(bytes.fromhex(f"10 0f 0006 4d5149736470 {level} 02 003c 0001 61"))
        assert isinstance(older, Connect)
        assert older.level not in (LEVEL_3, LEVEL_5)


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
    wire = encode(Publish("t", bytes(20_000)))
    decoder = Decoder(PACKET_BYTES_MAX)
    looks = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal looks
        looks += event == "call" and frame.f_code is Decoder._wait.__code__

    sys.setprofile(profile)
    try:
        came = [packet for octet in wire for packet in decoder.feed(bytes((octet,)))]
    finally:
        sys.setprofile(None)
    assert len(came) == 1
    assert looks < 8
