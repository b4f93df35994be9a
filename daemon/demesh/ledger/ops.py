"""Ops: what a signer asks of the ledger, answered once.

R-LED-5  An op is known by its id, the BLAKE2b-256 of its signer's id and its payload. Its first
         inclusion decides and its result is recorded; every later inclusion of the id gets that
         result and does nothing.
R-LED-6  An op whose valid_until is behind mesh time is EXPIRED, and never anything else afterwards.
         One whose valid_until is more than VALIDITY_S_MAX ahead is not includable yet (VALIDITY):
         recorded, its answer would have to be remembered for as long.
R-LED-7  A result is forgotten once mesh time has passed valid_until, when the op can only be
         EXPIRED. At most REMEMBERED_MAX ops of a signer are remembered; one more gets QUOTA, which
         like any answer that is not final is not recorded.
R-LED-49 From rules 3 on ops of all accounts of one owner count together for that; more devices are
         no more memory.
R-LED-8  An op does all it asks for, or nothing but record its result.
R-LED-9  TRANSFER moves `amount` (at least 1) from the signer's account to another existing one; the
         signer's never falls below its floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from demesh.ledger.channels import (
    OpenVoucher,
    Outcome,
    cap_lane,
    claim,
    close_channel,
    extend,
    open_channel,
    settle_claims,
    top_up,
)
from demesh.ledger.credit import allot
from demesh.ledger.draft import Draft
from demesh.ledger.events import Event, Transferred
from demesh.ledger.guarantees import call, guarantee, release
from demesh.ledger.membership import set_member
from demesh.ledger.state import Result
from demesh.wire.opbodies import (
    Allot,
    Call,
    CapLane,
    Claim,
    Close,
    Extend,
    Guarantee,
    OpBody,
    OpenChannel,
    Release,
    SetMember,
    Settle,
    TopUp,
    Transfer,
)

# Long enough for a device that lost its network for an evening to have its op included on return;
# every day more is another day of op ids in every device's memory.
VALIDITY_S_MAX = 86_400

# One op every 21 s for a whole day, far above what a home needs. A remembered op takes about 0.7 kB
# of memory (measured), so a device that spends it all costs the others 3 MB; ten of them, 30 MB.
REMEMBERED_MAX = 4_096


@dataclass(frozen=True, slots=True)
class SignedOp:
    """An op whose signature was checked: its id (32 bytes), who signed it and what it asks."""

    id: bytes
    signer: bytes
    valid_until_s: int
    body: OpBody


def execute(
    draft: Draft, op: SignedOp, open_voucher: OpenVoucher
) -> tuple[Result, tuple[Event, ...]]:
    """Answer one op and do what it asks, if the rules allow (R-LED-5 .. 8)."""
    receipt = draft.receipt(op.id)
    if receipt is not None:
        return receipt.result, ()
    if op.valid_until_s < draft.time_s:
        return Result.EXPIRED, ()
    if draft.remembered(op.signer) >= REMEMBERED_MAX:
        return Result.QUOTA, ()
    if op.valid_until_s > draft.time_s + VALIDITY_S_MAX:
        return Result.VALIDITY, ()
    outcome = _dispatch(draft, op, open_voucher)
    result, events = (outcome, ()) if isinstance(outcome, Result) else (Result.OK, outcome)
    if result.final:
        draft.remember(op.id, op.signer, op.valid_until_s, result)
    return result, events


def transfer(draft: Draft, op: bytes, payer: bytes, body: Transfer) -> Outcome:
    """TRANSFER (R-LED-9)."""
    if draft.account(payer) is None:
        return Result.SIGNER
    if body.to == payer or draft.account(body.to) is None:
        return Result.PEER
    if body.amount < 1:
        return Result.AMOUNT
    if body.amount > draft.room(payer):
        return Result.FUNDS
    draft.post(payer, -body.amount)
    draft.post(body.to, body.amount)
    return (Transferred(op, payer, body.to, body.amount),)


def _dispatch(draft: Draft, op: SignedOp, open_voucher: OpenVoucher) -> Outcome:
    match op.body:
        case Transfer():
            return transfer(draft, op.id, op.signer, op.body)
        case OpenChannel():
            return open_channel(draft, op.id, op.signer, op.body)
        case Claim():
            return claim(draft, op.body, open_voucher)
        case Close():
            return close_channel(draft, op.signer, op.body, open_voucher)
        case SetMember():
            return set_member(draft, op.signer, op.body)
        case TopUp():
            return top_up(draft, op.signer, op.body)
        case Extend():
            return extend(draft, op.signer, op.body)
        case Settle():
            return settle_claims(draft, op.signer, op.body, open_voucher)
        case CapLane():
            return cap_lane(draft, op.body, open_voucher)
        case Allot():
            return allot(draft, op.id, op.signer, op.body)
        case Guarantee():
            return guarantee(draft, op.id, op.signer, op.body)
        case Release():
            return release(draft, op.id, op.signer, op.body)
        case Call():
            return call(draft, op.id, op.signer, op.body)
        case _:
            assert_never(op.body)
