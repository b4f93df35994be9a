"""MQTT 5, probed: messages with their properties, aliases, subscriptions and their options."""

from __future__ import annotations

from dataclasses import replace

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
    Suback,
    Subscribe,
    Wanted,
)
from integration.differences import Differs

SAID = Properties(
    payload_format=1,
    content_type="text/plain",
    response_topic="answers/here",
    correlation_data=b"\x00\xff17",
    user=(("b", "1"), ("a", "2"), ("b", "1"), ("", "")),
)


async def _published(client: RawClient, packet: Publish) -> None:
    """Publish at QoS 1 and wait until the broker has it."""
    client.send(replace(packet, qos=1, packet_id=1))
    answer = await client.next()
    assert isinstance(answer, Puback)
    assert answer.code in (Code.SUCCESS, Code.NO_SUBSCRIBERS)


# -- properties -----------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_properties_are_forwarded_unchanged_and_in_their_order(
    visitors: Visitors, qos: int
) -> None:
    client = await visitors.connect_5("forward")
    await client.subscribe(("forward", qos))
    sender = await visitors.connect_5("forward-sender")
    sender.send(Publish("forward", b"x", qos, packet_id=1 if qos else 0, properties=SAID))
    if qos == 2:
        assert isinstance(await sender.next(), Pubrec)
        sender.send(Pubrel(1))
        await sender.expect(Pubcomp(1))
    assert (await client.message()).properties == SAID


async def test_a_retained_message_keeps_its_properties(visitors: Visitors) -> None:
    sender = await visitors.connect_5("kept-sender")
    await _published(sender, Publish("kept", b"x", retain=True, properties=SAID))
    client = await visitors.connect_5("kept")
    await client.subscribe(("kept", 1))
    message = await client.message()
    assert (message.retain, message.properties) == (True, SAID)


async def test_a_waiting_message_keeps_its_properties(visitors: Visitors) -> None:
    keep = Properties(session_expiry_s=60)
    client = await visitors.connect_5("waiting", said=keep)
    await client.subscribe(("waiting", 1))
    client.send(Disconnect())
    await client.closed()
    await _published(
        await visitors.connect_5("waiting-sender"), Publish("waiting", b"x", properties=SAID)
    )
    client = await visitors.connect_5("waiting", present=True, clean_start=False, said=keep)
    assert (await client.message()).properties == SAID


async def test_clients_of_both_levels_hear_each_other(visitors: Visitors) -> None:
    older = await visitors.connect("older")
    newer = await visitors.connect_5("newer")
    await older.subscribe(("both/#", 1))
    await newer.subscribe(("both/#", 1))
    newer.send(Publish("both/newer", b"1", 1, packet_id=1, properties=SAID))
    assert replace(await older.message(), packet_id=0) == Publish("both/newer", b"1", 1)
    older.send(Publish("both/older", b"2", 1, packet_id=1))
    packets = [await newer.next() for _ in range(3)]
    assert Puback(1) in packets
    messages = [packet for packet in packets if isinstance(packet, Publish)]
    assert [message.properties for message in messages] == [SAID, None]


async def test_what_a_message_says_about_its_payload_is_not_held_against_it(
    visitors: Visitors,
) -> None:
    """3.3.2.3.2 leaves it to the receiver to look, and says nothing of a broker."""
    client = await visitors.connect_5("no-text")
    await client.subscribe(("no-text", 0))
    packet = Publish("no-text", b"\xff\xfe", properties=Properties(payload_format=1))
    client.send(packet)
    await client.expect(packet)


# -- expiry ---------------------------------------------------------------------------------------


async def test_the_lifetime_of_a_message_counts_down_where_it_waits(visitors: Visitors) -> None:
    keep = Properties(session_expiry_s=60)
    client = await visitors.connect_5("countdown", said=keep)
    await client.subscribe(("countdown/waits", 1))
    client.send(Disconnect())
    await client.closed()
    sender = await visitors.connect_5("countdown-sender")
    lasting = Properties(message_expiry_s=30)
    await _published(sender, Publish("countdown/waits", b"1", properties=lasting))
    await _published(sender, Publish("countdown/kept", b"2", retain=True, properties=lasting))
    await sender.quiet(2.1)
    client = await visitors.connect_5("countdown", present=True, clean_start=False, said=keep)
    waited = await client.message()
    await client.subscribe(("countdown/kept", 1))
    kept = await client.message()
    for message in (waited, kept):
        assert message.properties is not None
        assert message.properties.message_expiry_s in range(26, 30)


async def test_a_message_whose_lifetime_is_over_is_not_delivered(visitors: Visitors) -> None:
    keep = Properties(session_expiry_s=60)
    client = await visitors.connect_5("expired", said=keep)
    await client.subscribe(("expired/waits", 1))
    client.send(Disconnect())
    await client.closed()
    sender = await visitors.connect_5("expired-sender")
    short = Properties(message_expiry_s=1)
    await _published(sender, Publish("expired/waits", b"1", properties=short))
    await _published(sender, Publish("expired/waits", b"2"))
    await _published(sender, Publish("expired/kept", b"3", retain=True, properties=short))
    await sender.quiet(2.5)
    client = await visitors.connect_5("expired", present=True, clean_start=False, said=keep)
    assert (await client.message()).payload == b"2"
    await client.subscribe(("expired/kept", 1))
    await client.nothing()


async def test_a_message_on_its_way_at_once_says_its_whole_lifetime(visitors: Visitors) -> None:
    client = await visitors.connect_5("lifetime")
    await client.subscribe(("lifetime", 0))
    packet = Publish("lifetime", b"x", properties=Properties(message_expiry_s=100))
    client.send(packet)
    await client.expect(packet)


# -- topic aliases --------------------------------------------------------------------------------


async def test_an_alias_stands_for_its_topic_until_it_gets_another(visitors: Visitors) -> None:
    client = await visitors.connect_5("alias")
    most = (client.connack.properties or Properties()).topic_alias_maximum
    assert most, "the broker takes aliases"
    listener = await visitors.connect_5("alias-listener")
    await listener.subscribe(("alias/#", 0))
    client.send(
        Publish("alias/a", b"1", properties=Properties(topic_alias=1)),
        Publish("alias/b", b"2", properties=Properties(topic_alias=most)),
        Publish("", b"3", properties=Properties(topic_alias=1)),
        Publish("", b"4", properties=replace(SAID, topic_alias=most)),
        Publish("alias/c", b"5", properties=Properties(topic_alias=1)),
        Publish("", b"6", properties=Properties(topic_alias=1)),
    )
    # The alias is between that client and the broker: nobody else sees it.
    await listener.expect(
        Publish("alias/a", b"1"),
        Publish("alias/b", b"2"),
        Publish("alias/a", b"3"),
        Publish("alias/b", b"4", properties=SAID),
        Publish("alias/c", b"5"),
        Publish("alias/c", b"6"),
    )


@pytest.mark.parametrize("which", ["zero", "above", "highest"])
async def test_an_alias_out_of_range_is_told(visitors: Visitors, which: str) -> None:
    client = await visitors.connect_5("bad-alias")
    most = (client.connack.properties or Properties()).topic_alias_maximum or 0
    alias = {"zero": 0, "above": most + 1, "highest": 65_535}[which]
    client.send(bytes.fromhex("30 08 0001 61 03 23") + alias.to_bytes(2) + b"x")
    zero = (Code.MALFORMED, Code.PROTOCOL_ERROR) if alias == 0 else ()
    await client.dismissed(Code.ALIAS_INVALID, *zero)


async def test_an_alias_of_another_connection_means_nothing(visitors: Visitors) -> None:
    keep = Properties(session_expiry_s=60)
    client = await visitors.connect_5("old-alias", said=keep)
    client.send(Publish("old-alias", b"1", properties=Properties(topic_alias=1)))
    await client.nothing()
    client = await visitors.connect_5("old-alias", present=True, clean_start=False, said=keep)
    client.send(Publish("", b"2", properties=Properties(topic_alias=1)))
    await client.dismissed(Code.PROTOCOL_ERROR, Code.ALIAS_INVALID)


@pytest.mark.parametrize("most", [None, 0, 1, 100])
async def test_the_broker_uses_aliases_only_as_far_as_the_client_allows(
    visitors: Visitors, most: int | None
) -> None:
    client = await visitors.connect_5("uses", said=Properties(topic_alias_maximum=most))
    await client.subscribe(("uses/#", 1))
    sender = await visitors.connect_5("uses-sender")
    sent = [(f"uses/{n % 3}", b"%d" % n) for n in range(12)]
    known: dict[int, str] = {}
    came = []
    for topic, payload in sent:
        sender.send(Publish(topic, payload))
    for _ in sent:
        message = await client.message()
        topic = message.topic
        alias = None if message.properties is None else message.properties.topic_alias
        if alias is not None:
            assert 1 <= alias <= (most or 0)
            topic = known[alias] = topic or known[alias]
        came.append((topic, message.payload))
    assert came == sent


# -- subscriptions --------------------------------------------------------------------------------


async def test_no_local_keeps_a_clients_own_messages_from_it(visitors: Visitors) -> None:
    client = await visitors.connect_5("local")
    other = await visitors.connect_5("local-other")
    await client.subscribe(Wanted("local", 1, no_local=True))
    client.send(Publish("local", b"mine"))
    await client.nothing()
    other.send(Publish("local", b"theirs"))
    await client.expect(Publish("local", b"theirs"))


async def test_of_two_subscriptions_the_one_without_no_local_still_delivers(
    visitors: Visitors,
) -> None:
    client = await visitors.connect_5("local-two")
    await client.subscribe(Wanted("local-two", 0, no_local=True), Wanted("local-two/#", 0))
    client.send(Publish("local-two", b"mine"))
    await client.expect(Publish("local-two", b"mine"))
    await client.nothing()


@pytest.mark.parametrize("asked", [False, True])
async def test_retain_is_as_published_if_that_is_asked_for(visitors: Visitors, asked: bool) -> None:
    client = await visitors.connect_5("published")
    await client.subscribe(Wanted(f"published/{asked}", 0, retain_as_published=asked))
    client.send(Publish(f"published/{asked}", b"1", retain=True))
    client.send(Publish(f"published/{asked}", b"2"))
    await client.expect(Publish(f"published/{asked}", b"1", retain=asked))
    await client.expect(Publish(f"published/{asked}", b"2"))
    # What was retained before always says so.
    await client.subscribe(Wanted(f"published/{asked}", 0, retain_as_published=asked))
    await client.expect(Publish(f"published/{asked}", b"1", retain=True))


@pytest.mark.parametrize(("handling", "new", "again"), [(0, 1, 1), (1, 1, 0), (2, 0, 0)])
async def test_retained_messages_come_as_the_subscription_says(
    visitors: Visitors, handling: int, new: int, again: int
) -> None:
    client = await visitors.connect_5("handling")
    kept = Publish(f"handling/{handling}", b"x", retain=True)
    await _published(client, kept)
    wanted = Wanted(f"handling/{handling}", 0, retain_handling=handling)
    for expected in (new, again):
        await client.subscribe(wanted)
        assert await client.messages() == [kept] * expected


async def test_a_message_says_by_which_subscription_it_comes(visitors: Visitors) -> None:
    client = await visitors.connect_5("ids")
    await client.subscribe(("ids/a", 0), properties=Properties(subscription_ids=(268_435_455,)))
    await client.subscribe(("ids/b", 0))
    await client.subscribe(("ids/c", 0), properties=Properties(subscription_ids=(7,)))
    await client.subscribe(("ids/c", 0))  # again, without an id
    client.send(*(Publish(f"ids/{name}", b"x", properties=SAID) for name in "abc"))
    assert [message.properties for message in await client.messages()] == [
        replace(SAID, subscription_ids=(268_435_455,)),
        SAID,
        SAID,
    ]


async def test_a_retained_message_says_by_which_subscription_it_comes(visitors: Visitors) -> None:
    client = await visitors.connect_5("ids-kept")
    await _published(client, Publish("ids-kept", b"x", retain=True))
    await client.subscribe(("ids-kept", 0), properties=Properties(subscription_ids=(9,)))
    message = await client.message()
    assert message.properties == Properties(subscription_ids=(9,))


async def test_where_subscriptions_overlap_a_message_says_all_their_ids(
    visitors: Visitors, differs: Differs
) -> None:
    client = await visitors.connect_5("ids-overlap")
    for pattern, number in (("ids-overlap/#", 3), ("ids-overlap/+", 1), ("ids-overlap/x", 2)):
        await client.subscribe((pattern, 0), properties=Properties(subscription_ids=(number,)))
    await client.subscribe(("+/x", 0))
    client.send(Publish("ids-overlap/x", b"x"))
    messages = await client.messages()
    ids = [number for m in messages if m.properties for number in m.properties.subscription_ids]
    assert sorted(ids) == [1, 2, 3]
    # 3.3.4 has both: one with all of the ids, or one for each subscription.
    assert len(messages) == (4 if differs("overlapping subscriptions at 5") else 1)


# -- flow -----------------------------------------------------------------------------------------


async def test_a_client_is_sent_no_more_at_once_than_it_receives(
    visitors: Visitors, differs: Differs
) -> None:
    client = await visitors.connect_5("window", said=Properties(receive_maximum=2))
    await client.subscribe(("window", 2))
    sender = await visitors.connect_5("window-sender")
    for n in range(5):
        await _published(sender, Publish("window", b"%d" % n))
    sender.send(Publish("window", b"free"))  # QoS 0 is not counted
    await sender.nothing()
    first = await client.messages()
    assert [m.payload for m in first if m.qos] == [b"0", b"1"]
    assert [m.payload for m in first if not m.qos] == [b"free"]
    client.send(Puback(min(m.packet_id for m in first if m.qos)))
    more = await client.messages()
    assert more[0].payload == b"2"
    assert len(more) == (2 if differs("receive maximum of a client") else 1)


async def test_a_refused_message_is_over_and_makes_room(visitors: Visitors) -> None:
    """4.9: a PUBREC with a code from 0x80 ends the exchange."""
    client = await visitors.connect_5("refuses", said=Properties(receive_maximum=1))
    await client.subscribe(("refuses", 2))
    sender = await visitors.connect_5("refuses-sender")
    for n in (1, 2):
        sender.send(Publish("refuses", b"%d" % n, 2, packet_id=n))
        assert isinstance(await sender.next(), Pubrec)
        sender.send(Pubrel(n))
        await sender.expect(Pubcomp(n))
    first = await client.next()
    assert isinstance(first, Publish)
    client.send(Pubrec(first.packet_id, Code.QUOTA))
    second = await client.next()
    assert isinstance(second, Publish)
    assert (second.payload, second.qos) == (b"2", 2)


async def test_a_filter_named_twice_takes_the_later_options(
    visitors: Visitors, differs: Differs
) -> None:
    client = await visitors.connect_5("later")
    client.send(Subscribe(5, (Wanted("later", 2), Wanted("later", 0, no_local=True))))
    await client.expect(Suback(5, (Code.GRANTED_2, Code.SUCCESS)))
    client.send(Publish("later", b"x"))
    expected = [Publish("later", b"x")] if differs("a filter named twice") else []
    assert await client.messages() == expected
