"""From an accept to an agreement: both sides compute the same id, so an Ack is only its name.

R-MKT-1  id = first 16 bytes of BLAKE2b-256(provider, payer, encoded accept): one accept to one
         provider is one agreement, however often it arrives.
"""

from __future__ import annotations

import hashlib

from demesh.wire.intents import Agreement
from demesh.wire.offers import Accept
from demesh.wire.schema import encode


def agreement_of(provider: bytes, payer: bytes, accept: Accept) -> Agreement:
    """The agreement that `accept` from `payer` makes with `provider` (R-MKT-1)."""
    seed = provider + payer + encode(accept)
    return Agreement(
        id=hashlib.blake2b(seed, digest_size=32).digest()[:16],
        provider=provider,
        payer=payer,
        offer=accept.offer,
        power_w=accept.power_w,
        units_max=accept.units_max,
        escrow=accept.escrow,
        duration_s=accept.duration_s,
    )
