"""CONNECT and its answer, and the last word to a client: what they say, without who may.

A client of MQTT 5 is told why it is refused (CONNACK) or closed (DISCONNECT). One of 3.1.1 is told
the former in that level's few codes, which is the codec's business, and the latter not at all.
"""

from __future__ import annotations

from demesh.broker.codec import encode
from demesh.broker.codes import Code
from demesh.broker.limits import Limits, Reason
from demesh.broker.packets import (
    LEVEL_3,
    LEVEL_5,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Properties,
    Publish,
)
from demesh.broker.session import NEVER, PACKET_IDS, Terms
from demesh.broker.topics import valid_name

# As section 2.4 and 4.13 name them; all that is missing here is UNSPECIFIED.
CODES: dict[Reason, Code] = {
    Reason.TAKEN_OVER: Code.TAKEN_OVER,
    Reason.KEEP_ALIVE: Code.KEEP_ALIVE_TIMEOUT,
    Reason.MALFORMED: Code.MALFORMED,
    Reason.TOO_LARGE: Code.TOO_LARGE,
    Reason.PROTOCOL: Code.PROTOCOL_ERROR,
    Reason.TOPIC: Code.TOPIC_INVALID,
    Reason.FILTER: Code.FILTER_INVALID,
    Reason.ALIAS: Code.ALIAS_INVALID,
    Reason.RECEIVE_MAXIMUM: Code.RECEIVE_MAXIMUM,
    Reason.VERSION: Code.UNSUPPORTED_VERSION,
    Reason.CLIENT_ID: Code.CLIENT_ID_INVALID,
    Reason.AUTH_METHOD: Code.BAD_AUTH_METHOD,
    Reason.BAD_LOGIN: Code.BAD_LOGIN,
    Reason.NOT_AUTHORIZED: Code.NOT_AUTHORIZED,
    Reason.CLIENT_OF_ANOTHER: Code.NOT_AUTHORIZED,
    Reason.LOGINS_SLOWED: Code.BUSY,
    Reason.CONNECTIONS_FULL: Code.QUOTA,
    Reason.SESSIONS_FULL: Code.QUOTA,
    Reason.RIGHTS_GONE: Code.NOT_AUTHORIZED,
    Reason.ANSWER_TOO_LARGE: Code.TOO_LARGE,
    Reason.SLOW: Code.QUOTA,
    Reason.STOPPED: Code.SHUTTING_DOWN,
}


def fault(connect: Connect, limits: Limits) -> Reason | None:
    """What is wrong with a CONNECT, whoever says it."""
    if connect.level not in (LEVEL_3, LEVEL_5):
        return Reason.VERSION
    properties = connect.properties
    if properties is not None and properties.auth_method is not None:
        return Reason.AUTH_METHOD
    if len(connect.client_id) > limits.client_id_chars_max:
        return Reason.CLIENT_ID
    if not connect.client_id and connect.level == LEVEL_3 and not connect.clean_start:
        return Reason.CLIENT_ID  # 3.1.1: 3.1.3-8; MQTT 5 has ids assigned for that
    if connect.will is not None and not valid_will(connect.will, limits):
        return Reason.TOPIC
    return None


def valid_will(will: Publish, limits: Limits) -> bool:
    """Whether a will could be published."""
    return valid_name(
        will.topic, limits.topic_levels_max, limits.topic_chars_max
    ) and valid_response(will.properties, limits)


def valid_response(properties: Properties | None, limits: Limits) -> bool:
    """Whether a response topic, if there is one, could be published to (3.3.2-14)."""
    if properties is None or properties.response_topic is None:
        return True
    return valid_name(properties.response_topic, limits.topic_levels_max, limits.topic_chars_max)


def terms_of(connect: Connect, limits: Limits) -> Terms:
    """What a client takes."""
    properties = connect.properties
    if connect.level != LEVEL_5:
        return Terms()
    if properties is None:
        return Terms(LEVEL_5)
    window = properties.receive_maximum
    aliases = properties.topic_alias_maximum
    return Terms(
        LEVEL_5,
        PACKET_IDS if window is None else window,
        properties.maximum_packet_bytes,
        0 if aliases is None else min(aliases, limits.aliases_max),
        properties.request_problem != 0,
    )


def expiry_s_of(connect: Connect) -> int:
    """How long the session lives without a connection; `NEVER`: for ever."""
    if connect.level != LEVEL_5:
        return 0 if connect.clean_start else NEVER
    properties = connect.properties
    return 0 if properties is None else properties.session_expiry_s or 0


def keep_alive_s_of(connect: Connect, limits: Limits) -> int:
    """The silence that is agreed on, in seconds; 0: any (3.1.2-21)."""
    most = limits.keep_alive_s_max
    if most is None or connect.level != LEVEL_5 or 0 < connect.keep_alive_s <= most:
        return connect.keep_alive_s
    return most


def welcome(connect: Connect, present: bool, client_id: str, limits: Limits) -> Connack:
    """The answer that accepts."""
    if connect.level != LEVEL_5:
        return Connack(Code.SUCCESS, present)
    keep_alive_s = keep_alive_s_of(connect, limits)
    return Connack(
        Code.SUCCESS,
        present,
        Properties(
            receive_maximum=min(limits.unreleased_max, PACKET_IDS),
            maximum_packet_bytes=limits.packet_bytes_max,
            topic_alias_maximum=limits.aliases_max or None,
            assigned_client_id=None if connect.client_id else client_id,
            server_keep_alive_s=None if keep_alive_s == connect.keep_alive_s else keep_alive_s,
            shared_available=0,
        ),
    )


def refused(connect: Connect, reason: Reason) -> Connack | None:
    """The answer that refuses; None: 3.1.1 has none for this, or the client takes none so large."""
    code = CODES.get(reason, Code.UNSPECIFIED)
    if connect.level != LEVEL_5:
        return None if reason is Reason.TOPIC else Connack(code)
    answer = Connack(code, False, Properties(reason=reason.value))
    return answer if fits(answer, terms_of(connect, Limits())) else None


def farewell(reason: Reason, terms: Terms) -> Disconnect | None:
    """The last packet to a client, if its level has one for the broker."""
    if terms.level != LEVEL_5 or reason in (Reason.LEFT, Reason.LOST):
        return None
    code = CODES.get(reason, Code.UNSPECIFIED)
    explained = Disconnect(code, Properties(reason=reason.value))
    if terms.problems and fits(explained, terms):
        return explained
    return Disconnect(code)  # four bytes at most: less than any CONNACK


def fits(packet: Packet, terms: Terms) -> bool:
    """Whether a client takes packets as large as this one (3.1.2-24)."""
    return terms.packet_bytes_max is None or len(encode(packet, LEVEL_5)) <= terms.packet_bytes_max
