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
from demesh.wire.kinds import Reject
from demesh.wire.topics import KINDS_OF_AREA, RELAYED, Topics
from demesh.wire.validate import Validator, View

# How long a place counts as flooded after the last message that was too much: longer than a
# person's glance, shorter than what is worth telling again.
FLOODED_FOR = 10 * SECOND


@dataclass(frozen=True, slots=True)
class Heard:
    """A valid frame in its place: who published it, where, and what it is."""

    member: Member
    area: str
    frame: bytes
    view: View


@dataclass(frozen=True, slots=True)
class Farewell:
    """Somebody, or a broker in its name, says that a device is gone; nothing proves it."""

    member: Member
    payload: bytes


@dataclass(frozen=True, slots=True)
class Own:
    """An op that was published in this device's name, by itself or its owner's tools."""

    frame: bytes


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
    ) -> None:
        self._topics, self._directory, self._validator = topics, directory, validator
        self._direct, self._budgets = direct, budgets
        self._awaits, self._stranger = awaits, stranger
        self._flooded: dict[tuple[str, bytes], Instant] = {}

    def flooded(self, now: Instant) -> list[tuple[str, bytes]]:
        """Places, as area and publisher, where there was too much a moment ago."""
        recent = {p: at for p, at in self._flooded.items() if now < at + FLOODED_FOR}
        self._flooded = recent
        return sorted(recent)

    def admit(self, received: Received, now: Instant) -> Heard | Farewell | Own | Reject | None:
        """What a message is; None if there is nothing to it, being this device's own."""
        self._budgets.share(len(self._directory.members), len(self._directory.voters))
        address = self._topics.read(received.topic)
        if address is None:
            return Reject.TOPIC
        area, member = address.area, self._directory.member(address.publisher)
        if member is None:
            if area == "card":
                self._stranger(address.publisher, received)
            return Reject.TOPIC
        if member.id == self._directory.me.id and area != "op":
            return None  # my own publication came back; what peers return of mine comes on theirs
        read = self._farewell if area == "gone" else self._frame
        heard: Heard | Farewell | Own | Reject = read(member, area, received, now)
        if heard is Reject.BUDGET:
            self._flooded[area, member.id] = now
        return heard

    def _frame(
        self, member: Member, area: str, received: Received, now: Instant
    ) -> Heard | Own | Reject:
        frame = received.payload if area != "to" else self._direct.open(member, received.payload)
        if isinstance(frame, Reject):
            return frame
        view = self._check(frame, received.broker, area, member, now)
        if isinstance(view, Reject):
            return view
        if view.kind not in KINDS_OF_AREA[area]:
            return Reject.TOPIC
        if view.kind not in RELAYED and view.sender != member.id:
            return Reject.TOPIC
        if member.id == self._directory.me.id:
            return Own(frame)  # an op may be what my owner's tools say in my name
        return Heard(member, area, frame, view)

    def _farewell(
        self, member: Member, area: str, received: Received, now: Instant
    ) -> Farewell | Reject:
        """It costs no signature, but what follows from it is work; so it counts as said again."""
        lane = self._budgets.lane(received.broker, area, member.id, now)
        if lane.repeats <= 0:
            return Reject.BUDGET
        lane.repeats -= 1
        return Farewell(member, received.payload)

    def _check(
        self, frame: bytes, broker: int, area: str, publisher: Member, now: Instant
    ) -> View | Reject:
        """The frame's verdict, at its place's expense; by the reserve if consensus waits for it."""
        lane = self._budgets.lane(broker, area, publisher.id, now)
        view = self._validator.check(frame, lane)
        if view is not Reject.BUDGET or area != "vote":
            return view
        unverified = self._validator.peek(frame)
        if isinstance(unverified, Reject) or not self._awaits(unverified):
            return Reject.BUDGET
        return self._validator.check(frame, self._budgets.reserve(broker, publisher.id, now))
