"""A mesh whose owners change its voters while customers pay and everything else goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from nacl.signing import SigningKey

from demesh.ports import SECOND, Instant, Persist, StoreBlock
from demesh.wire import statements
from demesh_sim.bare import Customer, found_bare
from demesh_sim.faults import NO_FAULTS, Faults
from demesh_sim.links import PROFILES
from demesh_sim.memory_store import EMPTY_JOURNAL, MemoryStore
from demesh_sim.owners import Owners
from demesh_sim.swarm import REBOOT_NS, Report, Swarm
from demesh_sim.witness import Witness

TROUBLE_S = 60
CALM_S = 60  # recovery as in campaign.py; wishes that were held up come one after the other
QUIET_S = 25
REPLAY = "python -m pytest tests/sim/test_membership.py -k 'seed-{seed}-'"


class Pauses(Witness):
    """From each block's first disk to the next one's: how long a hand-over holds up decisions."""

    def __init__(self) -> None:
        self.at_hand_over: list[Instant] = []
        self.elsewhere: list[Instant] = []
        self._last = (0, 0, False)  # height, when, closing

    def persisted(
        self, board: int, at: Instant, effects: Sequence[Persist], store: MemoryStore
    ) -> None:
        for effect in effects:
            height, before, closing = self._last
            if isinstance(effect, StoreBlock) and effect.height == height + 1:
                if height:
                    (self.at_hand_over if closing else self.elsewhere).append(at - before)
                self._last = effect.height, at, statements.decode_block(effect.block).closing


class Reform:
    """A running mesh, its customers and its owners, and what each board's weight shall be."""

    def __init__(
        self,
        seed: int,
        *,
        voters: int = 4,
        observers: int = 0,
        newcomers: int = 0,
        profile: str = "wifi",
        faults: Faults = NO_FAULTS,
        every_ms: int = 300,
        until_s: int = TROUBLE_S + CALM_S,
        witnesses: Sequence[Witness] = (),
    ) -> None:
        bare = found_bare(voters, seed, observers=observers, newcomers=newcomers, owners=3)
        boards = (*bare.members, *bare.newcomers)
        self.pauses = Pauses()
        self.swarm = Swarm(
            boards,
            bare.genesis,
            seed,
            PROFILES[profile],
            faults,
            witnesses=[self.pauses, *witnesses],
            replay=REPLAY.format(seed=seed),
        )
        self.customer = Customer(self.swarm, bare, every_ms, until_s)
        self.owners = Owners(self.swarm, bare)
        self.weights = [1] * voters + [0] * (observers + newcomers)
        self._keys = 0

    def run(self, until_s: int) -> Report:
        """Run to `until_s` of virtual time."""
        self.swarm.run(until_s)
        return self.swarm.report()

    def want(self, board: int, weight: int) -> None:
        """The owners want a board to have this weight."""
        self.weights[board] = weight
        self.owners.want(board, weight)

    def power_cut(self, board: int) -> None:
        """Power off, unless it is off already, and on again after half a second."""
        host = self.swarm.hosts[board]
        if host.running:
            host.crash()
            self.swarm.heap.after(REBOOT_NS, host.boot)

    def lose_journal(self, board: int) -> None:
        """A power cut, and what comes back has forgotten what it voted."""
        self.power_cut(board)
        self.swarm.hosts[board].store.journal[:] = EMPTY_JOURNAL

    def lose_ledger(self, board: int) -> None:
        """A power cut, and what comes back has its journal and nothing else."""
        self.power_cut(board)
        emptied = MemoryStore()
        emptied.journal[:] = self.swarm.hosts[board].store.journal
        self.swarm.hosts[board].store = emptied

    def renew(self, board: int) -> None:
        """A new vote key, used from the next start on; the owners tell the mesh."""
        self._keys += 1
        self.give_key(board, SigningKey((b"%d/%d" % (self.swarm.seed, self._keys)).ljust(32)))
        self.owners.want(board, self.weights[board])

    def give_key(self, board: int, key: SigningKey) -> None:
        """A vote key is put on a board, which takes it at its next start: at once."""
        self.power_cut(board)
        host = self.swarm.hosts[board]
        host.member = replace(host.member, identity=replace(host.member.identity, vote_key=key))

    def epochs(self) -> list[int]:
        """The epoch of each running board."""
        nodes = [host.node for host in self.swarm.hosts if host.node is not None]
        return [node.consensus.voters.epoch for node in nodes]

    def check_whole(self) -> None:
        """At the end, after some quiet: one mesh, one state, and everybody in their place."""
        report = self.swarm.report()
        nodes = [host.node for host in self.swarm.hosts if host.node is not None]
        said = f"{report}\nreplay: {REPLAY.format(seed=report.seed)}"
        assert len(nodes) == len(self.weights), f"a board is off: {said}"
        assert self.owners.content, f"a wish of the owners was not carried out: {said}"
        assert len(set(report.heights)) == 1, f"boards are left behind: {said}"
        assert len({node.application.ledger.root for node in nodes}) == 1, f"two states: {said}"
        assert len(set(self.epochs())) == 1, f"two epochs: {self.epochs()} {said}"
        waiting = [len(list(node.application.pool)) for node in nodes]
        assert not any(waiting), f"ops wait for ever: {waiting} {said}"
        voting = [node.consensus.voting for node in nodes]
        assert voting == [weight > 0 for weight in self.weights], f"{voting} vote: {said}"


def trouble(seed: int) -> Reform:
    """A seed's run: every kind of fault, and a change of members every six seconds or so."""
    chance = Random(f"{seed}/reform")
    faults = Faults(
        crash_s=chance.randrange(5, 30),
        disconnect_s=chance.randrange(5, 30),
        stall_s=chance.randrange(5, 30),
        deaf_s=chance.randrange(10, 60),
        mute_s=chance.randrange(10, 60),
        broker_s=chance.randrange(20, 120),
        longest_ms=chance.choice((1_000, 8_000, 20_000)),
        duplicate_ppm=chance.choice((0, 20_000)),
        calm_s=TROUBLE_S,
    )
    profile = chance.choice(("ethernet", "wifi", "poor-wifi"))
    reform = Reform(
        seed, voters=5, observers=1, newcomers=1, profile=profile, faults=faults, every_ms=800
    )
    reform.swarm.heap.after(4 * SECOND, lambda: _change(reform, chance))
    joins_s = TROUBLE_S + 1  # at the latest
    reform.swarm.heap.at(joins_s * SECOND, lambda: reform.want(6, chance.randrange(3)))
    return reform


def _change(reform: Reform, chance: Random) -> None:
    """One change, if the last one is through: with one board less the others still decide."""
    heap, weights = reform.swarm.heap, reform.weights
    if heap.now >= TROUBLE_S * SECOND:
        return
    if reform.owners.content:
        board = chance.randrange(len(weights))
        others = sum(weights) - weights[board]
        if chance.randrange(2) and 3 * others > 2 * sum(weights):
            if chance.randrange(2):
                reform.lose_journal(board)
            reform.renew(board)
        elif others >= 3:
            reform.want(board, chance.randrange(3))
    heap.after(chance.randrange(8 * SECOND), lambda: _change(reform, chance))
