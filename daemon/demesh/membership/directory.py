"""Who belongs to the mesh: devices, their keys, owners and weights, by every name they go by."""

from __future__ import annotations

from dataclasses import dataclass

from demesh.wire import identity
from demesh.wire.messages import DeviceCertificate, GenesisBody


@dataclass(frozen=True, slots=True)
class Member:
    """A device of the mesh. `voter` is its index among the voters, None for an observer."""

    id: bytes
    vote_id: bytes
    certificate: DeviceCertificate
    owner_name: str
    weight: int
    voter: int | None

    @property
    def name(self) -> str:
        """What its owner calls it."""
        return self.certificate.name


class Directory:
    """All members, in the order of the genesis."""

    def __init__(self, body: GenesisBody) -> None:
        owners = {
            identity.device_id(key): name
            for key, name in zip(body.owners, body.owner_names, strict=True)
        }
        members, voters = [], 0
        for device in body.devices:
            certificate = device.certificate
            members.append(
                Member(
                    identity.device_id(certificate.device_key),
                    identity.device_id(certificate.vote_key),
                    certificate,
                    owners[certificate.owner],
                    device.weight,
                    voters if device.weight else None,
                )
            )
            voters += bool(device.weight)
        self.members = tuple(members)
        self.voters = tuple(member for member in members if member.voter is not None)
        self._by_id = {member.id: member for member in members}
        self._by_vote_id = {member.vote_id: member for member in members}

    def member(self, device: bytes) -> Member | None:
        """By the id of its device key."""
        return self._by_id.get(device)

    def voter(self, vote_id: bytes) -> Member | None:
        """By the id of its vote key."""
        member = self._by_vote_id.get(vote_id)
        return member if member is not None and member.voter is not None else None

    def name(self, device: bytes) -> str:
        """A name for people; the id's beginning for a stranger."""
        member = self._by_id.get(device)
        return member.name if member else identity.text(device)[:8]
