"""Many seeds on some processes, and their figures; the mutants, one after the other."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

from demesh_sim.campaign.mutant import Mutant
from demesh_sim.campaign.mutants import MUTANTS
from demesh_sim.campaign.season import HEALED_S, Outcome, Run
from demesh_sim.campaign.transcript import Transcript
from demesh_sim.campaign.weather import SECOND

REPLAY = "demesh swarm seeds --scenario consensus --seed {seed} --transcript"

# One season with a mutant takes a tenth of a second, the longest of 100 some seconds; a turn that
# never ends is found in so much time of the processor, however busy the machine is.
SEASON_CPU_S_MAX = 12

# Every mutant is killed by one of the first so many seeds.
MUTANT_SEEDS_MAX = 100


class Endless(BaseException):
    """A season did not end in time. Not an Exception: nothing on the way may swallow it."""


def _ring(signum: int, frame: object) -> None:
    raise Endless


def season(seed: int) -> Outcome:
    """One seed, in a process of its own."""
    return Run(seed).run()


def run_seeds(seeds: Iterable[int], jobs: int) -> Iterator[Outcome]:
    """All seeds, in order; the same outcomes for any number of jobs."""
    if jobs == 1:
        yield from map(season, seeds)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(season, seeds, chunksize=4)


def transcript(seed: int, write: Callable[[str], None]) -> Outcome:
    """One seed, told."""
    run = Run(seed)
    write(f"seed {seed}: {run.plan.line()}")
    # Before the checkers, so that the line that breaks a rule is there.
    run.arena.watchers.insert(0, Transcript(run.arena, write))
    return run.run()


@dataclass
class Figures:
    """What many seeds come to."""

    seeds: int = 0
    simulated_ns: int = 0
    events: int = 0
    decisions: int = 0
    crashes: int = 0
    faults: int = 0
    quarantines: int = 0
    epochs: int = 0
    new_keys: int = 0
    violations: int = 0

    def __post_init__(self) -> None:
        self._recoveries_ms: list[int] = []
        self._began = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.seeds += 1
        self.simulated_ns += outcome.simulated_ns
        self.events += outcome.events
        self.decisions += outcome.decisions
        self.crashes += outcome.crashes
        self.faults += outcome.faults
        self.quarantines += outcome.quarantines
        self.epochs += outcome.epochs
        self.new_keys += outcome.new_keys
        self.violations += outcome.violation is not None
        if outcome.recovery_ms is not None:
            self._recoveries_ms.append(outcome.recovery_ms)

    def progress(self, of: int) -> str:
        """One line while it runs."""
        return (
            f"{self.seeds}/{of} seeds, {self.decisions} decisions, {self.crashes} crashes, "
            f"{self.violations} violations"
        )

    def lines(self) -> list[str]:
        """For people, at the end."""
        wall_ms = int((time.monotonic() - self._began) * 1000)
        minutes = self.simulated_ns // SECOND // 60
        late = sorted(self._recoveries_ms)
        half, last = (late[len(late) // 2], late[-1]) if late else (0, 0)
        return [
            f"{self.seeds} seeds in {wall_ms // 1000}.{wall_ms % 1000 // 100} s, "
            f"{minutes // 60} h {minutes % 60} min simulated, {self.events} events",
            f"{self.decisions} decisions, {self.crashes} crashes, {self.faults} faults, "
            f"{self.quarantines} quarantines",
            f"{self.epochs} epochs, {self.new_keys} keys replaced",
            f"recovery p50 {half} ms, max {last} ms (bound {HEALED_S * 1000} ms)",
            f"{self.violations} violations",
        ]


@dataclass(frozen=True, slots=True)
class Killed:
    """Which seed killed a mutant, and which checker; None if it survived."""

    mutant: str
    rule: str
    seed: int | None
    checker: str

    def line(self) -> str:
        """A row of the table."""
        seed = "survives" if self.seed is None else str(self.seed)
        return f"{self.mutant:<40} {self.rule:<9} {seed:>8}  {self.checker}"


TABLE_HEAD = f"{'mutant':<40} {'rule':<9} {'killed at':>8}  by"


def try_mutant(number: int, seeds_max: int = MUTANT_SEEDS_MAX) -> Killed:
    """Seeds from 0 on until one fails; in a process of its own, for it may hang."""
    mutant: Mutant = MUTANTS[number]
    signal.signal(signal.SIGVTALRM, _ring)
    with mutant.switched_on():
        for seed in range(seeds_max):
            signal.setitimer(signal.ITIMER_VIRTUAL, SEASON_CPU_S_MAX)
            try:
                outcome = Run(seed, (), mutant.only).run()
            except Endless:
                return Killed(mutant.name, mutant.rule, seed, "turns: one does not end")
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            if outcome.rule is not None:
                return Killed(mutant.name, mutant.rule, seed, outcome.rule)
    return Killed(mutant.name, mutant.rule, None, f"{seeds_max} seeds")


def run_mutants(jobs: int, seeds_max: int = MUTANT_SEEDS_MAX) -> Iterator[Killed]:
    """Every mutant, in order."""
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(partial(try_mutant, seeds_max=seeds_max), range(len(MUTANTS)))
