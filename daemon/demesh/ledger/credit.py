"""Credit: how far below 0 accounts may fall, and how owners share theirs out.

R-LED-34  ALLOT by an owner gives `amount` of its account's credit to another account of its own, or
          takes back what is below 0: one floor rises, the other falls by as much. Neither floor
          gets above 0 (CREDIT), and whoever gives does not need what it gives: its balance is not
          below its new floor (FUNDS). Credit by guarantees is not its to give (CREDIT). So the sum
          of all floors stays, and more devices are no more credit.
"""

from __future__ import annotations

from demesh.ledger.channels import Outcome
from demesh.ledger.draft import Draft
from demesh.ledger.events import Allotted
from demesh.ledger.state import Result
from demesh.wire.opbodies import Allot


def allot(draft: Draft, op: bytes, signer: bytes, body: Allot) -> Outcome:
    """ALLOT (R-LED-34)."""
    account = draft.account(body.to)
    if draft.account(signer) is None:
        return Result.SIGNER
    if body.to == signer or account is None or account.owner != signer:
        return Result.PEER
    if body.amount == 0:
        return Result.AMOUNT
    giver, taker = (signer, body.to) if body.amount > 0 else (body.to, signer)
    amount = abs(body.amount)
    if amount > draft.credit(giver):
        return Result.CREDIT
    if amount > draft.slack(giver):
        return Result.FUNDS
    draft.move_floor(giver, amount)
    draft.move_floor(taker, -amount)
    return (Allotted(op, signer, body.to, body.amount),)
