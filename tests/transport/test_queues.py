"""The bounded queues: what waits, what is dropped when there is too much, and its count."""

from __future__ import annotations

import asyncio

import pytest

from demesh.ports import Admitted, Input, Linked, Measured, Measurement, Publish, Received, Stopping
from demesh.transport.inbox import Inbox
from demesh.transport.outbox import (
    ATTEMPTS_MAX,
    BYTES_MAX,
    FRESH_S,
    WINDOW,
    WINDOW_BYTES,
    Letter,
    Outbox,
    Parcel,
)


def message(number: int, size: int = 1) -> Admitted:
    return Admitted(Received("t", bytes([number]) * size), "whatever it is")


def test_inputs_come_out_our_own_first_and_messages_in_order() -> None:
    inbox = Inbox()
    inputs: list[Input] = [
        message(1), Linked(0, up=True), message(2), Measured(Measurement(1)), Stopping()
    ]  # fmt: skip
    for item in inputs:
        inbox.put(item)
    assert inbox.take(4) == [inputs[1], inputs[3], inputs[4], inputs[0]]
    assert inbox.take(4) == [inputs[2]]
    assert inbox.take(4) == []
    assert inbox.dropped == 0


def test_too_many_messages_push_out_the_oldest_and_never_our_own() -> None:
    inbox = Inbox(messages_max=3)
    inbox.put(Stopping())
    for number in range(5):
        inbox.put(message(number))
    assert inbox.take(9) == [Stopping(), message(2), message(3), message(4)]
    assert inbox.dropped == 2


def test_too_many_bytes_push_out_the_oldest_and_what_was_taken_makes_room() -> None:
    inbox = Inbox(bytes_max=10)
    inbox.put(message(1, 6))
    inbox.put(message(2, 6))
    assert inbox.take(9) == [message(2, 6)]
    inbox.put(message(3, 10))
    assert inbox.take(9) == [message(3, 10)]
    inbox.put(message(4, 11))
    assert len(inbox) == 0, "larger than the whole inbox"
    assert inbox.dropped == 2


async def test_waiting_ends_with_an_input_or_with_the_time() -> None:
    inbox = Inbox()
    await inbox.wait(0.001)
    assert len(inbox) == 0
    asyncio.get_running_loop().call_soon(inbox.put, Stopping())
    async with asyncio.timeout(5):
        await inbox.wait(None)
    assert inbox.take(1) == [Stopping()]


async def test_a_busy_consumer_leaves_the_loop_to_others() -> None:
    inbox = Inbox()
    inbox.put(Stopping())
    others: list[int] = []
    asyncio.get_running_loop().call_soon(others.append, 1)
    await inbox.wait(None)
    assert others == [1]


def frame(number: int) -> Publish:
    return Publish("vote", bytes([number]))


def view(number: int) -> Publish:
    return Publish("obs", bytes([number]), qos=0)


def parcel(number: int, attempts: int = 0) -> Parcel:
    return Parcel(Letter(frame(number), 0), attempts)


def put(outbox: Outbox, *publications: Publish, at: float = 0) -> list[Letter]:
    letters = [Letter(publish, at) for publish in publications]
    for letter in letters:
        outbox.put(letter)
    return letters


def taken(outbox: Outbox, now: float = 0) -> Parcel:
    parcel = outbox.take(now)
    assert parcel is not None
    return parcel


def drain(outbox: Outbox, now: float = 0) -> list[Publish]:
    found = []
    while parcel := outbox.take(now):
        found.append(parcel.publish)
        outbox.sent(parcel)
    assert not len(outbox)
    return found


async def test_frames_leave_before_views_each_in_order() -> None:
    outbox = Outbox()
    for publish in (view(1), frame(1), view(2), frame(2)):
        put(outbox, publish)
    assert drain(outbox) == [frame(1), frame(2), view(1), view(2)]
    assert await outbox.emptied(0)


async def test_each_class_drops_its_own_oldest_and_counts_it() -> None:
    outbox = Outbox(frames_max=2, views_max=1)
    for number in range(4):
        put(outbox, frame(number))
        put(outbox, view(number))
    assert outbox.dropped == 5
    assert drain(outbox) == [frame(2), frame(3), view(3)]


async def test_a_frame_that_failed_is_next_again_until_it_was_tried_often_enough() -> None:
    outbox = Outbox()
    put(outbox, frame(1))
    put(outbox, frame(2))
    for attempt in range(ATTEMPTS_MAX):
        tried = taken(outbox)
        assert tried == parcel(1, attempt)
        outbox.failed(tried)
    assert outbox.dropped == 1
    assert drain(outbox) == [frame(2)]


async def test_a_view_that_failed_is_gone_and_counted() -> None:
    outbox = Outbox()
    put(outbox, view(1))
    outbox.failed(taken(outbox))
    assert (len(outbox), outbox.dropped) == (0, 1)
    assert await outbox.emptied(0)


async def test_a_failed_frame_finds_no_room_in_a_full_box() -> None:
    outbox = Outbox(frames_max=2)
    put(outbox, frame(1))
    parcel = taken(outbox)
    put(outbox, frame(2))
    put(outbox, frame(3))
    outbox.failed(parcel)
    assert outbox.dropped == 1
    assert drain(outbox) == [frame(2), frame(3)]


async def test_it_is_not_empty_while_a_parcel_is_under_way() -> None:
    outbox = Outbox()
    put(outbox, frame(1))
    parcel = taken(outbox)
    assert not await outbox.emptied(0.001)
    outbox.failed(parcel)
    assert not await outbox.emptied(0.001)
    drain(outbox)
    assert await outbox.emptied(0)


def test_no_more_than_a_window_is_under_way_at_once() -> None:
    outbox = Outbox()
    for number in range(WINDOW + 1):
        put(outbox, frame(number))
    first = taken(outbox)
    for number in range(1, WINDOW):
        assert taken(outbox) == parcel(number)
    assert outbox.take(0) is None
    outbox.sent(first)
    assert taken(outbox) == parcel(WINDOW)


def test_a_last_attempt_is_made_alone_so_that_nothing_is_given_up_for_another() -> None:
    outbox = Outbox()
    for number in range(3):
        put(outbox, frame(number))
    for attempt in range(ATTEMPTS_MAX - 1):
        parcels = [taken(outbox), taken(outbox)]
        assert parcels == [parcel(0, attempt), parcel(1, attempt)]
        for one in reversed(parcels):
            outbox.failed(one)
    for number in range(2):
        last = taken(outbox)
        assert last == parcel(number, ATTEMPTS_MAX - 1)
        assert outbox.take(0) is None, "beside a last attempt"
        outbox.sent(last)
    put(outbox, frame(3))
    both = [taken(outbox), taken(outbox)]
    assert both == [parcel(2), parcel(3)]
    for one in both:
        outbox.sent(one)
    assert outbox.dropped == 0


def test_a_last_attempt_waits_until_nothing_else_is_under_way() -> None:
    outbox = Outbox()
    put(outbox, frame(0))
    for _ in range(ATTEMPTS_MAX - 1):
        outbox.failed(taken(outbox))
    alone = taken(outbox)
    put(outbox, frame(1))
    assert outbox.take(0) is None
    outbox.failed(alone)
    assert outbox.dropped == 1
    assert drain(outbox) == [frame(1)]
    put(outbox, frame(2))
    put(outbox, frame(3))
    first = taken(outbox)
    for _ in range(ATTEMPTS_MAX - 1):
        outbox.failed(taken(outbox))
    assert outbox.take(0) is None, "a last attempt, beside others"
    outbox.sent(first)
    assert taken(outbox) == parcel(3, ATTEMPTS_MAX - 1)
    assert first.publish == frame(2)


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_nothing_is_left_behind_whatever_is_dropped_or_tried_again(failures: int) -> None:
    outbox = Outbox(frames_max=3, views_max=3)
    for number in range(10):
        put(outbox, frame(number))
        put(outbox, view(number))
    for _ in range(failures):
        outbox.failed(taken(outbox))
    assert drain(outbox) == [frame(7), frame(8), frame(9), view(7), view(8), view(9)]


def test_a_window_may_be_smaller_if_the_broker_says_so() -> None:
    outbox = Outbox()
    outbox.window = 2
    put(outbox, frame(1), frame(2), frame(3))
    assert [taken(outbox), taken(outbox)] == [parcel(1), parcel(2)]
    assert outbox.take(0) is None


def test_a_window_of_large_frames_is_full_before_it_has_all_its_places() -> None:
    """Or a vote on a slow line waits behind all of them."""
    outbox = Outbox()
    half = Publish("vote", bytes(WINDOW_BYTES // 2))
    put(outbox, half, half, Publish("vote", bytes(2 * WINDOW_BYTES)), frame(1))
    first = taken(outbox)
    assert outbox.take(0) is None, "with its topic it is more than half"
    outbox.sent(first)
    second = taken(outbox)
    outbox.sent(second)
    larger = taken(outbox)
    assert len(larger.publish.payload) > WINDOW_BYTES, "alone, it may be larger"
    assert outbox.take(0) is None
    outbox.sent(larger)
    assert outbox.bytes_taken == 0
    assert drain(outbox) == [frame(1)]


def test_large_frames_push_out_the_oldest_before_there_are_many() -> None:
    outbox = Outbox()
    large = [Publish("vote", bytes([number]) * (BYTES_MAX // 3)) for number in range(4)]
    put(outbox, *large)
    assert outbox.dropped == 2
    assert drain(outbox) == large[2:]


def test_what_the_broker_refuses_is_counted_and_not_tried_again() -> None:
    outbox = Outbox()
    put(outbox, frame(1), frame(2))
    outbox.refuse(taken(outbox))
    assert (outbox.refused, outbox.dropped, len(outbox)) == (1, 0, 1)
    assert drain(outbox) == [frame(2)]


def test_what_another_broker_has_said_long_since_is_dropped_and_all_else_waits() -> None:
    here, there = Outbox(), Outbox()
    for number in range(4):
        for letter in put(there, frame(number), at=number):
            here.put(letter)
    assert drain(there)[:3] == [frame(0), frame(1), frame(2)]
    put(here, frame(4), at=4)
    assert drain(here, now=FRESH_S + 1.5) == [frame(2), frame(3), frame(4)]
    assert (here.late, here.dropped) == (2, 0)


def test_what_no_broker_has_acknowledged_waits_for_whichever_comes_first() -> None:
    here, there = Outbox(), Outbox()
    for letter in put(there, frame(1), frame(2)):
        here.put(letter)
    there.failed(taken(there))
    assert drain(here, now=1000 * FRESH_S) == [frame(1), frame(2)]
    assert drain(there, now=1000 * FRESH_S) == []
    assert (there.late, there.dropped) == (2, 0)


async def test_a_full_box_of_what_others_have_said_is_no_overload() -> None:
    here, there = Outbox(frames_max=2), Outbox()
    for number in range(5):
        for letter in put(there, frame(number)):
            here.put(letter)
        drain(there)
    assert (here.late, here.dropped) == (3, 0)
    assert drain(here, now=2 * FRESH_S) == []
    assert await here.emptied(0)
