"""Virtual MQTT: the product's broker machine behind links with faults."""

from dataclasses import dataclass, field
from random import Random

import pytest

from demesh.broker.limits import Reason
from demesh.ports import MILLISECOND, SECOND, Publish
from demesh_sim.client import Client, Phase
from demesh_sim.heap import Heap
from demesh_sim.links import (
    HEADER_BYTES,
    PART,
    PROFILES,
    QUEUE_BYTES_MAX,
    Pipe,
    Profile,
    line_bytes,
)
from demesh_sim.network import Network

LAN = PROFILES["wifi"]
MEGABIT = Profile("a line and no way", 0, 0, rate_bit_s=1_000_000)  # 125 bytes a millisecond


@dataclass
class Ear:
    """What a client told its host."""

    links: list[bool] = field(default_factory=list)
    heard: list[tuple[str, bytes, bool]] = field(default_factory=list)

    def received(self, topic: str, payload: bytes, retained: bool) -> None:
        self.heard.append((topic, payload, retained))

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload, _ in self.heard]


def world(*, seed: int = 1, duplicate_ppm: int = 0, profile: Profile = LAN) -> tuple[Heap, Network]:
    heap = Heap()
    return heap, Network(heap, Random(seed), profile, duplicate_ppm=duplicate_ppm)


def join(network: Network, name: str, *filters: str) -> tuple[Client, Ear]:
    ear = Ear()
    client = network.join(
        name, filters or ("t/#",), (f"gone/{name}", b"1"), ear.links.append, ear.received
    )
    return client, ear


def free(_: object) -> int:
    raise AssertionError("a link without a rate asks nobody how long a packet is")


def line() -> tuple[Heap, Pipe[int], list[tuple[int, int]]]:
    """A pipe whose packets are their own sizes, and what comes out of it: (at ms, bytes)."""
    heap, arrived = Heap(), []

    def arrive(size: int) -> None:
        arrived.append((heap.now // MILLISECOND, size))

    return heap, Pipe(heap, Random(3), MEGABIT, arrive, lambda size: size), arrived


def run(heap: Heap, seconds: int) -> None:
    heap.run(heap.now + seconds * SECOND)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_half_of_all_latencies_are_below_p50_and_one_in_a_hundred_above_p99(
    profile: Profile,
) -> None:
    draws = [profile.latency_ns(draw) for draw in range(PART)]
    assert draws == sorted(draws)
    assert draws[0] > 0
    assert abs(draws[PART // 2] - profile.p50_us * 1000) < profile.p50_us * 20
    above = sum(draw > profile.p99_us * 1000 for draw in draws)
    assert abs(above - PART // 100) < PART // 500
    assert draws[-1] < profile.p99_us * 3100


def test_a_link_keeps_the_order_of_what_it_carries_whatever_the_latencies() -> None:
    heap, arrived = Heap(), []
    pipe = Pipe(heap, Random(3), PROFILES["lte-m"], lambda n: arrived.append((heap.now, n)), free)
    for number in range(200):
        heap.at(number * MILLISECOND, lambda number=number: pipe.send(number))
    heap.run(60 * SECOND)
    assert [number for _, number in arrived] == list(range(200))
    assert arrived == sorted(arrived)


def test_a_stalled_link_holds_everything_and_then_delivers_it_in_one_burst() -> None:
    heap, arrived = Heap(), []
    pipe = Pipe(
        heap, Random(3), PROFILES["ethernet"], lambda n: arrived.append((heap.now, n)), free
    )
    pipe.send(0)
    pipe.stall(5 * SECOND)
    heap.at(SECOND, lambda: pipe.send(1))
    heap.run(4 * SECOND)
    assert arrived == []
    heap.run(10 * SECOND)
    assert arrived == [(5 * SECOND, 0), (5 * SECOND, 1)]


def test_on_a_line_with_a_rate_each_packet_waits_for_the_bytes_of_all_before_it() -> None:
    heap, pipe, arrived = line()
    assert all(pipe.send(size) for size in (1250, 125, 2500))
    heap.at(50 * MILLISECOND, lambda: pipe.send(125))  # by then the line is free again
    heap.run(SECOND)
    assert arrived == [(10, 1250), (11, 125), (31, 2500), (51, 125)]


def test_a_line_carries_no_more_than_its_rate_however_small_the_packets() -> None:
    heap, arrived = Heap(), []
    odd = Profile("odd", 0, 0, rate_bit_s=999_983)
    pipe = Pipe(heap, Random(3), odd, lambda _: arrived.append(heap.now), lambda size: size)
    for _ in range(10_000):
        pipe.send(1)
    heap.run(SECOND)
    assert 80_000 * SECOND <= arrived[-1] * odd.rate_bit_s < 80_000 * SECOND * 1001 // 1000


def test_after_a_stall_a_line_goes_on_where_it_stopped_at_its_rate() -> None:
    heap, pipe, arrived = line()
    pipe.send(1250)
    pipe.send(1250)
    heap.run(15 * MILLISECOND)
    pipe.stall(100 * MILLISECOND)
    pipe.stall(115 * MILLISECOND)
    pipe.stall(90 * MILLISECOND)  # less than it is stalled anyway
    heap.at(50 * MILLISECOND, lambda: pipe.send(125))
    heap.run(SECOND)
    assert arrived == [(10, 1250), (120, 1250), (121, 125)]


def test_a_queue_takes_what_fits_and_has_room_again_when_it_was_carried() -> None:
    heap, pipe, arrived = line()
    assert pipe.send(QUEUE_BYTES_MAX - 125)
    assert not pipe.send(126)
    assert pipe.send(125)
    assert not pipe.send(1)
    heap.run(120 * SECOND)
    assert pipe.send(QUEUE_BYTES_MAX)
    assert [size for _, size in arrived] == [QUEUE_BYTES_MAX - 125, 125]


def test_a_packet_pays_for_the_headers_of_its_segments() -> None:
    sizes = (0, 1, 1448, 1449, 3000)
    assert [line_bytes(n) - n for n in sizes] == [HEADER_BYTES * n for n in (1, 1, 1, 2, 3)]


def test_through_a_broker_a_message_pays_on_the_line_of_its_sender_and_of_each_receiver() -> None:
    heap, network = world(profile=MEGABIT)
    alice, _ = join(network, "alice")
    at: list[int] = []
    for name in ("bob", "carol"):
        network.join(name, ("t/#",), ("w", b""), lambda _: None, lambda *_: at.append(heap.now))
    run(heap, 2)
    began = heap.now
    alice.publish(Publish("t/x", bytes(1000)))
    run(heap, 1)
    # Fixed header 3, topic 2 + 3, packet id 2, payload, headers: 1,062 bytes, 8.496 ms, twice. Both
    # receivers have a line of their own.
    assert [taken - began for taken in at] == [2 * 8_496_000] * 2


def test_who_cannot_take_what_is_sent_to_him_is_cut_off_and_comes_back() -> None:
    heap, network = world(profile=MEGABIT)
    bob, ear = join(network, "bob")
    senders = [join(network, f"sender-{n}", "nothing")[0] for n in range(20)]
    run(heap, 2)
    assert network.broker is not None
    for _ in range(10):  # 12 MB for a line that takes 8.4 MB of queue
        for sender in senders:
            sender.publish(Publish("t/x", bytes(60_000), qos=0))
    run(heap, 10)
    assert network.broker.counters.closed == {Reason.SLOW: 1}
    run(heap, 5)
    assert ear.links == [True, False, True]
    assert bob.phase is Phase.UP


def test_who_floods_the_broker_is_read_no_faster_than_it_may_speak_and_nobody_else_waits() -> None:
    heap, network = world(profile=PROFILES["loopback"])
    flooder, _ = join(network, "flooder", "nothing")
    _, ear = join(network, "bob", "t/#")
    alice, _ = join(network, "alice", "nothing")
    run(heap, 2)
    assert network.broker is not None
    for n in range(4000):  # four a millisecond
        flooder.publish(Publish("t/flood", b"", qos=0))
        if not n % 400:
            alice.publish(Publish("t/alice", b"%d" % n, qos=0))
        heap.run(heap.now + MILLISECOND // 4)
    heap.run(heap.now + 2 * MILLISECOND)
    topics = [topic for topic, _, _ in ear.heard]
    assert topics.count("t/alice") == 10
    assert 1_000 <= topics.count("t/flood") <= 1_300, "a second, a burst, and what is on the line"
    assert network.broker.counters.pauses > 10
    run(heap, 4)
    heard = sum(topic == "t/flood" for topic, _, _ in ear.heard)
    assert heard + flooder.dropped == 4000, "what waited comes in time, up to a full outbox"
    assert flooder.dropped > 500


def test_a_sender_whose_line_takes_no_more_loses_its_connection_and_comes_back() -> None:
    heap, network = world(profile=MEGABIT)
    alice, ear = join(network, "alice")
    run(heap, 2)
    for _ in range(200):
        alice.publish(Publish("t/x", bytes(60_000), qos=0))
    assert alice.phase is Phase.DOWN
    run(heap, 10)
    assert ear.links == [True, False, True]


def test_what_is_under_way_when_a_link_is_cut_never_arrives() -> None:
    heap, arrived = Heap(), []
    pipe = Pipe(heap, Random(3), LAN, arrived.append, free)
    pipe.send(0)
    pipe.cut()
    pipe.send(1)
    heap.run(SECOND)
    assert arrived == []


def test_two_clients_hear_each_other_through_the_broker() -> None:
    heap, network = world()
    alice, alice_ear = join(network, "alice")
    _, bob_ear = join(network, "bob")
    run(heap, 2)
    assert alice_ear.links == bob_ear.links == [True]
    alice.publish(Publish("t/x", b"hello"))
    run(heap, 1)
    assert alice_ear.payloads == bob_ear.payloads == [b"hello"]


def test_a_late_client_gets_the_retained_message_marked_as_such() -> None:
    heap, network = world()
    alice, _ = join(network, "alice")
    run(heap, 1)
    alice.publish(Publish("t/card", b"me", retain=True))
    run(heap, 1)
    _, bob = join(network, "bob")
    run(heap, 1)
    assert bob.heard == [("t/card", b"me", True)]


def test_what_is_published_while_a_client_is_away_waits_in_its_session() -> None:
    heap, network = world()
    alice, _ = join(network, "alice")
    bob, ear = join(network, "bob")
    run(heap, 1)
    network.disconnect(bob)
    for number in range(300):  # more than the broker's window of unacknowledged messages
        alice.publish(Publish("t/n", b"%d" % number))
    run(heap, 30)
    assert ear.links == [True, False, True]
    assert ear.payloads == [b"%d" % number for number in range(300)]


def test_what_a_client_publishes_while_away_arrives_after_it_is_back() -> None:
    heap, network = world()
    alice, _ = join(network, "alice")
    _, bob = join(network, "bob")
    run(heap, 1)
    network.disconnect(alice)
    alice.publish(Publish("t/x", b"patience"))
    run(heap, 2)
    assert bob.payloads == [b"patience"]


@pytest.mark.parametrize("seed", range(8))
def test_qos_1_survives_any_cuts_at_least_once(seed: int) -> None:
    heap, network = world(seed=seed, duplicate_ppm=50_000)
    alice, _ = join(network, "alice")
    bob, ear = join(network, "bob")
    chance = Random(seed)
    for number in range(400):
        at = SECOND + number * 20 * MILLISECOND
        heap.at(at, lambda number=number: alice.publish(Publish("t/n", b"%d" % number)))
    for _ in range(6):
        client = alice if chance.getrandbits(1) else bob
        at = chance.randrange(9 * SECOND)
        heap.at(at, lambda client=client: network.disconnect(client))
    run(heap, 120)
    numbers = [int(payload) for payload in ear.payloads]
    assert set(numbers) == set(range(400))
    assert len(numbers) > 400  # some came twice, as QoS 1 allows


def test_doubled_publications_arrive_twice_and_break_nothing() -> None:
    heap, network = world(duplicate_ppm=1_000_000)
    alice, _ = join(network, "alice")
    _, bob = join(network, "bob")
    run(heap, 1)
    for number in range(100):
        alice.publish(Publish("t/n", b"%d" % number))
    run(heap, 10)
    assert len(bob.payloads) == 200
    assert bob.links == [True]


def test_a_client_that_loses_power_leaves_its_will_at_the_latest_by_its_silence() -> None:
    for seed in range(4):  # the broker is told at once, or not at all
        heap, network = world(seed=seed)
        alice, _ = join(network, "alice")
        _, bob = join(network, "bob", "gone/+")
        run(heap, 1)
        network.strand(alice)
        run(heap, 31)
        assert bob.heard == [("gone/alice", b"1", False)]
        assert alice.phase is Phase.GONE


def test_a_client_that_says_goodbye_leaves_no_will() -> None:
    heap, network = world()
    alice, _ = join(network, "alice")
    _, bob = join(network, "bob", "gone/+")
    run(heap, 1)
    alice.leave()
    run(heap, 60)
    assert bob.heard == []


def test_a_restarted_board_takes_its_session_over_from_its_half_open_connection() -> None:
    heap, network = world()
    sender, _ = join(network, "sender")
    alice, _ = join(network, "alice")
    run(heap, 1)
    network.strand(alice)
    sender.publish(Publish("t/x", b"while away"))
    run(heap, 1)
    _, again = join(network, "alice")
    run(heap, 2)
    assert b"while away" in again.payloads


def test_a_deaf_client_notices_by_itself_and_comes_back() -> None:
    heap, network = world()
    alice, ear = join(network, "alice")
    sender, _ = join(network, "sender")
    run(heap, 1)
    network.stall(alice, heap.now + 1000 * SECOND, up=False)
    sender.publish(Publish("t/x", b"anyone?"))
    run(heap, 90)
    assert ear.links == [True, False, True]
    assert ear.payloads == [b"anyone?"]


def test_a_mute_client_is_thrown_out_by_the_broker_and_comes_back() -> None:
    heap, network = world()
    alice, ear = join(network, "alice")
    _, bob = join(network, "bob", "gone/+")
    run(heap, 1)
    network.stall(alice, heap.now + 1000 * SECOND, down=False)
    run(heap, 90)
    assert ear.links == [True, False, True]
    assert [topic for topic, _, _ in bob.heard] == ["gone/alice"]


def test_a_restarted_broker_knows_nobody_and_everybody_comes_back() -> None:
    heap, network = world()
    alice, alice_ear = join(network, "alice")
    _, bob = join(network, "bob")
    run(heap, 1)
    alice.publish(Publish("t/card", b"me", retain=True))
    run(heap, 1)
    network.restart_broker(3 * SECOND)
    run(heap, 30)
    assert alice_ear.links == bob.links == [True, False, True]
    alice.publish(Publish("t/x", b"again"))
    run(heap, 1)
    assert bob.payloads == [b"me", b"again"]


def test_equal_seeds_give_equal_networks() -> None:
    def record(seed: int) -> list[tuple[int, bytes]]:
        heap, network = world(seed=seed, duplicate_ppm=100_000)
        alice, _ = join(network, "alice")
        heard: list[tuple[int, bytes]] = []
        network.join(
            "bob",
            ("#",),
            ("gone/bob", b""),
            lambda _: None,
            lambda t, p, r: heard.append((heap.now, p)),
        )
        for number in range(50):
            heap.at(
                number * 90 * MILLISECOND, lambda n=number: alice.publish(Publish("t", b"%d" % n))
            )
        heap.at(2 * SECOND, lambda: network.disconnect(alice))
        heap.run(60 * SECOND)
        return heard

    assert record(5) == record(5)
    assert record(5) != record(6)
