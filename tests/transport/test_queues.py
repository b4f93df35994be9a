"""The bounded queues: what waits, what is dropped when there is too much, and its count."""

from __future__ import annotations

import asyncio

import pytest

from demesh.ports import Admitted, Input, Linked, Measured, Measurement, Publish, Received, Stopping
from demesh.transport.inbox import Inbox
from demesh.transport.outbox import ATTEMPTS_MAX, WINDOW, Outbox, Parcel


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


def taken(outbox: Outbox) -> Parcel:
    parcel = outbox.take()
    assert parcel is not None
    return parcel


def drain(outbox: Outbox) -> list[Publish]:
    found = []
    while len(outbox):
        found.append(taken(outbox).publish)
        outbox.sent()
    assert outbox.take() is None
    return found


async def test_frames_leave_before_views_each_in_order() -> None:
    outbox = Outbox()
    for publish in (view(1), frame(1), view(2), frame(2)):
        outbox.put(publish)
    assert drain(outbox) == [frame(1), frame(2), view(1), view(2)]
    assert await outbox.emptied(0)


async def test_each_class_drops_its_own_oldest_and_counts_it() -> None:
    outbox = Outbox(frames_max=2, views_max=1)
    for number in range(4):
        outbox.put(frame(number))
        outbox.put(view(number))
    assert outbox.dropped == 5
    assert drain(outbox) == [frame(2), frame(3), view(3)]


async def test_a_frame_that_failed_is_next_again_until_it_was_tried_often_enough() -> None:
    outbox = Outbox()
    outbox.put(frame(1))
    outbox.put(frame(2))
    for attempt in range(ATTEMPTS_MAX):
        parcel = taken(outbox)
        assert parcel == Parcel(frame(1), attempt)
        outbox.failed(parcel)
    assert outbox.dropped == 1
    assert drain(outbox) == [frame(2)]


async def test_a_view_that_failed_is_gone_and_counted() -> None:
    outbox = Outbox()
    outbox.put(view(1))
    outbox.failed(taken(outbox))
    assert (len(outbox), outbox.dropped) == (0, 1)
    assert await outbox.emptied(0)


async def test_a_failed_frame_finds_no_room_in_a_full_box() -> None:
    outbox = Outbox(frames_max=2)
    outbox.put(frame(1))
    parcel = taken(outbox)
    outbox.put(frame(2))
    outbox.put(frame(3))
    outbox.failed(parcel)
    assert outbox.dropped == 1
    assert drain(outbox) == [frame(2), frame(3)]


async def test_it_is_not_empty_while_a_parcel_is_under_way() -> None:
    outbox = Outbox()
    outbox.put(frame(1))
    parcel = taken(outbox)
    assert not await outbox.emptied(0.001)
    outbox.failed(parcel)
    assert not await outbox.emptied(0.001)
    drain(outbox)
    assert await outbox.emptied(0)


def test_no_more_than_a_window_is_under_way_at_once() -> None:
    outbox = Outbox()
    for number in range(WINDOW + 1):
        outbox.put(frame(number))
    for number in range(WINDOW):
        assert taken(outbox) == Parcel(frame(number))
    assert outbox.take() is None
    outbox.sent()
    assert taken(outbox) == Parcel(frame(WINDOW))


def test_a_last_attempt_is_made_alone_so_that_nothing_is_given_up_for_another() -> None:
    outbox = Outbox()
    for number in range(3):
        outbox.put(frame(number))
    for attempt in range(ATTEMPTS_MAX - 1):
        parcels = [taken(outbox), taken(outbox)]
        assert parcels == [Parcel(frame(0), attempt), Parcel(frame(1), attempt)]
        for parcel in reversed(parcels):
            outbox.failed(parcel)
    assert taken(outbox) == Parcel(frame(0), ATTEMPTS_MAX - 1)
    assert outbox.take() is None, "beside a last attempt"
    outbox.sent()
    assert taken(outbox) == Parcel(frame(1), ATTEMPTS_MAX - 1)
    outbox.sent()
    assert taken(outbox) == Parcel(frame(2))
    outbox.put(frame(3))
    assert taken(outbox) == Parcel(frame(3))
    outbox.sent()
    outbox.sent()
    assert outbox.dropped == 0


def test_a_last_attempt_waits_until_nothing_else_is_under_way() -> None:
    outbox = Outbox()
    outbox.put(frame(0))
    for _ in range(ATTEMPTS_MAX - 1):
        outbox.failed(taken(outbox))
    parcel = taken(outbox)
    outbox.put(frame(1))
    assert outbox.take() is None
    outbox.failed(parcel)
    assert outbox.dropped == 1
    assert drain(outbox) == [frame(1)]
    outbox.put(frame(2))
    outbox.put(frame(3))
    first = taken(outbox)
    for _ in range(ATTEMPTS_MAX - 1):
        outbox.failed(taken(outbox))
    assert outbox.take() is None, "a last attempt, beside others"
    outbox.sent()
    assert taken(outbox) == Parcel(frame(3), ATTEMPTS_MAX - 1)
    assert first == Parcel(frame(2))


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_nothing_is_left_behind_whatever_is_dropped_or_tried_again(failures: int) -> None:
    outbox = Outbox(frames_max=3, views_max=3)
    for number in range(10):
        outbox.put(frame(number))
        outbox.put(view(number))
    for _ in range(failures):
        outbox.failed(taken(outbox))
    assert drain(outbox) == [frame(7), frame(8), frame(9), view(7), view(8), view(9)]
