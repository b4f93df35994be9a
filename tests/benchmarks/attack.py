"""Floods against four real voters: finality at rest and under each, in turns of one run.

The attacker is one process without any key, on a broker without passwords, and sends as fast as one
core can. Its victim is the first voter: it forges in its name, on its topics.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks import boards, floor
from benchmarks.onlooker import PATIENCE_S, Onlooker
from benchmarks.plan import Plan
from benchmarks.programs import BROKERS, Program, missing, running_broker
from benchmarks.row import Row, Skipped
from benchmarks.timing import percentile
from demesh.wire import identity
from demesh.wire.kinds import Reject

GROUP = "attack"

VOTERS = 4

PARTS = 4  # of each, rest and attack in turns, so that a slow spell of the machine falls on both
OPS = 25  # of one part
PART_S = 5.0  # a part ends with the op that is under way by then
PAUSE_S = 0.05  # between two ops, as in the group `consensus`
VICTIMS = 3  # every so many ops one is published on the victim's topic, as its owner's tools do

HEAT_S = 1.0  # until queues are as full as they get
COOL_S = 30.0  # a flood's remains are dealt with at the latest
COOL_OP_S = 0.5
QUICK = 3  # ops in a row that do not take as long
SHOW_S = 1.5  # state documents come once a second

# What mosquitto has without a configuration: an outgoing queue of a thousand messages a client.
QUEUED_MAX = 1000


@dataclass(frozen=True, slots=True)
class Flood:
    """Of what, and how: QoS 0 costs an attacker least, QoS 1 fills a broker's queues."""

    what: str
    qos: int = 0
    lines: int = 1

    @property
    def name(self) -> str:
        """For the table."""
        name = self.what if not self.qos else f"{self.what} at QoS {self.qos}"
        return name if self.lines == 1 else f"{name} by {self.lines} clients"

    @property
    def order(self) -> str:
        """For the attacker."""
        return f"{self.what} {self.qos} {self.lines}"


FLOODS = tuple(map(Flood, ("garbage", "oversize", "replayed", "forged")))
WORST = {"mosquitto": Flood("forged", qos=1), "embedded": Flood("forged", lines=32)}


@dataclass(slots=True)
class Spell:
    """Rest, or one flood: what all its parts came to."""

    seconds: float = 0.0
    final: list[int] = field(default_factory=list)  # ns, an op that took too long as PATIENCE_S
    lost: int = 0
    victims: list[bool] = field(default_factory=list)  # were its ops final in time?
    decided: int = 0
    led: int = 0  # of those, by the victim
    cpu_ns: int = 0  # of all voters

    def ms(self, percent: int) -> float:
        """Finality."""
        return percentile(self.final, percent) / 1e6

    @property
    def core_percent(self) -> float:
        """Of one core, one voter."""
        return self.cpu_ns / VOTERS / self.seconds / 1e7


@dataclass(slots=True)
class Found:
    """One flood beside the rest of the same run."""

    flood: Flood
    broker: str
    rest: Spell
    under: Spell
    sent: int = 0
    sent_bytes: int = 0
    sent_s: float = 0.0
    broker_ns: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    calm_s: list[float] = field(default_factory=list)  # until decisions were quick again


class Range:
    """A running mesh with its attacker."""

    def __init__(
        self, mesh: boards.Boards, programs: dict[str, Program], broker: Program,
        attacker: Program, onlooker: Onlooker,
    ) -> None:  # fmt: skip
        self._mesh, self._programs, self._broker = mesh, programs, broker
        self._attacker, self._onlooker = attacker, onlooker
        self._victim = mesh.identities[0].name
        self._publishers = (
            identity.device_id(bytes(mesh.identities[0].device_key.verify_key)), mesh.client,
        )  # fmt: skip
        self._nonce = 0

    async def measure(self, plan: Plan, flood: Flood, broker: str) -> Found:
        """Rest and flood in turns, as long as decisions are quick again after each flood."""
        found = Found(flood, broker, Spell(), Spell())
        await self._settle()
        rejects, dropped = await self._seen()
        for _ in range(plan.count(PARTS)):
            await self._part(found.rest, plan.count(OPS, 3))
            self._order(flood.order)
            await asyncio.sleep(HEAT_S)
            before = self._broker.cpu_ns
            await self._part(found.under, plan.count(OPS, 3))
            found.broker_ns += self._broker.cpu_ns - before
            sent, size, taken_ns = self._order("rest 0 0")
            found.sent += sent
            found.sent_bytes += size
            found.sent_s += taken_ns / 1e9
            found.calm_s.append(await self._settle())
            if found.calm_s[-1] >= COOL_S:
                break
        rejects_now, dropped_now = await self._seen()
        found.rejects, found.dropped = rejects_now - rejects, dropped_now - dropped
        return found

    async def _settle(self) -> float:
        """Seconds until decisions are quick again, COOL_S at most."""
        quick, began, taken = 0, time.monotonic(), 0.0
        while quick < QUICK and taken < COOL_S:
            final = await self._submit(self._publishers[1], COOL_OP_S)
            quick = 0 if final is None else quick + 1
            taken = time.monotonic() - began
        return taken if quick == QUICK else COOL_S

    async def _part(self, spell: Spell, count: int) -> None:
        led = set(self._onlooker.led)
        cpu, began = self._cpu_ns(), time.monotonic()
        for number in range(count):
            victims = number % VICTIMS == 0
            final = await self._submit(self._publishers[not victims], PATIENCE_S)
            spell.final.append(int(PATIENCE_S * 1e9) if final is None else final)
            spell.lost += final is None
            if victims:
                spell.victims.append(final is not None)
            await asyncio.sleep(PAUSE_S)
            if time.monotonic() - began > PART_S:
                break
        spell.seconds += time.monotonic() - began
        spell.cpu_ns += self._cpu_ns() - cpu
        new = [who for height, who in self._onlooker.led.items() if height not in led]
        spell.decided += len(new)
        spell.led += new.count(self._victim)

    async def _submit(self, publisher: bytes, patience_s: float) -> int | None:
        self._nonce += 1
        return await self._onlooker.submit(self._nonce, publisher, patience_s)

    async def _seen(self) -> tuple[Counter[str], int]:
        """Rejects and drops of all voters so far."""
        await asyncio.sleep(SHOW_S)
        rejects: Counter[str] = Counter()
        for counted in self._onlooker.rejects.values():
            rejects += counted
        return rejects, sum(self._onlooker.dropped.values())

    def _cpu_ns(self) -> int:
        return sum(program.cpu_ns for program in self._programs.values())

    def _order(self, order: str) -> tuple[int, int, int]:
        """Messages, bytes and ns of the flood before."""
        sent, size, taken_ns = map(int, self._attacker.ask(order).split())
        return sent, size, taken_ns


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """A mesh of its own for every flood: what one leaves behind must not fall on the next."""
    _, verify_ns = floor.signature_ns(plan.count(200, 5))
    for broker in BROKERS:
        if why := missing(broker):
            yield Skipped(GROUP, why)
            continue
        for flood in (*FLOODS, WORST[broker]):
            yield from rows_of(asyncio.run(measure(plan, broker, flood)), verify_ns)


async def measure(plan: Plan, broker: str, flood: Flood) -> Found:
    """Found a mesh, flood it."""
    mesh = boards.found(plan.folder / f"{broker}-{flood.order}".replace(" ", "-"), VOTERS)
    with running_broker(broker, plan.folder, QUEUED_MAX) as (server, port):
        command = [sys.executable, "-m", "benchmarks.attacker", str(port)]
        command.append(str(mesh.folder / "genesis.cbor"))
        attacker = Program(command, mesh.folder / "attacker.log", talks=True)
        try:
            with mesh.running(port) as programs:
                onlooker = Onlooker(mesh)
                async with onlooker.connected(port):
                    place = Range(mesh, programs, server, attacker, onlooker)
                    found = await place.measure(plan, flood, broker)
                for program in programs.values():
                    program.check()
        finally:
            attacker.stop()
    return found


def rows_of(found: Found, verify_ns: float) -> Iterator[Row]:
    """What one flood did, and what it cost."""
    rest, under = found.rest, found.under
    name = f"{found.flood.name} over {found.broker}"
    how = f"{len(under.final)} ops, {under.lost} not final in {PATIENCE_S:g} s; p50"
    how += f" {under.ms(50):.0f} ms, at rest {rest.ms(50):.0f}; {under.decided / under.seconds:.1f}"
    how += f" decisions a second, at rest {rest.decided / rest.seconds:.1f}; of the victim"
    how += f" {sum(under.victims)} of {len(under.victims)} ops in time, {under.led} of"
    how += f" {under.decided} decisions led (at rest {rest.led} of {rest.decided})"
    how += f"; quick again after {max(found.calm_s):.1f} s"
    how += " (not before the end)" if max(found.calm_s) >= COOL_S else ""
    yield Row(GROUP, f"finality p99, {name}", under.ms(99), "ms", how, rest.ms(99), "rest")
    taken = (sum(found.rejects.values()) + found.dropped) / VOTERS / found.sent_s
    codes = ", ".join(f"{code} {count:,}" for code, count in found.rejects.most_common(6))
    how = f"of {found.sent_bytes / found.sent:.0f} B; reference: looked at or dropped by a voter;"
    how += f" all voters: {codes}; dropped {found.dropped:,}"
    yield Row(GROUP, f"sent, {name}", found.sent / found.sent_s, "/s", how, taken, "taken")
    how = f"of one core, one voter; the broker's {found.broker_ns / under.seconds / 1e7:.0f} %"
    yield Row(GROUP, f"processor, {name}", under.core_percent, "%", how, rest.core_percent, "rest")
    if found.flood.what == "forged":
        verified = found.rejects[Reject.SIGNATURE.name] / VOTERS / found.sent_s
        how = f"{verified:.0f} refused a second at {verify_ns / 1000:.0f} us each, one voter"
        yield Row(GROUP, f"verification, {name}", verified * verify_ns / 1e7, "%", how)
