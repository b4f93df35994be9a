"""The broker as a pure state machine: told what arrives, it returns what to send and close.

Theory of operation. A *link* is one connection: first without a session, then, once CONNECT was
accepted, with the session of its client id. Each call returns all its consequences as a list of
effects in the order in which they are to be carried out. `Close` ends a link at once: its shell
sends what was transmitted before, then closes, and whatever still arrives from it is ignored here.
A link that says more than `pace.py` allows is not ended: `Pause` asks its shell to read no more
from it, so that the sender waits and everybody else is heard; `tick` gives the `Resume`.

Invariants: 1. A session has at most one link, a link at most one session (3.1.4-2), and a session
one user: another user's CONNECT with its client id is refused.
2. A will is told exactly when its link ended otherwise than by a DISCONNECT that takes it back
(3.1.2-8), and its delay is over or its session ended (3.1.2.5), if its user may publish it then.
3. A session ends with its link if its expiry is 0, and else that long after it (3.1.2-23).
4. A link is paused from its `Pause` to its `Resume` or `Close`. A packet that comes meanwhile is
   handled as ever, and lengthens the pause.
5. Equal calls give equal effects: no clock, no entropy, no order that depends on hashes.

The cost of a message is one look into the routes (`delivery.py`) and one effect per receiver.
"""

from __future__ import annotations

from demesh.broker import greeting
from demesh.broker.access import ANYBODY, Access, Open
from demesh.broker.conversation import Conversation
from demesh.broker.delivery import Delivery
from demesh.broker.effects import Close, Conn, Effect, Pause, Resume, Transmit
from demesh.broker.limits import Counters, Limits, Reason
from demesh.broker.links import Link, Links
from demesh.broker.origins import Origins
from demesh.broker.pace import Pace
from demesh.broker.packets import Connect, Malformed, Packet, Subscribe
from demesh.broker.retained import Retained
from demesh.broker.saved import Changes, Saved
from demesh.broker.session import Session
from demesh.broker.sessions import Sessions
from demesh.broker.status import SYS, Sizes, Status
from demesh.ports import SECOND, Instant

# Of a name that a refused client gave itself, for a log line.
NAME_CHARS_TOLD = 64

__all__ = ["Broker", "Close", "Conn", "Effect", "Pause", "Resume", "Transmit"]


class Broker:
    """Connections, sessions, subscriptions and retained messages of one broker.

    With `saved` it goes on where a broker stopped, and says what changes from then on
    (`changes`); without, nothing is recorded.
    """

    def __init__(
        self,
        limits: Limits,
        now: Instant,
        access: Access | None = None,
        saved: Saved | None = None,
    ) -> None:
        self.limits = limits
        self.counters = Counters()
        self.started_at = now
        recording = saved is not None
        per_s = limits.packets_per_s_max
        self._access = Open() if access is None else access
        self._links = Links(limits)
        self._origins = Origins(limits)
        self._pace = None if per_s is None else Pace(limits, per_s)
        self._sessions = Sessions(limits, self.counters, recording)
        self._retained = Retained(limits, self.counters, recording)
        self._delivery = Delivery(self.counters, self._retained)
        self._status = Status(self.counters, self._sizes, now)
        self._status_at: Instant | None = None  # while somebody listens
        self._conversation = Conversation(
            limits, self.counters, self._delivery, self._status, self._pace, self._access
        )
        if saved is not None:
            for record in saved.retained:
                self._retained.restore(record)
            for session in saved.sessions:
                self._delivery.restore(self._sessions.restore(session, now))
            # Accounts and rights may be others than when it was saved.
            assert not self.set_access(self._access, now), "nobody is there to be told"
            self._attend(now)

    # -- calls ------------------------------------------------------------------------------------

    def __contains__(self, conn: Conn) -> bool:
        """Whether this connection is open."""
        return conn in self._links

    def connected(self, conn: Conn, now: Instant, origin: str = "") -> list[Effect]:
        """A connection was opened; `origin`: the address it comes from, "" if that is no matter."""
        assert conn not in self._links, f"connection {conn} is open already"
        self.counters.connections += 1
        effects: list[Effect] = []
        address = f"a {origin}" if origin else None
        crowded = address is not None and self._origins.crowded(address)
        if crowded or len(self._links) >= self.limits.connections_max:
            # Who has not said CONNECT for longest makes room: opening sockets locks nobody out.
            mute = self._links.mute(address if crowded else None)
            if mute is None:
                self.counters.close(Reason.CONNECTIONS_FULL)
                return [Close(conn, Reason.CONNECTIONS_FULL)]
            self._end(mute, Reason.CONNECTIONS_FULL, now, effects)
        link = self._links.open(conn, now)
        if address is not None:
            link.address = link.payer = self._origins.enter(address, now)
        if self._pace is not None:
            self._pace.open(link)
        return effects

    def certified(self, conn: Conn, name: str) -> None:
        """The client of a new connection has shown a valid certificate for this name."""
        link = self._links.get(conn)
        if link is not None:
            link.certificate = name

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
                self._connect(link, packet, now, effects)
                self._slow_down(link, now, effects)  # others may have spent its user's all
            else:
                fault = packet.reason if isinstance(packet, Malformed) else Reason.PROTOCOL
                self._end(link, fault, now, effects)
            return effects
        if self._pace is not None:
            self._pace.charge(link, session, packet, now)
        ended = self._conversation.hear(link, session, packet, now, effects)
        if ended is not None:
            self._end(link, ended, now, effects)
        elif self._pace is not None:
            self._slow_down(link, now, effects)
        if type(packet) is Subscribe and self._status_at is None:
            self._attend(now)
        return effects

    def disconnected(self, conn: Conn, now: Instant) -> list[Effect]:
        """The connection is gone; nothing happens if it ended by a `Close`."""
        return self.close(conn, Reason.LOST, now)[1:]  # without the Close

    def close(self, conn: Conn, reason: Reason, now: Instant) -> list[Effect]:
        """The shell wants the connection closed, for example because its client is too slow."""
        effects: list[Effect] = []
        link = self._links.get(conn)
        if link is not None:
            self._end(link, reason, now, effects)
        return effects

    def stop(self, now: Instant) -> list[Effect]:
        """The broker stops: everybody is told who can be. Wills are not; saved ones are kept."""
        effects: list[Effect] = []
        for link in self._links:
            session = link.session
            if session is not None:
                will, session.will = session.will, None
                self._end(link, Reason.STOPPED, now, effects)
                session.will = will
            else:
                self._end(link, Reason.STOPPED, now, effects)
        return effects

    def tick(self, now: Instant) -> list[Effect]:
        """Time has passed."""
        effects: list[Effect] = []
        for link in self._links.silent(now):
            silent = Reason.CONNECT_TIMEOUT if link.session is None else Reason.KEEP_ALIVE
            self._end(link, silent, now, effects)
        for link in self._links.resting(now):
            assert self._pace is not None, "nothing is paused without a pace"
            if self._pace.overdrawn(link, now):  # its shell handed in more of it
                self._links.pause(link, self._pace.resume_at(link))
            else:
                effects.append(Resume(link.conn))
        for session in self._sessions.with_will_due(now):
            self._tell(session, now, effects)
        for session in self._sessions.expired(now):
            self.counters.sessions_expired += 1
            self._finish(session, now, effects)
        self._retained.expire(now)
        if self._status_at is not None and self._status_at <= now:
            for message in self._status.news(now):
                self._delivery.pass_on(message, None, None, now, effects)
            self._status_at = None
            self._attend(now)
        return effects

    def deadline(self) -> Instant | None:
        """When to call `tick` at the latest; it may turn out that nothing was due."""
        first = self._links.deadline()
        for at in (self._sessions.deadline(), self._retained.deadline(), self._status_at):
            if at is not None and (first is None or at < first):
                first = at
        return first

    def set_access(self, access: Access, now: Instant) -> list[Effect]:
        """Accounts and rights are others from now on, for those already connected too.

        Connections of a user that is gone are closed, its sessions ended and its wills not told;
        subscriptions that are no longer allowed end, and what waits of their topics is dropped.
        Retained messages stay: who may write to their topics now can replace or remove them.
        """
        effects: list[Effect] = []
        self._access = self._conversation.access = access
        for session in self._sessions:
            if access.knows(session.user):
                self._conversation.withdraw(session, now)
                continue
            session.will = None
            if session.conn is not None:
                effects += self.close(session.conn, Reason.RIGHTS_GONE, now)
            if self._sessions.get(session.client_id) is session:
                self._finish(session, now, effects)
        return effects

    def changes(self, everything: bool = False) -> Changes:
        """What is other than at the last call, to be saved; or all there is, for an empty store."""
        ended, sessions = self._sessions.changes(everything)
        unretained, retained = self._retained.changes(everything)
        return Changes(ended, sessions, unretained, retained)

    # -- links ------------------------------------------------------------------------------------

    def _slow_down(self, link: Link, now: Instant, effects: list[Effect]) -> None:
        """Pause a link that has said more than it may."""
        pace, session = self._pace, link.session
        if pace is None or session is None or link.paused or not pace.overdrawn(link, now):
            return
        self._links.pause(link, pace.resume_at(link))
        self.counters.pauses += 1
        effects.append(Pause(link.conn, session.client_id))

    def _connect(self, link: Link, packet: Connect, now: Instant, effects: list[Effect]) -> None:
        fault = greeting.fault(packet, self.limits)
        user = "" if fault is not None else self._login(link, packet, now)
        if isinstance(user, Reason):
            fault, user = user, ""
        client_id = packet.client_id or self._unused_id(link.conn)
        if fault is None:
            fault = self._objection(packet, client_id, user)
        if fault is not None:
            answer = greeting.refused(packet, fault)
            if answer is not None:
                self.counters.packets_sent += 1
                effects.append(Transmit(link.conn, answer))
            who = f"client {packet.client_id[:NAME_CHARS_TOLD]!r}"
            if packet.username is not None:
                who += f" as {packet.username[:NAME_CHARS_TOLD]!r}"
            self._end(link, fault, now, effects, who)
            return
        self._replace(client_id, packet.clean_start, now, effects)
        session = self._sessions.get(client_id)
        present = session is not None
        if session is None:
            oldest = self._sessions.to_evict(user)
            if oldest is not None:
                self.counters.sessions_evicted += 1
                self._finish(oldest, now, effects)
            session = self._sessions.begin(client_id, user)
        terms = greeting.terms_of(packet, self.limits)
        session.attach(link.conn, terms, greeting.expiry_s_of(packet), packet.will)
        self._sessions.online(session)
        self._links.greeted(link, session, greeting.keep_alive_s_of(packet, self.limits))
        if user != ANYBODY:
            link.user = link.payer = self._origins.enter(f"u {user}", now)
        self.counters.packets_sent += 1
        effects.append(
            Transmit(link.conn, greeting.welcome(packet, present, client_id, self.limits))
        )
        self._conversation.send(link, session.resume(now), effects)

    def _login(self, link: Link, packet: Connect, now: Instant) -> str | Reason:
        """The user a client is, or why it is refused."""
        said_who = packet.username is not None or link.certificate is not None
        address = link.address
        if said_who and address is not None and self._origins.guessing(address, now):
            return Reason.LOGINS_SLOWED
        user = self._access.login(packet.username, packet.password, link.certificate)
        if user is not None:
            return user
        self.counters.logins_failed += 1
        if not said_who:
            return Reason.NOT_AUTHORIZED
        if address is not None:
            self._origins.failed(address, now)
        return Reason.BAD_LOGIN

    def _objection(self, packet: Connect, client_id: str, user: str) -> Reason | None:
        """Why a user may not connect like this."""
        will = packet.will
        if will is not None and not self._access.may_write(user, client_id, will.topic):
            return Reason.NOT_AUTHORIZED
        welcome = greeting.welcome(packet, False, client_id, self.limits)
        if not greeting.fits(welcome, greeting.terms_of(packet, self.limits)):
            return Reason.ANSWER_TOO_LARGE
        session = self._sessions.get(client_id)
        if session is not None and session.user == user:
            return None
        chosen = bool(packet.client_id)
        if session is not None or (chosen and not self._access.may_connect(user, client_id)):
            return Reason.CLIENT_OF_ANOTHER
        if user != ANYBODY and self._origins.crowded(f"u {user}"):
            return Reason.CONNECTIONS_FULL
        if self._sessions.full and self._sessions.to_evict(user) is None:
            return Reason.SESSIONS_FULL
        return None

    def _unused_id(self, number: int) -> str:
        while self._sessions.get(f"assigned-{number}") is not None:
            number += 1
        return f"assigned-{number}"

    def _replace(
        self, client_id: str, clean_start: bool, now: Instant, effects: list[Effect]
    ) -> None:
        """Take over a client's older connection, and end its older session if it wants that."""
        before = self._sessions.get(client_id)
        if before is None:
            return
        if before.conn is not None:
            effects += self.close(before.conn, Reason.TAKEN_OVER, now)
        if clean_start and self._sessions.get(client_id) is before:
            self._finish(before, now, effects)

    def _end(
        self, link: Link, reason: Reason, now: Instant, effects: list[Effect], who: str = ""
    ) -> None:
        """End a link: close it, settle its session, tell its will."""
        session = link.session
        if session is not None:
            who = f"client {session.client_id!r}"
            if session.user != ANYBODY:
                who += f" of user {session.user!r}"
            farewell = greeting.farewell(reason, session.terms)
            if farewell is not None:
                self.counters.packets_sent += 1
                effects.append(Transmit(link.conn, farewell))
        effects.append(Close(link.conn, reason, who))
        self.counters.close(reason)
        self._links.close(link)
        for origin in (link.address, link.user):
            if origin is not None:
                self._origins.leave(origin, now)
        if session is None:
            return
        session.detach(now)
        at_once = not session.will_delay_s or not session.expiry_s
        if session.expiry_s:
            self._sessions.away(session, now)
        else:
            self._forget(session)
        if at_once:
            self._tell(session, now, effects)

    # -- sessions ---------------------------------------------------------------------------------

    def _finish(self, session: Session, now: Instant, effects: list[Effect]) -> None:
        """End a session without a connection; its will waits no longer."""
        self._forget(session)
        self._tell(session, now, effects)

    def _forget(self, session: Session) -> None:
        self._sessions.remove(session)
        self._delivery.forget(session)

    def _tell(self, session: Session, now: Instant, effects: list[Effect]) -> None:
        """Publish a session's will, if it has one."""
        will = session.will
        if will is None:
            return
        session.will = None
        session.changed = True
        self._conversation.accept(session, will, now, effects)

    # -- $SYS -------------------------------------------------------------------------------------

    def _attend(self, now: Instant) -> None:
        """See to it that who listens to the broker's own topics hears of them."""
        if self.limits.sys_s and self._delivery.listened_to(SYS):
            self._status_at = now + self.limits.sys_s * SECOND

    def _sizes(self) -> Sizes:
        return Sizes(
            connected=len(self._sessions) - self._sessions.offline,
            disconnected=self._sessions.offline,
            subscriptions=sum(len(session.subscriptions) for session in self._sessions),
            retained=len(self._retained),
            retained_bytes=self._retained.stored_bytes,
        )
