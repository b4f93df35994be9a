"""What others may cost: of places and signers, divided among members, by the clock of the test."""

from __future__ import annotations

from typing import Any

import pytest

from demesh.ports import MILLISECOND, SECOND
from demesh.wire.budget import CREDIT_PERCENT, LANES_PERCENT, RESERVE_PERCENT, Budgets
from demesh.wire.kinds import Kind, Reject
from demesh.wire.readings import Voucher
from demesh.wire.schema import encode
from vectors.make import ALICE, BINDING, BOB, flipped, kid_of, signal, statement
from vectors.make import KID as ALICE_ID

BOB_ID = kid_of(BOB)
VERIFY_NS = 100_000
PER_S = SECOND // VERIFY_NS


def validator(mode: Any) -> Any:
    one = mode.Validator(BINDING)
    for key in (ALICE, BOB):
        one.enrol(kid_of(key), bytes(key.verify_key))
    return one


@pytest.fixture(autouse=True)
def allowances_of_the_mode(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets hand out those of the validator that was chosen at import."""
    monkeypatch.setattr("demesh.wire.budget.Allowance", mode.Allowance)


def voucher(cum: int) -> bytes:
    return statement(Kind.VOUCHER, encode(Voucher(bytes(16), 0, cum)))


def forged(count: int) -> list[bytes]:
    return [flipped(voucher(n), -1) for n in range(count)]


def test_without_an_allowance_nothing_is_counted(mode: Any) -> None:
    one = validator(mode)
    assert one.check_batch(forged(5)) == [Reject.SIGNATURE] * 5
    assert not isinstance(one.check(voucher(1)), Reject)


def test_signatures_that_fail_are_paid_for_and_those_that_hold_are_not(mode: Any) -> None:
    one, lane = validator(mode), mode.Allowance(3, 0)
    one.replenish(10, 10)
    assert not any(isinstance(v, Reject) for v in one.check_batch([voucher(1), voucher(2)], lane))
    assert one.check_batch(forged(4), lane) == [Reject.SIGNATURE] * 3 + [Reject.BUDGET]
    assert one.check(voucher(3), lane) is Reject.BUDGET
    assert one.check(voucher(3)) and lane.failures == 0


def test_a_statement_said_again_is_paid_for_from_another_purse(mode: Any) -> None:
    one, lane = validator(mode), mode.Allowance(1, 2)
    one.replenish(10, 10)
    verdicts = one.check_batch([voucher(1)] * 4, lane)
    assert [isinstance(v, Reject) for v in verdicts] == [False, False, False, True]
    assert verdicts[3] is Reject.BUDGET and lane.failures == 1


def test_a_replayed_signal_costs_nothing(mode: Any) -> None:
    one, lane = validator(mode), mode.Allowance(0, 0)
    ack = signal(Kind.ACK, encode(Voucher(bytes(16), 0, 1)), 5, 1)
    one.check(ack)
    assert one.check(ack, lane) is Reject.REPLAY


def test_a_signer_pays_for_what_is_new_wherever_it_comes_from(mode: Any) -> None:
    one = validator(mode)
    one.replenish(2, 2)
    lanes = [mode.Allowance(9, 9) for _ in range(3)]
    verdicts = [one.check(voucher(n), lane) for n, lane in enumerate(lanes)]
    assert [v is Reject.BUDGET for v in verdicts] == [False, False, True]
    bobs = mode.Allowance(1, 0)
    assert one.check(flipped(voucher(9), -1), bobs) is Reject.BUDGET  # not even looked at
    one.replenish(1, 2)
    assert one.check(voucher(2), lanes[2]) is not Reject.BUDGET


def test_what_anybody_can_say_again_does_not_use_up_what_nobody_can(mode: Any) -> None:
    one, lane = validator(mode), mode.Allowance(9, 9)
    one.replenish(1, 1)
    one.check(voucher(1), lane)
    assert one.check(voucher(2), lane) is Reject.BUDGET
    acks = [signal(Kind.ACK, encode(Voucher(bytes(16), 0, 1)), 5, seq) for seq in (1, 2)]
    verdicts = [one.check(ack, lane) for ack in acks]
    assert [v is Reject.BUDGET for v in verdicts] == [False, True]


def test_who_joins_later_has_as_much_as_the_others(mode: Any) -> None:
    one = mode.Validator(BINDING)
    one.replenish(1, 1)
    one.enrol(ALICE_ID, bytes(ALICE.verify_key))
    lane = mode.Allowance(9, 9)
    assert one.check(voucher(1), lane) is not Reject.BUDGET
    assert one.check(voucher(2), lane) is Reject.BUDGET


def test_a_reserve_pays_for_every_signature_and_not_from_the_signers_purse(mode: Any) -> None:
    one, reserve = validator(mode), mode.Allowance(2, 0, True)
    one.charge(ALICE_ID, 100)
    verdicts = [one.check(voucher(n), reserve) for n in range(3)]
    assert [v is Reject.BUDGET for v in verdicts] == [False, False, True]


def test_a_peek_is_all_checks_before_the_budget_and_moves_nothing(mode: Any) -> None:
    one = validator(mode)
    ack = signal(Kind.ACK, encode(Voucher(bytes(16), 0, 1)), 5, 1)
    assert one.peek(b"") is Reject.SIZE and one.peek(b"x") is Reject.SHAPE
    for _ in range(2):
        assert one.peek(flipped(ack, -1)) == one.peek(ack) or one.peek(ack).sender == ALICE_ID
    assert one.window(ALICE_ID) is None
    one.check(ack)
    assert one.peek(ack) is Reject.REPLAY


@pytest.mark.parametrize("members", [4, 40, 1000])
def test_all_places_together_stay_within_their_share(members: int, mode: Any) -> None:
    budgets = Budgets(validator(mode), VERIFY_NS, 0)
    budgets.share(members)
    rate = budgets.lane(0, "vote", ALICE_ID, 0).allowance.failures // 2
    assert rate * members <= max(PER_S * LANES_PERCENT // 100, 20 * members)


def test_the_reserve_is_divided_among_those_who_are_flooded_just_now(mode: Any) -> None:
    budgets = Budgets(validator(mode), VERIFY_NS, 0)
    budgets.share(4)
    voters = [bytes([n]) * 16 for n in range(4)]
    whole = budgets.reserve(0, voters[0], 0).failures
    assert whole == PER_S * RESERVE_PERCENT // 100
    for voter in voters:
        budgets.reserve(0, voter, SECOND)
    budgets.lane(0, "vote", ALICE_ID, SECOND)
    assert [budgets.reserve(0, voter, SECOND).failures for voter in voters] == [whole // 4] * 4
    later = 2 * SECOND
    budgets.reserve(0, voters[0], later)
    budgets.lane(0, "vote", ALICE_ID, later)
    budgets.lane(0, "vote", ALICE_ID, later + SECOND // 2)
    assert budgets.reserve(0, voters[0], later + SECOND).failures > whole // 2


def test_a_place_gets_back_its_rate_and_not_more_than_it_may_save(mode: Any) -> None:
    budgets = Budgets(validator(mode), VERIFY_NS, 0)
    budgets.share(4)
    lane = budgets.lane(0, "vote", ALICE_ID, 0).allowance
    full = lane.failures
    lane.failures = lane.repeats = 0
    for tick in range(1, 1001):
        budgets.lane(0, "vote", ALICE_ID, tick * MILLISECOND)
    assert lane.failures == lane.repeats == full // 2
    assert budgets.lane(0, "vote", ALICE_ID, 3600 * SECOND).allowance.failures == full


def test_topics_and_brokers_have_places_of_their_own(mode: Any) -> None:
    budgets = Budgets(validator(mode), VERIFY_NS, 0)
    budgets.share(4)
    flooded = budgets.lane(0, "vote", ALICE_ID, 0).allowance
    flooded.failures = 0
    for other in ((1, "vote", ALICE_ID), (0, "op", ALICE_ID), (0, "vote", BOB_ID)):
        assert budgets.lane(*other, 0).allowance.failures > 0
    assert budgets.lane(0, "vote", ALICE_ID, 0).allowance is flooded


def test_a_signers_credit_comes_back_with_time(mode: Any) -> None:
    one = validator(mode)
    budgets = Budgets(one, VERIFY_NS, 0)
    budgets.share(4)
    rate = PER_S * CREDIT_PERCENT // 400
    one.charge(ALICE_ID, rate)
    lane = budgets.lane(0, "to", ALICE_ID, 0).allowance
    assert one.check(voucher(1), lane) is Reject.BUDGET
    budgets.lane(0, "to", ALICE_ID, SECOND)
    assert not isinstance(one.check(voucher(1), lane), Reject)


def test_no_rate_falls_short_by_how_often_it_is_asked_for(mode: Any) -> None:
    one = validator(mode)
    budgets = Budgets(one, VERIFY_NS, 0)
    budgets.share(10_000)
    one.charge(ALICE_ID, 10_020)
    heard = 0
    for at in range(149, 600_000, 149):
        lane = budgets.lane(0, "op", ALICE_ID, at * MILLISECOND).allowance
        heard += one.check(voucher(at), lane) is not Reject.BUDGET
    assert heard > 0, "20 a second are 12,000 in ten minutes"
