"""Guarantees: credit that one account has because another answers for it with its own money.

Theory of operation. What is guaranteed is locked in the giver's balance and lowers the taker's
floor by as much, so whoever sells to the taker is as safe as with the giver's money. Only money
backs a guarantee, never credit: an account with anything locked spends nothing below it. So
accounts that guarantee for each other in a circle may shift money around in it as they like, but
what leaves the circle is never more than came into it.

R-LED-35  GUARANTEE adds `amount`, at least 1, to what the signer's account answers for another's
          with; its balance above what is locked is at least that (BACKING). At most
          GUARANTEES_MAX others for each giver (GUARANTEES); all floors together stay within
          R-LED-2 (CREDIT).
R-LED-36  An account with locked money never falls below it.
R-LED-37  RELEASE by the giver takes back `amount`, at least 1, of a guarantee that is as large
          (GUARANTEE), as far as the taker's balance stays above its floor then (FUNDS).
R-LED-38  CALL by the giver pays `amount`, at least 1, of what the taker owes: no more than its
          balance is below 0 (DEBT), nor than the guarantee (GUARANTEE), which shrinks by as much.
"""

from __future__ import annotations

from demesh.ledger.channels import Outcome
from demesh.ledger.draft import Draft
from demesh.ledger.events import Guaranteed, Moved
from demesh.ledger.state import Result
from demesh.wire.opbodies import Call, Guarantee, Release

# Enough for a family or a street; it bounds what is counted when another one is given.
GUARANTEES_MAX = 16


def guarantee(draft: Draft, op: bytes, giver: bytes, body: Guarantee) -> Outcome:
    """GUARANTEE (R-LED-35)."""
    account = draft.account(giver)
    if account is None:
        return Result.SIGNER
    if body.taker == giver or draft.account(body.taker) is None:
        return Result.PEER
    if body.amount < 1:
        return Result.AMOUNT
    if body.amount > account.balance - account.locked:
        return Result.BACKING
    if body.amount > draft.credit_left():
        return Result.CREDIT
    if not draft.guarantee(giver, body.taker) and draft.takers(giver) >= GUARANTEES_MAX:
        return Result.GUARANTEES
    draft.move_guarantee(giver, body.taker, body.amount)
    return (Guaranteed(op, giver, body.taker, body.amount, Moved.GIVEN),)


def release(draft: Draft, op: bytes, giver: bytes, body: Release) -> Outcome:
    """RELEASE (R-LED-37)."""
    if draft.account(giver) is None:
        return Result.SIGNER
    if body.amount < 1:
        return Result.AMOUNT
    if body.amount > draft.guarantee(giver, body.taker):
        return Result.GUARANTEE
    if body.amount > draft.slack(body.taker):
        return Result.FUNDS
    draft.move_guarantee(giver, body.taker, -body.amount)
    return (Guaranteed(op, giver, body.taker, body.amount, Moved.RELEASED),)


def call(draft: Draft, op: bytes, giver: bytes, body: Call) -> Outcome:
    """CALL (R-LED-38)."""
    if draft.account(giver) is None:
        return Result.SIGNER
    if body.amount < 1:
        return Result.AMOUNT
    if body.amount > draft.guarantee(giver, body.taker):
        return Result.GUARANTEE
    taker = draft.account(body.taker)
    assert taker is not None, "accounts with a guarantee stay"
    if body.amount > -taker.balance:
        return Result.DEBT
    draft.post(body.taker, body.amount)
    draft.move_guarantee(giver, body.taker, -body.amount)
    draft.post(giver, -body.amount)
    return (Guaranteed(op, giver, body.taker, body.amount, Moved.CALLED),)
