"""How long to wait: D, the time given to one hop, and when the current view's work began (R-CON-6).

Too short a D skips honest leaders; too long a D waits for dead ones. So it follows the lateness
that was seen, within bounds, and grows with every view that did not become final.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from demesh_consensus.types import Instant

# Lateness samples that D follows, by their upper third: leaders of less than a third of the weight
# that are late on purpose cannot make everybody else wait.
_SAMPLES = 32

# Multiples of D: for the leader's proposal, for the whole view, before an unfinalized tail is work.
PROPOSAL_DELAYS = 2
VIEW_DELAYS = 3
TAIL_DELAYS = 2


@dataclass(frozen=True, slots=True)
class Timing:
    """Bounds of D, in ns."""

    delay_min: Instant = 250_000_000
    delay_max: Instant = 8_000_000_000


class Pacemaker:
    """Timers of the current view. They run only while there is work (R-CON-7)."""

    __slots__ = ("_lateness", "_tail_at", "_timing", "since")

    def __init__(self, timing: Timing, now: Instant) -> None:
        self._timing = timing
        self._lateness: deque[Instant] = deque(maxlen=_SAMPLES)
        self._tail_at = now
        self.since: Instant | None = None  # when work began in this view

    def delay(self, unfinalized: int) -> Instant:
        """D in ns after so many views without a finalization: x 1.5 for each, capped."""
        late = sorted(self._lateness)
        delay = max(self._timing.delay_min, late[2 * len(late) // 3] if late else 0)
        for _ in range(unfinalized):
            if delay >= self._timing.delay_max:
                break
            delay = delay * 3 // 2
        return min(delay, self._timing.delay_max)

    def entered(self) -> None:
        """A new view: its timers start when it has work."""
        self.since = None

    def work(self, working: bool, now: Instant) -> None:
        """Start or stop the timers."""
        if not working:
            self.since = None
        elif self.since is None:
            self.since = now

    def proposal_came(self, now: Instant) -> None:
        """The current view's proposal arrived: D follows its lateness."""
        if self.since is not None:
            self._lateness.append(min(now - self.since, self._timing.delay_max // 4))

    def view_ends(self, proposed: bool, delay: Instant) -> Instant | None:
        """When this view's patience ends; None while there is no work."""
        if self.since is None:
            return None
        return self.since + (VIEW_DELAYS if proposed else PROPOSAL_DELAYS) * delay

    def tail_grew(self, now: Instant) -> None:
        """A higher block was notarized."""
        self._tail_at = now

    def tail_due(self, delay: Instant) -> Instant:
        """From when on an unfinalized tail is work by itself."""
        return self._tail_at + TAIL_DELAYS * delay
