"""Timing on a machine that others use too: this thread's CPU time, alternating rounds, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

Work = Callable[[], object]


def cpu_ns(work: Work) -> int:
    """CPU time of this thread for one call; time spent waiting for a core does not count."""
    began = time.thread_time_ns()
    work()
    return time.thread_time_ns() - began


def per_item_ns(works: Sequence[Work], items: int, rounds: int) -> list[float]:
    """Median CPU ns per item of each work, in alternating rounds after one that is not counted.

    Alternating, so that a slow spell of the machine falls on all of them and ratios stay true.
    """
    taken: list[list[int]] = [[] for _ in works]
    for number in range(rounds + 1):
        for work, times in zip(works, taken, strict=True):
            spent = cpu_ns(work)
            if number:
                times.append(spent)
    return [statistics.median(times) / items for times in taken]


def percentile(values: Sequence[float], percent: int) -> float:
    """Nearest rank; values need not be sorted."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]
