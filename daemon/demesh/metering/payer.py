"""The payer's side of one agreement: open, take, pay what the own meter confirms, end.

    OPENING --channel open--> TAKING --end--> ENDING --provider silent--> CLOSING
       |                        |               |                            |
       +------------------------+---- ledger ---+----------------------------+--> DONE

R-MET-21 Never released: more than min(cost(own units) + lead, escrow, what the reading asks).
R-MET-22 Vouchers are cumulative and monotone. After a restart the payer first reads its own meter
         and then goes on from the greatest of what it kept, what the ledger shows and what a RESYNC
         asks within R-MET-21; a lower voucher would be harmless, for only the greatest counts.
R-MET-23 One voucher answers one reading; a page seen again is answered again. Where the own meter
         lags behind, one more follows as soon as it confirms the whole.
R-MET-24 Equivocation (FORK, BEGIN) ends the session as DISPUTE. Any other bad reading is not
         answered, and its sender either asks again properly or ends unpaid.
R-MET-25 The payer ends when its flow stands still (DONE), its time is up (EXPIRY), or nothing has
         been heard of the provider for eight quanta (EMPTY).
R-MET-26 A channel that its payee does not close is closed by the payer after a minute. A channel
         that never opens is given up; should it open later it is closed, unused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from demesh.metering.meter import MeshClock, Meter
from demesh.metering.register import Rate, Verdict, judge
from demesh.metering.settlement import Settlement
from demesh.metering.tariff import AMOUNT_MAX, cost, units_for
from demesh.ports import MILLISECOND, SECOND, Actuate, Instant, Keep
from demesh.wire.intents import Act, Agreement, ChannelFact, Ended, Send, Submit
from demesh.wire.kinds import Reject
from demesh.wire.opbodies import OpenChannel
from demesh.wire.readings import End, EndReason, Reading, Voucher, Why
from demesh.wire.schema import U53, Bounds, encode

SPACE = "metering.payer"

# Below the provider's patience of 30 s, so that the payer gives up first and says so.
OPEN_WAIT_NS = 20 * SECOND

# Time for the provider to end by itself, take its last reading and close, twice its own margin.
SETTLE_MARGIN_S = 120

# The least a ledger allows (R-LED-11): a payee is back within an hour or has lost lag + L at most.
WINDOW_S = 3_600

# A provider that was killed is back in seconds and goes on; a dead one should not starve a home.
SILENT_QUANTA = 8

# The payee closes at once or its device is down; nobody loses by waiting, the escrow is just bound.
CLOSE_AFTER_NS = 60 * SECOND


class Phase(IntEnum):
    """Where the payer stands."""

    OPENING = 1
    TAKING = 2
    ENDING = 3
    CLOSING = 4
    DONE = 5


TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.OPENING: frozenset({Phase.TAKING, Phase.DONE}),
    Phase.TAKING: frozenset({Phase.ENDING, Phase.DONE}),
    Phase.ENDING: frozenset({Phase.CLOSING, Phase.DONE}),
    Phase.CLOSING: frozenset({Phase.DONE}),
    Phase.DONE: frozenset(),
}


@dataclass(frozen=True, slots=True)
class PayerEntry:
    """What a payer keeps of one agreement."""

    agreement: Agreement
    phase: Phase
    channel: Annotated[bytes, Bounds(0, 16)]
    expiry_s: U53
    escrow: U53
    base: U53
    last: U53
    cum: U53
    reading: Reading | None


class Payer:
    """State machine of one purchase; inputs come with `now`, effects go out as a list."""

    def __init__(self, agreement: Agreement, clock: MeshClock, now: Instant) -> None:
        self.agreement = agreement
        self.phase = Phase.OPENING
        self.channel_id = b""
        self.cum = 0
        self.rejected: Reject | None = None
        self.verdict = Verdict.OK
        self.meter = Meter(agreement.power_w)
        self._clock = clock
        self._quantum_ns = agreement.offer.quantum_ms * MILLISECOND
        self._expiry_s = self._escrow = 0
        self._reading: Reading | None = None
        self._early: Reading | None = None
        self._owing = False
        self._fresh = True
        self._read_at: Instant | None = None
        self._heard_at: Instant = now
        self._due: Instant = now + OPEN_WAIT_NS
        self._settlement: Settlement | None = None

    @classmethod
    def restore(cls, entry: PayerEntry, clock: MeshClock, now: Instant) -> Payer:
        """The machine as its kept entry left it; nothing flows until `channel` says it is open."""
        self = cls(entry.agreement, clock, now)
        self.phase, self.channel_id = entry.phase, entry.channel
        self._expiry_s, self._escrow, self.cum = entry.expiry_s, entry.escrow, entry.cum
        self.meter = Meter(entry.agreement.power_w, entry.base, entry.last)
        self._reading = entry.reading
        self._fresh = False
        if self.phase is Phase.ENDING:
            self._due = now + CLOSE_AFTER_NS
        elif self.phase is Phase.CLOSING:
            self._settlement = Settlement(entry.channel, now)
        return self

    # -- what it is told -------------------------------------------------------------------------

    def start(self, now: Instant) -> list[Act]:
        """The agreement stands: escrow what it may cost, until well after its time is up."""
        duration_s = self.agreement.duration_s + SETTLE_MARGIN_S
        body = OpenChannel(
            payee=self.agreement.provider,
            escrow=self.agreement.escrow,
            expiry_s=self._clock.time_s(now) + duration_s,
            window_s=WINDOW_S,
            agreement=self.agreement.id,
            splits=(),
        )
        return [self._keep(urgent=True), Submit(body)]

    def resume(self) -> list[Act]:
        """After `restore`: whatever the device still does for this agreement ends."""
        return [Actuate(self.agreement.id, 0)]

    def channel(self, fact: ChannelFact, now: Instant) -> list[Act]:
        """What the ledger says of this agreement's channel."""
        if not fact.open:
            return self._gone(now)
        self.cum = max(self.cum, fact.claimed)
        acts: list[Act] = []
        if self.phase is Phase.OPENING:
            self.channel_id, self._expiry_s = fact.channel, fact.expiry_s
            self._escrow = fact.escrow
            self._enter(Phase.TAKING)
            acts += [self._keep(), *self._take(now)]
        elif self.phase is Phase.TAKING and not self.meter.running:
            acts += self._take(now)
        early, self._early = self._early, None
        if early is not None:
            acts += self.reading(early, now)
        return acts + self.tick(now)

    def reading(self, reading: Reading, now: Instant) -> list[Act]:
        """The provider's register and what it asks for; answered by a voucher."""
        if self.phase is Phase.OPENING or not self._fresh:
            self._early = reading  # the newest; its sender repeats what matters
            return []
        if self.phase is Phase.DONE or reading.channel != self.channel_id:
            self.rejected = Reject.INVALID
            return []
        self.verdict = self._judge(reading, now)
        if self.verdict not in (Verdict.OK, Verdict.AGAIN):
            stale = self.verdict in (Verdict.STALE, Verdict.GAP)
            self.rejected = Reject.STALE if stale else Reject.INVALID
            broken = self.verdict in (Verdict.FORK, Verdict.BEGIN)
            return self._end(EndReason.DISPUTE, now) if broken else []
        self._heard_at = now
        if self.verdict is Verdict.OK:
            self._reading, self._read_at = reading, now
        acts = self._pay(reading)
        if self.phase is Phase.TAKING:
            return acts + (self._finish(now) if reading.why is Why.FINAL else [])
        if reading.why is not Why.FINAL:  # our End was lost
            acts.append(Send(self.agreement.provider, self._end_message(EndReason.DONE)))
        return acts

    def end(self, end: End, now: Instant) -> list[Act]:
        """The provider is done; `end` may also say that it never began."""
        if self.phase is Phase.OPENING:
            return self._drop()
        return self._finish(now) if self.phase is Phase.TAKING else []

    def measured(self, register: int | None, now: Instant) -> list[Act]:
        """The own meter's register of this flow; None if the driver does not know the flow."""
        if register is not None:
            self.meter.read(register, now)
        acts: list[Act] = []
        if not self._fresh:
            self._fresh = True
            early, self._early = self._early, None
            if early is not None and self.phase is not Phase.OPENING:
                acts += self.reading(early, now)
        if self._owing and self._reading is not None and self._most() >= self._reading.need:
            acts += self._pay(self._reading)
        if self.phase is Phase.TAKING and self.meter.running and register is None:
            acts.append(Actuate(self.agreement.id, -self.agreement.power_w))
        return acts + self.tick(now)

    def tick(self, now: Instant) -> list[Act]:
        """Do what the time asks for."""
        if self.phase is Phase.TAKING:
            reason = self._reason_to_end(now)
            return [] if reason is None else self._end(reason, now)
        if self.phase is Phase.CLOSING:
            assert self._settlement is not None
            return self._settlement.tick(b"", now)
        if self.phase is Phase.DONE or now < self._due:
            return []
        if self.phase is Phase.OPENING:
            return [
                Send(self.agreement.provider, self._end_message(EndReason.DONE)),
                *self._drop(),
            ]
        self._enter(Phase.CLOSING)
        self._settlement = Settlement(self.channel_id, now)
        return [self._keep(), *self._settlement.tick(b"", now)]

    def stop(self, now: Instant) -> list[Act]:
        """The daemon ends: no more taking; readings are still answered while it lasts."""
        return self._end(EndReason.STOPPING, now) if self.phase is Phase.TAKING else []

    def deadline(self) -> Instant | None:
        """When `tick` has something to do at the latest."""
        if self.phase is Phase.DONE:
            return None
        if self.phase is Phase.CLOSING:
            assert self._settlement is not None
            return self._settlement.due
        if self.phase is not Phase.TAKING:
            return self._due
        times = [
            self._heard_at + SILENT_QUANTA * self._quantum_ns,
            self._clock.reaches(self._expiry_s - SETTLE_MARGIN_S),
        ]
        still_at = self.meter.still_at(self._quantum_ns)
        return min(times if still_at is None else [*times, still_at])

    # -- paying ----------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Nothing is left to do or to keep."""
        return self.phase is Phase.DONE

    @property
    def in_service(self) -> bool:
        """Before the end of the service: the market counts with this agreement."""
        return self.phase in (Phase.OPENING, Phase.TAKING)

    @property
    def units(self) -> int:
        """Units of this agreement, by the own meter."""
        return self.meter.units

    def _most(self) -> int:
        """R-MET-21 without the reading."""
        own = cost(self.agreement.offer.tariff, self.units)
        return min(own + self.agreement.offer.lead, self._escrow)

    def _pay(self, reading: Reading) -> list[Act]:
        bound = min(self._most(), reading.need)
        self._owing = bound < reading.need
        self.cum = max(self.cum, bound)
        voucher = Voucher(self.channel_id, 0, self.cum)
        return [self._keep(), Send(self.agreement.provider, voucher)]

    def _judge(self, reading: Reading, now: Instant) -> Verdict:
        terms = self.agreement.offer
        elapsed_ms = None if self._read_at is None else (now - self._read_at) // MILLISECOND
        return judge(self._reading, reading, terms.tariff, self._rate(), elapsed_ms)

    def _rate(self) -> Rate:
        """A provider serves at most lead + lag ahead of each quantum's voucher, so that is how fast
        its register can run, however fast the metered world runs; one quantum more is jitter."""
        terms = self.agreement.offer
        units = 0 if self._reading is None else self._reading.register - self._reading.begin
        credit = cost(terms.tariff, units) + terms.lead + terms.lag
        per_quantum = max(1, units_for(terms.tariff, credit, AMOUNT_MAX) - units)
        return Rate(per_quantum, max(1, terms.quantum_ms), per_quantum)

    # -- the flow and its end --------------------------------------------------------------------

    def _take(self, now: Instant) -> list[Act]:
        self.meter.run(now)
        self._heard_at = now
        return [Actuate(self.agreement.id, -self.agreement.power_w)]

    def _reason_to_end(self, now: Instant) -> EndReason | None:
        if self._clock.time_s(now) + SETTLE_MARGIN_S >= self._expiry_s:
            return EndReason.EXPIRY
        still_at = self.meter.still_at(self._quantum_ns)
        if still_at is not None and now >= still_at:
            return EndReason.DONE
        if now >= self._heard_at + SILENT_QUANTA * self._quantum_ns:
            return EndReason.EMPTY
        return None

    def _end(self, reason: EndReason, now: Instant) -> list[Act]:
        """Ours to end: say so."""
        if self.phase is not Phase.TAKING:
            return []
        return [Send(self.agreement.provider, self._end_message(reason)), *self._finish(now)]

    def _end_message(self, reason: EndReason) -> End:
        return End(self.agreement.id, reason, self.units)

    def _finish(self, now: Instant) -> list[Act]:
        self._enter(Phase.ENDING)
        self.meter.halt(now)
        self._due = now + CLOSE_AFTER_NS
        return [
            self._keep(urgent=True),
            Actuate(self.agreement.id, 0),
            Ended(self.agreement.id),
        ]

    def _gone(self, now: Instant) -> list[Act]:
        """The channel is settled or expired."""
        if self.phase is Phase.DONE:
            return []
        in_service = self.in_service
        acts = self._forget()
        if in_service:
            self.meter.halt(now)
            acts += [Actuate(self.agreement.id, 0), Ended(self.agreement.id)]
        return acts

    def _drop(self) -> list[Act]:
        return [*self._forget(), Ended(self.agreement.id)]

    def _forget(self) -> list[Act]:
        self._enter(Phase.DONE)
        return [Keep(SPACE, self.agreement.id, None)]

    def _keep(self, *, urgent: bool = False) -> Keep:
        entry = PayerEntry(
            agreement=self.agreement,
            phase=self.phase,
            channel=self.channel_id,
            expiry_s=self._expiry_s,
            escrow=self._escrow,
            base=self.meter.base,
            last=self.meter.last,
            cum=self.cum,
            reading=self._reading,
        )
        return Keep(SPACE, self.agreement.id, encode(entry), urgent=urgent)

    def _enter(self, phase: Phase) -> None:
        assert phase in TRANSITIONS[self.phase], f"{self.phase.name} -> {phase.name}"
        self.phase = phase
