"""What the broker hands to its store when the wall clock is set."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from broker.rawclient import PATIENCE_S
from demesh.broker.codec import LEVEL_5, Connect, Disconnect, Properties
from demesh.broker.limits import Limits
from demesh.broker.machine import Broker
from demesh.broker.saving import Saving
from demesh.broker.store import Store
from demesh.ports import SECOND

YEAR_NS = 365 * 24 * 3600 * SECOND


class Wall:
    """A wall clock that can be set."""

    def __init__(self) -> None:
        self.ahead_ns = 0
        self.asked = asyncio.Event()

    def __call__(self) -> int:
        self.asked.set()
        return time.monotonic_ns() + YEAR_NS + self.ahead_ns


def away(broker: Broker, conn: int, client_id: str) -> None:
    """A client that leaves a session behind, for an hour."""
    properties = Properties(session_expiry_s=3600)
    now = time.monotonic_ns()
    broker.connected(conn, now)
    broker.receive(conn, Connect(client_id, False, level=LEVEL_5, properties=properties), now)
    broker.receive(conn, Disconnect(), now)


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("set_by_ns", [YEAR_NS, -YEAR_NS // 2])
async def test_a_clock_that_is_set_while_the_broker_runs_ends_no_session(
    tmp_path: Path, set_by_ns: int, killed: bool
) -> None:
    """What was saved before is not touched again by its client."""
    wall = Wall()
    saving = Saving(Store(tmp_path), wall)
    now = time.monotonic_ns()
    broker = Broker(Limits(), now, saved=saving.open(now))
    away(broker, 1, "a")
    saving.start(broker)
    async with asyncio.timeout(PATIENCE_S):
        wall.asked.clear()
        await wall.asked.wait()  # it is saved, and then the clock is set
        wall.ahead_ns = set_by_ns
        wall.asked.clear()
        await wall.asked.wait()
    await (saving.abandon() if killed else saving.stop())
    again = Store(tmp_path)
    saved = again.open(now, now + YEAR_NS + set_by_ns)
    again.close(clean=True)
    (session,) = saved.sessions
    assert session.record.offline_since is not None
    assert abs(session.record.offline_since - now) < 60 * SECOND
