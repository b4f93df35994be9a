"""`demesh run` as a process: it runs, ends cleanly, and comes back after SIGKILL."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.mesh import Mesh
from cli.street import PATIENCE_S, Street, Watcher, everybody_up
from transport.brokers import BROKERS, BrokerProcess, free_port


@pytest.fixture(params=BROKERS)
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrokerProcess]:
    process = BROKERS[request.param](tmp_path_factory.mktemp("broker"))
    process.start()
    yield process
    process.stop()


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
