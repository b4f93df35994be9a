"""What a power cut takes: certificates live in memory, and who held them may have moved on."""

from __future__ import annotations

from collections.abc import Sequence

from consensus.cluster import Cluster, vote
from consensus.test_simplex import (
    FOUR,
    NOTARIZE,
    NULLIFY,
    block_of,
    certificate,
    digest_of,
    proposal_of,
    said,
    voter,
)
from demesh_consensus import Certificate, Effect, Proposal, Record, Vote


def recorded(effects: Sequence[Effect]) -> list[Vote | Proposal | Certificate]:
    return [effect.entry for effect in effects if isinstance(effect, Record)]


def silence(cluster: Cluster) -> None:
    """Nobody hears anybody."""
    cluster.cut = lambda source, target: True


def power_cut(cluster: Cluster, dead: int) -> None:
    """All lose their memory; one never comes back."""
    cluster.crash(dead)
    for peer in cluster.peers:
        if peer.index != dead:
            cluster.crash(peer.index)
            cluster.restart(peer.index)
    cluster.cut = lambda source, target: False


def test_who_finalizes_can_show_the_notarization_after_a_restart() -> None:
    core, block = voter(0), block_of(1, b"a")
    core.receive_proposal(proposal_of(block), 0)
    held = certificate(NOTARIZE, 1, digest_of(block))
    entries = recorded(core.receive_certificate(held, 0))
    assert entries[0] == held and [e for e in entries if isinstance(e, Vote)], "before the vote"


def test_who_votes_in_a_view_can_show_what_let_it_in_after_a_restart() -> None:
    core = voter(1)
    assert FOUR.leader(2) != 1
    skipped = certificate(NULLIFY, 1)
    assert recorded(core.receive_certificate(skipped, 0)) == []
    effects = core.receive_vote(vote(FOUR.leader(2), NULLIFY, 2), 0)
    assert recorded(effects)[0] == skipped and said(effects) == [(NULLIFY, 2)]
    again = voter(1, restored=recorded(effects))
    assert again.view == 2 and skipped in again.journal()


def test_a_notarization_that_one_voter_finalized_survives_a_power_cut_and_a_dead_board() -> None:
    """The other two have nullified the view; without the certificate it would never end."""
    cluster = Cluster(4)
    cluster.run(1)
    silence(cluster)
    leader, dead = cluster.voters.leader(1), cluster.voters.leader(2)
    holder, third = (peer.index for peer in cluster.peers if peer.index not in (leader, dead))
    cluster.submit(b"a", to=(leader, third))
    block = next(m for _, m in cluster.sent if isinstance(m, Proposal))
    digest = block.vote.statement.digest
    peer = cluster.peers[holder]
    cluster.do(peer, peer.core.receive_proposal(block, cluster.now))
    cluster.do(peer, peer.core.receive_vote(vote(dead, NOTARIZE, 1, digest), cluster.now))
    assert peer.core.view == 2
    cluster.run(20)
    power_cut(cluster, dead)
    cluster.submit(b"b")
    cluster.run_until(lambda: all(p.core.tip.height >= 2 for p in cluster.peers if p.up), 60)


def test_a_nullification_survives_a_power_cut_and_a_dead_board() -> None:
    """One voter left the view on the others' word: voting in the next, it can say why."""
    cluster = Cluster(4)
    cluster.run(1)
    silence(cluster)
    dead = cluster.voters.leader(2)
    left, *others = (peer.index for peer in cluster.peers if peer.index != dead)
    for index in others:
        peer = cluster.peers[index]
        for other in (*others, dead):
            if other != index:
                cluster.do(peer, peer.core.receive_vote(vote(other, NULLIFY, 1), cluster.now))
    peer = cluster.peers[left]
    votes = [vote(v, NULLIFY, 1) for v in sorted((*others, dead))]
    skipped = Certificate(votes[0].statement, tuple((v.voter, v.signature) for v in votes))
    cluster.do(peer, peer.core.receive_certificate(skipped, cluster.now))
    cluster.submit(b"a")
    cluster.run(20)
    assert all(cluster.peers[i].core.view == 2 for i in (left, *others))
    power_cut(cluster, dead)
    cluster.submit(b"b")
    cluster.run_until(lambda: all(p.core.tip.height >= 1 for p in cluster.peers if p.up), 60)


def test_a_block_that_was_final_only_in_memory_is_final_again() -> None:
    """The last second of every ledger is lost, the journals are not."""
    cluster = Cluster(4)
    cluster.submit(b"a")
    cluster.run(5)
    before = dict(cluster.truth)
    assert cluster.heights == [1, 1, 1, 1]
    for peer in cluster.peers:
        peer.chain.clear()
    power_cut(cluster, dead=3)
    cluster.submit(b"b")
    cluster.run_until(lambda: all(p.core.tip.height >= 2 for p in cluster.peers if p.up), 60)
    assert before.items() <= cluster.truth.items()
