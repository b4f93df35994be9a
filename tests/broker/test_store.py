"""The store of sessions and retained messages: what was written comes back, whatever the end."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demesh.broker.packets import Properties, Publish
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
)
from demesh.broker.store import FILE, SYNC_NS, Store
from demesh.errors import StorageError, TemporaryError
from demesh.ports import SECOND

WALL = 1_700_000_000 * SECOND

MESSAGE = Publish(
    "a/b", b"\0payload", 1, properties=Properties(content_type="x", user=(("k", "v"), ("k", "w")))
)
FULL = SessionRecord(
    "client",
    "user",
    3600,
    50,
    (Subscribed("a/+", 1, True, False, 7), Subscribed("#", 2, False, True, None)),
    (Flight(9, MESSAGE, 1000), Flight(3, None, None)),
    (4, 2),
    10,
    Publish("gone", b"will", 1, True),
    30,
    99,
)
BARE = SessionRecord("bare", "", 0xFFFF_FFFF, None, (), (), (), 1, None, 0, None)
KEPT = RetainedRecord(Publish("kept", b"x" * 300, 2, True), 5000, "client")


def entry(number: int) -> Waiting:
    return Waiting(number, replace(MESSAGE, payload=b"%d" % number), number * 10 or None)


def put(record: SessionRecord, *queue: Waiting, first: int = 0) -> SessionChange:
    return SessionChange(record, first, queue)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def opened(folder: Path, now: int = 0, wall_ns: int = WALL) -> tuple[Store, Saved]:
    store = Store(folder)
    return store, store.open(now, wall_ns)


def again(store: Store, folder: Path, now: int = 0, wall_ns: int = WALL) -> Saved:
    """What an orderly end and a new start make of it."""
    store.close(clean=True)
    store, saved = opened(folder, now, wall_ns)
    store.close(clean=True)
    return saved


def kept(saved: Saved) -> list[tuple[str, bytes, int, str]]:
    return [
        (one.message.topic, one.message.payload, one.message.qos, one.publisher)
        for one in saved.retained
    ]


def test_everything_of_a_session_comes_back_in_the_times_of_the_new_start(folder: Path) -> None:
    store, saved = opened(folder, now=40)
    assert saved == Saved()
    queue = (entry(1), entry(2))
    changes = Changes(sessions=(put(FULL, *queue), put(BARE)), retained=(KEPT,))
    store.write(changes, 40, WALL)
    saved = again(store, folder, now=1_000, wall_ns=WALL + 460)
    (session, bare), (found,) = saved.sessions, saved.retained

    def later(at: int | None) -> int | None:
        return None if at is None else at + 500

    assert bare == SavedSession(BARE, ())
    assert session.record == replace(
        FULL,
        offline_since=550,
        will_at=599,
        flights=tuple(replace(one, expires_at=later(one.expires_at)) for one in FULL.flights),
    )
    assert session.queue == tuple(replace(one, expires_at=later(one.expires_at)) for one in queue)
    assert found == replace(KEPT, expires_at=5500)


def test_a_queue_grows_and_shrinks_by_its_rows(folder: Path) -> None:
    store, _ = opened(folder)
    store.write(Changes(sessions=(put(FULL, entry(1), entry(2), entry(3)),)), 0, WALL)
    store.write(Changes(sessions=(put(FULL, entry(4), first=3),)), 0, WALL)
    (session,) = again(store, folder).sessions
    assert [one.number for one in session.queue] == [3, 4]
    assert [one.message.payload for one in session.queue] == [b"3", b"4"]


def test_an_ended_session_leaves_nothing_also_if_its_name_comes_again(folder: Path) -> None:
    store, _ = opened(folder)
    store.write(Changes(sessions=(put(FULL, entry(1)),), retained=(KEPT,)), 0, WALL)
    fresh = replace(BARE, client_id=FULL.client_id)
    store.write(Changes((FULL.client_id,), (put(fresh),), unretained=("kept",)), 0, WALL)
    assert again(store, folder) == Saved((SavedSession(fresh, ()),), ())
    store, _ = opened(folder)
    store.write(Changes((FULL.client_id,)), 0, WALL)
    assert again(store, folder) == Saved()


def test_a_session_that_only_counted_its_packets_costs_no_write(folder: Path) -> None:
    store, _ = opened(folder)
    store.write(Changes(sessions=(put(FULL),)), 0, WALL)
    log = folder / f"{FILE}-wal"
    size = log.stat().st_size
    for next_id in range(11, 30):
        record = replace(FULL, next_id=next_id)
        store.write(Changes(sessions=(put(record),)), 0, WALL)
    assert log.stat().st_size == size
    store.write(Changes(sessions=(put(replace(FULL, user="x")),)), 0, WALL)
    assert log.stat().st_size > size
    store.close(clean=True)


def test_after_a_kill_no_packet_id_is_given_twice(folder: Path, tmp_path: Path) -> None:
    store, _ = opened(folder)
    store.write(Changes(sessions=(put(FULL),)), 0, WALL)
    shutil.copytree(folder, tmp_path / "killed")
    (orderly,) = again(store, folder).sessions
    assert orderly.record.next_id == 10
    killed, saved = opened(tmp_path / "killed")
    killed.close(clean=True)
    (session,) = saved.sessions
    assert abs(session.record.next_id - 10) > 30_000
    assert 1 <= session.record.next_id <= 65_535
    assert replace(session.record, next_id=10) == replace(orderly.record)


def test_the_log_is_synced_now_and_then_and_nothing_else_happens(folder: Path) -> None:
    store, _ = opened(folder)
    for minute in range(4):
        record = replace(BARE, client_id=f"c{minute}")
        store.write(Changes(sessions=(put(record),)), minute * SYNC_NS, WALL + minute * SYNC_NS)
    assert len(again(store, folder, 3 * SYNC_NS, WALL + 3 * SYNC_NS).sessions) == 4


def test_all_anew_leaves_only_what_is_said_now(folder: Path) -> None:
    store, _ = opened(folder)
    store.write(Changes(sessions=(put(FULL, entry(1)),), retained=(KEPT,)), 0, WALL)
    store.write(Changes(sessions=(put(BARE),)), 0, WALL, anew=True)
    assert again(store, folder) == Saved((SavedSession(BARE, ()),), ())


def test_a_full_disk_changes_nothing_and_all_can_be_written_when_there_is_room(
    folder: Path,
) -> None:
    store, _ = opened(folder)
    store.write(Changes(sessions=(put(BARE),), retained=(KEPT,)), 0, WALL)
    assert store._link is not None
    (pages,) = store._link.execute("PRAGMA page_count").fetchone()
    store._link.execute(f"PRAGMA max_page_count = {pages + 2}")
    large = RetainedRecord(Publish("large", bytes(50_000), 0, True), None, "c")
    gone = Changes(("bare",), unretained=("kept",), retained=(large,))
    for _ in range(2):
        with pytest.raises(StorageError, match="disk is full") as caught:
            store.write(gone, 0, WALL)
        assert "\n" not in str(caught.value)
    store._link.execute("PRAGMA max_page_count = 100000")
    store.write(gone, 0, WALL, anew=True)
    assert kept(again(store, folder)) == [("large", bytes(50_000), 0, "c")]


def test_of_a_batch_that_fails_in_its_midst_nothing_is_written(folder: Path) -> None:
    store, _ = opened(folder)
    store.write(Changes(sessions=(put(BARE),), retained=(KEPT,)), 0, WALL)
    impossible = replace(FULL, user=None)  # type: ignore[arg-type]
    with pytest.raises(StorageError):
        store.write(Changes(("bare",), (put(impossible),), ("kept",)), 0, WALL)
    later = replace(BARE, client_id="later")
    store.write(Changes(sessions=(put(later),)), 0, WALL)
    saved = again(store, folder)
    assert [one.record for one in saved.sessions] == [BARE, later]
    assert [one.message.topic for one in saved.retained] == ["kept"]


def test_one_folder_is_for_one_broker(folder: Path) -> None:
    store, _ = opened(folder)
    with pytest.raises(TemporaryError, match="another broker has it") as caught:
        opened(folder)
    assert "\n" not in str(caught.value)
    store.close(clean=True)
    opened(folder)[0].close(clean=True)


def foreign(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("not a database\n" * 100)
        return
    with sqlite3.connect(path) as link:
        link.execute("CREATE TABLE of_another (x)")
    link.close()


@pytest.mark.parametrize("kind", ["text", "database"])
def test_a_file_of_another_program_is_one_line_and_stays_as_it_was(folder: Path, kind: str) -> None:
    folder.mkdir()
    foreign(folder / FILE, kind)
    before = (folder / FILE).read_bytes()
    with pytest.raises(StorageError, match="no store of the broker; move it away") as caught:
        opened(folder)
    assert "\n" not in str(caught.value)
    assert (folder / FILE).read_bytes() == before


def test_a_store_of_another_version_is_refused(folder: Path) -> None:
    store, _ = opened(folder)
    store.close(clean=True)
    with sqlite3.connect(folder / FILE) as link:
        link.execute("PRAGMA user_version = 99")
    link.close()
    with pytest.raises(StorageError, match="of version 99, expected"):
        opened(folder)


@pytest.mark.parametrize("part", range(8))
def test_a_damaged_file_is_one_line_or_does_no_harm(folder: Path, part: int) -> None:
    store, _ = opened(folder)
    sessions = tuple(put(replace(FULL, client_id=f"c{n}"), entry(1), entry(2)) for n in range(50))
    store.write(Changes(sessions=sessions, retained=(KEPT,)), 0, WALL)
    store.close(clean=True)
    content = bytearray((folder / FILE).read_bytes())
    at = len(content) * part // 8
    content[at : at + len(content) // 8] = b"\xa5" * (len(content) // 8)
    (folder / FILE).write_bytes(content)
    try:
        opened(folder)[0].close(clean=True)
    except StorageError as error:
        assert "\n" not in str(error)


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="no data folder"):
        opened(tmp_path / "file" / "data")
    with pytest.raises(StorageError, match="file: no data folder: it is a file"):
        opened(tmp_path / "file")


NAMES = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(1, 6)


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, str, int]]:
    kinds = st.sampled_from(["put", "more", "end", "retain", "forget"])
    return draw(st.lists(st.tuples(kinds, NAMES, NUMBERS), max_size=25))


@settings(max_examples=30, deadline=None)
@given(steps(), st.integers(1, 5))
def test_any_history_in_any_batches_comes_back_as_it_ended(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[str, str, int]], batch: int
) -> None:
    folder = tmp_path_factory.mktemp("history")
    store, _ = opened(folder)
    sessions: dict[str, tuple[int, list[int]]] = {}  # expiry, numbers waiting
    retained: dict[str, bytes] = {}
    last = 0
    for begin in range(0, len(history), batch):
        ended, touched, appended, first = [], {}, {}, {}
        before = {name: list(numbers) for name, (_, numbers) in sessions.items()}
        topics: dict[str, None] = {}
        for kind, name, number in history[begin : begin + batch]:
            if kind == "put":
                sessions[name] = (number, sessions.get(name, (0, []))[1])
                touched[name] = None
            elif kind == "more" and name in sessions:
                last += 1
                numbers = sessions[name][1]
                numbers.append(last)
                del numbers[: max(0, len(numbers) - number)]
                touched[name] = None
            elif kind == "end" and name in sessions:
                del sessions[name]
                touched.pop(name, None)
                before.pop(name, None)
                ended.append(name)
            elif kind == "retain":
                retained[name] = b"%d" % number
                topics[name] = None
            elif kind == "forget":
                retained.pop(name, None)
                topics[name] = None
        for name in touched:
            numbers = sessions[name][1]
            first[name] = numbers[0] if numbers else last + 1
            appended[name] = tuple(entry(n) for n in numbers if n not in before.get(name, []))
        changes = Changes(
            ended=tuple(ended),
            sessions=tuple(
                put(
                    replace(BARE, client_id=name, expiry_s=sessions[name][0]),
                    *appended[name],
                    first=first[name],
                )
                for name in touched
            ),
            retained=tuple(
                RetainedRecord(Publish(name, retained[name], 0, True), None, "")
                for name in topics
                if name in retained
            ),
            unretained=tuple(name for name in topics if name not in retained),
        )
        store.write(changes, 0, WALL)
    saved = again(store, folder)
    assert {
        one.record.client_id: (one.record.expiry_s, [entry.number for entry in one.queue])
        for one in saved.sessions
    } == sessions
    assert {one.message.topic: one.message.payload for one in saved.retained} == retained
