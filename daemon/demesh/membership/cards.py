"""The cards that devices show: the latest of each member, and those that came early (R-ID-9)."""

from __future__ import annotations

from collections.abc import Callable

from demesh.ports import Received
from demesh.wire.kinds import KIND_BYTES_MAX, Kind, Reject
from demesh.wire.offers import Card

# Cards are retained, so a device that was away meets all of them before the blocks that say whose
# they are. Strangers could push out the one that matters; then it is heard when it is next said.
EARLY_MAX = 64


class Cards:
    """What the members' cards say. A greater (boot, revision) replaces a card."""

    def __init__(self) -> None:
        self._cards: dict[bytes, Card] = {}
        self._early: dict[bytes, Received] = {}

    @property
    def devices(self) -> tuple[bytes, ...]:
        """Whose cards are known, in the order in which they were first seen."""
        return tuple(self._cards)

    def of(self, device: bytes) -> Card | None:
        """The card of a member."""
        return self._cards.get(device)

    def take(self, device: bytes, card: Card) -> Reject | bool:
        """A member's card: is it new, the same again, or older than the one that is known?"""
        known = self._cards.get(device)
        if known is not None and (card.boot, card.revision) <= (known.boot, known.revision):
            return False if card == known else Reject.STALE
        self._cards[device] = card
        return True

    def keep(self, device: bytes, received: Received) -> None:
        """Something on the card topic of a device that is no member as far as is known here."""
        if 0 < len(received.payload) <= KIND_BYTES_MAX[Kind.CARD]:
            self._early.pop(device, None)
            self._early[device] = received
            if len(self._early) > EARLY_MAX:
                del self._early[next(iter(self._early))]

    def early(self, is_member: Callable[[bytes], object]) -> list[Received]:
        """What was kept of devices that are members by now, once."""
        arrived = [device for device in self._early if is_member(device)]
        return [self._early.pop(device) for device in arrived]
