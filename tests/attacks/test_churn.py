"""Open and close churn, and escrow griefing: channels that are opened to bind and to cost others.

Border: ops into the ledger. A payer has 256 channels at once (R-LED-11), each takes its own escrow,
and a payee binds nothing of its own by being named. A payee that never closes binds its payer's
escrow until a window after the payer's close (R-LED-14), and nobody can bind it beyond expiry and
window (R-LED-15). A block settles 256 channels at most (R-LED-19), as many as it can open.
"""

from __future__ import annotations

import pytest

from demesh.ledger import channels
from demesh.ledger.state import Result
from ledger.book import ANN, BEN, DAY_S, HOUR_S, START_S, Book, closing, opening


class Churn(Book):
    """One payer opens as many channels to one payee as it can, all for one micro-credit."""

    def run(self, count: int) -> list[Result]:
        ops = [opening(ANN, BEN, escrow=1, nonce=n) for n in range(count)]
        return [*self.block(*ops[: count // 2]), *self.block(*ops[count // 2 :])]


class EscrowGriefing(Book):
    """A payee that takes a channel and never does anything again."""

    def bound_s(self, payer_closes: bool) -> int:
        """For how long the payer's escrow is bound, if the payer closes or sleeps as well."""
        channel = self.open(opening(ANN, BEN, escrow=500_000, expiry_s=START_S + DAY_S))
        since_s = self.time_s
        if payer_closes:
            assert self.block(closing(ANN, channel)) == (Result.OK,)
        settles_s = self.ledger.settlement_s()
        assert settles_s is not None
        self.block(after_s=settles_s - self.time_s - 1)
        assert self.balance(ANN) == -500_000
        self.block()
        assert self.balance(ANN) == 0, "all of it comes back"
        return self.time_s - since_s


def test_a_payer_has_256_channels_and_what_it_opens_is_gone_when_they_are() -> None:
    attack = Churn()
    before = len(attack.ledger.records())
    results = attack.run(300)
    assert results == [Result.OK] * 256 + [Result.CHANNELS] * 44
    assert attack.balance(ANN) == -256, "the attacker's own money"
    assert attack.balance(BEN) == 0
    attack.block(after_s=DAY_S + HOUR_S)
    attack.block()
    attack.block()
    assert len(attack.ledger.channels()) == 0 and attack.balance(ANN) == 0
    assert len(attack.ledger.records()) <= before + 1, "nothing is left of it a day later"


def test_without_the_bound_a_payer_opens_what_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CHANNELS_MAX", 10**9)
    assert Churn().run(300) == [Result.OK] * 300


def test_a_payee_that_never_closes_binds_its_payers_escrow_for_a_window_after_the_close() -> None:
    assert EscrowGriefing().bound_s(payer_closes=True) == HOUR_S + 1


def test_and_if_the_payer_sleeps_too_until_expiry_and_window() -> None:
    assert EscrowGriefing().bound_s(payer_closes=False) == DAY_S + HOUR_S - 1
