"""Owners share their credit out among their own accounts, and get it back."""

from __future__ import annotations

import pytest

from demesh.ledger.draft import Draft
from demesh.ledger.events import Allotted
from demesh.ledger.state import Result
from ledger.book import (
    ANN,
    BEN,
    FLOOR,
    STRANGER,
    Book,
    allotting,
    certificate,
    device,
    enrolling,
    mesh,
    transfer,
)
from ledger.model import Pair

OK = (Result.OK,)
BARN = device("barn")


def with_barn() -> Book:
    """A street of rules 3 in which Ann has a barn with an account."""
    book = Book(rules=3)
    assert book.block(enrolling(certificate("barn", "ann"), 0, binding=mesh(3))) == OK
    return book


def floors(book: Book) -> list[int]:
    accounts = [book.ledger.account(id) for id in (ANN, BARN)]
    return [account.floor for account in accounts if account is not None]


def test_an_owner_gives_credit_to_its_device_and_takes_it_back() -> None:
    book = with_barn()
    op = allotting(ANN, BARN, 300_000)
    assert book.block(op) == OK
    assert book.events == (Allotted(op.id, ANN, BARN, 300_000),)
    assert floors(book) == [FLOOR + 300_000, -300_000]
    assert book.block(transfer(BARN, BEN, 100_000), allotting(ANN, BARN, -200_000)) == OK * 2
    assert floors(book) == [FLOOR + 200_000 - 100_000, -100_000]


@pytest.mark.parametrize(
    ("signer", "to", "amount", "result"),
    [
        (STRANGER, BARN, 1, Result.SIGNER),
        (BEN, BARN, 1, Result.PEER),
        (ANN, BEN, 1, Result.PEER),
        (ANN, ANN, 1, Result.PEER),
        (ANN, STRANGER, 1, Result.PEER),
        (ANN, BARN, 0, Result.AMOUNT),
        (ANN, BARN, -FLOOR + 1, Result.CREDIT),
        (ANN, BARN, -FLOOR, Result.OK),
        (ANN, BARN, -1, Result.CREDIT),
    ],
)
def test_only_an_owner_allots_what_it_has_to_its_own(
    signer: bytes, to: bytes, amount: int, result: Result
) -> None:
    assert with_barn().block(allotting(signer, to, amount)) == (result,)


def test_credit_that_is_in_use_stays_where_it_is() -> None:
    book = with_barn()
    spent = transfer(ANN, BEN, -FLOOR - 10)
    assert book.block(spent, allotting(ANN, BARN, 11)) == (Result.OK, Result.FUNDS)
    assert book.block(allotting(ANN, BARN, 10), transfer(BARN, BEN, 4)) == OK * 2
    assert book.block(allotting(ANN, BARN, -7)) == (Result.FUNDS,)
    assert book.block(allotting(ANN, BARN, -6)) == OK


def credit_is_made_of_nothing(patch: pytest.MonkeyPatch) -> None:
    original = Draft.move_floor
    patch.setattr(Draft, "move_floor", lambda self, id, by: original(self, id, min(by, 0)))


def credit_in_use_is_given_away(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Draft, "slack", lambda self, id: 2**53)


@pytest.mark.parametrize("mutant", [credit_is_made_of_nothing, credit_in_use_is_given_away])
def test_the_model_catches_a_broken_allotment(mutant, monkeypatch) -> None:
    mutant(monkeypatch)
    pair = Pair(3)
    barn = enrolling(certificate("barn", "ann"), 0, binding=mesh(3))
    give = allotting(ANN, BARN, 10)
    spend, back = transfer(BARN, BEN, 4), allotting(ANN, BARN, -10)
    with pytest.raises(AssertionError):
        pair.block([barn, give, spend, back], 1)
