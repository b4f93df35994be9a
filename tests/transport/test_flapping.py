"""Frames over a broker that is killed every second, with a steady one beside it and without."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from demesh.ports import Linked, Publish, Received
from demesh.transport.client import Link
from demesh.transport.mqtt import LINES_MAX
from transport.brokers import BrokerProcess, embedded
from transport.device import Device
from transport.flapping import Flapping

KILLS = 6
PACE_S = 0.05

# What a frame may take to its first hearer while a broker that both know dies: two hops and the
# wait for this machine's other work.
DELAY_S = 0.5


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[tuple[BrokerProcess, BrokerProcess]]:
    both = embedded(tmp_path), embedded(tmp_path)
    for broker in both:
        broker.start()
    yield both
    for broker in both:
        broker.stop(kill=True)


def links(name: str, *brokers: BrokerProcess) -> list[Link]:
    return [Link("127.0.0.1", broker.port, broker.url, name, ("t",)) for broker in brokers]


def heard(device: Device) -> list[bytes]:
    return [item.payload for item in device.inputs if isinstance(item, Received)]


async def talk(speaker: Device, flapping: Flapping) -> dict[bytes, float]:
    """Publish at a steady pace until there were enough kills; each frame, and when it was said."""
    loop = asyncio.get_running_loop()
    said: dict[bytes, float] = {}
    async with flapping.flapping():
        while flapping.kills < KILLS:
            payload = b"%d" % len(said)
            said[payload] = loop.time()
            speaker.fanout.publish(Publish("t", payload))
            await asyncio.sleep(PACE_S)
    return said


async def test_beside_a_steady_broker_nothing_is_lost_and_nothing_is_late(
    brokers: tuple[BrokerProcess, BrokerProcess],
) -> None:
    speaker, hearer = Device(links("speaker", *brokers)), Device(links("hearer", *brokers))
    first: dict[bytes, float] = {}
    loop = asyncio.get_running_loop()

    def note(item: Received | Linked) -> None:
        if isinstance(item, Received):
            first.setdefault(item.payload, loop.time())

    hearer.listen(note)
    async with speaker.running(), hearer.running():
        await speaker.up(0, 1)
        await hearer.up(0, 1)
        said = await talk(speaker, Flapping(brokers[0]))
        await hearer.until(lambda: len(first) == len(said))
        assert speaker.inputs.count(Linked(0, up=True)) > KILLS / 2
        assert speaker.inputs.count(Linked(1, up=False)) == 0
    assert max(first[payload] - at for payload, at in said.items()) < DELAY_S
    assert speaker.fanout.dropped == 0
    told = [line for line in speaker.reports if str(brokers[0].port) in line]
    assert len(told) == LINES_MAX, "the log has to hold more than this broker"


async def test_without_another_every_frame_is_acknowledged_in_the_end_and_all_get_through(
    brokers: tuple[BrokerProcess, BrokerProcess],
) -> None:
    """A broker that dies takes with it what it acknowledged: to say it again is the node's part."""
    speaker, hearer = (Device(links(name, brokers[0])) for name in ("speaker", "hearer"))
    async with speaker.running(), hearer.running():
        await speaker.up(0)
        await hearer.up(0)
        said = await talk(speaker, Flapping(brokers[0]))
        ups = [one.inputs.count(Linked(0, up=True)) for one in (speaker, hearer)]
        await speaker.until(lambda: not len(speaker.fanout._transports[0]._outbox))
        await hearer.until(lambda: hearer.inputs.count(Linked(0, up=True)) > ups[1])
        speaker.fanout.publish(Publish("t", b"last"))
        await hearer.until(lambda: b"last" in heard(hearer))
    assert min(ups) > KILLS / 2, "whoever tries less is met only now and then"
    assert speaker.fanout.dropped == 0
    assert set(heard(hearer)) <= {*said, b"last"}
    assert len(set(heard(hearer))) > len(said) / 10
