"""`demesh member` as owners use it: what it makes, what it refuses, and what it says."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.mesh import Mesh
from demesh.cli import renewal
from demesh.cli.main import main
from demesh.cli.members import read_mesh
from demesh.cli.run import read_certificate
from demesh.ledger.ops import SignedOp
from demesh.ledger.state import Result
from demesh.ports import StoreBlock
from demesh.storage.durable import sync_folder
from demesh.storage.keys import create_key, load_key
from demesh.storage.sqlite import Database
from demesh.wire import statements
from demesh.wire.opbodies import SetMember
from demesh_consensus import Block, Certificate, Statement, StatementKind
from transport.brokers import free_port

OWNERS = ("anna", "boris", "cem")


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path, f"mqtt://127.0.0.1:{free_port()}", owners=OWNERS)


class Tool:
    """`demesh member` on the first board of a mesh whose daemons do not run."""

    def __init__(self, mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
        self.mesh, self._capsys = mesh, capsys
        self.config = mesh.boards[0].config

    def __call__(self, *words: str | Path) -> tuple[int, str]:
        """Exit code, and all that was said."""
        code = main(["member", *map(str, words)])
        output, errors = self._capsys.readouterr()
        assert len(errors.splitlines()) <= 1
        return code, output + errors

    def set(self, name: str, *words: str | Path, by: tuple[str, ...] = OWNERS) -> tuple[int, str]:
        keys = [word for owner in by for word in ("--owner-key", self.mesh.owner_key(owner))]
        return self("set", name, "--config", self.config, *keys, *words)


@pytest.fixture
def tool(mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> Tool:
    return Tool(mesh, capsys)


def test_members_are_listed_by_owner_before_the_first_block_as_founded(tool: Tool) -> None:
    code, said = tool("list", "--config", tool.config)
    lines = said.splitlines()
    assert code == 0
    assert lines[0] == (
        "street after block 0, epoch 0: 4 of 4 members vote, with weight 4; a decision takes 3"
    )
    assert lines[1].split() == ["NAME", "OWNER", "WEIGHT", "CHANGES", "DEVICE", "VOTE", "KEY"]
    assert [line.split()[:4] for line in lines[2:]] == [
        ["board0", "anna", "1", "0"],
        ["board3", "anna", "1", "0"],
        ["board1", "boris", "1", "0"],
        ["board2", "cem", "1", "0"],
    ]


# -- what is missing or wrong, before anything is published ----------------------------------------


def test_too_few_owners_are_named_with_those_who_may_help(tool: Tool) -> None:
    assert tool.set("board1", "--weight", "2", by=("boris",)) == (
        76,
        "demesh: 2 of 3 owners must approve, 1 did (boris): add --owner-key of anna or cem\n",
    )


def test_a_new_vote_key_needs_the_devices_own_owner(tool: Tool, tmp_path: Path) -> None:
    create_key(tmp_path / "new.key")
    words = ("--vote-key", tmp_path / "new.key")
    code, said = tool.set("board1", *words, by=("anna", "cem"))
    assert code == 76 and "board1 belongs to boris, who must sign for its new vote key" in said
    code, said = tool.set("board1", *words, by=("boris",))
    assert code == 75 and "no daemon runs on" in said  # all else is good


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("board1",), 76, "board1 has just this certificate, vote key and weight 1 already"),
        (("bord1", "--weight", "2"), 78, "no device called bord1; did you mean board1?"),
        (("x", "--weight", "2"), 78, "there are board0, board1, board2, board3; a new one needs"),
        (("board1", "--weight", "-1"), 78, "--weight -1 is outside 0..4294967295"),
        (("board1", "--weight", "4294967295"), 76, "together would be above 4294967295"),
        (("board1", "--vote-key", "12"), 77, "12: no key file, and no public key of 64"),
        (("board1", "--vote-key", "ff" * 32), 77, "not an Ed25519 public key"),
        (("board1", "--certificate", "none"), 78, "the certificate cannot be read"),
        (("board1", "--weight", "2"), 75, "no daemon runs on"),
    ],
)
def test_a_mistake_is_one_line_and_its_code(
    tool: Tool, words: tuple[str, ...], code: int, said: str
) -> None:
    done = tool.set(*words)
    assert (done[0], said in done[1]) == (code, True), done


def test_keys_that_are_no_owners_keys_or_given_twice_or_open_to_others(
    tool: Tool, mesh: Mesh
) -> None:
    words = ("set", "board1", "--weight", "2", "--config", tool.config, "--owner-key")
    code, said = tool(*words, mesh.boards[0].folder / "device.key")
    assert code == 77 and "not the key of an owner of street, who are anna, boris, cem" in said
    code, said = tool(*words, mesh.owner_key("anna"), "--owner-key", mesh.owner_key("anna"))
    assert code == 77 and "the key of anna is given twice" in said
    mesh.owner_key("cem").chmod(0o644)
    code, said = tool(*words, mesh.owner_key("cem"))
    assert code == 77 and "chmod 600" in said
    code, said = tool(*words, mesh.folder / "nobody.key")
    assert code == 77 and "--owner-key takes the private key of an owner" in said


def test_a_key_that_somebody_else_has_is_refused(tool: Tool, mesh: Mesh) -> None:
    taken = mesh.boards[2].folder / "vote.key"
    code, said = tool.set("board1", "--vote-key", taken)
    assert code == 76 and "board1 needs keys of its own" in said


# -- new devices -----------------------------------------------------------------------------------


def test_keys_and_certificate_of_a_new_device_are_made_step_by_step(tool: Tool, mesh: Mesh) -> None:
    place = mesh.folder / "attic"
    place.mkdir()
    config = place / "demesh.toml"
    config.write_text(
        tool.config.read_text().replace('"board0"\n', '"attic"\ncertificate = "paper"\n')
    )
    code, said = tool("keys", "--config", config)
    assert code == 0
    again = tool("keys", "--config", config)[1]
    assert said.replace("made;", "was there already;") == again
    assert stat.S_IMODE((place / "vote.key").stat().st_mode) == 0o600

    words = [word for line in said.splitlines()[3:] for word in line.split() if word != "\\"]
    assert words[:2] == ["demesh", "member"]
    words[words.index("FILE")] = str(mesh.owner_key("cem"))
    words[words.index("-o") + 1] = str(place / "paper")
    code, said = tool(*words[2:])
    assert code == 0 and "certificate of attic (meter)" in said
    done = mesh.demesh("run", "--config", str(config), "--check-config")
    assert (done.returncode, done.stderr) == (0, "")

    code, said = tool.set("attic", "--certificate", place / "paper", by=("anna",))
    assert code == 76 and "2 of 3 owners must approve" in said
    code, said = tool.set("board1", "--certificate", place / "paper")
    assert code == 78 and "is the certificate of attic, not of board1" in said
    code, said = tool.set("attic", "--certificate", place / "paper", by=("anna", "boris"))
    assert code == 75 and "no daemon runs on" in said


def test_a_certificate_of_somebody_who_owns_nothing_here_is_refused(tool: Tool, mesh: Mesh) -> None:
    create_key(mesh.folder / "stranger.key")
    paper = mesh.folder / "paper"
    keys = [create_key(mesh.folder / name) for name in ("d.key", "v.key")]
    made = tool(
        "certify", "--owner-key", mesh.folder / "stranger.key", "--name", "attic", "--class", "m",
        "--device-key", bytes(keys[0].verify_key).hex(), "--vote-key", mesh.folder / "v.key",
        "-o", paper,
    )  # fmt: skip
    assert made[0] == 0
    code, said = tool.set("attic", "--certificate", paper)
    assert code == 76 and "not by its owner, or by no owner of street" in said


# -- a vote key, and power cuts between the steps --------------------------------------------------


class Cut(BaseException):
    """The power goes."""


class Power:
    """Goes before the step of this number; steps are those that reach the disk or the mesh."""

    def __init__(self, cut_at: int) -> None:
        self._left = cut_at

    def step(self) -> None:
        if self._left == 0:
            self._left = -1
            raise Cut
        self._left -= 1

    def before(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def cut_before(*given: Any, **more: Any) -> Any:
            self.step()
            return step(*given, **more)

        return cut_before


def decide(config: Path, body: SetMember) -> None:
    """The mesh decides a change, and the device's ledger has it."""
    mesh = read_mesh(config)
    op = SignedOp(bytes(32), mesh.ledger.members()[0][0], mesh.ledger.time_s + 60, body)
    applied = mesh.ledger.apply((op,), mesh.ledger.time_s, lambda _: None)
    assert applied.results == (Result.OK,)
    block = Block(0, 1, 0, mesh.id, 1, mesh.ledger.time_s, (), applied.ledger.root, applied.closing)
    statement = Statement(StatementKind.FINALIZE, 0, 1, statements.digest_of(block))
    final = statements.encode_final(Certificate(statement, ((0, bytes(64)),)), ())
    data = mesh.folder / mesh.config.device.data
    data.mkdir(exist_ok=True)
    database = Database(data / "ledger.db", mesh.id)
    database.write([StoreBlock(1, statements.encode_block(block), final, applied.changes)])
    database.close()


def vote_keys(folder: Path) -> dict[str, bytes]:
    """Public keys by file."""
    found = sorted(folder.glob("vote.key*"))
    return {path.name: bytes(load_key(path).verify_key) for path in found}


CUTS = range(9)  # the last one comes after the end


@pytest.mark.parametrize("cut_at", CUTS)
def test_after_a_power_cut_the_key_on_record_is_there_and_the_command_goes_on(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cut_at: int
) -> None:
    board, power, decided = mesh.boards[0], Power(cut_at), []

    def submit(config: Path, known: object, body: SetMember) -> list[str]:
        power.step()
        decide(config, body)
        decided.append(body.certificate.vote_key)
        power.step()
        return ["from epoch 1 on: so it is"]

    old = vote_keys(board.folder)["vote.key"]
    monkeypatch.setattr(renewal, "submit", submit)
    monkeypatch.setattr(renewal, "create_key", power.before(create_key))
    monkeypatch.setattr(renewal, "sync_folder", power.before(sync_folder))
    monkeypatch.setattr(os, "link", power.before(os.link))
    monkeypatch.setattr(Path, "replace", power.before(Path.replace))
    cut = False
    try:
        renewal.renew(board.config, [mesh.owner_key("anna")])
    except Cut:
        cut = True
    assert cut is (cut_at != CUTS[-1])
    known = read_mesh(board.config).named("board0")
    assert known is not None
    kept = vote_keys(board.folder)
    assert {known[1].certificate.vote_key, old} <= set(kept.values())
    if kept["vote.key"] == old:  # else the new one is where it belongs
        assert renewal.renew(board.config, [mesh.owner_key("anna")]) == 0
        assert "restart the daemon of board0 now" in capsys.readouterr().out
    assert vote_keys(board.folder) == {"vote.key": decided[0], "vote.key.retired-1": old}
    assert len(decided) == 1, "one change is enough"


def test_only_a_member_renews_and_only_its_owner(tool: Tool) -> None:
    words = ("renew-vote-key", "--config", tool.config, "--owner-key")
    code, said = tool(*words, tool.mesh.owner_key("boris"))
    assert code == 76 and "board0 belongs to anna, who must sign for its new vote key" in said
    code, said = tool(*words, tool.mesh.owner_key("anna"))
    assert code == 75 and "no daemon runs on" in said
    text = tool.config.read_text()
    tool.config.write_text(text.replace('"board0"', '"board9"'))
    code, said = tool(*words, tool.mesh.owner_key("anna"))
    assert code == 78 and "board9 is no member of street" in said


def test_a_certificate_survives_its_file(tool: Tool, mesh: Mesh) -> None:
    create_key(mesh.folder / "d.key")
    create_key(mesh.folder / "v.key")
    tool(
        "certify", "--owner-key", mesh.owner_key("cem"), "--name", "attic", "--class", "meter",
        "--device-key", mesh.folder / "d.key", "--vote-key", mesh.folder / "v.key",
        "-o", mesh.folder / "paper",
    )  # fmt: skip
    read = read_certificate(mesh.folder / "paper")
    assert (read.name, read.device_class) == ("attic", "meter")
    (mesh.folder / "paper").write_bytes(b"torn")
    code, said = tool.set("attic", "--certificate", mesh.folder / "paper")
    assert code == 78 and "not a certificate of a device" in said
