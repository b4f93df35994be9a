"""The shell around the machine: sockets, timers, limits of what waits, start and stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from broker.rawclient import PATIENCE_S, Visitors
from demesh.broker.codec import (
    Code,
    Connack,
    Connect,
    Publish,
    Subscribe,
    Wanted,
    encode,
)
from demesh.broker.limits import Limits, Reason
from demesh.broker.notices import Notices
from demesh.broker.origins import origin_of
from demesh.broker.server import Server
from demesh.broker.settings import Endpoint
from demesh.broker.store import Store
from demesh.errors import TemporaryError
from demesh.ports import SECOND


async def test_a_port_in_use_is_one_clear_line() -> None:
    async with Server() as server:
        with pytest.raises(TemporaryError, match=f"port {server.port} .* in use") as caught:
            await Server(Endpoint(port=server.port)).start()
    assert "\n" not in str(caught.value)


async def test_an_address_of_another_machine_is_one_clear_line() -> None:
    with pytest.raises(TemporaryError, match=r"192\.0\.2\.1:0: Cannot assign requested address$"):
        await Server(Endpoint("192.0.2.1", 0)).start()


async def test_a_start_that_fails_leaves_neither_addresses_nor_its_data_folder_taken(
    tmp_path: Path,
) -> None:
    async with Server() as server:
        failing = Server(Endpoint(), Endpoint(port=server.port), store=Store(tmp_path))
        with pytest.raises(TemporaryError):
            await failing.start()
    async with Server(Endpoint(port=server.port), store=Store(tmp_path)) as another:
        await Visitors(another.port).connect("a")


async def test_a_stopped_server_cuts_everyone_off_and_starts_again_on_its_port() -> None:
    server = Server()
    await server.start()
    port = server.port
    for _ in range(3):
        visitors = Visitors(port)
        client = await visitors.connect("a", clean_start=False)
        stranger = await visitors.dial()
        await client.nothing()
        await server.stop()
        await client.closed()
        await stranger.closed()
        await server.start()
        assert server.port == port
    await server.stop()
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await visitors.dial()


async def test_a_stop_is_told_to_who_can_understand_it() -> None:
    async with Server() as server:
        visitors = Visitors(server.port)
        old, new = await visitors.connect("old"), await visitors.connect_5("new")
        await server.stop()
        await new.dismissed(Code.SHUTTING_DOWN)
        await old.closed()


async def test_what_was_sent_before_the_stop_still_arrives() -> None:
    async with Server() as server:
        visitors = Visitors(server.port)
        client = await visitors.connect("a")
        await client.subscribe(("t", 0))
        client.send(*[Publish("t", b"%d" % n) for n in range(100)])
        await client.expect(Publish("t", b"0"))
    for n in range(1, 100):
        await client.expect(Publish("t", b"%d" % n))
    await client.closed()


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("127.0.0.1", ""),
        ("::1", ""),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_address_has_an_account_but_not_this_machine(address: str, origin: str) -> None:
    assert origin_of(address) == origin


def test_of_each_kind_one_line_a_minute_is_said_and_the_next_counts_the_others() -> None:
    notices = Notices()
    assert notices.line("a", "one", 0) == "one"
    assert notices.line("b", "other", 1) == "other"
    assert [notices.line("a", "more", now * SECOND) for now in (0, 30, 59)] == [None] * 3
    assert notices.line("a", "two", 60 * SECOND) == "two (and 3 more before)"
    assert notices.line("a", "three", 120 * SECOND) == "three"


async def test_connections_have_no_delay() -> None:
    async with Server() as server:
        await Visitors(server.port).connect("a")
        (peer,) = server._peers.values()
        sock = peer.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_silent_connection_is_closed_by_the_servers_own_timer() -> None:
    async with Server(limits=Limits(connect_timeout_ms=50)) as server:
        client = await Visitors(server.port).dial()
        await client.closed()
        assert server.counters.closed == {Reason.CONNECT_TIMEOUT: 1}


async def test_a_refusal_arrives_before_the_close() -> None:
    async with Server() as server:
        client = await Visitors(server.port).dial()
        client.send(Connect("a", level=9))
        await client.expect(Connack(Code.UNSUPPORTED_VERSION))
        await client.closed()


async def test_a_client_that_does_not_read_is_closed_and_the_others_go_on() -> None:
    limits = Limits(write_buffer_bytes_max=1_000_000)
    async with Server(limits=limits) as server:
        visitors = Visitors(server.port)
        slow = await visitors.connect("slow", will=Publish("gone", b"slow"))
        await slow.subscribe(("flood", 0))
        slow.writer.transport.pause_reading()
        fast = await visitors.connect("fast")
        await fast.subscribe(("gone", 0))
        flood = encode(Publish("flood", bytes(100_000)))
        async with asyncio.timeout(PATIENCE_S):
            while not server.counters.closed:
                fast.send(flood)
                told = await fast.messages()
        assert (told or [await fast.next()]) == [Publish("gone", b"slow")]
        assert server.counters.closed == {Reason.SLOW: 1}
        visitors.leave()


async def test_those_who_do_not_read_have_so_much_together_and_the_furthest_behind_is_closed() -> (
    None
):
    limits = Limits(write_buffer_bytes_max=1 << 30, write_buffer_bytes_total_max=4_000_000)
    async with Server(limits=limits) as server:
        visitors = Visitors(server.port)
        slow = [await visitors.connect(f"slow{n}") for n in range(4)]
        for n, client in enumerate(slow):
            await client.subscribe(("flood", 0), *([] if n else [("more", 0)]))
            client.writer.transport.pause_reading()
        fast = await visitors.connect("fast")
        async with asyncio.timeout(PATIENCE_S):
            while not server.counters.closed:
                fast.send(Publish("flood", bytes(50_000)), Publish("more", bytes(50_000)))
                await fast.nothing()
        assert server.counters.closed == {Reason.SLOW: 1}
        slow[0].writer.transport.resume_reading()
        while await slow[0].next() is not None:
            pass
        visitors.leave()


async def test_one_turn_cannot_ask_for_more_than_may_wait() -> None:
    """Many small SUBSCRIBEs in one segment, each asking for all retained messages again."""
    limits = Limits(write_buffer_bytes_max=2_000_000, packets_per_s_max=None)
    async with Server(limits=limits) as server:
        visitors = Visitors(server.port)
        client = await visitors.connect("greedy")
        client.send(*[Publish(f"t/{n}", bytes(10_000), retain=True) for n in range(100)])
        await client.nothing()
        client.send(encode(Subscribe(1, (Wanted("#", 0),))) * 5_000)
        while await client.next() is not None:
            pass
        assert server.counters.closed == {Reason.SLOW: 1}
        assert (
            server.counters.messages_sent < 100 * 20
        )  # bursts of a megabyte; 5,000 were asked for
        visitors.leave()


async def test_garbage_on_many_connections_hurts_nobody() -> None:
    async with Server() as server:
        visitors = Visitors(server.port)
        steady = await visitors.connect("steady")
        garbage = bytes(range(256)) * 8
        for shift in range(64):
            client = await visitors.dial()
            client.send(encode(Connect("")) * (shift % 2), garbage[shift:])
            client.writer.write_eof()
            while await client.next() is not None:
                pass
        await steady.nothing()
        assert sum(server.counters.closed.values()) == 64


async def run_broker(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "demesh.broker", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(__file__).parent,
    )


async def test_the_process_says_where_it_listens_and_ends_by_a_signal() -> None:
    process = await run_broker("--port", "0")
    async with asyncio.timeout(PATIENCE_S):
        line = (await process.stdout.readline()).decode()
        assert line.startswith("mqtt://127.0.0.1:")
        port = int(line.rpartition(":")[2])
        client = await Visitors(port).connect("a")
        second = await run_broker("--port", str(port))
        _, complaint = await second.communicate()
        assert (second.returncode, complaint.count(b"\n")) == (75, 1)
        process.send_signal(signal.SIGTERM)
        await client.closed()
        assert await process.wait() == 0
        assert await process.stderr.read() == b""


async def test_a_killed_process_leaves_its_port_to_the_next_at_once() -> None:
    async with asyncio.timeout(PATIENCE_S):
        process = await run_broker("--port", "0")
        port = int((await process.stdout.readline()).rpartition(b":")[2])
        client = await Visitors(port).connect("a")
        process.kill()
        await client.closed()
        await process.wait()
        async with Server(Endpoint(port=port)) as server:
            await Visitors(server.port).connect("a")
