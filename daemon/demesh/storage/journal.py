"""The vote journal: an append-only file that is synced before a vote leaves.

Theory of operation. The file is a header (8 bytes magic, 8 bytes salt) and frames (`frames`), one
per append call, so that what a power cut can tear is always exactly the last frame.

J1  An append returns after fsync, or the journal refuses every later append: after a failed fsync
    nobody knows what is on the disk, and trying again may report success for lost pages.
J2  A bad frame with no good one behind it is a torn tail: never acknowledged, so it is cut off.
J3  A bad frame with a good one behind it is damage: a vote may be missing, so nothing is loaded.
J4  Compaction writes a new file beside the old, syncs it, renames it over and syncs the folder: at
    every instant exactly one of the two is there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from demesh.errors import StorageError
from demesh.storage import durable, frames
from demesh.storage.frames import FRAME_HEAD, HEADER_BYTES, MAGIC, SALT_BYTES


class VoteJournal:
    """The journal in one file; one writer, who holds the data folder's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1
        self._salt = b""
        self._end = 0

    def load(self) -> tuple[bytes, ...]:
        """All records in order, the torn tail cut off; creates the file. Raises StorageError."""
        try:
            return self._load()
        except StorageError:
            self.close()
            raise

    def append(self, records: Sequence[bytes]) -> None:
        """Append records in one write and one fsync; durable on return. Raises StorageError."""
        assert self._end >= HEADER_BYTES, "append before load"
        if self._handle < 0:
            raise StorageError(f"{self._path}: closed after a failure; start the daemon again")
        frame = frames.frame(self._salt, records, self._end)
        try:
            durable.write_all(self._handle, frame)
            os.fdatasync(self._handle)
        except OSError as error:
            self.close()
            raise self._failed("cannot be written", error) from None
        self._end += len(frame)

    def compact(self, records: Sequence[bytes]) -> None:
        """Replace everything by `records`, atomically and durably. Raises StorageError."""
        salt = os.urandom(SALT_BYTES)
        previous, self._salt = self._salt, salt
        body = frames.whole(salt, records)
        try:
            durable.replace(self._path, MAGIC + salt + body)
            self.close()
            self._open()
        except OSError as error:
            self._salt = previous
            self.close()
            raise self._failed("cannot be compacted", error) from None
        self._end = HEADER_BYTES + len(body)

    def close(self) -> None:
        """Give the file back; nothing is unsynced at any time."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _load(self) -> tuple[bytes, ...]:
        try:
            if not self._path.exists():
                durable.create(self._path, MAGIC + os.urandom(SALT_BYTES))
            self._open()
            content = self._path.read_bytes()
        except OSError as error:
            raise self._failed("cannot be read", error) from None
        if len(content) < HEADER_BYTES or content[: len(MAGIC)] != MAGIC:
            raise StorageError(
                f"{self._path}: not a vote journal, or its beginning is lost; move it away and "
                "start again: if this device voted before, it finds out and votes no more"
            )
        self._salt = content[len(MAGIC) : HEADER_BYTES]
        records, end = self._read(content)
        if end < len(content):
            self._cut(end)
        self._end = end
        return records

    def _open(self) -> None:
        self._handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _cut(self, end: int) -> None:
        try:
            os.ftruncate(self._handle, end)
            os.fsync(self._handle)
        except OSError as error:
            raise self._failed("its torn tail cannot be cut off", error) from None

    def _read(self, content: bytes) -> tuple[tuple[bytes, ...], int]:
        """Records of the leading good frames and where they end; raises StorageError (J3)."""
        records, offset = frames.leading(self._salt, content)
        for later in range(offset + 1, len(content) - FRAME_HEAD.size):
            if frames.payload_at(self._salt, content, later) is not None:
                raise StorageError(
                    f"{self._path}: damaged at byte {offset}, with good records from byte {later}: "
                    "a vote may be lost; do not vote with this key again"
                )
        return records, offset

    def _failed(self, what: str, error: OSError) -> StorageError:
        return StorageError(f"{self._path}: {what}: {error.strerror or error}")
