"""The store of one node: a data folder with vote journal and database, in the right order.

    lock            held by the daemon that uses the folder
    votes.journal   synced before a vote leaves
    ledger.db       blocks, records, kept values; committed in batches

Order within a turn. Appends to the journal come first and the database second: a journal ahead of
the ledger is repaired by catching up. With a compaction the database comes first, durably, for
what the compacted journal leaves out must be in the ledger.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from demesh.errors import StorageError, TemporaryError
from demesh.ports import (
    Adopt,
    CompactJournal,
    Journal,
    Keep,
    Persist,
    Restored,
    StoreBlock,
    StoreCheckpoint,
    StoredBlock,
)
from demesh.storage.journal import VoteJournal
from demesh.storage.sqlite import Database

PRIVATE_FOLDER = 0o700


class FileStore:
    """`ports.Store` on disk. `pending` is what `flush` would make durable."""

    def __init__(self, folder: Path, mesh: bytes) -> None:
        """Take the folder for this process; raises StorageError, TemporaryError, ConfigError."""
        self._lock = _take(folder)
        try:
            self._journal = VoteJournal(folder / "votes.journal")
            self._database = Database(folder / "ledger.db", mesh)
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def pending(self) -> bool:
        """Effects were committed that are not durable yet."""
        return self._database.pending

    def load(self) -> Restored:
        """Read everything back after a start; raises StorageError."""
        return Restored(
            journal=self._journal.load(),
            tip=self._database.tip(),
            records=self._database.records(),
            kept=self._database.kept(),
            checkpoint=self._database.checkpoint(),
        )

    def commit(self, effects: Sequence[Persist]) -> None:
        """A turn's effects: journal and urgent ones durable on return; raises StorageError."""
        records: list[bytes] = []
        compacted = False
        rows: list[StoreBlock | StoreCheckpoint | Adopt | Keep] = []
        urgent = False
        for effect in effects:
            match effect:
                case Journal(record):
                    records.append(record)
                case CompactJournal(whole):
                    records, compacted = list(whole), True
                case StoreBlock() | StoreCheckpoint() | Adopt() | Keep():
                    rows.append(effect)
                    urgent = urgent or is_urgent(effect)
        if records and not compacted:
            self._journal.append(records)
        if rows:
            self._database.write(rows)
        if compacted or urgent:
            self._database.commit()
        if compacted:
            self._journal.compact(records)

    def flush(self) -> None:
        """Make everything durable; raises StorageError."""
        self._database.commit()

    def blocks(self, first_height: int, count: int) -> tuple[StoredBlock, ...]:
        """Consecutive finalized blocks, ascending, at most `count`; raises StorageError."""
        return self._database.blocks(first_height, count)

    def final(self, height: int) -> bytes | None:
        """The first stored finalization of a block at this height or above; StorageError."""
        return self._database.final(height)

    def hand_overs(self, first_epoch: int = 0, count: int = -1) -> tuple[bytes, ...]:
        """Those of closed epochs from `first_epoch` on, at most `count` (-1: all); StorageError."""
        return self._database.hand_overs(first_epoch, count)

    def checkpoint(self) -> bytes | None:
        """The latest one; raises StorageError."""
        return self._database.checkpoint()

    def chunk(self, id: bytes) -> bytes | None:
        """A chunk of the last two checkpoints; raises StorageError."""
        return self._database.chunk(id)

    def close(self) -> None:
        """Make everything durable and give the folder free; raises StorageError."""
        try:
            self._journal.close()
            self._database.close()
        finally:
            os.close(self._lock)


def is_urgent(effect: Persist) -> bool:
    """Must the database be durable before anything of this turn is published?"""
    return isinstance(effect, Adopt) or (isinstance(effect, Keep) and effect.urgent)


def _take(folder: Path) -> int:
    """An exclusive lock that ends with the process, however it ends."""
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise TemporaryError(
            f"{folder}: in use by another demesh (process {holder}); end that one first"
        ) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle
