"""Faults of our own: those of one connection cost that one, those of nobody end the process."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from broker.rawclient import PATIENCE_S, Visitors
from demesh.broker.access import Open
from demesh.broker.codec import Connect, Properties, Publish
from demesh.broker.limits import Limits, Reason
from demesh.broker.process import serve
from demesh.broker.server import Server
from demesh.broker.settings import Trust
from demesh.broker.store import FILE, Store
from demesh.errors import FaultError


class Faulty(Open):
    """A part of the broker with a bug: it fails when it hears of some topics."""

    def __init__(self, *topics: str) -> None:
        self.topics = topics

    def may_write(self, user: str, client_id: str, topic: str) -> bool:
        assert topic not in self.topics, "a bug"
        return True


async def test_a_fault_costs_its_connection_and_those_behind_it_are_heard(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All have said more than a turn's worth, so they are heard one after the other."""
    limits = Limits(packets_per_s_max=None, turn_packets_max=2)
    async with Server(limits=limits, trust=Trust(Faulty("bug"))) as server:
        visitors = Visitors(server.port)
        many = [Publish("t")] * 40
        for _ in range(3):
            before, culprit, behind = [
                await visitors.connect(name) for name in ("before", "culprit", "behind")
            ]
            before.send(*many)
            culprit.send(*many[:20], Publish("bug"), *many)
            behind.send(*many)
            await culprit.closed()
            await before.nothing()
            await behind.nothing()
        assert server.counters.closed[Reason.FAULT] == 3
        visitors.leave()
    (record,) = (r for r in caplog.records if r.levelno >= logging.ERROR)
    assert "please report it; 127.0.0.1 is cut off" in record.getMessage()
    assert record.exc_info is not None


async def test_a_connection_that_was_given_up_in_a_faulty_turn_is_closed_too() -> None:
    """A client comes again; telling the will of the older connection fails."""
    access = Faulty()
    async with Server(trust=Trust(access)) as server:
        visitors = Visitors(server.port)
        older = await visitors.connect("a", will=Publish("will"))
        newer = await visitors.dial()
        access.topics = ("will",)
        newer.send(Connect("a"))
        await newer.closed()
        await older.closed()
        await (await visitors.connect("a")).nothing()
        visitors.leave()


@pytest.mark.parametrize("by_a_packet", [True, False])
async def test_a_fault_in_the_end_of_a_connection_is_nobody_elses(
    by_a_packet: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in telling the will, and comes up again when the connection is given up for it."""
    access = Faulty()
    async with Server(trust=Trust(access)) as server:
        visitors = Visitors(server.port)
        other = await visitors.connect("other")
        culprit = await visitors.connect("culprit", will=Publish("will"))
        access.topics = ("will", "bug")
        if by_a_packet:
            culprit.send(Publish("bug"))
            await culprit.closed()
        else:
            culprit.abort()
        async with asyncio.timeout(PATIENCE_S):
            while not server.counters.closed:
                await other.nothing()
        await other.nothing()
        visitors.leave()
    assert {r.name for r in caplog.records} == {"demesh.broker"}, "the loop would end the process"


async def test_a_fault_that_is_nobodys_ends_the_process_as_a_kill_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes up at a time: that of a will which waits for a second."""
    access = Faulty()
    server = Server(trust=Trust(access), store=Store(tmp_path))
    ended = asyncio.Event()
    async with asyncio.timeout(PATIENCE_S):
        serving = asyncio.create_task(serve(server, ended))
        while not server.port:
            await asyncio.wait([serving], timeout=0.01)
        visitors = Visitors(server.port)
        other = await visitors.connect("other")
        culprit = await visitors.connect_5(
            "culprit",
            said=Properties(session_expiry_s=60),
            will=Publish("will", properties=Properties(will_delay_s=1)),
        )
        access.topics = ("will",)
        culprit.abort()
        with pytest.raises(FaultError, match="a bug") as caught:
            await serving
        await other.closed()
    assert caught.value.exit_code == 70
    (record,) = (r for r in caplog.records if r.levelno >= logging.CRITICAL)
    assert record.exc_info is not None
    with closing(sqlite3.connect(tmp_path / FILE)) as link:
        assert link.execute("SELECT clean FROM state").fetchall() == [(0,)]
    async with Server(store=Store(tmp_path)) as again:
        await (await Visitors(again.port).connect("other")).nothing()
