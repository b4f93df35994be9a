"""What MQTT 5 adds to messages: properties, their time, flow control, short names, sizes."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from broker.desk import (
    HOUR_S,
    RICH,
    A,
    B,
    C,
    D,
    Desk,
    code_of,
    code_of_puback,
    expiring,
    messages_to,
)
from demesh.broker.backlog import weight
from demesh.broker.codec import (
    LEVEL_3,
    LEVEL_5,
    Code,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Wanted,
    encode,
)
from demesh.broker.limits import Reason
from demesh.broker.machine import Close, Transmit
from demesh.ports import MILLISECOND, SECOND

# -- properties and their passing on -------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_properties_are_passed_on_unchanged_and_in_order(qos: int) -> None:
    desk = Desk()
    for conn in (A, B):
        desk.join(conn, str(conn))
        desk.subscribe(conn, "t")
    message = Publish("t", b"x", qos, packet_id=9 if qos else 0, properties=RICH)
    effects = desk.say(A, message)
    for conn in (A, B):
        (got,) = messages_to(conn, effects)
        assert got.properties is RICH, "the same object, so it is encoded once"


def test_a_client_of_3_1_1_gets_the_message_without_them() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.join(B, "b", level=LEVEL_3)
    desk.subscribe(B, "t")
    (got,) = messages_to(B, desk.say(A, Publish("t", b"x", properties=RICH)))
    assert encode(got, LEVEL_3) == encode(Publish("t", b"x"), LEVEL_3)


def test_retained_messages_keep_their_properties() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.say(A, Publish("t", b"x", 1, True, packet_id=1, properties=RICH))
    assert desk.subscribe(A, "t") == [Publish("t", b"x", 1, True, False, 1, RICH)]


@pytest.mark.parametrize(
    "properties", [Properties(subscription_ids=(1,)), Properties(response_topic="a/#")]
)
def test_what_only_a_broker_may_say_or_nobody_ends_the_connection(properties: Properties) -> None:
    desk = Desk()
    desk.join(A, "a")
    assert code_of(A, desk.say(A, Publish("t", properties=properties))) == Code.PROTOCOL_ERROR


# -- message expiry ------------------------------------------------------------------------------


def test_a_message_sent_at_once_has_all_its_time() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.subscribe(A, "t")
    (got,) = messages_to(A, desk.say(A, Publish("t", properties=expiring(1))))
    assert got.properties == expiring(1)


def test_a_queued_message_has_what_is_left_of_its_time() -> None:
    desk = Desk()
    desk.join(A, "a", session_s=HOUR_S)
    desk.subscribe(A, "t")
    desk.lose(A)
    desk.join(B, "b")
    desk.say(B, Publish("t", b"1", 1, packet_id=1, properties=replace(RICH, message_expiry_s=10)))
    desk.say(B, Publish("t", b"2", 1, packet_id=1, properties=expiring(2)))
    desk.say(B, Publish("t", b"3", 1, packet_id=1))
    desk.wait(2500 * MILLISECOND)
    got = messages_to(C, desk.join(C, "a", session_s=HOUR_S))
    assert [m.payload for m in got] == [b"1", b"3"]
    assert got[0].properties == replace(RICH, message_expiry_s=8), "3.3.2-6; 7.5 s are left"
    assert desk.counters.dropped_expired == 1


def test_a_repeated_message_is_repeated_even_if_its_time_is_over() -> None:
    """Its delivery began in time (3.3.2-5), and its client may already have it."""
    desk = Desk()
    desk.join(A, "a", session_s=HOUR_S)
    desk.subscribe(A, "t")
    desk.say(A, Publish("t", b"1", 2, packet_id=1, properties=expiring(5)))
    desk.lose(A)
    desk.wait(3 * SECOND)
    (got,) = messages_to(B, desk.join(B, "a", session_s=HOUR_S))
    assert got.properties == expiring(2)
    desk.lose(B)
    desk.wait(3 * SECOND)
    (got,) = messages_to(C, desk.join(C, "a", session_s=HOUR_S))
    assert got.properties == expiring(0)


def test_all_queues_together_are_bounded_and_the_room_comes_back() -> None:
    desk = Desk(queued_bytes_total_max=3 * (10 + 256))
    for conn, name in ((A, "a"), (B, "b")):
        desk.join(conn, name, session_s=10)
        desk.subscribe(conn, name)
        desk.lose(conn)
    desk.join(C, "c")

    def kept(topic: str) -> bool:
        before = desk.counters.dropped_queue_full
        desk.say(C, Publish(topic, bytes(9), 1, packet_id=1))
        return desk.counters.dropped_queue_full == before

    assert [kept("a"), kept("b"), kept("b"), kept("a"), kept("b")] == [True] * 3 + [False] * 2
    (got,) = messages_to(A, desk.join(A, "a", session_s=10))
    assert not kept("b"), "it is under way still"
    desk.say(A, Puback(got.packet_id))
    desk.lose(A)
    assert [kept("b"), kept("b")] == [True, False]
    desk.wait(10 * SECOND)  # both sessions end
    desk.join(D, "d", session_s=10)
    desk.subscribe(D, "d")
    desk.lose(D)
    assert [kept("d"), kept("d"), kept("d"), kept("d")] == [True] * 3 + [False]


def test_what_is_under_way_counts_as_waiting_until_it_has_arrived() -> None:
    desk = Desk(queued_bytes_total_max=3 * (10 + 256))
    desk.join(A, "a")
    desk.join(B, "b")
    desk.subscribe(B, Wanted("t", 1), Wanted("two", 2))
    messages = [Publish("t", bytes(9), 1, packet_id=n) for n in (1, 2)]
    messages += [Publish("two", bytes(7), 2, packet_id=3), Publish("t", bytes(9), 1, packet_id=4)]
    first, second, third = messages_to(B, desk.say(A, *messages))
    assert desk.counters.dropped_queue_full == 1, "the fourth"
    more = Publish("t", bytes(9), 1, packet_id=5)
    for answer in (Puback(first.packet_id), Puback(second.packet_id), Pubrec(third.packet_id)):
        desk.say(B, answer)
        assert len(messages_to(B, desk.say(A, more))) == 1, "in its place"
        assert not messages_to(B, desk.say(A, more))
    desk.lose(B)
    desk.join(C, "c")
    desk.subscribe(C, Wanted("t", 1))
    assert len(messages_to(C, desk.say(A, *[more] * 4))) == 3, "with the session its messages went"


def test_who_fills_the_stock_leaves_everybody_a_share() -> None:
    desk = Desk(queued_bytes_total_max=4 * (10 + 256), sessions_max=4)
    desk.join(A, "a")
    for conn, name in ((B, "b"), (C, "c")):
        desk.join(conn, name)
        desk.subscribe(conn, Wanted(name, 1))
    greedy, small = (Publish(name, bytes(9), 1, packet_id=1) for name in "bc")
    assert len(messages_to(B, desk.say(A, *[greedy] * 5))) == 4
    assert len(messages_to(C, desk.say(A, small, small))) == 1


def test_a_message_weighs_what_its_properties_take() -> None:
    plain, full = (
        Publish("t", b"", properties=Properties(user=(("", ""),) * n)) for n in (1, 1000)
    )
    assert weight(full) - weight(plain) > 999 * sys.getsizeof(("", ""))


def test_expired_messages_make_room_in_a_full_queue() -> None:
    desk = Desk(queued_max=2)
    desk.join(A, "a", session_s=HOUR_S)
    desk.subscribe(A, "t")
    desk.lose(A)
    desk.join(B, "b")
    for n in range(2):
        desk.say(B, Publish("t", b"%d" % n, 1, packet_id=1, properties=expiring(1)))
    desk.wait(SECOND)
    desk.say(B, Publish("t", b"2", 1, packet_id=1))
    assert [m.payload for m in messages_to(C, desk.join(C, "a", session_s=HOUR_S))] == [b"2"]
    assert desk.counters.dropped_expired == 2
    assert desk.counters.dropped_queue_full == 0


def test_a_retained_message_counts_down_and_goes() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.say(A, Publish("t", b"x", retain=True, properties=expiring(10)))
    desk.wait(4 * SECOND)
    assert desk.subscribe(A, "t") == [Publish("t", b"x", 0, True, properties=expiring(6))]
    desk.wait(6 * SECOND)
    assert desk.subscribe(A, "t") == []
    assert desk.counters.retained_expired == 1
    assert desk.broker._retained.stored_bytes == 0


def test_a_newer_retained_message_is_not_ended_by_the_time_of_the_older() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.say(A, Publish("t", b"1", retain=True, properties=expiring(1)))
    desk.say(A, Publish("t", b"2", retain=True))
    desk.wait(HOUR_S * SECOND)
    assert [m.payload for m in desk.subscribe(A, "t") if isinstance(m, Publish)] == [b"2"]


# -- acknowledgements ----------------------------------------------------------------------------


def test_a_message_that_nobody_gets_is_acknowledged_as_such_at_mqtt_5() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.join(B, "b", level=LEVEL_3)
    assert desk.say(A, Publish("t", b"", 1, packet_id=1)) == [
        Transmit(A, Puback(1, Code.NO_SUBSCRIBERS))
    ]
    assert desk.say(A, Publish("t", b"", 2, packet_id=2)) == [
        Transmit(A, Pubrec(2, Code.NO_SUBSCRIBERS))
    ]
    assert desk.say(A, Pubrel(2)) == [Transmit(A, Pubcomp(2))]
    assert desk.say(B, Publish("t", b"", 1, packet_id=1)) == [Transmit(B, Puback(1))]
    desk.subscribe(B, "t")
    assert code_of_puback(desk, A, "t") == Code.SUCCESS


def test_the_release_of_an_unknown_message_is_answered_as_such_at_mqtt_5() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.join(B, "b", level=LEVEL_3)
    assert desk.say(A, Pubrel(9), Pubrec(9)) == [
        Transmit(A, Pubcomp(9, Code.ID_NOT_FOUND)),
        Transmit(A, Pubrel(9, Code.ID_NOT_FOUND)),
    ]
    assert desk.say(B, Pubrel(9), Pubrec(9)) == [Transmit(B, Pubcomp(9)), Transmit(B, Pubrel(9))]


def test_a_receipt_with_an_error_ends_the_message_and_makes_room() -> None:
    desk = Desk(inflight_max=1)
    desk.join(A, "a", session_s=HOUR_S)
    desk.subscribe(A, "t")
    desk.say(A, Publish("t", b"1", 2, packet_id=1), Publish("t", b"2", 2, packet_id=2))
    (following,) = desk.say(A, Pubrec(1, Code.QUOTA))
    assert isinstance(following, Transmit)
    assert isinstance(following.packet, Publish)
    assert following.packet.payload == b"2"
    desk.lose(A)
    assert [m.payload for m in messages_to(B, desk.join(B, "a", session_s=HOUR_S))] == [b"2"]


# -- flow control --------------------------------------------------------------------------------


def test_no_more_is_under_way_than_the_client_takes() -> None:
    desk = Desk()
    desk.join(A, "a", session_s=HOUR_S, properties=Properties(receive_maximum=2))
    desk.subscribe(A, "t")
    desk.join(B, "b")
    for n in range(5):
        desk.say(B, Publish("t", b"%d" % n, 1 + n % 2, packet_id=n + 1))
    assert len(desk.say(A, Puback(1))) == 1
    assert desk.say(A, Pubrec(2)) == [Transmit(A, Pubrel(2))], "released is not yet complete"
    assert len(messages_to(A, desk.say(A, Pubcomp(2)))) == 1
    assert desk.say(B, Publish("t", b"0", 0)) != [], "QoS 0 needs no room"


def test_a_client_that_comes_back_with_less_room_gets_the_old_ones_bit_by_bit() -> None:
    desk = Desk()
    desk.join(A, "a", session_s=HOUR_S)
    desk.subscribe(A, "t")
    for n in range(1, 5):
        desk.say(A, Publish("t", b"%d" % n, 1, packet_id=n))
    desk.lose(A)
    narrow = Properties(receive_maximum=1)
    effects = desk.join(B, "a", session_s=HOUR_S, properties=narrow)
    got = []
    while messages := messages_to(B, effects):
        (message,) = messages
        assert message.dup
        got.append(message.payload)
        if len(got) == 2:
            desk.say(B, Publish("t", b"new", 1, packet_id=9))
        if len(got) == 4:
            break
        effects = desk.say(B, Puback(message.packet_id))
    assert got == [b"1", b"2", b"3", b"4"]
    (new,) = messages_to(B, desk.say(B, Puback(message.packet_id)))
    assert (new.payload, new.dup) == (b"new", False)


def test_an_answer_to_what_was_not_yet_repeated_is_taken() -> None:
    desk = Desk()
    desk.join(A, "a", session_s=HOUR_S)
    desk.subscribe(A, "t")
    for n in range(1, 4):
        desk.say(A, Publish("t", b"%d" % n, 1, packet_id=n))
    desk.lose(A)
    desk.join(B, "a", session_s=HOUR_S, properties=Properties(receive_maximum=1))
    assert desk.say(B, Puback(2)) == []
    assert [m.payload for m in messages_to(B, desk.say(B, Puback(1)))] == [b"3"]
    assert desk.say(B, Puback(3)) == []


def test_a_client_above_the_receive_maximum_is_closed_with_its_code() -> None:
    desk = Desk(unreleased_max=2)
    desk.join(A, "a")
    for n in (1, 2, 1):
        desk.say(A, Publish("t", b"", 2, packet_id=n))
    desk.say(A, Publish("t", b"", 1, packet_id=3))
    effects = desk.say(A, Publish("t", b"", 2, packet_id=4))
    assert code_of(A, effects) == Code.RECEIVE_MAXIMUM


# -- topic aliases -------------------------------------------------------------------------------


def test_a_client_may_give_topics_short_names_and_others_hear_the_long_ones() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.join(B, "b")
    desk.subscribe(B, "t/#")
    named = replace(RICH, topic_alias=1)
    assert messages_to(B, desk.say(A, Publish("t/1", b"1", properties=named))) == [
        Publish("t/1", b"1", properties=RICH)
    ]
    bare = Properties(topic_alias=1)
    assert messages_to(B, desk.say(A, Publish("", b"2", properties=bare))) == [Publish("t/1", b"2")]
    desk.say(A, Publish("t/2", b"3", properties=bare))
    (got,) = messages_to(B, desk.say(A, Publish("", b"4", 1, packet_id=1, properties=bare)))
    assert (got.topic, got.properties) == ("t/2", None), "an alias may be given anew"


@pytest.mark.parametrize(
    ("topic", "alias", "code"),
    [
        ("t", 4, Code.ALIAS_INVALID),
        ("t", 0, Code.ALIAS_INVALID),
        ("", 1, Code.PROTOCOL_ERROR),
        ("", None, Code.PROTOCOL_ERROR),
        ("t/#", 1, Code.TOPIC_INVALID),
    ],
)
def test_a_short_name_that_is_not_allowed_or_unknown_ends_the_connection(
    topic: str, alias: int | None, code: Code
) -> None:
    desk = Desk(aliases_max=3)
    desk.join(A, "a")
    properties = None if alias is None else Properties(topic_alias=alias)
    assert code_of(A, desk.say(A, Publish(topic, properties=properties))) == code


def test_short_names_are_of_one_connection() -> None:
    desk = Desk()
    named = Properties(topic_alias=1)
    desk.join(A, "a", session_s=HOUR_S)
    desk.say(A, Publish("t", properties=named))
    desk.lose(A)
    desk.join(B, "a", session_s=HOUR_S)
    assert code_of(B, desk.say(B, Publish("", properties=named))) == Code.PROTOCOL_ERROR


def test_a_client_that_allows_aliases_gets_the_first_topics_short() -> None:
    desk = Desk()
    desk.join(A, "a", session_s=HOUR_S, properties=Properties(topic_alias_maximum=2))
    desk.subscribe(A, "#")
    effects = desk.say(A, *[Publish(t, b"", properties=RICH) for t in ("x", "y", "z", "x", "z")])
    assert [
        (m.topic, m.properties and m.properties.topic_alias) for m in messages_to(A, effects)
    ] == [
        ("x", 1),
        ("y", 2),
        ("z", None),
        ("", 1),
        ("z", None),
    ]
    assert messages_to(A, effects)[3].properties == replace(RICH, topic_alias=1)
    desk.say(A, Publish("y", b"kept", 1, packet_id=1))
    desk.lose(A)
    again = desk.join(B, "a", session_s=HOUR_S, properties=Properties(topic_alias_maximum=2))
    (kept,) = messages_to(B, again)
    assert (kept.topic, kept.properties) == ("y", Properties(topic_alias=1)), "named anew"


# -- packet size ---------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
def test_what_a_client_does_not_take_is_dropped_and_done_with(qos: int) -> None:
    desk = Desk(inflight_max=1)
    desk.join(A, "a", session_s=HOUR_S, properties=Properties(maximum_packet_bytes=60))
    desk.subscribe(A, Wanted("t", qos))
    desk.join(B, "b")
    desk.subscribe(B, Wanted("t", 0))
    effects = desk.say(B, Publish("t", bytes(100), qos, packet_id=qos))
    assert messages_to(A, effects) == []
    assert len(messages_to(B, effects)) == 1
    assert desk.counters.dropped_too_large == 1
    effects = desk.say(B, Publish("t", bytes(20), qos, packet_id=qos))
    assert len(messages_to(A, effects)) == 1, "it took no place in the window"


def test_a_queued_message_that_became_too_large_is_done_with_as_well() -> None:
    desk = Desk()
    desk.join(A, "a", session_s=HOUR_S)
    desk.subscribe(A, "t")
    desk.say(A, Publish("t", bytes(100), 1, packet_id=1))  # under way
    desk.lose(A)
    desk.join(B, "b")
    desk.say(B, Publish("t", bytes(100), 1, packet_id=1), Publish("t", b"2", 1, packet_id=2))
    small = Properties(maximum_packet_bytes=60)
    got = messages_to(C, desk.join(C, "a", session_s=HOUR_S, properties=small))
    assert [m.payload for m in got] == [b"2"]
    assert desk.counters.dropped_too_large == 2


def test_an_alias_too_many_bytes_is_left_out() -> None:
    message = Publish("t/1", bytes(20))
    size = len(encode(message, LEVEL_5))
    desk = Desk()
    limits = Properties(maximum_packet_bytes=max(size, 50), topic_alias_maximum=5)
    desk.join(A, "a", properties=limits)
    desk.subscribe(A, "#")
    exact = Publish("t/1", bytes(20 + max(size, 50) - size))
    assert messages_to(A, desk.say(A, exact)) == [exact]


def test_an_answer_a_client_does_not_take_ends_the_connection() -> None:
    desk = Desk()
    desk.join(A, "a", properties=Properties(maximum_packet_bytes=50))
    effects = desk.say(A, Subscribe(1, tuple(Wanted(str(n)) for n in range(60))))
    assert code_of(A, effects) == Code.TOO_LARGE
    assert effects[-1] == Close(A, Reason.ANSWER_TOO_LARGE)
