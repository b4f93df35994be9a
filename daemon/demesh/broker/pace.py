"""How fast a connection, and an origin, may speak: accounts of time that every packet is paid from.

Theory of operation. A connection earns a second per second and saves at most `burst_ms_max`. A
packet costs a fixed span and one for each of its bytes, so one account limits messages and bytes
alike. Kept is only `Link.paid_at`: when all that was said so far has been earned. It never lies
further back than the burst allows, and a link with `paid_at` more than the burst ahead of now is
overdrawn: its shell stops reading, and TCP makes the sender wait.

All connections of one origin (`origins.py`) pay from one more account, in which everything costs a
`connections_share`th of that: together they say as much as so many single ones. A link is
overdrawn when either account is. Without an origin there is only its own.

Answers to the broker are free: there is one for each packet it sent, and a client that cannot
answer is sent no more. An answer to nothing costs what any packet does.

Invariant: over any span t a link is let say what t + burst_ms_max pays for, and one packet more,
which lengthens the pause that follows; all links of an origin `connections_share` times that, and
one packet more each.
"""

from __future__ import annotations

from demesh.broker.backlog import weight
from demesh.broker.limits import Limits
from demesh.broker.links import Link
from demesh.broker.packets import (
    Malformed,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
)
from demesh.broker.session import Session
from demesh.ports import MILLISECOND, SECOND, Instant

# A filter of a SUBSCRIBE or UNSUBSCRIBE, and a retained message that one fetches, is one delivery
# or less and was not read from a socket of its own, so it costs a sixteenth of a packet, and its
# bytes: a view of a full store (2,048) waits a fraction of a second, one that asks for it again and
# again gets it some six times a second.
FETCHED_PER_PACKET = 16

# A branch of retained topics that a filter had to be compared with, found or not: half a
# microsecond, twice that on a small machine.
LOOKS_PER_PACKET = 1024


class Pace:
    """The prices, and the accounts of all links."""

    __slots__ = (
        "_burst_ns",
        "_byte_ns",
        "_fetched_ns",
        "_look_ns",
        "_new_ns",
        "_packet_ns",
        "_pause_ns",
        "_share",
    )

    def __init__(self, limits: Limits, packets_per_s_max: int) -> None:
        # Rounded down, for the client: by less than 1 in 200 at the default of 4 MiB a second.
        self._packet_ns = SECOND // packets_per_s_max
        self._byte_ns = SECOND // limits.bytes_per_s_max
        self._fetched_ns = self._packet_ns // FETCHED_PER_PACKET
        self._look_ns = self._packet_ns // LOOKS_PER_PACKET
        self._burst_ns = limits.burst_ms_max * MILLISECOND
        self._new_ns = min(limits.burst_new_ms, limits.burst_ms_max) * MILLISECOND
        self._pause_ns = limits.pause_ms * MILLISECOND
        self._share = limits.connections_share

    def open(self, link: Link) -> None:
        """Give a new link its first credit."""
        link.paid_at = link.opened_at + self._burst_ns - self._new_ns

    def charge(
        self, link: Link, session: Session, packet: Packet | Malformed, now: Instant
    ) -> None:
        """Take the price of a packet that has arrived and was not handled yet."""
        cost_ns = self._packet_ns
        if type(packet) is Publish:
            cost_ns += weight(packet) * self._byte_ns
        elif type(packet) is Subscribe or type(packet) is Unsubscribe:
            cost_ns += len(packet.filters) * self._fetched_ns
        elif _answers(session, packet):
            return
        link.paid_at = max(link.paid_at, now) + cost_ns
        origin = link.payer
        if origin is not None:
            origin.paid_at = max(origin.paid_at, now) + cost_ns // self._share

    def charge_fetched(self, link: Link, message: Publish) -> None:
        """Take the price of a retained message that a SUBSCRIBE asked for, after its own."""
        self._add(link, self._fetched_ns + weight(message) * self._byte_ns)

    def charge_looks(self, link: Link, looks: int) -> None:
        """Take the price of what a SUBSCRIBE had to look at, after its own."""
        self._add(link, looks * self._look_ns)

    def _add(self, link: Link, cost_ns: int) -> None:
        link.paid_at += cost_ns
        if link.payer is not None:
            link.payer.paid_at += cost_ns // self._share

    def overdrawn(self, link: Link, now: Instant) -> bool:
        """Whether a link is not to be read now."""
        return self._paid_at(link) - now > self._burst_ns

    def resume_at(self, link: Link) -> Instant:
        """When an overdrawn link may be read again, if it says nothing meanwhile."""
        return self._paid_at(link) - self._burst_ns + self._pause_ns

    def _paid_at(self, link: Link) -> Instant:
        payer = link.payer
        return link.paid_at if payer is None else max(link.paid_at, payer.paid_at)


def _answers(session: Session, packet: Packet | Malformed) -> bool:
    """Whether a packet is the answer to one that the broker has sent and still holds."""
    match packet:
        case Puback(packet_id) | Pubrec(packet_id):
            return session.awaits(packet_id, Publish)
        case Pubcomp(packet_id):
            return session.awaits(packet_id, Pubrel)
        case Pubrel(packet_id):
            return packet_id in session.unreleased
        case _:
            return False
