"""Hands what changed in the broker to its store: once a second, in a thread, and at the end.

A disk may take seconds for a write; the loop does not wait for it, and changes gather meanwhile in
the machine. A write that fails stops nothing, for a mesh does not depend on what a broker keeps:
the broker serves on, says so, counts, and tries to save everything until it succeeds.

The file holds wall-clock times. When that clock is set while the broker runs (a machine that booted
in the past and then heard the time), everything is written again, or what was saved before would
look long expired at the next start.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from demesh.broker.machine import Broker
from demesh.broker.notices import Notices
from demesh.broker.saved import Changes, Saved
from demesh.broker.store import Store
from demesh.ports import SECOND, Instant

_log = logging.getLogger("demesh.broker")

# What a kill may lose. Less writes pages of the same session more often.
EVERY_S = 1.0

# A clock that is only put right drifts by less for weeks; what expires is off by so much at most.
CLOCK_SET_NS = 60 * SECOND


class Saving:
    """The store of a running broker, and the thread that writes."""

    def __init__(self, store: Store, wall: Callable[[], int] = time.time_ns) -> None:
        """`wall`: the wall clock, in ns since 1970."""
        self._store = store
        self._wall = wall
        self._shift = 0  # of the wall clock against the machine's when all was written last
        self._broker: Broker | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._write: asyncio.Future[None] | None = None
        self._behind = False  # the last write failed: the file is old, and all is to be written
        self._notices = Notices()

    def open(self, now: Instant) -> Saved:
        """What was saved; raises StorageError, TemporaryError."""
        wall_ns = self._wall()
        self._shift = wall_ns - now
        return self._store.open(now, wall_ns)

    def close(self) -> None:
        """Give up what was opened, unchanged."""
        self._store.close(clean=True)

    def start(self, broker: Broker) -> None:
        """Save from now on."""
        self._broker = broker
        self._writer = ThreadPoolExecutor(1, "broker-store")
        self._set_timer()

    async def stop(self) -> None:
        """Save what changed last and close the file."""
        if self._timer is not None:
            self._timer.cancel()
        if self._write is not None:
            await self._settle(self._write)
        write = self._begin()
        if write is not None:
            await self._settle(write)
        if self._writer is not None:
            self._writer.shutdown()
        self._store.close(clean=not self._behind)

    async def abandon(self) -> None:
        """Save no more, and leave the file as a kill would."""
        if self._timer is not None:
            self._timer.cancel()
        if self._write is not None:
            await self._settle(self._write)
        if self._writer is not None:
            self._writer.shutdown()
        self._store.close(clean=False)

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._turn)

    def _turn(self) -> None:
        self._write = self._begin()
        if self._write is None:
            self._set_timer()
        else:
            self._write.add_done_callback(self._written)

    def _begin(self) -> asyncio.Future[None] | None:
        assert self._broker is not None and self._writer is not None, "start first"
        now, wall_ns = time.monotonic_ns(), self._wall()
        anew = self._behind
        if abs(wall_ns - now - self._shift) > CLOCK_SET_NS:
            self._shift = wall_ns - now
            anew = True
        changes: Changes = self._broker.changes(everything=anew)
        if not changes and not anew:
            return None
        return asyncio.get_running_loop().run_in_executor(
            self._writer, lambda: self._store.write(changes, now, wall_ns, anew=anew)
        )

    def _written(self, write: asyncio.Future[None]) -> None:
        self._write = None
        self._judge(write.exception())
        self._set_timer()

    async def _settle(self, write: asyncio.Future[None]) -> None:
        write.remove_done_callback(self._written)
        await asyncio.wait([write])
        self._judge(write.exception())

    def _judge(self, fault: BaseException | None) -> None:
        if fault is None:
            if self._behind:
                _log.warning("saving again")
            self._behind = False
            return
        self._behind = True
        assert self._broker is not None
        self._broker.counters.saves_failed += 1
        line = self._notices.line(
            "saving",
            f"nothing is saved, and a restart would lose it: {fault or repr(fault)}",
            time.monotonic_ns(),
        )
        if line is not None:
            _log.error("%s", line)
