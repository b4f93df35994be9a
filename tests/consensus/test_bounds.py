"""Nothing grows for ever, nobody is stuck for ever, and one liar makes nobody talk."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from consensus.cluster import MS, SECOND, Cluster, vote
from consensus.test_simplex import (
    FINALIZE,
    FOUR,
    NOTARIZE,
    NULLIFY,
    block_of,
    certificate,
    digest_of,
    proposal_of,
    said,
    voter,
)
from demesh_consensus import (
    AskBlocks,
    Block,
    Certificate,
    Effect,
    Misbehaved,
    Proposal,
    Record,
    Refusal,
    Refused,
    Simplex,
    StatementKind,
)
from demesh_consensus.catchup import Catchup
from demesh_consensus.chain import PARTS_MAX


def test_every_voter_repeats_a_proposal_again_and_again_however_long_it_takes() -> None:
    """A partition may outlast all steps of the back-off; who holds the body must still give it."""
    for me in range(4):
        for salt in range(8):
            catchup = Catchup(FOUR, me, b"%d" % salt, 250 * MS)
            now, turns = 0, []
            while len(turns) < 100:
                if catchup.standing_for(True, now) is not None:
                    turns.append(catchup.my_turn(7))
                    catchup.repeated()
                now += SECOND
            assert any(turns[50:])


def repeats(catchup: Catchup, until: int, lossy: bool) -> list[int]:
    """When it repeats, in ms, asked every 10 ms."""
    times = []
    for now in range(0, until, 10 * MS):
        if lossy and now % SECOND == 0:
            catchup.lossy(now)
        if catchup.standing_for(True, now) is not None:
            times.append(now // MS)
    return times


def test_while_messages_are_lost_a_voter_repeats_after_d_each_time_and_later_rests_again() -> None:
    calm = repeats(Catchup(FOUR, 0, b"s", 250 * MS), 30 * SECOND, lossy=False)
    catchup = Catchup(FOUR, 0, b"s", 250 * MS)
    flood = repeats(catchup, 10 * SECOND, lossy=True)
    assert calm[0] >= 2000 and len(calm) <= 5
    pauses = [b - a for a, b in pairwise([0, *flood])]
    assert all(250 <= pause <= 390 for pause in pauses)
    after = [now for now in range(10, 60) if catchup.standing_for(True, now * SECOND) is not None]
    assert len(after) <= 8


def test_a_flood_brings_forward_what_was_put_off() -> None:
    catchup = Catchup(FOUR, 0, b"s", 250 * MS)
    assert catchup.standing_for(True, 0) is None
    catchup.lossy(100 * MS)
    assert catchup.standing_for(True, 480 * MS) is not None


def followed_to(views: int) -> Simplex:
    """An observer that saw a block become final in every view so far."""
    core, parent = voter(None), None
    for view in range(1, views + 1):
        block = block_of(view, parent=parent)
        core.receive_proposal(proposal_of(block), view)
        core.receive_certificate(certificate(FINALIZE, view, digest_of(block)), view)
        parent = block
    return core


def test_certificates_heard_are_forgotten_once_final() -> None:
    core = followed_to(100)
    assert core.tip.height == 100
    assert len(core.catchup._heard) <= 1


def test_a_certificate_of_the_past_is_not_verified_again_by_whoever_it_is_replayed() -> None:
    core = followed_to(3)
    for kind, view in ((FINALIZE, 2), (NOTARIZE, 2), (NOTARIZE, 3), (NULLIFY, 3)):
        digest = b"" if kind is NULLIFY else b"x" * 32
        assert core.receive_certificate(_forged(kind, view, digest), 5) == []
    for digest in (core.tip.digest, b"y" * 32):  # it would keep me from giving a good one
        refused = core.receive_certificate(_forged(FINALIZE, 3, digest), 5)
        assert Refused(Refusal.CERTIFICATE) in refused


def test_another_proof_of_the_tip_is_verified_once_however_often_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = followed_to(3)
    mine = core.tip.certificate
    assert mine is not None
    other = certificate(FINALIZE, 3, core.tip.digest, count=4)
    assert other != mine
    looked: list[Certificate] = []
    good = core._good
    monkeypatch.setattr(core, "_good", lambda one: bool(looked.append(one)) or good(one))
    for now in range(5, 50):
        assert Refused(Refusal.CERTIFICATE) not in core.receive_certificate(other, now)
        assert Refused(Refusal.CERTIFICATE) in core.receive_certificate(
            _forged(FINALIZE, 3, core.tip.digest), now
        )
    assert looked.count(other) == 1


def test_a_certificate_of_long_ago_is_stale() -> None:
    core = followed_to(29)
    assert core.receive_certificate(_forged(NULLIFY, 13, b""), 40) == [Refused(Refusal.STALE)]
    assert core.receive_certificate(_forged(NULLIFY, 14, b""), 40) == []


def _forged(kind: StatementKind, view: int, digest: bytes) -> Certificate:
    good = certificate(kind, view, digest)
    return replace(good, signatures=tuple((v, bytes(64)) for v, _ in good.signatures))


def test_a_voter_that_contradicts_itself_without_end_is_told_of_once_a_view() -> None:
    core = voter(0)
    effects = []
    for number in range(20):
        effects += core.receive_vote(vote(1, NOTARIZE, 1, bytes([number]) * 32), 0)
    assert len([e for e in effects if isinstance(e, Misbehaved)]) == 1


def test_a_bad_certificate_in_a_proposal_is_the_last_that_is_looked_at() -> None:
    core = voter(0)
    bad = [certificate(NOTARIZE, view, bytes([view]) * 32, count=1) for view in range(2, 40)]
    effects = core.receive_proposal(proposal_of(block_of(1), *bad), 0)
    assert effects.count(Refused(Refusal.CERTIFICATE)) == 1
    assert said(effects) == [(NOTARIZE, 1)]


def test_nothing_that_was_not_verified_is_passed_on_with_a_proposal() -> None:
    """Whoever repeated it would make others refuse the whole of what shows the parent."""
    core = voter(3)
    skipped = certificate(NULLIFY, 1)
    core.receive_certificate(skipped, 0)
    forged = replace(skipped, signatures=((0, bytes(64)), *skipped.signatures[1:]))
    elsewhere = replace(skipped, statement=replace(skipped.statement, epoch=7, view=9))
    block = block_of(2)
    (recorded,) = [
        effect.entry
        for effect in core.receive_proposal(proposal_of(block, forged, elsewhere), 1)
        if isinstance(effect, Record) and isinstance(effect.entry, Proposal)
    ]
    assert recorded == proposal_of(block, skipped)


def test_voters_that_start_minutes_apart_agree_on_the_time() -> None:
    """Else the proposals of whoever came first would be refused for ever."""
    cluster = Cluster(8)
    for peer in cluster.peers[1:]:
        cluster.crash(peer.index)
    cluster.run(600)
    for peer in cluster.peers[1:]:
        cluster.restart(peer.index)
    cluster.run(60)
    times = [peer.core.clock.read_s(cluster.now) for peer in cluster.peers]
    assert max(times) - min(times) <= 1


def run_of(length: int) -> tuple[list[Block], Certificate]:
    """Blocks of which only the last has a finalization."""
    blocks: list[Block] = []
    for view in range(1, length + 1):
        blocks.append(block_of(view, parent=blocks[-1] if blocks else None))
    return blocks, certificate(FINALIZE, length, digest_of(blocks[-1]))


def asked(effects: list[Effect]) -> list[AskBlocks]:
    return [effect for effect in effects if isinstance(effect, AskBlocks)]


def test_a_run_that_fits_into_no_single_answer_comes_in_parts() -> None:
    blocks, final = run_of(6)
    core = voter(None)
    (question,) = asked(core.receive_certificate(final, 0))
    assert question.first_height == 1
    (question,) = asked(core.receive_blocks(blocks[:2], final, 1, question.voter))
    assert question.first_height == 3 and core.tip.height == 0
    (question,) = asked(core.receive_blocks(blocks[2:5], final, 2, question.voter))
    assert question.first_height == 6
    core.receive_blocks(blocks[5:], final, 3, question.voter)
    assert core.tip.height == 6


def test_a_liar_with_a_part_of_a_chain_costs_one_question() -> None:
    blocks, final = run_of(4)
    core = voter(None)
    (question,) = asked(core.receive_certificate(final, 0))
    (question,) = asked(
        core.receive_blocks([replace(blocks[0], time_s=7)], final, 1, question.voter)
    )
    assert question.first_height == 2
    effects = core.receive_blocks(blocks[1:], final, 2, question.voter)
    assert Refused(Refusal.INVALID) in effects and core.tip.height == 0
    (question,) = asked(core.tick(5 * SECOND))
    assert question.first_height == 1
    core.receive_blocks(blocks, final, 5 * SECOND, question.voter)
    assert core.tip.height == 4


def test_a_part_of_a_chain_is_taken_only_from_who_was_asked() -> None:
    blocks, final = run_of(4)
    core = voter(None)
    (question,) = asked(core.receive_certificate(final, 0))
    other = (question.voter + 1) % 4
    assert core.receive_blocks(blocks[:2], final, 1, other) == [Refused(Refusal.INVALID)]
    assert core.receive_blocks(blocks, final, 1, other) and core.tip.height == 4


def test_who_was_not_asked_cannot_make_anybody_forget_the_parts_that_came() -> None:
    blocks, final = run_of(4)
    core = voter(None)
    (question,) = asked(core.receive_certificate(final, 0))
    core.receive_blocks(blocks[:2], final, 1, question.voter)
    junk = [replace(blocks[2], parent=bytes(32))]
    for other in (None, *range(4)):
        if other != core.catchup.asked:
            assert core.receive_blocks(junk, final, 2, other) == [Refused(Refusal.INVALID)]
    core.receive_blocks(blocks[2:], final, 3, core.catchup.asked)
    assert core.tip.height == 4


def test_parts_of_a_chain_have_a_bound() -> None:
    blocks, final = run_of(PARTS_MAX * 2 + 2)
    core = voter(None)
    core.receive_certificate(final, 0)
    for number in range(0, len(blocks) - 2, 2):
        core.receive_blocks(blocks[number : number + 2], final, number, core.catchup.asked)
        assert core._chain.parts <= PARTS_MAX


def test_a_liars_last_block_is_forgotten_when_nobody_goes_on_from_it() -> None:
    """Season 178: it stands where the finalized one should, so nobody has a block above it."""
    blocks, final = run_of(2)
    core = voter(None)
    (question,) = asked(core.receive_certificate(final, 0))
    wrong = replace(blocks[1], time_s=blocks[1].time_s + 1)
    effects = core.receive_blocks([blocks[0], wrong], final, 1, question.voter)
    heights = [question.first_height for question in asked(effects)]
    for second in range(2, 8):
        heights += [one.first_height for one in asked(core.tick(second * SECOND))]
    assert heights[:3] == [3, 3, 3] and heights[3] == 1
    core.receive_blocks(blocks, final, 9 * SECOND)
    assert core.tip.height == 2
