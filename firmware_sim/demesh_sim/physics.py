"""What the weather and the people do: load, sun and chance as integer functions of simulated time.

Everything is a function of (seed, board, simulated time), so each process and each run with the
same seed sees the same day. Simulated time is in nanoseconds since midnight of day 0.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from demesh.ports import Instant
from demesh_sim.scenario import HOURS, Profile, Stay, minute_of_day

MINUTE = 60 * 1_000_000_000
HOUR = 60 * MINUTE
DAY = HOURS * HOUR
WATT_HOUR = HOUR
"""Energy is counted in watt-nanoseconds: products of integers, so nothing is ever rounded away."""

# Kettles and ovens: a household's draw stays put for about this long. Shorter would drown the
# market in tiny agreements, longer would make a day of 60 s look like stairs.
SLOT = 15 * MINUTE


@dataclass(frozen=True, slots=True)
class DayClock:
    """Maps a node's instants to simulated time: `origin` is when the simulated day started."""

    origin: Instant
    starts_minute: int
    speed_up: int

    def simulated(self, now: Instant) -> int:
        """Simulated nanoseconds since midnight of day 0; before the origin time stands still."""
        return self.starts_minute * MINUTE + max(0, now - self.origin) * self.speed_up


def chance(seed: int, board: str, what: str, slot: int, span: int) -> int:
    """A number in 0 .. span - 1 that depends on nothing but its arguments."""
    digest = hashlib.blake2b(f"{seed}/{board}/{what}/{slot}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % span


def profile_w(profile: Profile, percent: int, at: int) -> int:
    """Watts of a profile at a simulated time, interpolated between full hours, rounded down."""
    hour, into = divmod(at % DAY, HOUR)
    here, there = profile.watts[hour], profile.watts[(hour + 1) % HOURS]
    return (here * (HOUR - into) + there * into) // HOUR * percent // 100


def load_w(profile: Profile, percent: int, seed: int, board: str, at: int) -> int:
    """A load's draw: its profile, 15 % up or down from one slot to the next."""
    habit = 85 + chance(seed, board, "load", at // SLOT, 31)
    return profile_w(profile, percent, at) * habit // 100


def sun_w(profile: Profile, percent: int, cloud_percent: int, seed: int, at: int) -> int:
    """A roof's power: its profile less the clouds, which are the same over the whole street."""
    clear = 100 - chance(seed, "", "cloud", at // SLOT, cloud_percent + 1)
    return profile_w(profile, percent, at) * clear // 100


def stay_at(stays: tuple[Stay, ...], at: int) -> tuple[int, Stay] | None:
    """The stay a car is on at a simulated time, with a number no other stay has; None: away."""
    day, into = divmod(at, DAY)
    for index, stay in enumerate(stays):
        if minute_of_day(stay.arrives) * MINUTE <= into < minute_of_day(stay.leaves) * MINUTE:
            return day * len(stays) + index, stay
    return None
