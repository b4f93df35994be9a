"""The selling half: one posted offer, and yes or no to whoever accepts it.

R-MKT-2  An offer stands exactly as long as this device can serve one more agreement; its terms come
         from the owner's policy, and its revision rises whenever it is put up again.
R-MKT-3  Every accept is answered: Ack, or Refuse with the first reason that applies (UNKNOWN,
         OFFER_GONE, TERMS, BUSY for sessions, EMPTY, BUSY for power). An agreement that stands is
         acknowledged again, one that has ended is UNKNOWN; a refused accept is judged anew.
R-MKT-4  The power of all agreements stays within power_w_max and what the device says it can
         deliver on top of its flows, their number within sessions_max.
"""

from __future__ import annotations

from collections.abc import Callable

from demesh.config import SellPolicy
from demesh.market.agreement import agreement_of
from demesh.ports import Measurement
from demesh.wire.intents import Act, Agreed, Agreement, Send
from demesh.wire.offers import Accept, Ack, Offer, Refusal, Refuse, Tariff, Tier

SERVICE = "energy"
Quote = Callable[[Tariff, int], int | None]

# The offer comes back at a quarter of the power on sale: lower, and a battery at its reserve would
# sign a card per cloud; higher, and it idles with energy to sell.
OFFER_AGAIN_PARTS = 4

# Longer business makes the next agreement; a ledger's channel lives 32 days at most (R-LED-11).
DURATION_S_MAX = 7 * 86_400

# Answers given are remembered so that a late copy of an accept starts nothing; a buyer repeats
# within seconds, and 256 are hours of trade.
ENDED_MAX = 256


def flat(policy: SellPolicy) -> Tariff:
    """The tariff of one price per kWh."""
    assert policy.price is not None, "a policy without a price has a tariff"
    return Tariff("Wh", 0, 0, None, (Tier(None, policy.price, 1000),))


class Seller:
    """Own offer and the agreements that use it."""

    def __init__(
        self, me: bytes, policy: SellPolicy, quote: Quote, tariff: Tariff | None = None
    ) -> None:
        """`tariff` for a policy that names a file of one, else None."""
        self._me, self._policy, self._quote = me, policy, quote
        self._tariff = tariff or flat(policy)
        self._agreements: dict[bytes, Agreement] = {}
        self._ended: dict[bytes, None] = {}
        self._flowing: frozenset[bytes] = frozenset()
        self._supply_w = 0
        self._revision = 0
        self._up = False

    def restore(self, agreement: Agreement) -> None:
        """An agreement of an earlier run that is still in service."""
        self._agreements[agreement.id] = agreement

    def offers(self) -> tuple[Offer, ...]:
        """What stands on the card now: the one offer, or none."""
        return (self._offer(),) if self._up else ()

    def measured(self, measurement: Measurement) -> None:
        """What the device can deliver on top of what flows."""
        self._supply_w = measurement.supply_w
        self._flowing = frozenset(flow for flow, _ in measurement.flows)
        self._review()

    def accept(self, payer: bytes, accept: Accept) -> list[Act]:
        """Yes or no (R-MKT-3)."""
        agreement = agreement_of(self._me, payer, accept)
        if agreement.id in self._agreements:
            return [Send(payer, Ack(agreement.id))]
        refusal = self._refusal(agreement)
        if refusal is not None:
            return [Send(payer, Refuse(agreement.id, refusal))]
        self._agreements[agreement.id] = agreement
        self._review()
        return [Agreed(agreement), Send(payer, Ack(agreement.id))]

    def ended(self, id: bytes) -> None:
        """Its power is free again."""
        if self._agreements.pop(id, None) is None:
            return
        self._ended[id] = None
        while len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        self._review()

    def _refusal(self, agreement: Agreement) -> Refusal | None:
        offer = agreement.offer
        if agreement.id in self._ended:
            return Refusal.UNKNOWN
        if offer != self._offer():
            return Refusal.OFFER_GONE
        fits = (
            0 < agreement.power_w <= offer.power_w_max
            and 0 < agreement.units_max <= offer.units_max
            and 0 < agreement.duration_s <= DURATION_S_MAX
            and agreement.escrow >= (self._quote(offer.tariff, agreement.units_max) or 0)
        )
        if not fits:
            return Refusal.TERMS
        if len(self._agreements) >= self._policy.sessions_max:
            return Refusal.BUSY
        if self._supply_free_w() <= 0:
            return Refusal.EMPTY
        if agreement.power_w > min(self._power_free_w(), self._supply_free_w()):
            return Refusal.BUSY
        return None

    def _offer(self) -> Offer:
        policy = self._policy
        return Offer(
            revision=self._revision,
            service=SERVICE,
            tariff=self._tariff,
            power_w_max=policy.power_w_max,
            units_max=policy.units_max,
            quantum_ms=policy.quantum_ms,
            lead=policy.lead,
            lag=policy.lag,
        )

    def _power_free_w(self) -> int:
        """What the policy leaves to sell."""
        return self._policy.power_w_max - sum(a.power_w for a in self._agreements.values())

    def _supply_free_w(self) -> int:
        """What the device can deliver beyond its flows and the agreements that do not flow yet."""
        waiting = [a for a in self._agreements.values() if a.id not in self._flowing]
        return self._supply_w - sum(a.power_w for a in waiting)

    def _review(self) -> None:
        """Put the offer up or take it down (R-MKT-2)."""
        free_w = min(self._power_free_w(), self._supply_free_w())
        if len(self._agreements) >= self._policy.sessions_max:
            free_w = 0
        if self._up:
            self._up = free_w > 0
        elif free_w * OFFER_AGAIN_PARTS >= self._policy.power_w_max:
            self._up = True
            self._revision += 1
