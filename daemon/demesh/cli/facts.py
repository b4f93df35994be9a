"""What the doctor found out about one broker, as plain values; what they mean is `verdicts.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Stage(Enum):
    """The way to a broker; what comes after the first stage that fails is unknown."""

    NAME = "name"
    TCP = "tcp"
    TLS = "tls"
    LOGIN = "login"


@dataclass(frozen=True, slots=True)
class Patient:
    """Whose configuration it is: what can be told without a broker."""

    device: str  # the text of its id
    mesh: str  # the text of the first half of the mesh id, as topics have it
    members: int
    profile: str
    behind_s: int  # how far this machine's clock is behind the mesh time on disk; negative: ahead


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the broker showed of itself over TLS."""

    version: str  # of TLS
    subject: str
    issuer: str
    days_left: int


@dataclass(frozen=True, slots=True)
class Rights:
    """What this login may do, tried out in a mesh that is nobody's."""

    unheard: tuple[str, ...] = ()  # areas of its own that it published on in vain
    deaf: tuple[str, ...] = ()  # filters that it was refused
    spoofed: tuple[str, ...] = ()  # areas in which it was heard in another's name
    overheard: bool = False  # it heard a letter to another device


@dataclass(frozen=True, slots=True)
class Facts:
    """One broker, seen from here. What was not reached has its default."""

    url: str
    username: str | None = None
    certified: bool = False  # TLS says who this device is: by its certificate or a shared key
    anonymous: bool = False  # somebody without a login is let in as well
    addresses: tuple[str, ...] = ()
    failed: Stage | None = None
    failure: str = ""
    for_good: bool = False  # no waiting mends the failure
    connect_us: int = 0
    certificate: Certificate | None = None
    tls: bool = False
    level: int = 0
    hung_up_on_5: bool = False
    welcome: Mapping[str, int] = field(default_factory=dict)  # CONNACK's properties by their names
    version: str = ""  # as it says itself, if it does
    numbers: Mapping[str, int] = field(default_factory=dict)  # what it counts, by topic
    rights: Rights = Rights()
    round_trip_us: int = 0  # QoS 1, p50
    second_us: int = 0  # a message that follows an acknowledgement, p50
    queue_tried: int = 0
    queue_kept: int = 0
    retained_by_wildcard: bool = True
    retained_at_all: bool = True
    retained: int = 0  # of this mesh
