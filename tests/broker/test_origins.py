"""Many connections of one address or user: one voice, a bounded share, and no guessing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.desk import A, B, C, D, Desk, code_of, sent_to
from broker.test_rights import Table
from demesh.broker.codec import Code, Connack, Connect, Pingreq, Pingresp
from demesh.broker.limits import Limits, Reason
from demesh.broker.machine import Close, Pause, Resume, Transmit
from demesh.broker.origins import Origins
from demesh.ports import MILLISECOND, SECOND

# Ten packets a second, a second's worth at most and at first; two connections' worth together.
SLOW = {
    "packets_per_s_max": 10,
    "burst_ms_max": 1000,
    "burst_new_ms": 1000,
    "pause_ms": 300,
    "connections_share": 2,
}


def pauses(desk: Desk, conn: int, count: int) -> bool:
    return any(isinstance(e, Pause) for e in desk.say(conn, *[Pingreq()] * count))


# -- pace -----------------------------------------------------------------------------------------


def test_all_connections_of_an_address_say_as_much_as_a_few_single_ones() -> None:
    desk = Desk(**SLOW)
    for conn in (A, B, C):
        desk.join(conn, str(conn), origin="10.0.0.1")
    assert not pauses(desk, A, 10)
    assert not pauses(desk, B, 10)
    assert pauses(desk, C, 1), "the third has nothing left of what the three have"
    assert pauses(desk, A, 1)
    desk.join(D, "d", origin="10.0.0.2")
    assert not pauses(desk, D, 10), "another address has its own"
    resumed = [e for e in desk.wait(2 * SECOND) if isinstance(e, Resume)]
    assert sorted(e.conn for e in resumed) == [A, C]


def test_an_address_that_hangs_up_and_comes_back_has_spent_what_it_spent() -> None:
    desk = Desk(**SLOW)
    for conn in range(10):
        desk.join(conn, "a", origin="10.0.0.1")
        desk.say(conn, *[Pingreq()] * 10)
        desk.lose(conn)
    assert desk.join(99, "a", origin="10.0.0.1")[-1] == Pause(99, "a"), "before its first packet"


def test_a_user_pays_for_itself_wherever_it_comes_from() -> None:
    desk = Desk(Table({"ann": b"1", "bob": b"2"}), **SLOW)
    for conn, origin in ((A, "10.0.0.1"), (B, "10.0.0.2"), (C, "10.0.0.3")):
        desk.join(conn, str(conn), origin=origin, username="ann", password=b"1")
    desk.join(D, "d", origin="10.0.0.1", username="bob", password=b"2")
    assert not pauses(desk, A, 10)
    assert not pauses(desk, B, 10)
    assert pauses(desk, C, 1)
    assert not pauses(desk, D, 10), "who comes from the same address is another user"


def test_without_an_origin_there_is_no_common_account() -> None:
    desk = Desk(**SLOW)
    for conn in range(10):
        desk.join(conn, str(conn))
        assert not pauses(desk, conn, 10)


# -- connections ----------------------------------------------------------------------------------


def test_one_address_never_has_all_connections() -> None:
    desk = Desk(connections_max=4)
    for conn in (1, 2, 3):
        desk.join(conn, str(conn), origin="10.0.0.1")
    assert desk.open(4, "10.0.0.1") == [Close(4, Reason.CONNECTIONS_FULL)]
    assert len(sent_to(5, desk.join(5, "5", origin="10.0.0.2"))) == 1
    assert desk.open(6, "10.0.0.3") == [Close(6, Reason.CONNECTIONS_FULL)], "now all are there"
    desk.lose(1)
    assert len(sent_to(7, desk.join(7, "7", origin="10.0.0.1"))) == 1


def test_one_user_never_has_all_connections() -> None:
    desk = Desk(Table({"ann": b"1"}), connections_max=4)
    for conn in (1, 2, 3):
        desk.join(conn, str(conn), username="ann", password=b"1")
    effects = desk.join(4, "4", username="ann", password=b"1")
    assert code_of(4, effects) == Code.QUOTA
    again = sent_to(5, desk.join(5, "3", username="ann", password=b"1"))
    assert isinstance(again[-1], Connack)
    assert again[-1].code == Code.SUCCESS, "a take-over needs no further place"


def test_a_user_that_leaves_session_after_session_behind_ends_its_own() -> None:
    desk = Desk(Table({"ann": b"1", "bob": b"2"}), sessions_max=6)
    desk.join(A, "bob", username="bob", password=b"2", session_s=60)
    desk.lose(A)
    for conn in range(10, 30):
        desk.join(conn, f"ann-{conn}", username="ann", password=b"1", session_s=60)
        desk.lose(conn)
    assert desk.counters.sessions_evicted == 17
    back, *_ = sent_to(B, desk.join(B, "bob", username="bob", password=b"2", session_s=60))
    assert isinstance(back, Connack)
    assert back.session_present


def test_who_opens_sockets_and_says_nothing_makes_room_for_who_comes() -> None:
    desk = Desk(connections_max=4)
    desk.join(A, "a", origin="10.0.0.9")
    for conn in range(10, 13):
        assert desk.open(conn, "10.0.0.1") == []
    assert desk.open(13, "10.0.0.1") == [Close(10, Reason.CONNECTIONS_FULL)], "its own oldest"
    assert desk.open(B, "10.0.0.9") == [Close(11, Reason.CONNECTIONS_FULL)], "the oldest of all"
    assert desk.say(B, Connect("b")) == [Transmit(B, Connack())]
    assert desk.say(A, Pingreq()) == [Transmit(A, Pingresp())], "who has greeted stays"
    assert desk.counters.connections == 6


# -- logins ---------------------------------------------------------------------------------------


def guess(desk: Desk, conn: int, password: bytes, origin: str = "10.0.0.1") -> Code:
    effects = desk.join(conn, "x", origin=origin, username="ann", password=password)
    if isinstance(effects[-1], Close):
        return code_of(conn, effects)
    desk.lose(conn)
    return Code.SUCCESS


def test_wrong_passwords_are_looked_at_in_bounds_and_the_rest_refused_unheard() -> None:
    table = Table({"ann": b"1"})
    desk = Desk(table, failed_logins_burst=3, failed_logins_per_s_max=2)
    codes = [guess(desk, conn, b"?") for conn in range(100)]
    assert codes == [Code.BAD_LOGIN] * 3 + [Code.BUSY] * 97
    assert table.checked == 3
    assert desk.counters.closed[Reason.LOGINS_SLOWED] == 97
    assert guess(desk, 100, b"1") == Code.BUSY, "nobody can tell that it would have been right"
    assert guess(desk, 101, b"1", "10.0.0.2") == Code.SUCCESS, "others are not kept waiting"
    desk.wait(500 * MILLISECOND)
    assert guess(desk, 102, b"?") == Code.BAD_LOGIN, "two a second"
    assert guess(desk, 103, b"?") == Code.BUSY
    desk.wait(SECOND)
    assert guess(desk, 104, b"1") == Code.SUCCESS


def test_right_passwords_are_not_counted() -> None:
    table = Table({"ann": b"1"})
    desk = Desk(table, failed_logins_burst=1)
    assert {guess(desk, conn, b"1") for conn in range(50)} == {Code.SUCCESS}


def test_who_says_no_name_has_guessed_nothing() -> None:
    desk = Desk(Table({"ann": b"1"}), failed_logins_burst=1)
    for conn in range(10):
        effects = desk.join(conn, "x", origin="10.0.0.1")
        assert code_of(conn, effects) == Code.NOT_AUTHORIZED
    assert guess(desk, 10, b"1") == Code.SUCCESS


# -- the table ------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.integers(0, 3)), max_size=200))
def test_the_table_is_bounded_and_forgets_nobody_who_is_there(
    visits: list[tuple[int, bool, int]],
) -> None:
    """Triples: which address comes, whether it logs in wrongly, seconds that pass."""
    origins = Origins(Limits(connections_max=4, failed_logins_burst=3))
    now = 0
    there = [origins.enter("there", now)]
    for number, wrong, seconds in visits:
        now += seconds * SECOND
        origin = origins.enter(str(number), now)
        if wrong:
            origins.failed(origin, now)
        origins.leave(origin, now)
        assert len(origins) <= 4 * 4
        assert origins.enter("there", now) is there[0]
        origins.leave(there[0], now)
