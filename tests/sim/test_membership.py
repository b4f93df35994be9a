"""Owners change the voters of a running mesh: real nodes and frames, in virtual time."""

from __future__ import annotations

from collections import Counter

import pytest
from nacl.signing import SigningKey

from demesh.past import standing_of
from demesh.ports import MILLISECOND, Observe, Publish
from demesh_sim.memory_store import MemoryStore
from demesh_sim.witness import Witness
from sim.reform import CALM_S, QUIET_S, TROUBLE_S, Reform, trouble

SEEDS = range(8)


class Listener(Witness):
    """What boards say to people, and how often each says something to others."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []
        self.published: Counter[int] = Counter()

    def observed(self, board: int, at: int, observation: Observe) -> None:
        if observation.text:
            self.lines.append((board, observation.text))

    def publishing(self, board: int, at: int, message: Publish, store: MemoryStore) -> None:
        self.published[board] += 1

    def said(self, board: int, text: str) -> bool:
        return any(board == who and text in line for who, line in self.lines)


def voting(reform: Reform) -> list[bool]:
    nodes = [host.node for host in reform.swarm.hosts]
    return [node is not None and node.consensus.voting for node in nodes]


def test_an_observer_is_given_a_vote_while_customers_pay() -> None:
    reform = Reform(1, observers=1, until_s=20, witnesses=[listener := Listener()])
    before = reform.run(8)
    assert voting(reform) == [True] * 4 + [False]
    reform.want(4, 1)
    after = reform.run(10)
    assert reform.epochs() == [1] * 5
    assert after.blocks > before.blocks + 4
    assert listener.said(4, "votes from epoch 1 on, with weight 1 of 5")
    reform.run(45)
    reform.check_whole()


def test_a_voter_loses_its_weight_and_others_get_more() -> None:
    reform = Reform(2, voters=5, until_s=30, witnesses=[listener := Listener()])
    reform.run(5)
    reform.want(0, 0)  # the one in whose name the owners' ops are published
    reform.want(3, 3)
    reform.want(4, 2)
    reform.run(60)
    assert reform.epochs() == [3] * 5
    assert listener.said(0, "a member of bare with weight 0: it observes")
    assert listener.said(3, "votes from epoch 2 on, with weight 3 of 6")
    reform.check_whole()
    # Weight decides, not heads: 3 of 7 are missing, and with them every decision.
    reform.swarm.hosts[3].crash()
    reform.want(0, 1)
    stuck = reform.run(90).blocks
    assert reform.run(120).blocks == stuck
    reform.swarm.hosts[3].boot()
    reform.run(170)
    assert reform.epochs() == [4] * 5
    reform.check_whole()


def test_a_device_that_lost_its_journal_votes_again_with_a_new_key() -> None:
    reform = Reform(7, every_ms=100, until_s=40, witnesses=[listener := Listener()])
    reform.run(10)
    host = reform.swarm.hosts[1]
    # Caught in a view it has voted in and that is not decided yet, or there is nothing to forget.
    while host.node is None or not host.node.consensus.votes_of(1):
        reform.swarm.heap.run(reform.swarm.heap.now + MILLISECOND)
    reform.lose_journal(1)
    reform.run(16)
    assert voting(reform) == [True, False, True, True]
    old = host.member.identity.vote_key
    assert standing_of(host.store.load().journal).given_up
    assert listener.said(1, "replace it with demesh member renew-vote-key")
    reform.renew(1)
    reform.run(80)
    assert listener.said(1, "votes from epoch 1 on, with weight 1 of 4")
    assert reform.epochs() == [1] * 4
    reform.check_whole()
    # The old key stays given up, whoever puts it back.
    reform.give_key(1, old)
    reform.run(100)
    assert listener.said(1, "bare has another vote key of voter-1 on record: observing until")
    assert voting(reform) == [True, False, True, True]
    reform.want(1, 1)
    reform.run(140)
    assert reform.epochs() == [2] * 4
    assert voting(reform) == [True, False, True, True]
    assert listener.said(1, "quarantined at an earlier time")


def test_a_device_with_a_vote_key_that_nobody_knows_observes_until_it_is_known() -> None:
    reform = Reform(8, until_s=20, witnesses=[listener := Listener()])
    reform.run(5)
    reform.give_key(2, SigningKey(bytes(32)))
    reform.run(12)
    assert listener.said(2, "bare has another vote key of voter-2 on record: observing until")
    assert voting(reform) == [True, True, False, True]
    reform.want(2, 1)
    reform.run(50)
    assert listener.said(2, "votes from epoch 1 on, with weight 1 of 4")
    reform.check_whole()


def test_a_new_device_waits_joins_catches_up_and_votes() -> None:
    reform = Reform(3, newcomers=1, until_s=60, witnesses=[listener := Listener()])
    newcomer = reform.swarm.hosts[4]
    reform.run(3)
    newcomer.crash()
    away = reform.run(30).heights[4]
    newcomer.boot()
    waiting = reform.run(40)
    assert listener.said(4, "not a member of bare yet: listening; its owners take it in with")
    assert waiting.heights[4] <= away < waiting.blocks, "nobody answers a stranger"
    assert newcomer.node is not None and not list(newcomer.node.application.pool)
    reform.want(4, 1)
    reform.run(110)
    assert listener.said(4, "votes from epoch 1 on, with weight 1 of 5")
    reform.check_whole()


def test_a_device_that_joined_later_gets_a_long_chain_back_without_its_ledger() -> None:
    reform = Reform(5, newcomers=1, every_ms=50, until_s=45)
    reform.run(40)
    reform.want(4, 1)
    assert reform.run(45).blocks > 300
    reform.lose_ledger(4)  # and with it the knowledge that it is a member
    reform.run(52)
    reform.check_whole()


def test_a_device_that_waits_for_its_owners_hardly_disturbs_an_idle_mesh() -> None:
    reform = Reform(4, newcomers=1, until_s=20, witnesses=[listener := Listener()])
    newcomer = reform.swarm.hosts[4]
    reform.run(3)
    newcomer.crash()  # so there are blocks that it knows of and is not given
    reform.run(30)
    newcomer.boot()
    reform.run(60)
    before = listener.published.copy()
    reform.run(60 + 3600)
    assert listener.published[4] - before[4] <= 360
    others = listener.published.total() - listener.published[4]
    assert others - (before.total() - before[4]) <= 40
    assert not any(host.node and list(host.node.application.pool) for host in reform.swarm.hosts)


# -- the instants around a hand-over ---------------------------------------------------------------

AROUND_MS = range(-40, 41, 8)  # of the first board in the next epoch


def about_to_change(seed: int) -> Reform:
    reform = Reform(seed, observers=1, every_ms=100, until_s=7)
    reform.run(4)
    reform.want(4, 1)
    return reform


def at_hand_over(around_ms: int) -> Reform:
    """A mesh so long before or after its first board enters the next epoch."""
    seed = 100 + around_ms
    scout = about_to_change(seed)
    while not any(scout.epochs()):
        scout.swarm.heap.run(scout.swarm.heap.now + MILLISECOND)
    reform = about_to_change(seed)
    reform.swarm.heap.run(scout.swarm.heap.now + around_ms * MILLISECOND)
    return reform


def check_recovered(reform: Reform) -> None:
    reform.run(50)
    assert reform.epochs() == [1] * 5
    reform.check_whole()


def test_the_instants_cover_all_of_a_hand_over() -> None:
    seen = {tuple(sorted(set(at_hand_over(around).epochs()))) for around in AROUND_MS}
    assert seen == {(0,), (0, 1), (1,)}


@pytest.mark.parametrize("around_ms", AROUND_MS)
def test_a_mesh_that_loses_its_power_at_a_hand_over_goes_on(around_ms: int) -> None:
    """Every ledger is up to a second behind its journal, which may know the next epoch already."""
    reform = at_hand_over(around_ms)
    for board in range(5):
        reform.power_cut(board)
    check_recovered(reform)


@pytest.mark.parametrize("around_ms", AROUND_MS[::2])
def test_boards_that_lose_power_or_ledger_at_a_hand_over_catch_up(around_ms: int) -> None:
    reform = at_hand_over(around_ms)
    reform.power_cut(around_ms // 8 % 4)
    reform.lose_ledger(4)
    check_recovered(reform)


# -- under every fault -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS, ids=[f"seed-{seed}-" for seed in SEEDS])
def test_voters_change_under_every_fault_and_the_mesh_stays_one(seed: int) -> None:
    reform = trouble(seed)
    reform.run(TROUBLE_S)
    troubled = reform.swarm.report().blocks
    assert reform.run(TROUBLE_S + CALM_S).blocks > troubled, "no decision after healing"
    reform.run(TROUBLE_S + CALM_S + QUIET_S)
    reform.check_whole()
    assert reform.epochs()[0] > 2
