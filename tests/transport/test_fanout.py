"""Several brokers that look like one: what goes where, what is lost, when the start is given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from demesh.broker.codec import Code, Connack, Connect, Packet
from demesh.errors import ConfigError, TemporaryError
from demesh.ports import Linked, Publish
from demesh.transport import outbox
from demesh.transport.client import Link
from transport.brokers import free_port
from transport.device import Device, heard
from transport.scripted import Line, ScriptedBroker


def strict(line: Line, packet: Packet) -> None:
    """Lets nobody in."""
    if isinstance(packet, Connect):
        line.say(Connack(Code.BAD_LOGIN))
        line.transport.close()


@asynccontextmanager
async def listening(*brokers: ScriptedBroker) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for broker in brokers:
            await stack.enter_async_context(broker.listening())
        yield


def nowhere(wait_s: int) -> Link:
    port = free_port()
    return Link("127.0.0.1", port, f"mqtt://127.0.0.1:{port}", "device", (), wait_s=wait_s)


FRAMES = [b"%d" % number for number in range(40)]


async def test_everything_goes_to_every_broker_and_what_is_for_one_to_that_alone() -> None:
    one, two = ScriptedBroker(), ScriptedBroker()
    async with listening(one, two):
        device = Device([one.link("device"), two.link("device")])
        async with device.running():
            await device.up(0, 1)
            for frame in FRAMES:
                device.fanout.publish(Publish("t", frame))
            device.fanout.publish(Publish("card", b"mine", retain=True, broker=1))
            await device.until(lambda: len(heard(one)) == 40 and len(heard(two)) == 41)
    assert heard(one) == FRAMES
    assert heard(two) == [*FRAMES, b"mine"]
    assert device.fanout.dropped == 0


async def test_each_broker_is_told_apart_by_its_place() -> None:
    one, two = ScriptedBroker(), ScriptedBroker()
    async with listening(one, two):
        device = Device([one.link("device"), two.link("device")])
        async with device.running():
            await device.up(0, 1)
            two.lines[0].transport.abort()
            await device.until(lambda: device.inputs.count(Linked(1, up=True)) == 2)
            assert Linked(0, up=False) not in device.inputs
            assert device.inputs.count(Linked(1, up=False)) == 1


async def test_what_one_broker_acknowledged_is_not_poured_out_hours_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "FRESH_S", 0.2)
    one, two = ScriptedBroker(), ScriptedBroker()
    away = nowhere(0)
    async with one.listening():
        device = Device([one.link("device"), away])
        async with device.running():
            await device.up(0)
            for frame in FRAMES[:20]:
                device.fanout.publish(Publish("t", frame))
            await device.until(lambda: heard(one) == FRAMES[:20])
            stale_at = asyncio.get_running_loop().time() + outbox.FRESH_S
            await device.until(lambda: asyncio.get_running_loop().time() > stale_at)
            async with two.listening(away.port):
                await device.up(1)
                for frame in FRAMES[20:]:
                    device.fanout.publish(Publish("t", frame))
                await device.until(lambda: heard(one) == FRAMES and FRAMES[-1] in heard(two))
                states = device.fanout.state()
    assert heard(one) == FRAMES
    assert heard(two) == FRAMES[20:]
    assert device.fanout.dropped == 0
    assert isinstance(states[1], dict)
    assert states[1]["late"] == 20


async def test_while_no_broker_is_up_everything_waits_for_the_first_that_comes() -> None:
    one, two = ScriptedBroker(), ScriptedBroker()
    async with listening(one, two):
        device = Device([one.link("device"), two.link("device")])
        for frame in FRAMES:
            device.fanout.publish(Publish("t", frame))
        async with device.running():
            await device.until(lambda: heard(one) == FRAMES and heard(two) == FRAMES)


async def test_a_wrong_login_at_one_of_two_is_said_and_the_other_is_used() -> None:
    closed, open_ = ScriptedBroker(strict), ScriptedBroker()
    async with listening(closed, open_):
        device = Device([closed.link("device"), open_.link("device")])
        async with device.running():
            await device.up(1)
            await device.until(lambda: any("going on" in report for report in device.reports))
            device.fanout.publish(Publish("t", b"frame"))
            await device.until(lambda: heard(open_) == [b"frame"])
            await device.until(lambda: len(closed.lines) > 1)
    (said,) = [report for report in device.reports if str(closed.port) in report][:1]
    assert said == (
        f"mqtt://127.0.0.1:{closed.port}: the broker refused the login; "
        "check [broker] username, password_file; going on with the others"
    )


async def test_a_broker_that_comes_later_than_a_wrong_login_is_still_used() -> None:
    closed, later = ScriptedBroker(strict), ScriptedBroker()
    async with listening(closed):
        port = free_port()
        device = Device([closed.link("device"), replace(nowhere(30), port=port)])
        async with device.running():
            await device.until(lambda: any("going on" in report for report in device.reports))
            async with later.listening(port):
                await device.up(1)


async def test_the_start_is_given_up_when_no_broker_is_left_with_what_was_wrong_with_each() -> None:
    closed = ScriptedBroker(strict)
    async with listening(closed):
        error = await Device([closed.link("device"), away := nowhere(1)]).failure()
    assert isinstance(error, TemporaryError), "the second may come yet"
    assert f"{closed.port}: the broker refused the login" in str(error)
    assert f"{away.port}: no broker: Connection refused" in str(error)


async def test_wrong_logins_at_all_of_them_are_a_matter_of_configuration() -> None:
    one, two = ScriptedBroker(strict), ScriptedBroker(strict)
    async with listening(one, two):
        error = await Device([one.link("device"), two.link("device")]).failure()
    assert isinstance(error, ConfigError)


async def test_one_broker_that_was_up_keeps_the_device_trying_whatever_the_others_say() -> None:
    open_ = ScriptedBroker()
    async with listening(open_):
        device = Device([open_.link("device"), nowhere(1)])
        async with device.running():
            await device.up(0)
            await device.until(lambda: any("going on" in report for report in device.reports))
            open_.lines[0].transport.abort()
            await device.until(lambda: device.inputs.count(Linked(0, up=True)) == 2)


async def test_the_state_of_each_broker_is_shown() -> None:
    one = ScriptedBroker()
    async with listening(one):
        device = Device([one.link("device"), away := nowhere(0)])
        async with device.running():
            await device.up(0)
            device.fanout.publish(Publish("t", b"frame"))
            await device.until(lambda: heard(one) == [b"frame"])
            await device.until(lambda: not len(device.fanout._transports[0]._outbox))
            states = device.fanout.state()
    counts = {"dropped": 0, "late": 0, "refused": 0, "unread": 0}
    url = f"mqtt://127.0.0.1:{one.port}"
    assert states == [
        {"url": url, "up": True, "level": "5", "connections": 1, "queued": 0, **counts},
        {"url": away.url, "up": False, "level": "5", "connections": 0, "queued": 1, **counts},
    ]
