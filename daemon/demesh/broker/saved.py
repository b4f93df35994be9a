"""What of a broker outlives its process, as plain records.

`Broker.changes()` says what is different since it was asked last; a store writes that down, and
gives it all back to a new `Broker` as `Saved`. Saved are sessions that outlive their connection,
and retained messages; a session that ends with its connection ends with the broker too.

Times are `Instant`s of the clock the broker is told. A store that outlives that clock writes them
as wall-clock times and converts them back. After a start, a session that had a connection has been
without one since the start; its will is told unless its client comes back in time (3.1.2.5: a
server that fails may put off wills until it is there again).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from demesh.broker.codec import Decoder, encode
from demesh.broker.packets import LEVEL_5, Publish
from demesh.ports import Instant


@dataclass(frozen=True, slots=True)
class Subscribed:
    """One subscription."""

    pattern: str
    qos: int
    no_local: bool
    retain_as_published: bool
    identifier: int | None


@dataclass(frozen=True, slots=True)
class Flight:
    """A message under way to the client; without one it is released (PUBREL was sent)."""

    packet_id: int
    message: Publish | None
    expires_at: Instant | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message queued for the client; numbers grow by one and are never used again."""

    number: int
    message: Publish
    expires_at: Instant | None


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """All of a session but its queue. `flights` are in the order of sending."""

    client_id: str
    user: str
    expiry_s: int
    offline_since: Instant | None  # None: has a connection
    subscriptions: tuple[Subscribed, ...]
    flights: tuple[Flight, ...]
    unreleased: tuple[int, ...]
    next_id: int
    will: Publish | None
    will_delay_s: int
    will_at: Instant | None  # None: not before the connection ends


@dataclass(frozen=True, slots=True)
class SavedSession:
    """A session with its queue, in order."""

    record: SessionRecord
    queue: tuple[Waiting, ...] = ()


@dataclass(frozen=True, slots=True)
class RetainedRecord:
    """A retained message; its topic is the key, `publisher` the client id it came from."""

    message: Publish
    expires_at: Instant | None
    publisher: str


@dataclass(frozen=True, slots=True)
class Saved:
    """All that a store holds."""

    sessions: tuple[SavedSession, ...] = ()
    retained: tuple[RetainedRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionChange:
    """Write `record` over the last one, drop queued numbers below `first`, add `appended`."""

    record: SessionRecord
    first: int
    appended: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do to a store, in this order; `ended` sessions may be there again in `sessions`."""

    ended: tuple[str, ...] = ()
    sessions: tuple[SessionChange, ...] = ()
    unretained: tuple[str, ...] = ()
    retained: tuple[RetainedRecord, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.ended or self.sessions or self.unretained or self.retained)


def pack(message: Publish) -> bytes:
    """A message as an MQTT 5 packet; its packet id is not kept."""
    return encode(replace(message, packet_id=1 if message.qos else 0), LEVEL_5)


def unpack(data: bytes) -> Publish | None:
    """What `pack` was given, without a packet id; None if the bytes are damaged."""
    decoder = Decoder(len(data) + 1, LEVEL_5)
    packets = decoder.feed(data)
    if len(packets) != 1 or not isinstance(packets[0], Publish):
        return None
    return replace(packets[0], packet_id=0)
