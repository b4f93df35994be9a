"""What one device says to another: sealed, where the mesh's wire version asks for it (R-SEA-1)."""

from __future__ import annotations

from demesh.membership.directory import Directory, Member
from demesh.ports import Publish
from demesh.wire.kinds import Reject
from demesh.wire.messages import Signal
from demesh.wire.readings import Voucher
from demesh.wire.sealing import Sealer
from demesh.wire.signer import Signer
from demesh.wire.topics import Topics


class Direct:
    """Direct messages of one device; without a sealer they go as they are."""

    def __init__(
        self, directory: Directory, signer: Signer, topics: Topics, sealer: Sealer | None
    ) -> None:
        self._directory, self._signer, self._topics = directory, signer, topics
        self._sealer = sealer

    def send(self, to: bytes, message: Signal | Voucher) -> list[Publish]:
        """A message to a member; nothing if it has left, for there is nobody to seal it for."""
        frame = self._signer.seal(message)
        if self._sealer is not None:
            member = self._directory.member(to)
            if member is None:
                return []
            frame = self._sealer.seal(member.certificate.device_key, frame)
        return [Publish(self._topics.to(to), frame)]

    def open(self, sender: Member, payload: bytes) -> bytes | Reject:
        """The frame in what came on this sender's topic."""
        if self._sealer is None:
            return payload
        return self._sealer.open(sender.certificate.device_key, payload)
