"""Lane overrun: a payer promises its whole escrow on every lane of a channel.

Border: ops into the ledger, and vouchers into metering. A payee that believed all 64 promises would
serve 64 escrows for one. The ledger pays the escrow once (R-LED-13), and a provider takes only lane
0 and nothing above the escrow (R-MET-13). The attacker pays its escrow, the victim loses nothing.
"""

from __future__ import annotations

import pytest

from demesh.ledger.channels import LANES_MAX
from demesh.ledger.state import Channel, Result
from ledger.book import ANN, BEN, Book, claiming, closing, opening, voucher_frame
from metering.test_provider import Talk

ESCROW = 100_000


class LaneOverrun(Book):
    """Claims of the whole escrow on all lanes; what the payer lost and the payee got."""

    def run(self) -> tuple[int, int]:
        channel = self.open(opening(ANN, BEN, escrow=ESCROW))
        frames = [voucher_frame(ANN, channel, ESCROW, lane) for lane in range(LANES_MAX)]
        results = self.block(*(claiming(BEN, frame) for frame in frames))
        assert results == (Result.OK,) * LANES_MAX
        self.block(closing(BEN, channel))
        return -self.balance(ANN), self.balance(BEN)


def test_all_lanes_together_are_paid_the_escrow_once() -> None:
    attack = LaneOverrun()
    lost, got = attack.run()
    assert (lost, got) == (ESCROW, ESCROW * 99 // 100)
    assert attack.ledger.total() == 0


def test_without_the_bound_the_ledger_would_pay_what_nobody_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = property(lambda self: sum(lane.cum for lane in self.lanes))
    monkeypatch.setattr(Channel, "claimed", every)
    with pytest.raises(AssertionError, match="R-LED-"):
        LaneOverrun().run()


@pytest.mark.parametrize(("lane", "beyond"), [(1, 0), (63, 0), (0, 1)])
def test_a_provider_gives_no_credit_for_another_lane_or_beyond_the_escrow(
    lane: int, beyond: int
) -> None:
    talk = Talk().serving()
    assert talk.pay(talk.agreement.escrow + beyond, lane=lane) == []
    assert talk.machine.credit.claim == 0
