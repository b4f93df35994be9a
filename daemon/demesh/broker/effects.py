"""What the broker's machine asks its shell to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from demesh.broker.limits import Reason
from demesh.broker.packets import Packet

Conn = int
"""The shell's number of a connection; never used a second time."""


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send a packet."""

    conn: Conn
    packet: Packet


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection, after what was transmitted to it before."""

    conn: Conn
    reason: Reason
    # Whose it was, for a person to read; "" before anybody said so.
    who: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Pause:
    """Read no more from the connection of `client_id` until `Resume`."""

    conn: Conn
    client_id: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Read from the connection again."""

    conn: Conn


Effect = Transmit | Close | Pause | Resume
