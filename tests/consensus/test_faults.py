"""Seeded campaigns on the bare voting rules: loss, partitions, crashes with restarts, then healing.

`Cluster` compares every finalization with everybody else's and checks that votes are durable first.
"""

from __future__ import annotations

import random

import pytest

from consensus.cluster import Cluster

SEEDS = range(40)
OPS = tuple(b"op %d" % number for number in range(20))

# After the network heals every op is final within this: a few stalled views at 8 s each.
HEALED_S = 120


def disturb(cluster: Cluster, dice: random.Random, faulty: int) -> None:
    count = len(cluster.peers)
    down = [peer.index for peer in cluster.peers if not peer.up]
    if dice.random() < 0.3 and len(down) < faulty + (dice.random() < 0.3):
        cluster.crash(dice.choice([i for i in range(count) if i not in down]))
    if down and dice.random() < 0.4:
        cluster.restart(dice.choice(down))
    if dice.random() < 0.15:
        half = frozenset(dice.sample(range(count), count // 2))
        cluster.cut = lambda source, target: (source in half) != (target in half)
    elif dice.random() < 0.4:
        cluster.cut = lambda source, target: False


@pytest.mark.parametrize("seed", SEEDS)
def test_no_fork_under_faults_and_every_op_final_after_healing(seed: int) -> None:
    dice = random.Random(seed)
    count = dice.choice([4, 5, 7, 8, 10])
    cluster = Cluster(count, seed, loss=(0.0, 0.05, 0.2, 0.4)[seed % 4])
    for op in OPS:
        cluster.submit(op, tuple(dice.sample(range(count), 2)))
        disturb(cluster, dice, cluster.voters.faulty_max)
        cluster.run(dice.random() * 1.5)
    cluster.cut, cluster.loss = (lambda source, target: False), 0.0
    for peer in cluster.peers:
        if not peer.up:
            cluster.restart(peer.index)

    def everywhere() -> bool:
        return all(
            {op for link in peer.chain for op in link.block.ops} == set(OPS)
            for peer in cluster.peers
        )

    cluster.run_until(everywhere, HEALED_S)
    assert not cluster.evidence, "honest voters never contradict themselves"
    assert not any(peer.quarantined for peer in cluster.peers)


def test_a_journal_that_forgets_is_caught() -> None:
    """The same campaign with a broken disk: synced votes are lost, and the voter finds out."""
    cluster = Cluster(4, seed=1)
    cluster.run(2)
    cluster.cut = lambda source, target: True
    cluster.submit(b"a")
    cluster.run(5)
    cluster.cut = lambda source, target: False
    victim = cluster.peers[2]
    cluster.run(0.0)
    for vote_ in list(victim.core.votes_of(2)):
        for other in cluster.peers:
            if other is not victim:
                cluster.do(other, other.core.receive_vote(vote_, cluster.now))
    cluster.crash(2)
    victim.disk.compact(())
    cluster.restart(2)
    cluster.run(5)
    assert victim.quarantined and not victim.core.voting
