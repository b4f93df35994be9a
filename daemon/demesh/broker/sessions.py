"""The table of sessions: who has one, for how long without a connection, and whose will is due."""

from __future__ import annotations

from collections.abc import Iterator

from demesh.broker.access import ANYBODY
from demesh.broker.backlog import Stock
from demesh.broker.limits import Counters, Limits
from demesh.broker.saved import SavedSession, SessionChange
from demesh.broker.session import NEVER, Session
from demesh.broker.timers import Alarms
from demesh.ports import MILLISECOND, SECOND, Instant


class Sessions:
    """All sessions. Ending one is the caller's: a table knows of no subscriptions."""

    __slots__ = ("_all", "_counters", "_ended", "_ends", "_limits", "_offline", "_stock", "_wills")

    def __init__(self, limits: Limits, counters: Counters, recording: bool) -> None:
        self._limits = limits
        self._counters = counters
        self._all: dict[str, Session] = {}
        self._stock = Stock()
        self._offline: dict[str, Session] = {}  # longest offline first
        self._ends: Alarms[str] = Alarms()
        self._wills: Alarms[str] = Alarms()
        # Client ids of which a store still holds a session, if there is a store.
        self._ended: dict[str, None] | None = {} if recording else None

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Session]:
        """In the order of their beginning; the table may change meanwhile."""
        return iter(tuple(self._all.values()))

    @property
    def offline(self) -> int:
        """How many have no connection."""
        return len(self._offline)

    def get(self, client_id: str) -> Session | None:
        """The session of a client."""
        return self._all.get(client_id)

    def to_evict(self, user: str) -> Session | None:
        """Who makes room for a new session of `user`: if it has half of all there may be, its own
        that is longest offline, or else, if the table is full, the longest offline of all."""
        share = max(1, self._limits.sessions_max // 2)
        if user != ANYBODY and len(self._all) >= share:
            own = [session for session in self._all.values() if session.user == user]
            if len(own) >= share:
                for session in self._offline.values():
                    if session.user == user:
                        return session
        return next(iter(self._offline.values()), None) if self.full else None

    @property
    def full(self) -> bool:
        """Whether there is no room for another one."""
        return len(self._all) >= self._limits.sessions_max

    def begin(self, client_id: str, user: str) -> Session:
        """A new session, without a connection."""
        session = Session(client_id, user, self._limits, self._counters, self._stock)
        self._all[client_id] = session
        return session

    def online(self, session: Session) -> None:
        """Its client is there: it does not end, and what it had as a will is not told (3.1.3-9)."""
        client_id = session.client_id
        self._offline.pop(client_id, None)
        self._ends.set(client_id, None)
        self._wills.set(client_id, None)
        if not session.expiry_s:  # it ends with the connection, even by a crash
            self._unrecord(session)

    def away(self, session: Session, now: Instant) -> None:
        """Its client is gone, and it lives on; a will waits for its time."""
        client_id = session.client_id
        self._offline[client_id] = session
        if session.expiry_s != NEVER:
            self._ends.set(client_id, now + session.expiry_s * SECOND)
        if session.will is not None:
            self._wills.set(client_id, now + session.will_delay_s * SECOND)

    def remove(self, session: Session) -> None:
        """It has ended."""
        client_id = session.client_id
        del self._all[client_id]
        self._offline.pop(client_id, None)
        self._ends.set(client_id, None)
        self._wills.set(client_id, None)
        session.discard()
        self._unrecord(session)

    def expired(self, now: Instant) -> Iterator[Session]:
        """Sessions whose time without a connection is over; the caller ends each."""
        for client_id in self._ends.due(now):
            yield self._all[client_id]

    def with_will_due(self, now: Instant) -> Iterator[Session]:
        """Sessions without a connection whose will is to be told now."""
        for client_id in self._wills.due(now):
            yield self._all[client_id]

    def deadline(self) -> Instant | None:
        """When to look for either."""
        ends, wills = self._ends.deadline(), self._wills.deadline()
        if ends is None or wills is None:
            return wills if ends is None else ends
        return min(ends, wills)

    # -- for a store ------------------------------------------------------------------------------

    def restore(self, saved: SavedSession, now: Instant) -> Session:
        """Take back a session; its time goes on, or begins if it had a connection."""
        record = saved.record
        session = self.begin(record.client_id, record.user)
        session.restore(record, saved.queue, now)
        assert session.offline_since is not None
        self._offline[session.client_id] = session
        if session.expiry_s != NEVER:
            self._ends.set(session.client_id, session.offline_since + session.expiry_s * SECOND)
        if session.will is not None:
            # A client that lost the broker and not its power is back sooner than a CONNECT takes.
            patience_s = -(-self._limits.connect_timeout_ms * MILLISECOND // SECOND)
            later = now + max(session.will_delay_s, patience_s) * SECOND
            self._wills.set(session.client_id, later if record.will_at is None else record.will_at)
        return session

    def changes(self, everything: bool) -> tuple[tuple[str, ...], tuple[SessionChange, ...]]:
        """Clients whose saved session ended; what changed in those that outlive a connection."""
        if self._ended is None:
            return (), ()
        ended = () if everything else tuple(self._ended)
        self._ended.clear()
        changed = tuple(
            session.change(self._wills.get(session.client_id), everything)
            for session in self._all.values()
            if session.expiry_s and (everything or session.changed)
        )
        return ended, changed

    def _unrecord(self, session: Session) -> None:
        if session.recorded and self._ended is not None:
            session.unrecord()
            self._ended[session.client_id] = None
