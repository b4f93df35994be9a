"""`demesh run` as a process: it runs, ends cleanly, and comes back after SIGKILL."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from cli.mesh import Board, Mesh
from transport.brokers import BROKERS, BrokerProcess, free_port

PATIENCE_S = 40

Document = dict[str, Any]


class Watcher:
    """What a person with mosquitto_sub sees: every observation, by device and topic."""

    def __init__(self, port: int) -> None:
        self.seen: list[tuple[str, Document]] = []
        self.places: list[tuple[tuple[str, str], Document]] = []
        self.gone: list[bytes] = []
        self._new: queue.Queue[None] = queue.Queue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain)

    def topics(self, name: str) -> tuple[str, str]:
        """Mesh and device as they stand in the topics of the board of that name."""
        return next(place for place, d in self.places if d.get("name") == name)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            left = end - time.monotonic()
            assert left > 0, f"not seen: {what}"
            try:
                self._new.get(timeout=min(left, 1))
            except queue.Empty:
                continue

    def last(self, topic: str, name: str) -> Document:
        """The last document of a topic from the board of that name."""
        return next((d for t, d in reversed(self.seen) if t == topic and d["name"] == name), {})

    def heights(self, board: Board) -> int:
        return int(self.last("state", board.name).get("height", -1))

    def _on_connect(self, client: paho.Client, *_: object) -> None:
        client.subscribe([("demesh/1/+/obs/#", 0), ("demesh/1/+/gone/+", 0)])

    def _on_message(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        levels = message.topic.split("/")
        if levels[3] == "gone":
            self.gone.append(message.payload)
        else:
            document = json.loads(message.payload)
            self.seen.append(("/".join(levels[5:]), document))
            self.places.append(((levels[2], levels[4]), document))
        self._new.put(None)


@pytest.fixture(params=BROKERS)
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrokerProcess]:
    process = BROKERS[request.param](tmp_path_factory.mktemp("broker"))
    process.start()
    yield process
    process.stop()


class Street:
    """The boards of a mesh as processes, ended one by one."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.running: dict[str, subprocess.Popen[str]] = {}

    def start(self, *boards: Board, file_bytes_max: int | None = None) -> None:
        for board in boards:
            self.running[board.name] = self.mesh.start(board, file_bytes_max)

    def end(self, board: Board, number: signal.Signals) -> int:
        process = self.running.pop(board.name)
        process.send_signal(number)
        return process.wait(PATIENCE_S)

    def kill_all(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait(PATIENCE_S)


@pytest.fixture
def street(tmp_path: Path, broker: BrokerProcess) -> Iterator[Street]:
    boards = Street(Mesh(tmp_path, broker.url))
    yield boards
    boards.kill_all()


@pytest.fixture
def watcher(broker: BrokerProcess) -> Iterator[Watcher]:
    watching = Watcher(broker.port)
    yield watching
    watching.close()


def test_an_unreachable_broker_ends_the_daemon_in_one_line_with_75(tmp_path: Path) -> None:
    port = free_port()
    mesh = Mesh(tmp_path, f"mqtt://127.0.0.1:{port}")
    process = mesh.start(mesh.boards[0])
    assert process.wait(PATIENCE_S) == 75
    lines = (mesh.boards[0].folder / "log.txt").read_text().splitlines()
    told = [line for line in lines if line.startswith("demesh: ")]
    assert len(told) == 1
    assert f"mqtt://127.0.0.1:{port}: no broker" in told[0]
    assert "Traceback" not in "".join(lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_cleanly_with_a_farewell_and_no_will(
    street: Street, watcher: Watcher, number: signal.Signals
) -> None:
    board = street.mesh.boards[0]
    street.start(board)
    watcher.until(lambda: bool(watcher.last("state", board.name)), "a state of the board")
    assert street.end(board, number) == 0
    watcher.until(lambda: bool(watcher.gone), "the farewell")
    assert len(watcher.gone) == 1
    log = (board.folder / "log.txt").read_text()
    assert "Traceback" not in log
    assert "connected to mqtt://" in log


def test_a_second_daemon_on_the_same_folder_is_refused_in_one_line(
    street: Street, watcher: Watcher
) -> None:
    board = street.mesh.boards[0]
    street.start(board)
    watcher.until(lambda: bool(watcher.last("state", board.name)), "a state of the board")
    done = street.mesh.demesh("run", "--config", str(board.config))
    assert done.returncode == 75
    assert done.stderr.count("\n") == 1
    assert "in use by another demesh" in done.stderr


def everybody_up(street: Street, watcher: Watcher) -> None:
    boards = street.mesh.boards
    watcher.until(
        lambda: all(len(watcher.last("state", b.name).get("up", ())) == 4 for b in boards),
        "everybody up, for everybody",
    )


def test_a_mesh_trades_and_a_killed_board_comes_back_with_its_ledger_and_goes_on(
    street: Street, watcher: Watcher
) -> None:
    boards = street.mesh.boards
    street.mesh.trade(boards[0], boards[1])
    street.start(*boards)
    everybody_up(street, watcher)
    watcher.until(lambda: all(watcher.heights(b) >= 4 for b in boards), "blocks, everywhere")
    for victim in (boards[2], boards[0], boards[1]):  # a bystander, the provider, the payer
        height = watcher.heights(victim)
        street.end(victim, signal.SIGKILL)
        street.start(victim)
        watcher.seen.clear()
        watcher.until(
            lambda victim=victim: bool(watcher.last("state", victim.name)), "the victim is back"
        )
        first = next(d for t, d in watcher.seen if t == "state" and d["name"] == victim.name)
        # Blocks are durable within a second: the last ones come back from its peers.
        assert first["height"] >= 1, "what was final came back from its own disk"
        watcher.until(
            lambda height=height: all(watcher.heights(b) > height + 2 for b in boards),
            "blocks go on, everywhere",
        )
    by_height = {(d["height"], d["root"]) for t, d in watcher.seen if t == "state"}
    assert len(by_height) == len({height for height, _ in by_height}), "one root per height"
    for board in boards:
        assert "Traceback" not in (board.folder / "log.txt").read_text()


def test_a_broker_that_is_killed_and_restarted_stops_nobody_for_good(
    street: Street, watcher: Watcher, broker: BrokerProcess
) -> None:
    boards = street.mesh.boards
    street.mesh.trade(boards[0], boards[1])
    street.start(*boards)
    everybody_up(street, watcher)
    watcher.until(lambda: all(watcher.heights(b) >= 1 for b in boards), "blocks, everywhere")
    height = max(watcher.heights(b) for b in boards)
    broker.stop(kill=True)
    broker.start()
    watcher.until(lambda: all(watcher.heights(b) > height + 2 for b in boards), "blocks go on")
    assert all(process.poll() is None for process in street.running.values())


def test_garbage_on_any_protocol_topic_is_counted_and_otherwise_ignored(
    street: Street, watcher: Watcher
) -> None:
    boards = street.mesh.boards
    street.start(*boards)
    everybody_up(street, watcher)
    mesh, victim = watcher.topics("board0")
    _, peer = watcher.topics("board1")
    junk = [b"", b"\xff", b"{}", bytes(300), b"\xd2\x84" + bytes(200), b"x" * 70_000]
    for area in ("vote", "op", "tip", "card", "gone", f"to/{victim}"):
        for sender in (peer, victim, "nobody", "a" * 300):
            for payload in junk:
                watcher.publish(f"demesh/1/{mesh}/{area}/{sender}", payload)
    watcher.publish(f"demesh/1/{mesh}/card/{peer}", b"retained junk", retain=True)

    def rejects() -> dict[str, int]:
        counted: dict[str, int] = watcher.last("state", "board0").get("rejects", {})
        return counted

    watcher.until(
        lambda: rejects().get("SHAPE", 0) >= 15 and rejects().get("SIZE", 0) >= 5,
        f"junk by reject code: {rejects()}",
    )
    assert all(process.poll() is None for process in street.running.values())
    for board in boards:
        assert "Traceback" not in (board.folder / "log.txt").read_text()


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_full_disk_ends_the_daemon_in_one_line_with_74_and_with_room_it_goes_on(
    street: Street, watcher: Watcher
) -> None:
    boards = street.mesh.boards
    street.mesh.trade(boards[0], boards[1])
    street.start(*boards[:3])
    street.start(boards[3], file_bytes_max=60_000)
    everybody_up(street, watcher)
    full = street.running.pop(boards[3].name)
    assert full.wait(PATIENCE_S) == 74
    log = (boards[3].folder / "log.txt").read_text()
    assert "Traceback" not in log
    (told,) = [line for line in log.splitlines() if line.startswith("demesh: ")]
    assert "votes.journal" in told or "ledger.db" in told
    watcher.seen.clear()
    street.start(boards[3])
    everybody_up(street, watcher)
    height = watcher.heights(boards[3])
    watcher.until(lambda: watcher.heights(boards[3]) > height, "blocks go on, on that board")


def test_a_daemon_ends_in_time_when_its_broker_answers_nothing_any_more(
    street: Street, watcher: Watcher, broker: BrokerProcess
) -> None:
    board = street.mesh.boards[0]
    street.start(board)
    watcher.until(lambda: bool(watcher.last("state", board.name)), "a state of the board")
    broker.freeze()
    begun = time.monotonic()
    assert street.end(board, signal.SIGTERM) == 0
    assert time.monotonic() - begun < 15
    broker.stop(kill=True)
