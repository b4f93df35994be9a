"""What was found once, what reaches far, and a few seeded inputs more: no target has a finding."""

from __future__ import annotations

import pytest

from fuzz import blind, corpus
from fuzz.target import Target, compiled
from fuzz.targets import TARGETS

DIFFERENTIAL = ("walker", "envelope", "validator")
INPUTS = {"validator": 150, "leaps": 60, "node": 6}


def target(name: str) -> Target:
    if name in DIFFERENTIAL:
        try:
            compiled()
        except ImportError:
            pytest.skip("the extension is not built: pip install -e . builds it")
    return TARGETS[name]()


@pytest.mark.parametrize("name", TARGETS)
def test_all_that_is_kept_is_no_finding_any_more(name: str) -> None:
    one = target(name)
    for data in (*one.seeds, *corpus.kept(name)):
        finding = blind.attempt(one, data)
        assert finding is None, finding.trace


@pytest.mark.parametrize("name", TARGETS)
def test_seeded_inputs_lead_to_no_finding(name: str) -> None:
    one = target(name)
    more = INPUTS.get(name, 1_500) + len(one.seeds) + len(corpus.kept(name))
    outcome = blind.run(name, one, 7, lambda count: count < more)
    assert outcome.finding is None, outcome.finding.trace
    assert outcome.inputs == more
