"""From one publication to everybody who subscribed: routes, and the form each receiver gets.

Theory of operation. A *route* lists the receivers of one topic, worked out once and kept until any
subscription changes. Most receivers are plain: they differ by the granted QoS alone. The others
have options of MQTT 5 that change what they get (no local, retain as published, identifiers). Per
message one packet object is made for each form that is wanted; a QoS 0 message is that very object
for all its receivers, so it is encoded at most once per protocol level.

A client whose filters overlap gets a message once, with the highest QoS of them and all their
identifiers (3.3.4-2, 3.3.4-4), and marked as retained if any of them wants it as published.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from demesh.broker.effects import Effect, Transmit
from demesh.broker.expiry import expires_at
from demesh.broker.limits import Counters
from demesh.broker.packets import Properties, Publish
from demesh.broker.retained import Retained
from demesh.broker.saved import Subscribed
from demesh.broker.session import Session
from demesh.broker.topics import SubscriptionTree
from demesh.ports import Instant

# Topics whose receivers are remembered between changes of subscriptions. A mesh of 200 devices has
# about 2,000 topics in use; matching anew costs some microseconds, remembering all would not end.
ROUTES_MAX = 4096


class Form(NamedTuple):
    """What a receiver with options gets of a topic's messages."""

    qos: int
    as_published: bool
    identifiers: tuple[int, ...]


class Options(NamedTuple):
    """The forms for a receiver with options: of others' messages, and of its own."""

    others: Form
    own: Form | None


Route = tuple[tuple[Session, int, Options | None], ...]


class Delivery:
    """All subscriptions, and the retained messages."""

    __slots__ = ("_counters", "_routes", "_tree", "retained")

    def __init__(self, counters: Counters, retained: Retained) -> None:
        self.retained = retained
        self._counters = counters
        self._tree: SubscriptionTree[Session, Subscribed] = SubscriptionTree()
        self._routes: dict[str, Route] = {}

    def subscribe(self, session: Session, wanted: Subscribed) -> bool:
        """Add or change a subscription; whether it is a new one."""
        fresh = wanted.pattern not in session.subscriptions
        session.subscriptions[wanted.pattern] = wanted
        session.changed = True
        self._tree.add(wanted.pattern, session, wanted)
        self._routes.clear()
        return fresh

    def unsubscribe(self, session: Session, pattern: str) -> bool:
        """End a subscription; whether there was one."""
        if session.subscriptions.pop(pattern, None) is None:
            return False
        session.changed = True
        self._tree.remove(pattern, session)
        self._routes.clear()
        return True

    def restore(self, session: Session) -> None:
        """Take in the subscriptions of a restored session."""
        for wanted in session.subscriptions.values():
            self._tree.add(wanted.pattern, session, wanted)
        self._routes.clear()

    def forget(self, session: Session) -> None:
        """End all subscriptions of a session."""
        for pattern in tuple(session.subscriptions):
            self.unsubscribe(session, pattern)

    def knows(self, topic: str) -> bool:
        """Whether messages of this topic have been delivered lately, so that it is a valid one."""
        return topic in self._routes

    def has_room(self, pattern: str, levels_total_max: int) -> bool:
        """Whether one more filter still fits, if it begins like none."""
        return self._tree.branches + pattern.count("/") < levels_total_max

    def listened_to(self, first_level: str) -> bool:
        """Whether anybody subscribed to something below this level by its name."""
        return self._tree.begins(first_level)

    def publish(
        self, message: Publish, publisher: Session, now: Instant, effects: list[Effect]
    ) -> int:
        """Keep a message if it is to be retained, and pass it on; how many receivers it has."""
        ends_at = None if message.properties is None else expires_at(message, now)
        if message.retain:
            self.retained.keep(message, ends_at, publisher.client_id, publisher.user)
        return self.pass_on(message, publisher, ends_at, now, effects)

    def pass_on(
        self,
        message: Publish,
        publisher: Session | None,
        ends_at: Instant | None,
        now: Instant,
        effects: list[Effect],
    ) -> int:
        """Give a message to everybody who subscribed; how many they are."""
        topic = message.topic
        route = self._routes.get(topic)
        if route is None:
            route = self._find(topic)
        qos_published = message.qos
        plain: list[Publish | None] = [None, None, None]
        fitted: dict[Form, Publish] = {}
        sent = receivers = 0
        for session, qos, options in route:
            if options is None:
                granted = qos if qos < qos_published else qos_published
                form = plain[granted]
                if form is None:
                    form = plain[granted] = _as_sent(message, granted)
            else:
                wanted = options.own if session is publisher else options.others
                if wanted is None:
                    continue
                form = fitted.get(wanted)
                if form is None:
                    form = fitted[wanted] = _as_wanted(message, wanted)
            receivers += 1
            packet = session.deliver(form, ends_at, now)
            if packet is not None:
                assert session.conn is not None
                sent += 1
                effects.append(Transmit(session.conn, packet))
        self._counters.messages_sent += sent
        return receivers

    def _find(self, topic: str) -> Route:
        if len(self._routes) >= ROUTES_MAX:
            self._routes.clear()
        route = self._routes[topic] = tuple(
            _receiver(session, found) for session, found in self._tree.match(topic).items()
        )
        return route


def _receiver(session: Session, found: list[Subscribed]) -> tuple[Session, int, Options | None]:
    others = _merged(found)
    local = [wanted for wanted in found if not wanted.no_local]
    if len(local) == len(found) and not others.as_published and not others.identifiers:
        return session, others.qos, None
    return session, others.qos, Options(others, _merged(local) if local else None)


def _merged(found: list[Subscribed]) -> Form:
    return Form(
        max(wanted.qos for wanted in found),
        any(wanted.retain_as_published for wanted in found),
        tuple(wanted.identifier for wanted in found if wanted.identifier is not None),
    )


def _as_sent(message: Publish, qos: int) -> Publish:
    """A message as a plain subscriber gets it: not marked as retained (3.3.1-9), no duplicate."""
    if message.qos == qos and not (message.retain or message.dup or message.packet_id):
        return message
    return Publish(message.topic, message.payload, qos, properties=message.properties)


def _as_wanted(message: Publish, form: Form) -> Publish:
    qos = min(form.qos, message.qos)
    retain = message.retain and form.as_published
    return identified(
        Publish(message.topic, message.payload, qos, retain, properties=message.properties),
        form.identifiers,
    )


def identified(message: Publish, identifiers: tuple[int, ...]) -> Publish:
    """A message with the identifiers of the subscriptions it is delivered for."""
    if not identifiers:
        return message
    properties = replace(message.properties or Properties(), subscription_ids=identifiers)
    return replace(message, properties=properties)
