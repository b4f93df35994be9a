"""What owners do in a run: they change the voters, and replace the keys of broken devices.

A wave of changes is asked for once all of the one before is final, so that the plan knows the
weights it changes. A device that has given up its key gets another: power off, a new key, power on,
and an op that seats it. Power also fails on those who have just closed an epoch, as the plan says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from demesh_consensus import Finalized, Instant, Proposal, Vote
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.checkers import Checkers
from demesh_sim.campaign.disk import Kept
from demesh_sim.campaign.ledger import seat
from demesh_sim.campaign.peer import Peer, Watcher
from demesh_sim.campaign.plan import Plan, Wave
from demesh_sim.campaign.weather import MS

# How often an owner looks whether its last changes are final.
LOOK_NS = 200 * MS


class Owners(Watcher):
    """Carries out the changes of a plan; `offer` gives an op to who keeps it until it is final."""

    def __init__(
        self,
        arena: Arena,
        plan: Plan,
        seed: int,
        checkers: Checkers,
        offer: Callable[[bytes], None],
        part: Callable[[tuple[int, ...], Instant], None],
    ) -> None:
        self.arena, self.plan, self.checkers = arena, plan, checkers
        self.asked: dict[bytes, None] = {}
        self.asked_at = 0
        self.trouble = True
        self.closed = False
        self.replaced: dict[int, None] = {}
        self.hand_over_crashes = 0
        self.voted: dict[tuple[int, int], None] = {}  # voter and epoch
        self._offer, self._part = offer, part
        self._dice = Random(f"{seed}/owners")
        self._waiting = len(plan.waves)
        self._spared = frozenset((*(index for index, _ in plan.liars), *plan.dead))

    def start(self) -> None:
        """The first wave, at its time."""
        self._await(0)

    @property
    def done(self) -> bool:
        """Was everything asked for?"""
        return self._waiting == 0

    def ask(self, op: bytes) -> None:
        """Somebody wants this op."""
        self.asked[op] = None
        self.asked_at = self.arena.now
        self._offer(op)

    # -- waves ------------------------------------------------------------------------------------

    def _await(self, number: int) -> None:
        if number < len(self.plan.waves):
            when = max(self.plan.waves[number].at, self.arena.now)
            self.arena.at(when, partial(self._begin, number))

    def _begin(self, number: int) -> None:
        final = dict.fromkeys(self.checkers.ops)
        wave = self.plan.waves[number]
        if number and any(op not in final for op in _ops(number - 1, self.plan.waves[number - 1])):
            self.arena.at(self.arena.now + LOOK_NS, partial(self._begin, number))
            return
        for watcher in self.arena.watchers:
            watcher.struck(f"owners ask for other weights: {wave.seats}")
        if wave.apart_ns and self.trouble:
            self._part(wave.apart, wave.apart_ns)
        for op in _ops(number, wave):
            self.ask(op)
        self._waiting -= 1
        self._await(number + 1)

    # -- devices ----------------------------------------------------------------------------------

    def synced(self, peer: Peer, entries: Sequence[Kept]) -> None:
        for entry in entries:
            vote = entry.vote if isinstance(entry, Proposal) else entry
            if isinstance(vote, Vote) and vote.voter == peer.index:
                self.voted[peer.index, vote.statement.epoch] = None

    def final(self, peer: Peer, effect: Finalized) -> None:
        """Power fails when an epoch has just ended, now or with the next vote."""
        if not effect.blocks[-1][1].closing or not self.trouble or peer.index in self._spared:
            return
        if self._dice.randrange(100) >= self.plan.hand_over_crashes_pct:
            return
        lasts = self._dice.randrange(50, 2000) * MS
        if self._dice.random() < 0.3:
            peer.doomed = lasts
        else:
            self._crash(peer, self.arena.now + self._dice.randrange(300) * MS, lasts)

    def _crash(self, peer: Peer, when: Instant, lasts: Instant) -> None:
        def strike() -> None:
            if self.trouble and peer.up:
                self.hand_over_crashes += 1
                self.arena.crash(peer.index)
                self.arena.at(self.arena.now + lasts, partial(self.arena.restart, peer.index))

        self.arena.at(when, strike)

    def turned(self, peer: Peer) -> None:
        """Somebody sees that a device has given up its key."""
        if not self.plan.changes or not peer.quarantined or self.closed:
            return
        if peer.index in self.replaced or peer.index not in self.plan.lossy:
            return
        self.replaced[peer.index] = None
        self._waiting += 1
        # An owner who is slow lets the device see other changes with the key it has given up.
        when = self.arena.now + self._dice.choice((3, 30)) * self._dice.randrange(1000) * MS
        self.arena.at(when, partial(self._replace, peer.index))

    def _replace(self, index: int) -> None:
        arena, peer = self.arena, self.arena.peers[index]
        for watcher in arena.watchers:
            watcher.struck(f"voter {index} gets another key")
        arena.crash(index)
        peer.doomed = None
        peer.log.key += 1
        arena.at(arena.now + 300 * MS, partial(arena.restart, index))
        self._waiting -= 1
        self.ask(seat(index, self.plan.weights[index], peer.log.key))


def _ops(number: int, wave: Wave) -> tuple[bytes, ...]:
    """What a wave asks for; keys are those of the founders, for whoever gets another is not in."""
    among = (b"beside change %d, %d" % (number, count) for count in range(wave.ops))
    return (*(seat(voter, weight, 0) for voter, weight in wave.seats), *among)
