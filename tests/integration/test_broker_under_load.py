"""What the embedded broker takes, and what the others notice of it: a real process, real sockets.

Bounds on time are for two cores that others use as well; memory is the process's own peak.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from broker.process import running
from broker.rawclient import PATIENCE_S, Visitors
from broker.siege import DELAY_S_MAX, comes_in, crowd, until_served, witness
from demesh.broker.codec import Connect, Pingreq, Properties, Puback, Publish, encode
from demesh.broker.properties import write_varint
from demesh.wire.topics import Topics

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

MIB = 1024 * 1024

AREAS = ("vote", "op", "tip", "card", "gone")


async def test_ten_thousand_retained_topics_reach_who_subscribes_to_everything() -> None:
    number = 10_000
    limits = {
        "retained_max": number,
        "queued_max": number,
        "packets_per_s_max": None,
    }
    async with running(**limits) as broker:
        visitors = Visitors(broker.port)
        sender = await visitors.connect("sender")
        topics = [f"street/{n % 100}/board/{n}/card" for n in range(number)]
        for start in range(0, number, 500):
            for n in range(start, start + 500):
                sender.send(Publish(topics[n], b"%d" % n * 10, 1, True, packet_id=n + 1))
            for n in range(start, start + 500):
                await sender.expect(Puback(n + 1))
        for qos in (1, 0):
            client = await visitors.connect(f"reader-{qos}")
            await client.subscribe(("#", qos))
            came = {}
            while len(came) < number:
                message = await client.message()
                assert message.retain
                assert message.qos == qos
                came[message.topic] = message.payload
            assert came == {topic: b"%d" % n * 10 for n, topic in enumerate(topics)}
            await client.nothing()
        # One more than it may keep is delivered and not kept.
        sender.send(Publish("one/more", b"x", 1, True, packet_id=1))
        await sender.expect(Puback(1))
        assert (await client.message()).topic == "one/more"
        assert (await broker.counters())["retained_refused"] == 1
        visitors.leave()


async def test_who_does_not_read_costs_bounded_memory_and_nobody_else_time() -> None:
    size, number = 64 * 1024, 1_000
    async with running(packets_per_s_max=None) as broker:
        visitors = Visitors(broker.port)
        said = Properties(session_expiry_s=600)
        for qos in (0, 1):
            slow = await visitors.connect_5(f"slow-{qos}", said=said)
            await slow.subscribe(("bulk", qos))
            slow.writer.transport.pause_reading()
        fast = await visitors.connect("fast")
        await fast.subscribe(("bulk", 1))
        sender = await visitors.connect("sender")
        before = broker.peak_bytes()
        async with witness(visitors):
            for n in range(1, number + 1):
                sender.send(Publish("bulk", n.to_bytes(4) + bytes(size), 1, packet_id=n))
                await sender.expect(Puback(n))
                assert (await fast.message()).payload[:4] == n.to_bytes(4)
        # What waits for the one at QoS 0 goes up to its 8 MiB; for the one at QoS 1 its window of
        # 64 messages and a queue of 4 MiB. 63 MiB were sent to each.
        assert broker.peak_bytes() - before < 40 * MIB
        counters = await broker.counters()
        assert counters["closed/slow"] == 1
        assert counters["dropped_queue_full"] > number // 2
        assert counters["dropped_offline"] > number // 2
        visitors.leave()


# -- floods of connections ------------------------------------------------------------------------


async def test_connections_that_say_nothing_lock_nobody_out_and_do_not_stay() -> None:
    async with running(connect_timeout_ms=1_500) as broker, crowd(broker.port) as strangers:
        visitors = Visitors(broker.port)
        before = broker.peak_bytes()
        async with witness(visitors):
            await strangers.open(1_500, lambda n: b"")
            assert await comes_in(visitors) < DELAY_S_MAX
            for reader, _ in strangers.lines:  # all of them are closed, the last ones in time
                async with asyncio.timeout(10):
                    assert await reader.read() == b""
        assert broker.peak_bytes() - before < 16 * MIB
        counters = await broker.counters()
        closed = counters["closed/connections_full"], counters["closed/connect_timeout"]
        assert sum(closed) == 1_500
        assert min(closed) > 100
        visitors.leave()


async def test_packets_full_of_properties_hold_nobody_up() -> None:
    """A quarter of a megabyte of the smallest there are, before anybody is known."""
    pairs = b"\x26\0\0\0\0" * 52_000
    body = bytes.fromhex("0004 4d515454 05 02 003c") + write_varint(len(pairs)) + pairs + b"\0\0"
    hello = b"\x10" + write_varint(len(body)) + body
    async with running() as broker, crowd(broker.port) as strangers:
        visitors = Visitors(broker.port)
        async with witness(visitors):
            await strangers.open(100, lambda n: hello)
            for reader, _ in strangers.lines:
                async with asyncio.timeout(PATIENCE_S):
                    assert await reader.read() == b""
        assert (await broker.counters())["closed/too_large"] == 100
        visitors.leave()


async def test_a_full_broker_goes_on_with_those_it_has_and_has_room_when_others_leave() -> None:
    """On one machine nobody counts for whom a connection is: who comes first is in."""
    async with running() as broker:
        visitors = Visitors(broker.port)
        before = broker.peak_bytes()
        async with witness(visitors):
            async with crowd(broker.port) as strangers:
                await strangers.open(1_500, lambda n: encode(Connect(f"c{n}", clean_start=False)))
                full = await visitors.dial()
                await full.closed()
            await until_served(visitors)
        assert broker.peak_bytes() - before < 24 * MIB
        counters = await broker.counters()
        assert counters["closed/connections_full"] > 900
        assert counters["sessions_evicted"] == 0
        visitors.leave()


@pytest.mark.parametrize("attack", ["crowd", "guesses"])
def test_a_stranger_of_the_network_takes_nothing_from_others(attack: str, tmp_path: Path) -> None:
    """In a network of its own, since on one machine nobody counts whose a connection is."""
    unshare, ip = shutil.which("unshare"), shutil.which("ip", path=f"{os.defpath}:/usr/sbin:/sbin")
    if unshare is None or ip is None:
        pytest.skip("no unshare or ip: apt-get install util-linux iproute2")
    up = f"{ip} link set lo up && {ip} address add 10.9.9.1/24 dev lo"
    more = "".join(f" && {ip} address add 10.9.9.{n}/24 dev lo" for n in (2, 3))
    inside = f"{up}{more} && exec {sys.executable} -m broker.siege {attack} {tmp_path}"
    done = subprocess.run(
        [unshare, "--user", "--map-root-user", "--net", "sh", "-c", inside],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "unshare failed" in done.stderr:
        pytest.skip(f"no network namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr


# -- two meshes -----------------------------------------------------------------------------------


async def test_of_two_meshes_on_one_broker_nothing_crosses() -> None:
    """The same devices in both, even: the mesh is a level of every topic."""
    devices = [bytes((n,)) * 16 for n in range(1, 5)]
    meshes = [bytes((n,)) * 32 for n in (7, 8)]
    async with running() as broker:
        visitors = Visitors(broker.port)
        sides = [{device: Topics(mesh, device) for device in devices} for mesh in meshes]
        clients = []
        for side, mesh in zip(sides, meshes, strict=True):
            for device, topics in side.items():
                client = await visitors.connect(f"{mesh[0]}-{device[0]}")
                await client.subscribe(*((pattern, 1) for pattern in topics.filters))
                clients.append((mesh, topics, client))
        for mesh, topics, client in clients:
            for topic in (*map(topics.mine, AREAS), *map(topics.to, devices)):
                client.send(Publish(topic, mesh, retain="/card/" in topic))
        for _, _, client in clients:
            client.send(Pingreq())
        for mesh, topics, client in clients:
            came = []
            # All that the others say comes before an answer to who asks after them.
            while len(came) < (len(AREAS) + 1) * len(devices):
                packet = await client.next()
                if isinstance(packet, Publish):
                    came.append(packet)
            await client.nothing()
            assert {packet.payload for packet in came} == {mesh}
            assert all(topics.read(packet.topic) is not None for packet in came)
        # Nor what the broker keeps for who comes later.
        for side, mesh in zip(sides, meshes, strict=True):
            late = await visitors.connect(f"late-{mesh[0]}")
            await late.subscribe(*((pattern, 1) for pattern in side[devices[0]].filters))
            kept = await late.messages()
            assert len(kept) == len(devices)
            assert {message.payload for message in kept} == {mesh}
        visitors.leave()
