"""Who belongs to the mesh: devices, their keys, owners and weights, by every name they go by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from demesh.wire import identity
from demesh.wire.certificates import DeviceCertificate


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
    """All members as of the finalized ledger; a new one is empty until it is renewed.

    `me` is this device, as it says itself for as long as it is not a member.
    """

    def __init__(self, me: Member) -> None:
        self.me = me
        self.members: tuple[Member, ...] = ()
        self.voters: tuple[Member, ...] = ()
        self._by_id: dict[bytes, Member] = {}
        self._by_vote_id: dict[bytes, Member] = {}

    def renew(
        self,
        owners: Mapping[bytes, str],
        members: Iterable[tuple[DeviceCertificate, int]],
        voters: Iterable[bytes],
    ) -> None:
        """Names of owners by id, all certificates with weights, ids of the voters in order."""
        places = {device: place for place, device in enumerate(voters)}
        listed = []
        for certificate, weight in members:
            device = identity.device_id(certificate.device_key)
            vote_id = identity.device_id(certificate.vote_key)
            owner = owners[certificate.owner]
            place = places.get(device)
            listed.append(Member(device, vote_id, certificate, owner, weight, place))
        self.members = tuple(listed)
        self._by_id = {member.id: member for member in listed}
        self._by_vote_id = {member.vote_id: member for member in listed}
        self.voters = tuple(self._by_id[device] for device in places)
        self.me = self._by_id.get(self.me.id, self.me)

    @property
    def guest(self) -> bool:
        """Is this device no member (yet)? Then nobody takes or answers what it says."""
        return self.me.id not in self._by_id

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
