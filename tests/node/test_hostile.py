"""Members that sign nonsense, liars and replayers against real nodes: nothing ends them."""

from __future__ import annotations

from random import Random

import pytest

from demesh.backfill import QUESTION_EVERY, QUESTIONS_MAX
from demesh.ledger.rules import RULES_VERSIONS
from demesh.ports import Effect, Fetch, Fetched, SeekChunk, StoredBlock
from demesh.wire import statements
from demesh.wire.frame import seal_statement
from demesh.wire.identity import device_id
from demesh.wire.identity import signer as sign_with
from demesh.wire.kinds import Kind
from demesh.wire.messages import MESSAGE_OF_KIND, Recall, Seek, Want
from demesh.wire.offers import Card
from demesh.wire.opbodies import OP_BODIES, Allot, Op, OpType, Transfer
from demesh.wire.schema import encode
from node.hostile import Nonsense, Street, altered

RULES = RULES_VERSIONS[-1]


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
                statements.StatementKind.NOTARIZE, 0, good.view, statements.digest_of(good), RULES
            )
            message = statements._Proposal(block, (), 1, RULES, liar.pen.sign_vote(statement))
        if kind is Kind.VOTE and dice.random() < 0.7:
            message = altered(
                statements._Statement(statements.StatementKind.NOTARIZE, 0, 3, bytes(32), RULES),
                nonsense,
            )
        binding = liar.pen.binding
        frame = seal_statement(kind, binding, liar.pen.vote_id, encode(message), sign)
        street.give(victim, liar.topics.mine("vote"), frame, dice.random() < 0.2)
        street.settle(victim)
        street.now += dice.randint(0, 10**9)
    street.run(5)
    assert victim.node.consensus.voting


def answers(effects: list[Effect]) -> int:
    return len(
        [
            e
            for e in effects
            if isinstance(e, Fetch | SeekChunk) or "/to/" in getattr(e, "topic", "")
        ]
    )


def test_one_member_gets_only_so_many_answers_at_once() -> None:
    street = Street()
    street.run(2)
    victim, liar = street.boards[:2]
    ask_transfers(street, 3)
    assert victim.node.consensus.tip.height > 0
    pen, given = liar.signer(boot=1_000), 0
    for _ in range(100):
        for message in (Want(1, 0), Recall(bytes(8)), Seek(bytes(32))):
            frame = pen.seal(message)
            given += answers(street.give(victim, liar.topics.to(victim.id), frame))
    assert given == QUESTIONS_MAX
    street.now += QUESTION_EVERY
    frame = pen.seal(Want(1, 0))
    assert answers(street.give(victim, liar.topics.to(victim.id), frame)) == 1


def ask_transfers(street: Street, count: int) -> None:
    """Ops of one member, one decision after the other."""
    payer, payee = street.boards[2:4]
    for _ in range(count):
        time_s = payer.node.consensus.clock.read_s(street.now)
        frame = payer.pen.op(Transfer(payee.id, 1), time_s + 60)
        for board in street.boards:
            if board is not payer and board.index not in street.down:
                street.give(board, payer.topics.mine("op"), frame)
        street.run(1)


def test_blocks_too_many_for_one_answer_are_given_in_parts() -> None:
    """Three blocks of which only the last was finalized, each as large as blocks may be."""
    street = Street()
    street.run(2)
    ask_transfers(street, 1)
    voting = street.boards[0].node.voting
    tip = statements.encode_final(voting.core.tip.certificate, ())
    stored = [StoredBlock(height, bytes(40_000), None) for height in (1, 2)]
    stored.append(StoredBlock(3, bytes(40_000), tip))
    (sent,) = voting.found(Fetched(street.bare.ids[1], tuple(stored)))
    assert 40_000 < len(sent.payload) < 65_536


def test_a_laggard_catches_up_over_real_frames() -> None:
    street = Street()
    street.run(2)
    street.down = {3}
    ask_transfers(street, 5)
    street.run(3)  # the leader of a view may be the one that is down
    height = street.boards[0].node.consensus.tip.height
    assert height > 2
    street.down = set()
    street.boot(street.boards[3])
    street.run(20)
    assert street.boards[3].node.consensus.tip.height == height


def test_what_an_owner_allots_is_done_and_told_by_every_board() -> None:
    street = Street()
    street.run(3)
    owner, board = street.bare.owners[0], street.boards[1]
    id = device_id(bytes(owner.verify_key))
    before = [street.boards[0].node.application.ledger.account(one) for one in (id, board.id)]
    until_s = board.node.consensus.clock.read_s(street.now) + 60
    payload = encode(Op(OpType.ALLOT, bytes(8), until_s, encode(Allot(board.id, -1_000))))
    frame = seal_statement(Kind.OP, board.pen.binding, id, payload, sign_with(owner))
    for one in street.boards:
        street.give(one, street.topic(board, one, Kind.OP), frame)
    street.run(10)
    for one in street.boards:
        after = [one.node.application.ledger.account(account) for account in (id, board.id)]
        moved = [late.floor - early.floor for early, late in zip(before, after, strict=True)]
        assert moved == [-1_000, 1_000]
