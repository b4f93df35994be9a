"""What the network, the disks and the clocks do; and the faults of a run, drawn before it begins.

`Weather` is how things are now; `strikes` draws what will happen. A fault is drawn before the run,
so that what the code under test does never changes what it has to bear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from random import Random

from demesh_consensus import Instant

MS = 1_000_000
SECOND = 1000 * MS


def _open(source: int, target: int) -> bool:
    return False


class Weather:
    """Conditions between voters and below them."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """All is well again."""
        self.loss = 0.0
        self.duplicates = 0.0
        self.delay_ms = (1, 10)
        self.sync_ms = (0, 0)
        self.cut: Callable[[int, int], bool] = _open
        self.stalled: dict[int, Instant] = {}
        self.slow: dict[int, Instant] = {}

    def arrivals(self, source: int, target: int, now: Instant, dice: Random) -> list[Instant]:
        """When a message arrives: never, once or twice, and not in the order they were sent."""
        if self.cut(source, target) or (self.loss and dice.random() < self.loss):
            return []
        copies = 2 if self.duplicates and dice.random() < self.duplicates else 1
        waits = (self.stalled.get(source, 0), self.stalled.get(target, 0), now)
        return [max(waits) + dice.randint(*self.delay_ms) * MS for _ in range(copies)]

    def sync_ns(self, voter: int, now: Instant, dice: Random) -> Instant:
        """How long this voter's disk takes to sync."""
        if now < self.slow.get(voter, 0):
            return dice.randint(100, 1500) * MS
        return dice.randint(*self.sync_ms) * MS if self.sync_ms[1] else 0


class Fault(Enum):
    """What can happen to voters."""

    CRASH = "crash"  # power fails, at any moment
    CRASH_IN_SYNC = "crash in sync"  # power fails while a vote is written, or as it is sent
    BLACKOUT = "blackout"  # power fails everywhere at once
    STALL = "stall"  # a link carries nothing, and then all at once
    PARTITION = "partition"  # two groups do not hear each other
    ONE_WAY = "one way"  # one group does not hear the other, which hears it
    CLOCK = "clock"  # a voter's clock jumps ahead
    SLOW_DISK = "slow disk"


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault and what it takes."""

    at: Instant
    fault: Fault
    voters: tuple[int, ...]
    lasts_ns: Instant


@dataclass(frozen=True, slots=True)
class Season:
    """How rough a run is."""

    trouble_s: int
    loss: float
    duplicates: float
    delay_ms: tuple[int, int]
    sync_ms: tuple[int, int]
    strike_ms: int  # mean time between faults; 0 for none
    hot: bool  # a crash every few hundred milliseconds


# A voter whose clock is ahead waits for nobody; the others wait for what it proposes. So the bound
# on recovery grows by what a clock may jump.
JUMP_S_MAX = 6

_USUAL = (
    *(Fault.CRASH,) * 4,
    *(Fault.CRASH_IN_SYNC,) * 4,
    *(Fault.STALL,) * 3,
    *(Fault.PARTITION,) * 2,
    *(Fault.ONE_WAY,) * 2,
    Fault.CLOCK,
    *(Fault.SLOW_DISK,) * 2,
    Fault.BLACKOUT,
)
_HOT = (*(Fault.CRASH,) * 6, *(Fault.CRASH_IN_SYNC,) * 6, Fault.BLACKOUT, Fault.PARTITION)


def draw_season(dice: Random) -> Season:
    """Calm, rough or hot."""
    hot = dice.random() < 0.25
    loss = dice.choice((0.0, 0.0, 0.05, 0.2, 0.4))
    return Season(
        trouble_s=dice.randint(8, 20) if hot else dice.randint(20, 80),
        loss=loss,
        duplicates=dice.choice((0.0, 0.02, 0.3)),
        delay_ms=dice.choice(((1, 10), (1, 10), (1, 80), (20, 400))),
        sync_ms=dice.choice(((0, 0), (1, 5), (1, 40))),
        strike_ms=dice.randint(200, 500) if hot else dice.choice((0, 800, 1500, 3000)),
        hot=hot,
    )


def strikes(season: Season, count: int, dice: Random) -> Iterator[Strike]:
    """The faults of a run, in order."""
    at = 0
    while season.strike_ms:
        at += dice.randint(season.strike_ms // 3, season.strike_ms * 2) * MS
        if at >= season.trouble_s * SECOND:
            return
        fault = dice.choice(_HOT if season.hot else _USUAL)
        lasts = dice.randint(50, 400 if season.hot else 6000) * MS
        group = count if fault is Fault.BLACKOUT else 1
        if fault in (Fault.PARTITION, Fault.ONE_WAY):
            group = dice.randint(1, max(1, count // 2))
        yield Strike(at, fault, tuple(sorted(dice.sample(range(count), group))), lasts)
