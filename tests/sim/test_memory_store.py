"""A disk in memory: what a power cut leaves, at every point and every byte."""

from pathlib import Path
from random import Random

import pytest

from demesh.ports import CompactJournal, Journal, Keep, StoreBlock
from demesh.storage.journal import VoteJournal
from demesh_sim.memory_store import MemoryStore, journal_frame, read_journal

A, B, C = b"first", b"", b"third record"


class Cut(Random):
    """A power cut at a chosen step and, inside an append, at a chosen byte."""

    def __init__(self, *draws: int) -> None:
        super().__init__(0)
        self._draws = list(draws)

    def randrange(self, *_: int) -> int:  # type: ignore[override]
        return self._draws.pop(0)


def test_what_was_committed_is_read_back() -> None:
    store = MemoryStore()
    store.commit([Journal(A), Journal(B), StoreBlock(1, b"block", b"cert", ((b"k", b"v"),))])
    store.commit([Keep("space", b"key", b"value", urgent=True)])
    restored = store.load()
    assert restored.journal == (A, B)
    assert restored.tip is not None and restored.tip.block == b"block"
    assert restored.records == ((b"k", b"v"),)
    assert restored.kept == (("space", b"key", b"value"),)


def test_a_power_cut_loses_a_batch_that_was_not_committed_and_nothing_of_the_journal() -> None:
    store = MemoryStore()
    store.commit(
        [Journal(A), StoreBlock(1, b"block", None, ((b"k", b"v"),)), Keep("s", b"k", b"v")]
    )
    assert store.blocks(1, 5)[0].block == b"block"  # seen before it is durable
    store.crash(Random(1))
    restored = store.load()
    assert restored.journal == (A,)
    assert (restored.tip, restored.records, restored.kept) == (None, (), ())
    assert store.blocks(1, 5) == ()


def test_an_urgent_value_takes_the_whole_batch_with_it() -> None:
    store = MemoryStore()
    store.commit([StoreBlock(1, b"block", None, ())])
    store.commit([Keep("s", b"k", b"v", urgent=True)])
    store.crash(Random(1))
    assert store.load().tip is not None


@pytest.mark.parametrize("cut", range(len(journal_frame([B, C], 999))))
def test_an_append_that_is_cut_at_any_byte_is_gone_as_a_whole(cut: int) -> None:
    store = MemoryStore()
    store.commit([Journal(A)])
    assert store.begin([Journal(B), Journal(C), Keep("s", b"k", b"v", urgent=True)])
    store.crash(Cut(0, cut))
    assert store.load().journal == (A,)
    assert store.load().kept == ()
    store.commit([Journal(C)])
    assert store.load().journal == (A, C)


@pytest.mark.parametrize(("step", "journal", "kept"), [(1, 1, 0), (2, 1, 0), (3, 1, 1)])
def test_the_journal_is_durable_before_the_database(step: int, journal: int, kept: int) -> None:
    store = MemoryStore()
    store.begin([Journal(A), Keep("s", b"k", b"v", urgent=True)])
    store.crash(Cut(step))
    restored = store.load()
    assert (len(restored.journal), len(restored.kept)) == (journal, kept)


@pytest.mark.parametrize(
    ("step", "journal", "top"), [(0, (A, B), 0), (1, (A, B), 0), (2, (A, B), 1), (3, (C,), 1)]
)
def test_a_compaction_happens_whole_or_not_at_all_and_after_the_database(
    step: int, journal: tuple[bytes, ...], top: int
) -> None:
    store = MemoryStore()
    store.commit([Journal(A), Journal(B)])
    store.begin([CompactJournal((C,)), StoreBlock(1, b"block", None, ())])
    store.crash(Cut(step))
    restored = store.load()
    assert restored.journal == journal
    assert (restored.tip.height if restored.tip else 0) == top


def test_blocks_are_consecutive_and_end_at_a_gap() -> None:
    store = MemoryStore()
    store.commit([StoreBlock(h, b"%d" % h, None, ()) for h in (1, 2, 3, 5)])
    assert [block.height for block in store.blocks(2, 10)] == [2, 3]
    assert [block.height for block in store.blocks(1, 2)] == [1, 2]
    assert store.blocks(4, 10) == ()


def test_a_block_that_comes_again_keeps_its_certificate() -> None:
    store = MemoryStore()
    store.commit([StoreBlock(1, b"block", b"cert", ())])
    store.commit([StoreBlock(1, b"block", None, ())])
    store.flush()
    tip = store.load().tip
    assert tip is not None and tip.certificate == b"cert"


def test_the_bytes_are_those_of_the_real_journal_at_every_truncation(tmp_path: Path) -> None:
    store = MemoryStore()
    store.commit([Journal(A), Journal(B)])
    store.commit([Journal(C)])
    content = bytes(store.journal)
    for end in range(16, len(content) + 1):
        path = tmp_path / f"{end}"
        path.write_bytes(content[:end])
        real = VoteJournal(path)
        assert real.load() == read_journal(content[:end])[0]
        real.close()
