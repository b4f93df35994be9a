"""What is taken out of a broker's bytes before the MQTT client sees them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.broker.codec import Pingresp, Puback, Publish, encode
from demesh.ports import Received
from demesh.transport.sieve import PACKET_BYTES_MAX, Sieve


def packet(topic: str, payload: bytes, qos: int = 1, packet_id: int = 7) -> bytes:
    return encode(Publish(topic, payload, qos, packet_id=packet_id if qos else 0))


def everything(_: Received) -> bool:
    return True


def nothing(_: Received) -> bool:
    return False


def fed(sieve: Sieve, data: bytes, step: int) -> tuple[bytes, bytes]:
    """All of it, `step` bytes at a time."""
    parts = [sieve.feed(data[at : at + step]) for at in range(0, len(data), step)]
    return b"".join(kept for kept, _ in parts), b"".join(answers for _, answers in parts)


GOOD, PING = packet("good", b"vote"), encode(Pingresp())


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_what_comes_at_qos_0_is_dropped_unread_and_all_else_passes_as_it_came(step: int) -> None:
    sieve = Sieve(everything, 0)
    junk = packet("good", bytes(300), qos=0)
    assert fed(sieve, PING + junk + GOOD + junk + junk + PING, step) == (PING + GOOD + PING, b"")
    assert sieve.unread == 3


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_what_is_not_worth_it_is_acknowledged_and_goes_no_further(step: int) -> None:
    sieve = Sieve(lambda message: message.topic == "good", 0)
    bad = packet("bad", bytes(200), packet_id=0x1234)
    assert fed(sieve, bad + GOOD + bad, step) == (GOOD, 2 * encode(Puback(0x1234)))
    assert not sieve.unread


def test_the_screen_is_shown_topic_payload_retained_and_broker() -> None:
    seen: list[Received] = []
    sieve = Sieve(lambda message: bool(seen.append(message)), 3)
    sieve.feed(encode(Publish("a/b", b"frame", 1, retain=True, packet_id=1)))
    assert seen == [Received("a/b", b"frame", True, 3)]


@pytest.mark.parametrize("step", [100, 4096, 10**7])
def test_a_message_longer_than_any_frame_is_never_held_in_memory(step: int) -> None:
    sieve = Sieve(everything, 0)
    long = packet("good", bytes(3 * PACKET_BYTES_MAX), packet_id=9)
    for at in range(0, len(long), step):
        sieve.feed(long[at : at + step])
        assert len(sieve._rest) < 200
    assert sieve.feed(GOOD) == (GOOD, b"") and sieve.unread == 1


def test_a_long_message_is_acknowledged_once() -> None:
    sieve = Sieve(everything, 0)
    long = packet("good", bytes(2 * PACKET_BYTES_MAX), packet_id=9)
    assert fed(sieve, long, 1000) == (b"", encode(Puback(9)))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x20\xff\xff\xff\x7f", "a packet of"),
        (b"\x30\xff\xff\xff\xff\x01", "without a length"),
        (b"\x32\x04\xff\xff\x00\x01", "a topic beyond its packet"),
    ],
    ids=["too long", "no length", "topic"],
)
def test_a_broker_that_does_not_speak_mqtt_is_left(data: bytes, says: str) -> None:
    with pytest.raises(ConnectionError, match=says):
        Sieve(everything, 0).feed(data)


packets = st.lists(
    st.one_of(
        st.just(PING),
        st.builds(
            packet, st.sampled_from(["a", "b" * 40, "é"]), st.binary(max_size=300),
            st.sampled_from([0, 1]), st.integers(1, 65535),
        ),
    ),
    max_size=8,
)  # fmt: skip


@given(packets, st.integers(1, 50), st.sampled_from([everything, nothing]))
def test_it_does_not_matter_how_the_bytes_are_cut(
    given_packets: list[bytes], step: int, screen: Callable[[Received], bool]
) -> None:
    data = b"".join(given_packets)
    whole, cut = Sieve(screen, 0), Sieve(screen, 0)
    assert fed(cut, data, step) == whole.feed(data)
    assert cut.unread == whole.unread
    at_least_once = [p for p in given_packets if p[0] >> 4 == 3 and p[0] & 6]
    kept = [p for p in given_packets if p[0] >> 4 != 3 or (p[0] & 6 and screen is everything)]
    assert Sieve(screen, 0).feed(data)[0] == b"".join(kept)
    if screen is nothing:
        assert len(Sieve(screen, 0).feed(data)[1]) == 4 * len(at_least_once)
