"""Nodes at the border of two epochs: numbers of voters change while answers are under way."""

from __future__ import annotations

from nacl.signing import SigningKey

from demesh.ledger.enrolment import enrol
from demesh.ledger.ledger import Ledger
from demesh.ledger.membership import ENROLMENTS_MAX
from demesh.wire import identity
from demesh.wire.messages import DeviceCertificate, SetMember
from node.hostile import Board, Street


def newcomer(street: Street, number: int) -> DeviceCertificate:
    keys = [SigningKey((b"%d %s" % (number, role)).ljust(32)) for role in (b"device", b"vote")]
    owner = street.bare.owners[0]
    public = [bytes(key.verify_key) for key in keys]
    return identity.certify_device(owner, f"newcomer-{number}", "meter", public[0], public[1])


def ask(street: Street, board: Board, body: SetMember) -> None:
    """An op in a board's own name, heard by it and by all others."""
    frame = board.pen.op(body, board.node.consensus.clock.read_s(street.now) + 60)
    for heard_by in street.boards:
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
