"""What is said in a metering session: readings and vouchers (docs/protocol.md).

Amounts are micro-credits, units are watt-hours, times are mesh time in seconds, unless said
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from demesh.wire.schema import U8, U32, U53, Digest, Id


class Why(IntEnum):
    """Why a reading was taken."""

    BEGIN = 1
    QUOTA = 2
    FINAL = 3
    RESYNC = 4


@dataclass(frozen=True, slots=True)
class Reading:
    """The provider's register: begin, now, and the total it asks a voucher for (`need`)."""

    agreement: Id
    channel: Id
    page: U32
    why: Why
    time_s: U53
    begin: U53
    register: U53
    need: U53
    previous: Digest


@dataclass(frozen=True, slots=True)
class Voucher:
    """The payer's promise: `cum` micro-credits in total on this lane of the channel."""

    channel: Id
    lane: U8
    cum: U53


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


@dataclass(frozen=True, slots=True)
class End:
    """Either side ends the session; units are the sender's own count."""

    agreement: Id
    reason: EndReason
    units: U53
