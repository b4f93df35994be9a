"""The node: one device's protocol core. Told inputs and the time, it returns effects.

It owns no rule of its own. It checks who may say what where (wire), hands messages to consensus,
ledger, market and metering, which do not know one another, and turns what they ask into effects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import demesh_consensus as consensus
from demesh.admission import Admission, Farewell, Heard
from demesh.brokers import Brokers, Manner
from demesh.config import BuyPolicy, SellPolicy
from demesh.direct import Direct
from demesh.errors import ConfigError
from demesh.ledger.events import Enrolled
from demesh.market.market import Market
from demesh.membership.cards import Cards
from demesh.membership.directory import Directory, Member
from demesh.membership.presence import Presence
from demesh.metering.sessions import Metering
from demesh.metering.tariff import quote
from demesh.news import Accused, Decided, Failed, Proposed, Told
from demesh.passport import NodeIdentity, check_membership, self_portrait
from demesh.past import past_of
from demesh.portrait import Portrait
from demesh.ports import (
    Admitted,
    Effect,
    Fetched,
    Input,
    Instant,
    Keep,
    Linked,
    Measured,
    Measurement,
    Publish,
    Received,
    Restored,
    Sought,
    Stopping,
)
from demesh.report import Report
from demesh.voting import Voting
from demesh.wire import identity
from demesh.wire.budget import Budgets
from demesh.wire.intents import Act, Agreed, Ended, Send, Submit
from demesh.wire.kinds import FIRST_SIGNAL, SEALED_SINCE, Kind, Reject
from demesh.wire.messages import MESSAGE_OF_KIND, Genesis
from demesh.wire.offers import Card, Tariff
from demesh.wire.opbodies import OpenChannel
from demesh.wire.schema import Malformed, decode
from demesh.wire.sealing import Sealer
from demesh.wire.signer import Signer
from demesh.wire.topics import Topics
from demesh.wire.validate import Validator, View

# An op not in a block after ten minutes is signed anew by whoever still wants it.
OP_VALID_S = 600


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What the owner set. `seed` feeds nonces and jitter: the system's, or a simulation's."""

    sell: SellPolicy | None
    buy: BuyPolicy | None
    delay_floor_ms: int  # 250 in a local network, 1000 in a wide one
    seed: bytes
    report_ms: int = 60_000  # how often a mere change of a measurement is shown
    verify_ns: int = 100_000  # what verifying one signature costs here; budgets follow from it
    tariff: Tariff | None = None  # what to sell under, where `sell` has no price


class Node:
    """One device of one mesh."""

    def __init__(
        self,
        keys: NodeIdentity,
        genesis: Genesis,
        restored: Restored,
        settings: NodeSettings,
        now: Instant,
    ) -> None:
        try:
            self.mesh_id = identity.check_genesis(genesis)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        body = genesis.body
        past = past_of(self.mesh_id, body, restored)
        binding = identity.binding_of(self.mesh_id, body)
        boot = past.standing.boot
        self._signer = Signer(keys.device_key, keys.vote_key, binding, boot, settings.seed)
        guest = self_portrait(keys, body)
        self.directory = Directory(guest)
        self._topics = Topics(self.mesh_id, guest.id)
        self._validator = Validator(binding)
        sealer = Sealer(keys.device_key, binding, boot) if binding.version >= SEALED_SINCE else None
        self._direct = Direct(self.directory, self._signer, self._topics, sealer)
        for key in (*body.owners, bytes(keys.vote_key.verify_key)):
            self._validator.enrol(identity.device_id(key), key)
        self.voting = Voting(
            self.directory,
            self._signer,
            self._validator,
            self._topics,
            self._direct,
            past,
            settings.delay_floor_ms,
            salt=guest.id + settings.seed[:32],
            now=now,
        )
        self.application = self.voting.application
        check_membership(keys, self.directory, body)
        for space, device, mark in restored.kept:
            if space == "window" and self.directory.member(device):
                window = int.from_bytes(mark[:8], "big"), int.from_bytes(mark[8:], "big")
                self._validator.set_window(device, *window)
        self.presence = Presence()
        self.presence.heard(guest.id)
        self.market = Market(
            guest.id, settings.sell, settings.buy, self._signer.nonce, quote, settings.tariff
        )
        self.metering = Metering(guest.id, restored.kept, self._time_s, now, self.directory.name)
        self.market.restore(self.metering.agreements())
        self.rejects: Counter[str] = Counter()
        self._cards = Cards()
        self._portrait = Portrait(
            self.directory, self._signer, self._topics.mine("card"), self.market.offers
        )
        self._brokers = Brokers()
        self._admission = Admission(
            self._topics,
            self.directory,
            self._validator,
            self._direct,
            Budgets(self._validator, settings.verify_ns, now),
            self._brokers,
            self.voting.awaits,
            self._cards.keep,
            self._losing,
            self.presence.brought,
        )
        self._in_vain = 0  # ops in my name that are known or cannot be taken
        self._new_op_at: Instant | None = None  # consensus has not been told of an op yet
        self._measurement = Measurement(0)
        self._report = Report(
            self.directory,
            self.presence,
            self.voting,
            self._all_rejects,
            self._admission.flooded,
            body.name,
            self._signer.vote_id,
            settings.report_ms,
        )

    # -- what the shell calls ---------------------------------------------------------------------

    @property
    def me(self) -> Member:
        """This device as the mesh knows it."""
        return self.directory.me

    @property
    def consensus(self) -> consensus.Simplex:
        """This device's part in the current epoch."""
        return self.voting.core

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Topic filters to subscribe to."""
        return self._topics.filters

    @property
    def will(self) -> tuple[str, bytes]:
        """Topic and payload of the MQTT will; also the farewell."""
        return self._topics.mine("gone"), b"%d" % self._signer.boot

    @property
    def topics(self) -> Topics:
        """This device's topics."""
        return self._topics

    def start(self, now: Instant) -> list[Effect]:
        """First effects."""
        boot = self._signer.boot.to_bytes(8, "big")
        effects: list[Effect] = [self.voting.start(), Keep("boot", b"", boot, urgent=True)]
        for fact in self.application.open_channels(self.me.id):
            effects += self._acts(self.metering.channel(fact, self._time_s(now), now), now)
        return effects + self.tick(now)

    def admit(self, received: Received, now: Instant) -> Admitted | None:
        """The input that a message is; if it is none, it is counted, unless it is my own."""
        content = self._admission.admit(received, now)
        if isinstance(content, Reject):
            self._reject(content)
            return None
        return None if content is None else Admitted(received, content)

    def handle(self, given: Input, now: Instant) -> list[Effect]:
        """One input, all that follows from it."""
        match given:
            case Received():
                admitted = self.admit(given, now)
                return [] if admitted is None else self.handle(admitted, now)
            case Admitted(received, content):
                effects = self._admitted(content, received.broker, now)
            case Linked(broker, up):
                effects = self._linked(broker, now) if up else self._unlinked(broker, now)
            case Measured(measurement):
                self._measurement = measurement
                effects = self._acts(self.metering.measured(measurement, now), now)
                effects += self._acts(self.market.measured(measurement, now), now)
            case Fetched() | Sought():
                effects = self._told(self.voting.found(given), now)
            case Stopping():
                self.market.stop()
                effects = self._acts(self.metering.stop(now), now) + self._after(now)
                topic, payload = self.will  # the last word: whoever speaks after it is up again
                return [*effects, Publish(topic, payload)]
        return effects + self._after(now)

    def tick(self, now: Instant) -> list[Effect]:
        """Time passed, or a turn brought new ops: one look at all of them is enough."""
        self._new_op_at = None
        effects = self._told(self.voting.tick(now), now)
        effects += self._acts(self.metering.tick(now), now)
        effects += self._acts(self.market.tick(now), now)
        effects += self._portrait.tick(now)
        return effects + self._after(now)

    def deadline(self) -> Instant | None:
        """When `tick` is needed next."""
        times = (
            self._new_op_at,
            self.consensus.deadline(),
            self.metering.deadline(),
            self.market.deadline(),
            self._portrait.deadline(),
            self._report.deadline(),
        )
        return min((time for time in times if time is not None), default=None)

    def _after(self, now: Instant) -> list[Effect]:
        """What every turn ends with: the card if it changed, a short journal, the report."""
        effects: list[Effect] = []
        effects += self.voting.turn_ends()
        if self._portrait.changed:
            if not self._portrait.shown:  # taken in: from now on I may trade
                for device in self._cards.devices:
                    effects += self._offered(device, now)
            effects += self._portrait.show(now)
        effects += self._report.place()
        return effects + self._report.state(self._measurement, now)

    # -- messages ---------------------------------------------------------------------------------

    def _admitted(self, content: object, broker: int, now: Instant) -> list[Effect]:
        match content:
            case Heard():
                before = self._stale
                effects = self._heard(content, broker, now)
                if self._stale > before:
                    self._admission.stale(content)
                return effects
            case Farewell(member, payload):
                gone = self.presence.gone(member.id, payload, broker, self._brokers.up)
                return self._gone(member, now) if gone else []
        raise AssertionError(f"admitted: {content!r}")

    def _heard(self, heard: Heard, broker: int, now: Instant) -> list[Effect]:
        member, view, frame, manner = heard.member, heard.view, heard.frame, heard.manner
        if member.id == self.me.id:
            return self._own_op(frame, now)  # it may be what my owner's tools say in my name
        effects: list[Effect] = []
        if manner is not Manner.RETAINED and self.presence.heard(member.id, broker, now):
            effects += self._report.came(member) + self._offered(member.id, now)
        if view.kind >= FIRST_SIGNAL:
            boot, seq = self._validator.window(view.sender) or (view.boot, view.seq)
            mark = boot.to_bytes(8, "big") + seq.to_bytes(8, "big")
            effects.append(Keep("window", view.sender, mark))
        try:
            if self.voting.takes(view.kind):
                told = self.voting.receive(view, frame, manner, now)
                if Reject.CERTIFICATE in told:  # up to so many signatures were verified in vain
                    self._validator.charge(view.sender, len(self.directory.voters))
                return effects + self._told(told, now)
            if view.kind is Kind.OP:
                return effects + self._op(frame, manner, now)
            if view.kind is Kind.CARD:
                return effects + self._card(view, manner, now)
            grown = self.application.rules.grown
            message: Any = decode(MESSAGE_OF_KIND[view.kind], view.payload, tails=grown)
        except Malformed:
            return effects + self._reject(Reject.PAYLOAD)
        return effects + self._trade(view.kind, member.id, message, frame, now)

    def _trade(
        self, kind: Kind, sender: bytes, message: Any, frame: bytes, now: Instant
    ) -> list[Effect]:
        """Messages of market and metering."""
        match kind:
            case Kind.ACCEPT:
                acts = self.market.receive_accept(sender, message, now)
            case Kind.ACK:
                acts = self.market.receive_ack(sender, message, now)
            case Kind.REFUSE:
                acts = self.market.receive_refuse(sender, message, now)
                acts += self.metering.receive_refuse(sender, message, now)
            case Kind.VOUCHER:
                acts = self.metering.receive_voucher(sender, message, frame, now)
            case Kind.READING:
                acts = self.metering.receive_reading(sender, message, now)
            case _:
                acts = self.metering.receive_end(sender, message, now)
        return self._acts(acts, now)

    def _reject(self, reject: Reject) -> list[Effect]:
        self.rejects[reject.name] += 1
        return []

    def _all_rejects(self) -> Counter[str]:
        """By code, those of metering included."""
        return self.rejects + Counter(
            {code.name: count for code, count in self.metering.rejects.items()}
        )

    def _gone(self, member: Member, now: Instant) -> list[Effect]:
        effects = self._report.went(member) + self._acts(self.market.forget(member.id, now), now)
        return effects + self._told(self.voting.gone(member, now), now)

    def _linked(self, broker: int, now: Instant) -> list[Effect]:
        """A broker is (again) there: say who and where I am (R-BRK-4)."""
        self._brokers.linked(broker, True)
        card = self._portrait.linked(broker, now)
        if self._brokers.others_up(broker):
            return [*card, *self.voting.linked_too(broker)]
        return [*card, *self._told(self.voting.linked(now), now)]

    def _unlinked(self, broker: int, now: Instant) -> list[Effect]:
        """A broker is lost, and with it its word for who is here."""
        self._brokers.linked(broker, False)
        effects: list[Effect] = []
        for device in self.presence.unlinked(self._brokers.up):
            if member := self.directory.member(device):
                effects += self._gone(member, now)
        return effects

    def _losing(self, now: Instant) -> None:
        """A flood: brokers drop what is true with the rest."""
        self.voting.losing(now)
        self._portrait.flooded(now)

    def _card(self, view: View, manner: Manner, now: Instant) -> list[Effect]:
        card = decode(Card, view.payload, tails=self.application.rules.grown)
        member = self.directory.member(view.sender)
        if member is None or identity.device_id(card.certificate.device_key) != member.id:
            return self._reject(Reject.INVALID)
        known = self._cards.of(member.id)
        news = self._cards.take(member.id, card)
        if isinstance(news, Reject):
            return self._reject(news)
        if not news:
            return []
        self.presence.booted(member.id, card.boot)
        if manner is not Manner.RETAINED and (known is None or known.boot < card.boot):
            self._portrait.met(now)
        return self._offered(member.id, now)

    def _offered(self, device: bytes, now: Instant) -> list[Effect]:
        """Tell the market what a device's card offers: a new card, or back after a farewell."""
        card = self._cards.of(device)
        if card is None or self.directory.guest:
            return []
        return self._acts(self.market.receive_card(device, card.offers, now), now)

    def _op(self, frame: bytes, manner: Manner, now: Instant) -> list[Effect]:
        if self.directory.guest:
            return []  # it is work for voters, and nobody would take it from me if they lost it
        reject = self.application.submit(frame, self._time_s(now))
        if reject is not None:
            return self._reject(reject)
        if manner is Manner.EVERYWHERE:
            self.application.heard(frame)
        self._new_op_at = now
        return []

    def _own_op(self, frame: bytes, now: Instant) -> list[Effect]:
        if self.application.submit(frame, self._time_s(now)) is None:
            self._new_op_at = now
        else:
            self._in_vain += 1  # no reject, for my own ops come back too
        return []

    @property
    def _stale(self) -> int:
        """How many messages were long past when they came."""
        metered = self.metering.rejects.get(Reject.STALE, 0)
        return self.rejects["STALE"] + metered + self._in_vain

    # -- decisions --------------------------------------------------------------------------------

    def _told(self, told: Sequence[Effect | Told], now: Instant) -> list[Effect]:
        """Effects of voting, and what follows from its news."""
        effects: list[Effect] = []
        for item in told:
            match item:
                case Reject():
                    effects += self._reject(item)
                case Proposed(view):
                    self._report.proposed(view, now)
                case Decided(block, leader, applied):
                    effects += self._report.decision(block, leader, now)
                    effects += self._report.ledger(block, applied.events)
                    self.metering.decided(block.time_s)
                    if any(isinstance(event, Enrolled) for event in applied.events):
                        for early in self._cards.early(self.directory.member):
                            effects += self.handle(early, now)
                    for fact in self.application.channel_facts(self.me.id, applied.events):
                        effects += self._acts(self.metering.channel(fact, block.time_s, now), now)
                case Failed(body, result):
                    effects += self._report.failed(body, result)
                    if isinstance(body, OpenChannel) and result.final:
                        effects += self._acts(self.metering.open_failed(body.agreement, now), now)
                case consensus.StandingStill(since_ns):
                    effects += self._report.standing_still(since_ns, now)
                case Accused(device, proof):
                    effects += self._report.misbehaved(device, proof.first, proof.second)
                case consensus.Quarantined(vote):
                    effects += self._report.quarantined(vote)
                case _:
                    effects.append(item)
        return effects

    # -- market and metering ----------------------------------------------------------------------

    def _acts(self, acts: Sequence[Act], now: Instant) -> list[Effect]:
        """What market and metering ask for, as effects."""
        effects: list[Effect] = []
        for act in acts:
            match act:
                case Send(to, message):
                    effects += self._direct.send(to, message)
                case Submit(body):
                    frame = self._signer.op(body, self._time_s(now) + OP_VALID_S)
                    reject = self.application.submit(frame, self._time_s(now))
                    if reject is not None:
                        self._reject(reject)
                        continue
                    effects.append(Publish(self._topics.mine("op"), frame))
                    self._new_op_at = now
                case Agreed(agreement):
                    effects += self._acts(self.metering.start(agreement, now), now)
                case Ended(agreement_id):
                    effects += self._acts(self.market.ended(agreement_id, now), now)
                case _:
                    effects.append(act)
        return effects

    def _time_s(self, now: Instant) -> int:
        return self.consensus.clock.read_s(now)
