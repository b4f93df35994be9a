"""The selling half: an offer that stands while it can be served, an answer to every accept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demesh.config import SellPolicy
from demesh.market.agreement import agreement_of
from demesh.market.seller import DURATION_S_MAX, ENDED_MAX, Seller
from demesh.metering.tariff import quote
from demesh.ports import Measurement
from demesh.wire.intents import Agreed, Send
from demesh.wire.offers import Accept, Ack, Refusal, Refuse, Tariff, Tier

ME, BUYER, OTHER = b"S" * 16, b"B" * 16, b"O" * 16
POLICY = SellPolicy(240_000, power_w_max=3_000, units_max=6_000, sessions_max=2)


def seller(supply_w: int = 8_000, policy: SellPolicy = POLICY) -> Seller:
    made = Seller(ME, policy, quote)
    made.measured(Measurement(0, supply_w=supply_w))
    return made


def accept(of: Seller, nonce: int = 1, **change: object) -> Accept:
    offer = of.offers()[0] if of.offers() else of._offer()
    standard = Accept(nonce.to_bytes(8, "big"), offer, 1_000, 5_000, 1_200_000, 60)
    return replace(standard, **change)


def answer(to: Seller, asked: Accept, buyer: bytes = BUYER) -> Refusal | None:
    """None for yes, otherwise why not; yes comes with an agreement on the first time."""
    id = agreement_of(ME, buyer, asked).id
    acts = to.accept(buyer, asked)
    if acts[-1] == Send(buyer, Ack(id)):
        return None
    assert isinstance(acts[0], Send) and isinstance(acts[0].message, Refuse) and len(acts) == 1
    assert (acts[0].to, acts[0].message.agreement) == (buyer, id)
    return acts[0].message.reason


def test_an_accept_of_the_standing_offer_is_agreed_and_acknowledged():
    shop = seller()
    asked = accept(shop)
    agreed = agreement_of(ME, BUYER, asked)
    assert shop.accept(BUYER, asked) == [Agreed(agreed), Send(BUYER, Ack(agreed.id))]


def test_the_same_accept_again_gets_the_same_ack_and_no_second_agreement():
    shop = seller()
    asked = accept(shop)
    shop.accept(BUYER, asked)
    assert shop.accept(BUYER, asked) == [Send(BUYER, Ack(agreement_of(ME, BUYER, asked).id))]


def test_an_accept_that_comes_late_again_starts_nothing():
    shop = seller()
    asked = accept(shop)
    shop.accept(BUYER, asked)
    shop.ended(agreement_of(ME, BUYER, asked).id)
    assert answer(shop, asked) is Refusal.UNKNOWN


@pytest.mark.parametrize(
    "change",
    [
        {"power_w": 0},
        {"power_w": 3_001},
        {"units_max": 0},
        {"units_max": 6_001, "escrow": 10**9},
        {"escrow": 1_199_999},
        {"duration_s": 0},
        {"duration_s": DURATION_S_MAX + 1},
    ],
    ids=str,
)
def test_terms_outside_the_offer_are_refused(change):
    shop = seller()
    assert answer(shop, accept(shop, **change)) is Refusal.TERMS


def test_an_offer_that_is_not_mine_or_not_the_standing_one_is_gone():
    shop = seller()
    dearer = replace(shop.offers()[0], lag=10**9)
    assert answer(shop, accept(shop, offer=dearer)) is Refusal.OFFER_GONE


def test_power_on_sale_is_shared_by_the_agreements():
    shop = seller()
    asked = accept(shop, power_w=2_000)
    assert answer(shop, asked) is None
    assert answer(shop, accept(shop, 2, power_w=1_001), OTHER) is Refusal.BUSY
    assert answer(shop, accept(shop, 3, power_w=1_000), OTHER) is None


def test_more_agreements_than_sessions_are_busy_and_the_offer_is_taken_down():
    shop = seller()
    offer = shop.offers()[0]
    for nonce in (1, 2):
        assert answer(shop, accept(shop, nonce, power_w=100)) is None
    assert shop.offers() == ()
    assert answer(shop, accept(shop, 3, power_w=100, offer=offer)) is Refusal.BUSY


def test_what_is_agreed_but_does_not_flow_yet_is_no_longer_free():
    shop = seller(supply_w=1_500)
    first = accept(shop, power_w=1_000)
    assert answer(shop, first) is None
    assert answer(shop, accept(shop, 2, power_w=600)) is Refusal.BUSY
    id = agreement_of(ME, BUYER, first).id
    shop.measured(Measurement(0, supply_w=600, flows=((id, 3),)))  # it flows: supply is net of it
    assert answer(shop, accept(shop, 3, power_w=600)) is None


def test_a_device_with_nothing_to_deliver_says_empty():
    shop = seller()
    asked = accept(shop)
    shop.measured(Measurement(0, supply_w=0))
    assert shop.offers() == ()
    assert answer(shop, asked) is Refusal.EMPTY


def test_the_offer_does_not_flutter_with_the_supply_and_its_revision_rises_when_it_returns():
    shop = seller(supply_w=800)
    first = shop.offers()[0]
    for supply_w in (700, 1, 3_000, 100):
        shop.measured(Measurement(0, supply_w=supply_w))
        assert shop.offers() == (first,)
    for supply_w in (0, 1, 749):  # a quarter of the power on sale brings it back
        shop.measured(Measurement(0, supply_w=supply_w))
        assert shop.offers() == ()
    shop.measured(Measurement(0, supply_w=750))
    assert shop.offers() == (replace(first, revision=first.revision + 1),)


def test_an_ended_agreement_frees_its_power():
    shop = seller()
    asked = accept(shop, power_w=3_000)
    answer(shop, asked)
    assert shop.offers() == ()
    shop.ended(agreement_of(ME, BUYER, asked).id)
    assert len(shop.offers()) == 1


def test_a_restored_agreement_counts():
    shop = seller()
    agreed = agreement_of(ME, BUYER, accept(shop, power_w=2_500))
    after = Seller(ME, POLICY, quote)
    after.restore(agreed)
    after.measured(Measurement(0, supply_w=8_000))
    assert after.offers() == ()


def test_ended_agreements_are_remembered_up_to_a_bound():
    shop = seller()
    for nonce in range(ENDED_MAX + 50):
        asked = accept(shop, nonce)
        assert answer(shop, asked) is None
        shop.ended(agreement_of(ME, BUYER, asked).id)
    assert len(shop._ended) == ENDED_MAX


def test_the_id_tells_provider_payer_and_every_term_apart():
    shop = seller()
    asked = accept(shop)
    others = [replace(asked, nonce=bytes(8)), replace(asked, power_w=999)]
    ids = {agreement_of(ME, BUYER, one).id for one in (asked, *others)}
    ids |= {agreement_of(OTHER, BUYER, asked).id, agreement_of(ME, OTHER, asked).id}
    assert len(ids) == 5


def test_what_is_sold_under_a_tariff_of_its_own_is_offered_and_judged_by_it():
    tariff = Tariff("Wh", 50_000, 0, None, (Tier(10, 5, 1), Tier(None, 7, 1)))
    shop = Seller(ME, replace(POLICY, price=None, tariff="tariff.toml"), quote, tariff)
    shop.measured(Measurement(0, supply_w=8_000))
    assert shop.offers()[0].tariff == tariff
    most = quote(tariff, 5_000)
    assert answer(shop, accept(shop, escrow=most - 1)) is Refusal.TERMS
    assert answer(shop, accept(shop, escrow=most)) is None
