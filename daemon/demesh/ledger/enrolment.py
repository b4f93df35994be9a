"""What owners sign to change a device's membership, from what the ledger knows of it now."""

from __future__ import annotations

from collections.abc import Iterable

from nacl.signing import SigningKey

from demesh.ledger.ledger import Ledger
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.frame import Binding
from demesh.wire.identity import approve_member, device_id
from demesh.wire.opbodies import SetMember


def enrol(
    ledger: Ledger, certificate: DeviceCertificate, weight: int, owners: Iterable[SigningKey]
) -> SetMember:
    """The device's next change, approved by these owners, as they gave their keys (R-LED-21)."""
    electorate = ledger.electorate
    binding = Binding(electorate.mesh_id, electorate.generation)
    member = ledger.member(device_id(certificate.device_key))
    serial = 1 if member is None else member.serial + 1
    approvals = (approve_member(key, binding, certificate, weight, serial) for key in owners)
    return SetMember(certificate, weight, serial, tuple(approvals))
