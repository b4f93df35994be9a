"""What a seed means: voters, liars, broken disks and weather; then healing, and then silence.

Two more things must hold, of the mesh as a whole:

    liveness  once the weather is clear and all but f of the weight are up, every op is final on
              every honest voter within HEALED_S
    silence   a mesh that has decided everything says next to nothing
    turns     a run takes a bounded number of events
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from demesh_sim.campaign.adversaries import ADVERSARIES, Adversary, Silent, corrupt
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.checkers import Checkers, Violation
from demesh_sim.campaign.conduct import Conduct
from demesh_sim.campaign.peer import Peer, Watcher
from demesh_sim.campaign.signing import Ed25519, KeyedHash
from demesh_sim.campaign.weather import (
    JUMP_S_MAX,
    MS,
    SECOND,
    Fault,
    Season,
    Strike,
    draw_season,
    strikes,
)

# Views at the cap of D (8 s) take 3 D; the next honest leader comes after at most f that are not,
# and who was cut off repeats itself every 11 Ts = 23 s at the latest. See docs/campaign.md.
HEALED_S = 240

# Beacons come at Ts x 2^k: after a minute of rest some four steps are left in ten minutes.
REST_S, SILENCE_S = 60, 600
BEACONS_MAX = 16

# The longest of 300 seasons took 56,000.
EVENTS_MAX = 200_000

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


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a seed decides before the run."""

    weights: tuple[int, ...]
    liars: tuple[tuple[int, type[Adversary]], ...]
    lossy: tuple[int, ...]
    dead: tuple[int, ...]
    season: Season
    ops: int
    ed25519: bool

    def line(self) -> str:
        """For people."""
        unequal = len(dict.fromkeys(self.weights)) > 1
        who = f"weights {self.weights}" if unequal else f"{len(self.weights)} voters"
        liars = ", ".join(f"{index} {cls.__name__}" for index, cls in self.liars) or "none"
        season = self.season
        return (
            f"{who}; liars: {liars}; broken disks: {list(self.lossy)}; never back: "
            f"{list(self.dead)}; {'hot, ' if season.hot else ''}{season.trouble_s} s, "
            f"loss {season.loss}, duplicates {season.duplicates}, delay {season.delay_ms} ms, "
            f"sync {season.sync_ms} ms, {'Ed25519' if self.ed25519 else 'keyed hash'}"
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    seed: int
    rule: str | None
    violation: str | None
    simulated_ns: int
    events: int
    checked: int
    decisions: int
    crashes: int
    faults: int
    quarantines: int
    recovery_ms: int | None


def plan(seed: int, only: type[Adversary] | None = None) -> Plan:
    """What the seed means; with `only` all who may be faulty are liars of this kind."""
    dice = Random(f"{seed}/plan")
    large = seed % LARGE_EVERY == LARGE_EVERY - 1
    weights = _LARGE if large else dice.choice(_WEIGHTS)
    room = (sum(weights) - 1) // 3
    liars: list[tuple[int, type[Adversary]]] = []
    lossy: list[int] = []
    dead: list[int] = []
    kinds = list(ADVERSARIES)
    share = dice.random()
    for voter in dice.sample(range(len(weights)), len(weights)):
        if weights[voter] > room or (share < 0.15 and only is None):
            continue
        room -= weights[voter]
        chance = dice.random()
        kind = dice.choice(kinds)
        if only is not None or chance < 0.7:
            liars.append((voter, only or kind))
        elif chance < 0.9:
            lossy.append(voter)
        else:
            dead.append(voter)
    season = draw_season(dice)
    if large:
        season = Season(8, season.loss / 4, 0.0, (1, 40), (1, 5), 1500, False)
    ops = 4 if large else season.trouble_s * dice.choice((1, 2, 4)) // 2
    real = seed % ED25519_EVERY == 0
    return Plan(weights, tuple(liars), tuple(lossy), tuple(dead), season, ops, real)


class Run:
    """One season."""

    def __init__(
        self, seed: int, watchers: Sequence[Watcher] = (), only: type[Adversary] | None = None
    ) -> None:
        self.plan = plan(seed, only)
        self.seed = seed
        self.arena = Arena(
            self.plan.weights, seed, Ed25519(seed) if self.plan.ed25519 else KeyedHash()
        )
        liars = frozenset(index for index, _ in self.plan.liars)
        lossy = frozenset(self.plan.lossy)
        for index, cls in self.plan.liars:
            corrupt(self.arena.peers[index], self.arena, cls, seed)
        self.checkers = Checkers(self.arena, liars | lossy)
        self.conduct = Conduct(self.arena, liars, lossy)
        for watcher in (*watchers, self.checkers, self.conduct):
            self.arena.watch(watcher)
        self.honest = [peer for peer in self.arena.peers if peer.index not in liars]
        self.ops = tuple(b"op %d" % number for number in range(self.plan.ops))
        self.faults = 0
        self.recovery_ms: int | None = None
        self._cuts: dict[int, tuple[frozenset[int], bool]] = {}

    def run(self) -> Outcome:
        """The whole of it; a violation is part of the outcome."""
        rule: str | None = None
        text: str | None = None
        try:
            self._trouble()
            self._heal()
            self._silence()
        except Violation as violation:
            rule, text = violation.rule, str(violation)
        except (AssertionError, LookupError, TypeError, ValueError, AttributeError) as error:
            at = self.arena.now // MS
            rule, text = "assertion", f"assertion at {at} ms: {type(error).__name__}: {error}"
        return Outcome(
            self.seed,
            rule,
            text,
            self.arena.now,
            self.arena.events,
            self.checkers.checked,
            len(self.checkers.truth) - 1,
            self.arena.crashes,
            self.faults,
            self.conduct.quarantines,
            self.recovery_ms,
        )

    # -- trouble ----------------------------------------------------------------------------------

    def _trouble(self) -> None:
        season, arena = self.plan.season, self.arena
        weather, dice = arena.weather, Random(f"{self.seed}/work")
        weather.loss, weather.duplicates = season.loss, season.duplicates
        weather.delay_ms, weather.sync_ms = season.delay_ms, season.sync_ms
        weather.cut = self._cut
        arena.start()
        at = 0
        for op in self.ops:
            if dice.random() < 0.4:  # the next burst; within one, blocks follow on each other
                at = dice.randrange(season.trouble_s * SECOND)
            to = tuple(dice.choice(self._holders()).index for _ in range(2))
            arena.at(at, partial(arena.offer, op, to))
            at += dice.randrange(60) * MS
        for strike in strikes(season, len(arena.peers), Random(f"{self.seed}/strikes")):
            arena.at(strike.at, partial(self._strike, strike))
        for index in self.plan.lossy:
            at = dice.randrange(SECOND, season.trouble_s * SECOND)
            arena.at(at, partial(self._break_disk, index))
        for index in self.plan.dead:
            arena.at(dice.randrange(season.trouble_s * SECOND), partial(arena.crash, index))
        self._run(season.trouble_s * SECOND)

    def _holders(self) -> list[Peer]:
        """Who keeps an op until it is final."""
        gone = (*self.plan.dead, *self.plan.lossy)
        return [peer for peer in self.honest if peer.index not in gone]

    def _cut(self, source: int, target: int) -> bool:
        for group, both in self._cuts.values():
            inside = (source in group, target in group)
            if inside == (True, False) or (both and inside == (False, True)):
                return True
        return False

    def _strike(self, strike: Strike) -> None:
        arena, until = self.arena, self.arena.now + strike.lasts_ns
        self.faults += 1
        for watcher in arena.watchers:
            watcher.struck(
                f"{strike.fault.value} {list(strike.voters)}, {strike.lasts_ns // MS} ms"
            )
        liars = [index for index, _ in self.plan.liars]
        match strike.fault:
            case Fault.PARTITION | Fault.ONE_WAY:
                both = strike.fault is Fault.PARTITION
                self._cuts[self.faults] = (frozenset(strike.voters), both)
                arena.at(until, partial(self._join, self.faults))
                return
            case Fault.STALL:
                arena.weather.stalled.update((voter, until) for voter in strike.voters)
                return
            case Fault.SLOW_DISK:
                arena.weather.slow.update((voter, until) for voter in strike.voters)
                return
        for voter in strike.voters:
            peer = arena.peers[voter]
            if voter in liars or voter in self.plan.dead or not peer.up:
                continue
            if strike.fault is Fault.CLOCK:
                ahead = min(strike.lasts_ns, JUMP_S_MAX * SECOND - peer.offset)
                peer.offset += max(ahead, 0)
                arena.input(peer, partial(peer.core.tick, arena.local(peer)))
            elif strike.fault is Fault.CRASH_IN_SYNC:
                peer.doomed = strike.lasts_ns
            else:
                arena.crash(voter)
                arena.at(until, partial(arena.restart, voter))

    def _join(self, number: int) -> None:
        self._cuts.pop(number, None)

    def _break_disk(self, index: int) -> None:
        """Power fails, and synced bytes are gone when it is back."""
        arena, peer = self.arena, self.arena.peers[index]
        arena.crash(index)
        lost = peer.disk.lose(arena.fate)
        self.faults += 1
        for watcher in arena.watchers:
            watcher.struck(f"the disk of voter {index} loses {len(lost)} synced entries")
        arena.at(arena.now + 300 * MS, partial(arena.restart, index))

    # -- and after --------------------------------------------------------------------------------

    def _heal(self) -> None:
        arena = self.arena
        arena.weather.clear()
        self._cuts.clear()
        began = arena.now
        for watcher in arena.watchers:
            watcher.struck("the weather is clear")
        for peer in arena.peers:
            peer.doomed = None
            if peer.index not in self.plan.dead:
                arena.restart(peer.index)
        waiting = [peer for peer in self.honest if peer.index not in self.plan.dead]
        while not all(self._done(peer) for peer in waiting):
            if not arena.step(began + HEALED_S * SECOND):
                late = [peer.index for peer in waiting if not self._done(peer)]
                raise Violation("liveness", None, arena.now, f"not all ops at {late}")
            self._budget()
        self.recovery_ms = (arena.now - began) // MS

    def _done(self, peer: Peer) -> bool:
        """Has it every op?"""
        chain = peer.core.tip
        return chain.height > 0 and len(peer.log.states[chain.digest]) == len(self.ops)

    def _silence(self) -> None:
        arena = self.arena
        for peer in arena.hosts:
            if peer.adversary is not None:
                peer.adversary = Silent(arena, peer.index, arena.fate)
        liars = [index for index, _ in self.plan.liars]
        until = arena.now + HEALED_S * SECOND  # a notarized tail may still need its finalization
        while True:
            before = len(arena.sent)
            self._run(arena.now + REST_S * SECOND)
            said = sum(1 for index, _ in arena.sent[before:] if index not in liars)
            if said <= BEACONS_MAX:
                break
            if arena.now > until:
                raise Violation("silence", None, arena.now, "the mesh does not come to rest")
        before = len(arena.sent)
        end = arena.now + SILENCE_S * SECOND
        while arena.step(end):
            said = sum(1 for index, _ in arena.sent[before:] if index not in liars)
            if said > BEACONS_MAX:
                raise Violation("silence", None, arena.now, f"{said} messages at rest")

    def _run(self, end: int) -> None:
        while self.arena.step(end):
            self._budget()
        self.arena.now = end

    def _budget(self) -> None:
        if self.arena.events > EVENTS_MAX:
            raise Violation("turns", None, self.arena.now, f"more than {EVENTS_MAX} events")


def run(
    seed: int, watchers: Sequence[Watcher] = (), only: type[Adversary] | None = None
) -> Outcome:
    """One season of this seed."""
    return Run(seed, watchers, only).run()
