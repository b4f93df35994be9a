"""Sybil credit and fee dodging: more boards for more credit, and payments past the commons.

Border: ops into the ledger. A device that is taken in starts with a floor of 0 (R-LED-28), so fifty
boards of an owner owe no more together than the owner's founding accounts. A fee is taken of
what channels pay and of nothing else: whoever pays by TRANSFER pays none. No defence is meant
there: a payment by hand carries no promise, and the ledger cannot know what it was for.
"""

from __future__ import annotations

import pytest

from demesh.ledger import membership
from demesh.ledger.state import Account, Result
from ledger.book import (
    ANN,
    BEN,
    COMMONS,
    FLOOR,
    Book,
    certificate,
    closing,
    device,
    enrolling,
    opening,
    transfer,
    voucher_frame,
)

BOARDS = 50


class SybilCredit(Book):
    """Ann has fifty more boards taken in; each pays her all that it can."""

    def run(self) -> int:
        """What ann and her boards together could still take out of the mesh, in micro-credits."""
        for number in range(BOARDS):
            joining = enrolling(certificate(f"sybil{number}", "ann"), weight=0)
            assert self.block(joining) == (Result.OK,)
        mine = [ANN, *(device(f"sybil{number}") for number in range(BOARDS))]
        accounts = [self.ledger.account(id) for id in mine]
        return sum(account.balance - account.floor for account in accounts if account is not None)


def test_fifty_boards_of_an_owner_have_no_more_credit_than_the_owner() -> None:
    assert SybilCredit().run() == -FLOOR


def test_if_boards_brought_credit_an_owner_would_have_51_times_as_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def generous(owner: bytes, kind: int, balance: int, floor: int) -> Account:
        return Account(owner, kind, balance, FLOOR)

    monkeypatch.setattr(membership, "Account", generous)
    assert SybilCredit().run() == -FLOOR * (BOARDS + 1)


class FeeDodging(Book):
    """The same amount from ann to ben, through a channel and by hand."""

    def by_channel(self, amount: int) -> int:
        channel = self.open(opening(ANN, BEN, escrow=amount))
        self.block(closing(BEN, channel, voucher_frame(ANN, channel, amount)))
        return self.balance(COMMONS)

    def by_hand(self, amount: int) -> int:
        self.block(transfer(ANN, BEN, amount))
        return self.balance(COMMONS)


def test_a_payment_by_hand_carries_no_fee_and_one_through_a_channel_does() -> None:
    assert FeeDodging().by_channel(100_000) == 1_000
    assert FeeDodging().by_hand(100_000) == 0


def test_a_channel_pays_its_fee_however_it_is_cut() -> None:
    attack = FeeDodging()
    for nonce in range(99):  # 99 channels for one micro-credit each: floor of a hundredth is 0
        channel = attack.open(opening(ANN, BEN, escrow=1, nonce=nonce))
        attack.block(closing(BEN, channel, voucher_frame(ANN, channel, 1)))
    assert attack.balance(COMMONS) == 0
    assert attack.balance(BEN) == 99, "dodged: less than one micro-credit a channel, for two ops"
