"""Targets that are no CBOR: topics and the text of ids, and the MQTT packets of the broker."""

from __future__ import annotations

from demesh.broker.codec import Decoder, Malformed, encode
from demesh.broker.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Pubrel,
    Suback,
    Subscribe,
    Unsubscribe,
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
    Connack(0, True),
    Publish("a/b", b"payload", 0),
    Publish("a/b", bytes(200), 1, True, False, 7),
    Publish("a/b", b"", 2, False, True, 65_535),
    Puback(9),
    Pubrel(9),
    Subscribe(3, (("a/+", 1), ("#", 0))),
    Suback(3, (1, 128)),
    Unsubscribe(4, ("a/+",)),
    Pingreq(),
    Disconnect(),
)


def mqtt() -> Target:
    """The decoder: pieces of any size give the same packets, what it holds stays bounded."""

    def run(data: bytes) -> None:
        whole = Decoder(PACKET_BYTES_MAX).feed(data)
        decoder, pieces = Decoder(PACKET_BYTES_MAX), list[Packet | Malformed]()
        at, step = 0, 1 + (data[0] if data else 0) % 7
        while at < len(data):
            pieces += decoder.feed(data[at : at + step])
            at += step
            expect(len(decoder._rest) <= PACKET_BYTES_MAX + step, "it holds more than a packet")
        expect(pieces == whole, "pieces give other packets", pieces, whole)
        for place, packet in enumerate(whole):
            if isinstance(packet, Malformed):
                expect(place == len(whole) - 1, "something after the end")
                expect(decoder.feed(data) == [], "it goes on after the end")
            elif not isinstance(packet, Connect) or packet.level == 4:
                again = Decoder(PACKET_BYTES_MAX + 8).feed(encode(packet))
                expect(again == [packet], "it encodes to another packet", packet, again)

    joined = b"".join(encode(packet) for packet in PACKETS)
    return Target(run, (*[encode(packet) for packet in PACKETS], joined), of_bytes)
