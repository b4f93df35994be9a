"""What is said on the market: offers and the agreement on one (docs/protocol.md).

Amounts are micro-credits, units are watt-hours, times are mesh time in seconds, unless said
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from demesh.wire.certificates import DeviceCertificate
from demesh.wire.schema import TAIL, U32, U53, U64, Bounds, Id, Name, Nonce


@dataclass(frozen=True, slots=True)
class Tier:
    """`price / per` micro-credits a unit up to `upto` cumulative units (None: without end)."""

    upto: U53 | None
    price: U53
    per: Annotated[int, Bounds(1, 2**32)]


@dataclass(frozen=True, slots=True)
class Window:
    """On these days (bit 0 is Monday), from one minute of the day up to another, these tiers."""

    days: Annotated[int, Bounds(1, 127)]
    from_min: Annotated[int, Bounds(0, 1439)]
    to_min: Annotated[int, Bounds(1, 1440)]
    tiers: Annotated[tuple[Tier, ...], Bounds(1, 8)]


@dataclass(frozen=True, slots=True)
class Tariff:
    """What counted units cost: metering/tariff.py. Its rates are `tiers` (0) and each window's.

    A unit is 10^`scale` `unit`. Windows are local times, `offset_min` ahead of UTC; the tariff may
    be agreed on from `from_s` until before `to_s`, mesh time.
    """

    unit: Name
    start: U53
    least: U53
    most: U53 | None
    tiers: Annotated[tuple[Tier, ...], Bounds(1, 8)]
    windows: Annotated[tuple[Window, ...], Bounds(0, 7), TAIL] = ()
    offset_min: Annotated[int, Bounds(-720, 840), TAIL] = 0
    from_s: Annotated[U53, TAIL] = 0
    to_s: Annotated[U53 | None, TAIL] = None
    scale: Annotated[int, Bounds(-9, 9), TAIL] = 0

    @property
    def timeless(self) -> bool:
        """Whether it is the same at all times: neither windows nor an end of its validity."""
        return not self.windows and not self.from_s and self.to_s is None


@dataclass(frozen=True, slots=True)
class Split:
    """`ppm` millionths of what a channel pays go to `account`."""

    account: Id
    ppm: U32


@dataclass(frozen=True, slots=True)
class Offer:
    """What a provider sells. `lead` bounds the payer's risk, `lag` the payee's.

    `splits` is whom the channel has to pay beside the provider, `links` the most ticks on one
    voucher (0: vouchers only), `window_s` how long the channel stays open after a close (0: the
    usual, metering/settlement.py).
    """

    revision: U32
    service: Name
    tariff: Tariff
    power_w_max: U32
    units_max: U53
    quantum_ms: U32
    lead: U53
    lag: U53
    splits: Annotated[tuple[Split, ...], Bounds(0, 3), TAIL] = ()
    links: Annotated[int, Bounds(0, 4096), TAIL] = 0
    window_s: Annotated[U32, TAIL] = 0


@dataclass(frozen=True, slots=True)
class Card:
    """A device's register (boot, revision): who it is, what it offers now. The greatest wins."""

    boot: U64
    revision: U32
    certificate: DeviceCertificate
    offers: Annotated[tuple[Offer, ...], Bounds(0, 8)]


@dataclass(frozen=True, slots=True)
class Accept:
    """A payer takes an offer. The agreement's id is the hash of this message and both parties."""

    nonce: Nonce
    offer: Offer
    power_w: U32
    units_max: U53
    escrow: U53
    duration_s: U32


@dataclass(frozen=True, slots=True)
class Ack:
    """The provider agrees; the payer may open the channel."""

    agreement: Id


class Refusal(IntEnum):
    """Why an accept was refused."""

    OFFER_GONE = 1
    BUSY = 2
    EMPTY = 3
    TERMS = 4
    UNKNOWN = 5  # no such agreement: the other side lost it or it has ended


@dataclass(frozen=True, slots=True)
class Refuse:
    """The explicit no."""

    agreement: Id
    reason: Refusal
