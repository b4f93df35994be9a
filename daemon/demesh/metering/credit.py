"""What a payer has promised, how much of that is on disk, and which readings it has not paid."""

from __future__ import annotations

from demesh.metering.meter import QUANTA_PATIENCE
from demesh.ports import Instant


class Credit:
    """The greatest voucher of one channel, and since when more is due (R-MET-14, R-MET-16)."""

    __slots__ = ("_unpaid", "claim", "durable", "frame")

    def __init__(self, claim: int = 0, frame: bytes = b"") -> None:
        self.claim = self.durable = claim
        self.frame = frame
        self._unpaid: list[tuple[int, Instant]] = []

    def promised(self, cum: int, frame: bytes) -> bool:
        """A voucher; True if it is the greatest. Repeated or reordered ones change nothing."""
        if cum <= self.claim:
            return False
        self.claim, self.frame = cum, frame
        self._unpaid = [(need, at) for need, at in self._unpaid if need > cum]
        return True

    def claimed(self, amount: int) -> None:
        """The ledger holds a claim of this much: it is as durable as anything can be."""
        self.promised(amount, self.frame)
        self.durable = max(self.durable, amount)

    def exposed(self, allowance: int) -> bool:
        """Whether a crash now could lose more than `allowance` of what was promised."""
        return self.claim - self.durable > allowance

    def asked(self, need: int, now: Instant) -> None:
        """A reading went out; at most three can be unpaid before patience ends."""
        if need > self.claim:
            self._unpaid.append((need, now))

    def patience_ends(self, quantum_ns: int) -> Instant | None:
        """When the oldest unpaid reading ends the service; None if nothing is due."""
        if not self._unpaid:
            return None
        return self._unpaid[0][1] + QUANTA_PATIENCE * quantum_ns
