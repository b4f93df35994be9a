"""Bringing a channel to its end: one Close, and another only when the ledger stays silent."""

from __future__ import annotations

from demesh.ports import SECOND, Instant
from demesh.wire.intents import Act, Submit
from demesh.wire.opbodies import Close

# Decisions take seconds; sooner would repeat an op that is only waiting for its block, and each op
# counts against its signer's quota. Doubling to ten minutes keeps a mesh without quorum quiet.
CLOSE_RETRY_NS = 30 * SECOND
CLOSE_RETRY_NS_MAX = 600 * SECOND


class Settlement:
    """R-MET-20 Close carries the best voucher known when it is sent, and is sent again after 30 s,
    60 s, ... 10 min for as long as the ledger still shows the channel open; the payee's also at
    once when the ledger tells that the payer has closed, for then a window runs."""

    __slots__ = ("_wait_ns", "channel", "due")

    def __init__(self, channel: bytes, due: Instant) -> None:
        self.channel, self.due = channel, due
        self._wait_ns = CLOSE_RETRY_NS

    def hurry(self, now: Instant) -> None:
        """The payer's window runs: submit now, whatever was submitted before."""
        self.due = now

    def tick(self, voucher: bytes, now: Instant) -> list[Act]:
        """Submit if it is time; `voucher` is the frame of the best one, or empty."""
        if now < self.due:
            return []
        self.due = now + self._wait_ns
        self._wait_ns = min(2 * self._wait_ns, CLOSE_RETRY_NS_MAX)
        return [Submit(Close(self.channel, voucher))]
