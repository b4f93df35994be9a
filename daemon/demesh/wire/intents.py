"""What the subsystems ask of the node, and what the node tells them: the words between them.

A subsystem returns `Act`s: effects of `ports`, or the two intents below. The node signs a `Send`
into a signal frame for one peer, and a `Submit` into an op of this device.
"""

from __future__ import annotations

from dataclasses import dataclass

from demesh.ports import Actuate, Keep, Observe
from demesh.wire.messages import Signal
from demesh.wire.offers import Offer
from demesh.wire.opbodies import OpBody
from demesh.wire.readings import Voucher


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to a device. A voucher is a statement frame, everything else a signal."""

    to: bytes
    message: Signal | Voucher


@dataclass(frozen=True, slots=True)
class Submit:
    """Put an op of this device before the mesh."""

    body: OpBody


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two devices agreed on; `id` as in R-MKT-1."""

    id: bytes
    provider: bytes
    payer: bytes
    offer: Offer
    power_w: int
    units_max: int
    escrow: int
    duration_s: int


@dataclass(frozen=True, slots=True)
class Agreed:
    """From the market: an agreement stands; the node starts its metering session."""

    agreement: Agreement


@dataclass(frozen=True, slots=True)
class Ended:
    """From metering: a session is over, for whatever reason; the market may look for the next."""

    agreement: bytes


@dataclass(frozen=True, slots=True)
class ChannelFact:
    """What the finalized ledger says of a channel; `open` is False once it is settled or gone."""

    channel: bytes
    agreement: bytes
    payer: bytes
    payee: bytes
    escrow: int
    claimed: int
    expiry_s: int
    closing: bool
    open: bool
    window_s: int = 3_600  # from its end to its settlement; the least there is


Act = Send | Submit | Agreed | Ended | Keep | Actuate | Observe
