"""What an owner certifies about a device."""

from __future__ import annotations

from dataclasses import dataclass

from demesh.wire.schema import Id, Name, PublicKey, Signature


@dataclass(frozen=True, slots=True)
class DeviceCertificate:
    """An owner's word that a device is theirs; signed by the owner's key."""

    name: Name
    device_class: Name
    owner: Id
    device_key: PublicKey
    vote_key: PublicKey
    signature: Signature
