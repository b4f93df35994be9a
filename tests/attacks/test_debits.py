"""Debits without a signature: anybody asks the ledger for anything, in others' names too.

Border: ops into the ledger. Whatever is drawn, no account with its escrows loses more than it
signed away itself, in a TRANSFER or in vouchers of channels that it opened. Forged vouchers, for
any channel and by any key but its payer's, gain their submitters nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demesh.ledger.ops import SignedOp
from demesh.ledger.payout import held
from demesh.ledger.state import Result
from demesh.wire.opbodies import Transfer
from demesh.wire.readings import Voucher
from ledger.book import (
    ANN,
    BEN,
    CEM,
    DAY_S,
    DORA,
    HOUR_S,
    Book,
    claiming,
    closing,
    open_voucher,
    opening,
    transfer,
    voucher_frame,
)

PEOPLE = (ANN, BEN, CEM, DORA)
STEPS = 40

Opener = Callable[[bytes], tuple[bytes, Voucher] | None]


class Thieves(Book):
    """Four accounts, each of which tries what it likes; `check` finds a debit nobody signed."""

    def __init__(self, seed: int, opener: Opener | None = None) -> None:
        super().__init__()
        self.draw = random.Random(seed)
        self.opener = opener or open_voucher
        self.payers: dict[bytes, bytes] = {}
        self.promised: dict[bytes, int] = {}  # by channel, in vouchers of its payer
        self.made: dict[bytes, tuple[bytes, Voucher]] = {}
        self.settled = 0

    def run(self, steps: int = STEPS) -> None:
        for nonce in range(steps):
            self.step(self.asked(nonce))

    def asked(self, nonce: int) -> SignedOp:
        """An op by anybody, for anything."""
        who, other = self.draw.choice(PEOPLE), self.draw.choice(PEOPLE)
        amount = self.draw.choice((1, 1_000, 400_000, 900_000))
        until = {"nonce": nonce, "valid_until_s": self.time_s + HOUR_S}
        kind = self.draw.choice(("transfer", "open", "claim", "close", "close"))
        if kind == "transfer":
            return transfer(who, other, amount, **until)
        if kind == "open" or not self.payers:
            return opening(who, other, amount, self.time_s + DAY_S, **until)
        channel = self.draw.choice(sorted(self.payers))
        frame = self.voucher(channel, amount)
        if kind == "claim":
            return claiming(who, frame, **until)
        return closing(who, channel, frame if self.draw.random() < 0.5 else b"", **until)

    def voucher(self, channel: bytes, amount: int) -> bytes:
        """Of anybody's key; only if it is the payer's own it is a promise."""
        payer, signer = self.payers[channel], self.draw.choice(PEOPLE)
        frame = voucher_frame(signer, channel, amount)
        if signer == payer:
            self.promised[channel] = max(self.promised.get(channel, 0), amount)
        self.made[frame] = payer, Voucher(channel, 0, amount)
        return frame

    def step(self, op: SignedOp) -> None:
        before = {who: self.wealth(who) for who in PEOPLE}
        open_before = dict(self.ledger.channels())
        self.time_s += self.draw.choice((1, 60, 2 * HOUR_S))
        applied = self.ledger.apply((op,), self.time_s, self.opener)
        self.ledger = applied.ledger
        if applied.results == (Result.OK,) and self.ledger.channel(op.id[:16]):
            self.payers[op.id[:16]] = op.signer
        allowed = dict.fromkeys(PEOPLE, 0)
        if isinstance(op.body, Transfer):
            allowed[op.signer] += op.body.amount
        for channel in open_before.keys() - dict(self.ledger.channels()).keys():
            allowed[self.payers[channel]] += self.promised.get(channel, 0)
            self.settled += 1
        for who in PEOPLE:
            lost = before[who] - self.wealth(who)
            assert lost <= allowed[who], f"lost {lost}, signed {allowed[who]}"
        assert self.ledger.total() == 0

    def wealth(self, who: bytes) -> int:
        escrows = sum(held(one) for _, one in self.ledger.channels() if one.payer == who)
        return self.balance(who) + escrows


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_nobody_loses_what_it_has_not_signed_away(seed: int) -> None:
    Thieves(seed).run()


def test_channels_do_settle_and_promises_do_count_in_what_is_drawn() -> None:
    thieves = [Thieves(seed) for seed in range(20)]
    for one in thieves:
        one.run()
    assert sum(one.settled for one in thieves) > 20
    assert any(one.promised for one in thieves)


def test_a_ledger_that_believed_any_voucher_would_be_caught() -> None:
    with pytest.raises(AssertionError, match="signed"):
        for seed in range(50):
            blind = Thieves(seed)
            blind.opener = blind.made.get
            blind.run()
