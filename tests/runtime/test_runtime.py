"""The shell: the order of effects, one commit a turn, deadlines, failures and the end."""

from __future__ import annotations

import json
import logging
import time

import pytest

from demesh.errors import StorageError, TemporaryError
from demesh.ports import (
    MILLISECOND,
    SECOND,
    Actuate,
    Adopt,
    Effect,
    Fetch,
    Fetched,
    Input,
    Journal,
    Keep,
    Measured,
    Measurement,
    Observe,
    Publish,
    Received,
    Stopping,
    StoredBlock,
)
from demesh.runtime import TURN_MAX
from runtime.shell import Shell, until


def on_messages(effects: list[Effect]):  # type: ignore[no-untyped-def]
    def react(item: Input) -> list[Effect]:
        return effects if isinstance(item, Received) else []

    return react


async def test_effects_are_executed_in_the_order_persist_publish_actuate_observe() -> None:
    shell = Shell()
    effects: list[Effect] = [
        Observe("state", {"view": 3}),
        Actuate(b"flow", 5),
        Publish("vote", b"x"),
        Journal(b"vote"),
    ]
    shell.node.on = on_messages(effects)

    async def scenario() -> None:
        shell.send(b"in")
        await until(lambda: len(shell.record) == 4)

    await shell.run(scenario)
    assert shell.record == [
        ("commit", (Journal(b"vote"),)),
        ("publish", Publish("vote", b"x")),
        ("actuate", Actuate(b"flow", 5)),
        ("publish", Publish("obs/me/state", b'{"name":"me","view":3}', qos=0)),
    ]


async def test_a_turn_takes_many_inputs_and_commits_once() -> None:
    shell = Shell()
    shell.node.on = lambda item: [Journal(item.payload)] if isinstance(item, Received) else []

    async def scenario() -> None:
        shell.send(*[b"%d" % number for number in range(TURN_MAX + 10)])
        await until(lambda: len(shell.node.inputs) > TURN_MAX + 9)

    await shell.run(scenario)
    sizes = [len(entry) for _, entry in shell.named("commit") if isinstance(entry, tuple)]
    assert sum(sizes) == TURN_MAX + 10
    assert len(sizes) == 2


async def test_if_the_store_fails_nothing_of_that_turn_leaves_and_the_daemon_ends() -> None:
    shell = Shell()
    shell.node.on = on_messages([Journal(b"vote"), Publish("vote", b"x"), Actuate(b"f", 1)])
    shell.store.failure = StorageError("votes.journal: cannot be written: No space left on device")

    async def scenario() -> None:
        shell.send(b"in")
        await until(lambda: shell.store.closed)

    with pytest.raises(StorageError, match="No space left"):
        await shell.run(scenario)
    assert shell.record == []
    assert shell.transport.cancelled


async def test_a_failure_of_a_transport_ends_the_daemon_with_its_own_error() -> None:
    shell = Shell()

    async def scenario() -> None:
        shell.transport.fail(TemporaryError("mqtt://localhost:1: no broker"))
        await until(lambda: shell.store.closed)

    with pytest.raises(TemporaryError, match="no broker"):
        await shell.run(scenario)


async def test_our_own_fault_is_not_dressed_up_as_the_worlds() -> None:
    shell = Shell()

    def react(item: Input) -> list[Effect]:
        raise AssertionError("impossible")

    shell.node.on = react

    async def scenario() -> None:
        shell.send(b"in")
        await until(lambda: shell.store.closed)

    with pytest.raises(BaseExceptionGroup) as caught:
        await shell.run(scenario)
    assert caught.group_contains(AssertionError, match="impossible")


async def test_the_node_ticks_when_its_deadline_comes_and_not_before() -> None:
    shell = Shell()
    wanted = time.monotonic_ns() + 30 * MILLISECOND
    shell.node.next = wanted

    def tick(now: int) -> list[Effect]:
        shell.node.next = None
        return [Publish("vote", b"timeout")]

    shell.node.on_tick = tick

    async def scenario() -> None:
        await until(lambda: bool(shell.node.ticks))

    await shell.run(scenario)
    assert len(shell.node.ticks) == 1
    assert shell.node.ticks[0] >= wanted
    assert shell.record == [("publish", Publish("vote", b"timeout"))]


async def test_measurements_are_fed_to_the_node() -> None:
    shell = Shell()

    async def scenario() -> None:
        await until(lambda: len(shell.node.inputs) >= 2)

    await shell.run(scenario)
    assert shell.node.inputs[:2] == [Measured(Measurement(power_w=7))] * 2


async def test_a_device_that_cannot_be_read_is_told_once_and_read_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    shell = Shell()
    shell.device.failure = OSError("no answer on the bus")

    async def scenario() -> None:
        begun = time.monotonic()
        await until(lambda: time.monotonic() > begun + 0.2)
        shell.device.failure = None
        await until(lambda: any(isinstance(item, Measured) for item in shell.node.inputs))

    await shell.run(scenario)
    assert [record.getMessage() for record in caplog.records] == [
        "the device cannot be read: no answer on the bus; trying again"
    ]


async def test_a_fetch_is_answered_from_the_store() -> None:
    shell = Shell()
    shell.store.held = (StoredBlock(4, b"b4", None), StoredBlock(5, b"b5", b"c5"))
    shell.node.on = on_messages([Fetch(b"asker", 4, 1, 0)])

    async def scenario() -> None:
        shell.send(b"in")
        await until(lambda: any(isinstance(item, Fetched) for item in shell.node.inputs))

    await shell.run(scenario)
    assert Fetched(b"asker", (StoredBlock(4, b"b4", None),), b"c5") in shell.node.inputs


async def test_an_adopted_checkpoint_ends_the_run_and_nothing_else_of_its_turn_happens() -> None:
    shell = Shell()
    adopted = Adopt(8, b"checkpoint", (), (), ())
    shell.node.on = on_messages([Publish("vote", b"x"), adopted, Actuate(b"flow", 5)])

    async def scenario() -> None:
        shell.send(b"one", b"two", b"three")
        await until(lambda: shell.store.closed)
        assert shell.runtime.again

    await shell.run(scenario)
    assert shell.record == [("commit", (adopted,))]
    assert [item for item in shell.node.inputs if isinstance(item, Received)] == [
        Received("t/1", b"one")
    ], "the node is of the past: it is told no more"


@pytest.mark.parametrize("before", [True, False])
async def test_who_is_told_to_stop_in_the_turn_of_an_adoption_stops(before: bool) -> None:
    shell = Shell()
    shell.node.on = on_messages([Adopt(8, b"checkpoint", (), (), ())])

    async def scenario() -> None:
        shell.send(b"one")
        if not before:
            await until(lambda: shell.store.closed)

    await shell.run(scenario)
    assert shell.store.closed and not shell.runtime.again


async def test_a_run_that_was_stopped_does_not_begin_again() -> None:
    shell = Shell()

    async def scenario() -> None:
        shell.send(b"in")

    await shell.run(scenario)
    assert shell.store.closed and not shell.runtime.again


async def test_what_is_not_urgent_is_flushed_within_a_second_or_little_more() -> None:
    shell = Shell()
    shell.node.on = on_messages([Keep("space", b"k", b"v")])

    async def scenario() -> None:
        shell.store.pending = True
        begun = time.monotonic_ns()
        shell.send(b"in")
        await until(lambda: shell.store.flushed == 1)
        assert time.monotonic_ns() - begun < 2 * SECOND

    await shell.run(scenario)
    assert shell.store.flushed == 1


async def test_at_the_end_the_last_words_leave_and_the_store_is_closed() -> None:
    shell = Shell()
    shell.node.on = lambda item: (
        [Keep("s", b"k", b"v", urgent=True), Publish("end", b"bye")]
        if isinstance(item, Stopping)
        else []
    )

    async def scenario() -> None:
        return None

    await shell.run(scenario)
    assert [name for name, _ in shell.record] == ["commit", "publish"]
    assert shell.transport.stopped
    assert shell.transport.cancelled
    assert shell.store.closed


async def test_the_first_effects_are_executed_before_any_input() -> None:
    shell = Shell()
    shell.node.first = [Journal(b"boot"), Publish("card", b"c", retain=True)]

    async def scenario() -> None:
        await until(lambda: len(shell.record) == 2)

    await shell.run(scenario)
    assert [name for name, _ in shell.record] == ["commit", "publish"]


async def test_a_text_becomes_a_log_line_and_an_event_document(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    shell = Shell()
    shell.node.on = on_messages([Observe("decision", {"height": 4}, "decided block 4")])

    async def scenario() -> None:
        shell.send(b"in")
        await until(lambda: len(shell.record) == 2)

    await shell.run(scenario)
    decision, event = [entry for _, entry in shell.record]
    assert decision == Publish("obs/me/decision", b'{"name":"me","height":4}', qos=0)
    assert isinstance(event, Publish)
    assert (event.topic, event.qos, event.retain) == ("obs/me/event", 0, False)
    assert json.loads(event.payload)["text"] == "decided block 4"
    assert [record.getMessage() for record in caplog.records] == ["decided block 4"]


async def test_an_event_with_a_document_of_its_own_is_one_document() -> None:
    shell = Shell()
    shell.node.on = on_messages([Observe("event", {"text": "b2 is up", "who": "b2"}, "b2 is up")])

    async def scenario() -> None:
        shell.send(b"in")
        await until(lambda: bool(shell.record))

    await shell.run(scenario)
    (entry,) = shell.record
    assert isinstance(entry[1], Publish)
    document = json.loads(entry[1].payload)
    assert sorted(document) == ["at", "name", "text", "who"]


async def test_overflow_is_told_with_how_much_was_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    shell = Shell()

    async def scenario() -> None:
        shell.transport.dropped = 12
        await until(lambda: bool(shell.named("publish")))

    await shell.run(scenario)
    assert "dropped 0 incoming, 12 outgoing" in caplog.text


async def test_a_flood_that_nobody_read_is_told_with_its_size(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    shell = Shell()

    async def scenario() -> None:
        shell.transport.unread = 7
        await until(lambda: bool(shell.named("publish")))

    await shell.run(scenario)
    assert "flood: dropped 7 unread, for what comes at QoS 0 is not ours" in caplog.text
    assert "overloaded" not in caplog.text


async def test_a_broker_that_comes_up_is_shown_with_all_of_them() -> None:
    shell = Shell()

    async def scenario() -> None:
        shell.transport.up = True
        await until(lambda: bool(shell.named("publish")))

    await shell.run(scenario)
    ((_, publish),) = shell.named("publish")
    assert isinstance(publish, Publish)
    document = json.loads(publish.payload)
    assert (publish.topic, document["brokers"]) == ("obs/me/runtime", shell.transport.state())
    assert document["dropped_out"] == 0
