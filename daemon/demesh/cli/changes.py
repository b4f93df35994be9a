"""`demesh member set`: what owners want of a device, as an op; what is missing, in plain words."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping
from pathlib import Path

from nacl.signing import SigningKey

from demesh.cli.members import Mesh, load_owner_keys, public_key, quorum, read_mesh
from demesh.cli.results import SENTENCES
from demesh.cli.run import read_certificate
from demesh.cli.submit import Submission
from demesh.errors import ConfigError, RefusedError
from demesh.ledger.enrolment import enrol
from demesh.ledger.membership import MEMBERS_MAX
from demesh.ledger.state import Result
from demesh.wire import identity
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.identity import VOTERS_MAX, WEIGHT_MAX
from demesh.wire.opbodies import SetMember

UNDECIDED = (
    "the change may still be made: look with demesh member list, and give the same command again "
    "if it was not"
)


def change(arguments: argparse.Namespace) -> int:
    """Make the change and say what came of it; raises DemeshError."""
    mesh = read_mesh(arguments.config)
    owners = load_owner_keys(mesh, arguments.owner_keys)
    certificate, weight = _wanted(mesh, owners, arguments)
    body = enrol(mesh.ledger, certificate, weight, owners.values())
    print("\n".join(submit(arguments.config, mesh, body)))
    return 0


def submit(path: Path, mesh: Mesh, body: SetMember) -> list[str]:
    """Have a change made; what is so from now on. Raises RefusedError and other DemeshErrors."""
    submission = Submission(path, mesh, body)
    _check(submission.foreseen(), mesh, body)
    submission.check_running()
    result, after = submission.carry(UNDECIDED)
    _check(result, mesh, body)
    return _outcome(mesh, after, body)


def _wanted(
    mesh: Mesh, owners: Mapping[bytes, SigningKey], arguments: argparse.Namespace
) -> tuple[DeviceCertificate, int]:
    """Certificate and weight that the device is to have; raises DemeshError."""
    name, known = arguments.name, mesh.named(arguments.name)
    given: int | None = arguments.weight
    if given is not None and not 0 <= given <= WEIGHT_MAX:
        raise ConfigError(f"--weight {given} is outside 0..{WEIGHT_MAX}")
    if arguments.certificate is not None:
        certificate = read_certificate(arguments.certificate)
        if certificate.name != name:
            raise ConfigError(
                f"{arguments.certificate}: is the certificate of {certificate.name}, not of {name}"
            )
        member = mesh.ledger.member(identity.device_id(certificate.device_key))
    elif known is None:
        names = sorted(m.certificate.name for _, m in mesh.ledger.members())
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)};"
        raise ConfigError(
            f"{mesh.body.name} has no device called {name}; {hint} a new one needs --certificate"
        )
    else:
        member = known[1]
        certificate = member.certificate
    if given is None:
        given = member.weight if member is not None else 0
    if arguments.vote_key is not None:
        certificate = with_vote_key(mesh, certificate, public_key(arguments.vote_key), owners)
    return certificate, given


def with_vote_key(
    mesh: Mesh,
    certificate: DeviceCertificate,
    vote_key: bytes,
    owners: Mapping[bytes, SigningKey],
) -> DeviceCertificate:
    """The certificate with another vote key, signed by the device's owner; raises RefusedError."""
    if certificate.vote_key == vote_key:
        return certificate
    owner = owners.get(certificate.owner)
    name = certificate.name
    if owner is None:
        known = certificate.owner in dict(mesh.ledger.owners())
        whose = mesh.owner_name(certificate.owner) if known else "its owner"
        raise RefusedError(
            f"{name} belongs to {whose}, who must sign for its new vote key: add --owner-key with "
            f"the key of {whose}"
        )
    keys = certificate.device_key, vote_key
    try:
        return identity.certify_device(owner, name, certificate.device_class, *keys)
    except ValueError as error:
        raise RefusedError(str(error)) from None


def _check(result: Result, mesh: Mesh, body: SetMember) -> None:
    """Raises RefusedError, in words, for any answer but OK."""
    if result is not Result.OK:
        raise RefusedError(_refusal(result, mesh, body))


def _refusal(result: Result, mesh: Mesh, body: SetMember) -> str:
    name, street = body.certificate.name, mesh.body.name
    owners = dict(mesh.ledger.owners())
    match result:
        case Result.MAJORITY:
            needed = len(owners) // 2 + 1
            given = [mesh.owner_name(approval.owner) for approval in body.approvals]
            missing = sorted(owner.name for owner in owners.values() if owner.name not in given)
            line = (
                f"{needed} of {len(owners)} owners must approve, {len(given)} did "
                f"({', '.join(sorted(given))}): add --owner-key of {' or '.join(missing)}"
            )
            member = mesh.ledger.member(identity.device_id(body.certificate.device_key))
            if member is not None and member.renewed_s and member.weight == body.weight:
                line += ", or wait: an owner alone renews a device's vote key once a day"
            return line
        case Result.UNCHANGED:
            return f"{name} has just this certificate, vote key and weight {body.weight} already"
        case Result.SIGNER:
            return (
                f"{mesh.config.device.name} is no member of {street} and cannot submit changes; "
                "give the --config of a device that is"
            )
        case Result.OWNER:
            return f"the certificate of {name} is not by its owner, or by no owner of {street}"
        case Result.CERTIFICATE:
            return f"the certificate of {name} does not hold: it was changed after it was signed"
        case Result.KEY:
            return f"{name} needs keys of its own: another device or an owner of {street} has one"
        case Result.NAME:
            return f"another device or an owner of {street} is called {name} already"
        case Result.VOTERS:
            return f"{street} needs 1 to {VOTERS_MAX} voters, and would have none, or more"
        case Result.WEIGHT:
            return f"the weights of all voters together would be above {WEIGHT_MAX}"
        case Result.MEMBERS:
            return f"{street} has {MEMBERS_MAX} members, and takes no more"
        case Result.SERIAL:
            return (
                f"{name} was changed meanwhile, perhaps by an earlier command of yours: look with "
                "demesh member list, and give this again if it is not as you want it"
            )
        case Result.EXPIRED:
            return "the change came too late: the mesh stood still for long; give it again"
        case Result.QUOTA:
            return f"{mesh.config.device.name} has too many ops remembered; try again later"
        case _:
            return f"the ledger of {street} refuses the change: {SENTENCES[result]}"


def _outcome(before: Mesh, after: Mesh, body: SetMember) -> list[str]:
    """What is so from now on."""
    certificate, electorate = body.certificate, after.ledger.electorate
    who = f"{certificate.name} of {after.owner_name(certificate.owner)}"
    weights = [voter.weight for voter in electorate.voters]
    since = f"from epoch {electorate.epoch} on: {who}"
    takes = f"a decision takes {quorum(weights)}"
    if body.weight:
        key = identity.text(identity.device_id(certificate.vote_key))
        share = f"weight {body.weight} of {sum(weights)}"
        return [f"{since} votes with {share}, as key {key}; {takes}"]
    known = before.named(certificate.name)
    if known is not None and known[1].weight:
        return [
            f"{since} observes; {len(weights)} others vote, with weight {sum(weights)}; {takes}"
        ]
    return [f"{who} is a member of {after.body.name} with weight 0: it observes"]
