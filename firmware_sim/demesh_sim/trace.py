"""What a run leaves behind: a digest of everything that happened, and how long decisions took."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from demesh.ports import Admitted, Effect, Input, Instant, Persist, Publish, Received, StoreBlock
from demesh_sim.checkers import PROPOSAL, open_frame, proposed_digest, stored_digest
from demesh_sim.memory_store import MemoryStore
from demesh_sim.witness import Witness


class Trace(Witness):
    """BLAKE2b over every turn: who, when, all inputs, all effects, in order.

    Equal seeds give equal digests on any machine and under any PYTHONHASHSEED; if they do not,
    something iterates over a set, reads a clock or draws its own entropy. `log`, if given, gets one
    line per turn, so that two runs can be compared.
    """

    def __init__(self, log: list[str] | None = None) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._log = log

    @property
    def digest(self) -> str:
        """The digest so far, as hexadecimal text."""
        return self._hash.copy().hexdigest()

    def turned(
        self, board: int, at: Instant, inputs: Sequence[Input], effects: Sequence[Effect]
    ) -> None:
        """Take a turn in."""
        self._hash.update(b"%d@%d" % (board, at))
        for item in inputs:
            self._add(item)
        self._hash.update(b">")
        for effect in effects:
            self._add(effect)
        if self._log is not None:
            self._log.append(f"{at} {board} {inputs!r} -> {effects!r}")

    def stopped(self, board: int, at: Instant) -> None:
        """Take an end in."""
        self._hash.update(b"%d@%d stopped" % (board, at))

    def _add(self, item: Input | Effect) -> None:
        # Messages are nearly all there is, so they do not go through repr.
        if isinstance(item, Admitted):
            item = item.received
        if isinstance(item, Received | Publish):
            self._hash.update(item.topic.encode())
            self._hash.update(item.payload)
        else:
            self._hash.update(repr(item).encode())


class Finality(Witness):
    """From a block's first proposal leaving its leader to each board's disk, in virtual time."""

    def __init__(self) -> None:
        self.taken_ns: list[int] = []
        self._proposed: dict[bytes, Instant] = {}

    def publishing(self, board: int, at: Instant, message: Publish, store: MemoryStore) -> None:
        """A proposal starts its block's clock."""
        frame = open_frame(message.payload)
        if frame is not None and frame.kind == PROPOSAL:
            self._proposed.setdefault(proposed_digest(frame), at)

    def persisted(
        self, board: int, at: Instant, effects: Sequence[Persist], store: MemoryStore
    ) -> None:
        """A finalized block stops it, once per board."""
        for effect in effects:
            if isinstance(effect, StoreBlock):
                began = self._proposed.get(stored_digest(effect))
                if began is not None:
                    self.taken_ns.append(at - began)

    def percentile_ms(self, percent: int) -> int | None:
        """What `percent` of all (block, board) pairs stayed within, in ms; None without a block."""
        if not self.taken_ns:
            return None
        ordered = sorted(self.taken_ns)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] // 1_000_000
