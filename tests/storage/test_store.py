"""The store of one node: what comes back, what is durable when, and who may use a folder."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from demesh.errors import ConfigError, StorageError, TemporaryError
from demesh.ports import CompactJournal, Journal, Keep, Restored, StoreBlock, StoredBlock
from demesh.storage.store import FileStore

MESH = bytes(range(32))


def block(height: int, *changes: tuple[bytes, bytes | None]) -> StoreBlock:
    return StoreBlock(height, b"block %d" % height, b"certificate %d" % height, changes)


def stored(height: int) -> StoredBlock:
    return StoredBlock(height, b"block %d" % height, b"certificate %d" % height)


def reopened(folder: Path) -> Restored:
    store = FileStore(folder, MESH)
    try:
        return store.load()
    finally:
        store.close()


def durable_now(folder: Path, copy: Path) -> Restored:
    """What a power cut at this instant would leave: the folder's files, without the lock."""
    copy.mkdir()
    for file in folder.iterdir():
        if file.name not in ("lock", "ledger.db-shm"):
            (copy / file.name).write_bytes(file.read_bytes())
    return reopened(copy)


def test_a_new_folder_gives_nothing_back(tmp_path: Path) -> None:
    assert reopened(tmp_path / "a" / "data") == Restored()


def test_everything_committed_comes_back_after_a_clean_end(tmp_path: Path) -> None:
    store = FileStore(tmp_path, MESH)
    store.load()
    store.commit(
        [
            Journal(b"vote 1"),
            block(1, (b"a", b"1"), (b"b", b"2")),
            block(2, (b"a", b"3"), (b"b", None)),
            Keep("voucher", b"channel", b"9"),
            Keep("voucher", b"old", b"1"),
            Keep("voucher", b"old", None),
            Keep("boot", b"", b"4"),
        ]
    )
    store.close()
    assert reopened(tmp_path) == Restored(
        journal=(b"vote 1",),
        tip=stored(2),
        records=((b"a", b"3"),),
        kept=(("boot", b"", b"4"), ("voucher", b"channel", b"9")),
    )


def test_journal_and_urgent_values_are_durable_on_return_and_the_rest_with_the_flush(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    store = FileStore(folder, MESH)
    store.load()
    store.commit([Journal(b"vote"), block(1, (b"a", b"1"))])
    assert store.pending
    assert durable_now(folder, tmp_path / "1") == Restored(journal=(b"vote",))
    store.commit([Keep("voucher", b"c", b"9", urgent=True)])
    assert not store.pending
    after = durable_now(folder, tmp_path / "2")
    assert (after.tip, after.kept) == (stored(1), (("voucher", b"c", b"9"),))
    store.commit([block(2)])
    store.flush()
    assert durable_now(folder, tmp_path / "3").tip == stored(2)
    store.close()


def test_a_compaction_makes_the_ledger_durable_first(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    store = FileStore(folder, MESH)
    store.load()
    store.commit([Journal(b"vote 1"), Journal(b"vote 2")])
    store.commit([block(1), CompactJournal((b"view 3",)), Journal(b"vote 3")])
    after = durable_now(folder, tmp_path / "1")
    assert after == Restored(journal=(b"view 3", b"vote 3"), tip=stored(1))
    store.close()


def test_blocks_not_yet_durable_are_served_and_a_gap_ends_the_answer(tmp_path: Path) -> None:
    store = FileStore(tmp_path, MESH)
    store.load()
    store.commit([block(1), block(2), block(3), block(5)])
    assert store.blocks(1, 2) == (stored(1), stored(2))
    assert store.blocks(2, 64) == (stored(2), stored(3))
    assert store.blocks(4, 64) == ()
    assert store.blocks(9, 64) == ()
    store.close()


def test_a_block_that_comes_again_brings_its_certificate_and_never_takes_it_away(
    tmp_path: Path,
) -> None:
    store = FileStore(tmp_path, MESH)
    store.load()
    store.commit([StoreBlock(1, b"b", None, ())])
    store.commit([StoreBlock(1, b"b", b"c", ())])
    store.commit([StoreBlock(1, b"b", None, ())])
    assert store.blocks(1, 1) == (StoredBlock(1, b"b", b"c"),)
    store.close()


def test_a_second_daemon_on_the_same_folder_is_refused_and_a_killed_one_leaves_it_free(
    tmp_path: Path,
) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from demesh.storage.store import FileStore\n"
            "FileStore(Path(sys.argv[1]), bytes(range(32))); print('ready', flush=True)\n"
            "sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        with pytest.raises(TemporaryError, match=rf"in use by another demesh .*{holder.pid}"):
            FileStore(tmp_path, MESH)
    finally:
        holder.kill()
        holder.communicate()
    assert reopened(tmp_path) == Restored()


def test_the_folder_of_another_mesh_is_refused(tmp_path: Path) -> None:
    reopened(tmp_path)
    with pytest.raises(ConfigError, match="holds the ledger of mesh 000102"):
        FileStore(tmp_path, bytes(32))
    assert reopened(tmp_path) == Restored()


def test_a_locked_database_is_one_clear_error(tmp_path: Path) -> None:
    store = FileStore(tmp_path, MESH)
    store.load()
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="another program has it locked"):
        store.commit([block(1)])
    other.close()
    store.close()


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    store = FileStore(tmp_path, MESH)
    store.load()
    store._database._link.execute("PRAGMA max_page_count = 12")
    with pytest.raises(StorageError, match=r"full.*make room"):
        store.commit([block(1, (b"k", bytes(100_000)))])
    store.close()


@pytest.mark.parametrize("where", [0, 20, 100])
def test_a_damaged_database_is_one_clear_error(tmp_path: Path, where: int) -> None:
    store = FileStore(tmp_path, MESH)
    store.load()
    store.commit([block(n, (b"%d" % n, bytes(2000))) for n in range(20)])
    store.close()
    content = bytearray((tmp_path / "ledger.db").read_bytes())
    content[where : where + 4000] = b"\xa5" * 4000
    (tmp_path / "ledger.db").write_bytes(content)
    with pytest.raises(StorageError, match=r"ledger\.db: ") as caught:
        reopened(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be used: Not a directory"):
        FileStore(tmp_path / "file" / "data", MESH)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    reopened(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.db") as link:
        link.execute("PRAGMA user_version = 4")
    with pytest.raises(StorageError, match="format 4, this demesh knows 3"):
        FileStore(tmp_path, MESH)
