"""What people see: one effect of the core becomes JSON on topics and a line in the log.

The only place where either is made, so they cannot disagree. Nothing that decides reads them back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from demesh.ports import SECOND, Instant, Json, Observe, Publish

EVENT_TOPIC = "event"


@dataclass(frozen=True, slots=True)
class Projection:
    """Observation of one device: `name` is in every document, `prefix` ends with a slash."""

    name: str
    prefix: str

    def publications(self, effect: Observe, wall_ns: Instant) -> list[Publish]:
        """The documents of an effect, QoS 0, not retained; `wall_ns` since 1970."""
        found = []
        event: dict[str, Json] = {"text": effect.text, "at": written(wall_ns)}
        if effect.topic == EVENT_TOPIC:
            event = {**effect.document, **event}
        elif effect.document:
            found.append(self._publish(effect.topic, effect.document))
        if effect.text:
            found.append(self._publish(EVENT_TOPIC, event))
        return found

    def _publish(self, topic: str, document: dict[str, Json]) -> Publish:
        named = {"name": self.name, **document}
        body = json.dumps(named, ensure_ascii=False, separators=(",", ":"))
        return Publish(self.prefix + topic, body.encode(), qos=0)


def written(wall_ns: Instant) -> str:
    """A wall time as ISO 8601 in UTC with milliseconds, which sorts as text."""
    seconds, rest = divmod(wall_ns, SECOND)
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{rest // 1_000_000:03d}Z"
