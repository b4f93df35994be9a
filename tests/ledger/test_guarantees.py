"""Guarantees: who answers for whom, with what, and what that can never make of nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from demesh.ledger import guarantees
from demesh.ledger.draft import Draft
from demesh.ledger.events import Guaranteed, Moved
from demesh.ledger.ops import SignedOp
from demesh.ledger.state import Account, Result
from ledger.book import (
    ANN,
    BEN,
    CEM,
    DORA,
    FLOOR,
    STRANGER,
    Book,
    allotting,
    calling,
    certificate,
    device,
    enrolling,
    guaranteeing,
    mesh,
    opening,
    releasing,
    transfer,
)
from ledger.model import Pair

OK = (Result.OK,)


def street() -> Book:
    """Ann has 1,000 of her own, lent by Dora."""
    book = Book(rules=3)
    assert book.block(transfer(DORA, ANN, 1_000)) == OK
    return book


def account(book: Book, id: bytes) -> Account:
    found = book.ledger.account(id)
    assert found is not None
    return found


def test_what_is_guaranteed_is_credit_there_and_locked_here() -> None:
    book = street()
    op = guaranteeing(ANN, BEN, 600)
    assert book.block(op) == OK
    assert book.events == (Guaranteed(op.id, ANN, BEN, 600, Moved.GIVEN),)
    assert (account(book, ANN).locked, account(book, ANN).room) == (600, 400)
    assert (account(book, BEN).backed, account(book, BEN).room) == (600, 600 - FLOOR)
    assert book.block(transfer(BEN, CEM, 600 - FLOOR)) == OK
    assert book.ledger.credit == 4 * -FLOOR + 600


@pytest.mark.parametrize(
    ("op", "result"),
    [
        (guaranteeing(STRANGER, BEN, 1), Result.SIGNER),
        (guaranteeing(ANN, STRANGER, 1), Result.PEER),
        (guaranteeing(ANN, ANN, 1), Result.PEER),
        (guaranteeing(ANN, BEN, 0), Result.AMOUNT),
        (guaranteeing(ANN, BEN, 1_001), Result.BACKING),
        (guaranteeing(ANN, BEN, 1_000), Result.OK),
        (guaranteeing(BEN, ANN, 1), Result.BACKING),
        (releasing(STRANGER, BEN, 1), Result.SIGNER),
        (releasing(ANN, CEM, 0), Result.AMOUNT),
        (releasing(ANN, BEN, 1), Result.GUARANTEE),
        (releasing(ANN, CEM, 301), Result.GUARANTEE),
        (releasing(BEN, CEM, 1), Result.GUARANTEE),
        (releasing(ANN, CEM, 300), Result.OK),
        (calling(STRANGER, BEN, 1), Result.SIGNER),
        (calling(ANN, CEM, 0), Result.AMOUNT),
        (calling(ANN, CEM, 301), Result.GUARANTEE),
        (calling(ANN, BEN, 1), Result.GUARANTEE),
        (calling(ANN, CEM, 1), Result.DEBT),
    ],
)
def test_of_guarantees_only(op: SignedOp, result: Result) -> None:
    book = street()
    if not isinstance(op.body, type(guaranteeing(ANN, BEN, 1).body)):
        assert book.block(guaranteeing(ANN, CEM, 300, nonce=7)) == OK
    before = book.ledger.accounts()
    assert book.block(op) == (result,)
    assert (book.ledger.accounts() == before) == (result is not Result.OK)


def test_credit_in_use_is_not_released_but_may_be_paid() -> None:
    book = street()
    owes = transfer(BEN, CEM, 300 - FLOOR)
    assert book.block(guaranteeing(ANN, BEN, 500), owes) == OK * 2
    assert book.block(releasing(ANN, BEN, 201)) == (Result.FUNDS,)
    assert book.block(releasing(ANN, BEN, 200), calling(ANN, BEN, 300)) == OK * 2
    assert account(book, ANN).balance == 700
    assert account(book, ANN).locked == account(book, BEN).backed == 0
    assert (account(book, BEN).balance, account(book, BEN).floor) == (FLOOR, FLOOR)
    assert book.ledger.total() == 0


@pytest.mark.parametrize(
    "spend",
    [
        transfer(ANN, CEM, 401),
        opening(ANN, CEM, 401),
        guaranteeing(ANN, CEM, 401),
    ],
)
def test_what_is_locked_is_spent_in_no_way_and_credit_is_no_way_around(spend: SignedOp) -> None:
    book = street()
    assert book.block(guaranteeing(ANN, BEN, 600)) == OK
    assert book.block(spend)[0] in (Result.FUNDS, Result.BACKING)
    assert book.block(transfer(ANN, CEM, 400)) == OK


def test_credit_that_another_one_backs_is_not_an_owner_s_to_share_out() -> None:
    book = street()
    assert book.block(enrolling(certificate("shed", "ben"), 0, binding=mesh(3))) == OK
    assert book.block(guaranteeing(ANN, BEN, 5)) == OK
    shed = device("shed")
    assert book.block(allotting(BEN, shed, 1 - FLOOR)) == (Result.CREDIT,)
    assert book.block(allotting(BEN, shed, -FLOOR), releasing(ANN, BEN, 5)) == OK * 2


def test_a_giver_answers_for_so_many_and_for_those_as_often_as_it_likes() -> None:
    book = street()
    names = [f"hut {n}" for n in range(guarantees.GUARANTEES_MAX + 1)]
    for name in names:
        assert book.block(enrolling(certificate(name, "ben"), 0, binding=mesh(3))) == OK
    ops = [guaranteeing(ANN, device(name), 1) for name in names]
    assert book.block(*ops) == OK * guarantees.GUARANTEES_MAX + (Result.GUARANTEES,)
    assert book.block(guaranteeing(ANN, device(names[0]), 2)) == OK
    assert book.block(releasing(ANN, device(names[1]), 1)) == OK
    assert book.block(guaranteeing(ANN, device(names[-1]), 1, nonce=1)) == OK


# -- broken ledgers -------------------------------------------------------------------------------


def story() -> None:
    """Guarantees in every direction, as the model sees them."""
    pair = Pair(3)
    pair.block([transfer(DORA, ANN, 1_000), guaranteeing(ANN, BEN, 600)], 1)
    pair.block([transfer(ANN, CEM, 500), guaranteeing(ANN, CEM, 500), guaranteeing(BEN, CEM, 1)], 1)
    pair.block([transfer(BEN, CEM, 300 - FLOOR), releasing(ANN, BEN, 400)], 1)
    pair.block([calling(ANN, BEN, 300), calling(ANN, BEN, 300, nonce=1)], 1)


def test_the_model_answers_for_guarantees_as_the_ledger_does() -> None:
    story()


def locked_money_is_spent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Account, "room", property(lambda self: self.balance - self.floor))


def credit_in_use_is_released(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Draft, "slack", lambda self, id: 2**53)


def a_call_costs_nothing(patch: pytest.MonkeyPatch) -> None:
    original = Draft.post
    patch.setattr(Draft, "post", lambda self, id, by: original(self, id, max(by, 0)))


def a_guarantee_takes_nothing(patch: pytest.MonkeyPatch) -> None:
    original = Draft.move_guarantee

    def free(self: Draft, giver: bytes, taker: bytes, amount: int) -> None:
        original(self, giver, taker, amount)
        if amount > 0:
            here = self.account(giver)
            assert here is not None
            self._put(b"a" + giver, Account(here.owner, here.kind, here.balance, here.floor))

    patch.setattr(Draft, "move_guarantee", free)


@pytest.mark.parametrize(
    "mutant",
    [
        locked_money_is_spent,
        credit_in_use_is_released,
        a_call_costs_nothing,
        a_guarantee_takes_nothing,
    ],
)
def test_the_model_catches_broken_guarantees(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        story()
