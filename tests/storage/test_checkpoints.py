"""Checkpoints on both disks: what is kept, what is given up, and what a power cut leaves."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from random import Random

import pytest

from demesh.ports import (
    Adopt,
    Fetch,
    Fetched,
    Journal,
    SeekChunk,
    Sought,
    StoreBlock,
    StoreCheckpoint,
)
from demesh.storage.answers import answered
from demesh.storage.store import FileStore
from demesh_sim.memory_store import MemoryStore

MESH = bytes(32)

Stores = FileStore | MemoryStore


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    if request.param == "memory":
        yield MemoryStore()
        return
    made = FileStore(tmp_path, MESH)
    made.load()
    yield made
    made.close()


def named(*contents: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((blake2b(one, digest_size=32).digest(), one) for one in contents)


def checkpoint(height: int, *contents: bytes) -> StoreCheckpoint:
    return StoreCheckpoint(height, b"checkpoint %d" % height, named(*contents))


def adoption(height: int) -> Adopt:
    return Adopt(
        height,
        b"checkpoint %d" % height,
        named(b"one", b"two"),
        ((b"a", b"new"), (b"c", b"new too")),
        ((3, b"the first"), (height - 1, b"the second")),
    )


def fill(store: Stores, heights: range) -> None:
    store.commit([StoreBlock(h, b"%d" % h, b"final %d" % h, ((b"a", b"%d" % h),)) for h in heights])


def heights(store: Stores) -> list[int]:
    """Of the blocks that are there, from the lowest."""
    first = next((h for h in range(200) if store.blocks(h, 1)), 0)
    return [stored.height for stored in store.blocks(first, 1000)]


def test_blocks_go_with_the_checkpoint_before_the_last(store: Stores) -> None:
    fill(store, range(1, 11))
    store.commit([checkpoint(10, b"ten")])
    store.flush()
    assert heights(store) == list(range(1, 11)), "the first one has none before it"
    fill(store, range(11, 21))
    store.commit([checkpoint(20, b"twenty")])
    store.flush()
    assert heights(store) == list(range(11, 21))
    fill(store, range(21, 31))
    store.commit([checkpoint(30, b"thirty")])
    store.flush()
    assert heights(store) == list(range(21, 31))
    assert store.load().checkpoint == store.checkpoint() == b"checkpoint 30"


def test_chunks_stay_as_long_as_one_of_two_checkpoints_names_them(store: Stores) -> None:
    (shared, once, new) = (id for id, _ in named(b"shared", b"once", b"new"))
    store.commit([checkpoint(10, b"shared", b"once")])
    store.commit([checkpoint(20, b"shared", b"other")])
    store.flush()
    assert (store.chunk(shared), store.chunk(once), store.chunk(new)) == (b"shared", b"once", None)
    store.commit([checkpoint(30, b"new")])
    store.flush()
    assert (store.chunk(shared), store.chunk(once), store.chunk(new)) == (b"shared", None, b"new")
    store.commit([checkpoint(40, b"newer")])
    store.flush()
    assert (store.chunk(shared), store.chunk(new)) == (None, b"new")


def test_an_adopted_checkpoint_takes_the_place_of_everything_but_journal_and_hand_overs(
    store: Stores,
) -> None:
    closing = StoreBlock(3, b"3", b"final 3", ((b"a", b"3"), (b"b", b"gone")), b"the first")
    fill(store, range(1, 3))
    store.commit([Journal(b"vote"), closing, checkpoint(3, b"old")])
    store.commit([adoption(90)])
    restored = store.load()
    assert restored.journal == (b"vote",)
    assert restored.tip is None
    assert restored.checkpoint == b"checkpoint 90"
    assert restored.records == ((b"a", b"new"), (b"c", b"new too"))
    assert heights(store) == []
    assert store.hand_overs() == (b"the first", b"the second")
    assert store.chunk(named(b"old")[0][0]) is None
    assert store.chunk(named(b"two")[0][0]) == b"two"
    fill(store, range(91, 94))
    store.flush()
    assert heights(store) == [91, 92, 93]
    tip = store.load().tip
    assert tip is not None and tip.height == 93


def test_an_adopted_checkpoint_is_durable_at_once(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "data", MESH)
    store.load()
    fill(store, range(1, 4))
    assert store.pending
    store.commit([adoption(90)])
    assert not store.pending
    store.close()
    memory = MemoryStore()
    fill(memory, range(1, 4))
    assert memory.begin([adoption(90)]), "a sync comes before anything else"
    memory.finish()
    assert not memory.pending


@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_leaves_all_of_an_adoption_or_nothing(seed: int) -> None:
    store = MemoryStore()
    fill(store, range(1, 4))
    store.flush()
    before = store.load()
    store.begin([Journal(b"vote"), adoption(90)])
    store.crash(Random(seed))
    after = store.load()
    if after.checkpoint is None:
        assert (after.tip, after.records) == (before.tip, before.records)
    else:
        assert (after.tip, after.records) == (None, adoption(90).records)


def test_who_asks_gets_blocks_or_else_hand_overs_and_the_checkpoint(store: Stores) -> None:
    fill(store, range(1, 21))
    store.commit([checkpoint(10, b"ten"), checkpoint(20, b"twenty")])
    links = [StoreBlock(h, b"b", b"f", (), b"link %d" % h) for h in (12, 15)]
    store.commit(links)
    store.flush()
    gone = answered(store, Fetch(b"asker", 10, 64, 0))
    assert gone == Fetched(b"asker", (), None, (b"link 12", b"link 15"), b"checkpoint 20")
    assert answered(store, Fetch(b"asker", 3, 64, 1)) == Fetched(
        b"asker", (), None, (b"link 15",), b"checkpoint 20"
    )
    there = answered(store, Fetch(b"asker", 11, 2, 0))
    assert isinstance(there, Fetched) and [b.height for b in there.blocks] == [11, 12]
    assert (there.final, there.hand_overs, there.checkpoint) == (b"f", (), None)
    ((id, _),) = named(b"ten")
    assert answered(store, SeekChunk(b"asker", id)) == Sought(b"asker", b"ten")
    assert answered(store, SeekChunk(b"asker", bytes(32))) == Sought(b"asker", None)
