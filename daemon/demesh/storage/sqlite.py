"""Blocks, ledger records and the node's own kept values in one SQLite file.

Writes go into an open transaction at once, so that reads see them; `commit` makes them durable.
WAL with synchronous=FULL syncs once per commit and never rewrites the file in place. Others may
read while a daemon writes: they see what was committed when they began.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demesh.errors import ConfigError, StorageError
from demesh.ports import Adopt, Keep, StoreBlock, StoreCheckpoint, StoredBlock

SCHEMA_VERSION = 3

SCHEMA = """
CREATE TABLE mesh (id BLOB NOT NULL);
CREATE TABLE blocks (height INTEGER PRIMARY KEY, block BLOB NOT NULL, certificate BLOB);
CREATE TABLE hand_overs (height INTEGER PRIMARY KEY, hand_over BLOB NOT NULL);
CREATE TABLE checkpoints (height INTEGER PRIMARY KEY, checkpoint BLOB NOT NULL);
CREATE TABLE chunks (id BLOB PRIMARY KEY, height INTEGER NOT NULL, content BLOB NOT NULL);
CREATE TABLE records (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE kept (space TEXT, key BLOB, value BLOB NOT NULL, PRIMARY KEY (space, key))
    WITHOUT ROWID;
"""

# A block that comes again may bring the certificate that was missing, and never takes one away.
PUT_BLOCK = """
INSERT INTO blocks VALUES (?, ?, ?) ON CONFLICT (height) DO UPDATE SET
    certificate = CASE WHEN excluded.certificate IS NULL AND block = excluded.block
                       THEN certificate ELSE excluded.certificate END,
    block = excluded.block
"""

# A chunk that two checkpoints share stays as long as the later one.
PUT_CHUNK = """
INSERT INTO chunks VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET height = excluded.height
"""

HINTS = {
    "SQLITE_FULL": "the disk is full; make room and start again",
    "SQLITE_IOERR": "the disk is full or failing; look at it, then start again",
    "SQLITE_BUSY": "another program has it locked; end that one",
    "SQLITE_CORRUPT": "move it away; blocks come back from the peers, unclaimed vouchers do not",
    "SQLITE_NOTADB": "move it away; blocks come back from the peers, unclaimed vouchers do not",
    "SQLITE_READONLY": "it is read-only; check owner and mode",
    "SQLITE_CANTOPEN": "cannot be opened; check owner and mode of its folder",
}


class Reader:
    """The tables of one node as they were committed; a daemon may be running and changing them."""

    def __init__(self, path: Path, mesh: bytes) -> None:
        """Open for reading; raises StorageError, and ConfigError if it belongs to another mesh."""
        self._path = path
        with self._guarded():
            self._link = self._open()
        try:
            self._prepare(mesh)
        except (StorageError, ConfigError):
            self._link.close()
            raise

    def tip(self) -> StoredBlock | None:
        """The block of greatest height."""
        found = self._rows("SELECT * FROM blocks ORDER BY height DESC LIMIT 1")
        return StoredBlock(*found[0]) if found else None

    def blocks(self, first_height: int, count: int) -> tuple[StoredBlock, ...]:
        """Consecutive blocks from `first_height`, ascending, at most `count`."""
        rows = self._rows(
            "SELECT * FROM blocks WHERE height >= ? ORDER BY height LIMIT ?", first_height, count
        )
        return tuple(
            StoredBlock(*row)
            for expected, row in enumerate(rows, start=first_height)
            if row[0] == expected
        )

    def final(self, height: int) -> bytes | None:
        """The first stored finalization of a block at this height or above."""
        found = self._rows(
            "SELECT certificate FROM blocks WHERE height >= ? AND certificate IS NOT NULL"
            " ORDER BY height LIMIT 1",
            height,
        )
        return found[0][0] if found else None

    def hand_overs(self, first_epoch: int = 0, count: int = -1) -> tuple[bytes, ...]:
        """Those of closed epochs from `first_epoch` on, in order, at most `count` (-1: all)."""
        rows = self._rows(
            "SELECT hand_over FROM hand_overs ORDER BY height LIMIT ? OFFSET ?", count, first_epoch
        )
        return tuple(row[0] for row in rows)

    def checkpoint(self) -> bytes | None:
        """The latest one."""
        found = self._rows("SELECT checkpoint FROM checkpoints ORDER BY height DESC LIMIT 1")
        return found[0][0] if found else None

    def base(self) -> bytes | None:
        """The earliest checkpoint: that of the block below the first one that is stored."""
        found = self._rows("SELECT checkpoint FROM checkpoints ORDER BY height LIMIT 1")
        return found[0][0] if found else None

    def chunk(self, id: bytes) -> bytes | None:
        """A chunk of the last two checkpoints."""
        found = self._rows("SELECT content FROM chunks WHERE id = ?", id)
        return found[0][0] if found else None

    def records(self) -> tuple[tuple[bytes, bytes], ...]:
        """The ledger's records by key."""
        return tuple(self._rows("SELECT key, value FROM records ORDER BY key"))

    def kept(self) -> tuple[tuple[str, bytes, bytes], ...]:
        """The node's own values by space and key."""
        return tuple(self._rows("SELECT space, key, value FROM kept ORDER BY space, key"))

    def close(self) -> None:
        """Let go of the file; raises StorageError."""
        with self._guarded():
            self._link.close()

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():
            raise StorageError(
                f"{self._path}: no such file; expected the data folder of a device that has run"
            )
        return sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
        )

    def _prepare(self, mesh: bytes) -> None:
        """Look at format and mesh; what is read from now on is of one moment."""
        with self._guarded():
            self._link.execute("BEGIN")
            (version,) = self._link.execute("PRAGMA user_version").fetchone()
            self._check(version, mesh)

    def _check(self, version: int, mesh: bytes) -> None:
        if version != SCHEMA_VERSION:
            raise StorageError(
                f"{self._path}: format {version}, this demesh knows {SCHEMA_VERSION}; use the "
                "demesh that wrote it, or move it away: blocks come back from the peers"
            )
        (owner,) = self._link.execute("SELECT id FROM mesh").fetchone()
        if owner != mesh:
            raise ConfigError(
                f"{self._path}: holds the ledger of mesh {owner.hex()[:16]}, the genesis is of "
                f"{mesh.hex()[:16]}; give this mesh a data folder of its own"
            )

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._guarded():
            return self._link.execute(query, values).fetchall()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """SQLite's errors as StorageError, in one line that says what helps."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            hint = next((HINTS[known] for known in HINTS if name.startswith(known)), "")
            raise StorageError(f"{self._path}: {error}{'; ' + hint if hint else ''}") from None


class Database(Reader):
    """The tables of one node and their one writer, who holds the data folder's lock."""

    @property
    def pending(self) -> bool:
        """Something is written that a power cut would take back."""
        return self._link.in_transaction

    def write(self, effects: Sequence[StoreBlock | StoreCheckpoint | Adopt | Keep]) -> None:
        """Write without making durable; raises StorageError."""
        with self._guarded():
            if not self._link.in_transaction:
                self._link.execute("BEGIN IMMEDIATE")
            for effect in effects:
                match effect:
                    case StoreBlock():
                        self._put_block(effect)
                    case StoreCheckpoint():
                        self._put_checkpoint(effect)
                    case Adopt():
                        self._adopt(effect)
                    case Keep():
                        self._put_kept(effect)

    def commit(self) -> None:
        """Make everything written durable, with one sync; raises StorageError."""
        if self._link.in_transaction:
            with self._guarded():
                self._link.execute("COMMIT")

    def close(self) -> None:
        """Commit and close; raises StorageError."""
        self.commit()
        super().close()

    def _put_block(self, effect: StoreBlock) -> None:
        self._link.execute(PUT_BLOCK, (effect.height, effect.block, effect.certificate))
        if effect.hand_over is not None:
            place = (effect.height, effect.hand_over)
            self._link.execute("REPLACE INTO hand_overs VALUES (?, ?)", place)
        for key, value in effect.changes:
            if value is None:
                self._link.execute("DELETE FROM records WHERE key = ?", (key,))
            else:
                self._link.execute("REPLACE INTO records VALUES (?, ?)", (key, value))

    def _put_checkpoint(self, effect: StoreCheckpoint) -> None:
        """Make the one before it the oldest."""
        height, execute = effect.height, self._link.execute
        (before,) = execute(
            "SELECT max(height) FROM checkpoints WHERE height < ?", (height,)
        ).fetchone()
        self._add_checkpoint(effect)
        if before is not None:
            execute("DELETE FROM checkpoints WHERE height < ?", (before,))
            execute("DELETE FROM chunks WHERE height < ?", (before,))
            execute("DELETE FROM blocks WHERE height <= ?", (before,))

    def _adopt(self, effect: Adopt) -> None:
        for table in ("blocks", "records", "checkpoints", "chunks"):
            self._link.execute(f"DELETE FROM {table}")
        self._add_checkpoint(effect)
        self._link.executemany("INSERT INTO records VALUES (?, ?)", effect.records)
        self._link.executemany("REPLACE INTO hand_overs VALUES (?, ?)", effect.hand_overs)

    def _add_checkpoint(self, effect: StoreCheckpoint | Adopt) -> None:
        place = (effect.height, effect.checkpoint)
        self._link.execute("REPLACE INTO checkpoints VALUES (?, ?)", place)
        chunks = [(id, effect.height, content) for id, content in effect.chunks]
        self._link.executemany(PUT_CHUNK, chunks)

    def _put_kept(self, effect: Keep) -> None:
        place = (effect.space, effect.key)
        if effect.value is None:
            self._link.execute("DELETE FROM kept WHERE space = ? AND key = ?", place)
        else:
            self._link.execute("REPLACE INTO kept VALUES (?, ?, ?)", (*place, effect.value))

    def _open(self) -> sqlite3.Connection:
        """Create the file where there is none."""
        return sqlite3.connect(self._path, isolation_level=None, timeout=0)

    def _prepare(self, mesh: bytes) -> None:
        with self._guarded():
            self._link.execute("PRAGMA journal_mode = WAL")
            self._link.execute("PRAGMA synchronous = FULL")
            (version,) = self._link.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._create(mesh)
                version = SCHEMA_VERSION
            self._check(version, mesh)

    def _create(self, mesh: bytes) -> None:
        self._link.execute("BEGIN EXCLUSIVE")
        for statement in SCHEMA.split(";"):
            self._link.execute(statement)
        self._link.execute("INSERT INTO mesh VALUES (?)", (mesh,))
        self._link.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._link.execute("COMMIT")
