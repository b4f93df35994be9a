"""Members that sign nonsense, liars and replayers against real nodes: nothing ends them."""

from __future__ import annotations

from random import Random

import pytest

from demesh.wire import statements
from demesh.wire.frame import seal_statement
from demesh.wire.identity import signer as sign_with
from demesh.wire.kinds import Kind
from demesh.wire.messages import MESSAGE_OF_KIND, OP_BODIES, Card, Op, OpType
from demesh.wire.schema import encode
from node.hostile import Nonsense, Street, altered


def test_four_boards_decide() -> None:
    street = Street()
    street.run(3)
    assert all(board.node.consensus.voting for board in street.boards)


def test_a_card_of_boot_0_and_revision_0_is_refused() -> None:
    street = Street()
    victim, liar = street.boards[:2]
    card = Card(0, 0, liar.node.me.certificate, ())
    street.give(victim, liar.topics.mine("card"), liar.pen.seal(card))


@pytest.mark.parametrize("seed", range(8))
def test_no_signed_nonsense_ends_a_node(seed: int) -> None:
    """Every kind of message, its fields at their limits or good ones of elsewhere."""
    street = Street(seed=seed)
    street.run(2)
    victim, liar = street.boards[:2]
    dice = Random(seed)
    pen = liar.signer(boot=1_000)
    known = [*street.bare.ids, street.bare.mesh_id, b"", bytes(8)]
    nonsense = Nonsense(dice, known)
    kinds = list(MESSAGE_OF_KIND)
    for _ in range(400):
        kind = dice.choice(kinds)
        if kind is Kind.OP:
            type_ = dice.choice(list(OpType))
            fields = encode(nonsense.message(OP_BODIES[type_]))
            time_s = victim.node.consensus.clock.read_s(street.now)
            message = Op(type_, dice.randbytes(8), time_s + dice.randint(0, 9), fields)
        else:
            message = nonsense.message(MESSAGE_OF_KIND[kind])
        payload = encode(message)
        try:
            frame = pen.seal(message)
        except AssertionError:
            continue  # larger than its kind allows
        nonsense.known = [*known, frame, payload][-40:]
        known.append(frame)
        street.give(victim, street.topic(liar, victim, kind), frame, dice.random() < 0.2)
        street.settle(victim)
        street.now += dice.randint(0, 10**9)
        if dice.random() < 0.1:
            street.run(1)
    street.run(20)
    ledgers = {board.node.application.ledger.root for board in street.boards}
    assert len(ledgers) == 1, "they agree on what the nonsense did"


@pytest.mark.parametrize("seed", range(4))
def test_no_nonsense_about_votes_and_blocks_ends_a_node(seed: int) -> None:
    street = Street(seed=seed)
    street.run(2)
    victim, liar = street.boards[:2]
    dice = Random(seed)
    nonsense = Nonsense(dice, [*street.bare.ids, street.bare.mesh_id])
    sign = sign_with(liar.member.identity.vote_key)
    shapes = {
        Kind.VOTE: statements._Statement,
        Kind.CERTIFICATE: statements._Certificate,
        Kind.PROPOSAL: statements._Proposal,
    }
    for _ in range(300):
        kind = dice.choice(list(shapes))
        message = nonsense.message(shapes[kind])
        if kind is Kind.PROPOSAL and dice.random() < 0.7:
            tip = victim.node.consensus.tip
            view = tip.view + dice.choice([1, 1, 2, 3, 60, 2**32])
            block = altered(
                statements._Block(
                    0, view, tip.view, tip.digest, tip.height + 1, tip.time_s, (), bytes(32), False
                ),
                nonsense,
            )
            good = statements._block(block)
            statement = statements.Statement(
                statements.StatementKind.NOTARIZE, 0, good.view, statements.digest_of(good)
            )
            message = statements._Proposal(block, (), 1, liar.pen.sign_vote(statement))
        if kind is Kind.VOTE and dice.random() < 0.7:
            message = altered(
                statements._Statement(statements.StatementKind.NOTARIZE, 0, 3, bytes(32)), nonsense
            )
        binding = liar.pen.binding
        frame = seal_statement(kind, binding, liar.pen.vote_id, encode(message), sign)
        street.give(victim, liar.topics.mine("vote"), frame, dice.random() < 0.2)
        street.settle(victim)
        street.now += dice.randint(0, 10**9)
    street.run(5)
    assert victim.node.consensus.voting
