"""Ops that wait for a block, in order of arrival and bounded, per signer and in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from demesh.ledger.ops import SignedOp
from demesh.wire.kinds import Reject

# Minutes of a busy mesh; one signer alone cannot fill it.
PENDING_MAX = 1024
PENDING_PER_SIGNER_MAX = 64


@dataclass(frozen=True, slots=True)
class Pending:
    """An op that waits, with its frame."""

    op: SignedOp
    frame: bytes


class OpPool:
    """Pending ops of one node."""

    def __init__(self) -> None:
        self._pending: dict[bytes, Pending] = {}
        self._of_signer: Counter[bytes] = Counter()
        self._heard: dict[bytes, None] = {}  # ops that others published in this interval

    def __iter__(self) -> Iterator[Pending]:
        return iter(self._pending.values())

    def __contains__(self, op: SignedOp) -> bool:
        return op.id in self._pending

    def add(self, op: SignedOp, frame: bytes) -> Reject | None:
        """Take an op that is not here yet; FULL if there is no room."""
        if len(self._pending) >= PENDING_MAX:
            return Reject.FULL
        if self._of_signer[op.signer] >= PENDING_PER_SIGNER_MAX:
            return Reject.FULL
        self._pending[op.id] = Pending(op, frame)
        self._of_signer[op.signer] += 1
        return None

    def keep(self, wanted: Callable[[SignedOp], bool]) -> None:
        """Drop every op that is not wanted any more."""
        self._pending = {id: p for id, p in self._pending.items() if wanted(p.op)}
        self._of_signer = Counter(p.op.signer for p in self._pending.values())

    def heard(self, op: SignedOp) -> None:
        """Somebody else published this op: nobody needs it from me in this interval."""
        if op.id in self._pending:
            self._heard[op.id] = None

    def unheard(self) -> tuple[bytes, ...]:
        """Frames to publish again at a standstill, oldest first; a new interval begins."""
        frames = [p.frame for id, p in self._pending.items() if id not in self._heard]
        self._heard.clear()
        return tuple(frames)
