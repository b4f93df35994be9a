"""The broker's connections: when each has been silent for too long, and which are paused."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from demesh.broker.limits import Limits
from demesh.broker.packets import Publish
from demesh.broker.session import Session
from demesh.ports import MILLISECOND, SECOND, Instant

Conn = int
"""The shell's number of a connection; never used a second time."""


class Link:
    """One connection; without a session until its CONNECT was accepted."""

    __slots__ = (
        "alarm",
        "conn",
        "keep_alive_ns",
        "opened_at",
        "paid_at",
        "paused",
        "seen_at",
        "session",
        "will",
    )

    def __init__(self, conn: Conn, now: Instant) -> None:
        self.conn = conn
        self.opened_at = now
        self.seen_at = now
        self.keep_alive_ns = 0  # one and a half times what the client said; 0: may be silent
        self.session: Session | None = None
        self.will: Publish | None = None
        self.alarm: Instant | None = None  # the one alarm of this link that counts
        self.paid_at = now  # of `pace.Pace`
        self.paused = False


class Links:
    """All open links. An alarm may come early, never late: a packet does not move it, it is only
    looked at again when it is due, so that a packet costs no more than setting `seen_at`."""

    __slots__ = ("_alarms", "_limits", "_links", "_pauses")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._links: dict[Conn, Link] = {}
        self._alarms: list[tuple[Instant, Conn]] = []
        self._pauses: list[tuple[Instant, Conn]] = []  # one for each paused link, and closed ones

    def __len__(self) -> int:
        return len(self._links)

    def __contains__(self, conn: Conn) -> bool:
        return conn in self._links

    def get(self, conn: Conn) -> Link | None:
        """The open link of this number."""
        return self._links.get(conn)

    def open(self, conn: Conn, now: Instant) -> Link:
        """Add a link."""
        link = self._links[conn] = Link(conn, now)
        self._arm(link)
        return link

    def close(self, link: Link) -> None:
        """Take a link out."""
        del self._links[link.conn]
        # Alarms of closed links go when they come up, but that may take hours.
        if len(self._alarms) > 2 * len(self._links) + 64:
            self._alarms = [
                (at, conn)
                for at, conn in self._alarms
                if conn in self._links and self._links[conn].alarm == at
            ]
            heapq.heapify(self._alarms)

    def keep_alive(self, link: Link, keep_alive_s: int) -> None:
        """From now on the link may be silent for one and a half times `keep_alive_s` (3.1.2-24)."""
        link.keep_alive_ns = keep_alive_s * SECOND * 3 // 2
        self._arm(link)

    def silent(self, now: Instant) -> Iterator[Link]:
        """The links that have been silent for too long; the caller closes each."""
        while self._alarms and self._alarms[0][0] <= now:
            at, conn = heapq.heappop(self._alarms)
            link = self._links.get(conn)
            if link is None or link.alarm != at:
                continue
            link.alarm = None
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
