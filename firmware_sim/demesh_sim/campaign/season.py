"""One run of a plan: trouble, then healing, and then silence.

Two more things must hold, of the mesh as a whole:

    liveness  once the weather is clear and all but f of the weight are up, every op is final on
              every honest node, voter or observer, within HEALED_S after the last one was asked
              for; all are in the last epoch, and who has a seat in it votes, also with a new key
    silence   a mesh that has decided everything says next to nothing
    turns     a run takes a bounded number of events
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from demesh_consensus import Instant
from demesh_sim.campaign.adversaries import Silent, corrupt
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.brokers import Couriers, Exchange
from demesh_sim.campaign.checkers import Checkers
from demesh_sim.campaign.conduct import Conduct
from demesh_sim.campaign.history import Violation
from demesh_sim.campaign.owners import Owners
from demesh_sim.campaign.peer import Peer, Watcher
from demesh_sim.campaign.plan import Kind, plan
from demesh_sim.campaign.signing import Ed25519, KeyedHash
from demesh_sim.campaign.weather import JUMP_S_MAX, MS, SECOND, Fault, Strike, strikes
from demesh_sim.lies import Lie, LyingBroker

# Views at the cap of D (8 s) take 3 D; the next honest leader comes after at most f that are not,
# and who was cut off repeats itself every 11 Ts = 23 s at the latest. See docs/campaign.md.
HEALED_S = 240

# Beacons come at Ts x 2^k: after a minute of rest some four steps are left in ten minutes.
REST_S, SILENCE_S = 60, 600
BEACONS_MAX = 16

# After this those who decided something have said all that they say by themselves.
ENCORE_S = 10

# The longest of 300 seasons took 56,000.
EVENTS_MAX = 200_000

# Who holds a seat has voted in its epoch after so many more ops, if it can: one vote may come too
# late to be cast, for others were quorum weight already.
MORE_OPS_MAX = 20


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
    epochs: int
    new_keys: int
    hand_over_crashes: int
    recovery_ms: int | None


class Run:
    """One season."""

    def __init__(
        self, seed: int, watchers: Sequence[Watcher] = (), only: Kind | None = None
    ) -> None:
        self.plan = plan(seed, only)
        self.seed = seed
        self.arena = Arena(
            self.plan.weights, seed, Ed25519(seed) if self.plan.ed25519 else KeyedHash()
        )
        self.liar: LyingBroker | None = None
        liars = frozenset(index for index, _ in self.plan.liars)
        lossy = frozenset(self.plan.lossy)
        for index, cls in self.plan.liars:
            corrupt(self.arena.peers[index], self.arena, cls, seed)
        if self.plan.lies:
            self._two_brokers(self.plan.lies)
        for watcher in watchers:
            self.arena.watch(watcher)
        self.checkers = Checkers(self.arena, liars | lossy)
        self.arena.watch(self.checkers)
        self.conduct = Conduct(self.arena, liars, lossy)
        self.arena.watch(self.conduct)
        dice = Random(f"{seed}/holders")
        offer = partial(self._offer, dice)
        self.owners = Owners(self.arena, self.plan, seed, self.checkers, offer, self._part)
        self.arena.watch(self.owners)
        self.honest = [peer for peer in self.arena.peers if peer.index not in liars]
        self.ops = tuple(b"op %d" % number for number in range(self.plan.ops))
        self.faults = 0
        self.recovery_ms: int | None = None
        self._cuts: dict[int, tuple[frozenset[int], bool]] = {}
        self._parted = 0

    def _two_brokers(self, ways: tuple[type[Lie], ...]) -> None:
        """An honest broker, and one that lies in these ways."""
        clients = tuple(str(peer.index) for peer in self.arena.peers)
        self.liar = LyingBroker(Random(f"{self.seed}/broker"), clients, lambda: b"", ways)
        minds = None, self.liar
        exchange = Exchange(self.arena, minds if self.seed % 2 else minds[::-1])
        self.arena.watch(Couriers(exchange, len(minds), self.arena))

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
            len(self.checkers.history.rolls),
            len(self.owners.replaced),
            self.owners.hand_over_crashes,
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
            to = self._holders(dice)
            arena.at(at, partial(arena.offer, op, to))
            self.owners.asked[op] = None
            at += dice.randrange(60) * MS
        for strike in strikes(season, len(arena.peers), Random(f"{self.seed}/strikes")):
            arena.at(strike.at, partial(self._strike, strike))
        for index in self.plan.lossy:
            at = dice.randrange(SECOND, season.trouble_s * SECOND)
            if self.plan.waves:  # so that it learns of what it lost as an epoch ends
                wave = dice.choice(self.plan.waves).at - dice.randrange(3 * SECOND)
                at = min(max(wave, SECOND), season.trouble_s * SECOND)
            arena.at(at, partial(self._break_disk, index))
        for index in self.plan.stale:
            at = dice.randrange(SECOND, season.trouble_s * SECOND)
            arena.at(at, partial(self._break_database, index))
        for index in self.plan.dead:
            arena.at(dice.randrange(season.trouble_s * SECOND), partial(arena.crash, index))
        self.owners.start()
        self._run(season.trouble_s * SECOND)

    def _holders(self, dice: Random) -> tuple[int, ...]:
        """Who keeps an op until it is final: two that are there at the end, or one."""
        gone = (*self.plan.dead, *self.plan.lossy)
        there = [peer.index for peer in self.honest if peer.index not in gone]
        return tuple(dice.choice(there) for _ in range(2))

    def _offer(self, dice: Random, op: bytes) -> None:
        self.arena.offer(op, self._holders(dice))

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
            case Fault.PARTITION:
                self._part(strike.voters, strike.lasts_ns)
                return
            case Fault.ONE_WAY:
                self._part(strike.voters, strike.lasts_ns, both=False)
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
                arena.input(peer, partial(peer.epochs.tick, arena.local(peer)))
            elif strike.fault is Fault.CRASH_IN_SYNC:
                peer.doomed = strike.lasts_ns
            else:
                arena.crash(voter)
                arena.at(until, partial(arena.restart, voter))

    def _part(self, group: tuple[int, ...], lasts_ns: Instant, both: bool = True) -> None:
        """These do not hear the others for a while, or the others do not hear them."""
        self._parted += 1
        self._cuts[self._parted] = (frozenset(group), both)
        self.arena.at(self.arena.now + lasts_ns, partial(self._join, self._parted))

    def _join(self, number: int) -> None:
        self._cuts.pop(number, None)

    def _break_database(self, index: int) -> None:
        """Power fails, and blocks are gone when it is back; the journal is whole."""
        arena, peer = self.arena, self.arena.peers[index]
        arena.crash(index)
        lost = peer.disk.lose_blocks(arena.fate)
        self.faults += 1
        for watcher in arena.watchers:
            watcher.struck(f"the database of voter {index} loses {lost} blocks")
        arena.at(arena.now + 300 * MS, partial(arena.restart, index))

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
        self.owners.trouble, self.owners.asked_at = False, began
        waiting = [peer for peer in self.honest if peer.index not in self.plan.dead]
        self._until(waiting, self._done, "not all ops at")
        self.recovery_ms = (arena.now - self.owners.asked_at) // MS
        self._until(waiting, self._ready, "no recall of")
        for number in range(MORE_OPS_MAX):
            if all(self._votes(peer) for peer in waiting):
                break
            self.owners.ask(b"one more, %d" % number)
            self._until(waiting, self._done, "not all ops at")
        self._until(waiting, self._votes, "no vote in the last epoch of")
        self.owners.closed = True
        if self.liar is not None:
            self._encore(waiting, self.liar)

    def _encore(self, waiting: list[Peer], liar: LyingBroker) -> None:
        """Somebody misses the last decision, is there again, and must hear of it from a calm mesh.

        It was not switched off, so it asks nobody; and nobody has anything else to say.
        """
        arena, roll = self.arena, self.checkers.roll
        seated = {p.index: roll.weights[p.index] if self._seated(p) else 0 for p in waiting}
        spare = sum(seated.values()) - 2 * sum(roll.weights) // 3 - 1
        missing = [peer for peer in waiting if seated[peer.index] <= spare]
        if not missing:
            return
        victim = Random(f"{self.seed}/encore").choice(missing)
        liar.choose(str(victim.index))
        others = [peer for peer in waiting if peer is not victim]
        arena.weather.cut = self._cut
        self._cuts[0] = frozenset((victim.index,)), True
        self.owners.asked[b"encore"], self.owners.asked_at = None, arena.now
        arena.offer(b"encore", (others[0].index,))
        self._until(others, self._done, "not all ops at")
        self._run(arena.now + ENCORE_S * SECOND)
        arena.weather.clear()
        self.owners.asked_at = arena.now
        self._until(waiting, self._done, "nobody tells")

    def _until(self, peers: list[Peer], holds: Callable[[Peer], bool], otherwise: str) -> None:
        arena, owners = self.arena, self.owners
        while not (owners.done and all(holds(peer) for peer in peers)):
            if not arena.step(owners.asked_at + HEALED_S * SECOND):
                late = [peer.index for peer in peers if not holds(peer)]
                raise Violation("liveness", None, arena.now, f"{otherwise} {late}")
            self._budget()

    def _done(self, peer: Peer) -> bool:
        """Has it every op, and is it where all are?"""
        core = peer.core
        if core.voters.epoch != self.checkers.roll.epoch or core.tip.height == 0:
            return False
        final = dict.fromkeys(peer.log.states[core.tip.digest].ops)
        return all(op in final for op in self.owners.asked)

    def _ready(self, peer: Peer) -> bool:
        """May it vote, if it has a seat in the last epoch?"""
        return peer.core.voting or not self._seated(peer)

    def _votes(self, peer: Peer) -> bool:
        """Has it voted in the last epoch, if it has a seat there?"""
        seat = peer.index, self.checkers.roll.epoch
        return seat in self.owners.voted or not self._seated(peer)

    def _seated(self, peer: Peer) -> bool:
        roll, me = self.checkers.roll, peer.index
        return roll.weights[me] > 0 and roll.keys[me] == peer.log.key and not peer.quarantined

    def _silence(self) -> None:
        arena = self.arena
        for peer in arena.hosts:
            if peer.adversary is not None:
                peer.adversary = Silent(arena, peer.index, arena.fate)
        if self.liar is not None:
            self.liar.honest = True
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


def run(seed: int, watchers: Sequence[Watcher] = (), only: Kind | None = None) -> Outcome:
    """One season of this seed."""
    return Run(seed, watchers, only).run()
