"""Sessions and retained messages in one SQLite file, so that a restart does not lose them.

What is written is what the machine says has changed (`saved.Changes`), one transaction for each
batch; every waiting message is a row of its own, so that a long queue is not written again for each
message. Rows hold wall-clock nanoseconds: the machine's clock begins anew with every start. A wall
clock that is set while the broker runs is noticed (`saving.py`). One that was set between two runs
looks like time that passed, or did not: what expires goes too early, or lives longer.

WAL with synchronous=NORMAL: a killed process loses nothing that was handed over here, a power cut
at most what came since the log was last synced (`SYNC_NS`); the file stays whole in both cases.
A message is kept as its MQTT 5 packet.

Packet ids. The next id of a session changes with every message; it is written with whatever else
of its session is. Unless the end was orderly it is out of date, so counting goes on half of all ids
further: the id of a message that its receiver may still hold must not be given to another.
"""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from demesh.broker.packets import Publish
from demesh.broker.saved import (
    Changes,
    Flight,
    RetainedRecord,
    Saved,
    SavedSession,
    SessionChange,
    SessionRecord,
    Subscribed,
    Waiting,
    pack,
    unpack,
)
from demesh.broker.session import PACKET_IDS
from demesh.errors import StorageError, TemporaryError
from demesh.ports import SECOND, Instant

FILE = "broker.sqlite"
APPLICATION_ID = 0x446D4272  # "DmBr": tells our file from another program's
SCHEMA_VERSION = 1

# A power cut costs at most so much.
SYNC_NS = 60 * SECOND

# A session's row has some hundred bytes, and most of what is written is a whole page for one row.
# With pages of 4096 a street wrote two thirds more.
PAGE_BYTES = 1024
# Pages in the log that are copied into the file at once: most of them were written several times.
LOG_PAGES = 4096

SCHEMA = """
CREATE TABLE state (clean INTEGER NOT NULL);
INSERT INTO state VALUES (1);
CREATE TABLE sessions (client TEXT PRIMARY KEY, user TEXT NOT NULL, expiry_s INTEGER NOT NULL,
    offline_since INTEGER, next_id INTEGER NOT NULL, will BLOB,
    will_delay_s INTEGER NOT NULL, will_at INTEGER);
CREATE TABLE subscriptions (client TEXT, place INTEGER, pattern TEXT NOT NULL, qos INTEGER NOT NULL,
    no_local INTEGER NOT NULL, as_published INTEGER NOT NULL, identifier INTEGER,
    PRIMARY KEY (client, place)) WITHOUT ROWID;
CREATE TABLE flights (client TEXT, place INTEGER, packet_id INTEGER NOT NULL, message BLOB,
    expires_at INTEGER, PRIMARY KEY (client, place));
CREATE TABLE unreleased (client TEXT, place INTEGER, packet_id INTEGER NOT NULL,
    PRIMARY KEY (client, place)) WITHOUT ROWID;
CREATE TABLE queue (client TEXT, number INTEGER, message BLOB NOT NULL, expires_at INTEGER,
    PRIMARY KEY (client, number));
CREATE TABLE retained (topic TEXT PRIMARY KEY, message BLOB NOT NULL, expires_at INTEGER,
    publisher TEXT NOT NULL);
"""

TABLES = ("sessions", "subscriptions", "flights", "unreleased", "queue", "retained")
OF_SESSION = TABLES[:-1]

HINTS = {
    "SQLITE_FULL": "the disk is full; make room",
    "SQLITE_IOERR": "the disk is full or failing",
    "SQLITE_CORRUPT": "move it away; clients connect and subscribe again by themselves",
    "SQLITE_NOTADB": "no store of the broker; move it away, or choose another data folder",
    "SQLITE_READONLY": "it is read-only; check owner and mode",
    "SQLITE_CANTOPEN": "cannot be opened; check owner and mode of its folder",
}


class Store:
    """The file; of one broker at a time, which holds it locked. Not for two threads at once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._folder = folder
        self._link: sqlite3.Connection | None = None
        # What the file says of each session: an equal record costs no write.
        self._written: dict[str, SessionRecord] = {}
        self._sync_at: Instant = 0

    def open(self, now: Instant, wall_ns: int) -> Saved:
        """What was saved, in the times of the machine's clock; StorageError, TemporaryError."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            why = "it is a file" if isinstance(error, FileExistsError) else error.strerror
            raise StorageError(f"{self._folder}: no data folder: {why}") from None
        try:
            with self._guarded():
                self._link = self._connect()
                self._claim()
                saved = self._load(now - wall_ns)
                self._rows("UPDATE state SET clean = 0")
                self._commit()
        except (StorageError, TemporaryError):
            self.close(clean=False)
            raise
        self._sync_at = now + SYNC_NS
        return saved

    def write(self, changes: Changes, now: Instant, wall_ns: int, *, anew: bool = False) -> None:
        """Write a batch durably; `anew`: it is all there is. StorageError: nothing was written."""
        shift = wall_ns - now
        written = {} if anew else dict(self._written)
        try:
            with self._guarded():
                for table in TABLES if anew else ():
                    self._rows(f"DELETE FROM {table}")
                for client in changes.ended:
                    self._forget(client)
                    written.pop(client, None)
                for change in changes.sessions:
                    before = written.get(change.record.client_id)
                    self._put_session(change, before, shift)
                    written[change.record.client_id] = change.record
                for topic in changes.unretained:
                    self._rows("DELETE FROM retained WHERE topic = ?", topic)
                for kept in changes.retained:
                    expires_at = _shifted(kept.expires_at, shift)
                    row = (kept.message.topic, pack(kept.message), expires_at, kept.publisher)
                    self._rows("INSERT OR REPLACE INTO retained VALUES (?, ?, ?, ?)", *row)
                self._commit()
                self._written = written
                if now >= self._sync_at:
                    self._sync_at = now + SYNC_NS
                    self._sync()
        except Exception:
            self._roll_back()
            raise

    def close(self, *, clean: bool) -> None:
        """Give the file free; `clean`: all that there was is written."""
        link, self._link = self._link, None
        self._written.clear()
        if link is None:
            return
        try:
            if clean:
                link.execute("UPDATE state SET clean = 1")
                link.commit()
            link.close()
        except sqlite3.Error:
            pass  # it is as after a kill, and the next start takes it as that

    # -- opening ----------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        # `timeout`: a broker that was told to end may still be writing.
        link = sqlite3.connect(self._path, timeout=2, check_same_thread=False)
        self._path.chmod(0o600)
        link.execute("PRAGMA locking_mode = EXCLUSIVE")
        return link

    def _claim(self) -> None:
        (marked,), (version,) = (
            self._rows("PRAGMA application_id")[0],
            self._rows("PRAGMA user_version")[0],
        )
        if not marked and not self._rows("SELECT 1 FROM sqlite_master LIMIT 1"):
            self._rows(f"PRAGMA page_size = {PAGE_BYTES}")
            self._rows("PRAGMA journal_mode = WAL")
            assert self._link is not None
            self._link.executescript(
                f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        elif marked != APPLICATION_ID:
            raise StorageError(f"{self._path}: {HINTS['SQLITE_NOTADB']}")
        elif version != SCHEMA_VERSION:
            raise StorageError(
                f"{self._path}: of version {version}, expected {SCHEMA_VERSION}; move it away: "
                f"clients connect and subscribe again by themselves"
            )
        self._rows("PRAGMA synchronous = NORMAL")
        self._rows(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")

    def _load(self, shift: int) -> Saved:
        ((clean,),) = self._rows("SELECT clean FROM state")
        parts = {table: self._by_client(table) for table in OF_SESSION[1:]}
        sessions = []
        for client, user, expiry_s, offline_since, next_id, will, delay_s, will_at in self._rows(
            "SELECT * FROM sessions ORDER BY rowid"
        ):
            record = SessionRecord(
                client,
                user,
                expiry_s,
                _shifted(offline_since, shift),
                tuple(
                    Subscribed(pattern, qos, bool(no_local), bool(as_published), identifier)
                    for _, pattern, qos, no_local, as_published, identifier in parts[
                        "subscriptions"
                    ][client]
                ),
                tuple(
                    Flight(packet_id, self._unpacked(message), _shifted(expires_at, shift))
                    for _, packet_id, message, expires_at in parts["flights"][client]
                ),
                tuple(packet_id for _, packet_id in parts["unreleased"][client]),
                next_id,
                self._unpacked(will),
                delay_s,
                _shifted(will_at, shift),
            )
            queue = tuple(
                Waiting(number, self._message(message), _shifted(expires_at, shift))
                for number, message, expires_at in parts["queue"][client]
            )
            self._written[client] = record
            if not clean:
                record = replace(record, next_id=(next_id + PACKET_IDS // 2) % PACKET_IDS + 1)
            sessions.append(SavedSession(record, queue))
        retained = tuple(
            RetainedRecord(self._message(message), _shifted(expires_at, shift), publisher)
            for _, message, expires_at, publisher in self._rows(
                "SELECT * FROM retained ORDER BY rowid"
            )
        )
        return Saved(tuple(sessions), retained)

    def _by_client(self, table: str) -> dict[str, list[tuple[Any, ...]]]:
        """The rows of a table without the client, in their order."""
        found: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for client, *row in self._rows(f"SELECT * FROM {table} ORDER BY 1, 2"):
            found[client].append(tuple(row))
        return found

    # -- writing ----------------------------------------------------------------------------------

    def _forget(self, client: str) -> None:
        for table in OF_SESSION:
            self._rows(f"DELETE FROM {table} WHERE client = ?", client)

    def _put_session(self, change: SessionChange, before: SessionRecord | None, shift: int) -> None:
        record = change.record
        client = record.client_id
        if before is None or replace(before, next_id=record.next_id) != record:
            self._put_record(record, before, shift)
        self._rows("DELETE FROM queue WHERE client = ? AND number < ?", client, change.first)
        for entry in change.appended:
            row = (entry.number, pack(entry.message), _shifted(entry.expires_at, shift))
            self._rows("INSERT OR REPLACE INTO queue VALUES (?, ?, ?, ?)", client, *row)

    def _put_record(self, record: SessionRecord, before: SessionRecord | None, shift: int) -> None:
        client = record.client_id
        self._rows(
            "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            client,
            record.user,
            record.expiry_s,
            _shifted(record.offline_since, shift),
            record.next_id,
            None if record.will is None else pack(record.will),
            record.will_delay_s,
            _shifted(record.will_at, shift),
        )
        if before is None or before.subscriptions != record.subscriptions:
            self._rows("DELETE FROM subscriptions WHERE client = ?", client)
            for place, one in enumerate(record.subscriptions):
                self._rows(
                    "INSERT INTO subscriptions VALUES (?, ?, ?, ?, ?, ?, ?)",
                    *(client, place, one.pattern, one.qos),
                    *(one.no_local, one.retain_as_published, one.identifier),
                )
        if before is None or before.flights != record.flights:
            self._rows("DELETE FROM flights WHERE client = ?", client)
            for place, flight in enumerate(record.flights):
                message = None if flight.message is None else pack(flight.message)
                row = (place, flight.packet_id, message, _shifted(flight.expires_at, shift))
                self._rows("INSERT INTO flights VALUES (?, ?, ?, ?, ?)", client, *row)
        if before is None or before.unreleased != record.unreleased:
            self._rows("DELETE FROM unreleased WHERE client = ?", client)
            for place, packet_id in enumerate(record.unreleased):
                self._rows("INSERT INTO unreleased VALUES (?, ?, ?)", client, place, packet_id)

    # -- messages ---------------------------------------------------------------------------------

    def _message(self, packet: bytes) -> Publish:
        message = unpack(packet)
        if message is None:
            raise StorageError(f"{self._path}: {HINTS['SQLITE_CORRUPT']}")
        return message

    def _unpacked(self, packet: bytes | None) -> Publish | None:
        return None if packet is None else self._message(packet)

    # -- SQLite -----------------------------------------------------------------------------------

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        assert self._link is not None, "the store is closed"
        return self._link.execute(statement, values).fetchall()

    def _commit(self) -> None:
        assert self._link is not None, "the store is closed"
        self._link.commit()

    def _sync(self) -> None:
        """Have the log on the disk; SQLite itself does so only when it copies it into the file."""
        log = os.open(self._path.with_name(f"{FILE}-wal"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(log)
        finally:
            os.close(log)

    def _roll_back(self) -> None:
        try:
            if self._link is not None:
                self._link.rollback()
        except sqlite3.Error:
            pass  # the next batch says what is wrong

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise TemporaryError(
                    f"{self._path}: another broker has it; give each its own data folder"
                ) from None
            hints = (hint for known, hint in HINTS.items() if name.startswith(known))
            raise StorageError(f"{self._path}: {next(hints, str(error))}") from None
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}") from None


def _shifted(at: int | None, shift: int) -> int | None:
    return None if at is None else at + shift
