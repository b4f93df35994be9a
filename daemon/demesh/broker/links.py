"""The broker's connections: when each has been silent for too long, and which are paused."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from demesh.broker.effects import Conn
from demesh.broker.limits import Limits
from demesh.broker.origins import Origin
from demesh.broker.session import Session
from demesh.ports import MILLISECOND, SECOND, Instant


class Link:
    """One connection; without a session until its CONNECT was accepted."""

    __slots__ = (
        "address",
        "alarm",
        "aliases",
        "certificate",
        "conn",
        "keep_alive_ns",
        "opened_at",
        "paid_at",
        "paused",
        "payer",
        "seen_at",
        "session",
        "user",
    )

    def __init__(self, conn: Conn, now: Instant) -> None:
        self.conn = conn
        self.opened_at = now
        self.seen_at = now
        self.keep_alive_ns = 0  # one and a half times what the client said; 0: may be silent
        self.session: Session | None = None
        self.certificate: str | None = None  # the verified name of a TLS client
        self.aliases: dict[int, str] = {}  # topics by the short names the client gave them
        self.address: Origin | None = None
        self.user: Origin | None = None
        self.payer: Origin | None = None  # of the two, who pays (`pace.Pace`)
        self.alarm: Instant | None = None  # the one alarm of this link that counts
        self.paid_at = now  # of `pace.Pace`
        self.paused = False


class Links:
    """All open links. An alarm may come early, never late: a packet does not move it, it is only
    looked at again when it is due, so that a packet costs no more than setting `seen_at`."""

    __slots__ = ("_alarms", "_limits", "_links", "_mute", "_pauses")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._links: dict[Conn, Link] = {}
        self._mute: dict[Conn, Link] = {}  # without a session, oldest first
        self._alarms: list[tuple[Instant, Conn]] = []
        self._pauses: list[tuple[Instant, Conn]] = []  # one for each paused link, and closed ones

    def __len__(self) -> int:
        return len(self._links)

    def __contains__(self, conn: Conn) -> bool:
        return conn in self._links

    def __iter__(self) -> Iterator[Link]:
        """In the order of opening; links may be closed meanwhile."""
        return iter(tuple(self._links.values()))

    def get(self, conn: Conn) -> Link | None:
        """The open link of this number."""
        return self._links.get(conn)

    def open(self, conn: Conn, now: Instant) -> Link:
        """Add a link."""
        link = self._links[conn] = self._mute[conn] = Link(conn, now)
        self._arm(link)
        return link

    def greeted(self, link: Link, session: Session, keep_alive_s: int) -> None:
        """Its CONNECT was accepted: from now on the link may be silent for one and a half times
        `keep_alive_s` (3.1.2-24); 0: for ever."""
        del self._mute[link.conn]
        link.session = session
        link.keep_alive_ns = keep_alive_s * SECOND * 3 // 2
        self._arm(link)

    def mute(self, address: str | None) -> Link | None:
        """The link that has been without a CONNECT for longest, of all or of one address."""
        for link in self._mute.values():
            if address is None or (link.address is not None and link.address.name == address):
                return link
        return None

    def close(self, link: Link) -> None:
        """Take a link out."""
        del self._links[link.conn]
        self._mute.pop(link.conn, None)
        # Alarms of closed links go when they come up, but that may take hours.
        if len(self._alarms) > 2 * len(self._links) + 64:
            self._alarms = [
                (at, conn)
                for at, conn in self._alarms
                if conn in self._links and self._links[conn].alarm == at
            ]
            heapq.heapify(self._alarms)

    def silent(self, now: Instant) -> Iterator[Link]:
        """The links that have been silent for too long; the caller closes each."""
        while self._alarms and self._alarms[0][0] <= now:
            at, conn = heapq.heappop(self._alarms)
            link = self._links.get(conn)
            if link is None or link.alarm != at:
                continue
            link.alarm = None
            if link.paused:  # it may have said much that nobody has read
                link.seen_at = now
            due = self._due(link)
            if due is not None and due <= now:
                yield link
            else:
                self._arm(link)

    def pause(self, link: Link, until: Instant) -> None:
        """Name the link again in `resting` at `until`."""
        link.paused = True
        heapq.heappush(self._pauses, (until, link.conn))

    def resting(self, now: Instant) -> Iterator[Link]:
        """The links whose pause is over; each is running again unless the caller pauses it."""
        while self._pauses and self._pauses[0][0] <= now:
            link = self._links.get(heapq.heappop(self._pauses)[1])
            if link is not None:
                link.paused = False
                link.seen_at = now  # its silence begins when it can be heard
                yield link

    def deadline(self) -> Instant | None:
        """When to look for silent and for paused links again, at the latest."""
        heads = [heap[0][0] for heap in (self._alarms, self._pauses) if heap]
        return min(heads, default=None)

    def _due(self, link: Link) -> Instant | None:
        if link.session is None:
            return link.opened_at + self._limits.connect_timeout_ms * MILLISECOND
        return link.seen_at + link.keep_alive_ns if link.keep_alive_ns else None

    def _arm(self, link: Link) -> None:
        due = self._due(link)
        if due is not None and (link.alarm is None or due < link.alarm):
            link.alarm = due
            heapq.heappush(self._alarms, (due, link.conn))
