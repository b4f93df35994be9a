"""Which messages may reach the rest of the node: topic, seal, frame, budget, and who says it.

All of R-WIRE-7 up to the meaning of a payload. A message that is not admitted costs a counter, and
its place what it wasted (R-WIRE-13).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from demesh.brokers import Brokers, Manner
from demesh.direct import Direct
from demesh.membership.directory import Directory, Member
from demesh.ports import SECOND, Instant, Received
from demesh.wire.budget import Budgets, Lane
from demesh.wire.kinds import FIRST_SIGNAL, Kind, Reject
from demesh.wire.topics import KINDS_OF_AREA, RELAYED, Topics
from demesh.wire.validate import Allowance, Validator, View

# How long a place counts as flooded after the last message that was too much: longer than a
# person's glance, shorter than what is worth telling again.
FLOODED_FOR = 10 * SECOND

# A daemon that ends says it itself, and its broker says it once more; then it takes a second at the
# very least until it can go again.
FAREWELL_EVERY = 1 * SECOND

# Rejected messages in a second that are a flood: brokers then drop true ones with the others. An
# honest mesh has a handful, after a restart; a flood has thousands.
WASTED_MAX = 200

# A statement said again costs its place one for each so many bytes of it, and one: to read a large
# proposal takes as long as many signatures.
BYTES_PER_REPEAT = 1024

# What need not be said again if somebody else said it (R-CON-8): of these the last copy tells that
# all brokers have it.
SPARED = frozenset({Kind.CERTIFICATE, Kind.OP})


@dataclass(frozen=True, slots=True)
class Heard:
    """A valid frame in its place: who published it, where, and what it is."""

    member: Member
    area: str
    frame: bytes
    view: View
    lane: Lane
    again: bool  # these very bytes were verified before, which is paid for
    manner: Manner


@dataclass(frozen=True, slots=True)
class Farewell:
    """Somebody, or a broker in its name, says that a device is gone; nothing proves it."""

    member: Member
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    """A topic of this node's, read."""

    area: str
    member: Member

    def fits(self, view: View) -> bool:
        """May a frame of this kind and signer stand here?"""
        if view.kind not in KINDS_OF_AREA[self.area]:
            return False
        return view.kind in RELAYED or view.sender == self.member.id


class Admission:
    """The border of one node. `awaits` says of a frame not yet verified if consensus needs it."""

    def __init__(
        self,
        topics: Topics,
        directory: Directory,
        validator: Validator,
        direct: Direct,
        budgets: Budgets,
        brokers: Brokers,
        awaits: Callable[[View], bool],
        stranger: Callable[[bytes, Received], None],
        losing: Callable[[Instant], None],
        copied: Callable[[bytes, int], None],
    ) -> None:
        self._topics, self._directory, self._validator = topics, directory, validator
        self._direct, self._budgets, self._brokers = direct, budgets, brokers
        self._awaits, self._stranger, self._losing = awaits, stranger, losing
        self._copied = copied
        self._wasted, self._second_ends = 0, 0
        self._harmless = False  # what was rejected just now is no sign of a flood
        self._flooded: dict[tuple[str, bytes], Instant] = {}
        self._farewells: dict[tuple[int, bytes], Instant] = {}  # when the next may be heard

    def flooded(self, now: Instant) -> list[tuple[str, bytes]]:
        """Places, as area and publisher, where there was too much a moment ago."""
        recent = {p: at for p, at in self._flooded.items() if now < at + FLOODED_FOR}
        self._flooded = recent
        return sorted(recent)

    def admit(self, received: Received, now: Instant) -> Heard | Farewell | Reject | None:
        """What a message is; None if there is nothing to it: this device's own, or a copy."""
        self._brokers.known(received.broker)
        self._budgets.share(len(self._directory.members), self._brokers.count)
        self._harmless = False
        place = self._place(received)
        content = self._content(received, place, now) if isinstance(place, _Place) else place
        if isinstance(content, Reject) and not self._harmless:
            self._waste(place, content, now)
        return content

    def _waste(self, place: _Place | Reject, reject: Reject, now: Instant) -> None:
        if now >= self._second_ends:
            self._wasted, self._second_ends = 0, now + SECOND
        self._wasted += 1
        if self._wasted == WASTED_MAX:
            self._losing(now)
        too_much = reject is Reject.BUDGET or self._wasted >= WASTED_MAX
        if too_much and isinstance(place, _Place):
            self._flooded[place.area, place.member.id] = now

    def _content(
        self, received: Received, place: _Place, now: Instant
    ) -> Heard | Farewell | Reject | None:
        area, member = place.area, place.member
        if member.id == self._directory.me.id and area != "op":
            # What I published myself comes back; what peers return of mine comes on theirs.
            # But junk in my name is none of mine, and may be all that I see of a flood.
            seen = self._validator.peek(received.payload) if area != "gone" else None
            if isinstance(seen, Reject) and seen < Reject.SENDER:
                self._waste(place, seen, now)
            return None
        if area == "gone":
            return self._farewell(place, received, now)
        if self._brokers.count == 1:
            return self._framed(place, received, now)
        key = received.topic, hashlib.blake2b(received.payload, digest_size=16).digest()
        brought = self._brokers.copied(key, received.broker, now)
        if brought is not None:
            return self._copy(place, received, brought, now)
        content = self._framed(place, received, now)
        if isinstance(content, Heard) and not received.retained:
            self._brokers.brought(key, received.broker, now)
            if not self._brokers.everywhere(1 << received.broker):
                return replace(content, manner=Manner.SOMEWHERE)
        return content

    def _copy(self, place: _Place, received: Received, brought: int, now: Instant) -> Heard | None:
        """R-BRK-1: what another broker brought just now is no news, but for R-BRK-3."""
        area, member, broker = place.area, place.member, received.broker
        if not received.retained:
            self._copied(member.id, broker)
        if area not in ("vote", "tip", "op") or not self._brokers.everywhere(brought):
            return None
        view = self._validator.peek(received.payload)
        if isinstance(view, Reject) or view.kind not in SPARED or received.retained:
            return None
        lane = self._budgets.lane(broker, area, member.id, now)
        return Heard(member, area, received.payload, view, lane, True, Manner.EVERYWHERE)

    def _framed(self, place: _Place, received: Received, now: Instant) -> Heard | Reject:
        """The frame that came to a place, sealed or not."""
        area, member = place.area, place.member
        frame = received.payload if area != "to" else self._direct.open(member, received.payload)
        if isinstance(frame, Reject):
            return frame
        claimed = self._validator.peek(frame)
        if isinstance(claimed, Reject):
            self._harmless = claimed is Reject.REPLAY  # the second broker's copy of a signal
            return claimed
        if not place.fits(claimed):
            return Reject.TOPIC
        return self._verified(place, frame, claimed, received, now)

    def _verified(
        self, place: _Place, frame: bytes, claimed: View, received: Received, now: Instant
    ) -> Heard | Reject:
        """What a frame says that claims to be this, at its place's expense or the reserve's."""
        broker = received.broker
        lane = self._budgets.lane(broker, place.area, place.member.id, now)
        allowance = lane.allowance
        repeats = allowance.repeats
        view: View | Reject = Reject.BUDGET
        again = False
        if lane.stale > 0:
            view, again = self._paid(frame, allowance)
        if view is Reject.BUDGET and (reserve := self._reserved(place, claimed, broker, now)):
            view, again = self._paid(frame, reserve)
        if isinstance(view, Reject):
            # Said again too often: by brokers that all have it, for example.
            often = view is Reject.BUDGET and lane.stale > 0 and repeats <= 0
            self._harmless = often and allowance.failures > 0
            return view
        manner = Manner.RETAINED if received.retained else Manner.EVERYWHERE
        return Heard(place.member, place.area, frame, view, lane, again, manner)

    def _paid(self, frame: bytes, allowance: Allowance) -> tuple[View | Reject, bool]:
        """A frame's verdict, and whether it was said before; a repeat is paid by its size."""
        repeats = allowance.repeats
        view = self._validator.check(frame, allowance)
        again = allowance.repeats < repeats
        if again:
            allowance.repeats -= len(frame) // BYTES_PER_REPEAT
        return view, again

    def stale(self, heard: Heard) -> None:
        """What is true and long past anybody can say again: its place pays, not its signer."""
        if heard.view.kind < FIRST_SIGNAL and not heard.again:
            heard.lane.stale = max(0, heard.lane.stale - 1)
            self._validator.charge(heard.view.sender, -1)

    def _farewell(self, place: _Place, received: Received, now: Instant) -> Farewell | Reject:
        """Nothing proves it, and much follows from it."""
        source = received.broker, place.member.id
        if now < self._farewells.get(source, now):
            return Reject.BUDGET
        self._farewells[source] = now + FAREWELL_EVERY
        return Farewell(place.member, received.payload)

    def _place(self, received: Received) -> _Place | Reject:
        """Whose topic it came on, and what for."""
        address = self._topics.read(received.topic)
        if address is None:
            return Reject.TOPIC
        area, member = address.area, self._directory.member(address.publisher)
        if member is None:
            if area == "card":
                self._stranger(address.publisher, received)
            return Reject.TOPIC
        return _Place(area, member)

    def _reserved(
        self, place: _Place, claimed: View, broker: int, now: Instant
    ) -> Allowance | None:
        """The reserve, if this is what consensus waits for, as it claims, and some is left."""
        if place.area != "vote" or not self._awaits(claimed):
            return None
        reserve = self._budgets.reserve(broker, place.member.id, now)
        return reserve if reserve.failures > 0 else None
