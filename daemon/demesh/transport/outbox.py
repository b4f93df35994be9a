"""What waits to be published on one broker: bounded, protocol frames before what people read.

Overflow policy. Each of the two classes drops its own oldest, counted: a flood of observation never
costs a vote, and an outage of hours leaves the latest statements, which are the useful ones.

With several brokers, what one has acknowledged is said. It still goes to the others, for not
everybody hears every broker; but from a queue that does not move it is dropped after FRESH_S, and
counted as late. So a broker that was away, or is slow, does not pour out hours of what everybody
knows; what no broker has acknowledged waits for whichever comes first. The latest card and tip are
no concern of a queue: the node says them again to a broker that is back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from demesh.ports import Publish

# A broker's restart takes seconds, in which a board says some ten things a second.
FRAMES_MAX = 1024
VIEWS_MAX = 256

# Of each class: some hundred blocks, and what a Pi with 512 MB can spare.
BYTES_MAX = 4 * 1024 * 1024

# A restart and a few tries to connect, so nobody who hears this broker alone misses anything by
# them; and well below the minutes after which a device asks for what it missed anyway.
FRESH_S = 10.0

# Parcels under way at once: at 30 ms a round trip that is 500 a second.
WINDOW = 16

# Or so many bytes, if that is less: on a line of 1 kB/s a minute, and no vote waits longer.
WINDOW_BYTES = 64 * 1024

# A packet that the broker answers by hanging up must not come back on every new connection.
ATTEMPTS_MAX = 3


@dataclass(slots=True)
class Letter:
    """A publication on its way to one broker or several, since `at` (the loop's time)."""

    publish: Publish
    at: float
    said: bool = False  # one of them has acknowledged it

    @property
    def bytes(self) -> int:
        """About what it takes of a line."""
        return len(self.publish.payload) + len(self.publish.topic)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A letter to one broker, and how often it was tried."""

    letter: Letter
    attempts: int = 0

    @property
    def publish(self) -> Publish:
        """What is to be published."""
        return self.letter.publish


@dataclass(slots=True)
class _Queue:
    """Parcels of one class, oldest first."""

    most: int
    parcels: deque[Parcel] = field(default_factory=deque)
    bytes: int = 0

    @property
    def overfull(self) -> bool:
        return len(self.parcels) > self.most or self.bytes > BYTES_MAX

    def append(self, parcel: Parcel) -> None:
        self.parcels.append(parcel)
        self.bytes += parcel.letter.bytes

    def push_back(self, parcel: Parcel) -> None:
        self.parcels.appendleft(parcel)
        self.bytes += parcel.letter.bytes

    def pop(self) -> Parcel:
        parcel = self.parcels.popleft()
        self.bytes -= parcel.letter.bytes
        return parcel


class Outbox:
    """Parcels of one broker. `put` never blocks; each `take` is ended by one of three."""

    def __init__(self, frames_max: int = FRAMES_MAX, views_max: int = VIEWS_MAX) -> None:
        self._frames, self._views = _Queue(frames_max), _Queue(views_max)
        self._taken = 0
        self._alone = False  # the latest one taken must stay the only one under way
        self._empty = asyncio.Event()
        self._empty.set()
        self.window = WINDOW
        self.bytes_taken = 0
        self.dropped = 0  # for want of room, or tried in vain
        self.late = 0  # said by another broker long since
        self.refused = 0  # by the broker, for good

    def __len__(self) -> int:
        return len(self._frames.parcels) + len(self._views.parcels) + self._taken

    def put(self, letter: Letter) -> None:
        """Queue a letter; the oldest of its class may go for it, counted."""
        queue = self._frames if letter.publish.qos else self._views
        queue.append(Parcel(letter))
        self._empty.clear()
        while queue.overfull:
            self._drop(queue.pop())
        self._settle()

    def take(self, now: float) -> Parcel | None:
        """The next parcel, frames first; None if there is none, or it has to wait for others.

        A last attempt is made alone: what is given up has failed by itself, not beside the reason.
        """
        queue = self._next(now)
        if queue is None:
            return None
        parcel = queue.parcels[0]
        last = parcel.attempts + 1 == ATTEMPTS_MAX
        full = self._taken >= self.window or (self.bytes_taken + parcel.letter.bytes > WINDOW_BYTES)
        if self._taken and (self._alone or last or full):
            return None
        self._taken += 1
        self.bytes_taken += parcel.letter.bytes
        self._alone = last
        return queue.pop()

    def sent(self, parcel: Parcel) -> None:
        """A parcel has arrived, as far as anybody can know."""
        parcel.letter.said = True
        self._ended(parcel)
        self._settle()

    def refuse(self, parcel: Parcel) -> None:
        """The broker does not take it and never will."""
        self.refused += 1
        self._ended(parcel)
        self._settle()

    def failed(self, parcel: Parcel) -> None:
        """A parcel did not arrive for sure: a frame goes back to the front, a view is dropped."""
        self._ended(parcel)
        again = Parcel(parcel.letter, parcel.attempts + 1)
        if parcel.publish.qos and again.attempts < ATTEMPTS_MAX:
            self._frames.push_back(again)
            if self._frames.overfull:
                self._drop(self._frames.pop())
        else:
            self.dropped += 1
        self._settle()

    async def emptied(self, seconds: float) -> bool:
        """Wait until nothing is queued or under way; False if that took too long."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def _next(self, now: float) -> _Queue | None:
        """The class whose turn it is, after dropping what is late; None if both are empty."""
        for queue in (self._frames, self._views):
            while queue.parcels:
                letter = queue.parcels[0].letter
                if not letter.said or now < letter.at + FRESH_S:
                    return queue
                self._drop(queue.pop())
        self._settle()
        return None

    def _drop(self, parcel: Parcel) -> None:
        if parcel.letter.said:
            self.late += 1
        else:
            self.dropped += 1

    def _ended(self, parcel: Parcel) -> None:
        self._taken -= 1
        self.bytes_taken -= parcel.letter.bytes

    def _settle(self) -> None:
        if not len(self):
            self._empty.set()
