"""A swarm: many real nodes on one heap, in virtual time, under a schedule of faults.

A run is a function of its members, its genesis and its seed. All chance comes from generators that
are derived from the seed, one per purpose, so that more faults do not change the latencies.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from demesh.errors import DemeshError
from demesh.ports import MILLISECOND, SECOND, Instant
from demesh.wire import identity
from demesh.wire.messages import Genesis
from demesh_sim.checkers import Checkers, Electorate, Run, Violation
from demesh_sim.exposure import PromiseChecker
from demesh_sim.faults import NO_FAULTS, Fault, Faults, Strike, strikes
from demesh_sim.heap import Heap
from demesh_sim.hosts import Host, Member
from demesh_sim.letters import Letters
from demesh_sim.lies import Lie, LyingBroker
from demesh_sim.links import Profile
from demesh_sim.network import Network
from demesh_sim.trace import Finality, Trace
from demesh_sim.witness import Witness

# Boards are not switched on at one instant: a street's power comes back within about a second.
BOOT_WITHIN_NS = 1 * SECOND

# From power to a running daemon: never at once, or a crash would be no more than a lost connection.
REBOOT_NS = 500 * MILLISECOND


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to. `digest` is equal for equal seeds."""

    seed: int
    digest: str
    simulated_ns: Instant
    wall_ns: int
    events: int
    turns: int
    packets: int
    checked: int
    strikes: int
    heights: tuple[int, ...]
    finality_p50_ms: int | None
    finality_p99_ms: int | None

    @property
    def blocks(self) -> int:
        """The greatest height on any board's disk."""
        return max(self.heights, default=0)

    @property
    def common_height(self) -> int:
        """The height that every board's disk has reached."""
        return min(self.heights, default=0)

    def lines(self) -> list[str]:
        """For people."""
        wall_ms, simulated_ms = self.wall_ns // MILLISECOND, self.simulated_ns // MILLISECOND
        faster = simulated_ms * 10 // max(1, wall_ms)
        rate = self.events * 1000 // max(1, wall_ms)
        return [
            f"seed {self.seed}: {simulated_ms // 1000} s simulated in {wall_ms // 1000}."
            f"{wall_ms % 1000:03d} s, {faster // 10}.{faster % 10} x real time",
            f"{self.events} events ({rate} a second), {self.turns} turns, {self.packets} packets, "
            f"{self.strikes} faults, {self.checked} checks, 0 violations",
            f"{self.blocks} blocks ({self.common_height} on every board), proposal to disk "
            f"p50 {self.finality_p50_ms} ms, p99 {self.finality_p99_ms} ms",
            f"trace {self.digest}",
        ]


class Swarm:
    """Boards, a broker, faults and witnesses; `run` moves virtual time."""

    def __init__(
        self,
        members: Sequence[Member],
        genesis: Genesis,
        seed: int,
        profile: Profile,
        faults: Faults = NO_FAULTS,
        *,
        witnesses: Sequence[Witness] = (),
        replay: str = "",
        log: list[str] | None = None,
        minds: Sequence[Sequence[type[Lie]]] = ((),),
    ) -> None:
        """One broker for each of `minds`, the ways in which it lies; an honest one has none."""
        self.seed = seed
        self.heap = Heap()
        self.networks = [
            Network(
                self.heap,
                Random(f"{seed}/network" + (f"/{number}" if number else "")),
                profile,
                duplicate_ppm=faults.duplicate_ppm,
            )
            for number in range(len(minds))
        ]
        run = Run(seed, replay or f"Swarm(..., seed={seed})")
        names = [member.identity.name for member in members]
        ids = [
            identity.device_id(bytes(member.identity.device_key.verify_key)) for member in members
        ]
        self.checkers = Checkers(run, names, ids, founders(genesis))
        for number, ways in enumerate(minds):
            if ways:
                dice = Random(f"{seed}/liar/{number}")
                texts = tuple(identity.text(id) for id in ids)
                garbage = partial(_garbage, dice)
                self.networks[number].corrupt(LyingBroker(dice, texts, garbage, tuple(ways)))
        letters = Letters(member.identity.device_key for member in members)
        self.promises = PromiseChecker(run, names)
        self._trace, self._finality = Trace(log), Finality()
        watching = (self._trace, self.checkers, self.promises, self._finality, *witnesses)
        self.hosts = [
            Host(
                index,
                member,
                genesis,
                self.heap,
                self.networks,
                Random(f"{seed}/host/{index}"),
                watching,
                letters,
            )
            for index, member in enumerate(members)
        ]
        self._wall_ns = 0
        self._strikes = 0
        if profile.outage_s:
            # Outages of one link, as a fault of the whole swarm.
            outage_s = max(1, profile.outage_s // len(members))
            shorter = min(s for s in (faults.stall_s, outage_s) if s)
            faults = replace(faults, stall_s=shorter)
        self._schedule(strikes(faults, len(members), Random(f"{seed}/faults")))
        power = Random(f"{seed}/power")
        for host in self.hosts:
            self.heap.at(power.randrange(BOOT_WITHIN_NS), host.boot)

    @property
    def network(self) -> Network:
        """The first broker and everybody's links to it."""
        return self.networks[0]

    # -- running ----------------------------------------------------------------------------------

    def run(self, until_s: int) -> None:
        """Run to `until_s` of virtual time; raises Violation, or what a node raised."""
        began = time.perf_counter_ns()
        try:
            self.heap.run(until_s * SECOND)
        except Violation:
            raise
        except (AssertionError, LookupError, TypeError, ValueError, DemeshError) as error:
            ms = self.heap.now // MILLISECOND
            error.add_note(f"at {ms} ms of a run with seed {self.seed}")
            raise
        finally:
            self._wall_ns += time.perf_counter_ns() - began

    def stop(self) -> None:
        """Ask every running daemon to end; run some seconds more for their last words."""
        for host in self.hosts:
            if host.running:
                host.stop()

    def report(self) -> Report:
        """What the run came to so far."""
        return Report(
            seed=self.seed,
            digest=self._trace.digest,
            simulated_ns=self.heap.now,
            wall_ns=self._wall_ns,
            events=self.heap.events,
            turns=sum(host.turns for host in self.hosts),
            packets=sum(network.packets for network in self.networks),
            checked=self.checkers.checked + self.promises.checked,
            strikes=self._strikes,
            heights=self.checkers.heights(),
            finality_p50_ms=self._finality.percentile_ms(50),
            finality_p99_ms=self._finality.percentile_ms(99),
        )

    # -- faults -----------------------------------------------------------------------------------

    def _schedule(self, coming: Iterator[Strike]) -> None:
        strike = next(coming, None)
        if strike is not None:
            self.heap.at(strike.at, lambda: self._strike(strike, coming))

    def _strike(self, strike: Strike, coming: Iterator[Strike]) -> None:
        host, until = self.hosts[strike.board], self.heap.now + strike.lasts_ns
        number = self._strikes % len(self.networks)
        network = self.networks[number]
        self._strikes += 1
        if strike.fault is Fault.BROKER:
            network.restart_broker(strike.lasts_ns)
        elif host.uplinks is not None:
            client = host.uplinks.clients[number]
            match strike.fault:
                case Fault.CRASH:
                    host.crash()
                    self.heap.at(until + REBOOT_NS, host.boot)
                case Fault.DISCONNECT:
                    network.disconnect(client)
                case Fault.STALL:
                    network.stall(client, until)
                case Fault.DEAF:
                    network.stall(client, until, up=False)
                case Fault.MUTE:
                    network.stall(client, until, down=False)
        self._schedule(coming)


def _garbage(dice: Random) -> bytes:
    """What a liar retains in place of a message: nothing at all, or anything."""
    return dice.randbytes(dice.choice((0, 0, 1, 40, 400)))


def founders(genesis: Genesis) -> Electorate:
    """The voters of a genesis."""
    devices = [device for device in genesis.body.devices if device.weight]
    return Electorate(
        tuple(identity.device_id(device.certificate.device_key) for device in devices),
        tuple(identity.device_id(device.certificate.vote_key) for device in devices),
        tuple(device.weight for device in devices),
    )
