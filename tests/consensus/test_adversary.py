"""Up to f liars of every kind, with loss and crashes of the honest: no fork, no false accusation.

After the network heals every op becomes final, while the liars go on lying.
"""

from __future__ import annotations

import random

import pytest

from consensus.adversaries import ADVERSARIES, Adversary, corrupt
from consensus.cluster import Cluster
from demesh_consensus import StatementKind

OPS = tuple(b"op %d" % number for number in range(12))
HEALED_S = 240


def honest_votes_exclude_each_other(cluster: Cluster, liars: set[int]) -> None:
    """No honest journal contradicts itself, over all its lives."""
    for peer in cluster.peers:
        if peer.index in liars:
            continue
        said: dict[tuple[StatementKind, int], bytes] = {}
        for entry in peer.journal:
            vote = getattr(entry, "vote", entry)
            if getattr(vote, "voter", None) != peer.index:
                continue
            kind, view = vote.statement.kind, vote.statement.view
            assert said.setdefault((kind, view), vote.statement.digest) == vote.statement.digest
        for kind, view in said:
            assert kind is not StatementKind.FINALIZE or (StatementKind.NULLIFY, view) not in said


def fair(cluster: Cluster, liars: set[int]) -> None:
    honest_votes_exclude_each_other(cluster, liars)
    assert all(proof.first.voter in liars for proof in cluster.evidence)
    assert not any(p.quarantined for p in cluster.peers if p.index not in liars)


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
    honest = [peer for peer in cluster.peers if peer.index not in liars]
    for op in OPS:
        cluster.submit(op, (dice.choice(honest).index, dice.choice(honest).index))
        victim = dice.choice(honest)
        if dice.random() < 0.3:
            cluster.crash(victim.index)
            cluster.restart(victim.index)
        cluster.run(dice.random() * 2)
    cluster.loss = 0.0
    done = set(OPS)
    cluster.run_until(
        lambda: all({op for _, b, _ in p.chain for op in b.ops} >= done for p in honest), HEALED_S
    )
    fair(cluster, liars)


def test_all_kinds_of_liars_at_once() -> None:
    dice = random.Random(5)
    cluster = Cluster(16, 5)
    liars = set(range(5))
    for index, cls in zip(liars, ADVERSARIES, strict=True):
        corrupt(cluster.peers[index], cluster, cls, index)
    honest = [peer for peer in cluster.peers if peer.index not in liars]
    for op in OPS:
        cluster.submit(op, (dice.choice(honest).index,))
        cluster.run(0.5)
    done = set(OPS)
    cluster.run_until(
        lambda: all({op for _, b, _ in p.chain for op in b.ops} >= done for p in honest), HEALED_S
    )
    fair(cluster, liars)
