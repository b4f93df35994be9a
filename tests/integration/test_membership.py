"""Owners change a mesh of processes with `demesh member`, while it trades and a board is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cli.mesh import Board, Mesh
from cli.test_run import PATIENCE_S, Street, Watcher
from demesh.cli.run import read_genesis
from demesh.storage.sqlite import Reader
from demesh_sim.audit import audit
from transport.brokers import BrokerProcess, embedded

pytestmark = pytest.mark.xdist_group("street")  # one street at a time: they need the cores

OWNERS = ("anna", "boris", "cem")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    process = embedded(tmp_path)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def street(tmp_path: Path, broker: BrokerProcess) -> Iterator[Street]:
    boards = Street(Mesh(tmp_path, broker.url, owners=OWNERS))
    yield boards
    boards.kill_all()


@pytest.fixture
def watcher(broker: BrokerProcess) -> Iterator[Watcher]:
    watching = Watcher(broker.port)
    yield watching
    watching.close()


def member(mesh: Mesh, *words: str | Path) -> list[str]:
    """What `demesh member` says when all is well."""
    done = mesh.demesh("member", *map(str, words))
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.splitlines()


def approved(mesh: Mesh, *owners: str) -> list[str | Path]:
    return [word for owner in owners for word in ("--owner-key", mesh.owner_key(owner))]


def a_new_board(mesh: Mesh) -> Board:
    """A fifth board of cem's, with keys and certificate as the owner makes them."""
    board = Board("attic", mesh.folder / "attic")
    board.folder.mkdir()
    mesh.configure(board, mesh.url)
    text = board.config.read_text().replace('"attic"\n', '"attic"\ncertificate = "paper"\n')
    board.config.write_text(text)
    member(mesh, "keys", "--config", board.config)
    member(
        mesh, "certify", *approved(mesh, "cem"), "--name", "attic", "--class", "meter",
        "--device-key", board.folder / "device.key", "--vote-key", board.folder / "vote.key",
        "-o", board.folder / "paper",
    )  # fmt: skip
    return board


def test_a_new_board_is_given_a_vote_and_another_a_new_key_while_the_mesh_trades(
    street: Street, watcher: Watcher
) -> None:
    mesh = street.mesh
    boards = [*mesh.boards, a_new_board(mesh)]
    first, victim, renewed, attic = mesh.boards[0], mesh.boards[2], mesh.boards[3], boards[4]
    mesh.trade(mesh.boards[0], mesh.boards[1])
    street.start(*boards)

    def votes_in(epoch: int, *who: Board) -> bool:
        states = [watcher.last("state", board.name) for board in who]
        return all(s.get("epoch") == epoch and s.get("voting") for s in states)

    def further(blocks: int = 5) -> None:
        goal = max(watcher.heights(board) for board in boards) + blocks
        watcher.until(
            lambda: all(watcher.heights(board) >= goal for board in street_boards()), "more blocks"
        )

    def street_boards() -> list[Board]:
        return [board for board in boards if board.name in street.running]

    watcher.until(lambda: votes_in(0, *mesh.boards), "the founders vote")
    watcher.until(lambda: watcher.heights(attic) > 4, "the guest listens")
    log = (attic.folder / "log.txt").read_text()
    assert "not a member of street yet: listening; its owners take it in with" in log

    asking = subprocess.Popen(
        [
            sys.executable, "-m", "demesh", "member", "set", "attic",
            "--config", first.config, "--certificate", attic.folder / "paper",
            "--weight", "1", *approved(mesh, "anna", "boris"),
        ],
        env=mesh.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    street.end(victim, signal.SIGKILL)
    said, complaint = asking.communicate(timeout=PATIENCE_S)
    assert (asking.returncode, complaint) == (0, "")
    assert said.startswith("from epoch 1 on: attic of cem votes with weight 1 of 5, as key ")
    assert said.endswith("; a decision takes 4\n")
    watcher.until(lambda: votes_in(1, attic), "the new board votes")
    further()
    street.start(victim)
    watcher.until(lambda: votes_in(1, *boards), "the killed board votes in the new epoch")

    said_of_key = member(
        mesh, "renew-vote-key", "--config", renewed.config, *approved(mesh, "anna")
    )
    assert said_of_key[0].startswith("from epoch 2 on: board3 of anna votes with weight 1 of 5")
    assert said_of_key[-1].startswith("restart the daemon of board3 now")
    others = [board for board in boards if board is not renewed]
    watcher.until(lambda: votes_in(2, *others), "the others go on in the next epoch")
    assert not votes_in(2, renewed)
    assert street.end(renewed, signal.SIGTERM) == 0
    street.start(renewed)
    watcher.until(lambda: votes_in(2, *boards), "it votes with its new key")
    further()

    listed = member(mesh, "list", "--config", attic.config)
    assert "epoch 2: 5 of 5 members vote, with weight 5; a decision takes 4" in listed[0]
    assert [line.split()[:4] for line in listed if "attic" in line] == [["attic", "cem", "1", "1"]]

    for board in boards:
        assert street.end(board, signal.SIGTERM) == 0
    genesis, mesh_id = read_genesis(mesh.folder / "genesis.cbor")
    with ExitStack() as stack:
        books = {}
        for board in boards:
            books[board.name] = Reader(board.folder / "data" / "ledger.db", mesh_id)
            stack.callback(books[board.name].close)
        found = audit(genesis, books)
    assert (found.faults, found.sum, found.roots_agree) == ((), 0, True)
    assert found.channels_settled > 0
    assert {total for _, total in found.sums} == {0}
    balances = {name for balance in found.balances for name, _ in balance.accounts}
    assert "attic" in balances
    logs = "".join((board.folder / "log.txt").read_text() for board in boards)
    assert "Traceback" not in logs
