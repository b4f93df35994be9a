"""Which messages may reach the rest of the node: topic, seal, frame, budget, and who says it.

All of R-WIRE-7 up to the meaning of a payload. A message that is not admitted costs a counter, and
its place what it wasted (R-WIRE-13).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from demesh.direct import Direct
from demesh.membership.directory import Directory, Member
from demesh.ports import SECOND, Instant, Received
from demesh.wire.budget import Budgets
from demesh.wire.kinds import FIRST_SIGNAL, Reject
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


@dataclass(frozen=True, slots=True)
class Heard:
    """A valid frame in its place: who published it, where, and what it is."""

    member: Member
    area: str
    frame: bytes
    view: View
    lane: Allowance
    again: bool  # these very bytes were verified before, which is paid for


@dataclass(frozen=True, slots=True)
class Farewell:
    """Somebody, or a broker in its name, says that a device is gone; nothing proves it."""

    member: Member
    payload: bytes


@dataclass(frozen=True, slots=True)
class Own:
    """An op that was published in this device's name, by itself or its owner's tools."""

    frame: bytes


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
        awaits: Callable[[View], bool],
        stranger: Callable[[bytes, Received], None],
        losing: Callable[[Instant], None],
    ) -> None:
        self._topics, self._directory, self._validator = topics, directory, validator
        self._direct, self._budgets = direct, budgets
        self._awaits, self._stranger, self._losing = awaits, stranger, losing
        self._wasted, self._second_ends = 0, 0
        self._flooded: dict[tuple[str, bytes], Instant] = {}
        self._farewells: dict[tuple[int, bytes], Instant] = {}  # when the next may be heard

    def flooded(self, now: Instant) -> list[tuple[str, bytes]]:
        """Places, as area and publisher, where there was too much a moment ago."""
        recent = {p: at for p, at in self._flooded.items() if now < at + FLOODED_FOR}
        self._flooded = recent
        return sorted(recent)

    def admit(self, received: Received, now: Instant) -> Heard | Farewell | Own | Reject | None:
        """What a message is; None if there is nothing to it, being this device's own."""
        content = self._content(received, now)
        if isinstance(content, Reject):
            self._waste(now)
        return content

    def _waste(self, now: Instant) -> None:
        if now >= self._second_ends:
            self._wasted, self._second_ends = 0, now + SECOND
        self._wasted += 1
        if self._wasted == WASTED_MAX:
            self._losing(now)

    def _content(self, received: Received, now: Instant) -> Heard | Farewell | Own | Reject | None:
        place = self._place(received)
        if not isinstance(place, _Place):
            return place
        area, member = place.area, place.member
        if area == "gone":
            return self._farewell(place, received, now)
        frame = received.payload if area != "to" else self._direct.open(member, received.payload)
        if isinstance(frame, Reject):
            return frame
        lane = self._budgets.lane(received.broker, area, member.id, now)
        repeats = lane.repeats
        view = self._validator.check(frame, lane)
        if view is Reject.BUDGET:
            claimed = self._validator.peek(frame)
            reserve = self._reserved(place, claimed, received.broker, now)
            view = self._validator.check(frame, reserve) if reserve else Reject.BUDGET
        if view is Reject.BUDGET:
            return self._too_much(place, now)
        if isinstance(view, Reject):
            return view
        if not place.fits(view):
            return Reject.TOPIC
        if member.id == self._directory.me.id:
            return Own(frame)  # an op may be what my owner's tools say in my name
        return Heard(member, area, frame, view, lane, again=lane.repeats < repeats)

    def stale(self, heard: Heard) -> None:
        """What is true and long past anybody can say again: its place pays, not its signer."""
        if heard.view.kind < FIRST_SIGNAL and not heard.again:
            heard.lane.failures -= 1
            self._validator.charge(heard.view.sender, -1)

    def _farewell(self, place: _Place, received: Received, now: Instant) -> Farewell | Reject:
        """Nothing proves it, and much follows from it."""
        source = received.broker, place.member.id
        if now < self._farewells.get(source, now):
            return self._too_much(place, now)
        self._farewells[source] = now + FAREWELL_EVERY
        return Farewell(place.member, received.payload)

    def _place(self, received: Received) -> _Place | Reject | None:
        """Whose topic it came on, and what for; None for what I published myself."""
        self._budgets.share(len(self._directory.members))
        address = self._topics.read(received.topic)
        if address is None:
            return Reject.TOPIC
        area, member = address.area, self._directory.member(address.publisher)
        if member is None:
            if area == "card":
                self._stranger(address.publisher, received)
            return Reject.TOPIC
        if member.id == self._directory.me.id and area != "op":
            return None  # what peers return of mine comes on theirs
        return _Place(area, member)

    def _reserved(
        self, place: _Place, claimed: View | Reject, broker: int, now: Instant
    ) -> Allowance | None:
        """The reserve, if this is what consensus waits for, as it claims, and some is left."""
        if place.area != "vote" or isinstance(claimed, Reject) or not self._awaits(claimed):
            return None
        reserve = self._budgets.reserve(broker, place.member.id, now)
        return reserve if reserve.failures > 0 else None

    def _too_much(self, place: _Place, now: Instant) -> Reject:
        self._flooded[place.area, place.member.id] = now
        return Reject.BUDGET
