"""Two markets and a wire between them that repeats, loses and reorders."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from demesh.config import BuyPolicy, SellPolicy
from demesh.market.market import Market
from demesh.metering.tariff import quote
from demesh.ports import SECOND, Measurement
from demesh.wire.intents import Act, Agreed, Send
from demesh.wire.offers import Accept, Ack, Refusal, Refuse

SELLER, BUYER = b"S" * 16, b"B" * 16
SELL = SellPolicy(240_000, power_w_max=3_000, units_max=6_000, sessions_max=2)
BUY = BuyPolicy(300_000, power_w_max=3_000, units_max=6_000)


class Pair:
    """A seller and a buyer; what they agreed, each by its own word."""

    def __init__(self) -> None:
        nonces = count(1)
        self.now = 10 * SECOND
        self.markets = {
            SELLER: Market(SELLER, SELL, None, lambda: bytes(8), quote),
            BUYER: Market(BUYER, None, BUY, lambda: next(nonces).to_bytes(8, "big"), quote),
        }
        self.wire: list[tuple[bytes, bytes, object]] = []
        self.agreed: dict[bytes, list[bytes]] = {SELLER: [], BUYER: []}
        self.withdrawn: set[bytes] = set()
        self.turn(SELLER, self.markets[SELLER].measured(Measurement(0, supply_w=8_000), self.now))
        self.card()
        self.demand(1_000)

    def turn(self, who: bytes, acts: list[Act]) -> None:
        for act in acts:
            if isinstance(act, Send):
                self.wire.append((who, act.to, act.message))
                if isinstance(act.message, Refuse) and act.message.reason is Refusal.UNKNOWN:
                    self.withdrawn.add(act.message.agreement)
            elif isinstance(act, Agreed):
                self.agreed[who].append(act.agreement.id)

    def card(self) -> None:
        offers = self.markets[SELLER].offers()
        self.turn(BUYER, self.markets[BUYER].receive_card(SELLER, offers, self.now))

    def demand(self, demand_w: int) -> None:
        measurement = Measurement(0, demand_w=demand_w)
        self.turn(BUYER, self.markets[BUYER].measured(measurement, self.now))

    def deliver(self, place: int, *, keep: bool = False) -> None:
        sender, to, message = self.wire[place] if keep else self.wire.pop(place)
        market = self.markets[to]
        if isinstance(message, Accept):
            acts = market.receive_accept(sender, message, self.now)
        elif isinstance(message, Ack):
            acts = market.receive_ack(sender, message, self.now)
        else:
            assert isinstance(message, Refuse)
            acts = market.receive_refuse(sender, message, self.now)
            if to == SELLER:  # metering hears it and says that the session has ended
                acts = acts + market.ended(message.agreement, self.now)
        self.turn(to, acts)

    def wait(self, after: int) -> None:
        self.now += after
        self.turn(BUYER, self.markets[BUYER].tick(self.now))


def test_one_round_trip_makes_an_agreement_both_sides_name_alike():
    pair = Pair()
    pair.deliver(0)
    pair.deliver(0)
    assert pair.agreed[SELLER] == pair.agreed[BUYER]
    assert len(pair.agreed[BUYER]) == 1


@given(st.lists(st.integers(0, 2**16), max_size=80))
def test_whatever_the_wire_does_nobody_agrees_twice_and_no_seller_waits_in_vain(events):
    pair = Pair()
    for number in events:
        what, which = number % 6, number // 6
        if what < 3 and pair.wire:
            pair.deliver(which % len(pair.wire), keep=what == 2 and len(pair.wire) < 30)
        elif what == 3 and pair.wire:
            pair.wire.pop(which % len(pair.wire))
        elif what == 4:
            pair.wait(which % 4 * SECOND)
        else:
            pair.card()
    pair.demand(0)
    for _ in range(4):
        pair.wait(4 * SECOND)
    for who in (SELLER, BUYER):
        assert len(set(pair.agreed[who])) == len(pair.agreed[who])
    assert set(pair.agreed[BUYER]) <= set(pair.agreed[SELLER])
    assert set(pair.agreed[SELLER]) - set(pair.agreed[BUYER]) <= pair.withdrawn | lost(pair)


def lost(pair: Pair) -> set[bytes]:
    """Agreements whose Ack is still on its way to a buyer that will decline it."""
    return {m.agreement for _, to, m in pair.wire if to == BUYER and isinstance(m, Ack)}


def test_a_device_without_a_policy_neither_sells_nor_buys():
    market = Market(SELLER, None, None, lambda: bytes(8), quote)
    asked = next(m for _, _, m in Pair().wire)
    (refused,) = market.receive_accept(BUYER, asked, 0)
    assert refused.message.reason is Refusal.OFFER_GONE
    (declined,) = market.receive_ack(BUYER, Ack(bytes(16)), 0)
    assert declined.message.reason is Refusal.UNKNOWN
    assert market.measured(Measurement(0, demand_w=9, supply_w=9), 0) == []
    assert (market.offers(), market.deadline()) == ((), None)


def test_a_stopping_device_takes_its_offer_down_and_asks_nobody():
    pair = Pair()
    for market in pair.markets.values():
        market.stop()
    assert pair.markets[SELLER].offers() == ()
    pair.wire.clear()
    pair.demand(2_000)
    assert pair.wire == []


def test_the_own_card_is_no_offer_to_buy_from():
    both = Market(SELLER, SELL, BUY, lambda: bytes(8), quote)
    both.measured(Measurement(0, supply_w=8_000, demand_w=1_000), 0)
    assert both.receive_card(SELLER, both.offers(), 0) == []
