"""When a will is told, with which properties, and when not (MQTT 5, section 3.1.2.5)."""

from __future__ import annotations

import pytest

from broker.desk import (
    HOUR_S,
    A,
    B,
    C,
    Desk,
    messages_to,
)
from demesh.broker.codec import (
    Code,
    Disconnect,
    Properties,
    Publish,
    Wanted,
)
from demesh.broker.limits import Reason
from demesh.broker.machine import Close, Transmit
from demesh.ports import SECOND


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
