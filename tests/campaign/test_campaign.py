"""The campaign itself: a few seeds, every mutant, and that checkers see what they look for."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from demesh.cli.main import main
from demesh_sim.campaign import series
from demesh_sim.campaign.mutants import MUTANTS
from demesh_sim.campaign.plan import changing, plan
from demesh_sim.campaign.season import run
from demesh_sim.campaign.weather import SECOND

KEPT = [
    int(words[1])
    for line in (Path(__file__).parents[1] / "seeds.txt").read_text("utf-8").splitlines()
    if (words := line.split())[:1] == ["consensus"]
]
SEEDS = sorted({*range(40), *KEPT})


@pytest.mark.parametrize("seed", SEEDS)
def test_no_seed_breaks_a_rule(seed: int) -> None:
    outcome = run(seed)
    assert outcome.violation is None, series.REPLAY.format(seed=seed)
    assert outcome.decisions > 0 and outcome.recovery_ms is not None


@pytest.mark.parametrize("number", range(len(MUTANTS)), ids=[m.name for m in MUTANTS])
def test_every_mutant_is_killed(number: int) -> None:
    killed = series.try_mutant(number)
    assert killed.seed is not None, killed.line()
    assert run(0).violation is None, "and what it broke is whole again"


def test_seeds_differ_in_size_weights_liars_and_signatures() -> None:
    plans = [plan(seed) for seed in range(300)]
    sizes = {sum(1 for weight in one.weights if weight) for one in plans}
    assert {4, 5, 7, 10, 31} <= sizes
    assert any(len(set(one.weights) - {0}) > 1 for one in plans)
    assert len({cls for one in plans for _, cls in one.liars}) == 9
    assert 30 <= sum(one.ed25519 for one in plans) <= 50


def test_one_of_two_brokers_lies_in_two_seeds_of_eleven_and_in_none_that_was_kept_before() -> None:
    lying = [seed for seed in range(300) if plan(seed).lies]
    assert 50 <= len(lying) <= 60
    assert any(plan(seed).changes for seed in lying) and any(plan(seed).liars for seed in lying)
    assert not any(plan(seed).lies for seed in (178, 319, 534, 1223, 85, 11, 1461, 1648, 1914))


def test_the_faulty_are_below_a_third_in_every_epoch_that_can_come() -> None:
    for one in map(plan, range(400)):
        weights = list(one.weights)
        for wave in ((), *(wave.seats for wave in one.waves)):
            for chosen in product((False, True), repeat=len(wave)):
                some = dict(seat for seat, taken in zip(wave, chosen, strict=True) if taken)
                epoch = [some.get(voter, weight) for voter, weight in enumerate(weights)]
                assert 3 * sum(epoch[voter] for voter in one.faulty) < sum(epoch)
            weights = [dict(wave).get(voter, weight) for voter, weight in enumerate(weights)]


def test_voters_are_added_removed_and_weighed_anew_alone_and_together() -> None:
    plans = [plan(seed) for seed in range(300)]
    assert [one.changes for one in plans] == [changing(seed) for seed in range(300)]
    assert 100 <= sum(one.changes for one in plans) <= 150
    kinds = set()
    for one in plans:
        weights = list(one.weights)
        for wave in one.waves:
            for voter, weight in wave.seats:
                kinds.add((weights[voter] > 0, weight > 0))
                weights[voter] = weight
    assert kinds == {(False, True), (True, False), (True, True)}
    waves = [wave for one in plans for wave in one.waves]
    assert {len(wave.seats) for wave in waves} == {1, 2, 3}
    assert any(wave.apart_ns for wave in waves)
    calm = [wave for one in plans for wave in one.waves if wave.at >= one.season.trouble_s * SECOND]
    assert calm and len(calm) < len(waves) // 2


def test_epochs_new_keys_and_crashes_at_hand_overs_do_happen() -> None:
    outcomes = [run(seed) for seed in range(50) if changing(seed)]
    assert sum(outcome.epochs > 2 for outcome in outcomes) > len(outcomes) // 2
    assert any(outcome.new_keys for outcome in outcomes)
    assert any(outcome.hand_over_crashes for outcome in outcomes)


def test_a_seed_is_the_same_run_under_any_hash_seed() -> None:
    code = "from demesh_sim.campaign.season import run; print([run(s) for s in (8, 21, 37)])"
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": chance},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for chance in ("1", "2")
    }
    assert len(said) == 1


def test_the_command_prints_figures_and_a_transcript(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swarm", "seeds", "--seeds", "0:2", "--jobs", "1"]) == 0
    assert "0 violations" in capsys.readouterr().out
    assert main(["swarm", "seeds", "--seed", "3", "--transcript"]) == 0
    said = capsys.readouterr().out
    assert "seed 3: " in said and "says NOTARIZE(1" in said and "the weather is clear" in said


def test_a_violation_is_1_with_the_command_that_replays_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mutant = next(one for one in MUTANTS if one.name == "quorum one short")
    with mutant.switched_on():
        assert main(["swarm", "seeds", "--seed", "0", "--jobs", "1"]) == 1
    said = capsys.readouterr().out
    assert "replay: demesh swarm seeds --scenario consensus --seed 0 --transcript" in said


@pytest.mark.parametrize(
    "words",
    [
        ["seeds", "--scenario", "money"],
        ["seeds", "--seeds", "7"],
        ["seeds", "--seeds", "9:3"],
        ["seeds", "--seed", "x"],
        ["seeds", "--jobs", "0"],
        ["seeds", "--seeds", "0:2", "--transcript"],
        ["mutants", "--jobs", "many"],
    ],
)
def test_a_mistake_is_one_line_and_78(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swarm", *words]) == 78
    assert capsys.readouterr().err.count("\n") == 1
