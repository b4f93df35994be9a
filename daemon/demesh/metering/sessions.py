"""All metering sessions of a device: routes by agreement and channel, keeps, observes.

R-MET-27 An agreement is served on one channel, the first that names it and both its parties. Any
         other channel of this device is closed: by the payee at once, unclaimed.
R-MET-28 Sessions and stray channels are bounded; above the bound an agreement ends before it began
         and a stray channel is left to its expiry.
R-MET-29 The store keeps what it is given in order, so an entry that names a channel is never there
         without the block that opened it: a channel that is not open after a restart is settled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from demesh.errors import StorageError
from demesh.metering import payer, provider
from demesh.metering.meter import MeshClock
from demesh.metering.payer import CLOSE_AFTER_NS, Payer, PayerEntry
from demesh.metering.provider import Provider, ProviderEntry
from demesh.metering.settlement import Settlement
from demesh.metering.tariff import cost, money
from demesh.ports import Instant, Json, Measurement, Observe
from demesh.wire import identity
from demesh.wire.intents import Act, Agreement, ChannelFact, Ended, Send
from demesh.wire.kinds import Reject
from demesh.wire.offers import Refusal, Refuse
from demesh.wire.readings import End, EndReason, Reading, Voucher
from demesh.wire.schema import Malformed, decode

# A board serves a handful; the rest are sessions waiting for a ledger without quorum.
SESSIONS_MAX = 64

# Closing a stranger's channel is a courtesy that costs this device an op, so not too many at once.
STRAYS_MAX = 16

Session = Provider | Payer


class Metering:
    """The sessions of one device.

    `kept` are the entries of earlier runs (other spaces are skipped; StorageError if one cannot be
    read), `mesh_time_s` reads mesh time, `name_of` names peers.
    """

    def __init__(
        self,
        me: bytes,
        kept: Iterable[tuple[str, bytes, bytes]],
        mesh_time_s: Callable[[Instant], int],
        now: Instant,
        name_of: Callable[[bytes], str] = identity.text,
    ) -> None:
        self.me = me
        self.rejects: dict[Reject, int] = {}
        self._name_of = name_of
        self._clock = MeshClock(mesh_time_s, now)
        self._sessions: dict[bytes, Session] = {}
        self._strays: dict[bytes, Settlement] = {}
        self._shown: dict[bytes, tuple[object, ...]] = {}
        self._resuming: list[Act] = []
        self._untold: dict[bytes, None] = {}  # sessions whose channel the ledger may have closed
        for space, key, value in kept:
            try:
                session = self._restored(space, value, now)
            except Malformed as error:
                raise StorageError(
                    f"kept agreement {key.hex()} cannot be read ({error}); it was written by"
                    " another version or damaged: restore the data folder from a copy"
                ) from None
            if session is not None:
                self._sessions[key] = session
                self._resuming += session.resume()
                if session.channel_id:
                    self._untold[key] = None

    def agreements(self) -> tuple[Agreement, ...]:
        """Those waiting for service or in service: what the market goes on counting with."""
        return tuple(session.agreement for session in self._sessions.values() if session.in_service)

    def documents(self) -> tuple[dict[str, Json], ...]:
        """One observation document per session, as in Observe("metering")."""
        return tuple(self._document(session) for session in self._sessions.values())

    # -- inputs ----------------------------------------------------------------------------------

    def start(self, agreement: Agreement, now: Instant) -> list[Act]:
        """An agreement stands; as provider wait for the channel, as payer open it."""
        if agreement.id in self._sessions:
            return []
        peer = agreement.payer if agreement.provider == self.me else agreement.provider
        if len(self._sessions) >= SESSIONS_MAX:
            end = End(agreement.id, EndReason.STOPPING, 0)
            return [Send(peer, end), Ended(agreement.id)]
        session: Session
        if agreement.provider == self.me:
            session = Provider(agreement, self._clock, now)
            self._sessions[agreement.id] = session
            return self._done(session, session.start())
        assert agreement.payer == self.me, "an agreement of two others"
        session = Payer(agreement, self._clock, now)
        self._sessions[agreement.id] = session
        return self._done(session, session.start(now))

    def receive_voucher(
        self, sender: bytes, voucher: Voucher, frame: bytes, now: Instant
    ) -> list[Act]:
        """A payer's promise; `frame` is the whole signed frame, for the ledger."""
        for session in self._sessions.values():
            if isinstance(session, Provider) and session.channel_id == voucher.channel:
                if session.agreement.payer != sender:
                    break
                return self._done(session, session.voucher(voucher, frame, now))
        return self._reject(Reject.INVALID)

    def receive_reading(self, sender: bytes, reading: Reading, now: Instant) -> list[Act]:
        """A provider's register; one of a session we do not have is answered by End."""
        session = self._sessions.get(reading.agreement)
        if session is None:
            self._reject(Reject.STALE)
            return [Send(sender, End(reading.agreement, EndReason.DONE, 0))]
        if not isinstance(session, Payer) or session.agreement.provider != sender:
            return self._reject(Reject.INVALID)
        return self._done(session, session.reading(reading, now))

    def receive_end(self, sender: bytes, end: End, now: Instant) -> list[Act]:
        """The other side ends."""
        session = self._sessions.get(end.agreement)
        if session is None:
            return self._reject(Reject.STALE)
        if sender != _peer(session):
            return self._reject(Reject.INVALID)
        return self._done(session, session.end(end, now))

    def receive_refuse(self, sender: bytes, refuse: Refuse, now: Instant) -> list[Act]:
        """UNKNOWN: the buyer withdrew or lost the agreement. Others concern the market alone."""
        session = self._sessions.get(refuse.agreement)
        if session is None or sender != _peer(session) or refuse.reason is not Refusal.UNKNOWN:
            return []
        return self._done(session, session.end(End(refuse.agreement, EndReason.DONE, 0), now))

    def open_failed(self, agreement: bytes, now: Instant) -> list[Act]:
        """The ledger refused this payer's OpenChannel (no funds): give the agreement up now."""
        session = self._sessions.get(agreement)
        if not isinstance(session, Payer) or session.phase is not payer.Phase.OPENING:
            return []
        end = End(agreement, EndReason.ESCROW, 0)
        return self._done(session, [Send(_peer(session), end), *session.end(end, now)])

    def channel(self, fact: ChannelFact, time_s: int, now: Instant) -> list[Act]:
        """A channel of this device changed on the ledger, at mesh time `time_s`.

        After a restart it is called for every open channel, before `tick` or `measured`: then a
        session whose channel was not told of knows that it is settled (R-MET-29).
        """
        self._clock.told(time_s)
        session = self._sessions.get(fact.agreement)
        if session is not None and self._belongs(session, fact):
            self._untold.pop(fact.agreement, None)
            return self._flows_off() + self._done(session, session.channel(fact, now))
        if not fact.open:
            self._strays.pop(fact.channel, None)
            return []
        mine = self.me == fact.payee or (self.me == fact.payer and not fact.closing)
        if not mine or fact.channel in self._strays or len(self._strays) >= STRAYS_MAX:
            return []
        wait_ns = 0 if self.me == fact.payee else CLOSE_AFTER_NS
        stray = Settlement(fact.channel, now + wait_ns)
        self._strays[fact.channel] = stray
        return stray.tick(b"", now)

    def decided(self, time_s: int) -> None:
        """A block of this mesh time became final; told before `channel` for what it changed."""
        self._clock.decided(time_s)

    def measured(self, measurement: Measurement, now: Instant) -> list[Act]:
        """A sample of the own meters."""
        registers = dict(measurement.flows)
        acts = self._resumed(now)
        for id, session in list(self._sessions.items()):
            acts += self._done(session, session.measured(registers.get(id), now))
        return acts

    def tick(self, now: Instant) -> list[Act]:
        """Do what the time asks for."""
        acts = self._resumed(now)
        for session in list(self._sessions.values()):
            acts += self._done(session, session.tick(now))
        for stray in self._strays.values():
            acts += stray.tick(b"", now)
        return acts

    def stop(self, now: Instant) -> list[Act]:
        """The daemon ends: every service stops; what is open is settled now or after a restart."""
        acts: list[Act] = []
        for session in list(self._sessions.values()):
            acts += self._done(session, session.stop(now))
        return acts

    def deadline(self) -> Instant | None:
        """When `tick` has something to do at the latest."""
        times = [session.deadline() for session in self._sessions.values()]
        times += [stray.due for stray in self._strays.values()]
        return min((time for time in times if time is not None), default=None)

    # -- inside ----------------------------------------------------------------------------------

    def _restored(self, space: str, value: bytes, now: Instant) -> Session | None:
        if space == provider.SPACE:
            return Provider.restore(decode(ProviderEntry, value), self._clock, now)
        if space == payer.SPACE:
            return Payer.restore(decode(PayerEntry, value), self._clock, now)
        return None

    def _flows_off(self) -> list[Act]:
        """Once, before anything else: flows of an earlier run end until their session goes on."""
        acts, self._resuming = self._resuming, []
        return acts

    def _resumed(self, now: Instant) -> list[Act]:
        """Once, after the ledger told of every open channel: what it did not name is settled."""
        acts = self._flows_off()
        for id in self._untold:
            session = self._sessions[id]
            agreed = session.agreement
            parties = (agreed.payer, agreed.provider)
            gone = ChannelFact(session.channel_id, id, *parties, 0, 0, 0, True, False)
            acts += self._done(session, session.channel(gone, now))
        self._untold.clear()
        return acts

    def _belongs(self, session: Session, fact: ChannelFact) -> bool:
        parties = (session.agreement.payer, session.agreement.provider)
        if (fact.payer, fact.payee) != parties:
            return False
        return session.channel_id == fact.channel or (fact.open and not session.channel_id)

    def _reject(self, code: Reject) -> list[Act]:
        self.rejects[code] = self.rejects.get(code, 0) + 1
        return []

    def _done(self, session: Session, acts: list[Act]) -> list[Act]:
        """After a step of a session: count what it rejected, drop it when it is over, observe."""
        id = session.agreement.id
        if session.rejected is not None:
            self._reject(session.rejected)
            session.rejected = None
        shown = (session.phase, _paid(session))
        if self._shown.get(id) != shown:
            before = self._shown.get(id, (None,))[0]
            text = "" if before == session.phase else self._text(session)
            acts = [*acts, Observe("metering", self._document(session), text)]
            self._shown[id] = shown
        if session.over:
            self._sessions.pop(id, None)
            self._shown.pop(id, None)
        return acts

    def _document(self, session: Session) -> dict[str, Json]:
        agreement = session.agreement
        running = session.meter.running
        return {
            "agreement": identity.text(agreement.id),
            "role": "provider" if isinstance(session, Provider) else "payer",
            "peer": self._name_of(_peer(session)),
            "phase": session.phase.name.lower(),
            "units_wh": session.units,
            "cost": cost(agreement.offer.tariff, session.units),
            "paid": _paid(session),
            "power_w": agreement.power_w if running else 0,
        }

    def _text(self, session: Session) -> str:
        """The line for people, at the beginning and at the end of a service."""
        peer, power_w = self._name_of(_peer(session)), session.agreement.power_w
        amount = f"{session.units} Wh for {money(_paid(session))}"
        if isinstance(session, Provider):
            if session.phase is provider.Phase.SERVING and session.units == 0:
                return f"delivers {power_w} W to {peer}"
            if session.phase is provider.Phase.SETTLING:
                reason = session.reason.name.lower()
                return f"sold {amount} to {peer} ({reason})"
        elif session.phase is payer.Phase.DONE and session.channel_id:
            return f"bought {amount} from {peer}"
        return ""


def _peer(session: Session) -> bytes:
    agreement = session.agreement
    return agreement.payer if isinstance(session, Provider) else agreement.provider


def _paid(session: Session) -> int:
    return session.credit.claim if isinstance(session, Provider) else session.cum
