"""What MQTT 5 adds to subscriptions: options, identifiers, codes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.desk import (
    RICH,
    A,
    B,
    C,
    Desk,
    code_of,
    code_of_puback,
    messages_to,
)
from demesh.broker.codec import (
    LEVEL_3,
    LEVEL_5,
    Code,
    Properties,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Wanted,
)
from demesh.broker.machine import Transmit


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
