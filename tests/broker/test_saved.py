"""What a store is told, and a broker that begins where another stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.desk import HOUR_S, A, B, C, Desk, Shelf, messages_to, sent_to
from broker.test_rights import Table
from demesh.broker.codec import (
    LEVEL_3,
    Connack,
    Disconnect,
    Packet,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Unsubscribe,
    Wanted,
)
from demesh.broker.limits import Reason
from demesh.broker.machine import Effect, Transmit
from demesh.broker.saved import Changes, Saved, pack, unpack
from demesh.ports import SECOND


class Kept:
    """A desk with a shelf: `crash` starts another broker from what was last saved."""

    def __init__(self, **limits: object) -> None:
        self.shelf = Shelf()
        self.limits = limits
        self.desk = Desk(saved=Saved(), **limits)

    def save(self) -> Changes:
        changes = self.desk.broker.changes()
        self.shelf.write(changes)
        return changes

    def crash(self, down: int = 0) -> Desk:
        now = self.desk.now + down
        self.desk = Desk(saved=self.shelf.read(), now=now, **self.limits)
        return self.desk

    def restart(self, down: int = 0) -> Desk:
        self.save()
        return self.crash(down)


def payloads(packets: list[Publish]) -> list[bytes]:
    return [packet.payload for packet in packets]


def test_without_a_store_nothing_is_recorded() -> None:
    desk = Desk()
    desk.join(A, "a", session_s=HOUR_S)
    desk.say(A, Publish("t", b"x", retain=True))
    assert not desk.broker.changes()
    assert desk.broker._retained._changed is None


def test_nothing_new_is_nothing_to_save() -> None:
    kept = Kept()
    assert not kept.save()
    kept.desk.join(A, "a", session_s=HOUR_S)
    kept.desk.say(A, Publish("t", b"x", retain=True))
    changes = kept.save()
    assert len(changes.sessions) == len(changes.retained) == 1
    kept.desk.say(A, Publish("u", b"x"))
    assert not kept.save()
    kept.desk.lose(A)
    kept.save()
    assert not kept.crash().broker.changes(), "what was restored is saved"


def test_a_session_comes_back_with_all_it_had() -> None:
    kept = Kept()
    desk = kept.desk
    desk.join(A, "a", session_s=HOUR_S)
    desk.subscribe(A, Wanted("t", 2, no_local=True, retain_as_published=True), ident=7)
    desk.join(B, "b")
    for n, qos in ((1, 1), (2, 2), (3, 2)):
        desk.say(B, Publish("t", b"%d" % n, qos, packet_id=n))
    desk.say(A, Pubrec(2), Publish("x", b"", 2, packet_id=9))
    desk.lose(A)
    desk.say(B, Publish("t", b"4", 1, packet_id=4), Publish("t", b"5", 2, packet_id=5))
    desk = kept.restart()

    effects = desk.join(A, "a", session_s=HOUR_S)
    welcome, *again = sent_to(A, effects)
    assert isinstance(welcome, Connack)
    assert welcome.session_present
    seven = Properties(subscription_ids=(7,))
    first, third, release, *queued = again
    assert first == Publish("t", b"1", 1, False, True, 1, seven)
    assert third == Publish("t", b"3", 2, False, True, 3, seven)
    assert release == Pubrel(2)
    assert payloads(messages_to(A, effects)) == [b"1", b"3", b"4", b"5"]
    fresh = [packet.packet_id for packet in queued if isinstance(packet, Publish)]
    assert min(fresh) > 1000, "ids of the last, perhaps unsaved second are not used again"

    assert desk.say(A, Publish("x", b"", 2, False, True, 9)) == sent(A, Pubrec(9)), "it is known"
    assert desk.counters.messages_received == 0
    assert desk.say(A, Pubrel(9)) == sent(A, Pubcomp(9))
    assert messages_to(A, desk.say(A, Publish("t"))) == [], "no local"
    desk.join(C, "c")
    (got,) = messages_to(A, desk.say(C, Publish("t", b"", retain=True)))
    assert (got.retain, got.properties) == (True, seven)


def sent(conn: int, packet: Packet) -> list[Effect]:
    return [Transmit(conn, packet)]


def test_retained_messages_come_back_with_their_time_and_publisher() -> None:
    kept = Kept()
    desk = kept.desk
    rich = Properties(content_type="x", user=(("k", "v"),), message_expiry_s=10)
    desk.join(A, "a")
    desk.say(A, Publish("t/1", b"1", 1, True, packet_id=1, properties=rich))
    desk.say(A, Publish("t/2", b"2", retain=True), Publish("t/3", b"3", retain=True))
    kept.save()
    desk.say(A, Publish("t/2", b"", retain=True), Publish("t/3", b"33", retain=True))
    desk.wait(4 * SECOND)
    desk = kept.restart(2 * SECOND)
    desk.join(A, "a")
    assert desk.subscribe(A, Wanted("t/#", 2, no_local=True)) == []
    one, three = desk.subscribe(A, Wanted("t/#", 0))
    assert one == Publish("t/1", b"1", 0, True, properties=replace(rich, message_expiry_s=4))
    assert three == Publish("t/3", b"33", 0, True)
    desk.wait(4 * SECOND)
    assert set(kept.shelf.retained) == {"t/1", "t/3"}
    kept.save()
    assert set(kept.shelf.retained) == {"t/3"}


def test_sessions_that_end_with_their_connection_are_never_told_to_a_store() -> None:
    kept = Kept()
    kept.desk.join(A, "a")
    kept.desk.subscribe(A, "t")
    kept.desk.join(B, "b", level=LEVEL_3)
    kept.desk.lose(B)
    assert not kept.save()


@pytest.mark.parametrize("how", ["expires", "says so", "clean start", "evicted"])
def test_a_session_that_ended_is_gone_from_the_store(how: str) -> None:
    kept = Kept(sessions_max=2)
    desk = kept.desk
    desk.join(A, "a", session_s=5)
    desk.subscribe(A, "t")
    kept.save()
    assert list(kept.shelf.sessions) == ["a"]
    if how == "says so":
        desk.say(A, Disconnect(properties=Properties(session_expiry_s=0)))
    else:
        desk.lose(A)
    if how == "expires":
        desk.wait(5 * SECOND)
    elif how == "clean start":
        desk.join(B, "a")
    elif how == "evicted":
        desk.join(B, "b")
        desk.join(C, "c")
    changes = kept.save()
    assert changes == Changes(ended=("a",))
    assert kept.shelf.sessions == {}
    assert not kept.save()


def test_a_session_that_ended_and_began_again_has_nothing_of_the_older_one() -> None:
    kept = Kept()
    desk = kept.desk
    desk.join(A, "a", session_s=HOUR_S)
    desk.subscribe(A, "t")
    desk.lose(A)
    desk.join(B, "b")
    desk.say(B, *[Publish("t", b"old", 1, packet_id=n) for n in range(1, 4)])
    kept.save()
    desk.join(A, "a", session_s=HOUR_S, clean_start=True)
    desk.subscribe(A, "u")
    desk.lose(A)
    desk.say(B, Publish("u", b"new", 1, packet_id=1))
    desk = kept.restart()
    assert payloads(messages_to(A, desk.join(A, "a", session_s=HOUR_S))) == [b"new"]


def test_a_connection_whose_session_ends_with_it_takes_the_saved_one_along() -> None:
    """A crash ends the connection, and with it the session."""
    kept = Kept()
    kept.desk.join(A, "a", session_s=HOUR_S)
    kept.desk.subscribe(A, "t")
    kept.save()
    kept.desk.join(B, "a", clean_start=False)
    assert kept.save() == Changes(ended=("a",))
    kept.desk.lose(B)
    kept.desk.join(C, "a", session_s=HOUR_S)
    kept.restart()
    assert list(kept.shelf.sessions) == ["a"], "the next one is another"
    assert kept.shelf.sessions["a"].subscriptions == ()


def test_a_long_queue_is_written_once_and_dropped_from_the_front() -> None:
    kept = Kept(inflight_max=2)
    desk = kept.desk
    desk.join(A, "a", session_s=HOUR_S)
    desk.subscribe(A, "t")
    desk.lose(A)
    desk.join(B, "b")
    written = 0
    for n in range(50):
        desk.say(B, *[Publish("t", b"%d" % n, 1, packet_id=1)] * 10)
        (change,) = kept.save().sessions
        written += len(change.appended)
    assert written == 500
    effects = desk.join(C, "a", session_s=HOUR_S)
    for _ in range(100):
        (message, *_) = messages_to(C, effects)
        effects = desk.say(C, Puback(message.packet_id))
    (change,) = kept.save().sessions
    assert change.first == 102
    assert change.appended == ()
    assert len(kept.shelf.queues["a"]) == 500 - 102


def test_everything_can_be_had_again_for_an_empty_store() -> None:
    kept = Kept()
    desk = kept.desk
    desk.join(A, "a", session_s=HOUR_S)
    desk.subscribe(A, "t")
    desk.say(A, Publish("r", b"1", retain=True))
    desk.lose(A)
    desk.join(B, "b")
    desk.say(B, *[Publish("t", b"%d" % n, 1, packet_id=1) for n in range(5)])
    desk.broker.changes()  # and the store failed to write it
    shelf = Shelf()
    shelf.write(desk.broker.changes(everything=True))
    assert not desk.broker.changes()
    other = Desk(saved=shelf.read())
    assert payloads(messages_to(A, other.join(A, "a", session_s=HOUR_S))) == [
        b"%d" % n for n in range(5)
    ]
    assert len(other.subscribe(A, "r")) == 1


# -- time and wills -------------------------------------------------------------------------------


def test_time_without_a_broker_is_time_without_a_connection() -> None:
    kept = Kept()
    kept.desk.join(A, "gone", session_s=10)
    kept.desk.join(B, "there", session_s=10)
    kept.desk.wait(3 * SECOND)
    kept.desk.lose(A)
    desk = kept.restart(6 * SECOND)
    desk.wait(4 * SECOND)
    assert [s.client_id for s in desk.broker._sessions] == ["there"]
    desk.wait(6 * SECOND)
    assert [s.client_id for s in desk.broker._sessions] == []


def test_a_broker_that_fails_again_and_again_keeps_no_session_beyond_its_time() -> None:
    kept = Kept()
    kept.desk.join(A, "a", session_s=5, will=Publish("gone", b"a"))
    kept.restart()
    for _ in range(2):
        kept.desk.wait(2 * SECOND)
        kept.restart()
    listener(kept.desk)
    effects = kept.desk.wait(SECOND)
    assert [s.client_id for s in kept.desk.broker._sessions] == ["c"]
    assert payloads(messages_to(C, effects)) == [b"a"], "its will is told no later than that"


def test_a_queued_messages_time_goes_on_without_a_broker() -> None:
    kept = Kept()
    kept.desk.join(A, "a", session_s=HOUR_S)
    kept.desk.subscribe(A, "t")
    kept.desk.lose(A)
    kept.desk.join(B, "b")
    for seconds in (5, 20):
        properties = Properties(message_expiry_s=seconds)
        kept.desk.say(B, Publish("t", b"", 1, packet_id=1, properties=properties))
    desk = kept.restart(10 * SECOND)
    (got,) = messages_to(A, desk.join(A, "a", session_s=HOUR_S))
    assert got.properties == Properties(message_expiry_s=10)


def listener(desk: Desk) -> None:
    desk.join(C, "c")
    desk.subscribe(C, "gone")


def test_a_will_that_waited_is_told_at_its_time() -> None:
    kept = Kept()
    will = Publish("gone", b"a", properties=Properties(will_delay_s=60))
    kept.desk.join(A, "a", session_s=HOUR_S, will=will)
    kept.desk.lose(A)
    desk = kept.restart(50 * SECOND)
    listener(desk)
    assert desk.wait(10 * SECOND - 1) == []
    assert messages_to(C, desk.wait(1)) == [Publish("gone", b"a")]
    assert desk.wait(HOUR_S * SECOND) == []


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("stopped", [True, False])
def test_a_will_is_told_for_who_does_not_come_back_to_a_broker_that_failed_or_stopped(
    back: bool, stopped: bool
) -> None:
    kept = Kept()
    kept.desk.join(A, "a", session_s=HOUR_S, will=Publish("gone", b"a"))
    if stopped:
        assert not messages_to(A, kept.desk.broker.stop(kept.desk.now))
    desk = kept.restart(50 * SECOND)
    listener(desk)
    desk.wait(9 * SECOND)
    if back:
        desk.join(A, "a", session_s=HOUR_S)
    assert payloads(messages_to(C, desk.wait(HOUR_S * SECOND))) == ([] if back else [b"a"])


def test_a_stop_keeps_sessions_and_ends_those_that_live_with_their_connection() -> None:
    kept = Kept()
    kept.desk.join(A, "a", session_s=HOUR_S)
    kept.desk.join(B, "b")
    kept.desk.broker.stop(kept.desk.now)
    kept.save()
    assert list(kept.shelf.sessions) == ["a"]
    assert kept.shelf.sessions["a"].offline_since == kept.desk.now


def test_a_user_stays_the_one_of_its_session() -> None:
    table = Table({"ann": b"1", "bob": b"2"})
    shelf = Shelf()
    desk = Desk(table, Saved())
    desk.join(A, "lamp", session_s=HOUR_S, username="ann", password=b"1")
    shelf.write(desk.broker.changes())
    desk = Desk(table, shelf.read())
    effects = desk.join(B, "lamp", session_s=HOUR_S, username="bob", password=b"2")
    assert desk.counters.closed == {Reason.CLIENT_OF_ANOTHER: 1}
    assert len(effects) == 2


def test_rights_that_changed_while_the_broker_was_away_count_from_the_start() -> None:
    table = Table({"ann": b"1", "bob": b"2"})
    shelf = Shelf()
    desk = Desk(table, Saved())
    will = Publish("ann/gone")
    desk.join(A, "lamp", session_s=HOUR_S, username="ann", password=b"1", will=will)
    desk.join(B, "bell", session_s=HOUR_S, username="bob", password=b"2")
    desk.subscribe(B, "free/1", "bob/1")
    shelf.write(desk.broker.changes())

    class Strict(Table):
        def may_read(self, user: str, client_id: str, pattern: str) -> bool:
            return pattern.startswith(user)

    desk = Desk(Strict({"bob": b"2"}), shelf.read())
    (session,) = desk.broker._sessions
    assert session.client_id == "bell"
    assert list(session.subscriptions) == ["bob/1"]
    shelf.write(desk.broker.changes())
    assert list(shelf.sessions) == ["bell"], "and the store is told"


def test_unsubscribing_is_saved() -> None:
    kept = Kept()
    kept.desk.join(A, "a", session_s=HOUR_S)
    kept.desk.subscribe(A, "t", "u")
    kept.save()
    kept.desk.say(A, Unsubscribe(1, ("t",)))
    desk = kept.restart()
    desk.join(B, "b")
    desk.say(B, Publish("t", b"1", 1, packet_id=1), Publish("u", b"2", 1, packet_id=2))
    assert payloads(messages_to(A, desk.join(A, "a", session_s=HOUR_S))) == [b"2"]


# -- bytes ----------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
messages = st.builds(
    Publish,
    st.text("abc/ä", min_size=1, max_size=10),
    st.binary(max_size=50),
    st.integers(0, 2),
    st.booleans(),
    properties=st.none()
    | st.builds(
        Properties,
        payload_format=st.integers(0, 1),
        message_expiry_s=st.none() | st.integers(0, 0xFFFF_FFFF),
        content_type=st.none() | texts,
        correlation_data=st.none() | st.binary(max_size=20),
        subscription_ids=st.lists(st.integers(1, 268_435_455), max_size=3).map(tuple),
        user=st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    ),
)


@given(messages)
def test_a_message_is_the_same_after_a_store(message: Publish) -> None:
    assert unpack(pack(message)) == message
    assert unpack(pack(replace(message, packet_id=7 if message.qos else 0))) == message


@given(messages, st.data())
def test_damaged_bytes_are_no_message_and_no_crash(message: Publish, data: st.DataObject) -> None:
    packed = pack(message)
    cut = data.draw(st.integers(0, len(packed) - 1))
    assert unpack(packed[:cut]) is None
    assert unpack(packed + b"\x00") is None
