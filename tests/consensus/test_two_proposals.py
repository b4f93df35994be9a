"""Of a leader's proposals, and what goes ahead of them (docs/protocol.md, R-CON-2, R-CON-3)."""

from __future__ import annotations

from consensus.border import (
    OLD,
    ROOT,
    asked,
    certificate,
    final,
    node,
    on,
    other_than,
    proposal,
    proposals_in,
    ticked,
    voters_of,
)
from consensus.cluster import GENESIS, SECOND, Log, vote
from consensus.test_simplex import NOTARIZE, NULLIFY
from demesh_consensus import Broadcast, Certificate, Statement


def test_a_second_proposal_is_kept_for_the_day_when_quorum_weight_took_it() -> None:
    one, two = on(ROOT, 1, b"one"), on(ROOT, 1, b"two")
    epochs = node(other_than(OLD.leader(1)))
    epochs.receive_proposal(proposal(one), 0)
    epochs.receive_proposal(proposal(two), 0)
    effects = epochs.receive_certificate(certificate(NOTARIZE, 1, two.digest), 0)
    effects += epochs.receive_certificate(final(two), 0)
    assert asked(effects) == [] and epochs.core.tip.digest == two.digest


def test_of_two_proposals_the_one_that_quorum_weight_took_is_repeated() -> None:
    one, two = on(ROOT, 1, b"one"), on(ROOT, 1, b"two")
    epochs = node(other_than(OLD.leader(1)))
    epochs.receive_proposal(proposal(one), 0)
    epochs.receive_proposal(proposal(two), 0)
    epochs.receive_certificate(certificate(NOTARIZE, 1, two.digest), 0)
    effects = ticked(epochs, 0, 60 * SECOND)
    repeated = proposals_in(effects)
    assert proposal(two) in repeated and proposal(one) not in repeated


def test_a_third_proposal_is_kept_only_if_quorum_weight_took_it() -> None:
    places = [on(ROOT, 1, b"%d" % number) for number in range(9)]
    epochs = node(other_than(OLD.leader(1)))
    for place in places[:8]:
        epochs.receive_proposal(proposal(place), 0)
    round_ = epochs.core._rounds.at(1)
    assert list(round_.proposals) == [places[0].digest, places[1].digest]
    epochs.receive_certificate(certificate(NOTARIZE, 1, places[8].digest), 0)
    epochs.receive_proposal(proposal(places[7]), 0)
    epochs.receive_proposal(proposal(places[8]), 0)
    assert len(round_.proposals) == 3 and round_.digest == places[8].digest


def test_certificates_ahead_of_a_proposal_are_not_sent_again_while_they_are_heard() -> None:
    """A long run of skipped views does not fit inside: who leads twice says it once."""
    count, views = 10, 40
    weights = (1,) * count
    log = Log(None, weights)
    roll = log.states[GENESIS].roll
    me = voters_of(roll).leader(views + 1)
    log = Log(me, weights)
    epochs = node(me, log=log)
    heard = range(1, 11)
    for view in range(1, views + 1):
        skipped = certificate(NULLIFY, view, roll=roll)
        if view in heard:
            epochs.receive_certificate(skipped, 0)
        else:
            for voter in range(count):
                if voter != me:
                    epochs.receive_vote(vote(voter, NULLIFY, view), 0)
    log.pool[b"a"] = None
    effects = epochs.tick(0)
    (made,) = proposals_in(effects)
    assert len(made.justification) < views - len(heard)
    sent = [
        e.message.statement.view
        for e in effects
        if isinstance(e, Broadcast) and isinstance(e.message, Certificate)
    ]
    inside = [one.statement.view for one in made.justification]
    assert sent == [view for view in range(1, views + 1) if view not in (*heard, *inside)]
    later = epochs.core.catchup
    assert not [view for view in sent if later.unheard(Statement(NULLIFY, 0, view))]
