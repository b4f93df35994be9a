"""When a connection counts as dead: told the time (s), the bytes that come and those that go.

A connection is dead if

    nothing is heard for a keepalive, and nothing again REQUEST_S after a ping;
    no acknowledgement comes in REQUEST_S while one is missing; in STUBBORN_S, if all else does.

To both a second is added for every SLOWEST_BYTES_S that stood before the question: on a slow line
an answer is not late because much was said. Whatever comes in counts as heard, for the answer to a
ping may stand behind all that others say.
"""

from __future__ import annotations

# TCP, CONNECT, SUBSCRIBE each, and from one acknowledgement to the next while any is missing; poor
# Wi-Fi stalls for seconds, a dead broker for ever.
REQUEST_S = 10.0

# A broker that has much to say at 1 kB/s: its window of 64 votes is before every answer.
STUBBORN_S = 60.0

# The slowest line that is waited for; a lesser one carries no vote within a view.
SLOWEST_BYTES_S = 1000


class SilentError(ConnectionError):
    """Half open: nothing was heard for too long."""

    def __init__(self) -> None:
        super().__init__("the broker is silent")


class Patience:
    """That of one connection."""

    def __init__(self, keepalive_s: float, now: float) -> None:
        self.keepalive_s = keepalive_s
        self._heard_at = self._said_at = now
        self._said = 0  # bytes since anything was heard
        self._answer_by: float | None = None  # of a ping
        self._acknowledge_by = now  # while anything is to be acknowledged

    def heard(self, now: float) -> None:
        """Something came."""
        self._heard_at, self._said, self._answer_by = now, 0, None

    def said(self, size: int, now: float) -> None:
        """So many bytes went."""
        self._said += size
        self._said_at = now

    def asked(self, size: int, now: float) -> None:
        """The first of what is to be acknowledged goes, at the end of so many bytes."""
        self._acknowledge_by = now + REQUEST_S + (self._said + size) / SLOWEST_BYTES_S

    def acknowledged(self, missing: int, now: float) -> None:
        """Something was; so many bytes are still to be."""
        self._acknowledge_by = now + REQUEST_S + missing / SLOWEST_BYTES_S

    def talks(self, since: float, now: float) -> bool:
        """Whether it is worth waiting on for what was asked at `since`: others come before it."""
        return now < self._heard_at + REQUEST_S and now < since + STUBBORN_S

    def check(self, missing: bool, now: float) -> bool:
        """Whether it is time for a ping. `missing`: acknowledgements. Raises ConnectionError."""
        if self._answer_by is not None and now > self._answer_by:
            raise SilentError
        late = missing and now > self._acknowledge_by
        if late and not self.talks(self._acknowledge_by, now):
            raise ConnectionError("the broker does not acknowledge")
        quiet_since = min(self._heard_at, self._said_at)
        if self._answer_by is not None or now < quiet_since + self.keepalive_s:
            return False
        self._answer_by = now + min(REQUEST_S, self.keepalive_s) + self._said / SLOWEST_BYTES_S
        return True
