"""What each answer of the ledger means to a person who asked for something."""

from __future__ import annotations

from demesh.ledger.channels import CHANNELS_MAX, EXPIRY_S_MAX, WINDOW_S_MAX, WINDOW_S_MIN
from demesh.ledger.guarantees import GUARANTEES_MAX
from demesh.ledger.membership import MEMBERS_MAX
from demesh.ledger.ops import REMEMBERED_MAX
from demesh.ledger.state import Result
from demesh.wire.identity import VOTERS_MAX, WEIGHT_MAX

SENTENCES: dict[Result, str] = {
    Result.OK: "it is done",
    Result.EXPIRED: "it came too late, for the mesh stood still for long; give it again",
    Result.VALIDITY: "it would be valid for longer than the ledger remembers it; give it again",
    Result.QUOTA: f"{REMEMBERED_MAX} ops of this owner are remembered already; try again later",
    Result.SIGNER: "whoever signed it has no account",
    Result.PEER: "the other account does not exist, or is the signer's own",
    Result.AMOUNT: "the amount must be above 0",
    Result.FUNDS: "the account would fall below its floor",
    Result.EXPIRY: f"it must end after now, and within {EXPIRY_S_MAX // 86_400} days",
    Result.WINDOW: f"its window must have {WINDOW_S_MIN} to {WINDOW_S_MAX} seconds",
    Result.SPLITS: "a part goes to an unknown account or to one twice, or the parts pass the whole",
    Result.CHANNELS: f"the payer has {CHANNELS_MAX} channels open, and may have no more",
    Result.TAKEN: "a channel of this id is open already",
    Result.CHANNEL: "there is no such channel: it is settled, or was never opened",
    Result.VOUCHER: "the voucher is not one of this channel's payer for this channel",
    Result.LANE: "the voucher is for a lane that a channel does not have",
    Result.NOTHING: "the ledger has as much or more of it already: it would change nothing",
    Result.PARTY: "this is for the channel's other party, or for nobody but its parties",
    Result.CLOSING: "the channel is closing already, or has expired",
    Result.CROWDED: "the block had answered as many such ops as it may; give it again",
    Result.SERIAL: "the device was changed meanwhile; look with demesh member list",
    Result.OWNER: "the certificate is not by the device's owner, or by no owner of the mesh",
    Result.UNCHANGED: "the device has just this certificate and weight already",
    Result.KEY: "another device or an owner has one of its keys; it needs keys of its own",
    Result.NAME: "another device or an owner is called so already",
    Result.MEMBERS: f"the mesh has {MEMBERS_MAX} members, and takes no more",
    Result.VOTERS: f"the mesh needs 1 to {VOTERS_MAX} voters, and would have none, or more",
    Result.WEIGHT: f"the weights of all voters together would be above {WEIGHT_MAX}",
    Result.APPROVER: "somebody approves who is no owner of the mesh, or an owner twice",
    Result.MAJORITY: "too few owners approve",
    Result.CERTIFICATE: "the certificate does not hold: it was changed after it was signed",
    Result.APPROVAL: "the signature of an approval does not hold",
    Result.CAP: "the cap is not one of this channel's payee for this channel",
    Result.CREDIT: "the account, or the mesh, has less credit than that to give",
    Result.LINK: "the link is none of the voucher's chain",
    Result.BACKING: "a guarantee needs as much money above 0 that backs no other one",
    Result.GUARANTEE: "there is no such guarantee, or a smaller one",
    Result.GUARANTEES: f"it guarantees for {GUARANTEES_MAX} others, and may for no more",
    Result.DEBT: "the other account owes less than that",
}
