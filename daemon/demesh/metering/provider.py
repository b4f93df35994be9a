"""The provider's side of one agreement: serve on trust up to a limit, ask, be paid, settle.

    WAITING --channel open--> SERVING <--credit--> HELD
       |                         |                  |
       |                         +----- end --------+
       v                         v
      DONE <--ledger-- SETTLING <-- FINAL <-- STOPPING

R-MET-13 The next unit is served only if cost(U + du) <= best claim + lag, where du is the step one
         sample may add, and it fits escrow, units_max and the time to expiry.
R-MET-14 best claim - durable claim <= L = lag: a voucher that would break this is made durable
         before anything else happens, so cost(U + du) <= durable claim + lag + L always holds.
R-MET-15 One reading per quantum, numbered and durable in order: after a restart page numbers jump
         ahead of everything that can have been sent, and the reading says RESYNC.
R-MET-16 A reading that stays unpaid for two quanta ends the service: UNPAID.
R-MET-17 The end is: flow off, one more sample, FINAL reading, at most two quanta for the last
         voucher, then Close with the best one. A crash anywhere resumes there.
R-MET-18 The flow ends with the daemon; a restarted provider serves again only once the ledger shows
         its channel open and the device its register.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from demesh.metering.credit import Credit
from demesh.metering.meter import QUANTA_PATIENCE, MeshClock, Meter
from demesh.metering.register import Pages
from demesh.metering.settlement import Settlement
from demesh.metering.tariff import cost
from demesh.metering.term import Term
from demesh.ports import MILLISECOND, SECOND, Actuate, Instant, Keep
from demesh.wire.intents import Act, Agreement, ChannelFact, Ended, Send
from demesh.wire.kinds import Reject
from demesh.wire.readings import End, EndReason, Reading, Voucher, Why
from demesh.wire.schema import U8, U32, U53, Bounds, encode

SPACE = "metering.provider"

# An open takes a decision or two. Shorter, and a slow leader costs a sale; longer, and a buyer that
# vanished after its accept blocks the capacity.
OPEN_WAIT_NS = 30 * SECOND

# A kept page is at most a second old and a quantum at least 1 ms long.
PAGES_SKIPPED = 1_000


class Phase(IntEnum):
    """Where the provider stands."""

    WAITING = 1
    SERVING = 2
    HELD = 3
    STOPPING = 4
    FINAL = 5
    SETTLING = 6
    DONE = 7


TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.WAITING: frozenset({Phase.SERVING, Phase.SETTLING, Phase.DONE}),
    Phase.SERVING: frozenset({Phase.HELD, Phase.STOPPING, Phase.DONE}),
    Phase.HELD: frozenset({Phase.SERVING, Phase.STOPPING, Phase.DONE}),
    Phase.STOPPING: frozenset({Phase.FINAL, Phase.DONE}),
    Phase.FINAL: frozenset({Phase.SETTLING, Phase.DONE}),
    Phase.SETTLING: frozenset({Phase.DONE}),
    Phase.DONE: frozenset(),
}

IN_SERVICE = (Phase.SERVING, Phase.HELD)


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """What a provider keeps of one agreement."""

    agreement: Agreement
    phase: Phase
    channel: Annotated[bytes, Bounds(0, 16)]
    expiry_s: U53
    escrow: U53
    base: U53
    last: U53
    begin: U53
    page: U32
    previous: Annotated[bytes, Bounds(32, 32)]
    reason: U8
    claim: U53
    frame: Annotated[bytes, Bounds(0, 256)]


class Provider:
    """State machine of one sale; inputs come with `now`, effects go out as a list."""

    def __init__(self, agreement: Agreement, clock: MeshClock, now: Instant) -> None:
        self.agreement = agreement
        self.phase = Phase.WAITING
        self.channel_id = b""
        self.credit = Credit()
        self.reason = EndReason.DONE
        self.rejected: Reject | None = None
        self.meter = Meter(agreement.power_w)
        self._clock = clock
        self._term = Term(clock, now)
        self._quantum_ns = agreement.offer.quantum_ms * MILLISECOND
        self._escrow = 0
        self._pages = Pages()
        self._final: Reading | None = None
        self._heard = self._fresh = True
        self._due: Instant | None = now + OPEN_WAIT_NS
        self._late: Instant = 0
        self._settlement: Settlement | None = None

    @classmethod
    def restore(cls, entry: ProviderEntry, clock: MeshClock, now: Instant) -> Provider:
        """The machine as its kept entry left it; nothing flows until `channel` says it is open."""
        self = cls(entry.agreement, clock, now)
        self.phase = Phase.HELD if entry.phase is Phase.SERVING else entry.phase
        if self.phase is Phase.FINAL:
            self.phase = Phase.STOPPING
        self.channel_id, self._escrow = entry.channel, entry.escrow
        self._term.expiry_s = entry.expiry_s
        self.meter = Meter(entry.agreement.power_w, entry.base, entry.last)
        page = entry.page + PAGES_SKIPPED if entry.page else 0
        self._pages = Pages(page, entry.begin, entry.previous)
        self._heard = self._fresh = False
        self.reason = EndReason(entry.reason)
        self.credit = Credit(entry.claim, entry.frame)
        if self.phase in IN_SERVICE:
            self._due = None
        elif self.phase is Phase.STOPPING:
            self._due = now + self._quantum_ns
        elif self.phase is Phase.SETTLING:
            self._settlement = Settlement(entry.channel, now)
        return self

    # -- what it is told -------------------------------------------------------------------------

    def start(self) -> list[Act]:
        """The agreement stands; it is durable before the Ack leaves."""
        return [self._keep(urgent=True)]

    def resume(self) -> list[Act]:
        """After `restore`: what the device still does for this agreement ends (R-MET-18)."""
        # The jump of the pages is durable first, or a second crash would send the same numbers.
        return [self._keep(urgent=True), Actuate(self.agreement.id, 0)]

    def channel(self, fact: ChannelFact, now: Instant) -> list[Act]:
        """What the ledger says of this agreement's channel."""
        if not fact.open:
            return self._gone(fact, now)
        self.credit.claimed(fact.claimed)
        self._term.told(fact)
        if fact.closing and self._settlement is not None:
            self._settlement.hurry(now)
        if self.phase is Phase.WAITING:
            return self._opened(fact, now)
        if self.phase is Phase.HELD and self._due is None:
            self._due = now  # restored, and the channel is still there (R-MET-18)
        if fact.closing and self.phase in IN_SERVICE:
            return self._end(EndReason.DONE, now)
        return self.tick(now)

    def voucher(self, voucher: Voucher, frame: bytes, now: Instant) -> list[Act]:
        """The payer's promise; the greatest counts."""
        if voucher.channel != self.channel_id or voucher.lane != 0 or voucher.cum > self._escrow:
            self.rejected = Reject.INVALID
            return []
        self._heard = True
        acts: list[Act] = []
        if not self.over and self.credit.promised(voucher.cum, frame):
            acts.append(
                self._keep(urgent=self.credit.exposed(self.agreement.offer.lag))
            )  # R-MET-14
        return acts + self.tick(now)

    def end(self, end: End, now: Instant) -> list[Act]:
        """The payer is done, or has lost the agreement."""
        if self.phase is Phase.WAITING:
            return self._drop()
        return self._end(end.reason, now) if self.phase in IN_SERVICE else []

    def measured(self, register: int | None, now: Instant) -> list[Act]:
        """The own meter's register of this flow; None if the driver does not know the flow."""
        self._fresh = True
        if register is not None:
            self.meter.read(register, now)
        if self.phase is Phase.STOPPING:
            return self._send_final(now)
        acts = self.tick(now)
        if self.phase is Phase.SERVING and register is None and not acts:
            acts = [Actuate(self.agreement.id, self.agreement.power_w)]
        return acts

    def tick(self, now: Instant) -> list[Act]:
        """Do what the time asks for."""
        if self.phase in IN_SERVICE:
            return self._serve(now) if self._fresh and self._due is not None else []
        if self.phase is Phase.SETTLING:
            assert self._settlement is not None
            return self._settlement.tick(self.credit.frame, now)
        if self.phase is Phase.FINAL:
            return self._wait_for_last_voucher(now)
        if self._due is None or now < self._due:
            return []
        if self.phase is Phase.WAITING:
            return [self._end_message(EndReason.DONE), *self._drop()]
        return self._send_final(now) if self.phase is Phase.STOPPING else []

    def stop(self, now: Instant) -> list[Act]:
        """The daemon ends: no more service, a last reading at once, the rest after the restart."""
        if self.phase not in IN_SERVICE:
            return []
        return self._end(EndReason.STOPPING, now) + self._send_final(now)

    def deadline(self) -> Instant | None:
        """When `tick` has something to do at the latest."""
        if self.phase is Phase.SETTLING:
            assert self._settlement is not None
            return self._settlement.due
        if self.phase not in IN_SERVICE:
            return self._due
        if not self._fresh or self._due is None:
            return None
        times = (
            self._due,
            self._term.ends(),
            self.credit.patience_ends(self._quantum_ns),
            self.meter.still_at(self._quantum_ns),
        )
        return min(time for time in times if time is not None)

    # -- service ---------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Nothing is left to do or to keep."""
        return self.phase is Phase.DONE

    @property
    def in_service(self) -> bool:
        """Before the end of the service: the market counts with this agreement."""
        return self.phase in (Phase.WAITING, *IN_SERVICE)

    @property
    def units(self) -> int:
        """Units of this agreement, by the own meter."""
        return self.meter.units - self._pages.begin

    def owed(self, units: int) -> int:
        """What `units` cost, never more than the escrow."""
        return min(cost(self.agreement.offer.tariff, units), self._escrow)

    def _opened(self, fact: ChannelFact, now: Instant) -> list[Act]:
        self.channel_id, self._escrow = fact.channel, fact.escrow
        fits = fact.escrow >= self.agreement.escrow and not fact.closing
        if not fits or self._term.over(now):
            return [*self._settle(now), Ended(self.agreement.id)]
        self._pages.begin = self.meter.units
        self._enter(Phase.SERVING)
        # BEGIN is durable before it is sent: another begin after a crash would be equivocation.
        begun = [*self._read(Why.BEGIN, now), self._keep(urgent=True)]
        if self._term.proven:
            self.meter.run(now)
            return [*begun, Actuate(self.agreement.id, self.agreement.power_w)]
        self._enter(Phase.HELD)
        return begun

    def _serve(self, now: Instant) -> list[Act]:
        assert self._due is not None
        if (reason := self._reason_to_end(now)) is not None:
            return self._end(reason, now)
        acts: list[Act] = []
        if self.phase is Phase.HELD and self.owed(self.units) <= self.credit.claim:
            self.meter.step = 0  # one step larger than the lag must not hold a paid flow for ever
        limit = self.credit.claim + self.agreement.offer.lag
        trusted = self._term.proven and self._next_cost() <= limit
        if trusted and self.phase is Phase.HELD:
            self._enter(Phase.SERVING)
            self.meter.run(now)
            acts.append(Actuate(self.agreement.id, self.agreement.power_w))
        elif not trusted and self.phase is Phase.SERVING:
            self._enter(Phase.HELD)
            self.meter.halt(now)
            acts.append(Actuate(self.agreement.id, 0))
        if now >= self._due:
            acts += self._read(Why.QUOTA if self._heard else Why.RESYNC, now)
            acts.append(self._keep())
        return acts

    def _next_cost(self) -> int:
        """What will be owed when the next sample is taken."""
        return cost(self.agreement.offer.tariff, self.units + self.meter.step)

    def _reason_to_end(self, now: Instant) -> EndReason | None:
        ahead = self.units + (self.meter.step if self.phase is Phase.SERVING else 0)
        if ahead > self.agreement.units_max or self.units >= self.agreement.units_max:
            return EndReason.DONE
        if cost(self.agreement.offer.tariff, ahead) > self._escrow:
            return EndReason.ESCROW
        if self._term.over(now):
            return EndReason.EXPIRY
        unpaid_at = self.credit.patience_ends(self._quantum_ns)
        if unpaid_at is not None and now >= unpaid_at:
            return EndReason.UNPAID
        still_at = self.meter.still_at(self._quantum_ns)
        if still_at is not None and now >= still_at:
            return EndReason.EMPTY
        return None

    def _read(self, why: Why, now: Instant) -> list[Act]:
        reading = self._reading(why, now)
        self._heard = False
        self._due = now + self._quantum_ns
        self.credit.asked(reading.need, now)
        return [Send(self.agreement.payer, reading)]

    def _reading(self, why: Why, now: Instant) -> Reading:
        parties, need = (self.agreement.id, self.channel_id), self.owed(self.units)
        return self._pages.write(parties, why, self._clock.time_s(now), self.meter.units, need)

    # -- the end ---------------------------------------------------------------------------------

    def _end(self, reason: EndReason, now: Instant) -> list[Act]:
        """Flow off; the last sample follows."""
        self.reason = reason
        self._enter(Phase.STOPPING)
        self.meter.halt(now)
        self._due = now + self._quantum_ns
        return [
            self._keep(urgent=True),
            Actuate(self.agreement.id, 0),
            self._end_message(reason),
            Ended(self.agreement.id),
        ]

    def _end_message(self, reason: EndReason) -> Send:
        return Send(self.agreement.payer, End(self.agreement.id, reason, self.units))

    def _send_final(self, now: Instant) -> list[Act]:
        self._enter(Phase.FINAL)
        self._final = self._reading(Why.FINAL, now)
        self._due = now + self._quantum_ns
        self._late = now + QUANTA_PATIENCE * self._quantum_ns
        acts: list[Act] = [Send(self.agreement.payer, self._final), self._keep(urgent=True)]
        return acts + self._wait_for_last_voucher(now)

    def _wait_for_last_voucher(self, now: Instant) -> list[Act]:
        assert self._final is not None and self._due is not None
        if self.credit.claim >= self._final.need or now >= self._late:
            return self._settle(now)
        if now < self._due:
            return []
        self._due = now + self._quantum_ns
        return [Send(self.agreement.payer, self._final)]

    def _settle(self, now: Instant) -> list[Act]:
        self._enter(Phase.SETTLING)
        self._settlement = Settlement(self.channel_id, now)
        return [self._keep(urgent=True), *self._settlement.tick(self.credit.frame, now)]

    def _gone(self, fact: ChannelFact, now: Instant) -> list[Act]:
        """The channel is settled or expired: nothing more can be earned here."""
        if self.phase in (Phase.WAITING, Phase.DONE):
            return []
        acts: list[Act] = []
        if self.phase in IN_SERVICE:
            self.meter.halt(now)
            end = self._end_message(EndReason.EXPIRY)
            acts = [Actuate(self.agreement.id, 0), end, Ended(self.agreement.id)]
        self.credit.claimed(fact.claimed)
        return acts + self._forget()

    def _drop(self) -> list[Act]:
        """No channel ever came; should one come later it is closed at once, unclaimed."""
        return [*self._forget(), Ended(self.agreement.id)]

    def _forget(self) -> list[Act]:
        self._enter(Phase.DONE)
        self._due = None
        return [Keep(SPACE, self.agreement.id, None)]

    def _keep(self, *, urgent: bool = False) -> Keep:
        entry = ProviderEntry(
            agreement=self.agreement,
            phase=self.phase,
            channel=self.channel_id,
            expiry_s=self._term.expiry_s,
            escrow=self._escrow,
            base=self.meter.base,
            last=self.meter.last,
            begin=self._pages.begin,
            page=self._pages.number,
            previous=self._pages.previous,
            reason=int(self.reason),
            claim=self.credit.claim,
            frame=self.credit.frame,
        )
        if urgent:
            self.credit.durable = self.credit.claim
        return Keep(SPACE, self.agreement.id, encode(entry), urgent=urgent)

    def _enter(self, phase: Phase) -> None:
        assert phase in TRANSITIONS[self.phase], f"{self.phase.name} -> {phase.name}"
        self.phase = phase
