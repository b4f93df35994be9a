"""A daemon that finds its past gone everywhere takes over a later state and goes on by itself."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.mesh import Board, Mesh
from cli.test_run import Street, Watcher
from demesh.cli.main import main
from transport.brokers import BROKERS, BrokerProcess

# Every second block has a snapshot, so that a minute's trade prunes what comes before.
OFTEN = "\nfrom demesh import snapshots\n\nsnapshots.EVERY = 2\n"


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BROKERS["embedded"](tmp_path_factory.mktemp("broker"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def street(tmp_path: Path, broker: BrokerProcess) -> Iterator[Street]:
    boards = Street(Mesh(tmp_path, broker.url))
    yield boards
    boards.kill_all()


def stored(board: Board, query: str) -> list[tuple[int]]:
    with sqlite3.connect(f"file:{board.folder / 'data' / 'ledger.db'}?mode=ro", uri=True) as link:
        return link.execute(query).fetchall()


def test_a_fresh_daemon_takes_over_what_no_block_leads_to_any_more_and_votes(
    street: Street, broker: BrokerProcess, tmp_path: Path
) -> None:
    mesh, watcher = street.mesh, Watcher(broker.port)
    driver = mesh.plugins / "stilldriver.py"
    driver.write_text(driver.read_text() + OFTEN)
    *others, fresh = mesh.boards
    mesh.trade(others[0], others[1])
    street.start(*others)
    watcher.until(lambda: watcher.heights(others[2]) >= 9, "nine blocks without it")
    assert all(stored(board, "SELECT min(height) FROM blocks") > [(1,)] for board in others)
    street.start(fresh)
    watcher.until(lambda: watcher.heights(fresh) >= 9, "the fresh board at their height")
    watcher.until(lambda: bool(watcher.last("state", fresh.name)["voting"]), "its vote")
    log = (fresh.folder / "log.txt").read_text()
    assert "far behind: took over a later state from the others" in log
    assert "Traceback" not in log
    for board in (fresh, *others):
        assert street.end(board, signal.SIGTERM) == 0
    proof = tmp_path / "proof"
    place = ["--data", str(fresh.folder / "data"), "--genesis", str(mesh.folder / "genesis.cbor")]
    assert main(["ledger", "prove", *place, "--account", others[0].name, "-o", str(proof)]) == 0
    assert main(["ledger", "verify", *place[2:], str(proof)]) == 0
    watcher.close()
