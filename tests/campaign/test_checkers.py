"""Checkers fire at what the core never does by itself: each is shown one wrong thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from demesh_consensus import Block, Certificate, Finalized, Proposal, Statement, StatementKind, Vote
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.checkers import Checkers
from demesh_sim.campaign.history import Violation, filler_on
from demesh_sim.campaign.ledger import seat
from demesh_sim.campaign.signing import digest_of

NOTARIZE, FINALIZE = StatementKind.NOTARIZE, StatementKind.FINALIZE


class Mesh:
    """Four voters that have given a fifth a seat: epoch 1 begins on the block of height 2."""

    def __init__(self) -> None:
        self.arena = Arena((1, 1, 1, 1, 0), 1)
        self.checkers = Checkers(self.arena)
        self.arena.watch(self.checkers)
        self.arena.start()
        for op in (b"one", seat(4, 1, 0)):
            self.arena.run(2)
            self.arena.submit(op)
        self.arena.run(2)
        self.peer = self.arena.peers[0]
        self.closing = self.peer.chain[-1].block
        assert self.closing.closing and self.peer.core.voters.epoch == 1

    def sign(self, voter: int, statement: Statement, key: int = 0) -> Vote:
        return Vote(statement, voter, self.arena.signing.sign(voter, statement, key))

    def certify(self, statement: Statement) -> Certificate:
        votes = [self.sign(voter, statement) for voter in range(4)]
        return Certificate(statement, tuple((vote.voter, vote.signature) for vote in votes))

    def finalize(self, block: Block) -> None:
        """The peer says that this block is final."""
        digest = self.checkers.history.see(block)
        certificate = self.certify(Statement(FINALIZE, block.epoch, block.view, digest))
        self.checkers.final(self.peer, Finalized(((digest, block),), certificate))

    def first(self) -> Block:
        """The block with which epoch 1 could go on."""
        state = self.peer.log.states[digest_of(self.closing)].after((b"two",))
        height, time_s = self.closing.height + 1, self.closing.time_s
        return Block(1, 1, 0, digest_of(self.closing), height, time_s, (b"two",), state.root)

    def empty(self) -> Block:
        """The empty block of the view after the closing one."""
        digest = digest_of(self.closing)
        place = self.checkers.history.place(digest)
        assert place is not None
        return filler_on(digest, place, self.closing.view + 1)


def test_the_next_epoch_may_begin_on_the_closing_block() -> None:
    mesh = Mesh()
    mesh.finalize(mesh.first())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda mesh: mesh.empty(), "above the closing block of its epoch"),
        (lambda mesh: replace(mesh.first(), parent_view=mesh.closing.view), "begins its epoch on"),
        (lambda mesh: replace(mesh.first(), epoch=2), "above the closing block of its epoch"),
        (lambda mesh: replace(mesh.first(), closing=True), "the voters say otherwise"),
        (lambda mesh: replace(mesh.first(), state_root=bytes(32)), "another state root"),
        (lambda mesh: replace(mesh.first(), time_s=mesh.closing.time_s + 99), "ahead of every"),
    ],
)
def test_a_final_block_that_does_not_go_on_where_the_epoch_ended_is_seen(
    change: Callable[[Mesh], Block], text: str
) -> None:
    mesh = Mesh()
    with pytest.raises(Violation, match=text):
        mesh.finalize(change(mesh))


def test_a_block_of_the_next_epoch_on_an_empty_one_is_seen() -> None:
    mesh = Mesh()
    digest = mesh.checkers.history.see(mesh.empty())
    with pytest.raises(Violation, match="on another parent"):
        mesh.finalize(replace(mesh.first(), parent=digest))


def test_a_second_closing_block_of_an_epoch_is_seen() -> None:
    mesh = Mesh()
    other = replace(mesh.closing, view=mesh.closing.view + 1)
    digest = mesh.checkers.history.see(other)
    with pytest.raises(Violation, match="two closing blocks"):
        mesh.checkers.history.weighs(mesh.certify(Statement(FINALIZE, 0, other.view, digest)))


def test_a_vote_in_an_epoch_that_nobody_began_is_seen() -> None:
    mesh = Mesh()
    vote = mesh.sign(0, Statement(NOTARIZE, 2, 1, bytes(32)))
    with pytest.raises(Violation, match="hand-over"):
        mesh.checkers.synced(mesh.peer, [vote])


@pytest.mark.parametrize("key", [1, 7])
def test_a_vote_with_a_key_that_has_no_seat_is_seen(key: int) -> None:
    mesh = Mesh()
    block = mesh.first()
    vote = mesh.sign(0, Statement(NOTARIZE, 1, 1, digest_of(block)), key)
    with pytest.raises(Violation, match="without a seat"):
        mesh.checkers.synced(mesh.peer, [Proposal(block, (), vote)])


def test_an_op_above_a_closing_block_is_seen_when_it_is_voted_for() -> None:
    mesh = Mesh()
    usurped = replace(mesh.empty(), ops=(b"mine",))
    vote = mesh.sign(0, Statement(NOTARIZE, 0, usurped.view, digest_of(usurped)))
    with pytest.raises(Violation, match="not the empty block that may stand there"):
        mesh.checkers.synced(mesh.peer, [Proposal(usurped, (), vote)])


def test_a_finalization_counts_with_the_weights_of_its_own_epoch() -> None:
    mesh = Mesh()
    statement = Statement(FINALIZE, 0, mesh.closing.view, digest_of(mesh.closing))
    history = mesh.checkers.history
    three = replace(mesh.certify(statement), signatures=mesh.certify(statement).signatures[:3])
    assert history.weighs(three), "three of four"
    first = Statement(FINALIZE, 1, 1, history.see(mesh.first()))
    three = replace(mesh.certify(first), signatures=mesh.certify(first).signatures[:3])
    assert not history.weighs(three), "three of five"
