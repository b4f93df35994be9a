"""What the broker says of itself, to who asks by name."""

from __future__ import annotations

from broker.desk import A, B, C, Desk, messages_to, sent_to
from demesh import __version__
from demesh.broker.codec import Connect, Packet, Publish, Unsubscribe, Wanted
from demesh.ports import SECOND


def texts(packets: list[Packet] | list[Publish]) -> dict[str, str]:
    """Values by topic, without `$SYS/broker/`."""
    return {
        packet.topic.removeprefix("$SYS/broker/"): packet.payload.decode()
        for packet in packets
        if isinstance(packet, Publish)
    }


def test_a_subscriber_hears_at_once_what_there_is_as_retained_messages() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.join(B, "b", session_s=9)
    desk.lose(B)
    desk.say(A, Publish("t", b"12345", retain=True))
    desk.wait(90 * SECOND)
    got = desk.subscribe(A, "$SYS/#")
    assert all(isinstance(packet, Publish) and packet.retain for packet in got)
    said = texts(got)
    assert said["version"] == f"demesh {__version__}"
    assert said["uptime"] == "90 seconds"
    assert said["clients/connected"] == said["clients/total"] == "1"
    assert said["clients/expired"] == said["counters/sessions_expired"] == "1"
    assert said["messages/received"] == "4"
    assert said["retained messages/count"] == "1"
    assert said["store/messages/bytes"] == "6"
    assert said["subscriptions/count"] == "1"
    assert said["counters/closed/lost"] == "1"
    assert len(said) == len(got)


def test_what_changed_is_published_as_often_as_said_and_only_while_somebody_listens() -> None:
    desk = Desk(sys_s=10)
    desk.join(A, "a")
    desk.wait(100 * SECOND)
    assert desk.broker.deadline() is None, "a broker at rest wakes nobody"
    desk.subscribe(A, "$SYS/broker/uptime", "$SYS/broker/version")
    first = desk.wait(10 * SECOND)
    assert texts(messages_to(A, first)) == {
        "uptime": "110 seconds",
        "version": f"demesh {__version__}",
    }
    assert not any(message.retain for message in messages_to(A, first))
    assert texts(messages_to(A, desk.wait(10 * SECOND))) == {"uptime": "120 seconds"}
    desk.say(A, Unsubscribe(1, ("$SYS/broker/uptime", "$SYS/broker/version")))
    assert desk.wait(100 * SECOND) == []
    assert desk.broker.deadline() is None
    desk.subscribe(A, Wanted("$SYS/broker/uptime", 0, retain_handling=2))
    assert texts(messages_to(A, desk.wait(10 * SECOND))) == {"uptime": "230 seconds"}


def test_no_interval_means_only_who_subscribes_hears_once() -> None:
    desk = Desk(sys_s=0)
    desk.join(A, "a")
    assert len(desk.subscribe(A, "$SYS/broker/uptime")) == 1
    assert desk.wait(1000 * SECOND) == []


def test_wildcards_at_the_start_do_not_match_it() -> None:
    desk = Desk()
    desk.join(A, "a")
    assert desk.subscribe(A, "#", "+/broker/uptime") == []
    desk.join(B, "b")
    desk.subscribe(B, "$SYS/broker/+")
    assert messages_to(A, desk.wait(100 * SECOND)) == []


def test_messages_a_client_publishes_there_go_nowhere() -> None:
    desk = Desk()
    desk.join(A, "a")
    desk.subscribe(A, "$SYS/#")
    before = desk.counters.dropped_reserved
    for topic in ("$SYS", "$SYS/broker/version"):
        assert messages_to(A, desk.say(A, Publish(topic, b"mine", retain=True))) == []
    assert desk.counters.dropped_reserved == before + 2
    desk.join(B, "b", will=Publish("$SYS/broker/version", b"mine"))
    assert messages_to(A, desk.lose(B)) == []
    desk.subscribe(A, "$SYSTEM")
    assert len(messages_to(A, desk.say(A, Publish("$SYSTEM", b"mine")))) == 1


def test_identifiers_stand_on_these_messages_as_on_any() -> None:
    desk = Desk()
    desk.join(A, "a")
    (got,) = desk.subscribe(A, "$SYS/broker/uptime", ident=4)
    (later,) = messages_to(A, desk.wait(10 * SECOND))
    for packet in (got, later):
        assert isinstance(packet, Publish)
        assert packet.properties is not None
        assert packet.properties.subscription_ids == (4,)


def test_loads_are_a_minutes_worth_and_follow_what_happens() -> None:
    desk = Desk()
    desk.join(A, "a")
    topics = [f"$SYS/broker/load/publish/received/{m}min" for m in (1, 5)]
    desk.subscribe(A, *topics)
    desk.join(B, "b")
    said: dict[str, str] = {}
    for _ in range(60):
        desk.say(B, *[Publish("t")] * 10)
        said |= texts(messages_to(A, desk.wait(10 * SECOND)))
    assert 59.5 < float(said["load/publish/received/1min"]) <= 60.0
    assert 50 < float(said["load/publish/received/5min"]) < 59.5
    for _ in range(6):
        said |= texts(messages_to(A, desk.wait(10 * SECOND)))
    assert 20 < float(said["load/publish/received/1min"]) < 24, "60 / e"


def test_everybody_hears_the_same_and_a_client_that_left_nothing() -> None:
    desk = Desk()
    for conn in (A, B):
        desk.join(conn, str(conn))
        desk.subscribe(conn, "$SYS/broker/uptime")
    desk.open(C)
    desk.say(C, Connect("2", clean_start=True))  # takes B over
    effects = desk.wait(10 * SECOND)
    assert len(sent_to(A, effects)) == 1
    assert sent_to(B, effects) == []
