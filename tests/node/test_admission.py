"""Who pays for what at the border: places for what they let through, signers for what they say."""

from __future__ import annotations

from dataclasses import replace

from demesh.ports import SECOND, Received
from demesh.wire.kinds import Reject
from demesh.wire.offers import Card
from demesh.wire.opbodies import Transfer
from node.test_node import BARE, node_of, pen_of, topic


def test_true_but_old_statements_that_others_say_again_cost_their_place_and_not_their_signer() -> (
    None
):
    node, pen = node_of(0), pen_of(1)
    node.start(0)
    for amount in range(1, 2001):
        node.handle(Received(topic(2, "op"), pen.op(Transfer(BARE.ids[0], amount), 1)), 0)
    assert set(node.rejects) == {"STALE", "BUDGET"}
    assert node.rejects["STALE"] < 1100, "the place has paid what it may cost"
    card = Card(1, 1, BARE.genesis.body.devices[1].certificate, ())
    node.handle(Received(topic(1, "card"), pen.seal(card)), 0)
    assert BARE.ids[1] in node._cards.devices
    fresh = pen.op(Transfer(BARE.ids[0], 5), BARE.genesis.body.time_s + 60)
    node.handle(Received(topic(1, "op"), fresh), 0)
    assert [pending.frame for pending in node.application.pool] == [fresh]


def test_a_member_that_says_far_too_much_itself_is_not_heard_for_a_while() -> None:
    node, pen = node_of(0), pen_of(1)
    node.start(0)
    cards = [
        Card(1, revision, BARE.genesis.body.devices[1].certificate, ())
        for revision in range(1, 2001)
    ]
    for card in cards:
        node.handle(Received(topic(1, "card"), pen.seal(card)), 0)
    assert node.rejects["BUDGET"] > 500
    assert node._admission.flooded(0) == [("card", BARE.ids[1])]
    node.handle(Received(topic(1, "card"), pen.seal(replace(cards[-1], revision=9999))), SECOND)
    heard = node._cards.of(BARE.ids[1])
    assert heard is not None and heard.revision == 9999
    assert not node._admission.flooded(11 * SECOND)


def test_what_is_rejected_costs_no_turn_and_shows_in_the_next_one() -> None:
    node = node_of(0)
    node.start(0)
    assert node.handle(Received(topic(1, "vote"), b"garbage"), SECOND) == []
    assert node.admit(Received(topic(1, "vote"), b"garbage"), SECOND) is None
    assert node.rejects[Reject.SHAPE.name] == 2
