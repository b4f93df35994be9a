"""The broker as a pure state machine: told what arrives, it returns what to send and close.

Theory of operation. A *link* is one connection: first without a session, then, once CONNECT was
accepted, with the session of its client id. Each call returns all its consequences as a list of
effects in the order in which they are to be carried out. `Close` ends a link at once: its shell
sends what was transmitted before, then closes, and whatever still arrives from it is ignored here.
A link that says more than `pace.py` allows is not ended: `Pause` asks its shell to read no more
from it, so that the sender waits and everybody else is heard; `tick` gives the `Resume`.

Invariants: 1. A session has at most one link, a link at most one session (3.1.4-2).
2. A will is published exactly when its link ends otherwise than by DISCONNECT (3.1.2-8).
3. Only sessions that are not clean outlive their link (3.1.2-6).
4. A link is paused from its `Pause` to its `Resume` or `Close`. A packet that comes meanwhile is
   handled as ever, and lengthens the pause.
5. Equal calls give equal effects: no clock, no entropy, no order that depends on hashes.

The cost of a message is one look into `_routes` and one effect per receiver; a QoS 0 message is one
packet object for all receivers, so it is encoded at most once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from demesh.broker.codes import GRANTED, Code
from demesh.broker.limits import Counters, Limits, Reason
from demesh.broker.links import Conn, Link, Links
from demesh.broker.pace import Pace
from demesh.broker.packets import (
    LEVEL_3,
    Connack,
    Connect,
    Disconnect,
    Malformed,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from demesh.broker.session import Session
from demesh.broker.topics import RetainedTree, SubscriptionTree, valid_filter, valid_name
from demesh.ports import Instant

# Topics whose receivers are remembered between changes of subscriptions. A mesh of 200 devices has
# about 2,000 topics in use; matching anew costs some microseconds, remembering all would not end.
ROUTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send a packet."""

    conn: Conn
    packet: Packet


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection, after what was transmitted to it before."""

    conn: Conn
    reason: Reason


@dataclass(frozen=True, slots=True)
class Pause:
    """Read no more from the connection of `client_id` until `Resume`."""

    conn: Conn
    client_id: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Read from the connection again."""

    conn: Conn


Effect = Transmit | Close | Pause | Resume


class Broker:
    """Connections, sessions, subscriptions and retained messages of one broker."""

    def __init__(self, limits: Limits, now: Instant) -> None:
        self.limits = limits
        self.counters = Counters()
        self.started_at = now
        self._links = Links(limits)
        per_s = limits.packets_per_s_max
        self._pace = None if per_s is None else Pace(limits, per_s)
        self._sessions: dict[str, Session] = {}
        self._offline: dict[str, Session] = {}  # longest offline first
        self._subscriptions: SubscriptionTree[Session] = SubscriptionTree()
        self._routes: dict[str, tuple[tuple[Session, int], ...]] = {}
        self._retained: RetainedTree[Publish] = RetainedTree()
        self._retained_bytes = 0

    # -- calls ------------------------------------------------------------------------------------

    def connected(self, conn: Conn, now: Instant) -> list[Effect]:
        """A connection was opened."""
        assert conn not in self._links, f"connection {conn} is open already"
        if len(self._links) >= self.limits.connections_max:
            self.counters.close(Reason.CONNECTIONS_FULL)
            return [Close(conn, Reason.CONNECTIONS_FULL)]
        link = self._links.open(conn, now)
        if self._pace is not None:
            self._pace.open(link)
        return []

    def receive(self, conn: Conn, packet: Packet | Malformed, now: Instant) -> list[Effect]:
        """A packet arrived; nothing happens if the link has ended."""
        link = self._links.get(conn)
        if link is None:
            return []
        link.seen_at = now
        self.counters.packets_received += 1
        effects: list[Effect] = []
        session = link.session
        if session is None:
            if isinstance(packet, Connect):
                self._connect(link, packet, effects)
            else:
                fault = packet.reason if isinstance(packet, Malformed) else Reason.PROTOCOL
                self._end(link, fault, effects)
            return effects
        pace = self._pace
        if pace is None:
            self._handle(link, session, packet, effects)
            return effects
        pace.charge(link, session, packet, now)
        self._handle(link, session, packet, effects)
        if pace.overdrawn(link, now) and not link.paused and conn in self._links:
            self._links.pause(link, pace.resume_at(link))
            self.counters.pauses += 1
            effects.append(Pause(conn, session.client_id))
        return effects

    def disconnected(self, conn: Conn, now: Instant) -> list[Effect]:
        """The connection is gone; nothing happens if it ended by a `Close`."""
        effects: list[Effect] = []
        self._drop(conn, Reason.LOST, effects)
        return effects[1:]  # without the Close

    def close(self, conn: Conn, reason: Reason, now: Instant) -> list[Effect]:
        """The shell wants the connection closed, for example because its client is too slow."""
        effects: list[Effect] = []
        self._drop(conn, reason, effects)
        return effects

    def tick(self, now: Instant) -> list[Effect]:
        """Time has passed."""
        effects: list[Effect] = []
        for link in self._links.silent(now):
            silent = Reason.CONNECT_TIMEOUT if link.session is None else Reason.KEEP_ALIVE
            self._end(link, silent, effects)
        for link in self._links.resting(now):
            assert self._pace is not None, "nothing is paused without a pace"
            if self._pace.overdrawn(link, now):  # its shell handed in more of it
                self._links.pause(link, self._pace.resume_at(link))
            else:
                effects.append(Resume(link.conn))
        return effects

    def deadline(self) -> Instant | None:
        """When to call `tick` at the latest; it may turn out that nothing was due."""
        return self._links.deadline()

    def _handle(
        self, link: Link, session: Session, packet: Packet | Malformed, effects: list[Effect]
    ) -> None:
        conn = link.conn
        match packet:
            case Publish():
                self._publish(link, session, packet, effects)
            case Puback(packet_id):
                if session.acknowledged(packet_id):
                    self._transmit(link, session.advance(), effects)
                else:
                    self._end(link, Reason.PROTOCOL, effects)
            case Pubrec(packet_id):
                release = session.received(packet_id)
                if release is not None:
                    effects.append(Transmit(conn, release))
                else:
                    self._end(link, Reason.PROTOCOL, effects)
            case Pubrel(packet_id):
                session.unreleased.pop(packet_id, None)
                effects.append(Transmit(conn, Pubcomp(packet_id)))
            case Pubcomp(packet_id):
                if session.completed(packet_id):
                    self._transmit(link, session.advance(), effects)
                else:
                    self._end(link, Reason.PROTOCOL, effects)
            case Subscribe():
                self._subscribe(link, session, packet, effects)
            case Unsubscribe():
                self._unsubscribe(link, session, packet, effects)
            case Pingreq():
                effects.append(Transmit(conn, Pingresp()))
            case Disconnect():
                link.will = None
                self._end(link, Reason.LEFT, effects)
            case Malformed(reason):
                self._end(link, reason, effects)
            case _:  # a second CONNECT, or a packet only a broker sends
                self._end(link, Reason.PROTOCOL, effects)

    # -- links ------------------------------------------------------------------------------------

    def _connect(self, link: Link, packet: Connect, effects: list[Effect]) -> None:
        will = packet.will
        if packet.level != LEVEL_3:
            self._refuse(link, Code.UNSUPPORTED_VERSION, effects)
            return
        if not packet.client_id and not packet.clean_start:
            self._refuse(link, Code.CLIENT_ID_INVALID, effects)
            return
        if will is not None and not valid_name(will.topic, self.limits.topic_levels_max):
            self._end(link, Reason.TOPIC, effects)
            return
        # No client can choose an id with a NUL character.
        client_id = packet.client_id or f"\0{link.conn}"
        before = self._sessions.get(client_id)
        if before is not None:
            if before.conn is not None:
                self._drop(before.conn, Reason.TAKEN_OVER, effects)
            if packet.clean_start and client_id in self._sessions:
                self._forget(before)
        session = self._sessions.get(client_id)
        present = session is not None
        if session is None:
            self._make_room()
            session = Session(client_id, packet.clean_start, self.limits, self.counters)
            self._sessions[client_id] = session
        self._offline.pop(client_id, None)
        session.conn = link.conn
        link.session = session
        link.will = will
        self._links.keep_alive(link, packet.keep_alive_s)
        effects.append(Transmit(link.conn, Connack(Code.SUCCESS, present)))
        self._transmit(link, session.resume(), effects)

    def _refuse(self, link: Link, code: Code, effects: list[Effect]) -> None:
        effects.append(Transmit(link.conn, Connack(code)))
        self._end(link, Reason.REFUSED, effects)

    def _drop(self, conn: Conn, reason: Reason, effects: list[Effect]) -> None:
        link = self._links.get(conn)
        if link is not None:
            self._end(link, reason, effects)

    def _end(self, link: Link, reason: Reason, effects: list[Effect]) -> None:
        """End a link: close it, settle its session, publish its will."""
        effects.append(Close(link.conn, reason))
        self.counters.close(reason)
        self._links.close(link)
        session = link.session
        if session is not None:
            session.conn = None
            if session.clean:
                self._forget(session)
            else:
                self._offline[session.client_id] = session
        if link.will is not None:
            self._distribute(link.will, effects)

    # -- sessions ---------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Give up the session that has been offline longest if there are too many."""
        if len(self._sessions) >= self.limits.sessions_max and self._offline:
            self._forget(next(iter(self._offline.values())))
            self.counters.sessions_evicted += 1

    def _forget(self, session: Session) -> None:
        del self._sessions[session.client_id]
        self._offline.pop(session.client_id, None)
        for pattern in session.subscriptions:
            self._subscriptions.remove(pattern, session)
        if session.subscriptions:
            self._routes.clear()

    def _subscribe(
        self, link: Link, session: Session, packet: Subscribe, effects: list[Effect]
    ) -> None:
        levels_max = self.limits.topic_levels_max
        if not all(valid_filter(pattern, levels_max) for pattern, *_ in packet.filters):
            self._end(link, Reason.TOPIC, effects)
            return
        codes: list[Code] = []
        retained: list[Packet] = []
        filters_max = self.limits.subscriptions_max
        for index, (pattern, qos, *_) in enumerate(packet.filters):
            full = len(session.subscriptions) >= filters_max
            # A filter named again and again would fetch all retained messages as many times.
            if index >= filters_max or (full and pattern not in session.subscriptions):
                self.counters.subscriptions_refused += 1
                codes.append(Code.UNSPECIFIED)
                continue
            codes.append(GRANTED[qos])
            session.subscriptions[pattern] = qos
            self._subscriptions.add(pattern, session, qos)
            for message in self._retained.match(pattern):
                wanted = message if message.qos <= qos else replace(message, qos=qos)
                delivered = session.deliver(wanted)
                if self._pace is not None:
                    self._pace.charge_fetched(link, message)
                if delivered is not None:
                    retained.append(delivered)
        self._routes.clear()
        effects.append(Transmit(link.conn, Suback(packet.packet_id, tuple(codes))))
        self._transmit(link, retained, effects)

    def _unsubscribe(
        self, link: Link, session: Session, packet: Unsubscribe, effects: list[Effect]
    ) -> None:
        levels_max = self.limits.topic_levels_max
        if not all(valid_filter(pattern, levels_max) for pattern in packet.filters):
            self._end(link, Reason.TOPIC, effects)
            return
        for pattern in packet.filters:
            if session.subscriptions.pop(pattern, None) is not None:
                self._subscriptions.remove(pattern, session)
        self._routes.clear()
        effects.append(Transmit(link.conn, Unsuback(packet.packet_id)))

    # -- messages ---------------------------------------------------------------------------------

    def _publish(
        self, link: Link, session: Session, packet: Publish, effects: list[Effect]
    ) -> None:
        topic = packet.topic
        if topic not in self._routes and not valid_name(topic, self.limits.topic_levels_max):
            self._end(link, Reason.TOPIC, effects)
            return
        if packet.qos == 2:
            if packet.packet_id not in session.unreleased:
                if len(session.unreleased) >= self.limits.unreleased_max:
                    self._end(link, Reason.PROTOCOL, effects)
                    return
                session.unreleased[packet.packet_id] = None
                self._distribute(packet, effects)
            effects.append(Transmit(link.conn, Pubrec(packet.packet_id)))
            return
        self._distribute(packet, effects)
        if packet.qos:
            effects.append(Transmit(link.conn, Puback(packet.packet_id)))

    def _distribute(self, message: Publish, effects: list[Effect]) -> None:
        """Keep a message if it is to be retained, and give it to everyone who subscribed."""
        self.counters.messages_received += 1
        topic = message.topic
        if topic.startswith("$SYS/"):
            self.counters.dropped_reserved += 1
            return
        if message.retain:
            self._retain(message)
        route = self._routes.get(topic)
        if route is None:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            route = self._routes[topic] = tuple(self._subscriptions.match(topic).items())
        forms: list[Publish | None] = [None, None, None]
        for session, qos in route:
            granted = min(qos, message.qos)
            form = forms[granted]
            if form is None:
                form = forms[granted] = _as_sent(message, granted)
            packet = session.deliver(form)
            if packet is not None:
                assert session.conn is not None
                self.counters.messages_sent += 1
                effects.append(Transmit(session.conn, packet))

    def _retain(self, message: Publish) -> None:
        topic = message.topic
        before = self._retained.pop(topic)
        if before is not None:
            self._retained_bytes -= len(topic) + len(before.payload)
        if not message.payload:
            return
        size = len(topic) + len(message.payload)
        if (
            len(self._retained) >= self.limits.retained_max
            or self._retained_bytes + size > self.limits.retained_bytes_max
        ):
            self.counters.retained_refused += 1
            return
        self._retained_bytes += size
        self._retained.put(topic, Publish(topic, message.payload, message.qos, True))

    def _transmit(self, link: Link, packets: list[Packet], effects: list[Effect]) -> None:
        for packet in packets:
            if type(packet) is Publish:
                self.counters.messages_sent += 1
            effects.append(Transmit(link.conn, packet))


def _as_sent(message: Publish, qos: int) -> Publish:
    """A message as a subscriber gets it: not marked as retained (3.3.1-9), not a duplicate."""
    if message.qos == qos and not (message.retain or message.dup or message.packet_id):
        return message
    return Publish(message.topic, message.payload, qos)
