"""Targets that are no CBOR: topics and the text of ids, and the MQTT packets of the broker."""

from __future__ import annotations

from dataclasses import replace

from demesh.broker.codec import (
    LEVEL_3,
    LEVEL_5,
    Auth,
    Code,
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Malformed,
    Packet,
    Pingreq,
    Properties,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Wanted,
    encode,
)
from demesh.wire import identity
from demesh.wire.topics import KINDS_OF_AREA, Topics
from fuzz.mutate import of_bytes
from fuzz.target import Target, expect

MESH = bytes(range(32))
ME, PEER = bytes(16), bytes(range(16))
MINE, THEIRS = Topics(MESH, ME), Topics(MESH, PEER)
AREAS = (*KINDS_OF_AREA, "gone")


def topics() -> Target:
    """A topic that is read names its publisher and area, and only one topic names those."""

    def run(data: bytes) -> None:
        topic = data.decode("utf-8", "surrogateescape")
        known = Topics(MESH, ME)
        address = known.read(topic)
        expect(known.read(topic) == address, "read differently the second time")
        if address is not None:
            peer = Topics(MESH, address.publisher)
            made = peer.to(ME) if address.area == "to" else peer.mine(address.area)
            expect(made == topic, "two topics for one address", made)
        word = topic.rpartition("/")[2]
        try:
            id = identity.parse(word)
        except ValueError:
            return
        expect(identity.text(id) == word, "two texts for one id", word)

    seeds = [THEIRS.mine(area) for area in (*AREAS, "obs")]
    seeds += [THEIRS.to(ME), THEIRS.to(PEER), THEIRS.observation("x"), identity.text(ME)]
    return Target(run, tuple(seed.encode() for seed in seeds), of_bytes)


# -- MQTT -----------------------------------------------------------------------------------------

PACKET_BYTES_MAX = 2_048
WILL = Publish("gone", b"7", 1, True)
PACKETS: tuple[Packet, ...] = (
    Connect("roof", True, 60, WILL, "name", b"word"),
    Connack(Code.SUCCESS, True),
    Publish("a/b", b"payload", 0),
    Publish("a/b", bytes(200), 1, True, False, 7),
    Publish("a/b", b"", 2, False, True, 65_535),
    Puback(9),
    Pubrel(9),
    Subscribe(3, (Wanted("a/+", 1), Wanted("#", 0))),
    Suback(3, (Code.GRANTED_1, Code.UNSPECIFIED)),
    Unsubscribe(4, ("a/+",)),
    Pingreq(),
    Disconnect(),
)

SAID = Properties(1, 60, "text/plain", "a/c", b"7", user=(("k", "v"), ("k", "w")))
PACKETS_5: tuple[Packet, ...] = (
    Connect(
        "roof",
        False,
        60,
        replace(WILL, properties=replace(SAID, will_delay_s=5)),
        None,
        b"word",
        LEVEL_5,
        Properties(session_expiry_s=60, receive_maximum=9, topic_alias_maximum=3),
    ),
    Connack(Code.SUCCESS, True, Properties(assigned_client_id="x", maximum_qos=1)),
    Publish("a/b", b"payload", 0),
    Publish("a/b", bytes(200), 1, True, False, 7, replace(SAID, subscription_ids=(1, 300))),
    Publish("", b"x", properties=Properties(topic_alias=2)),
    Puback(9, Code.NO_SUBSCRIBERS),
    Pubrec(9, Code.QUOTA, Properties(reason="full")),
    Subscribe(3, (Wanted("a/+", 1, True, True, 2),), Properties(subscription_ids=(7,))),
    Suback(3, (Code.GRANTED_2, Code.NO_SHARED)),
    Unsubscribe(4, ("a/+",), Properties(user=(("k", "v"),))),
    Unsuback(4, (Code.NO_SUBSCRIPTION,)),
    Disconnect(Code.DISCONNECT_WITH_WILL, Properties(session_expiry_s=0)),
    Auth(Code.CONTINUE_AUTH, Properties(auth_method="plain", auth_data=b"1")),
)


SAYING = Publish("a/b", b"x", properties=SAID)


def mqtt() -> Target:
    """The decoder: pieces of any size give the same packets, what it holds stays bounded."""

    def run(data: bytes) -> None:
        # As a broker hears it, where a CONNECT may change the level, and as a client at MQTT 5.
        for level in (LEVEL_3, LEVEL_5):
            _read(data, level)

    seeds = [encode(packet) for packet in PACKETS]
    seeds += [encode(packet, LEVEL_5) for packet in PACKETS_5]
    streams = [b"".join(encode(packet) for packet in PACKETS)]
    streams.append(b"".join(encode(packet, LEVEL_5) for packet in PACKETS_5))
    # A second CONNECT changes nothing: what follows is read as before.
    streams.append(encode(PACKETS_5[0], LEVEL_5) + encode(PACKETS[0]) + encode(SAYING, LEVEL_5))
    return Target(run, (*seeds, *streams), of_bytes)


def _read(data: bytes, level: int) -> None:
    whole = Decoder(PACKET_BYTES_MAX, level).feed(data)
    decoder, pieces = Decoder(PACKET_BYTES_MAX, level), list[Packet | Malformed]()
    at, step = 0, 1 + (data[0] if data else 0) % 7
    while at < len(data):
        pieces += decoder.feed(data[at : at + step])
        at += step
        expect(len(decoder._rest) <= PACKET_BYTES_MAX + step, "it holds more than a packet")
    expect(pieces == whole, "pieces give other packets", pieces, whole)
    greeted = False
    for place, packet in enumerate(whole):
        if isinstance(packet, Malformed):
            expect(place == len(whole) - 1, "something after the end")
            expect(decoder.feed(data) == [], "it goes on after the end")
            continue
        own = level
        if isinstance(packet, Connect):
            own = packet.level
            if not greeted:
                greeted, level = True, LEVEL_5 if own == LEVEL_5 else LEVEL_3
        if own in (LEVEL_3, LEVEL_5):
            again = Decoder(PACKET_BYTES_MAX + 8, own).feed(encode(packet, own))
            expect(again == [packet], "it encodes to another packet", packet, again)
    expect(decoder.level == level, "the level is not that of the first CONNECT")
