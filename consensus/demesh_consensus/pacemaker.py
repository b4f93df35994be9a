"""How long to wait: D, the time given to one hop, and when the current view's work began (R-CON-6).

Too short a D skips honest leaders; too long a D waits for dead ones. So it follows the lateness
that was seen, within bounds, and grows with every view that did not become final. What comes when
its view is over was the latest of all, so it counts as well: else a mesh that is slower than its
patience would never learn it.
"""

from __future__ import annotations

from dataclasses import dataclass

from demesh_consensus.types import Instant

# Views whose lateness D follows, by their upper third: leaders of less than a third of the weight
# that are late on purpose cannot make everybody else wait. Fewer would let chance give such leaders
# a third of them; after more, a mesh that has become slow skips ten views before it waits longer.
VIEWS_REMEMBERED = 16

# What is later than so many D was held up by an outage, which says nothing of the pace before and
# after. Less would not let D grow where a mesh has become slow at once; more makes the views after
# every partition long.
OUTAGE_DELAYS = 4

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

    __slots__ = ("_began", "_lateness", "_tail_at", "_timing", "_view", "since")

    def __init__(self, timing: Timing, view: int, now: Instant) -> None:
        self._timing = timing
        self._view = view
        self._began: dict[int, Instant] = {}  # when work began in the last views
        self._lateness: dict[int, Instant] = {}  # of the last views that anything came of
        self._tail_at = now
        self.since: Instant | None = None  # when work began in this view

    def delay(self, unfinalized: int) -> Instant:
        """D in ns after so many views without a finalization: x 1.5 for each, capped."""
        late = sorted(self._lateness.values())
        delay = max(self._timing.delay_min, late[2 * len(late) // 3] if late else 0)
        for _ in range(unfinalized):
            if delay >= self._timing.delay_max:
                break
            delay = delay * 3 // 2
        return min(delay, self._timing.delay_max)

    def entered(self, view: int) -> None:
        """A new view: its timers start when it has work."""
        self._view, self.since = view, None

    def work(self, working: bool, now: Instant) -> None:
        """Start or stop the timers."""
        if not working:
            self.since = None
        elif self.since is None:
            self.since = self._began[self._view] = now
            _forget_first(self._began)

    def proposed(self, view: int, now: Instant) -> None:
        """A view's proposal arrived, perhaps too late."""
        if view in self._began:
            self._late(view, now - self._began[view])

    def notarized(self, view: int, now: Instant) -> None:
        """A view's block got its quorum, perhaps too late: two hops after the proposal."""
        if view in self._began:
            self._late(view, (now - self._began[view]) // PROPOSAL_DELAYS)

    def _late(self, view: int, lateness: Instant) -> None:
        if lateness > OUTAGE_DELAYS * self.delay(0):
            return
        capped = min(lateness, self._timing.delay_max // 4)
        self._lateness[view] = max(capped, self._lateness.get(view, 0))
        _forget_first(self._lateness)

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


def _forget_first(views: dict[int, Instant]) -> None:
    if len(views) > VIEWS_REMEMBERED:
        del views[next(iter(views))]
