"""The voting rules, one by one: what goes in, what comes out (docs/protocol.md, R-CON-1 .. 14)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from consensus.cluster import (
    GENESIS,
    MS,
    SECOND,
    START,
    Cluster,
    Log,
    digest_of,
    franchise_of,
    root_of,
    signature,
    vote,
)
from demesh_consensus import (
    AskBlocks,
    AskVotes,
    Block,
    Broadcast,
    Certificate,
    Effect,
    Misbehaved,
    Proposal,
    PublishTip,
    Quarantined,
    Record,
    Refusal,
    Refused,
    Simplex,
    Statement,
    StatementKind,
    Timing,
    Tip,
    Vote,
    Voters,
)

NOTARIZE, NULLIFY, FINALIZE = StatementKind.NOTARIZE, StatementKind.NULLIFY, StatementKind.FINALIZE
FOUR = Voters(0, (1, 1, 1, 1), GENESIS)


def cleared(core: Simplex, now: int = 0) -> Simplex:
    """All others answered that they hold no vote of mine."""
    for voter in range(len(core.voters.weights)):
        if voter != core.me:
            core.receive_recalled(voter, (), core.voters.epoch, core.tip.time_s, now)
    return core


def voter(index: int | None, log: Log | None = None, **given: object) -> Simplex:
    arguments = {"tip": START, "timing": Timing(), "salt": b"s", "now": 0} | given
    return cleared(Simplex(franchise_of(FOUR, index), log or Log(), **arguments))  # type: ignore[arg-type]


def follower(view: int = 1) -> int:
    return next(i for i in range(4) if i != FOUR.leader(view))


def block_of(view: int = 1, *ops: bytes, parent: Block | None = None, time_s: int = 1000) -> Block:
    before = parent.ops if parent else ()
    return Block(
        0,
        view,
        parent.view if parent else 0,
        digest_of(parent) if parent else GENESIS,
        parent.height + 1 if parent else 1,
        time_s,
        ops,
        root_of(*before, *ops),
    )


def proposal_of(block: Block, *justification: Certificate) -> Proposal:
    leader = FOUR.leader(block.view)
    statement = Statement(NOTARIZE, 0, block.view, digest_of(block))
    return Proposal(block, justification, Vote(statement, leader, signature(leader, statement)))


def certificate(kind: StatementKind, view: int, digest: bytes = b"", count: int = 3) -> Certificate:
    statement = Statement(kind, 0, view, digest)
    return Certificate(statement, tuple((v, signature(v, statement)) for v in range(count)))


def said(effects: list[Effect]) -> list[tuple[StatementKind, int]]:
    return [
        (e.message.statement.kind, e.message.statement.view)
        for e in effects
        if isinstance(e, Broadcast) and isinstance(e.message, Vote)
    ]


def test_a_follower_notarizes_a_good_proposal_and_records_it_first() -> None:
    core, block = voter(follower()), block_of(1, b"a")
    effects = core.receive_proposal(proposal_of(block), 0)
    assert said(effects) == [(NOTARIZE, 1)]
    recorded = [i for i, e in enumerate(effects) if isinstance(e, Record)]
    sent = [i for i, e in enumerate(effects) if isinstance(e, Broadcast)]
    assert len(recorded) == 2 and max(recorded) < min(sent)


def test_a_second_proposal_of_one_leader_is_evidence_and_nullifies() -> None:
    core = voter(follower())
    core.receive_proposal(proposal_of(block_of(1, b"a")), 0)
    effects = core.receive_proposal(proposal_of(block_of(1, b"b")), 1)
    assert any(isinstance(e, Misbehaved) for e in effects)
    assert said(effects) == [(NULLIFY, 1)]


def test_a_proposal_with_a_wrong_root_is_nullified_at_once() -> None:
    core = voter(follower())
    bad = replace(block_of(1, b"a"), state_root=bytes(32))
    assert said(core.receive_proposal(proposal_of(bad), 0)) == [(NULLIFY, 1)]


def test_a_proposal_of_somebody_else_than_the_leader_is_refused() -> None:
    core = voter(follower())
    good = proposal_of(block_of(1, b"a"))
    stranger = (FOUR.leader(1) + 1) % 4
    forged = replace(good, vote=vote(stranger, NOTARIZE, 1, digest_of(good.block)))
    assert core.receive_proposal(forged, 0) == [Refused(Refusal.INVALID)]


def test_a_proposal_whose_vote_is_forged_is_refused() -> None:
    core = voter(follower())
    good = proposal_of(block_of(1, b"a"))
    forged = replace(good, vote=replace(good.vote, signature=bytes(32)))
    assert core.receive_proposal(forged, 0) == [Refused(Refusal.INVALID)]


def test_a_voter_that_nullified_does_not_notarize_in_that_view() -> None:
    log = Log()
    core = voter(follower(), log)
    log.pool[b"a"] = None
    core.tick(0)
    assert said(core.tick(500 * MS)) == [(NULLIFY, 1)]
    assert said(core.receive_proposal(proposal_of(block_of(1, b"a")), 501 * MS)) == []


def test_a_voter_that_nullified_does_not_finalize_but_moves_on() -> None:
    core, block = voter(follower()), block_of(1, b"a")
    core.receive_proposal(proposal_of(block), 0)
    for other in [v for v in range(4) if v != core.me and v != FOUR.leader(1)][:2]:
        core.receive_vote(vote(other, NULLIFY, 1), 1)
    assert core._said(1, NULLIFY)
    effects = core.receive_certificate(certificate(NOTARIZE, 1, digest_of(block)), 2)
    assert core.view == 2 and (FINALIZE, 1) not in said(effects)


def test_a_notarization_makes_who_notarized_finalize_and_enter_the_next_view() -> None:
    core, block = voter(follower()), block_of(1, b"a")
    core.receive_proposal(proposal_of(block), 0)
    effects = core.receive_certificate(certificate(NOTARIZE, 1, digest_of(block)), 1)
    assert said(effects) == [(FINALIZE, 1)] and core.view == 2


def test_more_than_f_weight_nullifying_is_joined_and_f_is_not() -> None:
    core = voter(follower())
    others = [v for v in range(4) if v not in (core.me, FOUR.leader(1))]
    assert said(core.receive_vote(vote(others[0], NULLIFY, 1), 0)) == []
    assert said(core.receive_vote(vote(others[1], NULLIFY, 1), 0)) == [(NULLIFY, 1)]


def test_the_leaders_own_nullify_is_joined() -> None:
    core = voter(follower())
    assert said(core.receive_vote(vote(FOUR.leader(1), NULLIFY, 1), 0)) == [(NULLIFY, 1)]


def test_the_leader_gets_two_delays_and_the_view_three() -> None:
    log = Log()
    core = voter(follower(), log)
    log.pool[b"a"] = None
    core.tick(0)
    assert core._view_ends() == 500 * MS
    core.receive_proposal(proposal_of(block_of(1, b"a")), 0)
    assert core._view_ends() == 750 * MS
    assert said(core.tick(749 * MS)) == []
    assert said(core.tick(750 * MS)) == [(NULLIFY, 1)]


def test_without_work_no_timer_runs_and_nothing_is_said() -> None:
    core = voter(follower())
    assert core.deadline() is None
    assert core.tick(3600 * SECOND) == []


def test_a_proposal_that_skips_a_view_needs_its_nullification() -> None:
    core = voter(next(i for i in range(4) if i != FOUR.leader(2)))
    core.receive_certificate(certificate(NULLIFY, 1), 0)
    assert core.view == 2
    other = voter(core.me or 0)
    block = block_of(2, b"a")
    assert said(core.receive_proposal(proposal_of(block), 0)) == [(NOTARIZE, 2)]
    effects = other.receive_proposal(proposal_of(block), 0)
    assert said(effects) == [] and other.view == 1
    effects = other.receive_proposal(proposal_of(block, certificate(NULLIFY, 1)), 0)
    assert said(effects) == [(NOTARIZE, 2)]


def test_a_proposal_below_a_notarized_view_is_invalid_unless_that_view_was_skipped() -> None:
    core = voter(follower(2))
    core.receive_proposal(proposal_of(block_of(1, b"a")), 0)
    core.receive_certificate(certificate(NOTARIZE, 1, digest_of(block_of(1, b"a"))), 0)
    effects = core.receive_proposal(proposal_of(block_of(2, b"b")), 0)
    assert (NOTARIZE, 2) not in said(effects)


@pytest.mark.parametrize(
    "bad",
    [
        certificate(NULLIFY, 1, count=2),
        Certificate(Statement(NULLIFY, 0, 1), ((0, bytes(32)),) * 3),
        Certificate(
            Statement(NULLIFY, 0, 1),
            tuple((0, signature(0, Statement(NULLIFY, 0, 1))) for _ in "abc"),
        ),
        Certificate(
            Statement(NULLIFY, 0, 1),
            tuple((v, signature(v, Statement(NULLIFY, 0, 2))) for v in range(3)),
        ),
        Certificate(
            Statement(NULLIFY, 0, 1),
            tuple((v, signature(v, Statement(NULLIFY, 0, 1))) for v in (2, 1, 0)),
        ),
        Certificate(
            Statement(NULLIFY, 0, 1, rules_version=2),
            tuple((v, signature(v, Statement(NULLIFY, 0, 1, rules_version=2))) for v in range(3)),
        ),
    ],
    ids=["quorum one short", "forged", "one voter thrice", "another view", "order", "other rules"],
)
def test_a_bad_certificate_is_refused(bad: Certificate) -> None:
    core = voter(0)
    assert core.receive_certificate(bad, 0) == [Refused(Refusal.CERTIFICATE)]
    assert core.view == 1


def test_a_second_value_from_one_voter_is_evidence_and_does_not_count() -> None:
    core = voter(0)
    core.receive_vote(vote(1, NOTARIZE, 1, b"x" * 32), 0)
    effects = core.receive_vote(vote(1, NOTARIZE, 1, b"y" * 32), 0)
    assert [type(e) for e in effects] == [Misbehaved]
    core.receive_vote(vote(2, NOTARIZE, 1, b"y" * 32), 0)
    core.receive_vote(vote(3, NOTARIZE, 1, b"y" * 32), 0)
    assert core.view == 1


def test_finalize_after_nullify_of_one_voter_is_evidence() -> None:
    core = voter(0)
    core.receive_vote(vote(1, NULLIFY, 1), 0)
    effects = core.receive_vote(vote(1, FINALIZE, 1, b"x" * 32), 0)
    assert [type(e) for e in effects] == [Misbehaved]


def test_votes_too_far_ahead_are_dropped_and_certificates_never() -> None:
    core = voter(0)
    assert core.receive_vote(vote(1, NULLIFY, 66), 0) == [Refused(Refusal.AHEAD)]
    core.receive_certificate(certificate(NULLIFY, 1000), 0)
    assert core.view == 1001


def test_a_voter_says_nothing_before_quorum_weight_answered_its_recall() -> None:
    core = Simplex(franchise_of(FOUR, follower()), Log(), START, Timing(), b"s", 0)
    assert [type(e) for e in core.tick(0)] == [AskVotes]
    proposal = proposal_of(block_of(1, b"a"))
    others = [v for v in range(4) if v != core.me]
    assert said(core.receive_proposal(proposal, 0)) == []
    assert said(core.receive_recalled(others[0], (), 0, 1000, 1)) == []
    assert said(core.receive_recalled(others[1], (), 0, 1000, 2)) == [(NOTARIZE, 1)]


def test_an_own_vote_that_the_journal_lacks_means_quarantine() -> None:
    core = Simplex(franchise_of(FOUR, 0), Log(), START, Timing(), b"s", 0)
    lost = vote(0, NULLIFY, 3)
    assert core.receive_recalled(1, (lost,), 0, 1000, 0) == [Quarantined(lost)]
    for other in (1, 2, 3):
        core.receive_recalled(other, (), 0, 1000, 0)
    assert not core.voting


def test_an_own_vote_that_the_journal_holds_is_no_reason_for_quarantine() -> None:
    kept = vote(0, NULLIFY, 1)
    core = Simplex(franchise_of(FOUR, 0), Log(), START, Timing(), b"s", 0, [kept])
    core.receive_recalled(1, (kept,), 0, 1000, 0)
    core.receive_recalled(2, (), 0, 1000, 0)
    assert core.voting and core._said(1, NULLIFY)


def test_a_restarted_voter_keeps_to_what_it_said() -> None:
    block = block_of(1, b"a")
    first = voter(follower())
    records = [
        e.entry for e in first.receive_proposal(proposal_of(block), 0) if isinstance(e, Record)
    ]
    again = voter(follower(), restored=records)
    assert said(again.receive_proposal(proposal_of(block_of(1, b"b")), 0)) == [(NULLIFY, 1)]
    assert again._said(1, NOTARIZE) == first._said(1, NOTARIZE)


def test_a_block_from_the_future_waits_until_the_clock_allows_it() -> None:
    core = voter(follower())
    proposal = proposal_of(block_of(1, b"a", time_s=1004))
    assert said(core.receive_proposal(proposal, 0)) == []
    assert said(core.tick(1 * SECOND)) == []
    assert said(core.tick(2 * SECOND)) == [(NOTARIZE, 1)]


def test_a_laggard_asks_for_blocks_and_takes_a_chain_with_its_finalization() -> None:
    first = block_of(1, b"a")
    second = block_of(2, b"b", parent=first)
    core = voter(0)
    effects = core.receive_certificate(certificate(FINALIZE, 2, digest_of(second)), 0)
    assert any(type(e).__name__ == "AskBlocks" for e in effects)
    core.receive_blocks([first, second], certificate(FINALIZE, 2, digest_of(second)), 1)
    assert core.tip == Tip(
        2, 2, 1000, digest_of(second), certificate(FINALIZE, 2, digest_of(second))
    )
    assert core.view == 3


def test_a_chain_that_does_not_fit_is_refused() -> None:
    first = block_of(1, b"a")
    second = block_of(2, b"b", parent=first)
    final = certificate(FINALIZE, 2, digest_of(second))
    core = voter(0)
    assert core.receive_blocks([second], final, 0) == [Refused(Refusal.INVALID)]
    assert core.receive_blocks([first], final, 0) == [Refused(Refusal.INVALID)], "nobody was asked"
    weak = certificate(FINALIZE, 2, digest_of(second), count=2)
    assert core.receive_blocks([first, second], weak, 0) == [Refused(Refusal.CERTIFICATE)]


def test_quorum_is_more_than_two_thirds_of_any_total() -> None:
    for total in range(1, 40):
        voters = Voters(0, (1,) * total, GENESIS)
        assert 2 * voters.quorum - total > voters.faulty_max
        assert total - voters.faulty_max >= voters.quorum
        assert 3 * voters.faulty_max < total


def test_weights_count_and_not_heads() -> None:
    voters = Voters(0, (5, 1, 1, 1), GENESIS)
    core = Simplex(franchise_of(voters, 1), Log(), START, Timing(), b"", 0)
    core.receive_vote(vote(2, NULLIFY, 1), 0)
    core.receive_vote(vote(3, NULLIFY, 1), 0)
    assert core.view == 1
    core.receive_vote(vote(0, NULLIFY, 1), 0)
    assert core.view == 2


def test_an_idle_mesh_falls_silent() -> None:
    cluster = Cluster(4)
    cluster.submit(b"a")
    cluster.run(10)
    assert cluster.heights == [1] * 4
    before = len(cluster.sent)
    cluster.run(3600)
    assert len(cluster.sent) - before <= 12  # beacons at Ts x 2^k: ten of them, and jitter


def test_two_of_eight_may_die_and_three_may_not_and_one_back_is_enough() -> None:
    cluster = Cluster(8, seed=3)
    cluster.run(2)
    for index in (1, 5):
        cluster.crash(index)
    cluster.submit(b"a")
    cluster.run(20)
    assert cluster.heights[0] == 1
    cluster.crash(6)
    cluster.submit(b"b")
    cluster.run(60)
    assert cluster.heights[0] == 1
    cluster.restart(1)
    cluster.run_until(lambda: cluster.heights[0] == 2 and cluster.heights[1] == 2, 40)


def test_a_tip_that_was_heard_is_not_said_again() -> None:
    core, block = voter(next(i for i in range(4) if i != FOUR.leader(1))), block_of(1, b"a")
    digest = digest_of(block)
    core.receive_proposal(proposal_of(block), 0)
    core.receive_certificate(certificate(NOTARIZE, 1, digest), 0)
    effects = core.receive_certificate(certificate(FINALIZE, 1, digest), 0)
    for tenth in range(1, 19):
        effects += core.tick(tenth * 100 * MS)
    assert not [e for e in effects if isinstance(e, PublishTip)]


def test_a_block_from_the_future_is_looked_at_again_when_its_time_has_come() -> None:
    core = voter(follower())
    core.receive_proposal(proposal_of(block_of(1, b"a", time_s=1003)), 0)
    assert core.deadline() == 1 * SECOND
    assert said(core.tick(1 * SECOND)) == [(NOTARIZE, 1)]


def test_an_unanswered_question_goes_to_somebody_else() -> None:
    core = voter(0)
    block = block_of(1, b"a")
    effects = core.receive_certificate(certificate(FINALIZE, 1, digest_of(block)), 0)
    for second in range(1, 6):
        effects += core.tick(second * SECOND)
    asked = [e.voter for e in effects if isinstance(e, AskBlocks)]
    assert len(asked) == 6 and all(one != two for one, two in pairwise(asked))


def test_who_repeats_itself_in_a_view_that_was_left_is_given_the_certificate() -> None:
    core = voter(0)
    core.receive_vote(vote(1, NULLIFY, 1), 0)
    core.receive_certificate(certificate(NULLIFY, 1), 0)
    effects = core.receive_vote(vote(1, NULLIFY, 1), SECOND)
    for tenth in range(1, 11):
        effects += core.tick(SECOND + tenth * 100 * MS)
    sent = [e.message for e in effects if isinstance(e, Broadcast)]
    assert sent == [certificate(NULLIFY, 1)]


def test_a_certificate_that_somebody_else_gave_is_not_given_again() -> None:
    core = voter(0)
    core.receive_vote(vote(1, NULLIFY, 1), 0)
    core.receive_certificate(certificate(NULLIFY, 1), 0)
    effects = core.receive_vote(vote(1, NULLIFY, 1), SECOND)
    effects += core.receive_certificate(certificate(NULLIFY, 1), SECOND)
    for tenth in range(1, 11):
        effects += core.tick(SECOND + tenth * 100 * MS)
    assert not [e for e in effects if isinstance(e, Broadcast)]
