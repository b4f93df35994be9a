"""A device's market: a posted price and a two-message accept; the node is told what was agreed.

The two halves do not know each other: `Seller` answers accepts, `Buyer` sends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from demesh.config import BuyPolicy, SellPolicy
from demesh.market.agreement import agreement_of
from demesh.market.buyer import Buyer
from demesh.market.seller import Seller
from demesh.ports import Instant, Measurement
from demesh.wire.intents import Act, Agreement, Send
from demesh.wire.offers import Accept, Ack, Offer, Refusal, Refuse, Tariff


class Market:
    """Sells and buys as its owner's policies say; `quote` prices units (metering/tariff.py)."""

    def __init__(
        self,
        me: bytes,
        sell: SellPolicy | None,
        buy: BuyPolicy | None,
        nonce: Callable[[], bytes],
        quote: Callable[[Tariff, int], int | None],
        tariff: Tariff | None = None,
    ) -> None:
        """`tariff` is what to sell under, where `sell` has no price."""
        self._me = me
        self._seller = None if sell is None else Seller(me, sell, quote, tariff)
        self._buyer = None if buy is None else Buyer(me, buy, nonce, quote)
        self._stopping = False

    def restore(self, agreements: Iterable[Agreement]) -> None:
        """Agreements of an earlier run that metering still serves or takes."""
        for agreement in agreements:
            if agreement.provider == self._me and self._seller is not None:
                self._seller.restore(agreement)
            if agreement.payer == self._me and self._buyer is not None:
                self._buyer.restore(agreement)

    def offers(self) -> tuple[Offer, ...]:
        """What to put on the own card now; ask after every call and publish on change."""
        return () if self._seller is None or self._stopping else self._seller.offers()

    def receive_card(self, device: bytes, offers: tuple[Offer, ...], now: Instant) -> list[Act]:
        """A peer's card; an empty one takes its offers back."""
        if self._buyer is None or self._stopping or device == self._me:
            return []
        return self._buyer.card(device, offers, now)

    def forget(self, device: bytes, now: Instant) -> list[Act]:
        """A peer is gone."""
        return [] if self._buyer is None else self._buyer.forget(device, now)

    def receive_accept(self, sender: bytes, accept: Accept, now: Instant) -> list[Act]:
        """Somebody takes an offer: Agreed and Ack, or Refuse."""
        if self._seller is None or self._stopping:
            id = agreement_of(self._me, sender, accept).id
            return [Send(sender, Refuse(id, Refusal.OFFER_GONE))]
        return self._seller.accept(sender, accept)

    def receive_ack(self, sender: bytes, ack: Ack, now: Instant) -> list[Act]:
        """A seller agrees; one we did not ask, or no longer, hears Refuse(UNKNOWN)."""
        if self._buyer is None or self._stopping:
            return [Send(sender, Refuse(ack.agreement, Refusal.UNKNOWN))]
        return self._buyer.ack(sender, ack.agreement, now)

    def receive_refuse(self, sender: bytes, refuse: Refuse, now: Instant) -> list[Act]:
        """A seller refuses. A buyer's UNKNOWN goes to metering, which ends the session."""
        if self._buyer is None or self._stopping:
            return []
        return self._buyer.refuse(sender, refuse.agreement, now)

    def measured(self, measurement: Measurement, now: Instant) -> list[Act]:
        """What the device could deliver and would take, each on top of what flows already."""
        if self._seller is not None:
            self._seller.measured(measurement)
        if self._buyer is None or self._stopping:
            return []
        return self._buyer.measured(measurement, now)

    def ended(self, agreement_id: bytes, now: Instant) -> list[Act]:
        """Metering's `Ended`: the power is free again, the demand is open again."""
        if self._seller is not None:
            self._seller.ended(agreement_id)
        if self._buyer is None or self._stopping:
            return []
        return self._buyer.ended(agreement_id, now)

    def tick(self, now: Instant) -> list[Act]:
        """Do what the time asks for."""
        return [] if self._buyer is None or self._stopping else self._buyer.tick(now)

    def deadline(self) -> Instant | None:
        """When `tick` has something to do at the latest."""
        return None if self._buyer is None or self._stopping else self._buyer.deadline()

    def stop(self) -> None:
        """The daemon ends: no offer, no new agreement."""
        self._stopping = True
