"""One node on several brokers, of which one may lie (R-BRK-1 to R-BRK-5)."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from demesh.brokers import COPIES_FOR, COPIES_MAX, Brokers
from demesh.config import SellPolicy
from demesh.membership.presence import Presence
from demesh.node import Node
from demesh.portrait import AGAIN_AFTER, AGAIN_STEPS_MAX
from demesh.ports import (
    SECOND,
    Effect,
    Fetch,
    Linked,
    Measured,
    Measurement,
    Publish,
    Received,
)
from demesh.wire import statements
from demesh.wire.kinds import Kind
from demesh.wire.messages import Want
from demesh.wire.offers import Accept, Card, Offer, Tariff, Tier
from demesh.wire.opbodies import Transfer
from demesh.wire.topics import Topics
from demesh_consensus import Statement, StatementKind, Vote
from node.hostile import Street
from node.test_node import BARE, BEGINS_S, RULES, clear, node_of, pen_of, published, sealed, topic

GOOD, BAD = 0, 1
SELL = SellPolicy(240_000, power_w_max=3_000, units_max=6_000)
LATE = 2 * COPIES_FOR + 1


def on(broker: int, received: Received, **given: object) -> Received:
    return replace(received, broker=broker, **given)  # type: ignore[arg-type]


def linked(index: int = 0) -> Node:
    """A node that is connected to two brokers."""
    node = node_of(index)
    clear(node)
    for broker in (GOOD, BAD):
        node.handle(Linked(broker, True), 0)
    return node


def vote_of(index: int, view: int = 1) -> bytes:
    pen, statement = pen_of(index), Statement(StatementKind.NULLIFY, 0, view, b"", RULES)
    voter = node_of(index).me.voter or 0
    return statements.vote_frame(
        Vote(statement, voter, pen.sign_vote(statement)), pen.binding, pen.vote_id
    )


def op_of(index: int, amount: int = 1) -> bytes:
    return pen_of(index).op(Transfer(BARE.ids[0], amount), BEGINS_S + 60)


# -- R-BRK-1 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [GOOD, BAD])
def test_the_second_brokers_copy_costs_nothing_and_changes_nothing(first: int) -> None:
    node = linked()
    frames = [
        Received(topic(1, "vote"), vote_of(1)),
        Received(topic(1, "card"), pen_of(1).seal(_card(1))),
        sealed(1, 0, pen_of(1, boot=2).seal(Want(1, 0))),
    ]
    for number, frame in enumerate(frames):
        assert node.admit(on(first, frame), number) is not None
        assert node.admit(on(1 - first, frame), number + SECOND) is None
    assert not node.rejects
    for area in ("vote", "card", "to"):
        lane = node._admission._budgets.lane(1 - first, area, BARE.ids[1], SECOND)
        assert lane.allowance.repeats == lane.allowance.failures, "nothing was paid for"


def test_what_one_broker_brings_twice_was_said_twice() -> None:
    node, frame = linked(), Received(topic(1, "vote"), vote_of(1))
    for now in range(3):
        assert node.admit(on(GOOD, frame), now) is not None
        assert node.admit(on(BAD, frame), now) is None


def test_a_copy_that_is_not_the_same_to_the_last_byte_is_no_copy() -> None:
    node, frame = linked(), vote_of(1)
    assert node.admit(Received(topic(1, "vote"), frame), 0) is not None
    forged = frame[:-1] + bytes([frame[-1] ^ 1])
    assert node.admit(Received(topic(1, "vote"), forged, broker=BAD), 0) is None
    assert node.rejects["SIGNATURE"] == 1
    assert node.admit(Received(topic(2, "vote"), frame, broker=BAD), 0) is not None, "said by 2"


def test_what_the_first_broker_brought_in_vain_may_come_by_the_other() -> None:
    node, true = linked(), Received(topic(1, "op"), op_of(1))
    for _ in range(1000):  # until this broker's lane pays for nothing any more
        node.admit(on(BAD, Received(topic(1, "op"), op_of(1)[:-1] + b"x")), 0)
    node.rejects.clear()
    assert node.admit(on(BAD, true), 0) is None and node.rejects == {"BUDGET": 1}
    assert node.admit(on(GOOD, true), 0) is not None


def test_a_retained_message_is_no_news_that_would_make_the_live_one_a_copy() -> None:
    node, frame = node_of(0), Received(topic(1, "card"), pen_of(1).seal(_card(1)))
    for broker in (GOOD, BAD):
        node.handle(Linked(broker, True), 0)
    node.handle(on(BAD, frame, retained=True), 0)
    assert not node.presence.is_up(BARE.ids[1])
    node.handle(on(GOOD, frame), 0)
    assert node.presence.is_up(BARE.ids[1])


def test_a_question_is_answered_once_however_many_brokers_bring_it_and_however_late() -> None:
    street = Street()
    board, asker = street.boards[0], street.boards[1]
    decided(street)
    node = board.node
    node.handle(Linked(BAD, True), street.now)
    question = asker.sealer.seal(
        bytes(board.member.identity.device_key.verify_key), asker.signer(boot=9).seal(Want(1, 0))
    )
    asked = Received(asker.topics.to(board.id), question)
    answers: list[Effect] = []
    for broker, after in ((BAD, 0), (GOOD, 1), (GOOD, LATE), (BAD, LATE), (BAD, 3 * LATE)):
        answers += node.handle(on(broker, asked), street.now + after)
    assert len([e for e in answers if isinstance(e, Fetch)]) == 1


def test_an_accept_that_a_slow_broker_brings_late_and_out_of_order_is_refused_harmlessly() -> None:
    node, pen = linked(), pen_of(1, boot=2)
    offers = [sealed(1, 0, pen.seal(_accept(number))) for number in range(3)]
    refused = [published(node.handle(on(GOOD, offer), 0), Kind.REFUSE) for offer in offers]
    assert [len(each) for each in refused] == [1, 1, 1]
    for offer in reversed(offers):
        assert node.handle(on(BAD, offer), LATE) == []
    assert node.rejects == {"REPLAY": 3}
    assert not node._admission.flooded(LATE)


def test_what_is_remembered_of_copies_is_bounded_and_nothing_with_one_broker() -> None:
    alone = Brokers()
    alone.brought(b"one", 0, 0)
    assert not alone._young
    several = Brokers()
    several.known(BAD)
    for number in range(3 * COPIES_MAX):
        several.brought(number, GOOD, number)
    assert len(several._young) + len(several._old) <= 2 * COPIES_MAX
    assert several.copied(3 * COPIES_MAX - 1, BAD, 3 * COPIES_MAX) == 0b11
    assert several.copied(0, BAD, 3 * COPIES_MAX) is None


# -- R-BRK-2 --------------------------------------------------------------------------------------


def test_a_device_is_gone_only_if_every_connected_broker_says_so() -> None:
    node = linked()
    id = BARE.ids[1]
    node.handle(Received(topic(1, "vote"), vote_of(1), broker=GOOD), 0)
    for second in range(5):
        node.handle(Received(topic(1, "gone"), b"1", broker=BAD), second * 2 * SECOND)
    assert node.presence.is_up(id)
    node.handle(Received(topic(1, "gone"), b"1", broker=GOOD), 11 * SECOND)
    assert not node.presence.is_up(id)
    node.handle(Received(topic(1, "vote"), vote_of(1, 2), broker=BAD), 12 * SECOND)
    assert node.presence.is_up(id), "what it says itself counts more, wherever"


@pytest.mark.parametrize("copy", [True, False])
def test_a_brokers_word_is_void_once_it_brings_something_of_the_device(copy: bool) -> None:
    node = linked()
    node.handle(Received(topic(1, "vote"), vote_of(1), broker=GOOD), 0)
    node.handle(Received(topic(1, "gone"), b"1", broker=BAD), 1)
    again = Received(topic(1, "vote"), vote_of(1, 2))
    for broker in (GOOD, BAD) if copy else (BAD, GOOD):
        node.handle(on(broker, again), 2)
    node.handle(Received(topic(1, "gone"), b"1", broker=GOOD), 3)
    assert node.presence.is_up(BARE.ids[1])


def test_whoever_lost_one_of_two_connections_and_then_dies_is_gone() -> None:
    presence, device = Presence(), b"device"
    presence.heard(device, GOOD)
    assert not presence.gone(device, b"1", BAD, 0b11)
    presence.heard(device, GOOD)
    assert presence.gone(device, b"1", GOOD, 0b11)


def test_when_a_broker_is_lost_the_word_of_those_that_are_left_counts() -> None:
    node = linked()
    node.handle(Received(topic(1, "vote"), vote_of(1), broker=GOOD), 0)
    node.handle(Received(topic(1, "gone"), b"1", broker=BAD), 1)
    node.handle(Linked(BAD, False), 2)
    assert node.presence.is_up(BARE.ids[1]), "nobody is left who says so"
    node.handle(Linked(BAD, True), 3)
    node.handle(Linked(GOOD, False), 4)
    assert not node.presence.is_up(BARE.ids[1])


def test_no_broker_is_no_proof_that_anybody_is_gone() -> None:
    node = linked()
    node.handle(Received(topic(1, "vote"), vote_of(1), broker=GOOD), 0)
    node.handle(Received(topic(1, "gone"), b"1", broker=BAD), 1)
    for broker in (BAD, GOOD):
        node.handle(Linked(broker, False), 2)
    assert node.presence.is_up(BARE.ids[1])


def test_a_farewell_from_an_earlier_boot_is_forgotten_with_it() -> None:
    presence, device = Presence(), b"device"
    presence.booted(device, 4)
    presence.heard(device, GOOD)
    assert not presence.gone(device, b"4", BAD, 0b11)
    presence.booted(device, 5)
    assert not presence.gone(device, b"5", GOOD, 0b11)
    assert presence.gone(device, b"5", BAD, 0b11)


# -- R-BRK-3 --------------------------------------------------------------------------------------


def test_an_op_is_spared_at_a_standstill_only_if_every_broker_brought_it_from_others() -> None:
    for brokers, spared in (((BAD,), False), ((BAD, BAD), False), ((BAD, GOOD), True)):
        node = linked()
        for broker in brokers:
            node.handle(Received(topic(2, "op"), op_of(1), broker=broker), 0)
        said = [e.payload for e in node.voting.repeat_ops() if isinstance(e, Publish)]
        assert said == ([] if spared else [op_of(1)])


def test_with_one_broker_left_its_word_is_enough() -> None:
    node = linked()
    node.handle(Linked(BAD, False), 0)
    node.handle(Received(topic(2, "op"), op_of(1), broker=GOOD), 0)
    assert node.voting.repeat_ops() == []


@pytest.mark.parametrize("brokers", [(BAD,), (GOOD, BAD)])
def test_an_equal_tip_keeps_a_node_quiet_only_if_every_broker_brought_it(
    brokers: tuple[int, ...],
) -> None:
    street = Street()
    decided(street)
    board = street.boards[0]
    node, now = board.node, street.now
    tip = node.consensus.tip.certificate
    assert tip is not None
    node.handle(Linked(BAD, True), now)
    node.handle(Linked(GOOD, False), now)
    node.handle(Linked(BAD, False), now)
    node.handle(Linked(GOOD, True), now)  # it is about to say its tip
    node.handle(Linked(BAD, True), now)
    frame = street.boards[2].pen.certificate(tip)
    for broker in brokers:
        node.handle(Received(topic_of(street, 2, "tip"), frame, broker=broker), now)
    said = [e for e in node.tick(now + SECOND) if isinstance(e, Publish) and "/tip/" in e.topic]
    assert len(said) == (0 if GOOD in brokers else 1)


# -- R-BRK-4 --------------------------------------------------------------------------------------


def test_one_more_broker_is_told_card_and_tip_and_the_others_nothing_again() -> None:
    street = Street()
    decided(street)
    node = street.boards[0].node
    said = [e for e in node.handle(Linked(BAD, True), street.now) if isinstance(e, Publish)]
    assert [(e.topic.split("/")[3], e.retain, e.broker) for e in said] == [
        ("card", True, BAD),
        ("tip", True, BAD),
    ]


def test_a_card_said_again_is_the_same_card() -> None:
    node = node_of(0)
    node.start(0)
    first, again = (
        next(e for e in node.handle(Linked(broker, True), 0) if isinstance(e, Publish))
        for broker in (GOOD, BAD)
    )
    assert first.payload == again.payload and (first.broker, again.broker) == (None, BAD)


def test_a_card_is_said_again_ever_more_seldom() -> None:
    node = node_of(0)
    node.start(0)
    node.handle(Linked(GOOD, True), 0)
    times, now, end = [0], 0, 24 * 3600 * SECOND
    while (due := node._portrait.deadline()) is not None and due < end:
        now = due
        assert [e.topic for e in node._portrait.tick(now)] == [topic(0, "card")]
        times.append(now)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert AGAIN_AFTER <= gaps[0] <= 2 * AGAIN_AFTER
    longest = AGAIN_AFTER << AGAIN_STEPS_MAX
    assert all(longest <= gap <= 3 * longest // 2 for gap in gaps[AGAIN_STEPS_MAX:])
    assert len(gaps) <= 30


def test_a_card_that_a_flood_may_have_swallowed_is_said_again_after_it() -> None:
    node = node_of(0)
    node.start(0)
    node.handle(Linked(GOOD, True), 0)
    for second in range(1, 6):
        for _ in range(300):
            node.admit(Received(topic(1, "vote"), b"garbage"), second * SECOND)
        assert not _cards(node.tick(second * SECOND))
    assert len(_cards(node.tick(10 * SECOND))) == 1
    assert not _cards(node.tick(20 * SECOND))


def test_who_sells_something_says_so_once_to_those_who_come() -> None:
    seller = node_of(0, sell=SELL)
    seller.start(0)
    seller.handle(Linked(GOOD, True), 0)
    seller.handle(Measured(Measurement(-3000, supply_w=3000)), 0)
    idle = node_of(0)
    idle.start(0)
    idle.handle(Linked(GOOD, True), 0)
    said: dict[str, list[int]] = {"seller": [], "idle": []}
    for name, node in (("seller", seller), ("idle", idle)):
        for boot, retained in ((1, True), (2, False), (2, True)):
            card = replace(_card(1), boot=boot)
            node.handle(
                Received(topic(1, "card"), pen_of(1).seal(card), retained), 20 * SECOND + boot
            )
        node.handle(Received(topic(2, "card"), pen_of(2).seal(_card(2))), 20 * SECOND + 3)
        for tenth in range(201, 400):
            now = tenth * SECOND // 10
            said[name] += [tenth for _ in _cards(node.tick(now))]
    assert len(said["seller"]) == 1 and said["seller"][0] <= 206
    assert said["idle"] == []


# -- R-WIRE-13 on several brokers -----------------------------------------------------------------


def test_all_brokers_together_may_cost_what_one_may_and_a_bad_one_spends_only_its_own() -> None:
    def forged_until_empty(brokers: int) -> int:
        node = node_of(0, verify_ns=10_000)
        node.start(0)
        node.admit(Received("x", b"", broker=brokers - 1), 0)
        for _ in range(6000):
            for broker in range(brokers):
                node.admit(Received(topic(1, "op"), op_of(1)[:-1] + b"x", broker=broker), 0)
        return node.rejects["SIGNATURE"]

    alone = forged_until_empty(1)
    assert alone // 2 < forged_until_empty(8) <= alone
    node = linked()
    for _ in range(5000):
        node.admit(Received(topic(1, "op"), op_of(1)[:-1] + b"x", broker=BAD), 0)
    assert node.rejects["BUDGET"]
    before = node._admission._budgets.lane(GOOD, "op", BARE.ids[1], 0)
    assert before.allowance.failures == before.allowance.repeats > 0
    assert node.admit(Received(topic(1, "op"), op_of(1), broker=GOOD), 0) is not None


# -- words ----------------------------------------------------------------------------------------


def _card(index: int) -> Card:
    return Card(1, 1, BARE.genesis.body.devices[index].certificate, ())


def _cards(effects: list[Effect]) -> list[Publish]:
    return [e for e in effects if isinstance(e, Publish) and "/card/" in e.topic]


def _accept(number: int) -> Accept:
    tariff = Tariff("Wh", 0, 0, None, (Tier(None, 1, 1),))
    offer = Offer(1, "energy", tariff, 3000, 1000, 1000, 100, 400)
    return Accept(number.to_bytes(8, "big"), offer, 1, 1, 1, 1)


def decided(street: Street) -> None:
    """The boards of the street have one block."""
    frame = street.boards[2].pen.op(Transfer(street.boards[0].id, 5), BEGINS_S + 300)
    street.run(5)
    for board in street.boards:
        street.give(board, topic_of(street, 2, "op"), frame)
    street.run(5)
    assert all(board.node.consensus.tip.height for board in street.boards)


def topic_of(street: Street, index: int, area: str) -> str:
    return Topics(street.bare.mesh_id, street.boards[index].id).mine(area)
