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
    Wanted,
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


# -- what a session keeps -------------------------------------------------------------------------

LASTING = Properties(session_expiry_s=60)


async def test_subscriptions_come_back_with_their_options_and_ids(visitors: Visitors) -> None:
    client = await visitors.connect_5("options", said=LASTING)
    await client.subscribe(
        Wanted("options/#", 1, no_local=True, retain_as_published=True),
        properties=Properties(subscription_ids=(42,)),
    )
    await _left(client)
    client = await visitors.connect_5("options", present=True, clean_start=False, said=LASTING)
    client.send(Publish("options/mine", b"x"))
    await client.nothing()
    other = await visitors.connect_5("options-other")
    other.send(Publish("options/theirs", b"x", retain=True))
    expected = Properties(subscription_ids=(42,))
    await client.expect(Publish("options/theirs", b"x", retain=True, properties=expected))


async def _five_under_way(visitors: Visitors, topic: str) -> RawClient:
    """Five messages of QoS 1 are sent to a client that acknowledges none and is cut off."""
    client = await visitors.connect_5(topic, said=LASTING)
    await client.subscribe((topic, 1))
    sender = await visitors.connect_5(f"{topic}-sender")
    for n in range(1, 6):
        sender.send(Publish(topic, b"%d" % n * 10, 1, packet_id=n))
        await sender.expect(Puback(n))
    assert len(await client.messages()) == 5
    client.abort()
    return sender


async def test_who_comes_back_with_a_smaller_window_gets_no_more_at_once(
    visitors: Visitors, differs: Differs
) -> None:
    await _five_under_way(visitors, "smaller")
    said = Properties(session_expiry_s=60, receive_maximum=2)
    client = await visitors.connect_5("smaller", present=True, clean_start=False, said=said)
    came = [await client.messages()]
    assert len(came[0]) == (5 if differs("a smaller window on return") else 2)
    while came[-1]:
        for message in came[-1]:
            assert message.dup
            client.send(Puback(message.packet_id))
        came.append(await client.messages())
    assert [m.payload for batch in came for m in batch] == [b"%d" % n * 10 for n in range(1, 6)]


async def test_who_comes_back_with_a_smaller_limit_is_sent_nothing_above_it(
    visitors: Visitors, differs: Differs
) -> None:
    sender = await _five_under_way(visitors, "tighter")
    said = Properties(session_expiry_s=60, maximum_packet_bytes=20)
    client = await visitors.connect_5("tighter", present=True, clean_start=False, said=said)
    if not differs("messages too large for a client"):
        assert await client.messages() == []
        sender.send(Publish("tighter", b"s", 1, packet_id=9))
        assert (await client.message()).payload == b"s"


@pytest.mark.parametrize("code", [Code.UNSPECIFIED, Code.QUOTA])
async def test_a_goodbye_for_a_reason_tells_the_will(
    visitors: Visitors, differs: Differs, code: Code
) -> None:
    watcher = await _watcher(visitors, f"will-{code.name}")
    client = await visitors.connect_5(f"will-{code.name}", will=_will(f"will-{code.name}"))
    await _left(client, Disconnect(code))
    if differs("wills at a goodbye"):
        await watcher.nothing()
    else:
        assert (await watcher.message()).payload == b"gone"


async def test_a_will_that_is_retained_keeps_its_properties_and_lifetime(
    visitors: Visitors,
) -> None:
    said = Properties(message_expiry_s=30, content_type="text/plain", will_delay_s=0)
    will = Publish("will-stays", b"gone", 1, True, properties=said)
    watcher = await _watcher(visitors, "will-stays")
    (await visitors.connect_5("will-stays", will=will)).abort()
    assert (await watcher.message()).payload == b"gone"
    late = await visitors.connect_5("will-stays-late")
    await late.subscribe(("will-stays", 0))
    message = await late.message()
    assert message.retain
    assert message.properties is not None
    assert message.properties.content_type == "text/plain"
    assert message.properties.message_expiry_s in range(27, 31)
