"""How long a message is worth delivering (MQTT 5, section 3.3.2.3.3).

A message carries seconds; inside the broker they are a point in time, and what is sent later than
at once carries what is left, rounded up: a message sent within its last second says 1 (3.3.2-6).
"""

from __future__ import annotations

from dataclasses import replace

from demesh.broker.packets import Publish
from demesh.ports import SECOND, Instant


def expires_at(message: Publish, now: Instant) -> Instant | None:
    """When a message that came in now is no longer to be delivered; None: never."""
    properties = message.properties
    if properties is None or properties.message_expiry_s is None:
        return None
    return now + properties.message_expiry_s * SECOND


def is_over(at: Instant | None, now: Instant) -> bool:
    """Whether that time has come."""
    return at is not None and at <= now


def counted_down(message: Publish, at: Instant | None, now: Instant) -> Publish:
    """A message with the time it has left now."""
    properties = message.properties
    if at is None or properties is None:
        return message
    left_s = max(0, -((now - at) // SECOND))  # rounded up
    if left_s == properties.message_expiry_s:
        return message
    return replace(message, properties=replace(properties, message_expiry_s=left_s))
