"""The buying half: cover a demand from the cheapest offer, one accept at a time.

    QUIET --demand--> ASKING --Ack--> QUIET (one agreement more)
                        |--Refuse or silence--> QUIET (that seller rests, the next is asked)

R-MKT-5  The cheapest live offer within the owner's price is taken; equal prices are told apart by a
         hash of buyer and seller, so that buyers spread over sellers.
R-MKT-6  One accept at a time. It is repeated once unchanged, then withdrawn by Refuse(UNKNOWN); an
         Ack that comes later is answered the same way, so no seller waits for a channel in vain.
R-MKT-7  A seller that refused, kept silent or did not serve rests for 2 s, 4 s, ... 64 s.
R-MKT-8  What is asked for: the demand that no agreement covers yet, never more than policy and
         offer allow; the escrow is what the most units cost, so no bill can exceed it.
R-MKT-11 An offer whose tariff changes with time is not taken: no session counts by rates yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from demesh.config import BuyPolicy
from demesh.market.agreement import agreement_of
from demesh.ports import SECOND, Instant, Measurement
from demesh.wire.intents import Act, Agreed, Agreement, Send
from demesh.wire.offers import Accept, Offer, Refusal, Refuse, Tariff

Quote = Callable[[Tariff, int], int | None]

SERVICE = "energy"
UNIT = "Wh"
AMOUNT_MAX = 2**53 - 1

# A round trip through a broker is milliseconds; a daemon behind a slow link needs a second.
REPEAT_NS = 1 * SECOND
WITHDRAW_NS = 3 * SECOND

REST_NS = 2 * SECOND
REST_NS_MAX = 64 * SECOND

# Sellers known and sellers resting: a mesh has 1,024 devices at most.
SELLERS_MAX = 1_024

# Every agreement is a channel on the ledger; a home with more sellers than this at once has a
# demand that is chopped too small.
AGREEMENTS_MAX = 4

# More is bought on top once a quarter of what is covered is missing: a load wanders all day, and
# each agreement is two ops for the whole mesh.
TOP_UP_PARTS = 4


class Phase(Enum):
    """Where the buyer stands."""

    QUIET = "quiet"
    ASKING = "asking"


TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.QUIET: frozenset({Phase.ASKING}),
    Phase.ASKING: frozenset({Phase.QUIET}),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """The one accept that waits for its answer."""

    seller: bytes
    accept: Accept
    agreement: Agreement
    at: Instant
    repeated: bool


class Buyer:
    """Known offers, the accept under way, and the agreements that cover the demand."""

    def __init__(
        self, me: bytes, policy: BuyPolicy, nonce: Callable[[], bytes], quote: Quote
    ) -> None:
        self.phase = Phase.QUIET
        self._me, self._policy, self._nonce, self._quote = me, policy, nonce, quote
        self._offers: dict[bytes, tuple[Offer, ...]] = {}
        self._rests: dict[bytes, tuple[Instant, int]] = {}
        self._agreements: dict[bytes, tuple[Agreement, Instant]] = {}
        self._flowing: frozenset[bytes] = frozenset()
        self._demand_w = 0
        self._asked: Asked | None = None

    def restore(self, agreement: Agreement) -> None:
        """An agreement of an earlier run that is still in service."""
        self._agreements[agreement.id] = (agreement, 0)

    def card(self, seller: bytes, offers: tuple[Offer, ...], now: Instant) -> list[Act]:
        """A seller's offers are now these."""
        self._offers.pop(seller, None)
        mine = tuple(offer for offer in offers if self._fits(offer))
        if mine and len(self._offers) < SELLERS_MAX:
            self._offers[seller] = mine
        return self.tick(now)

    def forget(self, seller: bytes, now: Instant) -> list[Act]:
        """The seller is gone; what it agreed to is left to metering."""
        self._offers.pop(seller, None)
        if self._asked is not None and self._asked.seller == seller:
            self._quiet()
        return self.tick(now)

    def measured(self, measurement: Measurement, now: Instant) -> list[Act]:
        """What the device would take on top of what flows."""
        self._demand_w = measurement.demand_w
        self._flowing = frozenset(flow for flow, _ in measurement.flows)
        return self.tick(now)

    def ack(self, seller: bytes, id: bytes, now: Instant) -> list[Act]:
        """The seller agrees."""
        asked = self._asked
        if asked is not None and (seller, id) == (asked.seller, asked.agreement.id):
            self._agreements[id] = (asked.agreement, now)
            self._quiet()
            return [Agreed(asked.agreement), *self.tick(now)]
        if id in self._agreements:
            return []
        return [Send(seller, Refuse(id, Refusal.UNKNOWN))]

    def refuse(self, seller: bytes, id: bytes, now: Instant) -> list[Act]:
        """The seller says no; ask the next."""
        asked = self._asked
        if asked is None or (seller, id) != (asked.seller, asked.agreement.id):
            return []
        self._quiet()
        self._rest(seller, now)
        return self.tick(now)

    def ended(self, id: bytes, now: Instant) -> list[Act]:
        """An agreement is over. One that ended within two quanta served nobody: a rest."""
        found = self._agreements.pop(id, None)
        if found is None:
            return []
        agreement, since = found
        if now - since < 2 * agreement.offer.quantum_ms * 1_000_000:
            self._rest(agreement.provider, now)
        else:
            self._rests.pop(agreement.provider, None)
        return self.tick(now)

    def tick(self, now: Instant) -> list[Act]:
        """Repeat, withdraw, or ask the cheapest seller that does not rest."""
        asked = self._asked
        if asked is not None:
            return self._wait(asked, now)
        open_w = self._open_w()
        best = self._cheapest(now) if open_w else None
        return [] if best is None else self._ask(*best, open_w, now)

    def deadline(self) -> Instant | None:
        """When `tick` has something to do at the latest."""
        if self._asked is not None:
            return self._asked.at + (WITHDRAW_NS if self._asked.repeated else REPEAT_NS)
        if not self._open_w():
            return None
        waiting = [self._rests[s][0] for s in self._offers if s in self._rests]
        return min(waiting, default=None)

    # -- inside ----------------------------------------------------------------------------------

    def _wait(self, asked: Asked, now: Instant) -> list[Act]:
        if now >= asked.at + WITHDRAW_NS:
            self._quiet()
            self._rest(asked.seller, now)
            withdrawn = Send(asked.seller, Refuse(asked.agreement.id, Refusal.UNKNOWN))
            return [withdrawn, *self.tick(now)]
        if not asked.repeated and now >= asked.at + REPEAT_NS:
            self._asked = Asked(asked.seller, asked.accept, asked.agreement, asked.at, True)
            return [Send(asked.seller, asked.accept)]
        return []

    def _ask(self, seller: bytes, offer: Offer, open_w: int, now: Instant) -> list[Act]:
        units_max, escrow = self._most(offer)
        accept = Accept(
            nonce=self._nonce(),
            offer=offer,
            power_w=min(open_w, offer.power_w_max, self._policy.power_w_max),
            units_max=units_max,
            escrow=escrow,
            duration_s=self._policy.duration_s,
        )
        agreement = agreement_of(seller, self._me, accept)
        self._enter(Phase.ASKING)
        self._asked = Asked(seller, accept, agreement, now, False)
        return [Send(seller, accept)]

    def _open_w(self) -> int:
        """Demand that neither flows nor is agreed and is worth an agreement, or 0 (R-MKT-8)."""
        agreed = [agreement for agreement, _ in self._agreements.values()]
        waiting_w = sum(a.power_w for a in agreed if a.id not in self._flowing)
        covered_w = sum(a.power_w for a in agreed)
        open_w = min(self._demand_w - waiting_w, self._policy.power_w_max - covered_w)
        small = open_w * TOP_UP_PARTS < covered_w
        return 0 if small or len(agreed) >= AGREEMENTS_MAX else max(0, open_w)

    def _fits(self, offer: Offer) -> bool:
        usable = min(offer.power_w_max, offer.units_max, offer.quantum_ms) > 0
        tariff = offer.tariff
        served = tariff.timeless and (tariff.unit, tariff.scale) == (UNIT, 0)  # R-MKT-11
        if offer.service != SERVICE or not served or not usable:
            return False
        units, total = self._most(offer)
        return 0 < total <= AMOUNT_MAX and total * 1000 <= self._policy.price_max * units

    def _most(self, offer: Offer) -> tuple[int, int]:
        """The most units to buy and what they cost: 0 for a tariff that is not one."""
        units = min(self._policy.units_max, offer.units_max)
        return units, self._quote(offer.tariff, units) or 0

    def _cheapest(self, now: Instant) -> tuple[bytes, Offer] | None:
        """R-MKT-5, among sellers that do not rest."""
        best: tuple[int, bytes, int] | None = None
        found: tuple[bytes, Offer] | None = None
        for seller, offers in self._offers.items():
            if now < self._rests.get(seller, (now, 0))[0]:
                continue
            for place, offer in enumerate(offers):
                rank = (self._price(offer), self._tie(seller), place)
                if best is None or rank < best:
                    best, found = rank, (seller, offer)
        return found

    def _price(self, offer: Offer) -> int:
        """Micro-credits for 1,000 kWh at the amount to be bought; rounds up, against the seller."""
        units, total = self._most(offer)
        return -(-total * 1_000_000 // units)

    def _tie(self, seller: bytes) -> bytes:
        return hashlib.blake2b(self._me + seller, digest_size=16).digest()

    def _rest(self, seller: bytes, now: Instant) -> None:
        """R-MKT-7."""
        _, before_ns = self._rests.pop(seller, (0, 0))
        rest_ns = min(max(2 * before_ns, REST_NS), REST_NS_MAX)
        self._rests[seller] = (now + rest_ns, rest_ns)
        while len(self._rests) > SELLERS_MAX:
            del self._rests[next(iter(self._rests))]

    def _quiet(self) -> None:
        self._enter(Phase.QUIET)
        self._asked = None

    def _enter(self, phase: Phase) -> None:
        assert phase in TRANSITIONS[self.phase], f"{self.phase.name} -> {phase.name}"
        self.phase = phase
