"""Nodes of which some are in one epoch and some in the next (docs/protocol.md, R-CON-14)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.border import (
    FIVE,
    IN,
    NEW_ROLL,
    OLD,
    ROOT,
    TS,
    N,
    S,
    above,
    asked,
    by_an_empty_block,
    by_own_certificate,
    certificate,
    final,
    handed_over,
    node,
    on,
    proposal,
    ticked,
    tips,
)
from consensus.cluster import MS, SECOND, Cluster, vote
from consensus.test_simplex import NULLIFY, said
from demesh_consensus import AskBlocks, Certificate, Epochs, Refusal, Refused
from demesh_consensus.catchup import Catchup
from demesh_sim.campaign.ledger import seat

# -- others in another epoch ----------------------------------------------------------------------


def test_what_is_of_another_epoch_is_not_counted() -> None:
    epochs = node(0)
    for voter in (1, 2, 3):
        refused = epochs.receive_vote(vote(voter, NULLIFY, 1, epoch=1), 0)
        assert Refused(Refusal.AHEAD) in refused
    ahead = epochs.receive_proposal(proposal(N, roll=NEW_ROLL), 0)
    assert Refused(Refusal.AHEAD) in ahead and said(ahead) == []
    later = certificate(NULLIFY, 1, roll=NEW_ROLL)
    assert Refused(Refusal.AHEAD) in epochs.receive_certificate(later, 0)
    assert epochs.core.view == 1


def test_what_is_of_an_epoch_that_is_over_is_stale() -> None:
    epochs = handed_over(0)
    for voter in (1, 2, 3):
        assert epochs.receive_vote(vote(voter, NULLIFY, 1), 0) == [Refused(Refusal.STALE)]
    assert epochs.receive_proposal(proposal(above(S, 2)), 0) == [Refused(Refusal.STALE)]
    old = certificate(NULLIFY, 1)
    assert epochs.receive_certificate(old, 0) == [Refused(Refusal.STALE)]
    assert epochs.receive_certificate(old, 0, live=False) == [Refused(Refusal.STALE)]
    assert epochs.core.view == 1


@pytest.mark.parametrize("index", [0, None])
def test_a_statement_of_a_later_epoch_makes_voters_and_observers_ask(index: int | None) -> None:
    effects = node(index).receive_vote(vote(1, NULLIFY, 1, epoch=1), 0)
    assert [question.first_height for question in asked(effects)] == [1]


def test_a_flood_of_hints_costs_three_questions_per_ts() -> None:
    epochs = node(0)
    heard: list[tuple[int, AskBlocks]] = []
    for now in range(0, 60 * SECOND, 50 * MS):
        hints = epochs.receive_vote(vote(3, NULLIFY, 1 + now // SECOND, epoch=now % 7 + 1), now)
        heard += [(now, question) for question in asked(hints + epochs.tick(now))]
    assert len(heard) >= 60
    assert all(fourth[0] - one[0] >= TS for one, fourth in zip(heard, heard[3:], strict=False))


def test_a_hint_after_quick_questions_waits_for_ts_too() -> None:
    """Three questions may be over at once, when each answer leaves something open."""
    catchup = Catchup(OLD, 0, b"s", 250 * MS)
    catchup.ahead(1, 0)
    effects = catchup.tick(0)
    for height in (2, 3):
        catchup.missing(height, height)
        effects += catchup.tick(height)
    catchup.found()
    for now in (10, TS - 1):
        catchup.ahead(4, now)
        effects += catchup.tick(now)
    assert [question.first_height for question in asked(list(effects))] == [1, 2, 3]
    catchup.ahead(4, TS)
    assert len(catchup.tick(TS)) == 1


def test_an_unanswered_hint_is_forgotten_after_three_questions() -> None:
    epochs = node(0)
    effects = epochs.receive_vote(vote(3, NULLIFY, 1, epoch=1), 0)
    effects += ticked(epochs, 0, 60 * SECOND)
    assert len(asked(effects)) == 3 and epochs.core.deadline() is None


def test_an_answer_to_a_hint_is_followed_by_the_next_question_at_once() -> None:
    """A node that is far behind hears of nothing but later epochs: who helps it may help on."""
    first, second = on(ROOT, 1, b"a"), on(on(ROOT, 1, b"a"), 2, b"b")
    epochs = node(0)
    (question,) = asked(epochs.receive_vote(vote(3, NULLIFY, 1, epoch=1), 0))
    for place in (first, second):
        assert place.block is not None
        heard = epochs.receive_blocks([place.block], final(place), 1, question.voter)
        assert [one.first_height for one in asked(heard)] == [place.block.height + 1]
    effects = ticked(epochs, 0, 60 * SECOND)
    assert len(asked(effects)) <= 3 and epochs.core.catchup._ask_from is None


def rested(epochs: Epochs) -> int:
    """When it said its tip Ts ago, and does not again by itself for longer than that."""
    said_at = [now for now in range(0, 30 * SECOND, 100 * MS) if tips(epochs.tick(now))]
    return said_at[3] + TS


def test_whoever_is_in_an_earlier_epoch_is_told_how_it_ended() -> None:
    now = rested(handed_over(0))
    epochs = handed_over(0)
    ticked(epochs, 0, now)
    epochs.receive_vote(vote(3, NULLIFY, 1), now)
    assert tips(ticked(epochs, now, now + 500 * MS, MS)) == [final(S)]


def test_a_tip_of_an_earlier_epoch_is_answered_if_live_and_not_if_retained() -> None:
    first = on(ROOT, 1, b"a")
    last = on(first, 2, IN)

    def crossed() -> Epochs:
        epochs = node(0)
        for place in (first, last):
            epochs.receive_proposal(proposal(place), 0)
            epochs.receive_certificate(final(place), 0)
        return epochs

    now = rested(crossed())
    for live in (True, False):
        epochs = crossed()
        ticked(epochs, 0, now)
        effects = epochs.receive_certificate(final(first), now, live)
        assert Refused(Refusal.STALE) in effects
        answers = tips(ticked(epochs, now, now + 500 * MS, MS))
        assert answers == ([final(last)] if live else [])


def test_two_that_ended_an_epoch_differently_do_not_answer_each_other_for_ever() -> None:
    one, (other, _) = by_own_certificate(0), by_an_empty_block(0, salt=b"other")
    assert {node_.core.voters.epoch for node_ in (one, other)} == {1}
    published = 0
    for now in range(0, 60 * SECOND, 10 * MS):
        for here, there in ((one, other), (other, one)):
            for tip in tips(here.tick(now)):
                published += 1
                there.receive_certificate(tip, now)
    # Two at the start, and a beacon at 2, 4, 8, 16 and 32 s, each with at most one answer.
    assert published <= 2 * 6 * 2


def test_the_closing_certificate_heard_from_another_is_not_said_again() -> None:
    epochs = handed_over(0)
    epochs.receive_certificate(final(S), 0)
    assert tips(ticked(epochs, 0, 1 * SECOND)) == []


@pytest.mark.parametrize("heard", [final(S, by=(1, 2, 3)), final(above(S, 2))])
def test_any_good_certificate_of_the_end_serves_as_well_as_ones_own(heard: Certificate) -> None:
    """Nodes hold the signatures that came first; each saying its own would be a storm."""
    epochs = handed_over(0)
    assert epochs.core.tip.certificate == final(S) != heard
    epochs.receive_certificate(heard, 0)
    assert tips(ticked(epochs, 0, 1 * SECOND)) == []


def test_a_forged_closing_certificate_keeps_nobody_from_saying_the_good_one() -> None:
    epochs = handed_over(0)
    good = final(S)
    forged = replace(good, signatures=tuple((v, bytes(32)) for v, _ in good.signatures))
    epochs.receive_certificate(forged, 0)
    assert tips(ticked(epochs, 0, 1 * SECOND)) == [good]


def test_the_certificate_that_closed_an_epoch_is_the_tip_until_there_is_another() -> None:
    epochs = handed_over(0)
    assert tips(ticked(epochs, 0, 10 * SECOND))[-1] == final(S)
    epochs.receive_proposal(proposal(N, roll=NEW_ROLL), 10 * SECOND)
    epochs.receive_certificate(final(N, NEW_ROLL), 10 * SECOND)
    effects = ticked(epochs, 10 * SECOND, 20 * SECOND)
    assert set(tips(effects)) == {final(N, NEW_ROLL)}


# -- a whole mesh ---------------------------------------------------------------------------------


def seats(weights: tuple[int, ...], seed: int = 0) -> Cluster:
    cluster = Cluster(len(weights), seed, weights)
    cluster.run(2)
    return cluster


def epochs_of(cluster: Cluster) -> set[tuple[int, bytes]]:
    return {(peer.core.voters.epoch, peer.core.tip.digest) for peer in cluster.peers}


@pytest.mark.parametrize("seed", range(4))
def test_voters_come_and_go_while_ops_are_decided(seed: int) -> None:
    cluster = seats((1, 1, 1, 1, 0, 0), seed)
    cluster.loss = (0.0, 0.1)[seed % 2]
    for number, op in enumerate((seat(4, 1, 0), seat(5, 2, 0), seat(0, 0, 0), seat(5, 1, 0))):
        cluster.submit(b"op %d" % number)
        cluster.submit(op)
        cluster.run(5)
    cluster.loss = 0.0
    cluster.submit(b"last")
    cluster.run_until(lambda: len(epochs_of(cluster)) == 1, 60)
    (where,) = {peer.core.voters.weights for peer in cluster.peers}
    assert where == (0, 1, 1, 1, 1, 1)
    assert [peer.index for peer in cluster.peers if peer.core.voting] == [1, 2, 3, 4, 5]
    assert not cluster.evidence


def test_an_idle_mesh_falls_silent_after_a_hand_over_too() -> None:
    cluster = seats(FIVE)
    cluster.submit(IN)
    cluster.run(10)
    assert {epoch for epoch, _ in epochs_of(cluster)} == {1}
    before = len(cluster.sent)
    cluster.run(3600)
    # Beacons at Ts x 2^k: ten of them, and jitter.
    assert len(cluster.sent) - before <= 12


def test_a_node_that_slept_through_three_epochs_comes_back() -> None:
    cluster = seats((1, 1, 1, 1, 0))
    cluster.crash(3)
    for op in (seat(4, 1, 0), seat(0, 2, 0), seat(4, 2, 0)):
        cluster.submit(op)
        cluster.run(5)
        cluster.submit(b"after " + op)
        cluster.run(5)
    assert cluster.peers[0].core.voters.epoch == 3
    cluster.restart(3)
    cluster.run_until(lambda: len(epochs_of(cluster)) == 1, 30)
    cluster.run(5)
    assert cluster.peers[3].core.voting
