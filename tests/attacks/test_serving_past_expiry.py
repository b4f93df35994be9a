"""Serving past expiry: the payer cuts its provider off the ledger and closes behind its back.

Border: messages into metering. The attacker takes energy on vouchers that no ledger takes any more.
Stopped by R-MET-31 and R-MET-32; what is lost is lag + L if the provider is back within its window.
"""

from __future__ import annotations

import pytest

from demesh.metering.tariff import cost
from demesh.metering.term import Term
from demesh.ports import SECOND
from demesh.wire.opbodies import Close
from metering.world import PAYER, PROVIDER, SAMPLE, World, agreement, offer

AWAY_S = 3_590


class ServingPastExpiry(World):
    """`lost` is what the provider served and is not paid for, in micro-credits."""

    def __init__(self) -> None:
        terms = offer(units_max=10**9, lag=4_000, lead=4_000, quantum_ms=10_000)
        super().__init__(agreement(terms, duration_s=7_200), step_max=1)

    def go_on(self, seconds: int, units: int = 1) -> None:
        for _ in range(seconds):
            self.pass_time(SECOND, (units, units))
            while self.network:
                self.deliver(0)
            while self.ops:
                self.decide()

    def run(self, away_s: int) -> int:
        self.start()
        self.pass_time(SAMPLE, (0, 0))
        self.go_on(10)
        self.cut = {
            PROVIDER: self.now,
            PAYER: self.now,
        }  # the payer only plays that it does not know
        (channel,) = self.channels.values()
        self._close(PAYER, Close(channel.fact.channel, b""))
        self.go_on(away_s)
        self.join(PROVIDER)
        self.go_on(5)
        assert channel.paid is not None
        return cost(self.terms.offer.tariff, self.units(PROVIDER)) - channel.paid


def test_a_provider_that_is_back_within_its_window_loses_lag_and_l_at_most() -> None:
    attack = ServingPastExpiry()
    assert attack.run(AWAY_S) <= 2 * attack.terms.offer.lag


def test_one_that_stays_away_for_longer_loses_what_it_served_in_that_window_at_most() -> None:
    """No defence is meant beyond: whoever serves without the ledger stakes this."""
    attack = ServingPastExpiry()
    lost = attack.run(7_000)
    served_s = 3_540
    assert 0 < lost <= 10 * served_s + 10 * 60


def test_without_the_defence_it_loses_all_that_it_serves_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        Term, "over", lambda self, now: self._clock.time_s(now) + 60 >= self.expiry_s
    )
    monkeypatch.setattr(Term, "ends", lambda self: self._clock.reaches(self.expiry_s - 60))
    attack = ServingPastExpiry()
    assert attack.run(7_000) > 10 * 6_900
