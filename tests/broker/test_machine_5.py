"""What MQTT 5 adds to connections and sessions, packet by packet."""

from __future__ import annotations

import pytest

from broker.desk import (
    HOUR_S,
    A,
    B,
    C,
    D,
    Desk,
    code_of,
    sent_to,
)
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
    Publish,
    Subscribe,
    Unsubscribe,
    Wanted,
    encode,
)
from demesh.broker.limits import Reason
from demesh.broker.machine import Close, Transmit
from demesh.ports import SECOND

# -- greeting ------------------------------------------------------------------------------------


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


# -- farewells -----------------------------------------------------------------------------------


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


# -- sessions ------------------------------------------------------------------------------------


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
