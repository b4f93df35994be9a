"""One client that says too much waits; nobody else does. First the machine in its own time."""

from __future__ import annotations

import logging
import socket
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.rawclient import RawClient, Visitors
from demesh.broker.codec import (
    Code,
    Connect,
    Decoder,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsubscribe,
    Wanted,
    encode,
)
from demesh.broker.limits import TURN_EFFECTS_MAX, Limits, Reason
from demesh.broker.machine import Broker, Close, Effect, Pause, Resume, Transmit
from demesh.broker.server import Server
from demesh.ports import MILLISECOND, SECOND

A, B = 1, 2

# Ten packets a second, a second's worth at most and at first: easy to count.
SLOW = Limits(
    packets_per_s_max=10,
    bytes_per_s_max=1000,
    burst_ms_max=1000,
    burst_new_ms=1000,
    pause_ms=300,
)


class Desk:
    """A broker with one greeted client `a`, and the time."""

    def __init__(self, limits: Limits = SLOW) -> None:
        self.now = 0
        self.broker = Broker(limits, self.now)
        self.join(A, "a")

    def join(self, conn: int, client_id: str, **fields: object) -> None:
        self.broker.connected(conn, self.now)
        self.say(conn, Connect(client_id, **fields))  # type: ignore[arg-type]

    def say(self, conn: int, *packets: Packet) -> list[Effect]:
        return [e for packet in packets for e in self.broker.receive(conn, packet, self.now)]

    def wait(self, span: int) -> list[tuple[int, Effect]]:
        """Let time pass; what happened meanwhile, and when."""
        end = self.now + span
        seen: list[tuple[int, Effect]] = []
        while (at := self.broker.deadline()) is not None and at <= end:
            self.now = max(self.now, at)
            seen += [(self.now, effect) for effect in self.broker.tick(self.now)]
        self.now = end
        return seen


def test_a_client_above_its_rate_is_paused_and_resumed_when_it_has_earned_enough() -> None:
    desk = Desk()
    assert desk.say(A, *[Pingreq()] * 10) == [Transmit(A, Pingresp())] * 10
    assert desk.say(A, Pingreq()) == [Transmit(A, Pingresp()), Pause(A, "a")]
    # 1.1 s of packets said, 1 s allowed at once, 0.3 s to be on the account again.
    assert desk.wait(399 * MILLISECOND) == []
    assert desk.wait(MILLISECOND) == [(400 * MILLISECOND, Resume(A))]
    assert desk.say(A, *[Pingreq()] * 3) == [Transmit(A, Pingresp())] * 3
    assert Pause(A, "a") in desk.say(A, Pingreq())
    assert desk.broker.counters.pauses == 2
    assert desk.broker.counters.closed == {}


def test_bytes_are_paid_for_as_well() -> None:
    desk = Desk()
    assert desk.say(A, Publish("t", bytes(800))) == []
    assert desk.say(A, Publish("t", bytes(800))) == [Pause(A, "a")]
    # 0.901 s each, of which 1 s was allowed.
    assert desk.wait(5 * SECOND) == [((1802 - 1000 + 300) * MILLISECOND, Resume(A))]


def test_a_client_at_its_rate_is_never_paused() -> None:
    desk = Desk()
    for _ in range(1000):
        assert desk.say(A, Pingreq()) == [Transmit(A, Pingresp())]
        assert desk.wait(SECOND // 10) == []


def test_silence_is_saved_up_to_one_burst_and_no_further() -> None:
    desk = Desk()
    desk.wait(1_000_000 * SECOND)
    assert Pause(A, "a") not in desk.say(A, *[Pingreq()] * 10)
    assert Pause(A, "a") in desk.say(A, Pingreq())


def test_one_client_does_not_pay_for_another() -> None:
    desk = Desk()
    desk.join(B, "b")
    assert Pause(A, "a") in desk.say(A, *[Pingreq()] * 50)
    assert desk.say(B, *[Pingreq()] * 10) == [Transmit(B, Pingresp())] * 10


def test_a_new_connection_starts_with_less_than_a_full_account() -> None:
    desk = Desk(replace(SLOW, burst_new_ms=200))
    assert Pause(A, "a") not in desk.say(A, *[Pingreq()] * 2)
    assert Pause(A, "a") in desk.say(A, Pingreq())
    desk.broker.disconnected(A, desk.now)
    desk.join(B, "a")
    assert Pause(B, "a") in desk.say(B, *[Pingreq()] * 3), "coming back fills no account"


def test_what_is_handed_in_during_a_pause_is_heard_and_lengthens_it() -> None:
    desk = Desk()
    effects = desk.say(A, *[Pingreq()] * 20)
    assert effects.count(Transmit(A, Pingresp())) == 20
    assert effects.count(Pause(A, "a")) == 1
    assert desk.wait(10 * SECOND) == [(1300 * MILLISECOND, Resume(A))]
    assert desk.broker.counters.pauses == 1


def test_a_pause_ends_with_its_connection() -> None:
    desk = Desk()
    desk.say(A, *[Pingreq()] * 11)
    desk.broker.disconnected(A, desk.now)
    assert desk.wait(10 * SECOND) == []
    assert desk.broker.deadline() is None


def test_a_packet_that_ends_the_connection_pauses_nothing() -> None:
    desk = Desk()
    desk.say(A, *[Pingreq()] * 10)
    assert desk.say(A, Connect("a")) == [Close(A, Reason.PROTOCOL)]
    assert desk.broker.counters.pauses == 0


def test_answers_are_free_as_long_as_they_answer_something() -> None:
    desk = Desk(replace(SLOW, packets_per_s_max=2, pause_ms=100))
    desk.join(B, "b")
    desk.say(A, Subscribe(1, (Wanted("t", 2),)))
    for n in range(30):
        desk.wait(SECOND)
        sent = desk.say(B, Publish("t", b"", 1 + n % 2, packet_id=1))
        (pid,) = (e.packet.packet_id for e in sent if isinstance(e, Transmit) and e.conn == A)
        if n % 2:
            answers: list[Packet] = [Pubrec(pid), Pubcomp(pid)]
            desk.say(B, Pubrel(1))
        else:
            answers = [Puback(pid)]
        assert not any(isinstance(e, Pause) for e in desk.say(A, *answers))
    assert not any(isinstance(e, Pause) for e in desk.say(A, *[Pingreq()] * 2)), "nothing was spent"


@pytest.mark.parametrize("answer", [Puback(9), Pubrec(9), Pubrel(9), Pubcomp(9)])
def test_answers_to_nothing_cost_what_any_packet_does(answer: Packet) -> None:
    desk = Desk()
    assert Pause(A, "a") not in desk.say(A, *[answer] * 10)
    assert Pause(A, "a") in desk.say(A, answer)


@pytest.mark.parametrize(
    "packet",
    [
        Subscribe(1, tuple(Wanted(f"t/{n}") for n in range(200))),
        Unsubscribe(1, tuple(f"t/{n}" for n in range(200))),
    ],
)
def test_every_filter_of_a_packet_is_paid_for(packet: Packet) -> None:
    desk = Desk()
    assert Pause(A, "a") in desk.say(A, packet)


def test_fetching_retained_messages_again_and_again_is_paid_for() -> None:
    desk = Desk()
    desk.join(B, "b")
    for n in range(5):
        desk.say(B, Publish(f"t/{n}", bytes(100), retain=True))
        desk.wait(SECOND)
    wanted = Subscribe(1, (Wanted("#", 0),))
    assert Pause(A, "a") not in desk.say(A, wanted)
    assert Pause(A, "a") in desk.say(A, wanted)


def deep_desk() -> Desk:
    """Many retained topics of many levels, of which a filter finds none at its last."""
    desk = Desk(Limits())
    for number in range(1000):
        desk.now += 10 * MILLISECOND
        desk.say(A, Publish(f"{number}/{'a/' * 29}end", b"x", retain=True))
    desk.now += SECOND
    desk.join(B, "b")
    return desk


def test_what_a_filter_looks_at_is_paid_for_even_if_it_finds_nothing() -> None:
    desk = deep_desk()
    costly = Wanted("+/" * 30 + "other", 0)
    effects = desk.say(B, *[Subscribe(1, (costly,))] * 10)  # 300,000 looks, 0.3 s of the account
    assert Pause(B, "b") in effects


def test_one_packet_takes_no_more_looks_than_a_turn_bears() -> None:
    desk = deep_desk()
    filters = tuple(Wanted(f"{'+/' * 30}{number}", 0) for number in range(100))
    answer, *_ = desk.say(B, Subscribe(1, filters))
    assert isinstance(answer, Transmit) and isinstance(answer.packet, Suback)
    granted, refused = [Code.SUCCESS] * 2, [Code.QUOTA] * 98
    assert answer.packet.codes == (*granted, *refused)
    unasked = tuple(one._replace(retain_handling=2) for one in filters)
    answer, *_ = desk.say(B, Subscribe(2, unasked))
    assert answer == Transmit(B, Suback(2, (Code.SUCCESS,) * 100))


def test_the_brokers_own_topics_are_paid_for_as_any_others() -> None:
    desk = Desk(Limits())
    desk.now += SECOND
    effects = desk.say(A, Subscribe(1, (Wanted("$SYS/#", 0),) * 128))
    assert effects[-1] == Pause(A, "a")


def test_without_a_rate_nobody_is_paused() -> None:
    desk = Desk(replace(SLOW, packets_per_s_max=None))
    desk.say(A, *[Pingreq()] * 10_000)
    assert desk.broker.counters.pauses == 0


def test_a_voter_at_full_load_and_a_daemon_that_comes_back_are_never_paused() -> None:
    desk = Desk(Limits())
    desk.say(A, Subscribe(1, tuple(Wanted(f"demesh/1/m/{area}/+", 1) for area in "abcdef")))
    for _ in range(10 * 10):
        desk.say(A, *[Publish("demesh/1/m/vote/x", bytes(700))] * 25)
        desk.wait(SECOND // 10)
    assert desk.broker.counters.pauses == 0


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 300)), max_size=60))
def test_over_any_span_no_more_is_let_through_than_time_and_burst_pay_for(
    said: list[tuple[int, int]],
) -> None:
    """Pairs: ms of silence, payload bytes; a shell that obeys says nothing during a pause."""
    desk = Desk()
    paused = False
    allowed: list[tuple[int, int]] = []
    for silence_ms, size in said:
        for _, effect in desk.wait(silence_ms * MILLISECOND):
            paused = paused and not isinstance(effect, Resume)
        if paused:
            continue
        cost = SECOND // 10 + (1 + size) * (SECOND // 1000)
        allowed.append((desk.now, cost))
        paused = Pause(A, "a") in desk.say(A, Publish("t", bytes(size)))
    for first, (began, _) in enumerate(allowed):
        spent = 0
        for now, cost in allowed[first:]:
            assert spent <= now - began + SECOND, "all but the last packet were paid for"
            spent += cost


# -- the decoder in parts -------------------------------------------------------------------------


@given(st.lists(st.integers(0, 300), max_size=20), st.integers(1, 7), st.integers(1, 200))
def test_packets_taken_in_parts_are_those_taken_at_once(
    sizes: list[int], packets_max: int, cut: int
) -> None:
    data = b"".join(encode(Publish("t", bytes(size))) for size in sizes)
    decoder = Decoder(1000)
    taken: list[object] = []
    for at in range(0, len(data), cut):
        part = decoder.feed(data[at : at + cut], packets_max)
        assert len(part) <= packets_max
        taken += part
        if at % 2:  # now and then all of it; otherwise the next bytes come on top
            while decoder.more:
                taken += decoder.feed(b"", packets_max)
    while decoder.more:
        taken += decoder.feed(b"", packets_max)
    assert taken == [Publish("t", bytes(size)) for size in sizes]


def test_a_client_that_is_not_read_is_not_silent() -> None:
    """Its pings wait in its socket; its keep-alive begins when they can be heard."""
    desk = Desk()
    desk.join(B, "b", keep_alive_s=1)
    assert Pause(B, "b") in desk.say(B, Publish("t", bytes(5000)))
    (resumed, resume), *_ = seen = desk.wait(20 * SECOND)
    assert resume == Resume(B)
    assert resumed > 3 * SECOND
    assert seen[1:] == [(resumed + 3 * SECOND // 2, Close(B, Reason.KEEP_ALIVE, "client 'b'"))]


# -- the server -----------------------------------------------------------------------------------


class Flooder:
    """A socket that is given one packet again and again, as often as it takes it."""

    def __init__(self, port: int, packet: Packet) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(encode(Connect("flooder")))
        self._socket.setblocking(False)
        self._packets = encode(packet) * 1000
        self._at = 0

    def pour(self) -> int:
        """Write until the socket takes no more; how many bytes it took."""
        taken = 0
        try:
            while True:
                sent = self._socket.send(self._packets[self._at :])
                taken += sent
                self._at = (self._at + sent) % len(self._packets)
        except BlockingIOError:
            return taken

    def close(self) -> None:
        self._socket.close()


async def test_a_flooder_is_slowed_down_by_its_own_socket_and_nobody_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What one says above its rate stays in the kernel's buffers, until they take no more."""
    limits = Limits(packets_per_s_max=100, burst_ms_max=100, burst_new_ms=100)
    async with Server(limits=limits) as server:
        visitors = Visitors(server.port)
        steady = await visitors.connect("steady")
        flooder = Flooder(server.port, Publish("t", bytes(4096)))
        taken = []
        for _ in range(200):
            taken.append(flooder.pour())
            await steady.nothing()
        assert taken.count(0) > 150, "its buffers are full and stay full"
        assert sum(taken) > 4 * 4096 * server.counters.messages_received
        assert server.counters.pauses > 0
        assert server.counters.closed == {}
        flooder.close()
        visitors.leave()
    (line,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert "'flooder' says more than 100 packets" in line


async def test_a_paused_client_loses_nothing_and_keeps_its_order() -> None:
    limits = Limits(packets_per_s_max=2000, burst_ms_max=10, burst_new_ms=10, pause_ms=1)
    async with Server(limits=limits) as server:
        visitors = Visitors(server.port)
        client = await visitors.connect("a")
        await client.subscribe(("t", 0))
        client.send(*[Publish("t", b"%d" % n) for n in range(500)])
        for n in range(500):
            await client.expect(Publish("t", b"%d" % n))
        assert server.counters.pauses > 5


async def test_one_read_of_a_flooder_is_carried_out_in_turns_with_everybody_else() -> None:
    """A segment of thousands of packets, and the ping of another that came right after it."""
    async with Server(limits=Limits(packets_per_s_max=None, turn_packets_max=50)) as server:
        visitors = Visitors(server.port)
        flooder, steady = await visitors.connect("flooder"), await visitors.connect("steady")
        flooder.send(encode(Publish("t")) * 20_000)
        await steady.nothing()
        assert 0 < server.counters.messages_received <= 50 * 10, "some ten turns of the loop"
        await flooder.nothing()
        assert server.counters.messages_received == 20_000
        visitors.leave()


async def test_messages_to_many_are_carried_out_in_turns_with_everybody_else() -> None:
    limits = Limits(packets_per_s_max=None, turn_packets_max=1000)
    async with Server(limits=limits) as server:
        visitors = Visitors(server.port)
        crowd = [await visitors.connect(f"{number}") for number in range(100)]
        for client in crowd:
            await client.subscribe(("t", 0))
        flooder, steady = await visitors.connect("flooder"), await visitors.connect("steady")
        flooder.send(encode(Publish("t")) * 1000)
        await steady.nothing()
        assert 0 < server.counters.messages_received <= 10 * (TURN_EFFECTS_MAX // 100 + 1)
        await flooder.nothing()
        assert server.counters.messages_received == 1000
        visitors.leave()


async def round_trips_ns(
    client: RawClient, count: int, flooder: Flooder | None = None
) -> list[int]:
    """Sorted; a flooder's buffers are full before each."""
    found = []
    for _ in range(count):
        if flooder is not None:
            flooder.pour()
        began = time.perf_counter_ns()
        await client.nothing()
        found.append(time.perf_counter_ns() - began)
    return sorted(found)


@pytest.mark.xdist_group("fairness")
async def test_a_flood_does_not_keep_others_waiting() -> None:
    """Round trips of a bystander beside a flood to three, against those at rest in the same run."""
    async with Server() as server:
        visitors = Visitors(server.port)
        steady = await visitors.connect("steady")
        for n in range(3):
            await (await visitors.connect(f"receiver-{n}")).subscribe(("t", 0))
        rest = await round_trips_ns(steady, 300)
        flooder = Flooder(server.port, Publish("t", bytes(200)))
        await round_trips_ns(steady, 10, flooder)  # its first burst
        flooded = await round_trips_ns(steady, 300, flooder)
        flooder.close()
        visitors.leave()
    ratio = flooded[150] / rest[150]
    assert ratio < 3, f"a round trip takes {ratio:.1f} times as long as at rest"
