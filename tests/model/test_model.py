"""The model of the voting rules holds, reaches what it should, and every mutant of it forks."""

from __future__ import annotations

import pytest

from model import check

pytestmark = pytest.mark.skipif(not check.available(), reason=check.MISSING)


def test_the_rules_hold_in_every_state_of_two_views() -> None:
    outcome = check.run(check.RULES)
    assert outcome.complete
    assert not outcome.found
    assert outcome.states > 1_000_000  # a model that got stuck would be safe too


@pytest.mark.parametrize("case", check.GOALS, ids=lambda case: case.name)
def test_blocks_become_final_without_the_traitor(case: check.Case) -> None:
    assert check.expected(case, check.run(case))


@pytest.mark.parametrize("case", check.MUTANTS, ids=lambda case: case.name)
def test_a_mutant_forks(case: check.Case) -> None:
    assert check.expected(case, check.run(case))
