"""What a block did to money and members, for people and subsystems: facts, never orders.

Amounts are micro-credits, times are mesh time in seconds, ids are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Transferred:
    """`payer` gave `amount` to `payee`."""

    op: bytes
    payer: bytes
    payee: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class Opened:
    """`payer` put `escrow` aside for `payee`."""

    channel: bytes
    agreement: bytes
    payer: bytes
    payee: bytes
    escrow: int
    expiry_s: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A lane's claim rose to `cum`; settled now, the channel would pay `claimed`."""

    channel: bytes
    agreement: bytes
    payer: bytes
    payee: bytes
    lane: int
    cum: int
    claimed: int


@dataclass(frozen=True, slots=True)
class Closing:
    """The payer closed: claims are taken until `close_at_s`."""

    channel: bytes
    agreement: bytes
    payer: bytes
    payee: bytes
    close_at_s: int


@dataclass(frozen=True, slots=True)
class Capped:
    """A lane's cap fell to `cap`; if no more is claimed, the channel pays `claimed` in all."""

    channel: bytes
    agreement: bytes
    payer: bytes
    payee: bytes
    lane: int
    cap: int
    claimed: int


@dataclass(frozen=True, slots=True)
class Extended:
    """The payer gave the channel more escrow or a later expiry: these are its terms now."""

    channel: bytes
    agreement: bytes
    payer: bytes
    payee: bytes
    escrow: int
    expiry_s: int


@dataclass(frozen=True, slots=True)
class Paid:
    """An open channel paid `paid` on the payee's demand: parts as in `Settled`."""

    channel: bytes
    agreement: bytes
    payer: bytes
    payee: bytes
    paid: int
    received: int
    fee: int
    shares: tuple[tuple[bytes, int], ...]


class Cause(StrEnum):
    """Why a channel was settled."""

    PAYEE = "closed by the payee"
    PAYER = "closed by the payer"
    EXPIRY = "expired"


@dataclass(frozen=True, slots=True)
class Settled:
    """A channel ended: it paid `paid` now, `earlier` before, and `refund` went back to `payer`.

    paid = received (by `payee`) + fee (to the commons) + the amounts of `shares` (account, amount).
    """

    channel: bytes
    agreement: bytes
    payer: bytes
    payee: bytes
    paid: int
    received: int
    fee: int
    shares: tuple[tuple[bytes, int], ...]
    refund: int
    why: Cause
    earlier: int = 0


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A device is a member of this weight now: a new one, or one that changed."""

    device: bytes
    owner: bytes
    name: str
    weight: int
    serial: int


@dataclass(frozen=True, slots=True)
class Allotted:
    """`owner` gave `amount` of its credit to `account`, or took it back if below 0."""

    op: bytes
    owner: bytes
    account: bytes
    amount: int


class Moved(StrEnum):
    """What became of a part of a guarantee."""

    GIVEN = "given"
    RELEASED = "released"
    CALLED = "called"


@dataclass(frozen=True, slots=True)
class Guaranteed:
    """`giver` guarantees `amount` more for `taker`, has it back, or paid it for the taker."""

    op: bytes
    giver: bytes
    taker: bytes
    amount: int
    moved: Moved


ChannelEvent = Opened | Claimed | Capped | Extended | Paid | Closing | Settled

Event = Transferred | ChannelEvent | Enrolled | Allotted | Guaranteed
