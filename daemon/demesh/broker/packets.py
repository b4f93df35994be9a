"""MQTT 3.1.1 packets as values (OASIS MQTT 3.1.1, section 3), and the codes inside them."""

from __future__ import annotations

from dataclasses import dataclass, field

from demesh.broker.limits import Reason

LEVEL = 4  # the protocol level of MQTT 3.1.1
SUBSCRIBE_FAILED = 0x80

ACCEPTED = 0
REFUSED_VERSION = 1
REFUSED_CLIENT_ID = 2
REFUSED_UNAVAILABLE = 3


@dataclass(frozen=True, slots=True)
class Publish:
    """An application message; also the form of a will and of a retained message.

    `packet_id` is 0 exactly when `qos` is 0 or no id has been given yet.
    """

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    # The encoded packet, kept because a fan-out sends one and the same packet to many.
    _wire: bytes | None = field(default=None, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Connect:
    """First packet of a client. With a `level` other than 4 nothing after it has been read."""

    client_id: str = ""
    clean_session: bool = True
    keep_alive_s: int = 0
    will: Publish | None = None
    username: str | None = None
    password: bytes | None = None
    level: int = LEVEL


@dataclass(frozen=True, slots=True)
class Connack:
    """The answer to `Connect`; `code` 0 accepts."""

    code: int = ACCEPTED
    session_present: bool = False


@dataclass(frozen=True, slots=True)
class Puback:
    """QoS 1: received."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pubrec:
    """QoS 2: received."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pubrel:
    """QoS 2: released by the sender."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pubcomp:
    """QoS 2: complete."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Pairs of topic filter and the highest QoS wanted."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Suback:
    """One granted QoS, or `SUBSCRIBE_FAILED`, for each filter."""

    packet_id: int
    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Topic filters to end."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsuback:
    """The answer to `Unsubscribe`."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pingreq:
    """Still here?"""


@dataclass(frozen=True, slots=True)
class Pingresp:
    """Still here."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Goodbye: the will is not to be published."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that are no packet, and why; nothing can be read after them."""

    reason: Reason
    detail: str


Acknowledgement = Puback | Pubrec | Pubrel | Pubcomp | Unsuback
Packet = (
    Publish
    | Connect
    | Connack
    | Acknowledgement
    | Subscribe
    | Suback
    | Unsubscribe
    | Pingreq
    | Pingresp
    | Disconnect
)
