"""Several brokers at once: which are up, and what they brought of the same (R-BRK).

Every device publishes on all brokers that it is connected to, so each of them brings everything
once more, sooner or later, or never. The first copy counts and the others are dropped before they
cost anything. Brokers are numbered from 0, in the order of the configuration; a set of them is a
bit mask.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum

from demesh.ports import SECOND, Instant

# From this to twice this long after a message another broker's copy of it is no news. A broker that
# is further behind than that is heard as if its clients repeated themselves, which is bounded
# elsewhere. Longer would let a liar that says something early keep a true repetition out for as
# long.
COPIES_FOR = 2 * SECOND

# Messages remembered in each of two generations, at about 150 bytes: two seconds of a busy mesh.
COPIES_MAX = 4096


class Manner(Enum):
    """How a message came."""

    RETAINED = "retained"  # a broker had kept it
    SOMEWHERE = "somewhere"  # it was said just now, but not every broker has brought it
    EVERYWHERE = "everywhere"  # all brokers that we are connected to have brought it


class Brokers:
    """What one device knows of its brokers; nothing is remembered while there is only one."""

    def __init__(self) -> None:
        self.up = 0
        self.count = 1  # as far as is known: those that were ever heard of
        self._young: dict[Hashable, int] = {}  # who brought it since it was last heard
        self._old: dict[Hashable, int] = {}
        self._turns_at: Instant = 0

    def linked(self, broker: int, up: bool) -> None:
        """A connection came up or was lost."""
        self.known(broker)
        self.up = self.up | 1 << broker if up else self.up & ~(1 << broker)

    def known(self, broker: int) -> None:
        """There is a broker of this number."""
        self.count = max(self.count, broker + 1)

    def others_up(self, broker: int) -> bool:
        """Is this device connected to any other broker than this one?"""
        return bool(self.up & ~(1 << broker))

    def everywhere(self, brought: int) -> bool:
        """Do these include all brokers that this device is connected to?"""
        return self.up & ~brought == 0

    def brought(self, key: Hashable, broker: int, now: Instant) -> None:
        """This broker brought a good message, and others have yet to bring their copies."""
        if self.count > 1:
            self._turn(now)
            self._young[key] = 1 << broker

    def copied(self, key: Hashable, broker: int, now: Instant) -> int | None:
        """Who has brought a message by now, if this is one more's copy of it; None if it is not.

        What a broker brings twice was said twice.
        """
        if self.count == 1:
            return None
        self._turn(now)
        before = self._young.get(key) or self._old.get(key)
        if before is None or before >> broker & 1:
            return None
        place = self._young if key in self._young else self._old
        place[key] = before | 1 << broker
        return place[key]

    def _turn(self, now: Instant) -> None:
        full = len(self._young) >= COPIES_MAX
        if full or now >= self._turns_at:
            late = now >= self._turns_at + COPIES_FOR
            self._old = {} if late else self._young
            self._young = {}
            self._turns_at = now + COPIES_FOR
