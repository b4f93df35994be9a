"""What a greeted client says, packet by packet: publishing, acknowledging, subscribing.

Every handler ends with None, or with the reason for which the connection is to be ended; ending it
is the machine's. What a client of MQTT 5 may not do is answered with a code where the packet has
an answer; one of 3.1.1 gets the same answer as if it had been done, for it knows no other, and what
it published is dropped (as mosquitto does). Both are counted.
"""

from __future__ import annotations

from dataclasses import replace

from demesh.broker.access import Access
from demesh.broker.codes import GRANTED, Code
from demesh.broker.delivery import Delivery, identified
from demesh.broker.effects import Effect, Transmit
from demesh.broker.expiry import counted_down
from demesh.broker.greeting import fits, valid_response
from demesh.broker.limits import Counters, Limits, Reason
from demesh.broker.links import Link
from demesh.broker.pace import Pace
from demesh.broker.packets import (
    LEVEL_5,
    Disconnect,
    Malformed,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Wanted,
)
from demesh.broker.saved import Subscribed
from demesh.broker.session import WRITABLE_MAX, Session
from demesh.broker.status import SYS, Status
from demesh.broker.topics import SHARED, valid_filter, valid_name
from demesh.ports import Instant

ERROR = 0x80
"""Reason codes from here on are refusals (MQTT 5, section 2.4)."""

# What the filters of one SUBSCRIBE may look at while all others wait, some 50 ms; the rest of them
# is refused. In branches of retained topics, of which 2,048 of 32 levels have that many; a message
# that is fetched counts for 8, the making of `$SYS` for 256. Without it one packet took seconds.
LOOKS_MAX = 65_536
LOOKS_PER_MESSAGE = 8
LOOKS_OF_STATUS = 256

_NO_PROPERTIES = Properties()


class Conversation:
    """The handlers, for all links alike."""

    __slots__ = ("_counters", "_delivery", "_limits", "_pace", "_status", "access")

    def __init__(
        self,
        limits: Limits,
        counters: Counters,
        delivery: Delivery,
        status: Status,
        pace: Pace | None,
        access: Access,
    ) -> None:
        self.access = access
        self._status = status
        self._limits = limits
        self._counters = counters
        self._delivery = delivery
        self._pace = pace

    def hear(
        self,
        link: Link,
        session: Session,
        packet: Packet | Malformed,
        now: Instant,
        effects: list[Effect],
    ) -> Reason | None:
        """Handle one packet; why to end the link, if it has to end."""
        match packet:
            case Publish():
                return self._publish(link, session, packet, now, effects)
            case Puback(packet_id):
                if not session.acknowledged(packet_id):
                    return Reason.PROTOCOL
                following = session.advance(now)
                if following:
                    self.send(link, following, effects)
            case Pubrec(packet_id, code) if code >= ERROR:
                if not session.declined(packet_id):
                    return Reason.PROTOCOL
                self.send(link, session.advance(now), effects)
            case Pubrec(packet_id):
                release = session.received(packet_id)
                if release is None:
                    return Reason.PROTOCOL
                self._answer(link, release, effects)
            case Pubrel(packet_id):
                known = session.unreleased.pop(packet_id, packet_id) is None
                session.changed |= known
                code = Code.SUCCESS if known else Code.ID_NOT_FOUND
                self._answer(link, Pubcomp(packet_id, _for(session, code)), effects)
            case Pubcomp(packet_id):
                if not session.completed(packet_id):
                    return Reason.PROTOCOL
                self.send(link, session.advance(now), effects)
            case Subscribe():
                return self._subscribe(link, session, packet, now, effects)
            case Unsubscribe():
                return self._unsubscribe(link, session, packet, effects)
            case Pingreq():
                self._answer(link, Pingresp(), effects)
            case Disconnect():
                return _leave(session, packet)
            case Malformed(reason, _, code):
                return Reason.ALIAS if code == Code.ALIAS_INVALID else reason
            case _:  # a second CONNECT, an AUTH, or a packet only a broker sends
                return Reason.PROTOCOL
        return None

    def send(self, link: Link, packets: list[Packet], effects: list[Effect]) -> None:
        """Transmit messages and releases."""
        counters = self._counters
        for packet in packets:
            if type(packet) is Publish:
                counters.messages_sent += 1
            else:
                counters.packets_sent += 1
            effects.append(Transmit(link.conn, packet))

    def may_write(self, session: Session, topic: str) -> bool:
        """Whether the session's user may publish to a valid topic; remembered."""
        allowed = session.writable.get(topic)
        if allowed is None:
            if len(session.writable) >= WRITABLE_MAX:
                session.writable.clear()
            allowed = self.access.may_write(session.user, session.client_id, topic)
            session.writable[topic] = allowed
        return allowed

    def withdraw(self, session: Session, now: Instant) -> None:
        """Rights are others: forget the answers, end what is no longer allowed."""
        session.writable.clear()
        user, client_id, may_read = session.user, session.client_id, self.access.may_read
        for pattern in tuple(session.subscriptions):
            if not may_read(user, client_id, pattern):
                self._counters.subscriptions_not_allowed += 1
                self._delivery.unsubscribe(session, pattern)
        # A topic name is a filter that matches nothing else.
        session.withdraw(lambda topic: may_read(user, client_id, topic), now)

    def accept(
        self, session: Session, message: Publish, now: Instant, effects: list[Effect]
    ) -> Code:
        """Deliver a message of a session, if it may publish it."""
        counters = self._counters
        counters.messages_received += 1
        topic = message.topic
        if topic.startswith(SYS) and (topic == SYS or topic[len(SYS)] == "/"):
            counters.dropped_reserved += 1
            return Code.NOT_AUTHORIZED
        allowed = session.writable.get(topic)
        if not (self.may_write(session, topic) if allowed is None else allowed):
            counters.dropped_not_allowed += 1
            return Code.NOT_AUTHORIZED
        if self._delivery.publish(message, session, now, effects):
            return Code.SUCCESS
        return Code.NO_SUBSCRIBERS

    def _answer(self, link: Link, packet: Packet, effects: list[Effect]) -> None:
        self._counters.packets_sent += 1
        effects.append(Transmit(link.conn, packet))

    # -- publishing -------------------------------------------------------------------------------

    def _publish(
        self, link: Link, session: Session, packet: Publish, now: Instant, effects: list[Effect]
    ) -> Reason | None:
        if packet.properties is not None:
            resolved = self._resolved(link, packet, packet.properties)
            if isinstance(resolved, Reason):
                return resolved
            packet = resolved
        topic = packet.topic
        if not self._delivery.knows(topic) and not self._is_name(topic):
            nameless = not topic and session.terms.level == LEVEL_5
            return Reason.PROTOCOL if nameless else Reason.TOPIC
        if packet.qos != 2:
            code = self.accept(session, packet, now, effects)
            if packet.qos:
                self._answer(link, Puback(packet.packet_id, _for(session, code)), effects)
            return None
        code = Code.SUCCESS
        if packet.packet_id not in session.unreleased:
            if len(session.unreleased) >= self._limits.unreleased_max:
                return Reason.RECEIVE_MAXIMUM
            code = _for(session, self.accept(session, packet, now, effects))
            if code < ERROR:  # with an error the id is free again (4.3.3-9)
                session.unreleased[packet.packet_id] = None
                session.changed = True
        self._answer(link, Pubrec(packet.packet_id, code), effects)
        return None

    def _resolved(self, link: Link, packet: Publish, properties: Properties) -> Publish | Reason:
        """A message of MQTT 5 with its topic in full, as it is passed on."""
        if properties.subscription_ids or not valid_response(properties, self._limits):
            return Reason.PROTOCOL  # 3.3.4-6, 3.3.2-14
        alias = properties.topic_alias
        if alias is None:
            return packet
        if not 0 < alias <= self._limits.aliases_max:
            return Reason.ALIAS  # 3.3.2-9
        topic = packet.topic
        if topic:
            if not self._is_name(topic):
                return Reason.TOPIC
            link.aliases[alias] = topic
        elif alias in link.aliases:
            topic = link.aliases[alias]
        else:
            return Reason.PROTOCOL
        rest = replace(properties, topic_alias=None)
        return replace(packet, topic=topic, properties=None if rest == _NO_PROPERTIES else rest)

    def _is_name(self, topic: str) -> bool:
        return valid_name(topic, self._limits.topic_levels_max, self._limits.topic_chars_max)

    # -- subscribing ------------------------------------------------------------------------------

    def _subscribe(
        self, link: Link, session: Session, packet: Subscribe, now: Instant, effects: list[Effect]
    ) -> Reason | None:
        if not all(self._is_filter(wanted.pattern) for wanted in packet.filters):
            return Reason.FILTER
        if any(one.no_local and one.pattern.startswith(SHARED) for one in packet.filters):
            return Reason.PROTOCOL  # 3.8.3-4
        properties = packet.properties
        ids = properties.subscription_ids if properties is not None else ()
        codes: list[Code] = []
        retained: list[Packet] = []
        looks = 0
        for index, wanted in enumerate(packet.filters):
            code = self._refusal(session, wanted, index, looks)
            if code is None:
                code = GRANTED[wanted.qos]
                fresh = self._delivery.subscribe(
                    session,
                    Subscribed(
                        wanted.pattern,
                        wanted.qos,
                        wanted.no_local,
                        wanted.retain_as_published,
                        ids[0] if ids else None,
                    ),
                )
                if wanted.retain_handling == 0 or (wanted.retain_handling == 1 and fresh):
                    looks += self._fetch(link, session, wanted, ids, now, retained)
            codes.append(code)
        answer = Suback(packet.packet_id, tuple(codes))
        if not fits(answer, session.terms):
            return Reason.ANSWER_TOO_LARGE
        self._answer(link, answer, effects)
        self.send(link, retained, effects)
        return None

    def _refusal(self, session: Session, wanted: Wanted, index: int, looks: int) -> Code | None:
        """Why a valid filter, the `index`th of its packet, is not subscribed to; those before it
        took so many `looks`."""
        pattern = wanted.pattern
        filters_max = self._limits.subscriptions_max
        if pattern.startswith(SHARED):
            self._counters.subscriptions_refused += 1
            return Code.NO_SHARED
        if not self.access.may_read(session.user, session.client_id, pattern):
            self._counters.subscriptions_not_allowed += 1
            return Code.NOT_AUTHORIZED
        full = len(session.subscriptions) >= filters_max or not self._delivery.has_room(
            pattern, self._limits.filter_levels_total_max
        )
        # A filter named again and again would fetch all retained messages as many times.
        dear = looks > LOOKS_MAX and wanted.retain_handling != 2
        if index >= filters_max or dear or (full and pattern not in session.subscriptions):
            self._counters.subscriptions_refused += 1
            return Code.QUOTA
        return None

    def _fetch(
        self,
        link: Link,
        session: Session,
        wanted: Wanted,
        ids: tuple[int, ...],
        now: Instant,
        retained: list[Packet],
    ) -> int:
        """Collect the retained messages a filter matches; how many looks that took."""
        kept, looks = self._delivery.retained.match(wanted.pattern, now)
        if self._pace is not None:
            self._pace.charge_looks(link, looks)
        forms: list[tuple[Publish, Instant | None]] = []
        for message, expires_at, publisher, _ in kept:
            if not (wanted.no_local and publisher == session.client_id):
                forms.append((counted_down(message, expires_at, now), expires_at))
        if wanted.pattern.startswith(SYS):
            looks += LOOKS_OF_STATUS
            forms += [(message, None) for message in self._status.match(wanted.pattern, now)]
        for message, expires_at in forms:
            if self._pace is not None:
                self._pace.charge_fetched(link, message)
            form = identified(message, ids)
            if form.qos > wanted.qos:
                form = replace(form, qos=wanted.qos)
            delivered = session.deliver(form, expires_at, now)
            if delivered is not None:
                retained.append(delivered)
        return looks + LOOKS_PER_MESSAGE * len(forms)

    def _unsubscribe(
        self, link: Link, session: Session, packet: Unsubscribe, effects: list[Effect]
    ) -> Reason | None:
        if not all(self._is_filter(pattern) for pattern in packet.filters):
            return Reason.FILTER
        codes = tuple(
            Code.SUCCESS if self._delivery.unsubscribe(session, pattern) else Code.NO_SUBSCRIPTION
            for pattern in packet.filters
        )
        answer = Unsuback(packet.packet_id, codes if session.terms.level == LEVEL_5 else ())
        if not fits(answer, session.terms):
            return Reason.ANSWER_TOO_LARGE
        self._answer(link, answer, effects)
        return None

    def _is_filter(self, pattern: str) -> bool:
        return valid_filter(pattern, self._limits.topic_levels_max, self._limits.topic_chars_max)


def _for(session: Session, code: Code) -> Code:
    """The code as the client's level knows it: 3.1.1 has acknowledgements without codes."""
    return code if session.terms.level == LEVEL_5 else Code.SUCCESS


def _leave(session: Session, goodbye: Disconnect) -> Reason:
    properties = goodbye.properties
    if properties is not None and properties.session_expiry_s is not None:
        if properties.session_expiry_s and not session.expiry_s:
            return Reason.PROTOCOL  # 3.14.2.2.2
        session.expiry_s = properties.session_expiry_s
    if goodbye.code == Code.SUCCESS:
        session.will = None  # 3.14.4-3; with any other code it is published
    return Reason.LEFT
