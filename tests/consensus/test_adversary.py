"""Up to f liars of every kind, with loss and crashes of the honest: no fork, no false accusation.

After the network heals every op becomes final, while the liars go on lying.
"""

from __future__ import annotations

import random

import pytest

from consensus.cluster import Cluster
from demesh_sim.campaign.adversaries import ADVERSARIES, Adversary, corrupt
from demesh_sim.campaign.checkers import Checkers
from demesh_sim.campaign.conduct import Conduct

OPS = tuple(b"op %d" % number for number in range(12))
HEALED_S = 240


def watched(cluster: Cluster, liars: set[int]) -> None:
    """All of the campaign's checkers look on: votes, certificates, blocks, evidence, memory."""
    cluster.watch(Checkers(cluster, frozenset(liars)))
    cluster.watch(Conduct(cluster, frozenset(liars), frozenset()))


def all_final(cluster: Cluster, liars: set[int]) -> bool:
    return all(
        {op for link in peer.chain for op in link.block.ops} >= set(OPS)
        for peer in cluster.peers
        if peer.index not in liars
    )


@pytest.mark.parametrize("cls", ADVERSARIES)
@pytest.mark.parametrize("seed", range(6))
def test_liars_up_to_f_change_nothing(cls: type[Adversary], seed: int) -> None:
    dice = random.Random(f"{cls.__name__}/{seed}")
    count = (4, 7, 5)[seed % 3]
    cluster = Cluster(count, seed, loss=(0.0, 0.1)[seed % 2])
    faulty = cluster.voters.faulty_max
    liars = set(dice.sample(range(count), faulty))
    for index in liars:
        corrupt(cluster.peers[index], cluster, cls, seed)
    watched(cluster, liars)
    honest = [peer for peer in cluster.peers if peer.index not in liars]
    for op in OPS:
        cluster.submit(op, (dice.choice(honest).index, dice.choice(honest).index))
        victim = dice.choice(honest)
        if dice.random() < 0.3:
            cluster.crash(victim.index)
            cluster.restart(victim.index)
        cluster.run(dice.random() * 2)
    cluster.loss = 0.0
    cluster.run_until(lambda: all_final(cluster, liars), HEALED_S)
    assert all(proof.first.voter in liars for proof in cluster.evidence)


def test_all_kinds_of_liars_at_once() -> None:
    dice = random.Random(5)
    cluster = Cluster(28, 5)
    liars = set(range(len(ADVERSARIES)))
    for index, cls in zip(liars, ADVERSARIES, strict=True):
        corrupt(cluster.peers[index], cluster, cls, index)
    watched(cluster, liars)
    honest = [peer for peer in cluster.peers if peer.index not in liars]
    for op in OPS:
        cluster.submit(op, (dice.choice(honest).index,))
        cluster.run(0.5)
    cluster.run_until(lambda: all_final(cluster, liars), HEALED_S)
    assert all(proof.first.voter in liars for proof in cluster.evidence)
