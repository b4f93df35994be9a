"""MQTT packets as values, for 3.1.1 and 5 alike (OASIS MQTT 3.1.1 and MQTT 5.0, section 3).

Every packet means what it means at MQTT 5: reason codes are its codes, and what 3.1.1 has no room
for is left at its default. The codec translates; nobody else needs to know the level.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import NamedTuple

from demesh.broker.codes import Code
from demesh.broker.limits import Reason

LEVEL_3 = 4  # the protocol level of MQTT 3.1.1, as CONNECT says it
LEVEL_5 = 5


@dataclass(frozen=True, slots=True)
class Properties:
    """What MQTT 5 adds to a packet; None or () where it is absent. `properties.py` has the table
    of which packet may hold which, and the ranges."""

    payload_format: int | None = None  # 1: the payload is UTF-8, which nobody verifies
    message_expiry_s: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_ids: tuple[int, ...] = ()
    session_expiry_s: int | None = None
    assigned_client_id: str | None = None
    server_keep_alive_s: int | None = None
    auth_method: str | None = None
    auth_data: bytes | None = None
    request_problem: int | None = None
    will_delay_s: int | None = None
    request_response: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user: tuple[tuple[str, str], ...] = ()
    maximum_packet_bytes: int | None = None
    wildcards_available: int | None = None
    subscription_ids_available: int | None = None
    shared_available: int | None = None
    # Encoded for a PUBLISH, kept because many get the same message under packet ids of their own.
    _wire: bytes | None = field(default=None, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True, init=False)
class Publish:
    """An application message; also the form of a will and of a retained message.

    `packet_id` is 0 exactly when `qos` is 0 or no id has been given yet. `topic` may be empty only
    between a peer and the broker, with a topic alias in `properties`.
    """

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties | None = None
    # The encoded packet at 3.1.1 and at 5, kept because a fan-out sends one and the same to many.
    _wires: tuple[bytes | None, bytes | None] = field(
        default=(None, None), init=False, repr=False, compare=False
    )

    def __init__(
        self,
        topic: str,
        payload: bytes = b"",
        qos: int = 0,
        retain: bool = False,
        dup: bool = False,
        packet_id: int = 0,
        properties: Properties | None = None,
    ) -> None:
        # What the generated one does, in three fifths of its time: a broker makes nothing as often.
        _TOPIC(self, topic)
        _PAYLOAD(self, payload)
        _QOS(self, qos)
        _RETAIN(self, retain)
        _DUP(self, dup)
        _PACKET_ID(self, packet_id)
        _PROPERTIES(self, properties)
        _WIRES(self, _NO_WIRES)


_NO_WIRES = (None, None)
_TOPIC, _PAYLOAD, _QOS, _RETAIN, _DUP, _PACKET_ID, _PROPERTIES, _WIRES = (
    Publish.__dict__[one.name].__set__ for one in fields(Publish)
)


@dataclass(frozen=True, slots=True)
class Connect:
    """First packet of a client. With a `level` that is neither 4 nor 5 nothing after it was read.

    `clean_start` is the clean session of 3.1.1, where it also says that none is kept afterwards.
    The properties of `will` are those of the will, its delay among them.
    """

    client_id: str = ""
    clean_start: bool = True
    keep_alive_s: int = 0
    will: Publish | None = None
    username: str | None = None
    password: bytes | None = None
    level: int = LEVEL_3
    properties: Properties | None = None


@dataclass(frozen=True, slots=True)
class Connack:
    """The answer to `Connect`; `Code.SUCCESS` accepts."""

    code: Code = Code.SUCCESS
    session_present: bool = False
    properties: Properties | None = None


@dataclass(frozen=True, slots=True)
class Puback:
    """QoS 1: received. Codes from 0x80 say that the message was not accepted; 3.1.1 cannot."""

    packet_id: int
    code: Code = Code.SUCCESS
    properties: Properties | None = None


@dataclass(frozen=True, slots=True)
class Pubrec:
    """QoS 2: received. With a code from 0x80 the exchange is over."""

    packet_id: int
    code: Code = Code.SUCCESS
    properties: Properties | None = None


@dataclass(frozen=True, slots=True)
class Pubrel:
    """QoS 2: released by the sender."""

    packet_id: int
    code: Code = Code.SUCCESS
    properties: Properties | None = None


@dataclass(frozen=True, slots=True)
class Pubcomp:
    """QoS 2: complete."""

    packet_id: int
    code: Code = Code.SUCCESS
    properties: Properties | None = None


class Wanted(NamedTuple):
    """One subscription asked for; the options after `qos` are of MQTT 5 (section 3.8.3.1)."""

    pattern: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0  # retained messages: 0 always, 1 if the subscription is new, 2 never


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscriptions to make or to change; at most one subscription id, for all of them."""

    packet_id: int
    filters: tuple[Wanted, ...]
    properties: Properties | None = None


@dataclass(frozen=True, slots=True)
class Suback:
    """A granted QoS, or why not, for each filter; 3.1.1 has one code for every reason."""

    packet_id: int
    codes: tuple[Code, ...]
    properties: Properties | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Topic filters to end."""

    packet_id: int
    filters: tuple[str, ...]
    properties: Properties | None = None


@dataclass(frozen=True, slots=True)
class Unsuback:
    """The answer to `Unsubscribe`: a code for each filter, none at 3.1.1."""

    packet_id: int
    codes: tuple[Code, ...] = ()
    properties: Properties | None = None


@dataclass(frozen=True, slots=True)
class Pingreq:
    """Still here?"""


@dataclass(frozen=True, slots=True)
class Pingresp:
    """Still here."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Goodbye; of a client with `Code.SUCCESS`: the will is not to be published.

    At MQTT 5 also the broker says so, and why; at 3.1.1 only clients do, and give no reason.
    """

    code: Code = Code.SUCCESS
    properties: Properties | None = None


@dataclass(frozen=True, slots=True)
class Auth:
    """A step of an authentication with more steps than one (MQTT 5 only)."""

    code: Code = Code.SUCCESS
    properties: Properties | None = None


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that are no packet, why, and what MQTT 5 calls it; nothing can be read after them."""

    reason: Reason
    detail: str
    code: Code = Code.MALFORMED


Acknowledgement = Puback | Pubrec | Pubrel | Pubcomp
Packet = (
    Publish
    | Connect
    | Connack
    | Acknowledgement
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
