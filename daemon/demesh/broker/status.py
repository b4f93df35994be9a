"""What the broker says of itself below `$SYS/broker/`: the names mosquitto uses, and its counters.

Values are texts. `load` topics are per minute, averaged over one, five and fifteen minutes with
less weight for what is further back, as a Unix load is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

from demesh import __version__
from demesh.broker.limits import Counters, Reason
from demesh.broker.packets import Publish
from demesh.broker.topics import matches
from demesh.ports import SECOND, Instant

SYS = "$SYS"
"""The first level of the broker's own topics; no wildcard at the start matches it (4.7.2-1)."""

PREFIX = f"{SYS}/broker/"
MINUTES = (1, 5, 15)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What there is at the moment."""

    connected: int
    disconnected: int
    subscriptions: int
    retained: int
    retained_bytes: int


class Status:
    """The broker's own topics, and which of them were said."""

    __slots__ = ("_counters", "_loads", "_said", "_seen", "_seen_at", "_sizes", "_started_at")

    def __init__(self, counters: Counters, sizes: Callable[[], Sizes], now: Instant) -> None:
        self._counters = counters
        self._sizes = sizes
        self._started_at = now
        self._said: dict[str, str] = {}
        self._seen_at = now
        self._seen = self._totals()
        self._loads = {(name, minutes): 0.0 for name in self._seen for minutes in MINUTES}

    def news(self, now: Instant) -> list[Publish]:
        """Topics with another value than at the last call, to be published now."""
        self._measure(now)
        values = self._values(now)
        news = [
            Publish(topic, text.encode())
            for topic, text in values.items()
            if self._said.get(topic) != text
        ]
        self._said = values
        return news

    def match(self, pattern: str, now: Instant) -> list[Publish]:
        """What a new subscriber gets; the load is that of the last `news`."""
        return [
            Publish(topic, text.encode(), 0, True)
            for topic, text in self._values(now).items()
            if matches(pattern, topic)
        ]

    def _values(self, now: Instant) -> dict[str, str]:
        counters = self._counters
        sizes = self._sizes()
        dropped = sum(getattr(counters, name) for name in _names() if name.startswith("dropped_"))
        values: dict[str, object] = {
            "version": f"demesh {__version__}",
            "uptime": f"{(now - self._started_at) // SECOND} seconds",
            "clients/connected": sizes.connected,
            "clients/disconnected": sizes.disconnected,
            "clients/total": sizes.connected + sizes.disconnected,
            "clients/expired": counters.sessions_expired,
            "messages/received": counters.packets_received,
            "messages/sent": counters.packets_sent + counters.messages_sent,
            "publish/messages/received": counters.messages_received,
            "publish/messages/sent": counters.messages_sent,
            "publish/messages/dropped": dropped,
            "retained messages/count": sizes.retained,
            "store/messages/bytes": sizes.retained_bytes,
            "subscriptions/count": sizes.subscriptions,
        }
        for (name, minutes), load in self._loads.items():
            values[f"load/{name}/{minutes}min"] = f"{load:.2f}"
        for name in _names():
            values[f"counters/{name}"] = getattr(counters, name)
        for reason in Reason:
            values[f"counters/closed/{reason.name.lower()}"] = counters.closed.get(reason, 0)
        return {PREFIX + name: str(value) for name, value in values.items()}

    def _totals(self) -> dict[str, int]:
        counters = self._counters
        return {
            "messages/received": counters.packets_received,
            "messages/sent": counters.packets_sent + counters.messages_sent,
            "publish/received": counters.messages_received,
            "publish/sent": counters.messages_sent,
            "connections": counters.connections,
        }

    def _measure(self, now: Instant) -> None:
        """Take what happened since the last time into the averages."""
        minutes = (now - self._seen_at) / (60 * SECOND)
        if minutes <= 0:
            return
        totals = self._totals()
        for name, total in totals.items():
            per_minute = (total - self._seen[name]) / minutes
            for span in MINUTES:
                kept = math.exp(-minutes / span)
                load = self._loads[name, span]
                self._loads[name, span] = load * kept + per_minute * (1 - kept)
        self._seen = totals
        self._seen_at = now


def _names() -> list[str]:
    return [field.name for field in fields(Counters) if field.type == "int"]
