"""What waits to be published on one broker: bounded, protocol frames before what people read.

Overflow policy. Each of the two classes drops its own oldest, counted: a flood of observation never
costs a vote, and an outage of hours leaves the latest statements, which are the useful ones.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from demesh.ports import Publish

# A broker's restart takes seconds, in which a board says some ten things a second.
FRAMES_MAX = 1024
VIEWS_MAX = 256

# Parcels under way at once: at 30 ms a round trip that is 500 a second. paho holds 20.
WINDOW = 16

# A packet that the broker answers by hanging up must not come back on every new connection.
ATTEMPTS_MAX = 3


@dataclass(frozen=True, slots=True)
class Parcel:
    """A publication and how often it was tried."""

    publish: Publish
    attempts: int = 0


class Outbox:
    """Parcels of one broker. `put` never blocks; each `take` is ended by `sent` or `failed`."""

    def __init__(self, frames_max: int = FRAMES_MAX, views_max: int = VIEWS_MAX) -> None:
        self._frames_max, self._views_max = frames_max, views_max
        self._frames: deque[Parcel] = deque()
        self._views: deque[Parcel] = deque()
        self._taken = 0
        self._alone = False  # the latest one taken must stay the only one under way
        self._empty = asyncio.Event()
        self._empty.set()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._frames) + len(self._views) + self._taken

    def put(self, publish: Publish) -> None:
        """Queue a publication; the oldest of its class may go for it, counted."""
        queue, most = (
            (self._frames, self._frames_max) if publish.qos else (self._views, self._views_max)
        )
        queue.append(Parcel(publish))
        self._empty.clear()
        if len(queue) > most:
            queue.popleft()
            self.dropped += 1

    def take(self) -> Parcel | None:
        """The next parcel, frames first; None if there is none, or it has to wait for others.

        A last attempt is made alone: what is given up has failed by itself, not beside the reason.
        """
        queue = self._frames or self._views
        if not queue:
            return None
        last = queue[0].attempts + 1 == ATTEMPTS_MAX
        if self._taken and (self._alone or last or self._taken >= WINDOW):
            return None
        self._taken += 1
        self._alone = last
        return queue.popleft()

    def sent(self) -> None:
        """A parcel has left."""
        self._taken -= 1
        self._settle()

    def failed(self, parcel: Parcel) -> None:
        """A parcel did not arrive for sure: a frame goes back to the front, a view is dropped."""
        self._taken -= 1
        again = Parcel(parcel.publish, parcel.attempts + 1)
        full = len(self._frames) >= self._frames_max
        if not parcel.publish.qos or again.attempts >= ATTEMPTS_MAX or full:
            self.dropped += 1
            self._settle()
            return
        self._frames.appendleft(again)

    async def emptied(self, seconds: float) -> bool:
        """Wait until nothing is queued or under way; False if that took too long."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def _settle(self) -> None:
        if not len(self):
            self._empty.set()
