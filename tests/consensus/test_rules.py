"""One test per clause of a rule that, left out, nothing else here would miss."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from consensus.cluster import (
    GENESIS,
    MS,
    SECOND,
    START,
    Log,
    digest_of,
    franchise_of,
    signature,
    state_of,
    vote,
)
from consensus.test_simplex import (
    FINALIZE,
    FOUR,
    NOTARIZE,
    NULLIFY,
    block_of,
    certificate,
    follower,
    proposal_of,
    said,
    voter,
)
from demesh_consensus import (
    Block,
    Broadcast,
    Certificate,
    Effect,
    Proposal,
    PublishTip,
    Quarantined,
    Refusal,
    Refused,
    Simplex,
    Statement,
    Timing,
    Tip,
    Voters,
)

FIRST = block_of(1, b"a")


@pytest.mark.parametrize(
    "bad",
    [
        replace(FIRST, parent=b"x" * 32),
        replace(FIRST, height=2),
        replace(FIRST, time_s=START.time_s - 1),
        replace(FIRST, closing=True),
        replace(FIRST, parent_view=1),
    ],
    ids=["parent", "height", "time back", "closing", "parent of its own view"],
)
def test_a_block_that_is_no_next_one_is_nullified_at_once(bad: Block) -> None:
    core = voter(1)
    assert said(core.receive_proposal(proposal_of(bad), 0)) == [(NULLIFY, 1)]


def test_a_block_on_what_the_tip_has_left_behind_is_nullified_at_once() -> None:
    core = voter(1)
    core.receive_proposal(proposal_of(FIRST), 0)
    core.receive_certificate(certificate(FINALIZE, 1, digest_of(FIRST)), 0)
    assert core.tip.height == 1
    beside = replace(block_of(2, b"b"), parent_view=0, parent=GENESIS)
    assert said(core.receive_proposal(proposal_of(beside), 0)) == [(NULLIFY, 2)]


def test_the_parent_must_be_the_block_that_was_notarized_in_the_parent_view() -> None:
    core = voter(1)
    core.receive_proposal(proposal_of(FIRST), 0)
    core.receive_certificate(certificate(NOTARIZE, 1, digest_of(FIRST)), 0)
    other = replace(block_of(2, b"b"), parent_view=1, parent=GENESIS)
    assert said(core.receive_proposal(proposal_of(other), 0)) == [(NULLIFY, 2)]


def test_a_block_on_one_that_was_not_notarized_gets_no_vote() -> None:
    core = voter(1)
    core.receive_proposal(proposal_of(FIRST), 0)
    core.receive_certificate(certificate(NULLIFY, 1), 0)
    assert said(core.receive_proposal(proposal_of(block_of(2, b"b", parent=FIRST)), 0)) == []


def test_a_certificate_counts_weight_and_not_heads() -> None:
    voters = Voters(0, (5, 1, 1, 1), GENESIS)
    core = Simplex(franchise_of(voters, None), Log(), START, Timing(), b"s", 0)
    core.receive_certificate(certificate(NULLIFY, 1, count=2), 0)
    assert core.view == 2


def test_a_certificate_of_another_epoch_ends_no_view() -> None:
    statement = Statement(NULLIFY, 1, 1)
    other = Certificate(statement, tuple((v, signature(v, statement)) for v in range(3)))
    core = voter(0)
    assert Refused(Refusal.AHEAD) in core.receive_certificate(other, 0)
    assert core.view == 1


def test_a_restarted_voter_is_where_its_last_vote_was() -> None:
    assert voter(0, restored=[vote(0, NULLIFY, 3)]).view == 3
    assert voter(0, restored=[vote(0, FINALIZE, 3, b"x" * 32)]).view == 4


def test_nobody_nullifies_a_view_it_finalized_even_if_put_back_there() -> None:
    core = voter(1, restored=[vote(1, FINALIZE, 1, b"x" * 32)])
    core.view = 1
    for other in (0, 2, 3):
        assert said(core.receive_vote(vote(other, NULLIFY, 1), 0)) == []


def test_a_short_journal_holds_votes_and_bodies_above_the_tip() -> None:
    core = voter(1)
    core.receive_proposal(proposal_of(FIRST), 0)
    core.receive_certificate(certificate(NOTARIZE, 1, digest_of(FIRST)), 0)
    again = voter(1, restored=core.journal())
    assert again.journal() == core.journal()
    assert [type(e).__name__ for e in core.journal()] == ["Certificate", "Proposal", "Vote", "Vote"]
    core.receive_certificate(certificate(FINALIZE, 1, digest_of(FIRST)), 0)
    assert core.journal() == ()


@pytest.mark.parametrize("others", list(combinations(range(1, 4), 2)))
def test_answers_of_quorum_weight_are_needed_and_one_less_is_not_enough(
    others: tuple[int, int],
) -> None:
    core = Simplex(franchise_of(FOUR, 0), Log(), START, Timing(), b"s", 0)
    for other in others:
        assert not core.voting
        core.receive_recalled(other, (), 0, START.time_s, 0)
        core.receive_recalled(others[0], (), 0, START.time_s, 0)
    assert core.voting


def test_an_own_vote_heard_from_anybody_that_the_journal_lacks_means_quarantine() -> None:
    lost = vote(0, NULLIFY, 3)
    assert voter(0).receive_vote(lost, 0) == [Quarantined(lost)]


def test_own_votes_below_the_tip_at_the_start_may_be_gone_honestly() -> None:
    tip = Tip(5, 1, 1_000, digest_of(FIRST), certificate(FINALIZE, 5, digest_of(FIRST)))
    core = Simplex(franchise_of(FOUR, 0), Log(), tip, Timing(), b"s", 0)
    core._application.states[tip.digest] = state_of(b"a")  # type: ignore[attr-defined]
    assert Quarantined not in map(
        type, core.receive_recalled(1, (vote(0, NULLIFY, 5),), 0, 1_000, 0)
    )
    assert core.receive_recalled(2, (vote(0, NULLIFY, 6),), 0, 1_000, 0) == [
        Quarantined(vote(0, NULLIFY, 6))
    ]


def test_blocks_need_a_finalization_and_not_a_notarization() -> None:
    core = voter(0)
    notarized = certificate(NOTARIZE, 1, digest_of(FIRST))
    assert core.receive_blocks([FIRST], notarized, 0) == [Refused(Refusal.INVALID)]


def test_nobody_finalizes_what_it_did_not_notarize() -> None:
    core, other = voter(1), block_of(1, b"b")
    core.receive_proposal(proposal_of(FIRST), 0)
    assert said(core.receive_certificate(certificate(NOTARIZE, 1, digest_of(other)), 0)) == []
    assert core.view == 2


def test_of_two_proposals_the_one_that_was_notarized_is_the_one_to_keep() -> None:
    core, other = voter(1), block_of(1, b"b")
    core.receive_proposal(proposal_of(FIRST), 0)
    core.receive_certificate(certificate(NOTARIZE, 1, digest_of(other)), 0)
    core.receive_proposal(proposal_of(other), 0)
    core.receive_certificate(certificate(FINALIZE, 1, digest_of(other)), 0)
    assert core.tip.digest == digest_of(other)


def test_a_proposal_too_far_ahead_is_dropped() -> None:
    far = replace(FIRST, view=66)
    assert voter(0).receive_proposal(proposal_of(far), 0) == [Refused(Refusal.AHEAD)]


def test_a_lower_live_tip_is_answered_and_a_retained_one_is_not() -> None:
    final = certificate(FINALIZE, 2, b"y" * 32)
    tip = Tip(2, 2, 1_000, b"y" * 32, final)
    log = Log()
    log.states[tip.digest] = state_of()
    core = voter(None, log, tip=tip)
    for second in (10, 14, 22):  # its beacons; the next is not before 30 s
        assert core.tick(second * SECOND) == [PublishTip(final)]
    lower = certificate(FINALIZE, 1, b"x" * 32)
    core.receive_certificate(lower, 25 * SECOND, live=False)
    assert core.tick(26 * SECOND) == []
    core.receive_certificate(lower, 27 * SECOND)
    assert core.tick(28 * SECOND) == [PublishTip(final)]


def test_a_leader_that_gave_its_view_up_proposes_nothing_in_it() -> None:
    leader, log = FOUR.leader(1), Log()
    core = voter(leader, log, restored=[vote(leader, NULLIFY, 1)])
    log.pool[b"a"] = None
    effects = core.tick(0)
    assert not [e for e in effects if isinstance(e, Broadcast) and isinstance(e.message, Proposal)]


def test_whoever_repeats_a_lower_tip_is_answered_once_per_standstill() -> None:
    final = certificate(FINALIZE, 2, b"y" * 32)
    log = Log()
    tip = Tip(2, 2, 1_000, b"y" * 32, final)
    log.states[tip.digest] = state_of()
    core = voter(None, log, tip=tip)
    for second in (10, 14, 22):  # its beacons; the next is not before 30 s
        core.tick(second * SECOND)
    lower = certificate(FINALIZE, 1, b"x" * 32)
    answers: list[Effect] = []
    for tenth in range(240, 290):
        now = tenth * SECOND // 10
        answers += core.receive_certificate(lower, now) + core.tick(now)
    assert answers.count(PublishTip(final)) <= 3


def test_an_empty_block_from_the_future_is_no_reason_to_wake_an_idle_mesh() -> None:
    early = proposal_of(block_of(1, time_s=1004))
    core = voter(follower())
    core.receive_proposal(early, 0)
    assert said(core.tick(2 * SECOND)) == []
    log = Log()
    core = voter(follower(), log)
    core.receive_proposal(early, 0)
    log.pool[b"a"] = None
    assert said(core.tick(1_900 * MS)) == []
    assert core.deadline() == 2 * SECOND
    assert said(core.tick(2 * SECOND)) == [(NOTARIZE, 1)]


def test_my_own_votes_and_those_of_f_others_are_no_reason_to_go_on() -> None:
    me = next(v for v in range(4) if v != FOUR.leader(1))
    other = next(v for v in range(4) if v not in (me, FOUR.leader(1)))
    third = next(v for v in range(4) if v not in (me, other, FOUR.leader(1)))
    core = voter(me, restored=[vote(me, NULLIFY, 1)])
    core.receive_vote(vote(other, NULLIFY, 1), 0)
    effects = [core.tick(second * SECOND) for second in range(1, 30)]
    assert not [e for turn in effects for e in turn if isinstance(e, Broadcast)]
    core.receive_vote(vote(third, NULLIFY, 1), 30 * SECOND)
    assert core.view == 2, "with a third it is a quorum"


def test_an_observer_does_not_mind_a_view_that_others_have_left() -> None:
    observer, follows = voter(None), voter(3)
    for core in (observer, follows):
        for other in (0, 1):
            core.receive_vote(vote(other, NULLIFY, 1), 0)
    assert follows.view == 2, "with its own vote it is a quorum"
    assert observer.view == 1 and observer.deadline() is None
