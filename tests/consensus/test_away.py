"""Leaders that a broker reports gone (R-CON-6): no waiting for them, and no harm by a lie."""

from __future__ import annotations

from consensus.cluster import vote
from consensus.test_simplex import FOUR, NULLIFY, block_of, certificate, proposal_of, said, voter
from demesh_consensus import Simplex
from demesh_consensus.away import IGNORED

WAITING = b"an op"


def waiter(view: int = 1) -> Simplex:
    """A voter with work that does not lead the next views."""
    me = next(v for v in range(4) if v not in {FOUR.leader(view + n) for n in range(3)})
    core = voter(me)
    core._application.pool[WAITING] = None  # type: ignore[attr-defined]
    return core


def test_a_view_whose_leader_is_gone_is_skipped_at_once() -> None:
    core = waiter()
    assert said(core.tick(0)) == []
    assert said(core.receive_gone(FOUR.leader(1), 1)) == [(NULLIFY, 1)]


def test_it_is_skipped_only_when_there_is_work() -> None:
    core = waiter()
    core._application.pool.clear()  # type: ignore[attr-defined]
    assert said(core.receive_gone(FOUR.leader(1), 1)) == []
    core._application.pool[WAITING] = None  # type: ignore[attr-defined]
    assert said(core.tick(2)) == [(NULLIFY, 1)]


def test_a_proposal_that_is_there_is_voted_for_whoever_is_gone() -> None:
    core = waiter()
    core.receive_proposal(proposal_of(block_of(1, WAITING)), 0)
    assert (NULLIFY, 1) not in said(core.receive_gone(FOUR.leader(1), 1))


def test_who_is_heard_again_is_waited_for_and_no_report_counts_for_a_while() -> None:
    leader, second = FOUR.leader(1), FOUR.leader(2)
    core = waiter()
    core._application.pool.clear()  # type: ignore[attr-defined]
    core.receive_gone(leader, 0)
    core.receive_vote(vote(leader, NULLIFY, 1), 1)  # it speaks: the report was false
    core.receive_certificate(certificate(NULLIFY, 1), 2)
    assert leader != second
    core.receive_gone(leader, 3)  # the liar says it again
    again = next(view for view in range(3, 20) if FOUR.leader(view) == leader)
    for view in range(2, again):
        core.receive_certificate(certificate(NULLIFY, view), 3)
    core._application.pool[WAITING] = None  # type: ignore[attr-defined]
    assert said(core.tick(4)) == []
    assert said(core.receive_gone(leader, 1 + IGNORED)) != []


def test_what_it_said_before_the_report_does_not_bring_it_back() -> None:
    leader = FOUR.leader(1)
    core = waiter()
    core._application.pool.clear()  # type: ignore[attr-defined]
    again = next(view for view in range(2, 20) if FOUR.leader(view) == leader)
    for view in range(1, again):
        core.receive_certificate(certificate(NULLIFY, view), 0)
    core.receive_gone(leader, 1)
    core.receive_vote(vote(leader, NULLIFY, again - 1), 2)  # replayed by somebody
    core._application.pool[WAITING] = None  # type: ignore[attr-defined]
    assert (NULLIFY, again) in said(core.tick(3))
