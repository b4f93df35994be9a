"""One voter's disk: the vote journal and the blocks, and what a power cut takes of both.

The journal is in the real file's format (`demesh.storage.journal`), so that a cut at any byte is
read back by the same checksums. A record holds the number of its entry in a list of all that was
ever recorded, padded: what is tried here is what is lost, not how a vote is encoded. The blocks are
the ledger's database, which may be a second behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from demesh_consensus import Block, Certificate, Entry, Instant
from demesh_sim.memory_store import EMPTY_JOURNAL, journal_frame, read_journal

# About what a vote takes in the real journal; a cut then falls into a record as often as there.
RECORD_BYTES = 128

# The database is synced within this.
LEDGER_LAG_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Standing:
    """What the journal says: votes up to `floor` (epoch, view) were left out, a key is given up."""

    floor: tuple[int, int] = (0, 0)
    given_up: int | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A final block, what made it final if it is this block's own, and when it was stored."""

    digest: bytes
    block: Block
    certificate: Certificate | None
    trail: tuple[int, ...]
    at: Instant


Kept = Entry | Standing


class Disk:
    """What survives."""

    def __init__(self) -> None:
        self._content = bytearray(EMPTY_JOURNAL)
        self._kept: list[Kept] = []
        self._pending: list[bytes] = []
        self.held: dict[Kept, None] = {}  # what the synced journal holds
        self.chain: list[Link] = []

    # -- journal ----------------------------------------------------------------------------------

    def append(self, entries: Sequence[Kept]) -> None:
        """Write; nothing of it is safe before `sync`."""
        self._pending += [self._record(entry) for entry in entries]

    def sync(self) -> None:
        """All that was appended is safe now."""
        if self._pending:
            self._content += journal_frame(self._pending, len(self._content))
            self.held.update((self._entry(record), None) for record in self._pending)
            self._pending = []

    def cut(self, dice: Random) -> None:
        """Power fails: of what was not synced some first bytes may be there, or all of it."""
        if self._pending:
            frame = journal_frame(self._pending, len(self._content))
            self._content += frame[: dice.randrange(len(frame) + 1)]
            self._pending = []

    def lose(self, dice: Random) -> tuple[Kept, ...]:
        """The disk is broken: synced bytes are gone, from any byte on; what was in them."""
        before = self.load()
        room = len(self._content) - len(EMPTY_JOURNAL)
        lost_bytes = dice.choice((dice.randrange(room + 1), min(room, 3 * RECORD_BYTES), room))
        del self._content[len(self._content) - lost_bytes :]
        left = dict.fromkeys(self.load())
        return tuple(entry for entry in before if entry not in left)

    def load(self) -> list[Kept]:
        """Everything that is there; a torn tail is cut off, as on a real disk."""
        records, end = read_journal(self._content)
        del self._content[end:]
        kept = [self._entry(record) for record in records]
        self.held = dict.fromkeys(kept)
        return kept

    def compact(self, entries: Sequence[Kept]) -> None:
        """Replace the journal at once by these entries."""
        self._content = bytearray(EMPTY_JOURNAL)
        self._pending = []
        self.held = {}
        self.append(entries)
        self.sync()

    def _record(self, entry: Kept) -> bytes:
        self._kept.append(entry)
        return len(self._kept).to_bytes(8, "big").ljust(RECORD_BYTES, b"\0")

    def _entry(self, record: bytes) -> Kept:
        return self._kept[int.from_bytes(record[:8], "big") - 1]

    # -- blocks -----------------------------------------------------------------------------------

    def cut_ledger(self, now: Instant, dice: Random) -> None:
        """Power fails: blocks of the last second may be gone."""
        since = now - dice.randrange(LEDGER_LAG_NS)
        while self.chain and self.chain[-1].at > since:
            self.chain.pop()
        # Only a transaction that ends with a certificate was committed.
        while self.chain and self.chain[-1].certificate is None:
            self.chain.pop()

    def lose_blocks(self, dice: Random) -> int:
        """The database is broken: blocks are gone from any height on; how many."""
        before = len(self.chain)
        del self.chain[dice.choice((0, dice.randrange(before + 1))) :]
        while self.chain and self.chain[-1].certificate is None:
            self.chain.pop()
        return before - len(self.chain)

    def sync_ledger(self) -> None:
        """Before a compaction: no block is younger than the journal that leaves its votes out."""
        self.chain = [replace(link, at=0) for link in self.chain]
