"""Mesh time follows others from below, never one leader, and stops an hour after the last block."""

from __future__ import annotations

from consensus.cluster import GENESIS, SECOND, START, Log, franchise_of
from consensus.test_simplex import voter
from demesh_consensus import Simplex, Timing, Tip
from demesh_consensus.clock import ADVANCE_S_MAX, SLACK_S, MeshClock
from demesh_consensus.types import Voters

FOUR = Voters(0, (1, 1, 1, 1), GENESIS)


def test_it_advances_with_monotonic_time_and_keeps_fractions_across_blocks() -> None:
    clock = MeshClock(100, 0)
    for tenth in range(1, 31):
        clock.finalized(100, tenth * SECOND // 10)
    assert clock.read_s(3 * SECOND) == 103


def test_it_stops_an_hour_after_the_last_finalization() -> None:
    clock = MeshClock(100, 0)
    assert clock.read_s(10_000 * SECOND) == 100 + ADVANCE_S_MAX
    assert clock.instant_of(100 + ADVANCE_S_MAX + 1) is None
    clock.finalized(100 + ADVANCE_S_MAX, 10_000 * SECOND)
    assert clock.read_s(10_010 * SECOND) == 110 + ADVANCE_S_MAX


def test_a_block_ahead_is_followed_only_up_to_the_slack() -> None:
    clock = MeshClock(100, 0)
    clock.finalized(110, 0)
    assert clock.read_s(0) == 110 - SLACK_S


def test_f_liars_cannot_move_it_and_one_more_can() -> None:
    clock = MeshClock(100, 0)
    clock.heard(1, 1_000_000, FOUR, 0)
    assert clock.read_s(0) == 100
    clock.heard(2, 150, FOUR, 0)
    assert clock.read_s(0) == 150
    clock.heard(2, 100, FOUR, SECOND)
    assert clock.read_s(SECOND) == 151


def test_instant_of_is_when_it_will_show_that_time() -> None:
    clock = MeshClock(100, 5 * SECOND)
    due = clock.instant_of(107)
    assert due == 12 * SECOND
    assert clock.read_s(due - 1) == 106 and clock.read_s(due) == 107


def test_a_restarted_clock_begins_the_slack_below_its_tip_and_at_the_genesis_with_it() -> None:
    tip = Tip(3, 3, 1_010, b"x" * 32, None)
    assert MeshClock.since(tip, 5 * SECOND).read_s(5 * SECOND) == 1_008
    assert MeshClock.since(START, 5 * SECOND).read_s(5 * SECOND) == START.time_s


def test_claims_move_the_clock_of_who_may_not_vote_yet_only() -> None:
    voting, silent = voter(0), Simplex(franchise_of(FOUR, 0), Log(), START, Timing(), b"s", 0)
    assert voting.voting and not silent.voting
    for core in (voting, silent):
        for other in (1, 2):
            core.receive_recalled(other, (), 0, START.time_s + 100, 0)
    assert voting.clock.read_s(0) == START.time_s
    assert silent.clock.read_s(0) == START.time_s + 100
