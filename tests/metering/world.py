"""A provider, a payer, a network that may do anything to messages, and a ledger that only obeys.

The world executes a turn's effects as the shell does (persist in one piece, then publish, then
actuate) and can die before, between and after them. Registers are the devices' and survive; flows
end with the daemon. After every event the promises to both sides are checked on the devices' own
registers, not on what the machines believe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from demesh.metering.provider import SPACE, ProviderEntry
from demesh.metering.sessions import Metering
from demesh.metering.tariff import cost
from demesh.ports import MILLISECOND, SECOND, Actuate, Instant, Keep, Measurement
from demesh.wire.intents import Act, Agreement, ChannelFact, Ended, Send, Submit
from demesh.wire.offers import Offer, Tariff, Tier
from demesh.wire.opbodies import Close, OpenChannel
from demesh.wire.readings import End, EndReason, Reading, Voucher
from demesh.wire.schema import decode, encode

PROVIDER, PAYER = b"P" * 16, b"B" * 16
SAMPLE = 100 * MILLISECOND
EPOCH_S = 1_700_000_000


def offer(**changes: object) -> Offer:
    """10 micro-credits a unit, a quantum of a second, 400 on trust, 100 of meter difference."""
    tariff = Tariff("Wh", 0, 0, None, (Tier(None, 10, 1),))
    standard = Offer(1, "energy", tariff, 3000, 1000, 1000, 100, 400)
    return replace(standard, **changes)


def agreement(terms: Offer | None = None, duration_s: int = 30) -> Agreement:
    """What PROVIDER and PAYER agreed on."""
    terms = terms or offer()
    escrow = cost(terms.tariff, terms.units_max)
    return Agreement(b"A" * 16, PROVIDER, PAYER, terms, 2000, terms.units_max, escrow, duration_s)


class KilledError(Exception):
    """The process was killed in the middle of a turn."""


@dataclass
class Side:
    """One device: its meter and store survive, its daemon may not."""

    me: bytes
    metering: Metering | None = None
    registers: dict[bytes, int] = field(default_factory=dict)
    powers: dict[bytes, int] = field(default_factory=dict)
    durable: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    written: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    ended: int = 0


@dataclass
class Channel:
    """A channel on the model ledger."""

    fact: ChannelFact
    closes_at_s: int
    paid: int | None = None


class World:
    """See the module. `log` is a readable transcript: who, what."""

    def __init__(self, terms: Agreement, step_max: int = 4) -> None:
        self.now: Instant = 5 * SECOND
        self.terms = terms
        self.step_max = step_max
        self.sides = {PROVIDER: Side(PROVIDER), PAYER: Side(PAYER)}
        self.network: list[tuple[bytes, bytes, object]] = []
        self.ops: list[tuple[bytes, object]] = []
        self.channels: dict[bytes, Channel] = {}
        self.log: list[str] = []
        self.executed = 0
        self.kill_at: int | None = None
        self.synced = False
        self.disputes = self.deaths = 0
        self.released = 0
        self.cut: dict[bytes, Instant] = {}  # who hears nothing of the ledger, since when

    # -- daemons ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Both daemons run and the agreement stands."""
        for side in (PROVIDER, PAYER):
            self.boot(side)
        self.turn(PROVIDER, lambda m: m.start(self.terms, self.now))
        self.turn(PAYER, lambda m: m.start(self.terms, self.now))

    def boot(self, who: bytes) -> None:
        """Start or restart a daemon from what its store holds."""
        side = self.sides[who]
        side.written = dict(side.durable)
        kept = tuple((space, key, value) for (space, key), value in side.durable.items())
        try:
            side.metering = Metering(who, kept, lambda now: self.clock_s(who, now), self.now)
        finally:
            self.say(who, "boots")
        for channel in self.channels.values():
            if channel.paid is None:
                self.turn(
                    who, lambda m, c=channel: m.channel(c.fact, self.time_s(self.now), self.now)
                )
        self.turn(who, lambda m: m.tick(self.now))

    def kill(self, who: bytes) -> None:
        """SIGKILL. With `synced`, what was written but not urgent happened to reach the disk."""
        side = self.sides[who]
        side.metering = None
        side.powers.clear()
        if self.synced:
            side.durable = dict(side.written)
        self.deaths += 1
        self.say(who, "dies")

    def turn(self, who: bytes, step: Callable[[Metering], list[Act]]) -> None:
        """One input of a daemon, if it runs, and its effects in the shell's order."""
        side = self.sides[who]
        if side.metering is None:
            return
        acts = step(side.metering)
        try:
            self._execute(side, acts)
        except KilledError:
            self.kill(who)
        self.check()

    def _execute(self, side: Side, acts: Sequence[Act]) -> None:
        keeps = [act for act in acts if isinstance(act, Keep)]
        if keeps:
            self._alive()
            self._persist(side, keeps)
        for act in acts:
            if isinstance(act, Send):
                self._alive()
                self._send(side.me, act)
            elif isinstance(act, Submit):
                self._alive()
                self.ops.append((side.me, act.body))
                self.say(side.me, f"submits {type(act.body).__name__}")
            elif isinstance(act, Ended):
                side.ended += 1
        for act in acts:
            if isinstance(act, Actuate):
                self._alive()
                side.powers[act.flow] = act.power_w
                side.registers.setdefault(act.flow, 0)
                self.say(side.me, f"flow {act.power_w} W")

    def _alive(self) -> None:
        if self.kill_at is not None and self.executed >= self.kill_at:
            self.kill_at = None
            raise KilledError
        self.executed += 1

    def _persist(self, side: Side, keeps: Sequence[Keep]) -> None:
        """One transaction; an urgent entry takes everything written before it along."""
        for keep in keeps:
            if keep.value is None:
                side.written.pop((keep.space, keep.key), None)
            else:
                side.written[keep.space, keep.key] = keep.value
        if any(keep.urgent for keep in keeps):
            side.durable = dict(side.written)

    def _send(self, sender: bytes, send: Send) -> None:
        message = send.message
        self.network.append((sender, send.to, message))
        if isinstance(message, Voucher):
            self.released = max(self.released, message.cum)
            self.say(sender, f"voucher {message.cum}")
        elif isinstance(message, Reading):
            self.say(
                sender,
                f"reading {message.page} {message.why.name} at {message.register}"
                f" needs {message.need}",
            )
        elif isinstance(message, End):
            self.say(sender, f"end {message.reason.name} {message.units}")
            self.disputes += message.reason is EndReason.DISPUTE

    # -- the world around ------------------------------------------------------------------------

    def time_s(self, now: Instant) -> int:
        """Mesh time."""
        return EPOCH_S + now // SECOND

    def clock_s(self, who: bytes, now: Instant) -> int:
        """Mesh time as a side reads it; an hour after its last block it stands still."""
        return self.time_s(min(now, self.cut.get(who, now) + 3_600 * SECOND))

    def deliver(self, place: int, *, keep: bool = False) -> None:
        """Hand over the message at `place`; with `keep` another copy stays on its way."""
        sender, to, message = self.network[place] if keep else self.network.pop(place)
        now = self.now
        if isinstance(message, Voucher):
            frame = encode(message)
            self.turn(to, lambda m: m.receive_voucher(sender, message, frame, now))
        elif isinstance(message, Reading):
            self.turn(to, lambda m: m.receive_reading(sender, message, now))
        elif isinstance(message, End):
            self.turn(to, lambda m: m.receive_end(sender, message, now))

    def decide(self) -> None:
        """A block with the oldest op, if it reached a voter."""
        signer, body = self.ops.pop(0)
        if signer in self.cut:
            return
        if isinstance(body, OpenChannel):
            self._open(signer, body)
        elif isinstance(body, Close):
            self._close(signer, body)

    def _open(self, payer: bytes, body: OpenChannel) -> None:
        if body.expiry_s <= self.time_s(self.now):
            return
        seed = encode(body) + bytes([len(self.channels)])
        id = hashlib.blake2b(seed, digest_size=16).digest()
        fact = ChannelFact(
            id, body.agreement, payer, body.payee, body.escrow, 0, body.expiry_s, False, True,
            body.window_s,
        )  # fmt: skip
        self.channels[id] = Channel(fact, body.expiry_s + body.window_s)
        self.say(b"ledger", f"opens for {body.escrow}")
        self._tell(fact)

    def _close(self, signer: bytes, body: Close) -> None:
        channel = self.channels[body.channel]
        if channel.paid is not None:
            return
        claimed = channel.fact.claimed
        if body.voucher:
            claimed = max(claimed, decode(Voucher, body.voucher).cum)
        if signer == PROVIDER:
            self._settle(channel, claimed)
        elif not channel.fact.closing:
            channel.closes_at_s = self.time_s(self.now) + channel.fact.window_s
            channel.fact = replace(channel.fact, claimed=claimed, closing=True)
            self._tell(channel.fact)

    def _settle(self, channel: Channel, claimed: int) -> None:
        channel.paid = min(claimed, channel.fact.escrow)
        self.say(b"ledger", f"pays {channel.paid}")
        channel.fact = replace(channel.fact, claimed=claimed, closing=True, open=False)
        self._tell(channel.fact)

    def _tell(self, fact: ChannelFact) -> None:
        for who in (PROVIDER, PAYER):
            if who not in self.cut:
                self._decided(who)
                self.turn(who, lambda m: m.channel(fact, self.time_s(self.now), self.now))

    def _decided(self, who: bytes) -> None:
        """A block becomes final, and a side hears of it unless it is cut off."""
        metering = self.sides[who].metering
        if metering is not None and who not in self.cut:
            metering.decided(self.time_s(self.now))

    def join(self, who: bytes) -> None:
        """A side that was cut off hears of the ledger again."""
        del self.cut[who]
        for channel in self.channels.values():
            self._tell(channel.fact)

    def pass_time(self, after: Instant, steps: tuple[int, int]) -> None:
        """Time passes: flows move so many units at each side, then meters and timers are read."""
        self.now += after
        for (who, side), units in zip(self.sides.items(), steps, strict=True):
            for flow, power_w in side.powers.items():
                side.registers[flow] += units if power_w else 0
            flows = tuple(side.registers.items())
            self._decided(who)
            self.turn(who, lambda m, f=flows: m.measured(Measurement(0, flows=f), self.now))
            self.turn(who, lambda m: m.tick(self.now))
        for channel in self.channels.values():
            if channel.paid is None and self.time_s(self.now) >= channel.closes_at_s:
                self._settle(channel, channel.fact.claimed)

    # -- promises --------------------------------------------------------------------------------

    def units(self, who: bytes) -> int:
        """What this side's meter counted, by the device itself."""
        return self.sides[who].registers.get(self.terms.id, 0)

    @property
    def settled(self) -> bool:
        """Every channel is paid out and forgotten by every living daemon."""
        forgotten = all(
            not side.metering.documents() for side in self.sides.values() if side.metering
        )
        return forgotten and all(c.paid is not None for c in self.channels.values())

    @property
    def over(self) -> bool:
        """Settled, and nothing is on its way that could change it."""
        return self.settled and not self.ops and not self.network

    @property
    def paid(self) -> int:
        """What the payer lost to all channels."""
        return sum(channel.paid or 0 for channel in self.channels.values())

    def check(self) -> None:
        """What holds at every instant."""
        offer = self.terms.offer
        own = cost(offer.tariff, self.units(PAYER)) if self.units(PAYER) else 0
        assert self.released <= min(own + offer.lead, self.terms.escrow), "R-MET-21"
        assert self.paid <= own + offer.lead, "payer's loss <= lead"
        assert self.disputes == 0, "an honest side was accused"
        delivered = cost(offer.tariff, self.units(PROVIDER))
        # One sample may bring more than the largest one before it: nobody can know that sooner.
        surprise = cost(offer.tariff, self.step_max)
        assert delivered - self._sure() <= 2 * offer.lag + surprise, "payee's loss <= lag + L"

    def _sure(self) -> int:
        """What the provider gets even if it is killed now and the payer is never seen again."""
        kept = self.sides[PROVIDER].durable.get((SPACE, self.terms.id))
        claim = decode(ProviderEntry, kept).claim if kept else 0
        return max(claim, self.paid)

    def say(self, who: bytes, what: str) -> None:
        """A line of the transcript."""
        name = {PROVIDER: "provider", PAYER: "payer"}.get(who, "ledger")
        self.log.append(f"{self.now // MILLISECOND:>6} {name}: {what}")


def run_fair(
    world: World, seconds: int, steps: tuple[int, int], *, restart_after: int | None = None
) -> None:
    """Everything arrives within a sample, every op is decided within three, until all is settled.

    A side that died boots again `restart_after` samples later (None: never).
    """
    down = dict.fromkeys(world.sides, 0)
    for sample in range(seconds * 10):
        for who, side in world.sides.items():
            down[who] = 0 if side.metering else down[who] + 1
            if restart_after is not None and down[who] > restart_after:
                world.boot(who)
        world.pass_time(SAMPLE, steps)
        while world.network:
            world.deliver(0)
        if world.ops and sample % 3 == 0:
            world.decide()
        if world.channels and world.over:
            return


def run_out(world: World) -> None:
    """Two hours pass: long enough for every retry, expiry and window."""
    for _ in range(720):
        if world.over:
            return
        world.pass_time(10 * SECOND, (0, 0))
        while world.network:
            world.deliver(0)
        while world.ops:
            world.decide()
