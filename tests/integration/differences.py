"""Where mosquitto (`RELEASE`) answers otherwise than the embedded broker, and why that stays so."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

RELEASE = "2.0.11"

Differs = Callable[[str], bool]
"""Whether the broker that is probed does what the named row says: it is mosquitto."""


class Difference(NamedTuple):
    """What mosquitto does; what ours does, and why."""

    mosquitto: str
    ours: str


DIFFERENCES = {
    "MQTT 3.1": Difference("serves it", "refused with return code 1: nobody here speaks it"),
    "overlapping subscriptions": Difference(
        "delivers once, not always with the highest QoS", "with the highest (3.3.5-1)"
    ),
    "broken packets at 3.1.1": Difference(
        "overlooks a duplicate at QoS 0, and packets only a broker sends", "ends the connection"
    ),
    "broken packets at 5": Difference(
        "overlooks a payload format of 2, a subscription id from a client, a response topic with a "
        "wildcard, unknown codes, needless length bytes, and packets only a broker sends",
        "ends the connection: others must never be handed what is not allowed",
    ),
    "the reason of a close": Difference(
        "often closes without one, also on take-over and after silence", "always says it at MQTT 5"
    ),
    "shared subscriptions": Difference(
        "has them",
        "announced as not available and refused: no part of a mesh may miss what others get",
    ),
    "messages too large for a client": Difference(
        "are not sent, and take room in its window for good",
        "are not sent and done with (3.1.2-25)",
    ),
    "receive maximum of a client": Difference(
        "sends one more than that after an acknowledgement", "never sends more (3.3.4-9)"
    ),
    "a smaller window on return": Difference(
        "sends again all that was under way", "as much of it as the client takes now (3.3.4-9)"
    ),
    "overlapping subscriptions at 5": Difference(
        "one delivery for each", "one delivery with all subscription ids; 3.3.4 has both"
    ),
    "a filter named twice": Difference(
        "in one SUBSCRIBE: mixes the options", "takes the later ones (3.8.4-3)"
    ),
    "wills of a session that ends": Difference(
        "waits for the whole delay when the session ends with its connection or by a clean start",
        "told at once (3.1.3.2.2)",
    ),
    "wills at a goodbye": Difference(
        "told for code 0x04 only", "told for every code but 0 (3.14.4-3)"
    ),
    "wills on take-over": Difference(
        "not told when the session goes on", "told if it has no delay (3.1.4)"
    ),
    "receive maximum": Difference(
        "refuses the message above its own with 0x97 and goes on",
        "ends the connection with 0x93 (3.3.4)",
    ),
}
