"""The vote journal: what was acknowledged is there after any crash, and damage never passes."""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demesh.errors import StorageError
from demesh.storage.frames import HEADER_BYTES
from demesh.storage.journal import VoteJournal

TURNS = ((b"view 1", b"vote 1"), (b"x" * 300,), (b"",), (b"vote 3", b"", b"certificate"))


def opened(path: Path) -> tuple[VoteJournal, tuple[bytes, ...]]:
    journal = VoteJournal(path)
    return journal, journal.load()


def write(path: Path, turns: Sequence[Sequence[bytes]]) -> list[int]:
    """Append turn by turn; the file's size after each."""
    journal, _ = opened(path)
    sizes = []
    for turn in turns:
        journal.append(turn)
        sizes.append(path.stat().st_size)
    journal.close()
    return sizes


def read(path: Path) -> tuple[bytes, ...]:
    journal, records = opened(path)
    journal.close()
    return records


def flat(turns: Sequence[Sequence[bytes]]) -> tuple[bytes, ...]:
    return tuple(record for turn in turns for record in turn)


def test_a_new_journal_is_empty_and_private(tmp_path: Path) -> None:
    path = tmp_path / "votes.journal"
    assert read(path) == ()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_was_appended_is_there_after_a_start_and_appending_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "votes.journal"
    write(path, TURNS[:2])
    write(path, TURNS[2:])
    assert read(path) == flat(TURNS)


def test_cut_at_every_byte_it_holds_the_turns_that_were_whole_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "votes.journal"
    sizes = write(path, TURNS)
    content = path.read_bytes()
    for length in range(HEADER_BYTES, len(content) + 1):
        path.write_bytes(content[:length])
        whole = [turn for turn, size in zip(TURNS, sizes, strict=True) if size <= length]
        assert read(path) == flat(whole), length
        write(path, [(b"after",)])
        assert read(path) == (*flat(whole), b"after"), length


def test_cut_within_its_header_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "votes.journal"
    write(path, TURNS)
    content = path.read_bytes()
    for length in range(HEADER_BYTES):
        path.write_bytes(content[:length])
        with pytest.raises(StorageError, match="its beginning is lost"):
            read(path)


def test_every_changed_bit_is_found_and_only_the_last_turn_can_pass_for_torn(
    tmp_path: Path,
) -> None:
    path = tmp_path / "votes.journal"
    sizes = write(path, TURNS)
    content = path.read_bytes()
    for place in range(HEADER_BYTES, len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        if place >= sizes[-2]:
            assert read(path) == flat(TURNS[:-1]), place
        else:
            with pytest.raises(StorageError, match="damaged"):
                read(path)
            assert path.read_bytes() == bytes(damaged), "damage is evidence: it stays as it is"


def test_a_page_of_zeros_at_the_end_is_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "votes.journal"
    write(path, TURNS)
    with path.open("ab") as file:
        file.write(bytes(4096))
    assert read(path) == flat(TURNS)


def test_a_frame_inside_a_torn_record_does_not_pass_for_a_good_one_behind_damage(
    tmp_path: Path,
) -> None:
    path, other = tmp_path / "votes.journal", tmp_path / "other.journal"
    write(path, TURNS[:1])
    write(other, [(b"frames of another journal",)])
    write(path, [(other.read_bytes()[HEADER_BYTES:],)])
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert read(path) == flat(TURNS[:1])


def test_old_bytes_at_another_place_do_not_pass(tmp_path: Path) -> None:
    path = tmp_path / "votes.journal"
    sizes = write(path, TURNS[:2])
    content = path.read_bytes()
    path.write_bytes(content + content[HEADER_BYTES : sizes[0]])
    assert read(path) == flat(TURNS[:2])


def test_compaction_leaves_exactly_the_new_records_and_appending_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "votes.journal"
    journal, _ = opened(path)
    journal.append(flat(TURNS))
    journal.compact((b"view 9", b"lock"))
    journal.append((b"vote 10",))
    journal.close()
    assert read(path) == (b"view 9", b"lock", b"vote 10")
    assert [entry.name for entry in tmp_path.iterdir()] == ["votes.journal"]


def test_compaction_to_nothing_is_an_empty_journal(tmp_path: Path) -> None:
    path = tmp_path / "votes.journal"
    journal, _ = opened(path)
    journal.append((b"old",))
    journal.compact(())
    journal.append((b"new",))
    journal.close()
    assert read(path) == (b"new",)


def test_a_compaction_of_more_than_a_frame_holds_keeps_every_record(tmp_path: Path) -> None:
    path = tmp_path / "votes.journal"
    journal, _ = opened(path)
    bodies = tuple(bytes([number]) * 65_000 for number in range(200))  # 13 MB that is not final
    journal.compact(bodies)
    journal.append((b"one more",))
    journal.close()
    assert read(path) == (*bodies, b"one more")


def test_a_draft_left_by_a_crash_in_compaction_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "votes.journal"
    write(path, TURNS)
    (tmp_path / ".votes.journal.new").write_bytes(b"half a jour")
    journal, records = opened(path)
    assert records == flat(TURNS)
    journal.compact((b"lock",))
    journal.close()
    assert read(path) == (b"lock",)


def test_after_a_failed_write_it_refuses_to_go_on_and_a_start_finds_what_was_acknowledged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "votes.journal"
    journal, _ = opened(path)
    journal.append((b"vote 1",))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limit[1]))
        with pytest.raises(StorageError, match="cannot be written: File too large"):
            journal.append((b"y" * 500,))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, previous)
    with pytest.raises(StorageError, match="closed after a failure"):
        journal.append((b"vote 2",))
    assert read(path) == (b"vote 1",)


def test_an_append_returns_after_exactly_one_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, _ = opened(tmp_path / "votes.journal")
    synced: list[int] = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda handle: (synced.append(handle), sync(handle))[1])
    journal.append((b"vote 1", b"vote 2", b"vote 3"))
    journal.close()
    assert len(synced) == 1


def test_after_a_failed_sync_nothing_more_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, _ = opened(tmp_path / "votes.journal")

    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            journal.append((b"vote 1",))
    with pytest.raises(StorageError, match="closed after a failure"):
        journal.append((b"vote 2",))


def test_a_folder_in_its_place_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "votes.journal"
    path.mkdir()
    with pytest.raises(StorageError, match=r"votes\.journal: cannot be read: Is a directory"):
        read(path)


@settings(max_examples=40, deadline=None)
@given(
    turns=st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=4), max_size=6),
    cut=st.integers(0, 400),
    noise=st.binary(max_size=60),
)
def test_whatever_follows_the_acknowledged_turns_they_are_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    turns: list[list[bytes]],
    cut: int,
    noise: bytes,
) -> None:
    path = tmp_path_factory.mktemp("journal") / "votes.journal"
    sizes = [HEADER_BYTES, *write(path, turns)]
    content = path.read_bytes()
    length = max(HEADER_BYTES, len(content) - cut)
    path.write_bytes(content[:length] + noise)
    records = read(path)
    whole = flat([turn for turn, size in zip(turns, sizes[1:], strict=True) if size <= length])
    assert records[: len(whole)] == whole
    assert path.stat().st_size >= max(size for size in sizes if size <= length)
