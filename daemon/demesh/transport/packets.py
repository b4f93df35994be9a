"""What a client says most often, as bytes: publications, pings, acknowledgements.

The handshake is paho's. These are composed here, for each would cost it ten times as much.
"""

from __future__ import annotations

from enum import IntEnum

from demesh.ports import Publish

PINGREQ = b"\xc0\x00"
PUBACK = b"\x40\x02"  # and the packet id

# No expiry either: a broker then has to count it down for each receiver, which costs ours 8 to 20 %
# of a delivery, and all it saves is old messages for who comes back within the hour of a session.
_NO_PROPERTIES = b"\x00"


class Level(IntEnum):
    """MQTT's own number of its versions, as CONNECT has it."""

    V3 = 4  # 3.1.1
    V5 = 5

    @property
    def spoken(self) -> str:
        """As people call it."""
        return "3.1.1" if self is Level.V3 else "5"


def compose(publish: Publish, packet_id: int, level: Level) -> bytes:
    """A PUBLISH packet; `packet_id` counts at QoS 1 only."""
    topic = publish.topic.encode()
    if b"+" in topic or b"#" in topic:
        raise ValueError(f"{publish.topic}: one publishes on a topic, without wildcards")
    body = len(topic).to_bytes(2) + topic
    if publish.qos:
        body += packet_id.to_bytes(2)
    if level is Level.V5:
        body += _NO_PROPERTIES
    first = 0x30 | publish.qos << 1 | publish.retain
    return bytes((first, *_length(len(body) + len(publish.payload)))) + body + publish.payload


def _length(value: int) -> list[int]:
    """MQTT's variable byte integer."""
    found = []
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return [*found, value]
