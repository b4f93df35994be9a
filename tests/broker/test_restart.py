"""A broker with a data folder, ended politely, killed, or without room: what is there again."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from broker.rawclient import PATIENCE_S, RawClient, Visitors
from demesh.broker.codec import Publish
from demesh.broker.packets import Puback, Pubcomp, Pubrec, Pubrel
from demesh.broker.saving import EVERY_S
from demesh.broker.store import FILE


class Broker:
    """`demesh broker` as a process on one data folder."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.visitors = Visitors(port)

    async def come(self, name: str, *, present: bool) -> RawClient:
        """The client of a lasting session."""
        return await self.visitors.connect(name, present, clean_start=False)

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()

    async def said(self, words: str) -> None:
        """Until it says so in its log."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while words not in (line := (await self.process.stderr.readline()).decode()):
                assert line, "it ended"


@asynccontextmanager
async def broker(folder: Path, limit: Callable[[], None] | None = None) -> AsyncIterator[Broker]:
    """One process on the folder; killed at the end of the block if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "demesh", "broker", "--data", str(folder)),
        *("--listen", "mqtt://127.0.0.1:0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=limit,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            line = (await process.stdout.readline()).decode()
        yield Broker(process, int(line.rpartition(":")[2] or 0))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def saved(one: Broker, folder: Path, question: str, answer: object) -> None:
    """Until the broker's file, read from a copy, says so; the broker is asked to live meanwhile."""
    client = await one.visitors.connect("watching")
    async with asyncio.timeout(PATIENCE_S):
        while _asked(folder, question) != answer:
            await client.nothing()


def _asked(folder: Path, question: str) -> object:
    copy = folder.parent / "copy"
    copy.mkdir(exist_ok=True)
    for name in (FILE, f"{FILE}-wal"):
        (copy / name).write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"")
    link = sqlite3.connect(copy / FILE)
    try:
        return link.execute(question).fetchone()[0]
    except sqlite3.Error:
        return None  # copied in the midst of a write
    finally:
        link.close()


async def leave_things(one: Broker) -> None:
    """A session with all that one can have under way, and a retained message."""
    receiver = await one.come("receiver", present=False)
    await receiver.subscribe(("q/+", 2), ("other", 0))
    sender = await one.come("sender", present=False)
    for number, qos in enumerate((1, 2, 2), 1):
        sender.send(Publish(f"q/{number}", b"under way", qos, packet_id=number))
        await sender.expect(Puback(number) if qos == 1 else Pubrec(number))
        packet = await receiver.next()
        assert isinstance(packet, Publish) and packet.packet_id == number
    receiver.send(Pubrec(3))  # 1: not acknowledged; 2: not received; 3: received, released
    await receiver.expect(Pubrel(3))
    receiver.abort()
    other = await one.visitors.connect("other")
    await other.subscribe(("gone", 0))
    await other.nothing()
    for number in range(4, 14):
        qos = 1 + number % 2
        sender.send(Publish(f"q/{number}", b"waits", qos, packet_id=number))
        await sender.expect(Puback(number) if qos == 1 else Pubrec(number))
    other.send(
        Publish("kept", b"first", retain=True), Publish("kept", b"last", 1, True, packet_id=1)
    )
    other.send(Publish("not kept", b"x", retain=True), Publish("not kept", b"", retain=True))
    await other.expect(Puback(1))
    await other.nothing()


async def find_things(one: Broker) -> None:
    """Everything that `leave_things` left, once and in order."""
    receiver = await one.come("receiver", present=True)
    await receiver.expect(
        Publish("q/1", b"under way", 1, dup=True, packet_id=1),
        Publish("q/2", b"under way", 2, dup=True, packet_id=2),
        Pubrel(3),
    )
    waited = [await receiver.next() for _ in range(10)]
    assert [packet.topic for packet in waited] == [f"q/{number}" for number in range(4, 14)]
    assert len({packet.packet_id for packet in waited} | {1, 2, 3}) == 13
    receiver.send(Pubcomp(3), Puback(1), Pubrec(2))
    await receiver.expect(Pubrel(2))
    # What was passed on before and is not released is not passed on again.
    sender = await one.come("sender", present=True)
    sender.send(Publish("q/2", b"under way", 2, dup=True, packet_id=2), Pubrel(2))
    await sender.expect(Pubrec(2), Pubcomp(2))
    sender.send(Publish("q/20", b"new", 0))
    await receiver.expect(Publish("q/20", b"new", 0))
    await receiver.subscribe(("#", 1))
    packet_id = waited[-1].packet_id % 65_535 + 1
    await receiver.expect(Publish("kept", b"last", 1, True, packet_id=packet_id))
    await receiver.nothing()


async def test_after_an_orderly_end_everything_is_there_again_and_nothing_twice(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    async with broker(folder) as one:
        await leave_things(one)
        assert await one.end(signal.SIGTERM) == 0
    async with broker(folder) as one:
        await find_things(one)
        assert await one.end(signal.SIGTERM) == 0
    assert {path.name for path in folder.iterdir()} == {FILE}


async def test_after_a_kill_everything_is_there_that_was_saved(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with broker(folder) as one:
        await leave_things(one)
        await saved(one, folder, "SELECT count(*) FROM queue", 10)
        await saved(one, folder, "SELECT count(*) FROM unreleased", 7)
        await one.end(signal.SIGKILL)
    async with broker(folder) as one:
        await find_things(one)


async def test_what_changes_after_a_while_in_which_nothing_did_is_saved_too(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    async with broker(folder) as one:
        client = await one.visitors.connect("a")
        await client.quiet(2.5 * EVERY_S)
        for number in (1, 2):
            client.send(Publish(f"t/{number}", b"x", retain=True))
            await saved(one, folder, "SELECT count(*) FROM retained", number)


async def test_what_was_acknowledged_before_an_orderly_end_does_not_come_again(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    for present in (False, True, True):
        async with broker(folder) as one:
            receiver = await one.come("receiver", present=present)
            if not present:
                await receiver.subscribe(("t", 2))
            for number in range(1, 21):
                receiver.send(Publish("t", b"%d" % number, 2, packet_id=number))
                packets = [await receiver.next() for _ in range(2)]
                (arrived,) = [packet for packet in packets if isinstance(packet, Publish)]
                assert arrived.payload == b"%d" % number
                receiver.send(Pubrel(number), Pubrec(arrived.packet_id))
                assert {await receiver.next() for _ in range(2)} == {
                    Pubcomp(number),
                    Pubrel(arrived.packet_id),
                }
                receiver.send(Pubcomp(arrived.packet_id))
            await receiver.nothing()
            assert await one.end(signal.SIGTERM) == 0


async def test_without_room_on_the_disk_the_broker_goes_on_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

    async with broker(folder, little_room) as one:
        client = await one.visitors.connect("a")
        for number in range(20):
            client.send(Publish(f"t/{number}", bytes(50_000), 1, True, packet_id=number + 1))
            await client.expect(Puback(number + 1))
        await one.said("nothing is saved, and a restart would lose it")
        await client.subscribe(("t/#", 0))
        assert len(await client.messages()) == 20
        assert await one.end(signal.SIGTERM) == 0
    async with broker(folder, little_room) as one:  # the file is whole, and as old as it was left
        client = await one.visitors.connect("a")
        await client.subscribe(("t/#", 0))
        there = len(await client.messages())
        assert there < 20
        for number in range(20):
            client.send(Publish(f"u/{number}", bytes(50_000), 0, True))
        await one.said("nothing is saved, and a restart would lose it")
        plenty = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, plenty)
        await one.said("saving again")
        await one.end(signal.SIGKILL)
    async with broker(folder) as one:
        client = await one.visitors.connect("a")
        await client.subscribe(("#", 0))
        assert len(await client.messages()) == there + 20


async def test_a_folder_in_use_is_refused_at_the_start(tmp_path: Path) -> None:
    async with broker(tmp_path) as one, broker(tmp_path) as two:
        await two.said("another broker has it")
        assert await two.process.wait() == 75
        await one.visitors.connect("a")
