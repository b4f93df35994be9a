"""`demesh account` and `demesh transfer`: what they show, refuse and say, without any daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.mesh import Mesh
from demesh.cli.amounts import amount_of
from demesh.cli.main import main
from demesh.cli.members import read_mesh
from demesh.cli.results import SENTENCES
from demesh.errors import ConfigError
from demesh.ledger.ops import SignedOp
from demesh.ledger.state import AMOUNT_MAX, Result
from demesh.ports import StoreBlock
from demesh.report import credits_text
from demesh.storage.sqlite import Database
from demesh.wire import identity, statements
from demesh.wire.opbodies import OpBody, OpenChannel, Transfer
from demesh_consensus import Block, Certificate, Statement, StatementKind
from transport.brokers import free_port


class Tool:
    """The command line on the first board of a mesh whose daemons do not run."""

    def __init__(self, mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
        self.mesh, self._capsys = mesh, capsys
        self.config = mesh.boards[0].config

    def __call__(self, *words: str | Path) -> tuple[int, str]:
        """Exit code, and all that was said."""
        code = main([*map(str, words), "--config", str(self.config)])
        output, errors = self._capsys.readouterr()
        assert len(errors.splitlines()) <= 1
        return code, output + errors

    def id(self, name: str) -> bytes:
        mesh = read_mesh(self.config)
        owners = {owner.name: id for id, owner in mesh.ledger.owners()}
        found = mesh.named(name)
        return owners[name] if found is None else found[0]

    def decide(self, *asked: tuple[str, OpBody]) -> None:
        """One block with these ops, which must be done, in the board's data folder."""
        mesh = read_mesh(self.config)
        time_s = mesh.ledger.time_s + 1
        ops = [
            SignedOp(bytes([n]) * 32, self.id(signer), time_s + 60, body)
            for n, (signer, body) in enumerate(asked, 1)
        ]
        done = mesh.ledger.apply(ops, time_s, lambda _: None)
        assert set(done.results) == {Result.OK}
        block = Block(0, 1, 0, mesh.id, 1, time_s, (), done.ledger.root, done.closing)
        statement = Statement(StatementKind.FINALIZE, 0, 1, statements.digest_of(block))
        final = statements.encode_final(Certificate(statement, ((0, bytes(64)),)), ())
        data = mesh.folder / mesh.config.device.data
        data.mkdir()
        database = Database(data / "ledger.db", mesh.id)
        database.write([StoreBlock(1, statements.encode_block(block), final, done.changes)])
        database.close()


@pytest.fixture
def tool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tool:
    url = f"mqtt://127.0.0.1:{free_port()}"
    return Tool(Mesh(tmp_path, url, owners=("anna", "boris")), capsys)


# -- what everybody has ----------------------------------------------------------------------------


def cells(said: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in said.splitlines()[2:]}


def test_all_accounts_are_listed_with_what_they_have_and_may_spend(tool: Tool) -> None:
    anna, board1 = tool.id("anna"), tool.id("board1")
    opened = OpenChannel(board1, 3_000_000, 1_700_003_600, 3_600, bytes(16), ())
    tool.decide(("board0", Transfer(anna, 2_500_000)), ("board0", opened))
    code, said = tool("account")
    lines = said.splitlines()
    assert (code, lines[0]) == (0, "street after block 1, in credits:")
    rows = cells(said)
    assert list(rows) == ["anna", "board0", "board2", "boris", "board1", "board3", "commons"]
    assert rows["anna"][:6] == ["owner", "anna", "2.50", "2.50", "0.00", "0.00"]
    assert rows["board0"][:6] == ["device", "anna", "-5.50", "994.50", "-1000.00", "3.00"]
    assert rows["board1"][-1] == identity.text(board1)


def test_one_account_is_shown_with_its_channels_by_name_or_id(tool: Tool) -> None:
    board1 = tool.id("board1")
    opened = OpenChannel(board1, 3_000_000, 1_700_003_600, 3_600, bytes(16), ())
    tool.decide(("board0", opened))
    code, said = tool("account", identity.text(board1))
    assert (code, list(cells(said))) == (0, ["board1", "is"])
    line = said.splitlines()[-1]
    assert line.startswith("is paid by board0 on channel ")
    assert "3.00 escrowed, 0.00 claimed, settles by mesh time 2023-11-15 00:13:20 UTC" in line
    assert "pays board1 on channel" in tool("account", "board0")[1]
    assert "no open channels" in tool("account", "commons")[1]


def test_programs_get_integers_and_ids(tool: Tool) -> None:
    tool.decide(("board0", Transfer(tool.id("anna"), 1)))
    code, said = tool("account", "board0", "--json")
    document = json.loads(said)
    assert (code, document["height"], document["mesh"]) == (0, 1, "street")
    (account,) = document["accounts"]
    assert (account["balance"], account["free"], account["floor"]) == (-1, 999_999_999, -(10**9))
    assert account["owner"] == identity.text(tool.id("anna"))


@pytest.mark.parametrize("name", ["bord1", identity.text(b"?" * 16)])
def test_an_account_that_is_not_there_is_65(tool: Tool, name: str) -> None:
    code, said = tool("account", name)
    assert code == 65 and said.startswith(f"demesh: {name}: ")


# -- amounts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "amount"),
    [("2.50", 2_500_000), ("0.000001", 1), ("7", 7_000_000), ("9007199254.740991", AMOUNT_MAX)],
)
def test_an_amount_is_read_digit_by_digit(text: str, amount: int) -> None:
    assert amount_of(text) == amount
    assert amount_of(credits_text(amount)) == amount


@pytest.mark.parametrize(
    "text",
    ["1e3", "-1", "0", "0.0", "1.0000001", ".5", "5.", "1,50", "٣", " 1", "9007199254.740992", ""],
)
def test_an_amount_that_is_none_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ConfigError, match="amount"):
        amount_of(text)


# -- payments that cannot be -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("anna", "2.50"), 75, "no daemon runs on"),  # all else is good
        (("anna", "2e3"), 78, "amount 2e3: expected credits"),
        (("ann", "1"), 65, "ann: no device or owner is called so"),
        (("anna", "1000.000001"), 76, "fall below its floor; board0 has 1000.00 credits to spend"),
        (("board0", "1"), 76, "the other account does not exist, or is the signer's own"),
    ],
)
def test_a_payment_that_cannot_be_is_one_line_and_its_code(
    tool: Tool, words: tuple[str, ...], code: int, said: str
) -> None:
    done = tool("transfer", *words)
    assert (done[0], said in done[1]) == (code, True), done


def test_an_owner_pays_from_the_owners_own_account(tool: Tool) -> None:
    boris = ("--owner-key", tool.mesh.owner_key("boris"))
    code, said = tool("transfer", "anna", "1", *boris)
    assert code == 76 and "boris cannot pay 1.00 credits to anna" in said
    tool.decide(("board0", Transfer(tool.id("boris"), 1_000_000)))
    code, said = tool("transfer", "anna", "1", *boris)
    assert code == 75 and "no daemon runs on" in said
    code, said = tool(
        "transfer", "anna", "1", "--owner-key", tool.mesh.boards[0].folder / "vote.key"
    )
    assert code == 77 and "not the key of an owner of street" in said


def test_every_answer_of_the_ledger_has_a_sentence_of_its_own() -> None:
    assert list(SENTENCES) == list(Result)
    assert len(set(SENTENCES.values())) == len(Result)
