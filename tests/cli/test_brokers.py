"""Daemons with two brokers: one is killed in the midst of a decision, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from cli.mesh import Mesh
from cli.street import Document, Street, Watcher, everybody_up
from transport.brokers import BrokerProcess, embedded

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
