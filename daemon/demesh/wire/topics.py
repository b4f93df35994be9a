"""MQTT topics: which exist, who may publish what on them, and how they are read (R-WIRE-4).

    demesh/1/<mesh>/<area>/<device>            area: vote, op, tip, card, gone
    demesh/1/<mesh>/to/<device>/<sender>
    demesh/1/<mesh>/obs/<device>/<rest>        for people; never read by a node

The publisher's id is a level of its own, so that a broker can enforce who speaks.
"""

from __future__ import annotations

from dataclasses import dataclass

from demesh.wire import identity
from demesh.wire.kinds import Kind

_ROOT = "demesh/1"

KINDS_OF_AREA: dict[str, frozenset[Kind]] = {
    "vote": frozenset({Kind.PROPOSAL, Kind.VOTE, Kind.CERTIFICATE}),
    "op": frozenset({Kind.OP}),
    "tip": frozenset({Kind.CERTIFICATE}),
    "card": frozenset({Kind.CARD}),
    "to": frozenset(
        {
            Kind.VOUCHER,
            Kind.ACCEPT,
            Kind.ACK,
            Kind.REFUSE,
            Kind.READING,
            Kind.END,
            Kind.RECALL,
            Kind.RECALLED,
            Kind.WANT,
            Kind.BLOCKS,
            Kind.LEAP,
            Kind.SEEK,
            Kind.CHUNK,
        }
    ),
}
"""The kinds that belong into each area; anything else there is `Reject.TOPIC`."""

# Where a device speaks to all: one topic each, <area>/<device>.
_OPEN_AREAS = ("vote", "op", "tip", "card", "gone")

VIEWER = "view"
"""The login of people and views: it hears what is for people, and is no device's id."""

# Anybody may pass on what others signed; what says "I, now" must come from its publisher.
RELAYED = frozenset({Kind.PROPOSAL, Kind.VOTE, Kind.CERTIFICATE, Kind.OP})


@dataclass(frozen=True, slots=True)
class Address:
    """A topic, read: its area and who published there."""

    area: str
    publisher: bytes


def acl_lines() -> tuple[str, ...]:
    """What a broker holds each login to, as lines of mosquitto's ACL file (R-WIRE-4).

    The login's name, `%u`, is the text of the device's id. A filter without `%u` is for all logins.
    """
    any_mesh = f"{_ROOT}/+"
    return (
        *(f"pattern write {any_mesh}/{area}/%u" for area in _OPEN_AREAS),
        f"pattern write {any_mesh}/to/+/%u",
        f"pattern write {any_mesh}/obs/%u/#",
        *(f"pattern read {any_mesh}/{area}/+" for area in _OPEN_AREAS),
        f"pattern read {any_mesh}/to/%u/+",
        "pattern read $SYS/broker/#",
        f"user {VIEWER}",
        f"topic read {any_mesh}/obs/#",
    )


class Topics:
    """The topics of one device in one mesh."""

    def __init__(self, mesh_id: bytes, me: bytes) -> None:
        self._base = f"{_ROOT}/{identity.text(mesh_id[:16])}"
        self._me, self._me_text = me, identity.text(me)
        self._known: dict[str, Address] = {}

    def mine(self, area: str) -> str:
        """Where I publish in an area."""
        return f"{self._base}/{area}/{self._me_text}"

    def to(self, device: bytes) -> str:
        """Where I speak to one device."""
        return f"{self._base}/to/{identity.text(device)}/{self._me_text}"

    def observation(self, rest: str) -> str:
        """Where people look."""
        return f"{self._base}/obs/{self._me_text}/{rest}"

    @property
    def filters(self) -> tuple[str, ...]:
        """What a node subscribes to."""
        return (
            *(f"{self._base}/{area}/+" for area in _OPEN_AREAS),
            f"{self._base}/to/{self._me_text}/+",
        )

    def read(self, topic: str) -> Address | None:
        """The address of a topic that this node listens to; None for any other."""
        known = self._known.get(topic)
        if known is None:
            known = self._parse(topic)
            # One entry per device and area of a mesh; a flood of odd topics must not grow it.
            if known is not None and len(self._known) < 4096:
                self._known[topic] = known
        return known

    def _parse(self, topic: str) -> Address | None:
        if not topic.startswith(self._base + "/"):
            return None
        area, *levels = topic[len(self._base) + 1 :].split("/")
        if area == "to":
            if len(levels) != 2 or levels[0] != self._me_text:
                return None
        elif area not in (*KINDS_OF_AREA, "gone") or len(levels) != 1:
            return None
        try:
            return Address(area, identity.parse(levels[-1]))
        except ValueError:
            return None
