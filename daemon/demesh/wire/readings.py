"""What is said in a metering session: readings and vouchers (docs/protocol.md).

Amounts are micro-credits, units are watt-hours, times are mesh time in seconds, unless said
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from demesh.wire.schema import TAIL, U8, U32, U53, Bounds, Digest, Id


class Why(IntEnum):
    """Why a reading was taken."""

    BEGIN = 1
    QUOTA = 2
    FINAL = 3
    RESYNC = 4
    TARIFF = 5


@dataclass(frozen=True, slots=True)
class Reading:
    """The provider's register: begin, now, and the total it asks a voucher for (`need`).

    `counts` are the units since begin by rate of the tariff (none: all at rate 0), `known` how well
    the time is known and `status` what befell the meter (docs/protocol.md), `total` all that the
    meter counted in its life (0: it does not say).
    """

    agreement: Id
    channel: Id
    page: U32
    why: Why
    time_s: U53
    begin: U53
    register: U53
    need: U53
    previous: Digest
    counts: Annotated[tuple[U53, ...], Bounds(0, 8), TAIL] = ()
    known: Annotated[U8, TAIL] = 0
    status: Annotated[U8, TAIL] = 0
    total: Annotated[U53, TAIL] = 0


@dataclass(frozen=True, slots=True)
class Voucher:
    """The payer's promise: `cum` micro-credits in total on this lane of the channel.

    With a `root`, each of up to `count_max` links of the chain that ends there is worth another
    `step` micro-credits (wire/payword.py).
    """

    channel: Id
    lane: U8
    cum: U53
    step: Annotated[U53, TAIL] = 0
    count_max: Annotated[int, Bounds(0, 4096), TAIL] = 0
    root: Annotated[bytes, Bounds(0, 16), TAIL] = b""


@dataclass(frozen=True, slots=True)
class Cap:
    """The payee's promise: it wants no more than `cap` micro-credits in total on this lane."""

    channel: Id
    lane: U8
    cap: U53


class EndReason(IntEnum):
    """Why a session ended."""

    DONE = 1
    UNPAID = 2
    EMPTY = 3
    ESCROW = 4
    EXPIRY = 5
    STOPPING = 6
    DISPUTE = 7
    FAULT = 8  # the own meter contradicts itself


@dataclass(frozen=True, slots=True)
class ChargeRecord:
    """What a session came to, in its sender's own count: the charge detail record.

    `claimed` is the total of the voucher that the sender holds or gave, `page` and `last` name the
    last reading.
    """

    channel: Id
    begun_s: U53
    ended_s: U53
    begin: U53
    register: U53
    counts: Annotated[tuple[U53, ...], Bounds(0, 8)]
    cost: U53
    claimed: U53
    page: U32
    last: Digest


@dataclass(frozen=True, slots=True)
class End:
    """Either side ends the session; units are the sender's own count."""

    agreement: Id
    reason: EndReason
    units: U53
    record: Annotated[ChargeRecord | None, TAIL] = None
