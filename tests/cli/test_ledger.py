"""`demesh ledger`: a proof from a data folder, and what a person is told about it."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from demesh.cli.main import main
from demesh.cli.proofs import PROOF_BYTES_MAX
from demesh.ledger.ops import SignedOp
from demesh.ledger.proof import Path as MerklePath
from demesh.ledger.state import ACCOUNTS, MEMBERS
from demesh.ledger.trie import Trie
from demesh.storage.store import FileStore
from demesh.wire import identity, statements
from demesh.wire.frame import Binding
from demesh.wire.identity import approve_member
from demesh.wire.opbodies import SetMember
from demesh.wire.schema import encode
from ledger.book import (
    ANN,
    BEN,
    KEYS,
    OWNERS,
    certificate,
    device,
    genesis_body,
    opening,
    signed,
    transfer,
)
from light.story import Story, final

Told = pytest.CaptureFixture[str]


class Household:
    """A device's data folder beside the genesis of its mesh."""

    def __init__(self, folder: Path) -> None:
        self.genesis, self.data = folder / "genesis.cbor", folder / "data"
        # The book's fourth account belongs to nobody who founds.
        accounts = tuple(replace(one, owner=ANN) for one in genesis_body().accounts)
        body = replace(genesis_body(), accounts=accounts)
        signs = [identity.signer(KEYS[owner]) for owner in OWNERS]
        self.genesis.write_bytes(encode(identity.make_genesis(body, signs)))
        self.story = Story(body)
        self.story.grow(transfer(ANN, BEN, 625_000))
        self.story.grow(self.joining("barn"), trail=1)
        opened = opening(BEN, ANN, escrow=40_000)
        self.channel = opened.id[:16]
        self.story.grow(opened)

    def joining(self, name: str) -> SignedOp:
        """A device joins with a weight of 2, and so an epoch ends."""
        binding = Binding(identity.mesh_id(self.story.body), self.story.body.generation)
        held = certificate(name, "cem")
        approvals = tuple(approve_member(KEYS[one], binding, held, 2, 1) for one in OWNERS)
        return signed(ANN, SetMember(held, 2, 1, approvals))

    def store(self) -> FileStore:
        """The folder as its daemon holds it, with all that was decided."""
        store = FileStore(self.data, identity.mesh_id(self.story.body))
        store.load()
        store.commit(self.story.stored)
        return store

    def prove(self, *words: str) -> int:
        return main(
            ["ledger", "prove", "--data", str(self.data), "--genesis", str(self.genesis), *words]
        )

    def verify(self, proof: Path) -> int:
        return main(["ledger", "verify", "--genesis", str(self.genesis), str(proof)])


@pytest.fixture
def household(tmp_path: Path) -> Household:
    house = Household(tmp_path)
    house.store().close()
    return house


def refused(told: Told, code: int, expected: int, *words: str) -> None:
    """One line on standard error, nothing on the other, and the exit code."""
    out, err = told.readouterr()
    assert (code, out) == (expected, ""), err
    (line,) = err.splitlines()
    assert line.startswith("demesh: ")
    for word in words:
        assert word in line


def test_a_balance_is_proved_by_name_and_told_in_plain_words(
    household: Household, tmp_path: Path, capsys: Told
) -> None:
    proof = tmp_path / "ann.proof"
    assert household.prove("--account", "ann", "-o", str(proof)) == 0
    assert f"{proof}: {proof.stat().st_size} bytes" in capsys.readouterr().out
    assert household.verify(proof) == 0
    out, err = capsys.readouterr()
    mesh = identity.mesh_id(household.story.body).hex()[:16]
    assert (err, out) == (
        "",
        f"The proof holds for street, mesh {mesh}.\n"
        f"account  ann ({identity.text(ANN)})\n"
        "balance  -0.625 credits, never below -1.00\n"
        f"owner    ann ({identity.text(ANN)})\n"
        "as of    block 3 in epoch 1, mesh time 2023-11-14 22:13:23 UTC\n"
        "signed   by 4 of 4 voters, weight 6 of 6: "
        f"roof, attic, yard, {identity.text(device('barn'))}\n"
        "Later blocks may say otherwise.\n",
    )


@pytest.mark.parametrize(
    ("account", "line"),
    [
        ("ben", "balance  0.585 credits"),
        ("commons", "balance  0.00 credits, never below 0.00"),
        ("barn", f"account  {identity.text(device('barn'))}"),
        (identity.text(BEN), "account  ben"),
    ],
    ids=["owner", "commons", "newcomer", "id"],
)
def test_accounts_go_by_names_and_ids(
    household: Household, tmp_path: Path, capsys: Told, account: str, line: str
) -> None:
    proof = tmp_path / "proof"
    assert household.prove("--account", account, "-o", str(proof)) == 0
    assert household.verify(proof) == 0
    assert line in capsys.readouterr().out


def test_a_channel_and_the_voters_are_proved_too(
    household: Household, tmp_path: Path, capsys: Told
) -> None:
    proof = tmp_path / "proof"
    assert household.prove("--channel", identity.text(household.channel), "-o", str(proof)) == 0
    assert household.verify(proof) == 0
    out = capsys.readouterr().out
    assert "escrow   0.04 credits, 0.00 claimed" in out
    assert f"payer    ben ({identity.text(BEN)})" in out
    assert household.prove("--electorate", "-o", str(proof)) == 0
    assert household.verify(proof) == 0
    out = capsys.readouterr().out
    assert "voters   of epoch 1, by number:" in out
    assert f"3   weight 2, {identity.text(device('barn'))}" in out


def test_a_record_of_no_special_table_is_told_as_it_is(
    household: Household, tmp_path: Path, capsys: Told
) -> None:
    proof = household.story.proof(MEMBERS + device("roof"))
    (tmp_path / "proof").write_bytes(encode(proof))
    assert household.verify(tmp_path / "proof") == 0
    assert f"record   {proof.record.hex()}" in capsys.readouterr().out


def test_a_running_daemon_is_not_disturbed_and_only_what_it_committed_is_proved(
    tmp_path: Path, capsys: Told
) -> None:
    household, proof = Household(tmp_path), tmp_path / "proof"
    store = household.store()
    store.flush()
    household.story.grow(transfer(ANN, BEN, 1))
    store.commit(household.story.stored[-1:])
    assert store.pending
    assert household.prove("--account", "ann", "-o", str(proof)) == 0
    assert household.verify(proof) == 0
    assert "as of    block 3 " in capsys.readouterr().out
    store.flush()
    assert household.prove("--account", "ann", "-o", str(proof)) == 0
    assert household.verify(proof) == 0
    assert "as of    block 4 " in capsys.readouterr().out
    store.close()


def test_without_a_file_the_proof_goes_to_standard_output(
    household: Household, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert household.prove("--account", "ann") == 0
    content = capsysbinary.readouterr().out
    assert content == encode(household.story.proof(ACCOUNTS + ANN))


# -- what goes wrong ------------------------------------------------------------------------------


def test_a_damaged_cut_or_missing_proof_exits_with_65(
    household: Household, tmp_path: Path, capsys: Told
) -> None:
    proof = tmp_path / "proof"
    whole = encode(household.story.proof(ACCOUNTS + ANN))
    proof.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(capsys, household.verify(proof), 65, "does not hold", "not in the state of block 3")
    for garbage in (whole[:-1], whole + b"x", b"", b"\x00" * 500, encode(household.story.body)):
        proof.write_bytes(garbage)
        refused(capsys, household.verify(proof), 65, str(proof), "not a proof, or damaged")
    proof.unlink()
    refused(capsys, household.verify(proof), 65, "cannot be read: No such file")
    refused(capsys, household.verify(tmp_path), 65, "cannot be read: Is a directory")
    with proof.open("wb") as file:
        file.truncate(PROOF_BYTES_MAX + 1)
    refused(capsys, household.verify(proof), 65, "larger than")


def test_a_proof_of_another_mesh_exits_with_65(
    household: Household, tmp_path: Path, capsys: Told
) -> None:
    other = Story(replace(household.story.body, nonce=b"another."))
    other.grow()
    proof = tmp_path / "proof"
    proof.write_bytes(encode(other.proof(ACCOUNTS + ANN)))
    refused(capsys, household.verify(proof), 65, "it is of mesh", "the genesis is of mesh")


def test_a_record_that_cannot_be_what_its_key_says_is_no_proof(
    household: Household, tmp_path: Path, capsys: Told
) -> None:
    """A quorum may put anything under any key; it is one line all the same."""
    story, proof = household.story, tmp_path / "proof"
    odd = replace(story.block, state_root=Trie().set(b"ax", b"odd").root)
    shown = final(story.ledger.electorate, odd)
    header = statements.header_of(odd)
    whole = story.proof(ACCOUNTS + ANN)
    forged = replace(
        whole, header=header, final=shown, key=b"ax", record=b"odd", path=MerklePath(())
    )
    proof.write_bytes(encode(forged))
    refused(capsys, household.verify(proof), 65, "the proof does not hold")


def test_a_genesis_that_is_missing_or_of_another_mesh_exits_with_78(
    household: Household, tmp_path: Path, capsys: Told
) -> None:
    household.genesis.unlink()
    refused(capsys, household.verify(tmp_path), 78, "the genesis cannot be read")
    refused(capsys, household.prove("--electorate", "-o", "x"), 78, "cannot be read")
    body = replace(household.story.body, nonce=b"another.")
    signs = [identity.signer(KEYS[owner]) for owner in OWNERS]
    household.genesis.write_bytes(encode(identity.make_genesis(body, signs)))
    refused(capsys, household.prove("--electorate", "-o", "x"), 78, "holds the ledger of mesh")


def test_a_folder_without_a_ledger_or_with_a_damaged_one_exits_with_74(
    household: Household, tmp_path: Path, capsys: Told
) -> None:
    file = household.data / "ledger.db"
    with sqlite3.connect(file) as link:
        link.execute("UPDATE hand_overs SET hand_over = x'80'")
    refused(capsys, household.prove("--electorate", "-o", "x"), 74, "a hand-over is damaged")
    with sqlite3.connect(file) as link:
        link.execute("DELETE FROM records WHERE key = ?", (ACCOUNTS + BEN,))
        link.execute("DELETE FROM hand_overs")
    refused(capsys, household.prove("--electorate", "-o", "x"), 74, "do not give the state root")
    file.write_bytes(b"garbage" * 1000)
    refused(capsys, household.prove("--electorate", "-o", "x"), 74, "ledger.db", "not a database")
    file.unlink()
    refused(capsys, household.prove("--electorate", "-o", "x"), 74, "ledger.db")
    assert not file.exists(), "a question makes no ledger"


def test_what_is_not_in_the_ledger_exits_with_65(
    household: Household, tmp_path: Path, capsys: Told
) -> None:
    output = ("-o", str(tmp_path / "x"))
    nobody = identity.text(bytes(16))
    for words, said in (
        (("--account", "zoe"), "--account zoe: no device or owner is called so, and it is no id"),
        (("--account", nobody), f"there is no account {nobody} in the ledger"),
        (("--channel", nobody), f"there is no channel {nobody} in the ledger"),
        (("--channel", "zoe"), "--channel 'zoe': an id has 27 characters"),
    ):
        refused(capsys, household.prove(*words, *output), 65, said)
    assert not (tmp_path / "x").exists()
    where = str(tmp_path / "no" / "x")
    refused(capsys, household.prove("--electorate", "-o", where), 65, "cannot be written")


def test_a_mesh_that_decided_nothing_yet_has_nothing_to_prove(tmp_path: Path, capsys: Told) -> None:
    household = Household(tmp_path)
    household.story.stored.clear()
    household.store().close()
    refused(capsys, household.prove("--electorate", "-o", "x"), 65, "no block is final yet")


def test_a_folder_that_may_only_be_read_is_read(
    household: Household, tmp_path: Path, capsys: Told
) -> None:
    proof = tmp_path / "proof"
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "ledger.db").write_bytes((household.data / "ledger.db").read_bytes())
    (copy / "ledger.db").chmod(0o444)
    household.data = copy
    assert household.prove("--account", "ann", "-o", str(proof)) == 0
    assert household.verify(proof) == 0


# -- a whole folder --------------------------------------------------------------------------------


@pytest.fixture
def quiet(tmp_path: Path) -> Household:
    """Its four blocks have no ops, so that they can be executed anew."""
    house = Household(tmp_path)
    house.story = Story(house.story.body)
    for _ in range(4):
        house.story.grow()
    house.store().close()
    return house


def verify_folder(house: Household) -> int:
    words = ["--data", str(house.data), "--genesis", str(house.genesis)]
    return main(["ledger", "verify", *words])


def test_all_blocks_of_a_folder_are_executed_anew_and_the_last_is_signed(
    quiet: Household, capsys: Told
) -> None:
    assert verify_folder(quiet) == 0
    out, err = capsys.readouterr()
    root = quiet.story.ledger.root.hex()[:16]
    assert (err, out) == (
        "",
        f"good: blocks 1..4 of street, executed anew from the genesis, give state root {root}\n"
        "signed by 3 of 3 voters of epoch 0, mesh time 2023-11-14 22:13:24 UTC\n"
        "5 accounts and 0 open channels add up to 0; no balance is below its floor\n",
    )


def test_a_block_that_does_not_give_its_state_root_is_named(
    household: Household, capsys: Told
) -> None:
    """The story's blocks say what ops did without having them."""
    assert verify_folder(household) == 65
    refused(capsys, 65, 65, "does not hold", "block 1 does not give its state root")


def test_a_block_that_is_missing_is_noticed(quiet: Household, capsys: Told) -> None:
    with sqlite3.connect(quiet.data / "ledger.db") as link:
        link.execute("DELETE FROM blocks WHERE height = 2")
    assert verify_folder(quiet) == 65
    refused(capsys, 65, 65, "its blocks end at 1, its records are those after 4")


def test_a_last_block_that_too_few_signed_is_noticed(quiet: Household, capsys: Told) -> None:
    electorate, block = quiet.story.ledger.electorate, quiet.story.block
    with sqlite3.connect(quiet.data / "ledger.db") as link:
        few = final(electorate, block, voters=[0])
        link.execute("UPDATE blocks SET certificate = ? WHERE height = 4", (few,))
    assert verify_folder(quiet) == 65
    refused(capsys, 65, 65, "block 4")


def test_either_a_proof_or_a_folder_is_verified(quiet: Household, capsys: Told) -> None:
    with pytest.raises(SystemExit):
        main(["ledger", "verify", "--genesis", str(quiet.genesis)])
    assert "one of the arguments PROOF --data is required" in capsys.readouterr().err
