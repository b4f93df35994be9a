"""`demesh broker` with accounts: a mesh decides over it, and nobody speaks for another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.papers import Papers, needs_openssl
from cli.mesh import Board, Mesh
from cli.test_run import Street
from demesh.broker import passwords
from demesh.wire import identity
from demesh.wire.topics import VIEWER
from integration.callers import (
    SPOOFS,
    Answer,
    calling,
    check_letters,
    check_retained_spoof,
    check_spoof,
    check_take_over,
    check_will_spoof,
)
from integration.decisions import Viewer, check_decisions, login_of
from integration.kit import Door, passwords_for

ANNA, BORIS, CAROL = (identity.text(bytes([number] * 16)) for number in (1, 2, 3))

START_S = 20


@contextmanager
def running(*words: str | Path) -> Iterator[tuple[int, ...]]:
    """`demesh broker` with these flags, as many as its `--listen`; the ports it listens on."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demesh", "broker", *map(str, words)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for word in words if word == "--listen"]
        yield tuple(int(line.rpartition(":")[2]) for line in lines)
    finally:
        process.terminate()
        process.wait(START_S)
        process.stdout.close()


def write_accounts(path: Path, logins: Mapping[str, str]) -> None:
    """A password file with passwords that the test knows."""
    secrets = (
        (name, passwords.make(word.encode(), os.urandom(12))) for name, word in logins.items()
    )
    path.write_text("".join(passwords.line(name, secret) for name, secret in secrets))
    path.chmod(0o600)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A broker with an account for each; without an ACL file, so the rights of a mesh hold."""
    path = tmp_path_factory.mktemp("embedded") / "passwords"
    logins = passwords_for((ANNA, BORIS, CAROL))
    write_accounts(path, logins)
    with running("--listen", "mqtt://127.0.0.1:0", "--passwords", path) as (port,):
        yield Door(port, logins, 5)


@pytest.fixture(params=(4, 5), ids=("3.1.1", "5"))
def door(broker: Door, request: pytest.FixtureRequest) -> Door:
    return Door(broker.port, broker.passwords, request.param)


@pytest.mark.parametrize("area", SPOOFS)
def test_what_a_device_says_in_anothers_name_reaches_nobody(door: Door, area: str) -> None:
    told = check_spoof(door, area, ANNA, BORIS, CAROL)
    assert told is (Answer.REFUSED if door.level == 5 else Answer.TAKEN)


def test_nothing_retained_is_left_or_taken_away_in_anothers_name(door: Door) -> None:
    check_retained_spoof(door, ANNA, BORIS, CAROL)


def test_who_leaves_a_will_in_anothers_name_is_not_let_in(door: Door) -> None:
    assert not check_will_spoof(door, ANNA, BORIS, CAROL)


def test_letters_reach_who_they_are_for_and_nobody_else(door: Door) -> None:
    assert check_letters(door, ANNA, BORIS, CAROL) == {Answer.REFUSED}


@pytest.mark.parametrize(
    ("login", "password"), [(None, None), (ANNA, "wrong"), ("", ""), ("x", "x"), ("+", "x")]
)
def test_who_has_no_login_is_refused(door: Door, login: str | None, password: str | None) -> None:
    with calling(door, login, password=password) as caller:
        assert not caller.connected


def test_who_comes_with_anothers_client_id_is_refused_and_cuts_nobody_off(door: Door) -> None:
    assert check_take_over(door, ANNA, BORIS, CAROL) == (False, False)


@needs_openssl
@pytest.mark.xdist_group("street")  # one street at a time: they need the cores
def test_four_daemons_decide_and_trade_over_tls_with_accounts_made_by_the_command(
    tmp_path: Path,
) -> None:
    mesh, accounts = Mesh(tmp_path, "mqtt://127.0.0.1:1"), tmp_path / "accounts"
    papers = Papers(tmp_path / "papers")
    for board in mesh.boards:
        make_account(mesh, accounts, login_of(board), board.folder / "broker.password")
    make_account(mesh, accounts, VIEWER, tmp_path / "view.password")
    flags = ("--listen", "mqtts://127.0.0.1:0", "--listen", "mqtt://127.0.0.1:0")
    flags += ("--passwords", str(accounts), "--data", str(tmp_path / "data"))
    with running(*flags, "--certificate", papers.certificate, "--key", papers.key) as ports:
        secure, plain = ports
        for board in mesh.boards:
            lead_to(mesh, board, f"mqtts://localhost:{secure}", papers)
        mesh.trade(mesh.boards[0], mesh.boards[1])
        word = (tmp_path / "view.password").read_text().strip()
        viewer, street = Viewer(Door(plain, {VIEWER: word}, 5)), Street(mesh)
        try:
            street.start(*mesh.boards)
            check_decisions(street, viewer)
        finally:
            street.kill_all()
            viewer.close()


def make_account(mesh: Mesh, accounts: Path, login: str, output: Path) -> None:
    words: Iterable[str] = ("add", login, "--passwords", str(accounts), "-o", str(output))
    done = mesh.demesh("broker", "account", *words)
    assert done.returncode == 0, done.stderr


def lead_to(mesh: Mesh, board: Board, url: str, papers: Papers) -> None:
    """Write a board's configuration for this address, whose authority it knows."""
    mesh.configure(
        board,
        url,
        f'username = "{login_of(board)}"\npassword_file = "broker.password"\n'
        f'ca_file = "{papers.authority}"\nwait_s = 20',
    )
