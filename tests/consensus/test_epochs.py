"""From one set of voters to the next, and what stays the same (docs/protocol.md, R-CON-14)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.border import (
    FIVE,
    IN,
    NEW,
    NEW_ROLL,
    OLD,
    ROOT,
    N,
    Place,
    S,
    above,
    asked,
    by_an_empty_block,
    by_own_certificate,
    certificate,
    cleared,
    final,
    handed_over,
    node,
    on,
    other_than,
    proposal,
    proposals_in,
    recorded,
    ticked,
    voters_of,
)
from consensus.cluster import GENESIS, SECOND, START, Log, crypto_of, digest_of, signature, vote
from consensus.test_simplex import FINALIZE, NOTARIZE, NULLIFY, said
from demesh_consensus import (
    AskVotes,
    Broadcast,
    Certificate,
    Epochs,
    Finalized,
    Proposal,
    Quarantined,
    Record,
    Refusal,
    Refused,
    Timing,
    Vote,
)
from demesh_consensus.chain import filler
from demesh_sim.campaign.ledger import seat

# -- the end of an epoch --------------------------------------------------------------------------


def test_a_closing_block_that_is_final_ends_the_epoch() -> None:
    epochs = node(0)
    epochs.receive_proposal(proposal(S), 0)
    effects = epochs.receive_certificate(final(S), 0)
    assert Finalized(((S.digest, S.block),), final(S)) in effects  # type: ignore[arg-type]
    core = epochs.core
    assert (core.voters, core.view) == (NEW, 1)
    assert (core.tip.view, core.tip.digest, core.tip.height) == (0, S.digest, 1)
    assert core.tip.certificate == final(S)


def test_a_closing_block_that_is_only_notarized_does_not_end_the_epoch() -> None:
    epochs = node(0)
    epochs.receive_proposal(proposal(S), 0)
    epochs.receive_certificate(certificate(NOTARIZE, 1, S.digest), 0)
    assert epochs.core.voters == OLD and epochs.core.view == 2


@pytest.mark.parametrize("closing", [True, False])
def test_a_block_that_closes_and_changes_no_voter_or_the_other_way_round_is_invalid(
    closing: bool,
) -> None:
    place = on(ROOT, 1, b"a") if closing else S
    assert place.block is not None
    wrong = replace(place, block=replace(place.block, closing=closing))
    epochs = node(other_than(OLD.leader(1)))
    assert said(epochs.receive_proposal(proposal(wrong), 0)) == [(NULLIFY, 1)]


def on_closing(me_in: int) -> Epochs:
    """In view 2, above the notarized closing block."""
    epochs = node(other_than(OLD.leader(me_in)))
    epochs.receive_proposal(proposal(S), 0)
    epochs.receive_certificate(certificate(NOTARIZE, 1, S.digest), 0)
    return epochs


def test_an_empty_block_may_stand_on_a_closing_one() -> None:
    assert said(on_closing(2).receive_proposal(proposal(above(S, 2)), 0)) == [(NOTARIZE, 2)]


@pytest.mark.parametrize(
    "change",
    [
        {"ops": (b"x",)},
        {"time_s": START.time_s + 1},
        {"state_root": bytes(32)},
        {"closing": True},
        {"height": 3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_nothing_else_may_stand_on_a_closing_block(change: dict[str, object]) -> None:
    fill = above(S, 2)
    assert fill.block is not None
    wrong = replace(fill, block=replace(fill.block, **change))  # type: ignore[arg-type]
    assert said(on_closing(2).receive_proposal(proposal(wrong), 0)) == [(NULLIFY, 2)]


def test_an_op_that_would_fit_the_state_does_not_stand_on_a_closing_block() -> None:
    """Its root is right; it would belong to the next epoch."""
    state = S.state.after((b"x",))
    fill = above(S, 2)
    assert fill.block is not None
    block = replace(fill.block, ops=(b"x",), state_root=state.root)
    wrong = Place(block, state)
    assert said(on_closing(2).receive_proposal(proposal(wrong), 0)) == [(NULLIFY, 2)]


def test_nothing_but_an_empty_block_may_stand_on_an_empty_block_above_a_closing_one() -> None:
    for wrong in (False, True):
        epochs = on_closing(3)
        fill = above(S, 2)
        epochs.receive_proposal(proposal(fill), 0)
        epochs.receive_certificate(certificate(NOTARIZE, 2, fill.digest), 0)
        second = above(fill, 3)
        assert second.block is not None
        if wrong:
            second = replace(second, block=replace(second.block, ops=(b"x",)))
        kind = NULLIFY if wrong else NOTARIZE
        assert said(epochs.receive_proposal(proposal(second), 0)) == [(kind, 3)]


def test_the_leader_proposes_nothing_of_its_own_above_a_closing_block() -> None:
    log = Log(OLD.leader(2), FIVE)
    epochs = node(log.franchise(GENESIS).me, log=log)
    epochs.receive_proposal(proposal(S), 0)
    epochs.receive_certificate(certificate(NOTARIZE, 1, S.digest), 0)
    log.pool[b"x"] = None
    effects = ticked(epochs, 0, 2 * SECOND)
    made = [made.block for made in proposals_in(effects)]
    assert made == [above(S, 2).block]


def test_ops_are_no_work_above_a_closing_block() -> None:
    """Only the unfinalized tail is; else every op would make the old epoch longer."""
    log = Log(0, FIVE)
    epochs = node(0, log=log)
    epochs.receive_proposal(proposal(S), 0)
    epochs.receive_certificate(certificate(NOTARIZE, 1, S.digest), 0)
    log.pool[b"x"] = None
    epochs.tick(1)
    assert not epochs.core._working(1)
    assert epochs.core._working(SECOND)


def test_the_next_epoch_is_the_same_whichever_certificate_ended_the_last() -> None:
    one, (other, effects) = by_own_certificate(0), by_an_empty_block(0)
    (ending,) = (effect for effect in effects if isinstance(effect, Finalized))
    assert ending.trail == (2, 5) and [block for _, block in ending.blocks] == [S.block]
    assert one.core.voters == other.core.voters == NEW
    assert replace(one.core.tip, certificate=None) == replace(other.core.tip, certificate=None)
    assert one.core.view == other.core.view == 1
    for epochs in (one, other):
        cleared(epochs)
        assert epochs.core.clock.read_s(0) == START.time_s
        effects = epochs.receive_proposal(proposal(N, roll=NEW_ROLL), 0)
        assert said(effects) == [(NOTARIZE, 1)]


def test_a_block_and_its_closing_successor_become_final_together() -> None:
    first = on(ROOT, 1, b"a")
    last = on(first, 2, IN)
    epochs = node(0)
    for place in (first, last):
        assert place.block is not None
        epochs.receive_proposal(proposal(place), 0)
        epochs.receive_certificate(certificate(NOTARIZE, place.block.view, place.digest), 0)
    effects = epochs.receive_certificate(final(last), 0)
    (ending,) = (effect for effect in effects if isinstance(effect, Finalized))
    assert [digest for digest, _ in ending.blocks] == [first.digest, last.digest]
    assert epochs.core.tip.digest == last.digest and epochs.core.voters.epoch == 1


def test_nothing_of_the_old_epoch_is_said_once_it_is_over() -> None:
    """The FINALIZE that closes it is the last word; an empty block at hand is left alone."""
    epochs = node(0)
    epochs.receive_proposal(proposal(S), 0)
    epochs.receive_proposal(proposal(above(S, 2)), 0)
    for voter in (1, 2):
        epochs.receive_vote(vote(voter, FINALIZE, 1, S.digest), 0)
    effects = epochs.receive_certificate(certificate(NOTARIZE, 1, S.digest), 0)
    assert said(effects) == [(FINALIZE, 1)] and epochs.core.voters == NEW


def test_a_question_of_the_old_epoch_is_not_asked_again_once_it_is_over() -> None:
    epochs = Epochs(Log(0, FIVE), START, Timing(), b"s", 0)
    assert epochs.tick(0) == [AskVotes(1)]
    epochs.receive_proposal(proposal(S), 0)
    effects = epochs.receive_certificate(final(S), 5 * SECOND)
    assert [effect for effect in effects if isinstance(effect, AskVotes)] == [AskVotes(1)]


class Strict(Log):
    """Knows nothing of blocks that it never saw, as a ledger does."""

    def wake_s(self, parent: bytes) -> int | None:
        return START.time_s + len(self.states[parent].ops)


def test_the_application_is_asked_nothing_about_empty_blocks() -> None:
    log = Strict(0, FIVE)
    epochs = node(0, log=log)
    fill = above(S, 2)
    for place in (S, fill):
        assert place.block is not None
        epochs.receive_proposal(proposal(place), 0)
        epochs.receive_certificate(certificate(NOTARIZE, place.block.view, place.digest), 0)
    assert fill.digest not in log.states
    assert epochs.core.deadline() is not None and epochs.core._tail_digest() == fill.digest


def test_nobody_needs_the_closing_certificate_to_build_on_its_block() -> None:
    for view in (1, 3):
        leader = NEW.leader(view)
        log = Log(leader, FIVE)
        epochs = handed_over(leader, log=log)
        skipped = [certificate(NULLIFY, at, roll=NEW_ROLL) for at in range(1, view)]
        for one in skipped:
            epochs.receive_certificate(one, 0)
        log.pool[b"n"] = None
        (made,) = proposals_in(epochs.tick(0))
        assert made.justification == tuple(skipped) and made.block.parent == S.digest


# -- blocks with a trail --------------------------------------------------------------------------


def test_the_views_of_empty_blocks_are_enough_to_show_that_a_closing_block_is_final() -> None:
    third = above(above(S, 2), 4)
    epochs = node(0)
    epochs.receive_blocks([S.block], final(third), 0, trail=(2, 4))  # type: ignore[list-item]
    assert epochs.core.voters == NEW and epochs.core.tip.digest == S.digest


@pytest.mark.parametrize("trail", [(), (2,), (4,), (4, 2), (2, 3), (2, 4, 5), (2, 2, 4)])
def test_another_trail_does_not_end_in_the_finalized_block(trail: tuple[int, ...]) -> None:
    third = above(above(S, 2), 4)
    epochs = node(0)
    effects = epochs.receive_blocks([S.block], final(third), 0, trail=trail)  # type: ignore[list-item]
    assert effects == [Refused(Refusal.INVALID)] and epochs.core.voters == OLD


def test_a_trail_shows_nothing_above_a_block_that_closes_nothing() -> None:
    first = on(ROOT, 1, b"a")
    assert first.block is not None
    empty = filler(2, first.block, first.digest)
    proof = certificate(FINALIZE, 2, digest_of(empty))
    effects = node(0).receive_blocks([first.block], proof, 0, trail=(2,))
    assert effects == [Refused(Refusal.INVALID)]


def test_a_forged_trail_of_who_was_asked_is_forgotten_when_nobody_goes_on_from_it() -> None:
    third = above(above(S, 2), 4)
    epochs = node(None)
    (question,) = asked(epochs.receive_certificate(final(third), 0))
    proof = (final(third), 1, question.voter)
    epochs.receive_blocks([S.block], *proof, trail=tuple(range(2, 40)))  # type: ignore[list-item]
    effects = ticked(epochs, SECOND, 8 * SECOND)
    assert asked(effects)[-1].first_height == 1
    epochs.receive_blocks([S.block], final(third), 9 * SECOND, trail=(2, 4))  # type: ignore[list-item]
    assert epochs.core.voters == NEW


def test_a_weak_certificate_ends_no_epoch_with_any_trail() -> None:
    weak = final(above(S, 2), by=(0, 1))
    effects = node(0).receive_blocks([S.block], weak, 0, trail=(2,))  # type: ignore[list-item]
    assert effects == [Refused(Refusal.CERTIFICATE)]


# -- who votes ------------------------------------------------------------------------------------


def test_a_removed_voter_follows_and_never_votes() -> None:
    out = on(ROOT, 1, seat(3, 0, 0))
    log = Log(3, FIVE)
    epochs = handed_over(3, out, log=log)
    assert epochs.core.me is None and not epochs.core.voting
    log.pool[b"x"] = None
    place, before = on(out, 1, b"a"), out.state.roll
    effects = epochs.receive_proposal(proposal(place, roll=before), 0)
    effects += epochs.receive_certificate(certificate(NOTARIZE, 1, place.digest, before), 0)
    effects += epochs.receive_certificate(certificate(NULLIFY, 2, roll=before), 0)
    effects += epochs.receive_certificate(final(place, before), 0)
    effects += ticked(epochs, 0, 60 * SECOND)
    assert epochs.core.tip.digest == place.digest and said(effects) == []
    assert epochs.journal() == ()


def test_an_added_voter_asks_for_its_votes_before_it_votes() -> None:
    epochs = node(4)
    assert epochs.core.me is None
    epochs.receive_proposal(proposal(S), 0)
    effects = epochs.receive_certificate(final(S), 0)
    assert AskVotes(1) in effects and epochs.core.me == 4
    second = on(S, 2, b"n")
    skipped = certificate(NULLIFY, 1, roll=NEW_ROLL)
    assert NEW.leader(2) != 4
    assert said(epochs.receive_proposal(proposal(second, skipped, roll=NEW_ROLL), 0)) == []
    assert said(epochs.receive_recalled(0, (), 1, 1000, 0)) == []
    assert said(epochs.receive_recalled(1, (), 1, 1000, 0)) == []
    assert said(epochs.receive_recalled(2, (), 1, 1000, 0)) == [(NOTARIZE, 2)]


def test_an_old_voter_too_votes_in_the_new_epoch_only_after_its_recall() -> None:
    me = other_than(NEW.leader(1))
    epochs = by_own_certificate(me)
    assert said(epochs.receive_proposal(proposal(N, roll=NEW_ROLL), 0)) == []
    cleared(epochs)
    assert epochs.core._said(1, NOTARIZE)


def test_answers_of_a_later_epoch_do_not_count_as_recall_and_those_of_an_earlier_one_do() -> None:
    for epoch, votes in ((2, False), (1, True), (0, True)):
        epochs = by_own_certificate(0)
        for voter in (1, 2, 3, 4):
            epochs.receive_recalled(voter, (), epoch, START.time_s, 0)
        assert epochs.core.voting is votes


def test_an_answer_of_a_later_epoch_makes_the_asker_ask_for_blocks() -> None:
    epochs = Epochs(Log(0, FIVE), START, Timing(), b"s", 0)
    effects = epochs.receive_recalled(1, (), 1, START.time_s, 0)
    assert Refused(Refusal.AHEAD) in effects and len(asked(effects)) == 1


def test_new_weights_count_from_the_next_epoch_on() -> None:
    heavy = on(ROOT, 1, seat(1, 5, 0))
    epochs = handed_over(0, heavy)
    roll = heavy.state.roll
    assert (epochs.core.voters.total, epochs.core.voters.quorum) == (8, 6)
    two = certificate(NULLIFY, 1, roll=roll, by=(1, 2))
    epochs.receive_certificate(two, 0)
    assert epochs.core.view == 2
    three = certificate(NULLIFY, 2, roll=roll, by=(0, 2, 3))
    assert epochs.receive_certificate(three, 0) == [Refused(Refusal.CERTIFICATE)]


def test_a_new_key_votes_from_the_epoch_on_that_names_it_and_the_old_one_no_more() -> None:
    rekeyed = on(ROOT, 1, seat(0, 1, 1))
    roll = rekeyed.state.roll
    old, new = handed_over(0, rekeyed), handed_over(0, rekeyed, log=Log(0, FIVE, key=1))
    assert old.core.me is None and new.core.me == 0 and new.core.voting
    (mine,) = [
        e.message
        for e in new.receive_vote(vote(voters_of(roll).leader(1), NULLIFY, 1, epoch=1), 0)
        if isinstance(e, Broadcast)
    ]
    assert isinstance(mine, Vote)
    assert crypto_of(None, roll.keys).verify(0, mine.statement, mine.signature)
    for key, good in ((0, False), (1, True)):
        stale = replace(roll, keys=(key, *roll.keys[1:]))
        by = (0, 1, 2)
        node_ = handed_over(2, rekeyed)
        effects = node_.receive_certificate(certificate(NULLIFY, 1, roll=stale, by=by), 0)
        assert (Refused(Refusal.CERTIFICATE) not in effects) is good


def test_a_new_key_says_nothing_in_the_epoch_that_counts_the_old_one() -> None:
    epochs = node(0, log=Log(0, FIVE, key=1))
    assert epochs.core.me is None
    assert said(epochs.receive_proposal(proposal(S), 0)) == []


def test_quarantine_goes_on_in_the_next_epoch() -> None:
    epochs = node(0)
    assert Quarantined(vote(0, NULLIFY, 3)) in epochs.receive_vote(vote(0, NULLIFY, 3), 0)
    epochs.receive_proposal(proposal(S), 0)
    epochs.receive_certificate(final(S), 0)
    cleared(epochs)
    assert epochs.core.me == 0 and epochs.core.recall.quarantined and not epochs.core.voting
    assert said(epochs.receive_proposal(proposal(N, roll=NEW_ROLL), 0)) == []


def test_a_statement_under_other_rules_is_invalid() -> None:
    epochs = node(0)
    other = replace(vote(1, NULLIFY, 1).statement, rules_version=2)
    stated = Vote(other, 1, signature(1, other))
    assert epochs.receive_vote(stated, 0) == [Refused(Refusal.INVALID)]
    made = proposal(S)
    other = replace(made.vote.statement, rules_version=2)
    signed = Vote(other, made.vote.voter, signature(made.vote.voter, other))
    assert epochs.receive_proposal(replace(made, vote=signed), 0) == [Refused(Refusal.INVALID)]


# -- one voter, and several epochs at once --------------------------------------------------------


class OneByOne(Log):
    """One op a block."""

    def _todo(self, parent: bytes) -> tuple[bytes, ...]:
        return super()._todo(parent)[:1]


def test_a_single_voter_closes_its_own_epoch_within_one_call_and_goes_on() -> None:
    log = OneByOne(0, (1, 0))
    epochs = node(0, log=log)
    log.pool = {b"a": None, seat(0, 2, 0): None}
    effects = epochs.tick(0)
    done = [effect.blocks[-1][1] for effect in effects if isinstance(effect, Finalized)]
    assert [(block.epoch, block.height, block.closing) for block in done] == [
        (0, 1, False),
        (0, 2, True),
    ]
    assert epochs.core.voters.epoch == 1 and epochs.core.voting


def test_two_epochs_may_end_within_one_call() -> None:
    log = OneByOne(0, (1, 0))
    epochs = node(0, log=log)
    log.pool = {seat(0, 2, 0): None, seat(0, 3, 0): None, b"a": None}
    effects = epochs.tick(0)
    done = [effect.blocks[-1][1] for effect in effects if isinstance(effect, Finalized)]
    assert [(block.epoch, block.view, block.height) for block in done] == [
        (0, 1, 1),
        (1, 1, 2),
        (2, 1, 3),
    ]
    # Every vote is durable before it is said, over the border too.
    safe: list[object] = []
    for effect in effects:
        if isinstance(effect, Record):
            safe.append(effect.entry)
        elif isinstance(effect, Broadcast):
            assert effect.message in safe


# -- restarts -------------------------------------------------------------------------------------


def test_a_restart_in_an_earlier_epoch_does_not_forget_what_was_said_in_a_later_one() -> None:
    """The blocks of the last second were lost, the journal was not."""
    me = other_than(OLD.leader(1), NEW.leader(1))
    before = node(me)
    entries = recorded(before.receive_proposal(proposal(S), 0))
    before.receive_certificate(final(S), 0)
    cleared(before)
    entries += recorded(before.receive_proposal(proposal(N, roll=NEW_ROLL), 0))
    assert {_epoch(entry) for entry in entries} == {0, 1}

    again = node(me, restored=entries)
    assert again.core.voters.epoch == 0 and again.core._said(1, NOTARIZE)
    assert set(again.journal()) == set(entries)
    again.receive_certificate(final(S), 0)
    cleared(again)
    other = on(S, 1, b"other")
    effects = again.receive_proposal(proposal(other, roll=NEW_ROLL), 0)
    assert (NOTARIZE, 1) not in said(effects)
    assert again.core._said(1, NOTARIZE).statement.digest == N.digest  # type: ignore[union-attr]
    assert {_epoch(entry) for entry in again.journal()} == {1}


def _epoch(entry: Vote | Proposal | Certificate) -> int:
    return entry.block.epoch if isinstance(entry, Proposal) else entry.statement.epoch


def test_below_the_epoch_of_the_journals_floor_a_voter_only_observes() -> None:
    """Of that epoch all votes were left out: nothing may be added there."""
    me = other_than(OLD.leader(1), NEW.leader(1))
    epochs = node(me, floor=(1, 0))
    assert epochs.core.me is None
    assert said(epochs.receive_proposal(proposal(S), 0)) == []
    epochs.receive_certificate(final(S), 0)
    cleared(epochs)
    assert epochs.core.me == me
    effects = epochs.receive_proposal(proposal(N, roll=NEW_ROLL), 0)
    assert said(effects) == [(NOTARIZE, 1)]


def test_a_journals_floor_never_goes_back() -> None:
    assert node(0, floor=(1, 5)).floor == (1, 5), "a node that lost its blocks is in epoch 0 again"
    assert node(0, floor=(0, 5)).floor == (0, 5)
    assert handed_over(0, floor=(0, 5)).floor == (1, 0)


def test_the_floor_counts_in_its_own_epoch_and_in_no_later_one() -> None:
    for floor, view in (((1, 5), 6), ((0, 5), 1)):
        assert handed_over(0, floor=floor).core.view == view


def test_the_floor_of_this_epoch_is_where_the_voter_begins() -> None:
    assert node(0, floor=(0, 5)).core.view == 6


def test_a_restart_at_the_border_begins_the_epoch_as_those_that_crossed_it_did() -> None:
    crossed = handed_over(0)
    log = Log(0, FIVE)
    log.states[S.digest] = S.state
    restarted = node(0, log=log, tip=crossed.core.tip)
    assert restarted.core.voters == crossed.core.voters
    assert (restarted.core.view, restarted.core.tip) == (crossed.core.view, crossed.core.tip)


# -- time -----------------------------------------------------------------------------------------


def test_the_mesh_clock_goes_on_over_the_border() -> None:
    epochs = node(0)
    epochs.receive_proposal(proposal(S), 0)
    epochs.receive_certificate(final(S), 100 * SECOND)
    assert epochs.core.clock.read_s(100 * SECOND) == START.time_s + 100
    cleared(epochs, 150 * SECOND)  # whoever answers, it was never behind and is not put back
    assert epochs.core.voting
    assert epochs.core.clock.read_s(150 * SECOND) == START.time_s + 150


def test_what_voters_claimed_of_the_time_is_forgotten_with_their_numbers() -> None:
    epochs = by_own_certificate(0)
    epochs.receive_recalled(1, (), 1, START.time_s + 500, 0)
    assert epochs.core.clock.read_s(0) == START.time_s
    again = node(0)
    again.receive_recalled(1, (), 0, START.time_s + 500, 0)
    again.receive_proposal(proposal(S), 0)
    again.receive_certificate(final(S), 0)
    again.receive_recalled(2, (), 1, START.time_s + 500, 0)
    assert again.core.clock.read_s(0) == START.time_s, "one of each epoch is not more than f"
