"""What the broker allows, what it refused, and why a connection ended.

Every queue and table of the broker has a bound here; every time a bound is met, a counter moves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Reason(Enum):
    """Why a connection ended."""

    LEFT = "the client said goodbye"
    LOST = "the connection was lost"
    TAKEN_OVER = "the same client connected again"
    KEEP_ALIVE = "silent for one and a half keep-alive times"
    CONNECT_TIMEOUT = "no CONNECT in time"
    MALFORMED = "a packet that is not MQTT"
    TOO_LARGE = "a packet above the size limit"
    PROTOCOL = "a packet the protocol does not allow here"
    TOPIC = "a topic that is not valid, too long or too deep"
    FILTER = "a topic filter that is not valid, too long or too deep"
    ALIAS = "a topic alias that was not allowed"
    RECEIVE_MAXIMUM = "more messages of QoS 2 at once than allowed"
    VERSION = "a protocol level that is neither 3.1.1 nor 5"
    CLIENT_ID = "a client id that is missing or too long"
    AUTH_METHOD = "an authentication method, and there is none"
    BAD_LOGIN = "a wrong user name or password"
    NOT_AUTHORIZED = "no user name, or a will that it may not publish"
    CLIENT_OF_ANOTHER = "the client id of another user"
    LOGINS_SLOWED = "too many wrong logins from that address"
    CONNECTIONS_FULL = "too many connections"
    SESSIONS_FULL = "too many sessions"
    RIGHTS_GONE = "its account is gone"
    ANSWER_TOO_LARGE = "an answer larger than the client takes"
    SLOW = "did not read what was sent to it"
    TLS = "the TLS handshake failed"
    WEBSOCKET = "what it says is no WebSocket"
    STOPPED = "the broker stops"
    FAULT = "a fault of the broker itself"

    @property
    def ordinary(self) -> bool:
        """Whether it is nobody's fault, and a healthy broker sees it all day."""
        return self in _ORDINARY


_ORDINARY = frozenset(
    {Reason.LEFT, Reason.LOST, Reason.TAKEN_OVER, Reason.KEEP_ALIVE, Reason.STOPPED}
)


# What is collected for one connection before it is written even within a turn: one turn may ask for
# much more than a connection is allowed to have waiting, and that must be seen while it happens.
TURN_BYTES_MAX = 256 * 1024

# After so many effects, some 10 ms, a turn of one connection ends though it has packets left: 128
# messages to 300 clients were a fifth of a second.
TURN_EFFECTS_MAX = 2048

# A handshake takes 1 ms or 2, and anybody may begin hundreds at once: nobody else is to wait for
# more than some of them.
TURN_HANDSHAKES_MAX = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one broker; the defaults suit a small home of up to 200 devices."""

    # The largest protocol frame is a block of tens of KiB. Less cuts blocks off; more lets one
    # client make the broker hold megabytes before it has said who it is.
    packet_bytes_max: int = 256 * 1024
    # 200 devices, each possibly reconnecting before its old connection is known dead, and views.
    connections_max: int = 512
    # What all connections of one user, or of one address whose clients have no names, may say
    # together, in connections' worth (below). One: a daemon and its owner's view share one voice;
    # many: who opens hundreds of connections takes the machine from the others.
    connections_share: int = 4
    # Wrong logins of one address a second, and at once; further ones are refused unheard, right
    # ones too. A password costs up to 3 ms of CPU to check, a device has one and does not guess.
    failed_logins_per_s_max: int = 2
    failed_logins_burst: int = 10
    # Twice the connections: every device may have left one session under an older client id.
    # The session that has been offline longest makes room.
    sessions_max: int = 1024
    # A client awake on the same network sends CONNECT at once; over a bad radio link in seconds.
    connect_timeout_ms: int = 10_000
    # A device id is 26 characters; the standard asks for 23 at least. An id is held for as long as
    # its session, which may be for ever.
    client_id_chars_max: int = 256
    # Seconds of silence a client may ask for, where it can be told so (MQTT 5); None: any.
    keep_alive_s_max: int | None = None
    # Unacknowledged QoS 1 and 2 messages per session. At 1 ms per acknowledgement this allows
    # 64,000 a second; many more only move the backlog into the client.
    inflight_max: int = 64
    # QoS 2 messages a client has sent and not released. No client here has 1,024 open.
    unreleased_max: int = 1024  # MQTT 5 clients are told (receive maximum)
    # More than `retained_max`, so that one subscription to everything is never cut short; at a
    # busy street's 30 messages a second it holds two minutes of absence.
    queued_max: int = 4096
    # As many bytes as may be retained, for the same reason.
    queued_bytes_max: int = 4 * 1024 * 1024
    # In all queues together and under way, a message and 256 bytes more for each session it waits
    # for: 200 devices away at once, each with 2,400 frames of 300 bytes. More is memory for who
    # leaves sessions behind. Each session has a `sessions_max`th of it even if it is used up, so
    # that twice as much is the most there can be.
    queued_bytes_total_max: int = 256 * 1024 * 1024
    # Ten retained topics for each of 200 devices.
    retained_max: int = 2048
    # 2 KiB for each of them; it must fit into the write buffer of one subscriber to everything.
    retained_bytes_max: int = 4 * 1024 * 1024
    # A device has about ten filters, a view two.
    subscriptions_max: int = 128
    # Levels of all filters together, what they begin with in common counted once. 200 devices of
    # one mesh take some 600, a hundred bytes of text can take 32, and each some 500 bytes.
    filter_levels_total_max: int = 65_536
    # Mesh topics have up to 8 levels; deeper ones only cost memory.
    topic_levels_max: int = 32
    # The longest mesh topic has about 140. Topics are remembered in many places.
    topic_chars_max: int = 1024
    # Topics a client may have short names for, each way (MQTT 5). A device publishes to some ten;
    # each one is held for as long as the connection.
    aliases_max: int = 16
    # How often `$SYS` topics are published, if somebody reads them; 0: never.
    sys_s: int = 10
    # What one connection may say, as an account of time (`pace.py`): it earns a second a second,
    # and a packet costs 1/packets_per_s_max of one and each byte 1/bytes_per_s_max. A voter of a
    # mesh of four at full load says 230 messages and 180 kB a second and is never 10 ms behind, a
    # customer with 64 orders open says 600: less slows them down. More lets one client take the
    # machine from the daemons: a forged message costs each receiver some 190 us, so a thousand a
    # second to four of them are three quarters of a core. None: no account, for measurements.
    packets_per_s_max: int | None = 1000
    bytes_per_s_max: int = 4 * 1024 * 1024
    # What an account holds at most. A daemon's full outbox (1,024) is out in a second either way;
    # this is how long a flood is felt in full before it is slowed down.
    burst_ms_max: int = 250
    # What a new connection has: enough for a daemon's greeting and subscriptions. With all of it, a
    # client that hangs up and comes back would never be short.
    burst_new_ms: int = 100
    # A pause ends when so much is on the account again. Less means a timer for every packet of a
    # flood; more, that it comes in lumps for which everybody else waits.
    pause_ms: int = 10
    # Packets of one connection carried out in one turn of the loop, while all others wait: some
    # 10 us each at a fan-out of 7. Half as many cost a flood of small ones a quarter of its rate.
    turn_packets_max: int = 128
    # Bytes waiting for one client that does not read. Twice what is retained; a client that is
    # further behind is better closed, so that it comes back to its bounded session.
    write_buffer_bytes_max: int = 8 * 1024 * 1024
    # For all such clients together, closed ones that still take their last word too: as much as
    # waits in queues. Whoever is furthest behind is closed.
    write_buffer_bytes_total_max: int = 256 * 1024 * 1024


@dataclass(slots=True)
class Counters:
    """What happened since the start; they only grow."""

    connections: int = 0  # opened, refused ones too
    packets_received: int = 0
    packets_sent: int = 0  # but messages
    messages_received: int = 0
    messages_sent: int = 0
    dropped_queue_full: int = 0  # QoS 1 or 2, the session's queue is full: the newest is dropped
    dropped_offline: int = 0  # QoS 0 for a session without a connection
    dropped_expired: int = 0  # not delivered in its time
    dropped_too_large: int = 0  # for a client that takes smaller packets only
    dropped_reserved: int = 0  # published to the broker's own $SYS topics
    dropped_not_allowed: int = 0  # published by a user who may not write there
    retained_refused: int = 0  # delivered, but not kept: the retained store is full
    retained_expired: int = 0
    subscriptions_refused: int = 0  # too many, or shared
    subscriptions_not_allowed: int = 0  # by a user who may not read that; also: no longer
    sessions_evicted: int = 0
    sessions_expired: int = 0
    logins_failed: int = 0
    saves_failed: int = 0  # batches the store could not write; all is written again later
    pauses: int = 0  # a client said more than it may, and was not read for a while
    closed: dict[Reason, int] = field(default_factory=dict)

    def close(self, reason: Reason) -> None:
        """Count one connection ended for `reason`."""
        self.closed[reason] = self.closed.get(reason, 0) + 1
