"""Members: which devices belong to the mesh, which of them vote, and who had a say in it.

Theory of operation. Owners decide, off the device: a MEMBER op carries their signatures over one
device's whole membership and the number of the change, so it cannot be altered, used twice, or used
in another mesh, and anybody may submit it. Ops change members at once, but voters only at the end
of the block: who votes is one record, and a block that changes it closes its epoch, however many
ops had a part in that. Consensus needs nothing else to know whose votes count for the next block.

R-LED-21  MEMBER, by anyone with an account: a device has this certificate and weight from now on.
          Weight 0 observes. Faults are looked for in the order of their codes, signatures last.
R-LED-22  `serial` is the member's plus 1, and 1 for a device that is not a member.
R-LED-23  The certificate holds (R-ID-8) for its owner, who is an owner of the mesh and, for a
          member, the one it has. It or the weight differs from the member's, in more than the
          certificate's signature. No key of the device is another member's or an owner's, and no
          other member and no owner has its name, unless it had the name before.
R-LED-24  Approvals hold (R-WIRE-5) and are by different owners, more than half of all. If nothing
          but the vote key changes, the device's own owner is enough, once in RENEWAL_S_MIN: a lost
          journal needs no meeting, and every new vote key of a voter ends an epoch for everybody.
          A single approval that does not count fails the op.
R-LED-25  Afterwards there are 1 to VOTERS_MAX voters, of WEIGHT_MAX at most together, and at most
          MEMBERS_MAX members. A member stays one: with weight 0 it has no say.
R-LED-26  A block answers at most ENROLMENTS_MAX MEMBER ops of signers with an account. One more
          gets CROWDED, is not recorded and may come again.
R-LED-27  At the end of a block, if the members with a weight, their weights or their vote keys are
          not those of the electorate, it is rewritten and its epoch rises by 1: this block closes
          the epoch. Voters that stay keep their order, new ones follow in the order of their ids.
R-LED-28  A device without an account gets one, with balance 0 and floor 0, of its owner.
"""

from __future__ import annotations

from dataclasses import replace

from demesh.ledger.channels import Outcome
from demesh.ledger.draft import Draft
from demesh.ledger.events import Enrolled
from demesh.ledger.state import Account, AccountKind, Membership, Owner, Result
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.frame import Binding
from demesh.wire.identity import (
    VOTERS_MAX,
    WEIGHT_MAX,
    check_approval,
    check_certificate,
    device_id,
)
from demesh.wire.opbodies import SetMember

# As many as a genesis may have. Members are never deleted, so this also bounds what is stored and
# what a MEMBER op must be compared with.
MEMBERS_MAX = 1_024

# Among 1,000 members an op costs 1.5 ms for being compared with all of them, 4 ms with 33 approvals
# (measured). The bytes of a block have room for some 80 small ones: 120 ms of every voter's time,
# for anybody with an account. 16 cost 24 ms, 64 ms at most. With fewer, a day on which 100 devices
# join would be a day of epochs; so it takes 7 blocks.
ENROLMENTS_MAX = 16


# A day. Each renewal costs all others an epoch: a round trip, and 1.5 kB for as long as the mesh
# lives. Disks that lose a journal twice a day are replaced, and more than half of the owners can
# always allow one more.
RENEWAL_S_MIN = 86_400


def set_member(draft: Draft, signer: bytes, body: SetMember) -> Outcome:
    """MEMBER (R-LED-21)."""
    if draft.account(signer) is None:
        return Result.SIGNER
    if draft.enrolments >= ENROLMENTS_MAX:
        return Result.CROWDED
    draft.enrolments += 1
    certificate, weight = body.certificate, body.weight
    device = device_id(certificate.device_key)
    member = draft.member(device)
    owners = draft.owners()
    refused = (
        _misfit(member, owners, body)
        or _taken(draft, device, member, owners, certificate)
        or _out_of_bounds(draft, device, member, weight)
        or _unsigned(draft, member, owners, body)
    )
    if refused:
        return refused
    alone = member is not None and not _enough(owners, body)
    renewed_s = draft.time_s if alone else 0 if member is None else member.renewed_s
    draft.put_member(device, Membership(certificate, weight, body.serial, renewed_s))
    if draft.account(device) is None:
        draft.open_account(device, Account(certificate.owner, AccountKind.DEVICE, 0, 0))
    return (Enrolled(device, certificate.owner, certificate.name, weight, body.serial),)


def close_epoch(draft: Draft) -> bool:
    """Rewrite the electorate if this block changed the voters; whether it did (R-LED-27)."""
    electorate, voters = draft.electorate, draft.voters()
    if voters == electorate.voters:
        return False
    draft.put_electorate(replace(electorate, epoch=electorate.epoch + 1, voters=voters))
    return True


def _misfit(
    member: Membership | None, owners: dict[bytes, Owner], body: SetMember
) -> Result | None:
    """R-LED-22, and of R-LED-23 what the device's own membership and the owners say."""
    if body.serial != (1 if member is None else member.serial + 1):
        return Result.SERIAL
    owner = body.certificate.owner
    if owner not in owners or (member is not None and member.certificate.owner != owner):
        return Result.OWNER
    if member is not None and _same(member, body):
        return Result.UNCHANGED
    return None


def _same(member: Membership, body: SetMember) -> bool:
    """Whether nothing would change but the certificate's signature."""
    signed_alike = replace(body.certificate, signature=member.certificate.signature)
    return member.weight == body.weight and member.certificate == signed_alike


def _taken(
    draft: Draft,
    device: bytes,
    member: Membership | None,
    owners: dict[bytes, Owner],
    certificate: DeviceCertificate,
) -> Result | None:
    """R-LED-23: names and keys of others."""
    others = [other.certificate for id, other in draft.members() if id != device]
    keys = {certificate.device_key, certificate.vote_key}
    if any(owner.key in keys for owner in owners.values()) or any(
        other.device_key in keys or other.vote_key in keys for other in others
    ):
        return Result.KEY
    if member is not None and member.certificate.name == certificate.name:
        return None
    names = [*(owner.name for owner in owners.values()), *(other.name for other in others)]
    return Result.NAME if certificate.name in names else None


def _out_of_bounds(
    draft: Draft, device: bytes, member: Membership | None, weight: int
) -> Result | None:
    """R-LED-25."""
    if member is None and sum(1 for _ in draft.members()) >= MEMBERS_MAX:
        return Result.MEMBERS
    weights = [elector.weight for elector in draft.voters() if elector.device != device]
    if weight:
        weights.append(weight)
    if not 1 <= len(weights) <= VOTERS_MAX:
        return Result.VOTERS
    return Result.WEIGHT if sum(weights) > WEIGHT_MAX else None


def _unsigned(
    draft: Draft, member: Membership | None, owners: dict[bytes, Owner], body: SetMember
) -> Result | None:
    """R-LED-24, and that the certificate holds (R-LED-23)."""
    certificate = body.certificate
    approving = {approval.owner for approval in body.approvals}
    if len(approving) < len(body.approvals) or not approving <= owners.keys():
        return Result.APPROVER
    if not _enough(owners, body):
        due = member is None or draft.time_s >= member.renewed_s + RENEWAL_S_MIN
        if not (due and _renews(member, body) and certificate.owner in approving):
            return Result.MAJORITY
    if not check_certificate(certificate, owners[certificate.owner].key):
        return Result.CERTIFICATE
    electorate = draft.electorate
    binding = Binding(electorate.mesh_id, electorate.generation)
    for approval in body.approvals:
        key = owners[approval.owner].key
        if not check_approval(approval, key, binding, certificate, body.weight, body.serial):
            return Result.APPROVAL
    return None


def _enough(owners: dict[bytes, Owner], body: SetMember) -> bool:
    """More than half of the owners approve; that they are different is checked elsewhere."""
    return 2 * len(body.approvals) > len(owners)


def _renews(member: Membership | None, body: SetMember) -> bool:
    """Whether nothing but the vote key of a member would change."""
    if member is None:
        return False
    vote_key = member.certificate.vote_key
    renewed = replace(body.certificate, vote_key=vote_key)
    return _same(member, replace(body, certificate=renewed))
