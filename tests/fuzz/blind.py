"""Fuzzing without coverage: seeded, so that a run can be repeated input by input."""

from __future__ import annotations

import faulthandler
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from types import FrameType

from fuzz import corpus
from fuzz.mutate import one_byte, pick
from fuzz.target import Target

# Of processor time, so that a busy machine is no finding. The longest sound input takes 0.3 s.
INPUT_SECONDS_MAX = 10
# A hang within the extension never comes back to Python: then the process ends with a traceback.
STUCK_SECONDS = 300

POOL_MAX = 512


class HangError(BaseException):
    """An input took longer than any should; no handler of the code under test catches it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input and what it led to."""

    data: bytes
    trace: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did."""

    inputs: int
    seconds: float
    corpus: int
    finding: Finding | None


def attempt(target: Target, data: bytes) -> Finding | None:
    """One input, within its time."""
    signal.setitimer(signal.ITIMER_PROF, INPUT_SECONDS_MAX)
    try:
        target.run(data)
    except (Exception, HangError):  # noqa: BLE001  any exception is the finding
        return Finding(data, traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def run(name: str, target: Target, seed: int, goes_on: Callable[[int], bool]) -> Outcome:
    """What is kept first, then changes of it for as long as `goes_on(inputs)`, or to a finding."""
    signal.signal(signal.SIGPROF, _too_long)
    began, count = time.monotonic(), 0
    given = _inputs(name, target, seed)
    finding = None
    while finding is None and goes_on(count):
        if count % 4_096 == 0:
            faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
        finding = attempt(target, next(given))
        count += 1
    faulthandler.cancel_dump_traceback_later()
    return Outcome(count, time.monotonic() - began, len(corpus.kept(name)), finding)


def _inputs(name: str, target: Target, seed: int) -> Iterator[bytes]:
    """Without end, and the same for the same seed."""
    dice = Random(f"{name}/{seed}")
    pool = [*target.seeds, *corpus.kept(name)]
    yield from list(pool)
    stays = len(pool)
    while True:
        # Half of them of good inputs: what coverage chose is short, and mostly refused early.
        source = target.seeds if dice.random() < 0.5 else pool
        data = target.mutate(dice, source[pick(dice, len(source))], pool)[: target.bytes_max]
        if dice.random() < 0.1:  # so that changes add up
            if len(pool) < stays + POOL_MAX:
                pool.append(data)
            else:
                pool[stays + pick(dice, POOL_MAX)] = data
        yield data
        for _ in range(target.burst):
            yield one_byte(dice, data)


def _too_long(_: int, __: FrameType | None) -> None:
    raise HangError(f"more than {INPUT_SECONDS_MAX} s of processor time for one input")
