"""When a connection counts as dead: told the time (s), the bytes that come and those that go.

A connection is dead if

    nothing is heard for a keepalive, and nothing again REQUEST_S after a ping;
    no acknowledgement comes in REQUEST_S while one is missing; in STUBBORN_S, if all else does.

To both a second is added for every SLOWEST_BYTES_S that may stand before the question: on a slow
line an answer is not late because much was said. What was said before something acknowledged has
arrived, for bytes keep their order. Whatever comes in counts as heard, for the answer to a ping may
stand behind all that others say.
"""

from __future__ import annotations

# TCP, CONNECT, SUBSCRIBE each, and from one acknowledgement to the next while any is missing; poor
# Wi-Fi stalls for seconds, a dead broker for ever.
REQUEST_S = 10.0

# A broker that has much to say at 1 kB/s: its window of 64 votes is before every answer.
STUBBORN_S = 60.0

# The slowest line that is waited for; a lesser one carries no vote within a view.
SLOWEST_BYTES_S = 1000

# What can be on its way at most: a window of frames, and what people read as far as the line takes
# it at once. Whoever says nothing but the latter never hears that it has arrived.
AHEAD_BYTES_MAX = 96 * 1024


class SilentError(ConnectionError):
    """Half open: nothing was heard for too long."""

    def __init__(self) -> None:
        super().__init__("the broker is silent")


class Patience:
    """That of one connection."""

    def __init__(self, keepalive_s: float, now: float) -> None:
        self.keepalive_s = keepalive_s
        self._heard_at = self._said_at = now
        self._said = self._arrived = 0  # bytes, since the beginning; the latter at least
        self._answer_by: float | None = None  # of a ping
        self._acknowledge_by = now  # while anything is to be acknowledged

    def heard(self, now: float) -> None:
        """Something came."""
        self._heard_at, self._answer_by = now, None

    def said(self, size: int, now: float) -> None:
        """So many bytes went."""
        self._said += size
        self._said_at = now

    def asked(self, size: int, first: bool, now: float) -> int:
        """Something to be acknowledged goes, at the end of so many bytes; a mark for it."""
        if first:
            self._acknowledge_by = now + REQUEST_S + self._ahead_s(size)
        return self._said + size

    def acknowledged(self, mark: int, now: float) -> None:
        """It was; the next one has its time from now on."""
        self._arrived = max(self._arrived, mark)
        self._acknowledge_by = now + REQUEST_S + self._ahead_s()

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
        self._answer_by = now + min(REQUEST_S, self.keepalive_s) + self._ahead_s()
        return True

    def _ahead_s(self, more: int = 0) -> float:
        """What all that is on its way, and so many bytes, take of the slowest line."""
        return min(self._said + more - self._arrived, AHEAD_BYTES_MAX) / SLOWEST_BYTES_S
