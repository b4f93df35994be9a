"""What `demesh ledger verify --data` does: every stored block anew, and who signed the last one."""

from __future__ import annotations

import argparse
from pathlib import Path

from demesh import light
from demesh.cli.proofs import Stored, date_text, stored_in
from demesh.cli.run import read_genesis
from demesh.errors import ProofError
from demesh.ledger.ledger import Ledger
from demesh.ledger.state import ELECTORATE
from demesh.replay import Executed, replay
from demesh.storage.sqlite import Reader
from demesh.wire import identity
from demesh.wire.messages import Genesis


def verify_folder(arguments: argparse.Namespace) -> int:
    """Say what was checked; raises DemeshError if anything is not as it should be."""
    folder: Path = arguments.data
    genesis, mesh = read_genesis(arguments.genesis)
    database = Reader(folder / "ledger.db", mesh)
    try:
        stored = stored_in(database, folder, genesis, mesh)
        if database.tip() is None:
            raise ProofError(f"{folder}: the device has just taken a state over; try again later")
        proved = _signed(stored, genesis)
        first, last = _replayed(database, genesis)
        _check(last, stored)
    except ValueError as error:
        raise ProofError(f"{folder}: does not hold: {error}") from None
    finally:
        database.close()
    since = f"{first.height + 1:,}" if first.height < last.height else "none"
    accounts, channels = len(last.ledger.accounts()), len(last.ledger.channels())
    print(
        f"good: blocks {since}..{last.height:,} of {genesis.body.name}, executed anew from "
        f"{'the genesis' if not first.height else f'the state after block {first.height:,}'}, "
        f"give state root {last.ledger.root.hex()[:16]}"
    )
    print(
        f"signed by {len(proved.signed)} of {len(proved.electorate.voters)} voters of epoch "
        f"{proved.epoch}, {date_text(proved.time_s)}"
    )
    print(
        f"{accounts} accounts and {channels} open channels add up to 0; no balance is below its "
        "floor"
    )
    return 0


def _signed(stored: Stored, genesis: Genesis) -> light.Proved:
    """Who made the last block final, from the genesis up; ValueError if it does not hold."""
    ledger, header, final, hand_overs = stored
    before = [link for link in hand_overs if link.header.epoch < header.epoch]
    proof = light.prove(ledger, header, final, before, ELECTORATE)
    assert proof is not None, "a ledger has voters from its genesis on"
    return light.verify(genesis.body, proof)


def _replayed(database: Reader, genesis: Genesis) -> tuple[Executed, Executed]:
    """The beginning and the end of the stored chain, executed anew; ValueError."""
    first = last = None
    for last in replay(genesis.body, database):
        first = first or last
    assert first is not None and last is not None, "the beginning comes first"
    _sound(last)
    return first, last


def _sound(executed: Executed) -> None:
    ledger = executed.ledger
    if ledger.total() != 0:
        raise ValueError(f"after block {executed.height} all money is {ledger.total()}, not 0")
    for id, account in ledger.accounts():
        if account.balance < account.floor:
            raise ValueError(
                f"after block {executed.height} account {identity.text(id)} is below its floor"
            )


def _check(last: Executed, stored: Stored) -> None:
    ledger: Ledger = stored[0]
    if last.ledger.root != ledger.root or last.height != stored[1].height:
        raise ValueError(
            f"its blocks end at {last.height}, its records are those after {stored[1].height}"
        )
