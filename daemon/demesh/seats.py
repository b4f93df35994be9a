"""Who votes in which epoch, and with which key: the ledger's electorate, for consensus and wire.

Consensus knows voters by index, and an index means something in one epoch only; here they are made
devices. Whoever has a seat can be verified; a vote key that was replaced is forgotten.
"""

from __future__ import annotations

import hashlib

from demesh.ledger.ledger import Ledger
from demesh.ledger.state import Electorate
from demesh.membership.directory import Directory
from demesh.wire import identity
from demesh.wire.schema import encode
from demesh.wire.signer import Signer, VoteCrypto
from demesh.wire.validate import Validator
from demesh_consensus import Block, Franchise, Voters


class Seats:
    """The seats from the epoch before the ledger's on; keeps directory and validator in step.

    Consensus may be ahead of the ledger: who decides alone passes many epochs in one turn.
    """

    def __init__(self, directory: Directory, signer: Signer, validator: Validator) -> None:
        self._directory, self._signer, self._validator = directory, signer, validator
        self._seats: dict[int, tuple[Voters, tuple[bytes, ...]]] = {}

    def seat(self, electorate: Electorate) -> Franchise:
        """An epoch's voters with their keys (R-CON-14)."""
        voters = Voters(
            electorate.epoch,
            tuple(elector.weight for elector in electorate.voters),
            hashlib.blake2b(encode(electorate), digest_size=32).digest(),
            electorate.rules_version,
        )
        keys = {
            identity.device_id(elector.vote_key): elector.vote_key for elector in electorate.voters
        }
        for vote_id, key in keys.items():
            self._validator.enrol(vote_id, key)
        kids, mine = tuple(keys), self._signer.vote_id
        self._seats[voters.epoch] = voters, tuple(elector.device for elector in electorate.voters)
        crypto = VoteCrypto(self._signer, self._validator, kids)
        return Franchise(voters, kids.index(mine) if mine in keys else None, crypto)

    def device(self, epoch: int, voter: int) -> bytes:
        """The id of a voter's device."""
        return self._seats[epoch][1][voter]

    def leader(self, block: Block) -> bytes:
        """The id of the device that led the block's view."""
        return self.device(block.epoch, self._seats[block.epoch][0].leader(block.view))

    def renew(self, ledger: Ledger) -> None:
        """Members and their keys are now as this finalized ledger says."""
        oldest = ledger.electorate.epoch - 1
        self._seats = {epoch: seats for epoch, seats in self._seats.items() if epoch >= oldest}
        before = self._directory.members
        self._directory.renew(
            {id: owner.name for id, owner in ledger.owners()},
            [(member.certificate, member.weight) for _, member in ledger.members()],
            [elector.device for elector in ledger.electorate.voters],
        )
        for member in self._directory.members:
            self._validator.enrol(member.id, member.certificate.device_key)
            self._validator.enrol(member.vote_id, member.certificate.vote_key)
        kept = {self._signer.vote_id, *(member.vote_id for member in self._directory.members)}
        for member in before:
            # What was one device's vote key may be another one's device key now.
            if member.vote_id not in kept and self._directory.member(member.vote_id) is None:
                self._validator.forget(member.vote_id)
