"""What MQTT 5 adds, packet by packet; numbers in brackets are the statements of its text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.desk import HOUR_S, A, B, C, D, Desk, code_of, messages_to, sent_to
from demesh.broker.codec import (
    LEVEL_3,
    LEVEL_5,
    Auth,
    Code,
    Connack,
    Connect,
    Disconnect,
    Malformed,
    Packet,
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
    encode,
)
from demesh.broker.limits import Reason
from demesh.broker.machine import Close, Transmit
from demesh.ports import MILLISECOND, SECOND

RICH = Properties(
    payload_format=1,
    content_type="text/plain",
    response_topic="answers/7",
    correlation_data=b"7",
    user=(("b", "1"), ("a", "2"), ("b", "1")),
)


def expiring(seconds: int) -> Properties:
    return Properties(message_expiry_s=seconds)


# -- greeting -------------------------------------------------------------------------------------


def test_the_welcome_says_what_the_broker_allows() -> None:
    desk = Desk(unreleased_max=7, aliases_max=3, packet_bytes_max=1000)
    assert desk.join(A, "a") == [
        Transmit(
            A,
            Connack(
                Code.SUCCESS,
                False,
                Properties(
                    receive_maximum=7,
                    topic_alias_maximum=3,
                    maximum_packet_bytes=1000,
                    shared_available=0,
                ),
            ),
        )
    ]


def test_a_client_without_an_id_is_told_the_one_it_has_and_can_come_back_with_it() -> None:
    desk = Desk()
    desk.join(A, "assigned-2")
    (welcome,) = sent_to(B, desk.join(B, "", session_s=HOUR_S))
    assert isinstance(welcome, Connack)
    assert welcome.properties is not None
    client_id = welcome.properties.assigned_client_id
    assert client_id not in (None, "assigned-2"), "an id somebody chose is not given away"
    desk.lose(B)
    (again,) = sent_to(C, desk.join(C, client_id or "", session_s=HOUR_S))
    assert isinstance(again, Connack)
    assert again.session_present
    assert again.properties is not None
    assert again.properties.assigned_client_id is None


def test_a_longer_silence_than_allowed_is_cut_down_and_said_so() -> None:
    desk = Desk(keep_alive_s_max=10)
    for conn, wanted, told in ((A, 60, 10), (B, 0, 10), (C, 9, None)):
        (welcome,) = sent_to(conn, desk.join(conn, str(conn), keep_alive_s=wanted))
        assert isinstance(welcome, Connack)
        assert welcome.properties is not None
        assert welcome.properties.server_keep_alive_s == told
    desk.join(D, "d", level=LEVEL_3, keep_alive_s=60)
    closed = [e.conn for e in desk.wait(15 * SECOND) if isinstance(e, Close)]
    assert closed == [C, A, B]
    assert D not in closed, "who cannot be told keeps what it asked for"


@pytest.mark.parametrize(
    ("connect", "code", "reason"),
    [
        (Connect("a", level=6), Code.UNSUPPORTED_VERSION, Reason.VERSION),
        (Connect("a", level=3), Code.UNSUPPORTED_VERSION, Reason.VERSION),
        (Connect("", False), Code.CLIENT_ID_INVALID, Reason.CLIENT_ID),
        (Connect("x" * 257, level=LEVEL_5), Code.CLIENT_ID_INVALID, Reason.CLIENT_ID),
        (
            Connect("a", level=LEVEL_5, properties=Properties(auth_method="SCRAM")),
            Code.BAD_AUTH_METHOD,
            Reason.AUTH_METHOD,
        ),
        (
            Connect("a", level=LEVEL_5, will=Publish("gone/+")),
            Code.TOPIC_INVALID,
            Reason.TOPIC,
        ),
        (
            Connect(
                "a", level=LEVEL_5, will=Publish("t", properties=Properties(response_topic="#"))
            ),
            Code.TOPIC_INVALID,
            Reason.TOPIC,
        ),
    ],
    ids=str,
)
def test_a_refused_client_is_told_why(connect: Connect, code: Code, reason: Reason) -> None:
    desk = Desk()
    desk.open(A)
    effects = desk.say(A, connect)
    assert code_of(A, effects) == code
    assert effects[-1] == Close(A, reason)
    encode(effects[0].packet, LEVEL_5)  # type: ignore[union-attr]
    assert len(desk.broker._sessions) == 0


def test_without_room_for_another_session_a_client_is_refused() -> None:
    desk = Desk(sessions_max=1)
    desk.join(A, "a")
    assert code_of(B, desk.join(B, "b")) == Code.QUOTA
    assert desk.counters.closed == {Reason.SESSIONS_FULL: 1}
    assert sent_to(C, desk.join(C, "a")) != [], "its own place is taken over"


def test_a_client_that_takes_smaller_packets_than_the_welcome_is_closed_without_it() -> None:
    desk = Desk()
    effects = desk.join(A, "a", properties=Properties(maximum_packet_bytes=8))
    assert effects == [Close(A, Reason.ANSWER_TOO_LARGE)]


# -- farewells ------------------------------------------------------------------------------------


def test_a_closed_client_is_told_why_and_one_of_3_1_1_is_just_closed() -> None:
    cases: list[tuple[Packet | Malformed, Code]] = [
        (Connect("a", level=LEVEL_5), Code.PROTOCOL_ERROR),
        (Connack(), Code.PROTOCOL_ERROR),
        (Auth(), Code.PROTOCOL_ERROR),
        (Malformed(Reason.MALFORMED, "", Code.MALFORMED), Code.MALFORMED),
        (Malformed(Reason.TOO_LARGE, "", Code.TOO_LARGE), Code.TOO_LARGE),
        (Malformed(Reason.PROTOCOL, "", Code.ALIAS_INVALID), Code.ALIAS_INVALID),
        (Publish("a/+"), Code.TOPIC_INVALID),
        (Subscribe(1, (Wanted("a/#/b"),)), Code.FILTER_INVALID),
        (Unsubscribe(1, ("a/#/b",)), Code.FILTER_INVALID),
    ]
    for packet, code in cases:
        desk = Desk()
        desk.join(A, "a")
        effects = desk.say(A, packet)
        assert code_of(A, effects) == code
        assert len(effects) == 2
        for effect in effects[:-1]:
            assert isinstance(effect, Transmit)
            encode(effect.packet, LEVEL_5)
        desk.join(B, "b", level=LEVEL_3)
        assert [type(e) for e in desk.say(B, packet)] == [Close]


def test_a_farewell_explains_itself_only_to_who_wants_that_and_has_room() -> None:
    for properties, explained in (
        (None, True),
        (Properties(request_problem=0), False),
        (Properties(maximum_packet_bytes=40), False),
        (Properties(maximum_packet_bytes=200), True),
    ):
        desk = Desk()
        desk.join(A, "a", properties=properties)
        (farewell,) = sent_to(A, desk.say(A, Auth()))
        assert isinstance(farewell, Disconnect)
        assert (farewell.properties is not None) == explained


def test_a_take_over_and_a_silence_have_codes_of_their_own() -> None:
    desk = Desk()
    desk.join(A, "a")
    effects = desk.join(B, "a", keep_alive_s=10)
    assert code_of(A, effects[:2]) == Code.TAKEN_OVER
    assert code_of(B, desk.wait(15 * SECOND)) == Code.KEEP_ALIVE_TIMEOUT


def test_a_stop_tells_clients_of_mqtt_5_and_closes_all_and_tells_no_will() -> None:
    desk = Desk()
    desk.join(A, "a", will=Publish("t", b"a"))
    desk.join(B, "b", level=LEVEL_3)
    desk.subscribe(B, "t")
    desk.open(C)
    effects = desk.broker.stop(desk.now)
    assert [(type(e), e.conn) for e in effects] == [
        (Transmit, A),
        (Close, A),
        (Close, B),
        (Close, C),
    ]
    assert code_of(A, effects[:2]) == Code.SHUTTING_DOWN
    assert desk.counters.closed == {Reason.STOPPED: 3}


# -- properties and their passing on --------------------------------------------------------------


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


# -- message expiry -------------------------------------------------------------------------------


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
    assert len(messages_to(A, desk.join(A, "a", session_s=10))) == 1
    desk.lose(A)
    assert [kept("b"), kept("b")] == [True, False]
    desk.wait(10 * SECOND)  # both sessions end
    desk.join(D, "d", session_s=10)
    desk.subscribe(D, "d")
    desk.lose(D)
    assert [kept("d"), kept("d"), kept("d"), kept("d")] == [True] * 3 + [False]


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


# -- wills ----------------------------------------------------------------------------------------


def with_delay(seconds: int, **more: object) -> Publish:
    return Publish("gone", b"a", properties=Properties(will_delay_s=seconds, **more))  # type: ignore[arg-type]


def watched() -> Desk:
    desk = Desk()
    desk.join(B, "b")
    desk.subscribe(B, "gone")
    return desk


def test_a_delayed_will_is_told_when_its_time_is_over_and_with_its_properties() -> None:
    desk = watched()
    desk.join(A, "a", session_s=HOUR_S, will=with_delay(5, content_type="x", message_expiry_s=9))
    assert desk.lose(A) == []
    assert desk.wait(5 * SECOND - 1) == []
    told = Publish("gone", b"a", properties=Properties(content_type="x", message_expiry_s=9))
    assert desk.wait(1) == [Transmit(B, told)]
    assert desk.wait(HOUR_S * SECOND) == []


def test_a_client_that_comes_back_in_time_takes_its_will_back() -> None:
    desk = watched()
    desk.join(A, "a", session_s=HOUR_S, will=with_delay(5))
    desk.lose(A)
    desk.wait(4 * SECOND)
    assert messages_to(B, desk.join(C, "a", session_s=HOUR_S)) == []
    assert desk.wait(HOUR_S * SECOND) == []
    assert messages_to(B, desk.lose(C)) == [], "the later connection has no will"


def test_the_will_of_the_next_connection_does_not_come_at_the_time_of_the_one_before() -> None:
    desk = watched()
    desk.join(A, "a", session_s=HOUR_S, will=with_delay(5))
    desk.lose(A)
    desk.join(C, "a", session_s=HOUR_S, will=with_delay(5))
    assert desk.wait(HOUR_S * SECOND) == []


def test_the_end_of_its_session_does_not_wait_for_a_wills_delay() -> None:
    desk = watched()
    desk.join(A, "a", session_s=2, will=with_delay(5))
    desk.lose(A)
    assert desk.wait(2 * SECOND) == [Transmit(B, Publish("gone", b"a"))]
    desk.join(C, "c", will=with_delay(5))  # its session ends with the connection
    assert desk.lose(C) == [Transmit(B, Publish("gone", b"a"))]


def test_a_clean_start_ends_the_session_and_tells_its_waiting_will() -> None:
    desk = watched()
    desk.join(A, "a", session_s=HOUR_S, will=with_delay(50))
    desk.lose(A)
    assert messages_to(B, desk.join(C, "a", clean_start=True)) == [Publish("gone", b"a")]


def test_an_evicted_session_tells_its_waiting_will() -> None:
    desk = Desk(sessions_max=2)
    desk.join(B, "b")
    desk.subscribe(B, "gone")
    desk.join(A, "a", session_s=HOUR_S, will=with_delay(50))
    desk.lose(A)
    assert messages_to(B, desk.join(C, "c")) == [Publish("gone", b"a")]
    assert desk.wait(HOUR_S * SECOND) == []


def test_a_take_over_tells_a_will_unless_it_is_delayed() -> None:
    for delay_s, told in ((0, 1), (5, 0)):
        desk = watched()
        desk.join(A, "a", session_s=HOUR_S, will=with_delay(delay_s))
        effects = desk.join(C, "a", session_s=HOUR_S)
        effects += desk.wait(10 * SECOND)
        assert len(messages_to(B, effects)) == told, "3.1.3-9"


@pytest.mark.parametrize(
    ("code", "told"), [(Code.SUCCESS, 0), (Code.DISCONNECT_WITH_WILL, 1), (Code.UNSPECIFIED, 1)]
)
def test_only_a_normal_goodbye_takes_the_will_back(code: Code, told: int) -> None:
    desk = watched()
    desk.join(A, "a", will=with_delay(5))
    effects = desk.say(A, Disconnect(code))
    assert len(messages_to(B, effects)) == told
    assert effects[0] == Close(A, Reason.LEFT), "no farewell answers a goodbye"


def test_a_client_does_not_hear_its_own_will_on_a_subscription_for_others() -> None:
    desk = Desk()
    desk.join(A, "a", session_s=HOUR_S, will=Publish("gone", b"a", 1))
    desk.subscribe(A, Wanted("gone", 1, no_local=True))
    desk.lose(A)
    assert messages_to(B, desk.join(B, "a", session_s=HOUR_S)) == []


# -- sessions -------------------------------------------------------------------------------------


def present(conn: int, desk: Desk, **fields: object) -> bool:
    (welcome,) = sent_to(conn, desk.join(conn, "a", **fields))[:1]  # type: ignore[arg-type]
    assert isinstance(welcome, Connack)
    return welcome.session_present


def test_a_session_lives_as_long_as_its_client_said_and_no_longer() -> None:
    for wait_s, there in ((9, True), (10, False)):
        desk = Desk()
        desk.join(A, "a", session_s=10)
        desk.wait(HOUR_S * SECOND)
        desk.lose(A)
        desk.wait(wait_s * SECOND)
        assert present(B, desk, session_s=10) is there
        assert desk.counters.sessions_expired == (not there)


def test_a_session_without_an_expiry_ends_with_its_connection() -> None:
    desk = Desk()
    desk.join(A, "a", clean_start=False)
    desk.lose(A)
    assert not present(B, desk, session_s=10)


def test_the_longest_expiry_is_for_ever_as_is_a_session_of_3_1_1() -> None:
    desk = Desk()
    desk.join(A, "a", session_s=0xFFFF_FFFF)
    desk.lose(A)
    desk.wait(0xFFFF_FFFF * SECOND)
    assert present(B, desk, level=LEVEL_3, clean_start=False)
    desk.lose(B)
    desk.wait(0xFFFF_FFFF * SECOND)
    assert present(C, desk, session_s=1), "a client may change its level"
    desk.lose(C)
    desk.wait(SECOND)
    assert not present(D, desk, session_s=1)


def test_a_goodbye_may_change_the_expiry_but_not_from_nothing() -> None:
    desk = Desk()
    desk.join(A, "a", session_s=10)
    assert desk.say(A, Disconnect(properties=Properties(session_expiry_s=0))) == [
        Close(A, Reason.LEFT)
    ]
    assert not present(B, desk, session_s=10)
    desk.say(B, Disconnect(properties=Properties(session_expiry_s=100)))
    desk.wait(99 * SECOND)
    assert present(C, desk, session_s=10)
    desk.join(D, "d")
    effects = desk.say(D, Disconnect(properties=Properties(session_expiry_s=5)))
    assert code_of(D, effects) == Code.PROTOCOL_ERROR


def test_a_goodbye_that_lengthens_the_session_leaves_its_will_all_its_delay() -> None:
    desk = watched()
    desk.join(A, "a", session_s=2, will=with_delay(5))
    desk.say(A, Disconnect(Code.DISCONNECT_WITH_WILL, Properties(session_expiry_s=100)))
    assert desk.wait(5 * SECOND - 1) == []
    assert desk.wait(1) == [Transmit(B, Publish("gone", b"a"))]


def test_a_goodbye_that_ends_the_session_does_not_leave_its_will_waiting() -> None:
    desk = watched()
    desk.join(A, "a", session_s=HOUR_S, will=with_delay(5))
    goodbye = Disconnect(Code.DISCONNECT_WITH_WILL, Properties(session_expiry_s=0))
    assert messages_to(B, desk.say(A, goodbye)) == [Publish("gone", b"a")]


# -- subscriptions --------------------------------------------------------------------------------


def test_no_local_keeps_what_a_client_says_itself_from_it_and_only_that() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.join(B, "b")
    desk.subscribe(A, Wanted("t/#", 2, no_local=True))
    assert messages_to(A, desk.say(A, Publish("t/1"))) == []
    assert messages_to(A, desk.say(B, Publish("t/1"))) == [Publish("t/1")]
    assert code_of_puback(desk, A, "t/1") == Code.NO_SUBSCRIBERS
    desk.subscribe(A, Wanted("t/+", 0))
    (got,) = messages_to(A, desk.say(A, Publish("t/1", b"", 2, packet_id=1)))
    assert got.qos == 0, "only the subscription that wants its own messages counts for them"


def test_no_local_holds_for_retained_messages_and_a_later_connection_too() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.join(B, "b")
    desk.say(A, Publish("t/a", b"1", retain=True))
    desk.say(B, Publish("t/b", b"2", retain=True))
    desk.lose(A)
    desk.join(C, "a")
    got = desk.subscribe(C, Wanted("t/#", 2, no_local=True))
    assert got == [Publish("t/b", b"2", 0, True)]


def code_of_puback(desk: Desk, conn: int, topic: str) -> Code:
    (answer,) = (
        packet
        for packet in sent_to(conn, desk.say(conn, Publish(topic, b"x", 1, packet_id=77)))
        if isinstance(packet, Puback)
    )
    return answer.code


def test_retain_as_published_keeps_the_mark_and_otherwise_it_goes() -> None:
    desk = Desk()
    for conn, kept in ((A, False), (B, True)):
        desk.join(conn, str(conn))
        desk.subscribe(conn, Wanted("t", 0, retain_as_published=kept))
    effects = desk.say(A, Publish("t", b"x", retain=True))
    assert effects == [
        Transmit(A, Publish("t", b"x")),
        Transmit(B, Publish("t", b"x", retain=True)),
    ]
    effects = desk.say(A, Publish("t", b"x"))
    assert [m.retain for m in messages_to(B, effects)] == [False]


def test_overlapping_subscriptions_keep_the_mark_if_one_of_them_does() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.subscribe(A, Wanted("t", 0), Wanted("+", 0, retain_as_published=True), Wanted("#", 0))
    (got,) = messages_to(A, desk.say(A, Publish("t", b"x", retain=True)))
    assert got.retain


@pytest.mark.parametrize(("handling", "first", "again"), [(0, 1, 1), (1, 1, 0), (2, 0, 0)])
def test_retained_messages_come_always_or_once_or_never(
    handling: int, first: int, again: int
) -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.say(A, Publish("t", b"x", retain=True))
    wanted = Wanted("t", 1, retain_handling=handling)
    assert len(desk.subscribe(A, wanted)) == first
    assert len(desk.subscribe(A, wanted)) == again
    desk.say(A, Unsubscribe(1, ("t",)))
    assert len(desk.subscribe(A, wanted)) == first, "it is a new subscription again"


def test_overlapping_subscriptions_bring_one_message_with_all_their_identifiers() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.subscribe(A, Wanted("t/#", 0), ident=5)
    desk.subscribe(A, Wanted("t/+", 2), ident=3)
    desk.subscribe(A, Wanted("+/1", 1))
    (got,) = messages_to(A, desk.say(A, Publish("t/1", b"x", 2, packet_id=1, properties=RICH)))
    assert got.qos == 2
    assert got.properties is not None
    assert sorted(got.properties.subscription_ids) == [3, 5]
    assert replace(got.properties, subscription_ids=()) == RICH
    desk.say(A, Publish("t/1", b"x", retain=True))
    (retained,) = desk.subscribe(A, Wanted("t/+", 0), ident=9)
    assert retained == Publish("t/1", b"x", 0, True, properties=Properties(subscription_ids=(9,)))


def test_receivers_with_the_same_identifier_share_one_object() -> None:
    desk = Desk()
    for conn in (A, B, C):
        desk.join(conn, str(conn))
        desk.subscribe(conn, Wanted("t", 0), ident=1 if conn != C else 2)
    sent = [e.packet for e in desk.say(A, Publish("t", b"x")) if isinstance(e, Transmit)]
    assert sent[0] is sent[1]
    assert sent[2] != sent[0]


def test_shared_subscriptions_are_refused_and_with_no_local_a_mistake() -> None:
    desk = Desk()
    for conn, level in ((A, LEVEL_5), (B, LEVEL_3)):
        desk.join(conn, str(conn), level=level)
        wanted = (Wanted("$share/g/t"), Wanted("t", 1))
        assert desk.say(conn, Subscribe(1, wanted)) == [
            Transmit(conn, Suback(1, (Code.NO_SHARED, Code.GRANTED_1)))
        ]
    assert desk.counters.subscriptions_refused == 2
    wrong = Subscribe(2, (Wanted("$share/g/t", no_local=True),))
    assert code_of(A, desk.say(A, wrong)) == Code.PROTOCOL_ERROR


def test_unsubscribing_says_of_each_filter_whether_there_was_one() -> None:
    desk = Desk()
    for conn, level in ((A, LEVEL_5), (B, LEVEL_3)):
        desk.join(conn, str(conn), level=level)
        desk.subscribe(conn, "a", "b")
        codes = (Code.SUCCESS, Code.NO_SUBSCRIPTION) if level == LEVEL_5 else ()
        answer = Unsuback(3, codes)
        assert desk.say(conn, Unsubscribe(3, ("b", "c"))) == [Transmit(conn, answer)]


# -- acknowledgements -----------------------------------------------------------------------------


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


# -- flow control ---------------------------------------------------------------------------------


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


# -- topic aliases --------------------------------------------------------------------------------


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


# -- packet size ----------------------------------------------------------------------------------


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
