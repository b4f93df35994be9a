"""Who is behind the connections: a user, or an address whose clients have no names.

Several connections of one origin have one purse (`pace.py`), and one origin never has all the
connections there may be. Wrong logins are an address's: each takes a share of a second from an
account, and while that is overdrawn no password from there is looked at, so that guessing costs the
guesser's time and not the broker's.
"""

from __future__ import annotations

import ipaddress

from demesh.broker.limits import Limits
from demesh.ports import SECOND, Instant


class Origin:
    """One user or address, and the accounts of time it has (`pace.py` says how they work)."""

    __slots__ = ("failed_at", "links", "name", "paid_at")

    def __init__(self, name: str) -> None:
        self.name = name
        self.links = 0
        self.paid_at: Instant = 0  # for all its connections say
        self.failed_at: Instant = 0  # for wrong logins


class Origins:
    """All origins that have a connection, or had one and still pay for it."""

    __slots__ = ("_burst_ns", "_failure_ns", "_links_max", "_origins", "_origins_max")

    def __init__(self, limits: Limits) -> None:
        self._origins: dict[str, Origin] = {}
        # Who is gone pays for a few seconds more; as many again as may be there is enough.
        self._origins_max = 4 * limits.connections_max
        # The rest is for others, even if one takes all it can get.
        self._links_max = max(1, limits.connections_max * 3 // 4)
        self._failure_ns = SECOND // limits.failed_logins_per_s_max
        self._burst_ns = limits.failed_logins_burst * self._failure_ns

    def __len__(self) -> int:
        return len(self._origins)

    def enter(self, name: str, now: Instant) -> Origin:
        """The origin of one more connection, which `leave` takes off again."""
        origin = self._origins.get(name)
        if origin is None:
            if len(self._origins) >= self._origins_max:
                self._forget(now)
            origin = self._origins[name] = Origin(name)
        origin.links += 1
        return origin

    def leave(self, origin: Origin, now: Instant) -> None:
        """A connection of this origin is gone."""
        origin.links -= 1
        if not origin.links and max(origin.paid_at, origin.failed_at) <= now:
            self._origins.pop(origin.name, None)

    def crowded(self, name: str) -> bool:
        """Whether an origin has as many connections as one may."""
        origin = self._origins.get(name)
        return origin is not None and origin.links >= self._links_max

    def failed(self, origin: Origin, now: Instant) -> None:
        """A login was wrong."""
        origin.failed_at = max(origin.failed_at, now) + self._failure_ns

    def guessing(self, origin: Origin, now: Instant) -> bool:
        """Whether so many logins were wrong that none is looked at now."""
        return origin.failed_at - now >= self._burst_ns

    def _forget(self, now: Instant) -> None:
        """Forget who is gone: those who owe nothing, or else all."""
        gone = [origin for origin in self._origins.values() if not origin.links]
        settled = [origin for origin in gone if max(origin.paid_at, origin.failed_at) <= now]
        for origin in settled or gone:
            del self._origins[origin.name]


def origin_of(address: str) -> str:
    """Whose account a connection uses: its address, of IPv6 the network that one site has.

    None ("") on this machine itself: a street may run here, and no board is to pay for another.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.is_loopback:
        return ""
    if ip.version == 4:
        return address
    return str(ipaddress.ip_network((ip, 64), strict=False))
