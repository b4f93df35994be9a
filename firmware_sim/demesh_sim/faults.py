"""What goes wrong in a run: a schedule drawn from the seed before the run begins.

Because the schedule does not depend on what the nodes do, a seed that fails still strikes at the
same instants after the code under test has changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from random import Random

from demesh.ports import MILLISECOND, SECOND, Instant


class Fault(Enum):
    """What can happen to a board, or (BROKER) to everybody."""

    CRASH = "crash"  # power gone: unsynced bytes lost, back after a while
    DISCONNECT = "disconnect"  # the TCP connection breaks
    STALL = "stall"  # both directions deaf for a while
    DEAF = "deaf"  # one-way partition: nothing reaches the board
    MUTE = "mute"  # one-way partition: nothing of the board reaches the broker
    BROKER = "broker"  # the broker is killed and started again, its memory empty


@dataclass(frozen=True, slots=True)
class Faults:
    """Mean time in seconds between two faults of a kind, over the whole swarm; 0 for never.

    No fault begins after `calm_s`, and none lasts longer than `longest_ms`, so that what is checked
    at the end of a run is a healed network.
    """

    crash_s: int = 0
    disconnect_s: int = 0
    stall_s: int = 0
    deaf_s: int = 0
    mute_s: int = 0
    broker_s: int = 0
    longest_ms: int = 8_000
    duplicate_ppm: int = 0  # of QoS 1 publications, sent twice
    calm_s: int = 2**31

    def mean_s(self, fault: Fault) -> int:
        """The mean time between two faults of this kind."""
        return {
            Fault.CRASH: self.crash_s,
            Fault.DISCONNECT: self.disconnect_s,
            Fault.STALL: self.stall_s,
            Fault.DEAF: self.deaf_s,
            Fault.MUTE: self.mute_s,
            Fault.BROKER: self.broker_s,
        }[fault]


NO_FAULTS = Faults()


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault: when, what, to which board, and for how long."""

    at: Instant
    fault: Fault
    board: int
    lasts_ns: int


def strikes(faults: Faults, boards: int, chance: Random) -> Iterator[Strike]:
    """All strikes of a run in order of time, endless unless `calm_s` ends them.

    Gaps are uniform in 0..2 x mean: all integers, and bunched enough to overlap.
    """
    kinds = [kind for kind in Fault if faults.mean_s(kind)]
    pending = [(_gap(faults.mean_s(kind), chance), index) for index, kind in enumerate(kinds)]
    while pending:
        at, index = min(pending)
        if at >= faults.calm_s * SECOND:
            return
        pending.remove((at, index))
        fault = kinds[index]
        lasts = chance.randrange(faults.longest_ms + 1) * MILLISECOND
        yield Strike(at, fault, chance.randrange(boards), lasts)
        pending.append((at + _gap(faults.mean_s(fault), chance), index))


def _gap(mean_s: int, chance: Random) -> int:
    return chance.randrange(1, 2 * mean_s * SECOND)
