"""The buying half: the cheapest offer, one accept at a time, and patience with those who refuse."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from demesh.config import BuyPolicy
from demesh.market.buyer import (
    AGREEMENTS_MAX,
    REPEAT_NS,
    REST_NS,
    REST_NS_MAX,
    SELLERS_MAX,
    WITHDRAW_NS,
    Buyer,
    Phase,
)
from demesh.metering.tariff import quote
from demesh.ports import SECOND, Measurement
from demesh.wire.intents import Act, Agreed, Send
from demesh.wire.offers import Accept, Offer, Refusal, Refuse, Tariff, Tier, Window

ME, ANN, BOB, CID = b"M" * 16, b"A" * 16, b"B" * 16, b"C" * 16
POLICY = BuyPolicy(price_max=300_000, power_w_max=3_000, units_max=6_000, duration_s=60)


def offer(price: int, **change: object) -> Offer:
    tariff = Tariff("Wh", 0, 0, None, (Tier(None, price, 1000),))
    return replace(Offer(1, "energy", tariff, 3_000, 6_000, 1_000, 100, 400), **change)


class Talk:
    """A buyer with a demand, and the time."""

    def __init__(self, demand_w: int = 2_000, policy: BuyPolicy = POLICY) -> None:
        nonces = count(1)
        self.now = 100 * SECOND
        self.buyer = Buyer(ME, policy, lambda: next(nonces).to_bytes(8, "big"), quote)
        self.wants(demand_w)

    def wants(self, demand_w: int, *flows: bytes) -> list[Act]:
        measurement = Measurement(0, demand_w=demand_w, flows=tuple((f, 1) for f in flows))
        return self.buyer.measured(measurement, self.now)

    def card(self, seller: bytes, *offers: Offer) -> list[Act]:
        return self.buyer.card(seller, offers, self.now)

    def later(self, after: int) -> list[Act]:
        self.now += after
        return self.buyer.tick(self.now)

    @property
    def asked(self) -> bytes:
        assert self.buyer._asked is not None
        return self.buyer._asked.agreement.id

    def ack(self, seller: bytes) -> list[Act]:
        return self.buyer.ack(seller, self.asked, self.now)

    def refuse(self, seller: bytes) -> list[Act]:
        return self.buyer.refuse(seller, self.asked, self.now)


def to_whom(acts: list[Act]) -> list[bytes]:
    return [a.to for a in acts if isinstance(a, Send) and isinstance(a.message, Accept)]


def test_a_demand_asks_the_seller_for_what_is_wanted_and_escrows_its_most():
    talk = Talk()
    acts = talk.card(ANN, offer(240_000))
    assert acts == [
        Send(ANN, Accept((1).to_bytes(8, "big"), offer(240_000), 2_000, 6_000, 1_440_000, 60))
    ]


def test_an_ack_makes_the_agreement_once():
    talk = Talk()
    talk.card(ANN, offer(240_000))
    id = talk.asked
    acts = talk.ack(ANN)
    assert [act.agreement.id for act in acts if isinstance(act, Agreed)] == [id]
    assert talk.buyer.ack(ANN, id, talk.now) == []
    assert talk.buyer.phase is Phase.QUIET


def test_the_cheapest_live_offer_is_taken_and_the_next_after_a_refusal():
    talk = Talk(demand_w=0)
    talk.card(ANN, offer(260_000))
    talk.card(BOB, offer(240_000))
    talk.card(CID, offer(250_000))
    assert to_whom(talk.wants(2_000)) == [BOB]
    assert to_whom(talk.refuse(BOB)) == [CID]
    assert to_whom(talk.refuse(CID)) == [ANN]
    assert to_whom(talk.refuse(ANN)) == []


def test_equal_prices_spread_buyers_over_sellers():
    chosen = set()
    for buyer in range(16):
        talk = Talk(demand_w=0)
        talk.buyer._me = bytes([buyer]) * 16
        talk.card(ANN, offer(240_000))
        talk.card(BOB, offer(240_000))
        chosen.update(to_whom(talk.wants(2_000)))
    assert chosen == {ANN, BOB}


def test_the_order_in_which_cards_come_decides_nothing():
    for first, second in ((ANN, BOB), (BOB, ANN)):
        talk = Talk(demand_w=0)
        talk.card(first, offer(240_000))
        talk.card(second, offer(240_000))
        asked = to_whom(talk.wants(2_000))
        assert asked == to_whom_first()


def to_whom_first() -> list[bytes]:
    talk = Talk(demand_w=0)
    talk.card(ANN, offer(240_000))
    talk.card(BOB, offer(240_000))
    return to_whom(talk.wants(2_000))


@pytest.mark.parametrize(
    "bad",
    [
        offer(300_001),
        offer(0),
        offer(240_000, service="data"),
        offer(240_000, power_w_max=0),
        offer(240_000, units_max=0),
        offer(240_000, quantum_ms=0),
        offer(1, tariff=Tariff("Wh", 0, 0, None, (Tier(5, 1, 1),))),
        offer(1, tariff=Tariff("Wh", 10**9, 0, None, (Tier(None, 1, 1),))),
        offer(1, tariff=Tariff("kWh", 0, 0, None, (Tier(None, 1, 1),))),
        offer(1, tariff=Tariff("Wh", 0, 0, None, (Tier(9, 5, 1), Tier(3, 0, 1), Tier(None, 0, 1)))),
    ],
    ids=range(10),
)
def test_an_offer_that_is_too_dear_or_makes_no_sense_is_no_offer(bad):
    assert Talk().card(ANN, bad) == []


def test_one_accept_at_a_time():
    talk = Talk()
    talk.card(ANN, offer(240_000))
    assert talk.card(BOB, offer(100_000)) == []
    assert talk.wants(3_000) == []


def test_silence_is_asked_once_more_unchanged_then_withdrawn_and_the_next_is_asked():
    talk = Talk()
    (first,) = talk.card(ANN, offer(240_000))
    talk.card(BOB, offer(250_000))
    id = talk.asked
    assert talk.later(REPEAT_NS - 1) == []
    assert talk.buyer.deadline() == talk.now + 1
    assert talk.later(1) == [first]
    assert talk.later(1) == []
    acts = talk.later(WITHDRAW_NS)
    assert acts[0] == Send(ANN, Refuse(id, Refusal.UNKNOWN))
    assert to_whom(acts) == [BOB]
    assert talk.buyer.ack(ANN, id, talk.now) == [Send(ANN, Refuse(id, Refusal.UNKNOWN))]


def test_a_seller_that_vanished_is_not_waited_for():
    talk = Talk()
    talk.card(ANN, offer(240_000))
    talk.card(BOB, offer(250_000))
    assert to_whom(talk.buyer.forget(ANN, talk.now)) == [BOB]


def test_a_seller_that_refuses_rests_longer_each_time_up_to_a_minute():
    talk = Talk()
    talk.card(ANN, offer(240_000))
    rest = REST_NS
    for _ in range(8):
        assert talk.refuse(ANN) == []
        assert talk.buyer.deadline() == talk.now + rest
        assert talk.later(rest - 1) == []
        assert to_whom(talk.later(1)) == [ANN]
        rest = min(2 * rest, REST_NS_MAX)


def test_an_agreement_that_ended_unserved_rests_its_seller_and_a_good_one_clears_it():
    talk = Talk()
    talk.card(ANN, offer(240_000))
    id = talk.asked
    talk.ack(ANN)
    assert talk.buyer.ended(id, talk.now) == []
    assert to_whom(talk.later(REST_NS)) == [ANN]
    id = talk.asked
    talk.ack(ANN)
    talk.now += 5 * SECOND
    assert to_whom(talk.buyer.ended(id, talk.now)) == [ANN]


def test_a_refusal_of_something_else_changes_nothing():
    talk = Talk()
    talk.card(ANN, offer(240_000))
    assert talk.buyer.refuse(BOB, talk.asked, talk.now) == []
    assert talk.buyer.refuse(ANN, bytes(16), talk.now) == []
    assert talk.buyer.phase is Phase.ASKING


def test_what_is_agreed_is_not_bought_twice_while_it_does_not_flow_yet():
    talk = Talk()
    talk.card(ANN, offer(240_000))
    id = talk.asked
    talk.ack(ANN)
    assert talk.wants(2_000) == []  # the channel is still opening
    assert talk.wants(0, id) == []  # it flows: nothing is missing


def test_more_is_bought_on_top_once_a_quarter_is_missing():
    talk = Talk()
    talk.card(ANN, offer(240_000))
    id = talk.asked
    talk.ack(ANN)
    assert talk.wants(400, id) == []
    (more,) = talk.wants(500, id)
    assert more.message.power_w == 500


def test_all_agreements_together_stay_within_policy_and_number():
    talk = Talk(demand_w=1_000, policy=replace(POLICY, power_w_max=1_500))
    talk.card(ANN, offer(240_000))
    id = talk.asked
    talk.ack(ANN)
    (more,) = talk.wants(5_000, id)
    assert more.message.power_w == 500

    talk = Talk(demand_w=100, policy=replace(POLICY, power_w_max=10**6))
    talk.card(ANN, offer(240_000))
    flowing: list[bytes] = []
    while talk.buyer.phase is Phase.ASKING:
        flowing.append(talk.asked)
        talk.ack(ANN)
        talk.wants(10**4, *flowing)
    assert len(flowing) == AGREEMENTS_MAX


def test_without_demand_nobody_is_asked_and_nothing_is_due():
    talk = Talk(demand_w=0)
    assert talk.card(ANN, offer(240_000)) == []
    assert talk.buyer.deadline() is None


def test_a_restored_agreement_covers_its_demand():
    before = Talk()
    before.card(ANN, offer(240_000))
    agreed = before.buyer._asked.agreement
    talk = Talk(demand_w=0)
    talk.buyer.restore(agreed)
    talk.card(ANN, offer(240_000))
    assert talk.wants(2_000) == []


def test_an_empty_card_takes_the_offers_back():
    talk = Talk(demand_w=0)
    talk.card(ANN, offer(240_000))
    talk.card(ANN)
    assert talk.wants(2_000) == []


def test_sellers_are_bounded():
    talk = Talk(demand_w=0)
    for number in range(SELLERS_MAX + 10):
        talk.card(number.to_bytes(16, "big"), offer(240_000))
    assert len(talk.buyer._offers) == SELLERS_MAX


def test_every_deadline_does_something_when_it_comes():
    talk = Talk()
    talk.card(ANN, offer(240_000))
    talk.card(BOB, offer(250_000))
    for _ in range(200):
        due = talk.buyer.deadline()
        assert due is not None
        assert due > talk.now
        talk.now = due
        talk.buyer.tick(talk.now)


WINDOW = Window(127, 0, 1, (Tier(None, 1, 1000),))


@pytest.mark.parametrize(
    "change",
    [{"windows": (WINDOW,)}, {"from_s": 1}, {"to_s": 2**32}, {"scale": 3}, {"unit": "varh"}],
)
def test_an_offer_whose_tariff_changes_with_time_or_counts_something_else_is_not_taken(change):
    """R-MKT-11."""
    talk = Talk()
    good = offer(100_000)
    assert to_whom(talk.card(ANN, replace(good, tariff=replace(good.tariff, **change)))) == []
    assert to_whom(talk.card(BOB, replace(good, tariff=replace(good.tariff, offset_min=60)))) == [
        BOB
    ]
