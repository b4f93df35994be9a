"""MQTT 5, probed: how long a session lives, and when a will is told."""

from __future__ import annotations

import pytest

from broker.rawclient import RawClient, Visitors
from demesh.broker.codec import (
    Code,
    Disconnect,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)
from integration.differences import Differs

FOR_EVER = 0xFFFF_FFFF


async def _left(client: RawClient, packet: Disconnect | None = None) -> None:
    client.send(packet or Disconnect())
    await client.closed()


# -- sessions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("expiry", [None, 0])
async def test_a_session_without_a_lifetime_ends_with_its_connection(
    visitors: Visitors, expiry: int | None
) -> None:
    client = await visitors.connect_5(
        "none", clean_start=False, said=Properties(session_expiry_s=expiry)
    )
    await client.subscribe(("none", 1))
    await _left(client)
    await visitors.connect_5("none", present=False, clean_start=False)


@pytest.mark.parametrize("expiry", [60, FOR_EVER])
async def test_a_session_with_a_lifetime_is_there_on_return(
    visitors: Visitors, expiry: int
) -> None:
    said = Properties(session_expiry_s=expiry)
    client = await visitors.connect_5(f"lasting-{expiry}", said=said)
    await client.subscribe((f"lasting/{expiry}", 1))
    client.abort()
    sender = await visitors.connect_5("lasting-sender")
    await sender.nothing()
    sender.send(Publish(f"lasting/{expiry}", b"x", 1, packet_id=1))
    await sender.expect(Puback(1))
    # It may end with this connection and is there nevertheless.
    client = await visitors.connect_5(f"lasting-{expiry}", present=True, clean_start=False)
    assert (await client.message()).payload == b"x"
    await _left(client)
    await visitors.connect_5(f"lasting-{expiry}", present=False, clean_start=False)


async def test_a_session_is_gone_after_its_lifetime(visitors: Visitors) -> None:
    said = Properties(session_expiry_s=1)
    client = await visitors.connect_5("short", said=said)
    await _left(client)
    clock = await visitors.connect_5("short-clock")
    await clock.quiet(2.5)
    await visitors.connect_5("short", present=False, clean_start=False, said=said)


async def test_a_clean_start_forgets_the_session(visitors: Visitors) -> None:
    said = Properties(session_expiry_s=60)
    client = await visitors.connect_5("clean", said=said)
    await client.subscribe(("clean", 1))
    await _left(client)
    client = await visitors.connect_5("clean", present=False, said=said)
    client.send(Publish("clean", b"x"))
    await client.nothing()


async def test_a_goodbye_may_change_the_lifetime(visitors: Visitors) -> None:
    said = Properties(session_expiry_s=60)
    client = await visitors.connect_5("change", said=said)
    await _left(client, Disconnect(properties=Properties(session_expiry_s=0)))
    client = await visitors.connect_5("change", present=False, clean_start=False, said=said)
    await _left(client, Disconnect(properties=Properties(session_expiry_s=FOR_EVER)))
    await visitors.connect_5("change", present=True, clean_start=False)


async def test_a_goodbye_cannot_give_a_lifetime_to_a_session_without_one(
    visitors: Visitors, differs: Differs
) -> None:
    client = await visitors.connect_5("revive")
    client.send(Disconnect(properties=Properties(session_expiry_s=60)))
    await client.dismissed(Code.PROTOCOL_ERROR, silently=differs("the reason of a close"))
    await visitors.connect_5("revive", present=False, clean_start=False)


async def test_a_persistent_session_of_3_1_1_goes_on_at_5(visitors: Visitors) -> None:
    client = await visitors.connect("onwards", clean_start=False)
    await client.subscribe(("onwards", 1))
    await _left(client)
    client = await visitors.connect_5(
        "onwards", present=True, clean_start=False, said=Properties(session_expiry_s=60)
    )
    client.send(Publish("onwards", b"x"))
    await client.expect(Publish("onwards", b"x"))


async def test_what_was_under_way_comes_again_in_its_order(visitors: Visitors) -> None:
    said = Properties(session_expiry_s=60)
    client = await visitors.connect_5("again", said=said)
    await client.subscribe(("again", 2))
    sender = await visitors.connect_5("again-sender")
    for n in (1, 2):
        sender.send(Publish("again", b"%d" % n, n, packet_id=n))
        answer = await sender.next()
        assert isinstance(answer, Puback | Pubrec)
    sender.send(Pubrel(2))
    await sender.expect(Pubcomp(2))
    first, second = await client.next(), await client.next()
    assert isinstance(first, Publish)
    assert isinstance(second, Publish)
    client = await visitors.connect_5("again", present=True, clean_start=False, said=said)
    await client.expect(
        Publish("again", b"1", 1, False, True, first.packet_id),
        Publish("again", b"2", 2, False, True, second.packet_id),
    )


# -- wills ----------------------------------------------------------------------------------------


async def _watcher(visitors: Visitors, topic: str) -> RawClient:
    client = await visitors.connect_5(f"{topic}-watcher")
    await client.subscribe((topic, 1))
    return client


def _will(topic: str, delay_s: int | None = None) -> Publish:
    return Publish(topic, b"gone", properties=Properties(will_delay_s=delay_s))


async def test_a_will_has_properties_like_any_message_but_for_its_delay(
    visitors: Visitors,
) -> None:
    watcher = await _watcher(visitors, "will-said")
    said = {
        "payload_format": 1,
        "content_type": "text/plain",
        "response_topic": "answers",
        "correlation_data": b"7",
        "user": (("k", "1"), ("k", "2")),
    }
    will = Publish("will-said", b"gone", properties=Properties(will_delay_s=0, **said))
    client = await visitors.connect_5("will-said", will=will)
    client.abort()
    await watcher.expect(Publish("will-said", b"gone", properties=Properties(**said)))


async def test_a_goodbye_keeps_the_will_to_itself(visitors: Visitors) -> None:
    watcher = await _watcher(visitors, "will-kept")
    await _left(await visitors.connect_5("will-kept", will=_will("will-kept")))
    await watcher.nothing()


async def test_a_goodbye_with_the_will_tells_it(visitors: Visitors) -> None:
    watcher = await _watcher(visitors, "will-told")
    client = await visitors.connect_5("will-told", will=_will("will-told"))
    await _left(client, Disconnect(Code.DISCONNECT_WITH_WILL))
    assert (await watcher.message()).payload == b"gone"


async def test_a_will_waits_for_its_delay(visitors: Visitors) -> None:
    watcher = await _watcher(visitors, "will-late")
    said = Properties(session_expiry_s=60)
    client = await visitors.connect_5("will-late", will=_will("will-late", 1), said=said)
    client.abort()
    await watcher.quiet(0.7)
    assert (await watcher.message()).payload == b"gone"


async def test_who_comes_back_before_the_delay_is_over_takes_the_will_back(
    visitors: Visitors,
) -> None:
    watcher = await _watcher(visitors, "will-back")
    said = Properties(session_expiry_s=60)
    client = await visitors.connect_5("will-back", will=_will("will-back", 1), said=said)
    client.abort()
    await visitors.connect_5("will-back", present=True, clean_start=False, said=said)
    await watcher.quiet(2.5)


async def test_a_will_is_told_when_the_session_is_over_before_its_delay(
    visitors: Visitors,
) -> None:
    watcher = await _watcher(visitors, "will-session")
    said = Properties(session_expiry_s=1)
    client = await visitors.connect_5("will-session", will=_will("will-session", 60), said=said)
    client.abort()
    assert (await watcher.message()).payload == b"gone"


async def test_a_will_is_told_when_its_session_ends_with_the_connection(
    visitors: Visitors, differs: Differs
) -> None:
    watcher = await _watcher(visitors, "will-none")
    client = await visitors.connect_5("will-none", will=_will("will-none", 60))
    client.abort()
    if differs("wills of a session that ends"):
        await watcher.nothing()
    else:
        assert (await watcher.message()).payload == b"gone"


async def test_a_clean_start_ends_the_session_and_tells_its_will(
    visitors: Visitors, differs: Differs
) -> None:
    watcher = await _watcher(visitors, "will-clean")
    said = Properties(session_expiry_s=60)
    client = await visitors.connect_5("will-clean", will=_will("will-clean", 60), said=said)
    client.abort()
    await watcher.nothing()
    await visitors.connect_5("will-clean", said=said)
    if differs("wills of a session that ends"):
        await watcher.nothing()
    else:
        assert (await watcher.message()).payload == b"gone"


async def test_a_take_over_tells_a_will_without_delay(visitors: Visitors, differs: Differs) -> None:
    watcher = await _watcher(visitors, "will-over")
    said = Properties(session_expiry_s=60)
    await visitors.connect_5("will-over", will=_will("will-over"), said=said)
    await visitors.connect_5("will-over", present=True, clean_start=False, said=said)
    if differs("wills on take-over"):
        await watcher.nothing()
    else:
        assert (await watcher.message()).payload == b"gone"


async def test_a_take_over_keeps_a_delayed_will_to_itself(visitors: Visitors) -> None:
    watcher = await _watcher(visitors, "will-over-late")
    said = Properties(session_expiry_s=60)
    will = _will("will-over-late", 1)
    await visitors.connect_5("will-over-late", will=will, said=said)
    await visitors.connect_5("will-over-late", present=True, clean_start=False, said=said)
    await watcher.quiet(2.2)
