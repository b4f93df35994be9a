"""Two friends guarantee for each other in a circle, again and again, with the same money."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demesh.ledger.ops import SignedOp
from demesh.ledger.state import Account, Result
from ledger.book import (
    ANN,
    BEN,
    CEM,
    COMMONS,
    DORA,
    FLOOR,
    Book,
    calling,
    guaranteeing,
    releasing,
    transfer,
)

CIRCLE = (ANN, BEN)
OWN = 1_000
"""What came into the circle from outside; beside it both have their own credit."""

steps = st.tuples(
    st.sampled_from([guaranteeing, releasing, calling, transfer]),
    st.permutations([*CIRCLE, CEM]),
    st.integers(1, 3_000) | st.just(-FLOOR),
)


def circle() -> Book:
    book = Book(rules=3)
    assert book.block(transfer(DORA, ANN, OWN)) == (Result.OK,)
    return book


def got_out(book: Book) -> int:
    """What those outside have, who brought nothing of their own."""
    balances = [book.ledger.account(id) for id in (CEM, COMMONS)]
    return sum(one.balance for one in balances if one is not None)


def pump(book: Book, rounds: int) -> None:
    """Guarantee, borrow on it, pay it back to the guarantor, guarantee with that, and so on."""
    amount = OWN
    for nonce in range(rounds):
        assert book.block(guaranteeing(ANN, BEN, amount, nonce=nonce)) == (Result.OK,)
        assert book.block(transfer(BEN, ANN, amount, nonce=nonce)) == (Result.OK,)


def test_a_pump_lets_out_no_more_than_came_in() -> None:
    book = circle()
    pump(book, 20)
    ann = book.ledger.account(ANN)
    assert ann is not None
    assert ann.balance == 21 * OWN, "the circle looks rich"
    assert ann.room == OWN
    assert book.block(transfer(ANN, CEM, OWN + 1)) == (Result.FUNDS,)
    assert book.block(transfer(ANN, CEM, OWN), transfer(BEN, CEM, -FLOOR)) == (Result.OK,) * 2
    assert book.block(transfer(BEN, CEM, 1)) == (Result.FUNDS,)
    assert book.ledger.total() == 0


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=25))
def test_whatever_a_circle_does_among_itself_it_spends_its_own(
    told: list[tuple[object, list[bytes], int]],
) -> None:
    """Its own: what came in, and the credit of both; whoever is outside keeps out of it."""
    book = circle()
    ops: list[SignedOp] = []
    for nonce, (how, (who, other, _), amount) in enumerate(told):
        if who in CIRCLE:
            ops.append(how(who, other, amount, nonce=nonce))  # type: ignore[operator]
    for op in ops:
        book.block(op)
        assert got_out(book) <= OWN - 2 * FLOOR


def test_a_ledger_that_does_not_lock_is_pumped_dry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "room", property(lambda self: self.balance - self.floor))
    book = circle()
    pump(book, 20)
    assert book.block(transfer(ANN, CEM, 20 * OWN)) == (Result.OK,)
