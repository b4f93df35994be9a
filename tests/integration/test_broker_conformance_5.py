"""MQTT 5, probed byte by byte: connections, reason codes and limits, ours and mosquitto alike.

A difference is a bug of ours, or a row of `differences.py`. Messages and their properties are in
`test_broker_messages_5.py`, sessions and wills in `test_broker_sessions_5.py`.
"""

from __future__ import annotations

import asyncio

import pytest

from broker.rawclient import Visitors
from demesh.broker.codec import (
    LEVEL_5,
    Auth,
    Code,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Wanted,
)
from demesh.broker.limits import Limits
from demesh.broker.server import Server
from integration.differences import Differs

WHY = "the reason of a close"
BAD = (Code.MALFORMED, Code.PROTOCOL_ERROR)


# -- connections ----------------------------------------------------------------------------------


async def test_connect_is_accepted_without_a_session(visitors: Visitors) -> None:
    client = await visitors.connect_5("hello")
    assert client.connack.code is Code.SUCCESS
    client.send(Pingreq())
    await client.expect(Pingresp())


async def test_what_the_broker_announces_is_within_the_standard(visitors: Visitors) -> None:
    said = (await visitors.connect_5("announced")).connack.properties or Properties()
    assert said.assigned_client_id is None  # it has one
    assert said.maximum_packet_bytes == 256 * 1024
    assert said.receive_maximum is None or said.receive_maximum >= 1
    assert said.maximum_qos is None  # 2
    assert said.retain_available in (None, 1)
    assert said.wildcards_available in (None, 1)
    assert said.subscription_ids_available in (None, 1)
    assert said.response_information is None  # nobody asked
    assert said.auth_method is None


async def test_who_brings_no_client_id_is_given_one_to_come_back_with(visitors: Visitors) -> None:
    keep = Properties(session_expiry_s=60)
    first = await visitors.connect_5(clean_start=False, said=keep)
    second = await visitors.connect_5(said=keep)
    ids = [client.connack.properties.assigned_client_id for client in (first, second)]
    assert all(ids)
    assert ids[0] != ids[1]
    first.send(Disconnect())
    await first.closed()
    await visitors.connect_5(ids[0], present=True, clean_start=False)


async def test_a_password_needs_no_user_name(visitors: Visitors) -> None:
    client = await visitors.connect_5("password", password=b"secret")
    await client.nothing()


async def test_silence_of_one_and_a_half_keep_alives_is_told(
    visitors: Visitors, differs: Differs
) -> None:
    client = await visitors.connect_5("silent", keep_alive_s=1)
    began = asyncio.get_running_loop().time()
    await client.dismissed(Code.KEEP_ALIVE_TIMEOUT, silently=differs(WHY))
    assert 1.4 < asyncio.get_running_loop().time() - began < 6


async def test_a_broker_may_ask_for_signs_of_life_more_often() -> None:
    """3.1.2-21; mosquitto is asked to by its configuration, for clients of both levels."""
    async with Server(limits=Limits(keep_alive_s_max=1)) as server:
        visitors = Visitors(server.port)
        for asked in (0, 60):
            client = await visitors.connect_5(f"asked-{asked}", keep_alive_s=asked)
            assert client.connack.properties is not None
            assert client.connack.properties.server_keep_alive_s == 1
        await client.dismissed(Code.KEEP_ALIVE_TIMEOUT)
        content = await visitors.connect_5("content", keep_alive_s=1)
        assert content.connack.properties is not None
        assert content.connack.properties.server_keep_alive_s is None
        visitors.leave()


async def test_who_is_taken_over_is_told(visitors: Visitors, differs: Differs) -> None:
    first = await visitors.connect_5("takeover")
    second = await visitors.connect_5("takeover")
    await first.dismissed(Code.TAKEN_OVER, silently=differs(WHY))
    await second.nothing()


async def test_a_client_of_3_1_1_is_taken_over_without_a_word(
    visitors: Visitors, differs: Differs
) -> None:
    first = await visitors.connect("takeover-mixed")
    second = await visitors.connect_5("takeover-mixed")
    await first.closed()
    third = await visitors.connect("takeover-mixed")
    await second.dismissed(Code.TAKEN_OVER, silently=differs(WHY))
    await third.nothing()


async def test_a_second_connect_is_a_protocol_error(visitors: Visitors, differs: Differs) -> None:
    client = await visitors.connect_5("twice")
    client.send(Connect("twice", level=LEVEL_5))
    await client.dismissed(Code.PROTOCOL_ERROR, silently=differs(WHY))


async def test_an_unknown_way_to_authenticate_is_refused(visitors: Visitors) -> None:
    client = await visitors.dial()
    said = Properties(auth_method="riddle", auth_data=b"what?")
    client.send(Connect("auth", level=LEVEL_5, properties=said))
    answer = await client.next()
    assert isinstance(answer, Connack)
    assert answer.code is Code.BAD_AUTH_METHOD
    await client.closed()


async def test_auth_without_a_method_agreed_is_a_protocol_error(
    visitors: Visitors, differs: Differs
) -> None:
    client = await visitors.connect_5("auth-later")
    client.send(Auth(Code.AUTH_AGAIN, Properties(auth_method="riddle")))
    await client.dismissed(*BAD, silently=differs(WHY))


async def test_a_goodbye_is_followed_by_a_close_without_a_word(visitors: Visitors) -> None:
    client = await visitors.connect_5("goodbye")
    client.send(Disconnect())
    await client.closed()


# -- reason codes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_message_nobody_wants_is_acknowledged_as_such(visitors: Visitors, qos: int) -> None:
    client = await visitors.connect_5(f"unwanted-{qos}")
    client.send(Publish("unwanted/by/all", b"x", qos, packet_id=7))
    if qos == 1:
        await client.expect(Puback(7, Code.NO_SUBSCRIBERS))
        return
    answer = await client.next()
    assert isinstance(answer, Pubrec)
    assert answer.code in (Code.SUCCESS, Code.NO_SUBSCRIBERS)  # 3.5.2.1: a broker MAY say so
    client.send(Pubrel(7))
    await client.expect(Pubcomp(7))


async def test_a_message_somebody_wants_is_acknowledged_as_before(visitors: Visitors) -> None:
    client = await visitors.connect_5("wanted")
    await client.subscribe(("wanted", 0))
    client.send(Publish("wanted", b"x", 1, packet_id=7))
    packets = [await client.next(), await client.next()]
    assert Puback(7) in packets
    assert Publish("wanted", b"x") in packets


async def test_suback_and_unsuback_answer_every_filter_in_order(visitors: Visitors) -> None:
    client = await visitors.connect_5("answers")
    client.send(Subscribe(5, (Wanted("a", 2), Wanted("b/#", 0), Wanted("+/c", 1))))
    await client.expect(Suback(5, (Code.GRANTED_2, Code.SUCCESS, Code.GRANTED_1)))
    client.send(Unsubscribe(6, ("b/#", "never", "a")))
    await client.expect(Unsuback(6, (Code.SUCCESS, Code.NO_SUBSCRIPTION, Code.SUCCESS)))


async def test_the_release_of_an_unknown_id_is_completed(visitors: Visitors) -> None:
    client = await visitors.connect_5("release-unknown")
    client.send(Pubrel(99))
    packet = await client.next()
    assert isinstance(packet, Pubcomp)
    assert packet.code in (Code.SUCCESS, Code.ID_NOT_FOUND)


async def test_the_receipt_of_an_unknown_id_is_released(visitors: Visitors) -> None:
    client = await visitors.connect_5("receipt-unknown")
    client.send(Pubrec(99))
    packet = await client.next()
    assert isinstance(packet, Pubrel)
    assert packet.code in (Code.SUCCESS, Code.ID_NOT_FOUND)


async def test_a_shared_subscription_is_refused_and_announced_as_unavailable(
    visitors: Visitors, differs: Differs
) -> None:
    client = await visitors.connect_5("shared")
    client.send(Subscribe(5, (Wanted("$share/group/a", 1), Wanted("a", 1))))
    if differs("shared subscriptions"):
        await client.expect(Suback(5, (Code.GRANTED_1, Code.GRANTED_1)))
        return
    assert client.connack.properties is not None
    assert client.connack.properties.shared_available == 0
    await client.expect(Suback(5, (Code.NO_SHARED, Code.GRANTED_1)))


async def test_who_wants_no_reasons_gets_none(visitors: Visitors) -> None:
    client = await visitors.connect_5("no-reasons", said=Properties(request_problem=0))
    client.send(Subscribe(5, (Wanted("$share/group/a", 1), Wanted("b", 0))), Unsubscribe(6, ("x",)))
    client.send(Publish("nobody/here", b"", 1, packet_id=7), Pubrel(9))
    for _ in range(4):
        packet = await client.next()
        assert isinstance(packet, Suback | Unsuback | Puback | Pubcomp)
        assert packet.properties is None


@pytest.mark.parametrize("pattern", ["", "a/#/b", "a#", "#a", "a/b+", "+a/b"])
async def test_an_invalid_filter_is_refused(visitors: Visitors, pattern: str) -> None:
    client = await visitors.connect_5("filter")
    client.send(Subscribe(1, (Wanted(pattern),)))
    answer = await client.next()
    if isinstance(answer, Suback):
        assert answer.codes == (Code.FILTER_INVALID,)
    else:
        assert isinstance(answer, Disconnect)
        assert answer.code in (*BAD, Code.FILTER_INVALID)


@pytest.mark.parametrize("topic", ["a/+", "a/#", "+", "#"])
async def test_an_invalid_topic_name_is_told(visitors: Visitors, topic: str) -> None:
    client = await visitors.connect_5("name")
    client.send(Publish(topic, b"x"))
    await client.dismissed(*BAD, Code.TOPIC_INVALID)


# -- what is broken -------------------------------------------------------------------------------

BROKEN = {
    "publish_qos_3": "36 07 0001 61 0001 00 78",
    "publish_id_0": "32 07 0001 61 0000 00 78",
    "publish_topic_cut_off": "30 05 0009 61 00 78",
    "publish_without_properties": "30 03 0001 61",
    "publish_topic_not_utf8": "30 06 0002 c328 00 78",
    "publish_topic_nul": "30 05 0001 00 00 78",
    "publish_no_topic_no_alias": "30 04 0000 00 78",
    "publish_property_of_connect": "30 08 0001 61 03 21 0001 78",
    "publish_unknown_property": "30 07 0001 61 02 7f 00 78",
    "publish_property_twice": "30 09 0001 61 04 01 00 01 00 78",
    "publish_payload_format_2": "30 07 0001 61 02 01 02 78",
    "publish_properties_cut_off": "30 06 0001 61 08 01 00",
    "publish_with_subscription_id": "30 07 0001 61 02 0b 01 78",
    "publish_response_topic_wildcard": "30 09 0001 61 04 08 0001 23 78",
    "publish_response_topic_nul": "30 09 0001 61 04 08 0001 00 78",
    "publish_user_property_not_utf8": "30 0c 0001 61 07 26 0002 c328 0000 78",
    "subscribe_flags": "80 07 0001 00 0001 61 00",
    "subscribe_id_0": "82 07 0000 00 0001 61 00",
    "subscribe_nothing": "82 03 0001 00",
    "subscribe_qos_3": "82 07 0001 00 0001 61 03",
    "subscribe_retain_handling_3": "82 07 0001 00 0001 61 30",
    "subscribe_reserved_options": "82 07 0001 00 0001 61 40",
    "subscribe_subscription_id_0": "82 09 0001 02 0b 00 0001 61 00",
    "subscribe_two_ids": "82 0b 0001 04 0b 01 0b 02 0001 61 00",
    "subscribe_property_of_publish": "82 0a 0001 03 23 0001 0001 61 00",
    "unsubscribe_nothing": "a2 03 0001 00",
    "unsubscribe_flags": "a0 06 0001 00 0001 61",
    "puback_unknown_code": "40 03 0001 7f",
    "pubrel_flags": "60 02 0001",
    "disconnect_unknown_code": "e0 01 7f",
    "disconnect_property_of_publish": "e0 05 00 03 23 0001",
    "reserved_type_0": "00 00",
    "length_of_five_bytes": "30 ff ff ff ff 01",
    "length_with_a_needless_byte": "30 84 00 0001 61 00",
    "connack_from_a_client": "20 03 00 00 00",
    "suback_from_a_client": "90 04 0001 00 00",
    "unsuback_from_a_client": "b0 04 0001 00 00",
    "pingresp_from_a_client": "d0 00",
}
OVERLOOKED = (
    "publish_payload_format_2",
    "publish_with_subscription_id",
    "publish_response_topic_wildcard",
    "puback_unknown_code",
    "disconnect_unknown_code",
    "length_with_a_needless_byte",
    "suback_from_a_client",
    "unsuback_from_a_client",
    "pingresp_from_a_client",
)


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_packet_is_told_as_such_and_tells_the_will(
    visitors: Visitors, differs: Differs, name: str
) -> None:
    watcher = await visitors.connect_5(f"broken-watcher-{name}")
    await watcher.subscribe((f"broken/{name}", 0))
    client = await visitors.connect_5(f"broken-{name}", will=Publish(f"broken/{name}", b"gone"))
    client.send(bytes.fromhex(BROKEN[name]))
    if name in OVERLOOKED and differs("broken packets at 5"):
        client.send(Disconnect())
        await client.closed()
        return
    codes = (*BAD, Code.TOPIC_INVALID, Code.FILTER_INVALID)
    await client.dismissed(*codes, silently=differs(WHY))
    await watcher.expect(Publish(f"broken/{name}", b"gone"))


BROKEN_CONNECTS = {
    "without_properties": "10 0d 0004 4d515454 05 02 003c 0001 61",
    "reserved_flag": "10 0e 0004 4d515454 05 03 003c 00 0001 61",
    "will_qos_3": "10 15 0004 4d515454 05 1e 003c 00 0001 61 00 0001 77 0001 78",
    "receive_maximum_0": "10 11 0004 4d515454 05 02 003c 03 21 0000 0001 61",
    "packet_size_0": "10 13 0004 4d515454 05 02 003c 05 27 00000000 0001 61",
    "session_expiry_twice": ("10 18 0004 4d515454 05 02 003c 0a 11 00000001 11 00000001 0001 61"),
    "request_problem_2": "10 10 0004 4d515454 05 02 003c 02 17 02 0001 61",
    "property_of_publish": "10 11 0004 4d515454 05 02 003c 03 23 0001 0001 61",
    "bytes_after_the_end": "10 0f 0004 4d515454 05 02 003c 00 0001 61 00",
    "will_topic_wildcard": "10 15 0004 4d515454 05 06 003c 00 0001 61 00 0001 23 0001 78",
}


@pytest.mark.parametrize("name", BROKEN_CONNECTS)
async def test_a_broken_connect_is_refused(visitors: Visitors, name: str) -> None:
    client = await visitors.dial()
    client.speak(LEVEL_5)
    client.send(bytes.fromhex(BROKEN_CONNECTS[name]))
    answer = await client.next()
    if answer is not None:  # 3.1.4.2: a broker MAY say why
        assert isinstance(answer, Connack | Disconnect)
        assert answer.code >= Code.UNSPECIFIED
        await client.closed()


async def test_a_packet_above_the_announced_size_is_told(visitors: Visitors) -> None:
    client = await visitors.connect_5("large")
    assert client.connack.properties is not None
    size = client.connack.properties.maximum_packet_bytes
    assert size is not None
    fitting = Publish("large", bytes(size - 4 - 7 - 1))
    await client.subscribe(("large", 0))
    client.send(fitting)
    assert await client.message() == fitting
    client.send(Publish("large", bytes(size)))
    await client.dismissed(Code.TOO_LARGE)


async def test_who_sends_more_at_once_than_the_broker_receives_is_told(
    visitors: Visitors, differs: Differs
) -> None:
    client = await visitors.connect_5("quota")
    said = client.connack.properties or Properties()
    most = said.receive_maximum or 65_535
    for n in range(1, most + 1):
        client.send(Publish("quota", b"", 2, packet_id=n))
    for n in range(1, most + 1):
        packet = await client.next()
        assert isinstance(packet, Pubrec)
        assert packet.packet_id == n
    client.send(Publish("quota", b"", 2, packet_id=most + 1))
    if differs("receive maximum"):
        await client.expect(Pubrec(most + 1, Code.QUOTA))
    else:
        await client.dismissed(Code.RECEIVE_MAXIMUM)


async def test_a_released_message_makes_room_for_another(visitors: Visitors) -> None:
    client = await visitors.connect_5("room")
    said = client.connack.properties or Properties()
    for n in range(1, 2 * (said.receive_maximum or 65_535)):
        client.send(Publish("room", b"", 2, packet_id=n))
        packet = await client.next()
        assert isinstance(packet, Pubrec)
        if packet.code < Code.UNSPECIFIED:
            client.send(Pubrel(n))
            await client.expect(Pubcomp(n))
    await client.nothing()


async def test_a_message_larger_than_the_client_takes_is_not_sent_and_done_with(
    visitors: Visitors, differs: Differs
) -> None:
    """3.1.2-25: as if it had been delivered; those before and after it come."""
    window = 2 if differs("messages too large for a client") else 1
    said = Properties(maximum_packet_bytes=60, receive_maximum=window)
    client = await visitors.connect_5("small", said=said)
    await client.subscribe(("small", 1))
    sender = await visitors.connect_5("small-sender")
    for n, payload in enumerate((b"before", bytes(100), b"after"), 1):
        sender.send(Publish("small", payload, 1, packet_id=n))
        await sender.expect(Puback(n))
    assert (await client.message()).payload == b"before"
    assert (await client.message()).payload == b"after"
    await client.nothing()
