"""What a seed decides before the run: voters, who is faulty and how, changes of the voters.

Two seeds of five, and every second large one, change the voters: some begin as observers and get
weight, some lose theirs or get another, several at once. Changes come in waves, each asked for when
the one before is final. Whatever part of a wave is final, in whatever order, the faulty stay below
a third of the weight: counted with the most that each faulty and the least that each honest voter
can have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from demesh_consensus import Instant
from demesh_sim.campaign.adversaries import ADVERSARIES, WITHIN_AN_EPOCH, Adversary
from demesh_sim.campaign.weather import MS, SECOND, Season, draw_season
from demesh_sim.lies import LIES, Lie

# Every eighth seed signs with real keys.
ED25519_EVERY = 8

_WEIGHTS = (
    *((1,) * 4,) * 12,
    *((1,) * 5,) * 5,
    *((1,) * 7,) * 5,
    *((1,) * 10,) * 3,
    (3, 2, 2, 1, 1),
    (5, 4, 3, 3, 2, 1, 1),
    (2, 1, 1, 1, 1, 1),
    (10, 7, 7, 7, 3),
)
_LARGE = (1,) * 31
LARGE_EVERY = 40

# With two brokers everything comes twice, and takes as long to simulate.
LYING_TROUBLE_S = 30

# After the weather has cleared, changes go on for this long.
CALM_S = 20
# Draws for one change before there is none: most are forbidden only if the faulty are many.
_DRAWS = 12


@dataclass(frozen=True, slots=True)
class Wave:
    """Changes that are asked for together, and ops among them."""

    at: Instant
    seats: tuple[tuple[int, int], ...]  # voter, weight
    ops: int
    apart: tuple[int, ...]  # cut off from the others meanwhile
    apart_ns: Instant


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a seed decides before the run."""

    weights: tuple[int, ...]  # of the founders; observers have none
    liars: tuple[tuple[int, type[Adversary]], ...]
    lossy: tuple[int, ...]
    stale: tuple[int, ...]
    dead: tuple[int, ...]
    season: Season
    ops: int
    ed25519: bool
    changes: bool = False  # of the voters, and of keys that were given up
    waves: tuple[Wave, ...] = ()
    hand_over_crashes_pct: int = 0
    lies: tuple[type[Lie], ...] = ()  # of one of two brokers; without, there is one medium

    @property
    def faulty(self) -> frozenset[int]:
        """Whose weight may be missing, or worse."""
        return frozenset((*(i for i, _ in self.liars), *self.lossy, *self.stale, *self.dead))

    def line(self) -> str:
        """For people."""
        unequal = len(dict.fromkeys(self.weights)) > 1
        who = f"weights {self.weights}" if unequal else f"{len(self.weights)} voters"
        liars = ", ".join(f"{index} {cls.__name__}" for index, cls in self.liars) or "none"
        season = self.season
        waves = "; ".join(f"{wave.at // MS} ms {wave.seats}" for wave in self.waves) or "none"
        return (
            f"{who}; liars: {liars}; broken disks: {list(self.lossy)}; lost databases: "
            f"{list(self.stale)}; never back: "
            f"{list(self.dead)}; {'hot, ' if season.hot else ''}{season.trouble_s} s, "
            f"loss {season.loss}, duplicates {season.duplicates}, delay {season.delay_ms} ms, "
            f"sync {season.sync_ms} ms, {'Ed25519' if self.ed25519 else 'keyed hash'}; "
            f"{'one of two brokers lies; ' if self.lies else ''}"
            f"changes (voter, weight): {waves}; crashes at {self.hand_over_crashes_pct} % of "
            "hand-overs"
        )


Kind = type[Adversary] | type[Lie] | Literal["broken disks"]
"""A way to be faulty, of voters or of a broker."""


def changing(seed: int) -> bool:
    """Do the voters change in this seed?"""
    return seed % 5 in (1, 2) or seed % (2 * LARGE_EVERY) == LARGE_EVERY - 1


def lying(seed: int) -> bool:
    """Are there two brokers in this seed, of which one lies? None of the seeds kept before."""
    return seed % 11 in (1, 5)


def plan(seed: int, only: Kind | None = None) -> Plan:
    """What the seed means; with `only` all who may be faulty are so in this way."""
    if isinstance(only, type) and issubclass(only, Lie):
        return replace(_plan(seed, None), lies=(only,))
    return replace(_plan(seed, only), lies=LIES if lying(seed) else ())


def _plan(seed: int, only: type[Adversary] | Literal["broken disks"] | None) -> Plan:
    dice = Random(f"{seed}/plan")
    changes, large = changing(seed), seed % LARGE_EVERY == LARGE_EVERY - 1
    weights: tuple[int, ...] = _LARGE if large else dice.choice(_WEIGHTS)
    room = (sum(weights) - 1) // 3
    liars: list[tuple[int, type[Adversary]]] = []
    lossy: list[int] = []
    stale: list[int] = []
    dead: list[int] = []
    kinds = list(ADVERSARIES if changes else WITHIN_AN_EPOCH)
    share = dice.random()
    for voter in dice.sample(range(len(weights)), len(weights)):
        if weights[voter] > room or (share < 0.15 and only is None):
            continue
        room -= weights[voter]
        chance = dice.random()
        kind = dice.choice(kinds)
        if only == "broken disks":
            lossy.append(voter)
        elif only is not None or chance < (0.45 if changes else 0.7):
            liars.append((voter, only or kind))
        elif chance < (0.72 if changes else 0.9):
            lossy.append(voter)
        elif changes and chance < 0.88:
            stale.append(voter)
        else:
            dead.append(voter)
    season = draw_season(dice)
    if large:
        season = Season(8, season.loss / 4, 0.0, (1, 40), (1, 5), 1500, False)
    if lying(seed):
        season = replace(season, trouble_s=min(season.trouble_s, LYING_TROUBLE_S))
    ops = 4 if large else season.trouble_s * dice.choice((1, 2, 4)) // 2
    real = seed % ED25519_EVERY == 0
    if not changes:
        return Plan(weights, tuple(liars), tuple(lossy), (), tuple(dead), season, ops, real)
    observers = dice.randint(1, 3)
    for voter in range(len(weights), len(weights) + observers):
        if dice.random() < 0.2 and only != "broken disks":
            liars.append((voter, only or dice.choice(kinds)))
    weights += (0,) * observers
    faulty = {*(voter for voter, _ in liars), *lossy, *stale, *dead}
    waves = _waves(weights, faulty, frozenset(lossy), season, dice, 2 if large else 6)
    return Plan(
        weights,
        tuple(liars),
        tuple(lossy),
        tuple(stale),
        tuple(dead),
        season,
        ops,
        real,
        True,
        waves,
        dice.choice((0, 20, 50)),
    )


def _waves(
    weights: tuple[int, ...],
    faulty: set[int],
    fixed: frozenset[int],
    season: Season,
    dice: Random,
    most: int,
) -> tuple[Wave, ...]:
    """Some changes, none of them of `fixed` voters, whose keys are replaced."""
    now, asked = list(weights), dict[tuple[int, int], None]()
    times = sorted(
        dice.randrange(season.trouble_s * SECOND)
        if dice.random() < 0.75
        else (season.trouble_s + dice.randrange(CALM_S)) * SECOND
        for _ in range(dice.randint(1, most))
    )
    waves: list[Wave] = []
    for at in times:
        after = list(now)
        seats: list[tuple[int, int]] = []
        count = dice.choice((1, 1, 2, 3))
        for _ in range(_DRAWS):
            voter = dice.randrange(len(weights))
            weight = _another(now[voter], max(weights), dice)
            changed = [*after[:voter], weight, *after[voter + 1 :]]
            twice = (voter, weight) in asked or after[voter] != now[voter]
            if voter in fixed or twice or weight == now[voter]:
                continue
            if not tolerated(now, changed, faulty):
                continue
            after, asked[voter, weight] = changed, None
            seats.append((voter, weight))
            if len(seats) == count:
                break
        apart = tuple(sorted(dice.sample(range(len(weights)), dice.randint(1, len(weights) // 2))))
        apart_ns = dice.choice((0, 0, dice.randint(500, 6000))) * MS
        if seats:
            waves.append(Wave(at, tuple(seats), dice.randrange(3), apart, apart_ns))
        now = after
    return tuple(waves)


def _another(weight: int, heaviest: int, dice: Random) -> int:
    """Another weight: of an observer some, of a voter none or some."""
    return 0 if weight and dice.random() < 0.4 else dice.randint(1, heaviest + 1)


def tolerated(before: list[int], after: list[int], faulty: set[int]) -> bool:
    """Are the faulty below a third, whatever part of these changes is final?"""
    pairs = list(enumerate(zip(before, after, strict=True)))
    most = sum(max(pair) for voter, pair in pairs if voter in faulty)
    least = sum(min(pair) for voter, pair in pairs if voter not in faulty)
    return 2 * most < least
