"""Daemons with two brokers: one is killed in the midst of a decision, and nobody waits for it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest

from broker.papers import Papers, needs_openssl
from cli.mesh import Mesh
from cli.street import PATIENCE_S, Document, Street, Watcher, everybody_up, tip
from demesh.storage.keys import load_key
from demesh.wire import identity
from transport.brokers import BrokerProcess, embedded, free_port

# Decisions before, and after the loss.
SAMPLES = 12

# What the loss may add to a decision in the midst of which it happens: less than giving up on a
# leader (250 ms and more), so nobody was waited for.
ADDED_MS = 200


@pytest.fixture
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[BrokerProcess]]:
    both = [embedded(tmp_path_factory.mktemp("broker")) for _ in range(2)]
    for broker in both:
        broker.start()
    yield both
    for broker in both:
        broker.stop(kill=True)


@pytest.fixture
def street(tmp_path: Path, brokers: list[BrokerProcess]) -> Iterator[Street]:
    boards = Street(Mesh(tmp_path, ",".join(broker.url for broker in brokers)))
    yield boards
    boards.kill_all()


@pytest.fixture
def watchers(brokers: list[BrokerProcess]) -> Iterator[list[Watcher]]:
    both = [Watcher(broker.port) for broker in brokers]
    yield both
    for watcher in both:
        watcher.close()


def decisions(watcher: Watcher, name: str, since: int) -> list[Document]:
    """Those of a board above a height."""
    found = [d for t, d in watcher.seen if (t, d["name"]) == ("decision", name)]
    return [decision for decision in found if decision["height"] > since]


def height(watchers: list[Watcher]) -> int:
    """The highest that any of them has seen decided."""
    found = [d["height"] for w in watchers for t, d in w.seen if t == "decision"]
    return max(found, default=0)


def until(reached: Callable[[], bool], what: str) -> None:
    """Look again and again at what boards have on their disks."""
    end, nothing = time.monotonic() + PATIENCE_S, threading.Event()
    while not reached():
        assert time.monotonic() < end, f"not seen: {what}"
        nothing.wait(0.1)  # a disk tells nobody


def finality_ms(found: list[Document]) -> list[int]:
    return [d["finality_ms"] for d in found if d["finality_ms"] is not None]


def brokers_up(watcher: Watcher, name: str) -> list[bool]:
    return [broker["up"] for broker in watcher.last("runtime", name).get("brokers", [])]


def test_a_broker_lost_in_the_midst_of_a_decision_stops_and_delays_nobody(
    street: Street, brokers: list[BrokerProcess], watchers: list[Watcher]
) -> None:
    mesh, boards = street.mesh, street.mesh.boards
    mesh.trade(boards[0], boards[1])
    mesh.trade(boards[2], boards[3])
    street.start(*boards)
    everybody_up(street, watchers[1])
    name = boards[0].name
    for lost, kept in ((0, 1), (1, 0)):
        watcher = watchers[kept]
        watcher.until(
            lambda w=watcher: all(brokers_up(w, b.name) == [True, True] for b in boards),
            "everybody has both brokers",
        )
        since = height(watchers)
        watcher.until(
            lambda w=watcher, s=since: len(finality_ms(decisions(w, name, s))) >= SAMPLES,
            "decisions with both brokers",
        )
        before = finality_ms(decisions(watcher, name, since))
        watcher.hear_votes()
        heard = watcher.votes
        watcher.until(lambda w=watcher, h=heard: w.votes > h, "a vote: a decision is under way")
        since = height(watchers)
        brokers[lost].stop(kill=True)
        watcher.until(
            lambda w=watcher, s=since: len(finality_ms(decisions(w, name, s))) >= SAMPLES,
            "decisions with one of them",
        )
        after = finality_ms(decisions(watcher, name, since))
        print(f"finality, ms: before {sorted(before)}, after {sorted(after)}")
        assert max(after) < max(before) + ADDED_MS
        assert median(after) < 3 * median(before) + 20
        watcher.until(
            lambda w=watcher, k=lost: all(brokers_up(w, b.name)[k] is False for b in boards),
            "everybody says which broker is lost",
        )
        brokers[lost].start()
    for board in boards:
        assert "Traceback" not in street.log(board)
        assert "no quorum" not in street.log(board)


@needs_openssl
def test_a_mesh_with_logins_and_tls_at_two_brokers_decides_on_when_one_is_lost(
    tmp_path: Path,
) -> None:
    """The brokers that come with demesh, with nothing but certificate and accounts."""
    papers, passwords = Papers(tmp_path / "papers"), tmp_path / "passwords"
    ports = free_port(), free_port()
    street = Street(Mesh(tmp_path, ",".join(f"mqtts://127.0.0.1:{port}" for port in ports)))
    mesh, boards = street.mesh, street.mesh.boards
    for board in boards:
        key = load_key(board.folder / "device.key")
        id = identity.text(identity.device_id(bytes(key.verify_key)))
        secret = board.folder / "broker.password"
        words = ("broker", "account", "add", id, "--passwords", str(passwords), "-o", str(secret))
        done = mesh.demesh(*words)
        assert done.returncode == 0, done.stderr
        mesh.configure(
            board,
            mesh.url,
            f'username = "{id}"\npassword_file = "broker.password"\n'
            f'ca_file = "{papers.authority}"\nwait_s = 20',
        )
    mesh.trade(boards[0], boards[1])
    flags = ["--certificate", papers.certificate, "--key", papers.key, "--passwords", passwords]
    command = [sys.executable, "-m", "demesh", "broker", *map(str, flags), "--listen"]
    brokers = [BrokerProcess([*command, f"mqtts://127.0.0.1:{port}"], port) for port in ports]
    try:
        for broker in brokers:
            broker.start()
        street.start(*boards)
        until(lambda: min(map(tip, boards)) >= 3, "blocks, everywhere")
        until(
            lambda: all(street.log(board).count("connected to mqtts://") == 2 for board in boards),
            "everybody has both brokers",
        )
        height = max(map(tip, boards))
        brokers[0].stop(kill=True)
        until(lambda: min(map(tip, boards)) > height + 3, "blocks go on, everywhere")
    finally:
        street.kill_all()
        for broker in brokers:
            broker.stop(kill=True)
    for board in boards:
        log = street.log(board)
        assert (
            log.count("(MQTT 5)") == 2 and f"lost the broker at mqtts://127.0.0.1:{ports[0]}" in log
        ), log
        assert "does not take" not in log and "Traceback" not in log, log
