"""Who this device is: its name, its keys, and whether the mesh knows it under them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from nacl.signing import SigningKey

from demesh.errors import ConfigError
from demesh.membership.directory import Directory, Member
from demesh.wire import identity
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.messages import GenesisBody


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A device's name and class, as its certificate says them, and its two keys.

    A device that its genesis does not name brings its owner's certificate: it listens until the
    mesh takes it in.
    """

    name: str
    device_class: str
    device_key: SigningKey
    vote_key: SigningKey
    certificate: DeviceCertificate | None = None


class Place(Enum):
    """What a device is in its mesh, as far as it has read the ledger."""

    GUEST = "guest"  # no member (yet): it listens
    STRANGE_KEY = "strange key"  # a member, but with another vote key than the one it holds
    OBSERVER = "observer"  # without a say
    VOTER = "voter"


def place_of(directory: Directory, vote_id: bytes) -> Place:
    """The place of this device, which holds this vote key."""
    if directory.guest:
        return Place.GUEST
    if directory.me.vote_id != vote_id:
        return Place.STRANGE_KEY
    return Place.OBSERVER if directory.me.voter is None else Place.VOTER


def self_portrait(keys: NodeIdentity, body: GenesisBody) -> Member:
    """What a device knows of itself before a ledger says more; raises ConfigError."""
    device_key, vote_key = bytes(keys.device_key.verify_key), bytes(keys.vote_key.verify_key)
    given = keys.certificate
    owners = {identity.device_id(key): key for key in body.owners}
    if given is not None:
        if (given.name, given.device_class) != (keys.name, keys.device_class):
            raise ConfigError(
                f"device.name and device.class are {keys.name!r}, {keys.device_class!r}, but its "
                f"certificate says {given.name!r}, {given.device_class!r}"
            )
        owner_key = owners.get(given.owner)
        if owner_key is None or not identity.check_certificate(given, owner_key):
            raise ConfigError(
                f"the certificate of {given.name} is not signed by an owner of {body.name}; "
                "ask one of them for it"
            )
        if given.device_key != device_key:
            raise ConfigError(f"the certificate of {given.name} is for another device key")
    certificate = given or DeviceCertificate(
        keys.name, keys.device_class, bytes(16), device_key, vote_key, bytes(64)
    )
    return Member(
        identity.device_id(device_key),
        identity.device_id(vote_key),
        certificate,
        "",
        0,
        None,
    )


def check_membership(keys: NodeIdentity, directory: Directory, body: GenesisBody) -> None:
    """Is this the device that the mesh knows under these keys? Raises ConfigError."""
    member = directory.member(directory.me.id)
    if member is None and keys.certificate is None:
        raise ConfigError(
            f"this device ({identity.text(directory.me.id)}) is not a member of {body.name}: "
            "give it the keys it was certified with, the right genesis, or its owner's "
            "certificate to wait with until the mesh takes it in"
        )
    if member is not None and (keys.name, keys.device_class) != (
        member.certificate.name,
        member.certificate.device_class,
    ):
        raise ConfigError(
            f"device.name and device.class are {keys.name!r}, {keys.device_class!r}, but its "
            f"certificate says {member.name!r}, {member.certificate.device_class!r}"
        )
