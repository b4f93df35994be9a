"""Boards that were away for longer than anybody keeps blocks: what they come back by."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from demesh import snapshots, voting
from demesh.backfill import answer
from demesh.node import Node
from demesh.ports import (
    MILLISECOND,
    Effect,
    Fetched,
    Instant,
    Persist,
    Sought,
    StoreCheckpoint,
)
from demesh.snapshots import Checkpoint
from demesh.wire.messages import Chunk, Genesis, Leap, Signal
from demesh.wire.schema import decode, encode
from demesh_sim.audit import audit
from demesh_sim.bare import Customer, found_bare
from demesh_sim.links import PROFILES
from demesh_sim.memory_store import MemoryStore
from demesh_sim.swarm import Swarm
from demesh_sim.witness import Witness
from sim.reform import CALM_S, QUIET_S, TROUBLE_S, Reform, trouble

EVERY = 16  # instead of 1,024: a mesh of four makes two of these in some seconds


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "EVERY", EVERY)


def genesis_of(seed: int) -> Genesis:
    """That of a reform's mesh of four, again."""
    return found_bare(4, seed, owners=3).genesis


def adoptions(reform: Reform) -> list[tuple[int, int]]:
    """(board, height) of every checkpoint that was adopted."""
    return reform.swarm.checkers.adopted


def come_back(reform: Reform, board: int) -> None:
    """Switch a board on again; what the broker had queued for it is lost."""
    reform.swarm.network.restart_broker(100 * MILLISECOND)
    reform.swarm.hosts[board].boot()


def test_a_board_that_was_away_for_longer_than_blocks_are_kept_adopts_a_checkpoint() -> None:
    # With most seeds the others wait for this board's turns, and make but 50 blocks meanwhile.
    reform = Reform(22, every_ms=60, until_s=20)
    reform.run(4)
    host = reform.swarm.hosts[2]
    host.crash()
    away_from = reform.swarm.report().heights[2]
    reform.run(15)
    assert reform.swarm.report().blocks > away_from + 4 * EVERY
    assert not reform.swarm.hosts[0].store.blocks(away_from + 1, 1), "nobody has its blocks"
    come_back(reform, 2)
    reform.run(45)
    reform.check_whole()
    ((board, height),) = adoptions(reform)
    assert board == 2 and height > away_from + EVERY and height % EVERY == 0


def test_blocks_are_kept_back_to_the_last_checkpoint_but_one_and_no_further() -> None:
    reform = Reform(22, every_ms=60, until_s=10)
    reform.run(30)
    reform.check_whole()
    assert not adoptions(reform)
    top = reform.swarm.report().blocks
    assert top > 3 * EVERY
    base = (top // EVERY - 1) * EVERY
    oldest = base + 1
    for host in reform.swarm.hosts:
        (first,) = host.store.blocks(oldest, 1)
        assert first.height == oldest and not host.store.blocks(oldest - 1, 1)
        assert len(host.store.blocks(oldest, 1000)) == top - base < 2 * EVERY
    found = audit(genesis_of(22), {str(host.index): host.store for host in reform.swarm.hosts})
    assert (found.faults, found.sum, found.since, found.common_height) == ((), 0, base, top)
    assert found.roots_agree


def test_an_audit_of_pruned_books_finds_a_wrong_beginning_and_a_board_left_far_behind() -> None:
    reform = Reform(22, every_ms=60, until_s=10)
    reform.run(4)
    reform.swarm.hosts[3].crash()
    reform.run(20)
    books = {str(host.index): host.store for host in reform.swarm.hosts}
    found = audit(genesis_of(22), books)
    assert len(found.faults) == 1 and found.roots_agree
    assert found.faults[0].startswith("3: ends at block ")
    chunks = reform.swarm.hosts[0].store._chunks
    for id, (height, content) in chunks.items():
        chunks[id] = height, content[:-1] + bytes([content[-1] ^ 1])
    found = audit(genesis_of(22), {"0": reform.swarm.hosts[0].store})
    assert len(found.faults) == 1 and "do not give the state of block" in found.faults[0]


def test_a_board_comes_back_through_epochs_that_it_slept_through() -> None:
    reform = Reform(23, observers=1, every_ms=120, until_s=28)
    reform.run(5)
    host = reform.swarm.hosts[2]
    host.crash()
    for at_s, board, weight in ((8, 4, 1), (12, 0, 0), (16, 0, 1)):
        reform.run(at_s)
        reform.want(board, weight)
    reform.run(26)
    come_back(reform, 2)
    reform.run(60)
    reform.check_whole()
    assert [board for board, _ in adoptions(reform)] == [2]
    assert host.store.hand_overs() and len(host.store.hand_overs()) == reform.epochs()[0]


def test_a_device_with_nothing_but_its_keys_and_the_genesis_comes_in_by_a_checkpoint() -> None:
    reform = Reform(24, observers=1, every_ms=80, until_s=22)
    fresh = reform.swarm.hosts[4]
    reform.run(3)
    fresh.crash()
    fresh.store = MemoryStore()
    reform.run(10)
    reform.want(3, 2)
    reform.run(20)
    come_back(reform, 4)
    reform.run(55)
    reform.check_whole()
    assert [board for board, _ in adoptions(reform)] == [4]


def test_a_newcomer_that_the_genesis_does_not_name_comes_in_by_a_checkpoint_and_votes() -> None:
    reform = Reform(27, newcomers=1, every_ms=60, until_s=15)
    reform.run(2)
    reform.swarm.hosts[4].crash()
    reform.swarm.hosts[4].store = MemoryStore()
    reform.run(8)
    reform.want(4, 1)
    reform.run(15)
    assert not reform.swarm.hosts[0].store.blocks(1, 1)
    come_back(reform, 4)
    reform.run(60)
    reform.check_whole()
    assert [board for board, _ in adoptions(reform)] == [4]


def test_a_voter_that_lost_its_ledger_but_not_its_journal_leaps_and_votes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its journal holds the blocks that it voted for, until it is written anew.
    monkeypatch.setattr(voting, "JOURNAL_RECORDS_MAX", 64)
    reform = Reform(25, every_ms=60, until_s=12)
    reform.run(10)
    host = reform.swarm.hosts[1]
    host.crash()
    emptied = MemoryStore()
    emptied.journal[:] = host.store.journal
    host.store = emptied
    come_back(reform, 1)
    reform.run(45)
    reform.check_whole()
    assert [board for board, _ in adoptions(reform)] == [1]


# -- liars, and power cuts ------------------------------------------------------------------------


class Forger(Node):
    """Answers laggards with lies: chunks and checkpoints that are not what they should be."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.voting.found = self._lie  # type: ignore[method-assign]
        self._lies = 0

    def _lie(self, found: Fetched | Sought) -> list[Effect]:
        self._lies += 1
        honest = answer(found)
        match honest:
            case Chunk(content):
                place = self._lies % len(content)
                lie: Signal = Chunk(
                    content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
                )
            case Leap(links, stored) if stored:
                true = decode(Checkpoint, stored)
                wrong = hashlib.blake2b(b"%d" % self._lies, digest_size=32).digest()
                forged = (
                    replace(true, chunks=wrong + true.chunks[32:]),
                    replace(true, header=replace(true.header, state_root=wrong)),
                    replace(true, chunks=wrong * snapshots.CHUNKS_MAX),
                )[self._lies % 3]
                lie = Leap(links, encode(forged))
            case _:
                return []
        return [self.voting._send(found.asker, lie)]


def test_a_third_of_liars_delays_a_laggard_and_does_no_more() -> None:
    reform = Reform(26, voters=7, every_ms=90, until_s=13)
    for host in reform.swarm.hosts[:2]:
        host.member = replace(host.member, make_node=Forger)
    reform.run(4)
    host = reform.swarm.hosts[6]
    host.crash()
    reform.run(13)
    come_back(reform, 6)
    reform.run(70)
    reform.check_whole()
    assert [board for board, _ in adoptions(reform)] == [6]


@pytest.mark.parametrize("seed", range(6))
def test_the_power_may_go_at_any_step_of_a_leap(seed: int) -> None:
    reform = Reform(30 + seed, every_ms=60, until_s=20)
    reform.run(4)
    host = reform.swarm.hosts[2]
    host.crash()
    reform.run(15)
    chance = Random(seed)
    come_back(reform, 2)
    for _ in range(12):  # within the time that a leap takes, and some more
        reform.swarm.heap.run(reform.swarm.heap.now + chance.randrange(400 * MILLISECOND))
        reform.power_cut(2)
        reform.swarm.heap.run(reform.swarm.heap.now + 600 * MILLISECOND)
    reform.run(60)
    reform.check_whole()
    assert {board for board, _ in adoptions(reform)} == {2}


@pytest.mark.parametrize("seed", [2, 18], ids="seed-{}-".format)
def test_boards_leap_while_owners_change_voters_and_everything_fails(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "EVERY", 4)
    reform = trouble(seed)
    reform.run(TROUBLE_S + CALM_S + QUIET_S)
    reform.check_whole()
    assert adoptions(reform)


def test_a_board_adopts_the_very_block_that_closed_an_epoch_and_votes_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshots, "EVERY", 1)  # so that the last block has a snapshot
    reform = Reform(28, observers=1, every_ms=100, until_s=6)
    reform.run(4)
    host = reform.swarm.hosts[2]
    host.crash()
    reform.run(10)
    reform.want(4, 1)
    reform.run(14)
    top = reform.swarm.report().blocks
    assert reform.swarm.checkers.chain[top].closing
    come_back(reform, 2)
    reform.run(40)
    reform.check_whole()
    assert adoptions(reform) == [(2, top)]
    for other in (0, 1):  # it takes the vote of the board that came back
        reform.swarm.hosts[other].crash()
    reform.run(42)
    reform.swarm.hosts[0].boot()
    reform.run(50)
    reform.want(3, 2)
    reform.run(60)
    assert reform.swarm.report().blocks > top


class Snapshots(Witness):
    """Which board stored a checkpoint of which height."""

    def __init__(self) -> None:
        self.taken: set[tuple[int, int]] = set()

    def persisted(
        self, board: int, at: Instant, effects: Sequence[Persist], store: MemoryStore
    ) -> None:
        self.taken |= {(board, e.height) for e in effects if isinstance(e, StoreCheckpoint)}


def test_who_comes_back_by_blocks_takes_the_snapshots_on_the_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshots, "EVERY", 8)
    bare, seen = found_bare(4, 29), Snapshots()
    swarm = Swarm(bare.members, bare.genesis, 29, PROFILES["ethernet"], witnesses=[seen])
    Customer(swarm, bare, every_ms=200, until_s=8)
    swarm.run(3)
    host = swarm.hosts[2]
    host.store.flush()
    host.crash()
    tip = host.store.tip()
    assert tip is not None
    multiple = tip.height - tip.height % 8 + 8
    while swarm.report().blocks < multiple + 3:
        swarm.heap.run(swarm.heap.now + MILLISECOND)
    swarm.network.restart_broker(100 * MILLISECOND)
    host.boot()
    swarm.run(20)
    assert not swarm.checkers.adopted
    assert len(set(swarm.report().heights)) == 1
    assert {(board, multiple) for board in range(4)} <= seen.taken
