"""Vouchers with a chain: what each link is worth, and every link that is worth nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.ledger import channels
from demesh.ledger.ops import SignedOp
from demesh.ledger.state import Result
from demesh.wire import payword
from demesh.wire.kinds import Kind
from demesh.wire.readings import Voucher
from demesh.wire.schema import encode
from ledger.book import (
    ANN,
    BEN,
    CEM,
    Book,
    chain,
    chained_frame,
    claiming,
    closing,
    opening,
    settling,
    statement,
    voucher_frame,
)
from ledger.model import Pair


def street() -> tuple[Book, bytes]:
    book = Book(rules=3)
    return book, book.open(opening(ANN, BEN))


def total(book: Book, id: bytes) -> int:
    channel = book.ledger.channel(id)
    assert channel is not None
    return channel.claimed


def test_each_link_is_worth_a_step_and_the_last_one_shown_counts() -> None:
    book, id = street()
    links = chain(id, 100)
    frame = chained_frame(ANN, id, 1_000, 7, links)
    for count in (1, 40, 100):
        assert book.block(claiming(CEM, frame, count, links[count])) == (Result.OK,)
        assert total(book, id) == 1_000 + 7 * count
    assert book.block(claiming(CEM, frame, 99, links[99])) == (Result.NOTHING,)
    assert book.block(claiming(CEM, frame)) == (Result.NOTHING,)


def test_a_chain_that_nobody_touched_is_worth_its_voucher() -> None:
    book, id = street()
    assert book.block(claiming(BEN, chained_frame(ANN, id, 30, 7, chain(id, 9)))) == (Result.OK,)
    assert total(book, id) == 30


@pytest.mark.parametrize("how", [closing, settling])
def test_a_link_rides_along_with_its_voucher(how: Callable[..., SignedOp]) -> None:
    book, id = street()
    links = chain(id, 9)
    before = book.balance(BEN)
    frame = chained_frame(ANN, id, 1_000, 200, links)
    assert book.block(how(BEN, id, frame, 5, links[5])) == (Result.OK,)
    assert book.balance(BEN) - before == 1_980  # less the commons' 1 %


@pytest.mark.parametrize("how", [closing, settling])
def test_a_link_without_a_voucher_is_none(how: Callable[..., SignedOp]) -> None:
    book, id = street()
    assert book.block(how(BEN, id, b"", 1, chain(id, 9)[1])) == (Result.LINK,)


def wrong_links(id: bytes) -> dict[str, tuple[int, bytes]]:
    links = chain(id, 9)
    return {
        "jumps": (6, links[5]),
        "falls behind": (4, links[5]),
        "is of another lane": (5, chain(id, 9, lane=1)[5]),
        "is of another channel": (5, chain(bytes(16), 9)[5]),
        "is of another chain": (5, chain(id, 9, name="of before the restart")[5]),
        "is longer than the chain": (10, hashlib.blake2b(b"x", digest_size=16).digest()),
        "is short": (5, links[5][:-1]),
        "has no count": (0, links[5]),
        "is not there": (5, b""),
        "is the root": (1, links[0]),
    }


@pytest.mark.parametrize("wrong", wrong_links(bytes(16)))
def test_a_link_is_worth_nothing_that(wrong: str) -> None:
    book, id = street()
    count, link = wrong_links(id)[wrong]
    frame = chained_frame(ANN, id, 1_000, 7, chain(id, 9))
    assert book.block(claiming(BEN, frame, count, link)) == (Result.LINK,)
    assert total(book, id) == 0


def test_a_link_needs_a_chain() -> None:
    book, id = street()
    frame = voucher_frame(ANN, id, 1_000)
    assert book.block(claiming(BEN, frame, 1, chain(id, 9)[1])) == (Result.LINK,)


@pytest.mark.parametrize(
    ("step", "count_max", "root"),
    [
        (1, 1, bytes(15)),
        (0, 1, bytes(16)),
        (1, 0, bytes(16)),
        (1, 0, b""),
        (0, 1, b""),
        (2**52, 2, bytes(16)),
    ],
)
def test_a_voucher_with_half_a_chain_or_a_worth_that_is_no_amount_is_none(
    step: int, count_max: int, root: bytes
) -> None:
    book, id = street()
    payload = encode(Voucher(id, 0, 1_000, step, count_max, root))
    frame = statement(Kind.VOUCHER, ANN, payload)
    assert book.block(claiming(BEN, frame)) == (Result.VOUCHER,)


def test_a_block_checks_so_many_links_and_the_rest_come_in_the_next() -> None:
    book, id = street()
    links = chain(id, 100)
    frame = chained_frame(ANN, id, 0, 1, links)
    claims = [claiming(CEM, frame, count, links[count]) for count in range(1, 67)]
    said = book.block(*claims)
    assert said == (Result.OK,) * channels.WALKS_MAX + (Result.CROWDED,) * 2
    assert book.block(*claims[-2:]) == (Result.OK, Result.OK)


@given(st.binary(min_size=16, max_size=16), st.integers(0, 50), st.integers(0, 50))
def test_two_parts_of_a_way_are_the_way(link: bytes, first: int, then: int) -> None:
    half = payword.root_of(link, first, bytes(16), 3)
    assert payword.root_of(half, then, bytes(16), 3) == payword.root_of(
        link, first + then, bytes(16), 3
    )


# -- broken ledgers -------------------------------------------------------------------------------


def story() -> None:
    """Good and bad links, as the model sees them."""
    pair = Pair(3)
    op = opening(ANN, BEN)
    pair.block([op], 1)
    id, links = op.id[:16], chain(op.id[:16], 9)
    frame = chained_frame(ANN, id, 1_000, 7, links)
    for nonce, (count, link) in enumerate([*wrong_links(id).values(), (5, links[5])]):
        pair.block([claiming(CEM, frame, count, link, nonce=nonce)], 1)
    pair.block([closing(BEN, id)], 1)


def test_the_model_prices_links_as_the_ledger_does() -> None:
    story()


def a_link_proves_any_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(payword, "fits", lambda voucher, count, link: True)


def a_chain_may_be_walked_on(patch: pytest.MonkeyPatch) -> None:
    def fits(voucher: Voucher, count: int, link: bytes) -> bool:
        here = (link, voucher.channel, voucher.lane)
        return any(payword.root_of(here[0], n, *here[1:]) == voucher.root for n in range(10))

    patch.setattr(payword, "fits", fits)


@pytest.mark.parametrize("mutant", [a_link_proves_any_count, a_chain_may_be_walked_on])
def test_a_ledger_that_takes_wrong_links_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        story()
