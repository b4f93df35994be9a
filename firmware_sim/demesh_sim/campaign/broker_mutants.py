"""Deliberate faults in what a border makes of several brokers, tried by brokers that lie."""

from __future__ import annotations

from demesh.brokers import Brokers, Manner
from demesh.membership.presence import Presence
from demesh.wire._reference import Window
from demesh_consensus import Instant
from demesh_sim.campaign.brokers import Border, Exchange, Parcel, name
from demesh_sim.campaign.messages import Message
from demesh_sim.campaign.mutant import Mutant, patch
from demesh_sim.campaign.peer import Peer
from demesh_sim.lies import (
    Doubling,
    Hoarding,
    Hushing,
    OnlyWills,
    Post,
    Undertaking,
    area_of,
    publisher_of,
)

_ADMIT = Border.admit


def _one_word_is_enough(self: Presence, device: bytes, links: int) -> bool:
    left = bool(self._gone[device]) and self._up.get(device, False)
    self._up[device] = self._up.get(device, False) and not left
    return left


def _words_stand(self: Presence, device: bytes, broker: int) -> None:
    """A farewell counts for ever, whatever its broker brings of the device afterwards."""


def _anywhere(self: Brokers, brought: int) -> bool:
    return True


def _marks_per_broker(self: Border, post: Post, parcel: Parcel, me: int, broker: int) -> bool:
    source = parcel.source.index
    if post.topic != f"to/{me}/{source}" or parcel.mark is None:
        return False
    return self.windows.setdefault(1000 * broker + source, Window()).use(*parcel.mark)


def _when_all_agree(self: Border, me: int, post: Post, broker: int, now: Instant) -> Manner | None:
    """A message is handled once every broker has brought it."""
    parcel = post.payload
    if not isinstance(parcel, Parcel) or int(publisher_of(post.topic)) == me or post.retained:
        return _ADMIT(self, me, post, broker, now)
    key = post.topic, parcel.number
    brought = self.brokers.copied(key, broker, now)
    if brought is None:
        self.brokers.brought(key, broker, now)
        return None
    self.presence.heard(name(int(publisher_of(post.topic))), broker)
    return Manner.EVERYWHERE if self.brokers.everywhere(brought) else None


def _first_retained_wins(
    self: Border, me: int, post: Post, broker: int, now: Instant
) -> Manner | None:
    """The tip that a broker had retained is never replaced by a later one."""
    manner = _ADMIT(self, me, post, broker, now)
    place = -1 - int(publisher_of(post.topic))
    if manner is None or area_of(post.topic) != "tip":
        return manner
    if place in self.windows:
        return None
    if manner is Manner.RETAINED:
        self.windows[place] = Window()
    return manner


def _on_the_first(self: Exchange, source: Peer, message: Message, area: str) -> None:
    if self.linked(source, 0):
        self._publish(0, source, self._post(source, message, f"{area}/{source.index}"))


BROKER_MUTANTS = (
    Mutant(
        "one broker's word for a death",
        "R-BRK-2",
        patch(Presence, "_leaves", _one_word_is_enough),
        Undertaking,
    ),
    Mutant(
        "a word is never void", "R-BRK-2", patch(Presence, "brought", _words_stand), Undertaking
    ),
    Mutant(
        "one broker keeps all quiet", "R-BRK-3", patch(Brokers, "everywhere", _anywhere), Hushing
    ),
    Mutant(
        "replay marks per broker", "R-BRK-1", patch(Border, "_fresh", _marks_per_broker), Doubling
    ),
    Mutant(
        "handled when all have brought it",
        "R-BRK-1",
        patch(Border, "admit", _when_all_agree),
        OnlyWills,
    ),
    Mutant(
        "first retained tip wins", "R-CON-9", patch(Border, "admit", _first_retained_wins), Hoarding
    ),
    Mutant(
        "published on the first broker only",
        "R-WIRE-4",
        patch(Exchange, "spread", _on_the_first),
        OnlyWills,
    ),
)
