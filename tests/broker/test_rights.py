"""Who may connect, publish and subscribe: what the machine does with the answers of an `Access`."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from broker.desk import HOUR_S, A, B, C, Desk, code_of, messages_to, sent_to
from demesh.broker.accounts import Accounts
from demesh.broker.codec import (
    LEVEL_3,
    LEVEL_5,
    Code,
    Connack,
    Connect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Wanted,
)
from demesh.broker.limits import Reason
from demesh.broker.machine import Close, Transmit
from demesh.broker.session import WRITABLE_MAX
from demesh.ports import SECOND


@dataclass
class Table:
    """Users with passwords; each may write below its own name and `free/`, and read the latter.

    `asked` counts the questions about topics: the machine is to remember the answers.
    """

    passwords: dict[str, bytes]
    anonymous: bool = False
    asked: list[str] = field(default_factory=list)
    checked: int = 0

    def login(
        self, username: str | None, password: bytes | None, certificate: str | None
    ) -> str | None:
        if certificate in self.passwords:
            return certificate
        if username is None:
            return "" if self.anonymous else None
        self.checked += 1
        known = username in self.passwords and self.passwords[username] == password
        return username if known else None

    def knows(self, user: str) -> bool:
        return user in self.passwords or (user == "" and self.anonymous)

    def may_connect(self, user: str, client_id: str) -> bool:
        return client_id == user or client_id not in self.passwords

    def may_write(self, user: str, client_id: str, topic: str) -> bool:
        self.asked.append(topic)
        return topic.split("/", maxsplit=1)[0] in (user, "free")

    def may_read(self, user: str, client_id: str, pattern: str) -> bool:
        return pattern.split("/", maxsplit=1)[0] in (user, "free", "$SYS")


def house(**limits: object) -> tuple[Desk, Table]:
    table = Table({"ann": b"1", "bob": b"2"})
    return Desk(table, **limits), table


def come(desk: Desk, conn: int, name: str, client_id: str = "", **fields: object) -> list[Packet]:
    password = {"ann": b"1", "bob": b"2"}[name]
    effects = desk.join(conn, client_id or name, username=name, password=password, **fields)  # type: ignore[arg-type]
    return sent_to(conn, effects)


# -- connecting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [LEVEL_3, LEVEL_5])
def test_a_wrong_password_an_unknown_user_and_no_name_are_refused_and_counted(level: int) -> None:
    desk, _ = house()
    for conn, said, code, reason in (
        (A, {"username": "ann", "password": b"2"}, Code.BAD_LOGIN, Reason.BAD_LOGIN),
        (B, {"username": "eve", "password": b"1"}, Code.BAD_LOGIN, Reason.BAD_LOGIN),
        (C, {}, Code.NOT_AUTHORIZED, Reason.NOT_AUTHORIZED),
    ):
        effects = desk.join(conn, "x", level=level, **said)  # type: ignore[arg-type]
        assert code_of(conn, effects) == code
        assert effects[-1] == Close(conn, reason)
    assert desk.counters.logins_failed == 3
    assert len(desk.broker._sessions) == 0


def test_a_certificate_is_who_its_client_is() -> None:
    desk, _ = house()
    desk.open(A)
    desk.broker.certified(A, "ann")
    desk.broker.certified(B, "ann")  # nothing happens to a connection that is gone
    (welcome,) = sent_to(A, desk.say(A, Connect("x")))
    assert welcome == Connack()
    desk.say(A, Publish("ann/x"))
    assert desk.counters.dropped_not_allowed == 0


def test_a_close_says_whose_connection_it_was() -> None:
    desk, _ = house()
    come(desk, A, "ann", "lamp")
    (close,) = desk.broker.close(A, Reason.SLOW, 0)[-1:]
    assert isinstance(close, Close)
    assert close.who == "client 'lamp' of user 'ann'"
    refused = desk.join(B, "lamp")[-1]
    assert isinstance(refused, Close)
    assert refused.who == "client 'lamp'"
    refused = desk.join(C, "l" * 999, username="a" * 999)[-1]
    assert isinstance(refused, Close)
    assert refused.who == f"client {'l' * 64!r} as {'a' * 64!r}", "no more than a line can take"


@pytest.mark.parametrize("there", [True, False])
def test_the_client_id_of_another_users_session_is_refused_and_never_taken_over(
    there: bool,
) -> None:
    desk, _ = house()
    come(desk, A, "ann", "lamp", session_s=HOUR_S)
    if not there:
        desk.lose(A)
    (answer,) = come(desk, B, "bob", "lamp", clean_start=True)
    assert isinstance(answer, Connack)
    assert answer.code == Code.NOT_AUTHORIZED
    assert desk.counters.closed[Reason.CLIENT_OF_ANOTHER] == 1
    if there:
        assert desk.say(A, Pingreq()) == [Transmit(A, Pingresp())]
    (again,) = come(desk, C, "ann", "lamp", session_s=HOUR_S)[-1:]
    assert isinstance(again, Connack)
    assert again.session_present


def test_a_will_is_allowed_where_its_user_may_publish() -> None:
    desk, _ = house()
    (answer,) = come(desk, A, "ann", will=Publish("bob/gone"))
    assert isinstance(answer, Connack)
    assert answer.code == Code.NOT_AUTHORIZED
    (answer,) = come(desk, B, "ann", will=Publish("ann/gone"))
    assert isinstance(answer, Connack)
    assert answer.code == Code.SUCCESS


# -- publishing and subscribing -------------------------------------------------------------------


def test_what_may_not_be_published_is_answered_as_its_level_can_and_goes_nowhere() -> None:
    for level, refusal in ((LEVEL_5, Code.NOT_AUTHORIZED), (LEVEL_3, Code.SUCCESS)):
        desk, _ = house()
        come(desk, A, "ann", level=level)
        come(desk, B, "bob")
        desk.subscribe(B, "bob/#")
        assert desk.say(A, Publish("bob/x", b"", retain=True)) == []
        assert desk.say(A, Publish("bob/x", b"", 1, True, packet_id=1)) == [
            Transmit(A, Puback(1, refusal))
        ]
        assert desk.say(A, Publish("bob/x", b"", 2, True, packet_id=2)) == [
            Transmit(A, Pubrec(2, refusal))
        ]
        known = Code.SUCCESS if level == LEVEL_3 else Code.ID_NOT_FOUND
        assert desk.say(A, Pubrel(2)) == [Transmit(A, Pubcomp(2, known))]
        assert desk.counters.dropped_not_allowed == 3
        assert len(desk.broker._retained) == 0


def test_a_refused_message_of_qos_2_said_again_is_refused_again() -> None:
    desk, _ = house()
    come(desk, A, "ann")
    message = Publish("bob/x", b"", 2, packet_id=2)
    refused = [Transmit(A, Pubrec(2, Code.NOT_AUTHORIZED))]
    assert desk.say(A, message) == refused
    assert desk.say(A, message) == refused


def test_answers_about_topics_are_remembered_within_bounds() -> None:
    desk, table = house()
    come(desk, A, "ann")
    for _ in range(10):
        desk.say(A, Publish("ann/x"), Publish("bob/x"))
    assert table.asked == ["ann/x", "bob/x"]
    for n in range(3 * WRITABLE_MAX):
        desk.say(A, Publish(f"ann/{n}"))
    session = desk.broker._sessions.get("ann")
    assert session is not None
    assert len(session.writable) <= WRITABLE_MAX


def test_filters_are_granted_one_by_one() -> None:
    for level in (LEVEL_5, LEVEL_3):
        desk, _ = house()
        come(desk, B, "bob")
        desk.say(B, Publish("bob/x", b"secret", retain=True))
        come(desk, A, "ann", level=level)
        wanted = (Wanted("bob/#"), Wanted("free/#", 1), Wanted("#"))
        assert desk.say(A, Subscribe(1, wanted)) == [
            Transmit(A, Suback(1, (Code.NOT_AUTHORIZED, Code.GRANTED_1, Code.NOT_AUTHORIZED)))
        ]
        assert messages_to(A, desk.say(B, Publish("bob/x"))) == []
        assert desk.counters.subscriptions_not_allowed == 2


@pytest.mark.parametrize("bound", ["retained_max", "retained_bytes_max"])
def test_one_user_retains_half_of_all_there_may_be_and_has_the_room_back(bound: str) -> None:
    desk, _ = house(**{bound: 8 if bound == "retained_max" else 8 * len("free/0x")})
    come(desk, A, "ann")
    come(desk, B, "bob")

    def keep(conn: int, *numbers: int, payload: bytes = b"x") -> int:
        before = len(desk.broker._retained)
        desk.say(conn, *[Publish(f"free/{n}", payload, retain=True) for n in numbers])
        return len(desk.broker._retained) - before

    assert keep(A, *range(6)) == 4
    assert desk.counters.retained_refused == 2
    assert keep(A, 0, 1) == 0, "its own it may replace"
    assert keep(B, 6, 7, 8, 9) == 4
    assert keep(B, 0, payload=b"") == -1, "whoever may write there removes it"
    assert keep(A, 5) == 1


# -- other rights ---------------------------------------------------------------------------------


def test_a_user_that_is_gone_is_closed_and_its_sessions_end_and_no_will_is_told() -> None:
    desk, _ = house()
    delayed = Properties(will_delay_s=50)
    come(desk, A, "ann", "here", session_s=HOUR_S, will=Publish("ann/gone"))
    come(desk, B, "ann", "away", session_s=HOUR_S, will=Publish("ann/gone", properties=delayed))
    desk.say(A, Publish("ann/kept", b"x", retain=True))
    desk.lose(B)
    come(desk, C, "bob")
    effects = desk.broker.set_access(Table({"bob": b"2", "ann2": b""}), desk.now)
    assert effects[-1] == Close(A, Reason.RIGHTS_GONE)
    assert code_of(A, effects) == Code.NOT_AUTHORIZED
    assert len(effects) == 2
    assert desk.wait(100 * SECOND) == []
    assert [s.client_id for s in desk.broker._sessions] == ["bob"]
    assert len(desk.broker._retained) == 1, "what it retained stays"


def test_rights_that_are_taken_away_end_at_once() -> None:
    desk, table = house()
    come(desk, A, "ann", session_s=HOUR_S, will=Publish("free/gone"))
    desk.subscribe(A, "free/a", "ann/a")
    come(desk, B, "bob")
    desk.subscribe(B, "free/#")
    assert messages_to(B, desk.say(A, Publish("free/a"))) != []

    class Strict(Table):
        def may_write(self, user: str, client_id: str, topic: str) -> bool:
            return topic.split("/", maxsplit=1)[0] == user

        def may_read(self, user: str, client_id: str, pattern: str) -> bool:
            return user == "bob" or pattern.split("/", maxsplit=1)[0] == user

    assert desk.broker.set_access(Strict(table.passwords), desk.now) == []
    assert desk.say(A, Publish("free/a")) == [], "a remembered right is forgotten"
    desk.broker.set_access(Strict(table.passwords), desk.now)
    effects = desk.say(B, Publish("bob/x"), Publish("free/a"))
    assert effects == []
    session = desk.broker._sessions.get("ann")
    assert session is not None
    assert list(session.subscriptions) == ["ann/a"]
    assert desk.counters.subscriptions_not_allowed == 1
    dropped = desk.counters.dropped_not_allowed
    assert messages_to(B, desk.lose(A)) == [], "a will is checked when it is told"
    assert desk.counters.dropped_not_allowed == dropped + 1


def test_what_waits_for_a_client_that_may_no_longer_read_it_is_dropped() -> None:
    desk, table = house()
    come(desk, A, "ann", session_s=HOUR_S)
    desk.subscribe(A, "free/#", "ann/#")
    desk.lose(A)
    come(desk, B, "bob")
    for n in range(3):
        desk.say(B, Publish(f"free/{n % 2}", b"%d" % n, 1, packet_id=1))

    class Stricter(Table):
        def may_read(self, user: str, client_id: str, pattern: str) -> bool:
            return pattern in ("ann/#", "free/1")

    desk.broker.set_access(Stricter(table.passwords), desk.now)
    desk.say(B, Publish("free/1", b"later", 1, packet_id=1))
    got = messages_to(C, desk.join(C, "ann", username="ann", password=b"1", session_s=HOUR_S))
    assert [message.payload for message in got] == [b"1"]
    assert desk.counters.dropped_expired == 2


def test_rights_that_are_given_count_at_once() -> None:
    desk, table = house()
    come(desk, A, "ann")
    desk.say(A, Publish("bob/x"))
    assert desk.counters.dropped_not_allowed == 1

    class Free(Table):
        def may_write(self, user: str, client_id: str, topic: str) -> bool:
            return True

    desk.broker.set_access(Free(table.passwords), desk.now)
    desk.say(A, Publish("bob/x"))
    assert desk.counters.dropped_not_allowed == 1


def test_nobody_takes_the_client_id_of_another_who_is_away() -> None:
    desk, _ = house()
    effects = desk.join(A, "bob", username="ann", password=b"1")
    assert code_of(A, effects) == Code.NOT_AUTHORIZED
    assert isinstance(come(desk, B, "bob", "bob")[-1], Connack)


def test_an_id_that_the_broker_chooses_is_not_held_against_the_client() -> None:
    desk = Desk(Accounts(by_certificate=True))
    for conn, client_id, code in (
        (A, "", Code.SUCCESS),
        (B, "ann-1", Code.SUCCESS),
        (C, "bob", Code.NOT_AUTHORIZED),
    ):
        desk.open(conn)
        desk.broker.certified(conn, "ann")
        answer, *_ = desk.say(conn, Connect(client_id, level=LEVEL_5))
        assert isinstance(answer, Transmit)
        assert isinstance(answer.packet, Connack)
        assert answer.packet.code == code


def test_an_open_broker_takes_any_name_for_nobodys() -> None:
    desk = Desk()
    desk.join(A, "a", username="ann", password=b"x", session_s=HOUR_S)
    effects = desk.join(B, "a", username="bob", session_s=HOUR_S)
    assert Close(A, Reason.TAKEN_OVER) in effects
