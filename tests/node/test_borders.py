"""Nodes at the border of two epochs: numbers of voters change while answers are under way."""

from __future__ import annotations

from nacl.signing import SigningKey

from demesh.ledger.enrolment import enrol
from demesh.ledger.ledger import Ledger
from demesh.ledger.membership import ENROLMENTS_MAX
from demesh.ledger.ops import SignedOp
from demesh.wire import identity, statements
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.kinds import Reject
from demesh.wire.opbodies import Claim, SetMember, Transfer
from demesh.wire.readings import Voucher
from demesh.wire.signer import Signer
from demesh_consensus import Block
from node.hostile import Board, Street


def keys_of_newcomer(number: int) -> list[SigningKey]:
    return [SigningKey((b"%d %s" % (number, role)).ljust(32)) for role in (b"device", b"vote")]


def newcomer(street: Street, number: int) -> DeviceCertificate:
    keys = keys_of_newcomer(number)
    owner = street.bare.owners[0]
    public = [bytes(key.verify_key) for key in keys]
    return identity.certify_device(owner, f"newcomer-{number}", "meter", public[0], public[1])


def ask(street: Street, board: Board, body: SetMember | Claim) -> None:
    """An op in a board's own name, heard by it and by all others."""
    frame = board.pen.op(body, board.node.consensus.clock.read_s(street.now) + 60)
    for heard_by in (one for one in street.boards if one.index not in street.down):
        street.give(heard_by, board.topics.mine("op"), frame)


def membership(street: Street, ledger: Ledger, board: Board, weight: int) -> SetMember:
    member = ledger.member(board.id)
    assert member is not None
    return enrol(ledger, member.certificate, weight, street.bare.owners)


def test_whoever_decides_alone_may_pass_many_epochs_in_one_turn() -> None:
    street = Street(1)
    (board,) = street.boards
    street.run(1)
    ask(street, board, membership(street, board.node.application.ledger, board, 10_000))
    street.run(1)
    ledger, crowd = board.node.application.ledger, 4 * ENROLMENTS_MAX
    assert ledger.electorate.epoch == 1
    for number in range(crowd):
        ask(street, board, enrol(ledger, newcomer(street, number), 1, street.bare.owners))
    street.run(5)
    assert board.node.application.ledger.electorate.epoch == 5
    assert len(board.node.directory.voters) == 1 + crowd


def holds_the_end(board: Board) -> bool:
    """Does it know the block that closes its epoch?"""
    core = board.node.consensus
    return any(core._chain.ends(digest) for digest in core._rounds.proposed())


def deliver_until_it_holds_the_end(street: Street, victim: Board) -> None:
    """The victim's power goes when it has notarized the closing block; the others go on."""
    for _ in range(2000):
        wire, street.wire = street.wire, []
        for _, publish in wire:
            area, device = publish.topic.split("/")[3:5]
            for board in street.boards:
                mine = area != "to" or device == identity.text(board.id)
                if mine and area != "obs" and board.index not in street.down:
                    street.give(board, publish.topic, publish.payload)
                    if holds_the_end(victim):
                        street.down.add(victim.index)
        if street.down and not street.wire:
            return
        if not street.wire:
            street.now += 10_000_000
            for board in street.boards:
                if board.index not in street.down:
                    street.settle(board)
    raise AssertionError("no block closes the epoch")


def test_a_key_that_was_a_vote_key_may_be_a_device_key_a_moment_later() -> None:
    street = Street()
    street.run(2)
    board, keys = street.boards[1], street.boards[1].member.identity
    (owner,), ledger = street.bare.owners, board.node.application.ledger
    old, anew, other = (
        keys.vote_key,
        SigningKey(bytes([1] * 32)),
        SigningKey(bytes([2] * 32)),
    )
    for name, device_key, vote_key in (
        (keys.name, keys.device_key, anew),
        ("heir", old, other),
    ):
        public = bytes(device_key.verify_key), bytes(vote_key.verify_key)
        paper = identity.certify_device(owner, name, "voter", *public)
        ask(street, street.boards[0], enrol(ledger, paper, 1, [owner]))
    street.run(5)
    heir = identity.device_id(bytes(old.verify_key))
    node = street.boards[0].node
    assert node.consensus.voters.epoch == 1 and node.directory.member(heir)
    assert node._validator.verify(heir, b"a card", old.sign(b"a card").signature)


def test_an_answer_to_an_epoch_that_it_ends_itself_counts_in_no_other() -> None:
    street = Street(5)
    street.run(2)
    victim, removed = street.boards[1], street.boards[4]
    ledger = victim.node.application.ledger
    ask(street, street.boards[0], membership(street, ledger, removed, 0))
    deliver_until_it_holds_the_end(street, victim)
    assert removed.node.consensus.voters.epoch == 1
    street.wire.clear()
    street.boot(victim)
    assert victim.node.consensus.voters.epoch == 0
    street.down = {0, 2, 3}
    street.deliver()  # the first answer is of whom the next epoch does not know
    assert victim.node.consensus.voters.epoch == 1
    assert victim.node.consensus.recall.weight == 1
    street.down = set()
    street.run(3)
    assert victim.node.consensus.voting


def test_a_laggard_executes_what_a_device_said_that_was_taken_in_within_the_same_run() -> None:
    """An observer ends no epoch, so the blocks before and after it come in one answer."""
    street = Street()
    street.run(2)
    speaker, laggard = street.boards[0], street.boards[3]
    ledger, keys = speaker.node.application.ledger, keys_of_newcomer(1)
    street.down = {3}
    ask(street, speaker, enrol(ledger, newcomer(street, 1), 0, street.bare.owners))
    street.run(5)
    device = identity.device_id(bytes(keys[0].verify_key))
    assert speaker.node.directory.member(device) and speaker.node.consensus.voters.epoch == 0
    pen = Signer(*keys, speaker.pen.binding, 1, bytes(32))
    frame = pen.op(Transfer(speaker.id, 1), speaker.node.consensus.clock.read_s(street.now) + 60)
    for board in street.boards[:3]:
        street.give(board, speaker.topics.mine("op"), frame)
    street.run(5)
    height = speaker.node.consensus.tip.height
    assert height >= 2 and not list(speaker.node.application.pool)
    street.down = set()
    street.boot(laggard)
    street.run(20)
    assert laggard.node.consensus.tip.height == height


def test_a_voucher_of_a_device_taken_in_within_the_same_run_is_answered_alike() -> None:
    """Also one for a channel that does not exist: the answer is part of the state."""
    street = Street()
    street.run(2)
    speaker, laggard = street.boards[0], street.boards[3]
    ledger, keys = speaker.node.application.ledger, keys_of_newcomer(1)
    street.down = {3}
    ask(street, speaker, enrol(ledger, newcomer(street, 1), 0, street.bare.owners))
    street.run(5)
    pen = Signer(*keys, speaker.pen.binding, 1, bytes(32))
    for signed in (pen.seal(Voucher(bytes(16), 0, 5)), speaker.pen.seal(Voucher(bytes(16), 0, 5))):
        ask(street, speaker, Claim(signed))
        street.run(5)
    height = speaker.node.consensus.tip.height
    assert height >= 3
    street.down = set()
    street.boot(laggard)
    street.run(20)
    assert laggard.node.consensus.tip.height == height


def test_a_block_with_an_op_by_a_vote_key_is_invalid() -> None:
    """Whose vote keys a node knows depends on where it is."""
    street = Street()
    street.run(2)
    board = street.boards[0]
    application, tip, keys = board.node.application, board.node.consensus.tip, street.boards[1]
    pen = Signer(keys.member.identity.vote_key, SigningKey(bytes(32)), board.pen.binding, 1, b"")
    frame = pen.op(Transfer(board.id, 1), tip.time_s + 60)
    op = application.open_op(frame)
    assert isinstance(op, SignedOp)
    root = application.ledger.apply([op], tip.time_s, lambda _: None).ledger.root
    block = Block(0, 1, 0, tip.digest, 1, tip.time_s, (frame,), root)
    assert not application.execute(block, statements.digest_of(block))
    assert application.submit(frame, tip.time_s) is Reject.SENDER
