"""This device's card: what it says of itself, and when it says it again (R-BRK-4, R-BRK-5).

A broker keeps it for whoever comes later. But brokers lose what they keep, lose messages in a flood
and can throw away what they acknowledge, so a card that has not changed for long is said again.
"""

from __future__ import annotations

from collections.abc import Callable

from demesh.membership.directory import Directory
from demesh.ports import MILLISECOND, SECOND, Instant, Publish
from demesh.wire.offers import Card, Offer
from demesh.wire.signer import Signer

# A minute after it was new: longer than a restart of a broker, shorter than a buyer's patience.
# Then ever more seldom, up to 64 minutes: an idle mesh is silent.
AGAIN_AFTER = 60 * SECOND
AGAIN_STEPS_MAX = 6

# Who sells something says so to whoever comes, if not all at once: in a mesh of 1,000 sellers 10 a
# second. Those who come within the rest meet it together.
GREETINGS_APART = 100 * MILLISECOND
GREETINGS_EVERY = 10 * SECOND

# After a second of flood: once it is over, and not all devices in one instant.
CALM_AFTER = 2 * SECOND


class Portrait:
    """The card of one device; `offers` is what it sells just now, `topic` where it says so."""

    def __init__(
        self,
        directory: Directory,
        signer: Signer,
        topic: str,
        offers: Callable[[], tuple[Offer, ...]],
    ) -> None:
        self._directory, self._signer = directory, signer
        self._topic, self._offers = topic, offers
        self._shows = self._now()
        self._revision = 0
        self._frame = b""
        self._step = 0
        self._again_at: Instant | None = None
        self._soon_at: Instant | None = None  # for whoever may not have it
        self._said_at: Instant | None = None

    @property
    def shown(self) -> bool:
        """Has it shown anything? While it is no member it has not, for nobody would take it."""
        return self._shows is not None

    @property
    def changed(self) -> bool:
        """Is there something new to show?"""
        return self._now() != self._shows

    def show(self, now: Instant) -> list[Publish]:
        """The card as it is now, for everybody."""
        self._shows = self._now()
        self._frame, self._again_at = b"", None
        if self._shows is None:
            return []
        self._revision += 1
        certificate, boot = self._directory.me.certificate, self._signer.boot
        self._frame = self._signer.seal(Card(boot, self._revision, certificate, self._offers()))
        self._step = 0
        return [self._say(None, now)]

    def linked(self, broker: int, now: Instant) -> list[Publish]:
        """A broker is there, perhaps with nothing in its memory."""
        return [self._say(broker, now)] if self._frame else self.show(now)

    def flooded(self, now: Instant) -> None:
        """In this second messages were lost."""
        self._soon_at = now + CALM_AFTER + self._jitter(CALM_AFTER)

    def met(self, now: Instant) -> None:
        """A device has just come; not every broker gives it what it had retained."""
        if self._soon_at is None and self._said_at is not None and self._offers():
            rested = max(now, self._said_at + GREETINGS_EVERY)
            spread = len(self._directory.members) * GREETINGS_APART
            self._soon_at = rested + GREETINGS_APART + self._jitter(spread)

    def tick(self, now: Instant) -> list[Publish]:
        """Say it again if it is time."""
        due = self.deadline()
        if due is None or now < due:
            return []
        self._step = min(self._step + 1, AGAIN_STEPS_MAX)
        return [self._say(None, now)]

    def deadline(self) -> Instant | None:
        """When `tick` is needed next."""
        if not self._frame:
            return None
        return min((at for at in (self._again_at, self._soon_at) if at is not None), default=None)

    def _say(self, broker: int | None, now: Instant) -> Publish:
        if broker is None:
            wait = AGAIN_AFTER << self._step
            self._again_at = now + wait + self._jitter(wait // 2)
            self._soon_at, self._said_at = None, now
        return Publish(self._topic, self._frame, retain=True, broker=broker)

    def _now(self) -> object:
        """All that the card depends on; None while there is none."""
        directory = self._directory
        return None if directory.guest else (self._offers(), directory.me.certificate)

    def _jitter(self, span: Instant) -> Instant:
        return int.from_bytes(self._signer.nonce(), "big") % span
