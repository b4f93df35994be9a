"""Runs docs/model/simplex.pml through spin: the rules, what they can reach, their mutants.

`make model` (`python -m model.check`, tests/ on the path) prints a table and fails on a surprise.
`python -m model.check NO_SKIP_CHECK` prints the shortest fork of one mutant. All that spin and the
compiler build lies in a temporary directory.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).parents[2] / "docs" / "model" / "simplex.pml"
MISSING = "no model checker here: apt-get install spin gcc"

# The largest run takes 0.5 GiB; one that outgrows this is stopped and fails, the machine does not.
MEMORY_MIB_MAX = 4096
# Ten times what the longest run took on a loaded machine.
RUN_S_MAX = 300
# A path has at most 23 steps, of 28 with a mutant.
DEPTH_MAX = 1000


@dataclass(frozen=True, slots=True)
class Case:
    """One run: which definitions, and whether spin must find a counterexample."""

    name: str
    definitions: tuple[str, ...]
    found: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What spin said; `complete` if it saw every state or stopped at a counterexample."""

    found: bool
    complete: bool
    states: int
    seconds: float
    trail: str = ""


RULES = Case("the rules", (), False)

# Honest voters alone get there, so it is not the traitor's help that makes the rules hold.
GOALS = tuple(
    Case(goal, ("SILENT", f"GOAL={goal}"), True)
    for goal in (
        "FINAL_IN_VIEW_1",
        "FINAL_IN_VIEW_2_ON_VIEW_1",
        "FINAL_IN_VIEW_2_ON_TIP",
        "FINAL_ON_A_NULLIFIED_VIEW",
    )
)

# Killed only by a fork, not by the discipline that the mutant breaks by definition.
MUTANTS = tuple(
    Case(mutant, ("FORKS", mutant), True)
    for mutant in (
        "QUORUM_ONE_SHORT",
        "TWO_BYZANTINE",
        "FINALIZE_AFTER_NULLIFY",
        "NULLIFY_AFTER_FINALIZE",
        "NO_SKIP_CHECK",
        "NO_PARENT_CHECK",
        "NOTARIZE_TWICE",
    )
)

# Deviations after which all still holds: what they drop serves progress, or is a second lock.
VARIANTS = (
    Case("NOTARIZE_AFTER_NULLIFY", ("NOTARIZE_AFTER_NULLIFY",), False),
    Case("FINALIZE_UNVOTED", ("FINALIZE_UNVOTED",), False),
    Case("FINALIZE_UNSEEN", ("FINALIZE_UNSEEN",), False),
    Case("ANY_VIEW", ("ANY_VIEW",), False),
    Case("ENTER_FIRST", ("ENTER_FIRST",), False),
    Case("ENTER_FIRST, NULLIFY_AFTER_FINALIZE", ("ENTER_FIRST", "NULLIFY_AFTER_FINALIZE"), False),
)

# Each of the two is safe alone.
PAIR = Case(
    "FINALIZE_UNVOTED, FINALIZE_UNSEEN", ("FORKS", "FINALIZE_UNVOTED", "FINALIZE_UNSEEN"), True
)


def available() -> bool:
    """Are spin and a C compiler here?"""
    return shutil.which("spin") is not None and shutil.which("gcc") is not None


def run(case: Case, shortest: bool = False) -> Outcome:
    """One search; `shortest` goes breadth first and brings the steps of the counterexample."""
    started = time.monotonic()
    defined = [f"-D{one}" for one in case.definitions]
    with tempfile.TemporaryDirectory(prefix="demesh-model-") as place:

        def call(*command: str) -> str:
            done = subprocess.run(
                command, cwd=place, capture_output=True, text=True, timeout=RUN_S_MAX, check=False
            )
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
            return done.stdout

        shutil.copy(MODEL, place)
        call("spin", *defined, "-a", MODEL.name)
        # A counterexample comes sooner than an optimizing compiler is done.
        build = ["-O0" if case.found and not shortest else "-O2", f"-DMEMLIM={MEMORY_MIB_MAX}"]
        build += ["-DBFS"] if shortest else []
        call("gcc", *build, "-DSAFETY", "-DNOFAIR", "-w", "-o", "pan", "pan.c")
        said = call("./pan", f"-m{DEPTH_MAX}")
        trail = call("spin", *defined, "-t", MODEL.name) if shortest and "errors: 1" in said else ""
    seconds = time.monotonic() - started
    states = re.search(r"^ *([\d.e+]+) states, stored", said, re.MULTILINE)
    assert states is not None, said
    found = re.search(r"errors: (\d+)", said)
    assert found is not None, said
    violated = "assertion violated" in said
    assert violated == (found[1] != "0"), said  # nothing but an assertion may stop a search
    complete = violated or not re.search(r"max search depth too small|MEMLIM|not completed", said)
    return Outcome(violated, complete, int(float(states[1])), seconds, trail)


def steps(trail: str) -> list[str]:
    """What the voters do, in the words of the model."""
    return [line.strip() for line in trail.splitlines() if re.match(r" *voter \d", line)]


def expected(case: Case, outcome: Outcome) -> bool:
    """Is this what README.md says?"""
    return outcome.complete and outcome.found == case.found


def main(names: list[str]) -> int:
    """The table, or the shortest counterexamples of the cases named."""
    if not available():
        print(MISSING, file=sys.stderr)
        return 1
    cases = (RULES, *GOALS, *MUTANTS, *VARIANTS, PAIR)
    unknown = set(names) - {case.name for case in cases}
    if unknown:
        print(f"no such case: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    surprises = 0
    for case in (case for case in cases if not names or case.name in names):
        outcome = run(case, shortest=bool(names))
        surprises += not expected(case, outcome)
        verdict = "violated" if outcome.found else "holds"
        if case.found and outcome.found:
            verdict = "reached" if case in GOALS else "forks"
        note = "" if expected(case, outcome) else "   NOT AS EXPECTED"
        print(
            f"{case.name:35} {verdict:8} {outcome.states:>10,} states "
            f"{outcome.seconds:6.1f} s{note}",
            flush=True,
        )
        for step in steps(outcome.trail):
            print("   ", step)
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
