"""What is taken out of a broker's bytes before the MQTT client sees them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.broker.codec import (
    Code,
    Connack,
    Disconnect,
    Pingresp,
    Properties,
    Puback,
    Publish,
    Suback,
    encode,
)
from demesh.ports import Received
from demesh.transport.packets import Level
from demesh.transport.sieve import ANSWER_BYTES_MAX, PACKET_BYTES_MAX, Sieve


def packet(topic: str, payload: bytes, qos: int = 1, packet_id: int = 7) -> bytes:
    return encode(Publish(topic, payload, qos, packet_id=packet_id if qos else 0))


class Desk:
    """A sieve and what it delivered."""

    def __init__(self, least_qos: int = 1, broker: int = 0, level: Level = Level.V3) -> None:
        self.delivered: list[Received] = []
        self.acknowledged: list[tuple[int, int]] = []
        self.sieve = Sieve(
            self.delivered.append,
            lambda packet_id, reason: self.acknowledged.append((packet_id, reason)),
            least_qos,
            broker,
            level,
        )

    def feed(self, data: bytes, step: int = 10**7) -> tuple[bytes, bytes]:
        """All of it, `step` bytes at a time."""
        parts = [self.sieve.feed(data[at : at + step]) for at in range(0, len(data), step)]
        return b"".join(left for left, _ in parts), b"".join(answers for _, answers in parts)


GOOD, PONG = packet("good", b"vote"), encode(Pingresp())
WELCOME, GRANTED = encode(Connack()), encode(Suback(1, (Code.GRANTED_1,)))


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_publications_are_delivered_and_answered_and_all_else_is_left_as_it_came(step: int) -> None:
    desk = Desk()
    data = WELCOME + GOOD + GRANTED + packet("also/good", b"op", packet_id=0x1234)
    assert desk.feed(data, step) == (WELCOME + GRANTED, encode(Puback(7)) + encode(Puback(0x1234)))
    assert desk.delivered == [Received("good", b"vote"), Received("also/good", b"op")]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_what_comes_at_qos_0_is_dropped_unread(step: int) -> None:
    desk, junk = Desk(), packet("good", bytes(300), qos=0)
    data = junk + GRANTED + junk + GOOD + junk
    assert desk.feed(data, step) == (GRANTED, encode(Puback(7)))
    assert desk.sieve.unread == 3 and desk.delivered == [Received("good", b"vote")]


def test_who_wants_what_comes_at_qos_0_gets_it_unanswered() -> None:
    desk = Desk(least_qos=0)
    assert desk.feed(packet("view", b"{}", qos=0)) == (b"", b"")
    assert desk.delivered == [Received("view", b"{}")]


def test_topic_payload_retained_and_broker_are_told() -> None:
    desk = Desk(broker=3)
    desk.feed(encode(Publish("a/b", b"frame", 1, retain=True, packet_id=1)))
    assert desk.delivered == [Received("a/b", b"frame", True, 3)]


@pytest.mark.parametrize("step", [100, 4096, 10**7])
def test_a_message_longer_than_any_frame_is_never_held_in_memory(step: int) -> None:
    desk = Desk()
    long = packet("good", bytes(3 * PACKET_BYTES_MAX), packet_id=9)
    answers = b""
    for at in range(0, len(long), step):
        answers += desk.sieve.feed(long[at : at + step])[1]
        assert len(desk.sieve._rest) < 200
    assert answers == encode(Puback(9)) and desk.sieve.unread == 1 and not desk.delivered
    desk.feed(GOOD)
    assert desk.delivered


@pytest.mark.parametrize("step", [1_000, 10**6])
def test_another_packet_that_is_too_long_ends_the_connection_however_it_arrives(step: int) -> None:
    long = b"\x90\xff\xff\x08" + bytes(0x8_0000)
    with pytest.raises(ConnectionError, match="a packet of"):
        Desk().feed(long, step)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x20\xff\xff\xff\x7f", "a packet of"),
        (b"\x30\xff\xff\xff\xff\x01", "without a length"),
        (b"\x32\x04\xff\xff\x00\x01", "a topic beyond its packet"),
        (b"\x34\x05\x00\x01t\x00\x01", "a QoS nobody asked for"),
        (b"\x36\x05\x00\x01t\x00\x01", "a QoS nobody asked for"),
    ],
    ids=["too long", "no length", "topic", "QoS 2", "QoS 3"],
)
def test_a_broker_that_does_not_speak_mqtt_is_left(data: bytes, says: str) -> None:
    with pytest.raises(ConnectionError, match=says):
        Desk().feed(data)


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_answers_to_what_we_said_often_end_here(step: int) -> None:
    desk = Desk()
    data = PONG + encode(Puback(0x1234)) + GRANTED + encode(Puback(5)) + PONG
    assert desk.feed(data, step) == (GRANTED, b"")
    assert desk.acknowledged == [(0x1234, 0), (5, 0)]


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_mqtt_5_says_why_it_does_not_take_a_publication(step: int) -> None:
    desk = Desk(level=Level.V5)
    why = Properties(reason="no, and no")
    acks = (Puback(1), Puback(2, Code.NO_SUBSCRIBERS), Puback(3, Code.NOT_AUTHORIZED, why))
    data = b"".join(encode(ack, Level.V5) for ack in acks)
    assert desk.feed(data, step) == (b"", b"")
    assert desk.acknowledged == [(1, 0), (2, 0x10), (3, 0x87)]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_properties_of_mqtt_5_are_skipped_however_many(step: int) -> None:
    desk = Desk(level=Level.V5)
    many = Properties(message_expiry_s=9, user=tuple(("key", "x" * 50) for _ in range(9)))
    sent = [
        Publish("a", b"none", 1, packet_id=1),
        Publish("b", b"one", 1, packet_id=2, properties=Properties(message_expiry_s=7)),
        Publish("c", b"many", 1, packet_id=3, properties=many),
    ]
    data = b"".join(encode(one, Level.V5) for one in sent)
    left, answers = desk.feed(data, step)
    assert (left, answers) == (b"", b"".join(encode(Puback(n)) for n in (1, 2, 3)))
    assert desk.delivered == [Received(one.topic, one.payload) for one in sent]


@pytest.mark.parametrize("rest", [b"\x05\x00", b"\x80\x01", b"\xff\xff\xff\x7f"])
def test_properties_longer_than_their_packet_are_no_mqtt(rest: bytes) -> None:
    body = b"\x00\x01t\x00\x07" + rest
    with pytest.raises(ConnectionError, match="properties beyond"):
        Desk(level=Level.V5).feed(bytes((0x32, len(body))) + body)


def test_only_a_broker_of_mqtt_5_says_goodbye() -> None:
    goodbye = encode(Disconnect(Code.TAKEN_OVER), Level.V5)
    assert Desk(level=Level.V5).feed(goodbye) == (goodbye, b"")
    with pytest.raises(ConnectionError, match="type 14"):
        Desk().feed(goodbye)


def test_an_acknowledgement_of_nothing_ends_the_connection() -> None:
    with pytest.raises(ConnectionError, match="acknowledgement of nothing"):
        Desk().feed(b"\x40\x01\x07")


@pytest.mark.parametrize("kind", [0, 1, 5, 6, 7, 8, 10, 11, 12, 14, 15])
def test_what_no_broker_has_to_say_ends_the_connection(kind: int) -> None:
    with pytest.raises(ConnectionError, match=f"type {kind}$"):
        Desk().feed(bytes((kind << 4, 0)))


@pytest.mark.parametrize("kind", [WELCOME, encode(Puback(1)), PONG])
def test_answers_that_nobody_asked_for_do_not_keep_the_loop_busy(kind: bytes) -> None:
    with pytest.raises(ConnectionError, match="nobody asked"):
        Desk().feed(kind * 1000)


@pytest.mark.parametrize("kind", [WELCOME, GRANTED, encode(Disconnect(), Level.V5)])
def test_each_answer_of_the_handshake_is_read_once_however_seldom_it_comes(kind: bytes) -> None:
    desk = Desk(level=Level.V5)
    assert desk.feed(kind) == (kind, b"")
    with pytest.raises(ConnectionError, match="nobody asked"):
        desk.feed(PONG + kind)


@pytest.mark.parametrize("kind", [0x20, 0x90, 0xE0])
def test_an_answer_that_the_client_would_read_for_seconds_is_not_read_at_all(kind: int) -> None:
    def answer(size: int) -> bytes:
        body = size - 3
        return bytes((kind, body & 0x7F | 0x80, body >> 7)) + bytes(body)

    assert Desk(level=Level.V5).feed(answer(ANSWER_BYTES_MAX))[0]
    with pytest.raises(ConnectionError, match="a packet of"):
        Desk(level=Level.V5).feed(answer(ANSWER_BYTES_MAX + 1)[:3])


packets = st.lists(
    st.one_of(
        st.just(GRANTED),
        st.builds(
            packet, st.sampled_from(["a", "b" * 40, "é"]), st.binary(max_size=300),
            st.sampled_from([0, 1]), st.integers(1, 65535),
        ),
    ),
    max_size=8,
).filter(lambda made: made.count(GRANTED) < 2)  # fmt: skip


@given(packets, st.integers(1, 50))
def test_it_does_not_matter_how_the_bytes_are_cut(given_packets: list[bytes], step: int) -> None:
    data = b"".join(given_packets)
    whole, cut = Desk(), Desk()
    assert cut.feed(data, step) == whole.feed(data)
    assert (cut.delivered, cut.sieve.unread) == (whole.delivered, whole.sieve.unread)
    kept = [p for p in given_packets if p[0] >> 4 == 3 and p[0] & 6]
    assert len(whole.delivered) == len(kept)
    left = [p for p in given_packets if p[0] >> 4 != 3]
    assert Desk().feed(data) == (b"".join(left), b"".join(encode(Puback(_id(p))) for p in kept))


def _id(publish: bytes) -> int:
    body = 2 if publish[1] < 0x80 else 3
    topic_end = body + 2 + int.from_bytes(publish[body : body + 2], "big")
    return int.from_bytes(publish[topic_end : topic_end + 2], "big")
