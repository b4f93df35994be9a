"""Reason codes of MQTT 5, which packet may have which, and what 3.1.1 has in their place."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Reason codes of MQTT 5 (section 2.4)."""

    SUCCESS = 0x00  # in a SUBACK: granted with QoS 0
    GRANTED_1 = 0x01
    GRANTED_2 = 0x02
    DISCONNECT_WITH_WILL = 0x04
    NO_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION = 0x11
    CONTINUE_AUTH = 0x18
    AUTH_AGAIN = 0x19
    UNSPECIFIED = 0x80  # the one failure of a 3.1.1 SUBACK
    MALFORMED = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION = 0x83
    UNSUPPORTED_VERSION = 0x84
    CLIENT_ID_INVALID = 0x85
    BAD_LOGIN = 0x86
    NOT_AUTHORIZED = 0x87
    UNAVAILABLE = 0x88
    BUSY = 0x89
    BANNED = 0x8A
    SHUTTING_DOWN = 0x8B
    BAD_AUTH_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    TAKEN_OVER = 0x8E
    FILTER_INVALID = 0x8F
    TOPIC_INVALID = 0x90
    ID_IN_USE = 0x91
    ID_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM = 0x93
    ALIAS_INVALID = 0x94
    TOO_LARGE = 0x95
    RATE_TOO_HIGH = 0x96
    QUOTA = 0x97
    ADMINISTRATIVE = 0x98
    PAYLOAD_FORMAT = 0x99
    NO_RETAIN = 0x9A
    NO_QOS = 0x9B
    USE_ANOTHER = 0x9C
    MOVED = 0x9D
    NO_SHARED = 0x9E
    CONNECTION_RATE = 0x9F
    MAX_CONNECT_TIME = 0xA0
    NO_IDS = 0xA1
    NO_WILDCARDS = 0xA2


GRANTED = (Code.SUCCESS, Code.GRANTED_1, Code.GRANTED_2)
"""The code of a SUBACK that grants this QoS."""


def _codes(*numbers: int) -> dict[int, Code]:
    return {number: Code(number) for number in numbers}


# The codes a packet may have (tables 3-1 to 3-13 of MQTT 5), by number.
CONNACK = _codes(
    0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F
)
RECEIVED = _codes(0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)  # PUBACK, PUBREC
RELEASED = _codes(0x00, 0x92)  # PUBREL, PUBCOMP
SUBACK = _codes(0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2)
UNSUBACK = _codes(0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91)
DISCONNECT = _codes(
    0x00, 0x04, *range(0x80, 0x84), 0x87, 0x89, 0x8B, *range(0x8D, 0x91), *range(0x93, 0xA3)
)
AUTH = _codes(0x00, 0x18, 0x19)

# The return codes of a 3.1.1 CONNACK (its table 3.1), and its SUBACK.
CONNACK_3 = {
    0: Code.SUCCESS,
    1: Code.UNSUPPORTED_VERSION,
    2: Code.CLIENT_ID_INVALID,
    3: Code.UNAVAILABLE,
    4: Code.BAD_LOGIN,
    5: Code.NOT_AUTHORIZED,
}
SUBACK_3 = _codes(0, 1, 2, 0x80)

_TO_CONNACK_3 = {code: number for number, code in CONNACK_3.items()} | {
    Code.BAD_AUTH_METHOD: 4,
    Code.BANNED: 5,
}


def return_code(code: Code) -> int:
    """What a 3.1.1 CONNACK says for a code: "unavailable" where it has nothing of its own."""
    return _TO_CONNACK_3.get(code, 3)
