"""What `demesh ledger` does: a proof from a data folder to a file, and from there to words."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from demesh import light
from demesh.cli.names import COMMONS, account_of
from demesh.cli.run import read_genesis
from demesh.errors import ProofError, StorageError
from demesh.ledger import state
from demesh.ledger.ledger import Ledger
from demesh.past import last_of, past_of
from demesh.ports import Restored
from demesh.report import credits_text
from demesh.storage.sqlite import Reader
from demesh.wire import identity
from demesh.wire.messages import Genesis, GenesisBody
from demesh.wire.schema import Malformed, decode, encode
from demesh.wire.statements import Header

# An epoch of 8 voters takes 1.5 kB of it, one of 128 voters 16 kB: room for 4,000 epochs of those.
PROOF_BYTES_MAX = 64 * 1024 * 1024

# -- prove ----------------------------------------------------------------------------------------


def prove(arguments: argparse.Namespace) -> int:
    """Write the proof; raises DemeshError."""
    if arguments.output is None and sys.stdout.isatty():
        raise ProofError("a proof is binary: give it a file with -o FILE")
    proof = encode(_proof(arguments))
    if arguments.output is None:
        sys.stdout.buffer.write(proof)
        return 0
    try:
        arguments.output.write_bytes(proof)
    except OSError as error:
        raise ProofError(f"{arguments.output}: cannot be written: {error.strerror}") from None
    print(f"{arguments.output}: {len(proof)} bytes; check it with demesh ledger verify")
    return 0


def _proof(arguments: argparse.Namespace) -> light.Proof:
    genesis, mesh = read_genesis(arguments.genesis)
    database = Reader(arguments.data / "ledger.db", mesh)
    try:
        ledger, header, final, hand_overs = stored_in(database, arguments.data, genesis, mesh)
    finally:
        database.close()
    key, what = _wanted(ledger, genesis.body.commons, arguments)
    before = [link for link in hand_overs if link.header.epoch < header.epoch]
    proof = light.prove(ledger, header, final, before, key)
    if proof is None:
        raise ProofError(f"{arguments.data}: there is no {what} in the ledger")
    return proof


Stored = tuple[Ledger, Header, bytes, list[light.HandOver]]
"""A ledger, its last block, what makes that final, and the hand-overs of the epochs before."""


def stored_in(database: Reader, folder: Path, genesis: Genesis, mesh: bytes) -> Stored:
    """What a folder's database holds, of one moment; raises DemeshError."""
    stored = Restored(
        tip=database.tip(), records=database.records(), checkpoint=database.checkpoint()
    )
    links = database.hand_overs()
    if stored.tip is None and stored.checkpoint is None:
        raise ProofError(f"{folder}: no block is final yet; there is nothing to prove")
    ledger = past_of(mesh, genesis.body, stored).ledger
    try:
        hand_overs = [decode(light.HandOver, link) for link in links]
    except Malformed as error:
        raise StorageError(f"{folder / 'ledger.db'}: a hand-over is damaged: {error}") from None
    header, final = last_of(stored)
    if final is None:
        raise ProofError(f"{folder}: the device is catching up; try again in a minute")
    return ledger, header, final, hand_overs


def _wanted(ledger: Ledger, commons: bytes, arguments: argparse.Namespace) -> tuple[bytes, str]:
    """The key of the record that is to be proved, and what to call it."""
    if arguments.electorate:
        return state.ELECTORATE, "electorate"
    if arguments.channel is not None:
        try:
            return state.CHANNELS + identity.parse(
                arguments.channel
            ), f"channel {arguments.channel}"
        except ValueError as error:
            raise ProofError(f"--channel {error}") from None
    account = account_of(ledger, commons, arguments.account)
    if account is None:
        raise ProofError(
            f"--account {arguments.account}: no device or owner is called so, and it is no id"
        )
    return state.ACCOUNTS + account, f"account {arguments.account}"


# -- verify ---------------------------------------------------------------------------------------


def verify(arguments: argparse.Namespace) -> int:
    """Say what the proof shows; raises DemeshError if it shows nothing."""
    genesis, _ = read_genesis(arguments.genesis)
    path: Path = arguments.proof
    try:
        with path.open("rb") as file:
            content = file.read(PROOF_BYTES_MAX + 1)
    except OSError as error:
        raise ProofError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > PROOF_BYTES_MAX:
        raise ProofError(f"{path}: larger than {PROOF_BYTES_MAX} bytes; is it the right file?")
    try:
        proof = decode(light.Proof, content)
    except Malformed as error:
        raise ProofError(f"{path}: not a proof, or damaged: {error}") from None
    try:
        proved = light.verify(genesis.body, proof)
        lines = _lines(proved, genesis.body)
    except ValueError as error:
        raise ProofError(f"{path}: the proof does not hold: {error}") from None
    print("\n".join(lines))
    return 0


def _lines(proved: light.Proved, body: GenesisBody) -> list[str]:
    """What is proved, for people. Names are those of the genesis: a proof has ids only."""
    names = _names(body)
    voters = proved.electorate.voters
    weight = sum(voters[voter].weight for voter in proved.signed)
    total = sum(voter.weight for voter in voters)
    devices = [voters[voter].device for voter in proved.signed]
    signed = ", ".join(names.get(device) or identity.text(device) for device in devices)
    return [
        f"The proof holds for {body.name}, mesh {identity.mesh_id(body).hex()[:16]}.",
        *_record_lines(proved, names),
        f"as of    block {proved.height} in epoch {proved.epoch}, {date_text(proved.time_s)}",
        f"signed   by {len(proved.signed)} of {len(voters)} voters, weight {weight} of {total}: "
        f"{signed}",
        "Later blocks may say otherwise.",
    ]


def _record_lines(proved: light.Proved, names: dict[bytes, str]) -> list[str]:
    table, id = proved.key[:1], proved.key[1:]
    if table == state.ACCOUNTS:
        return _account_lines(id, decode(state.Account, proved.record), names)
    if table == state.CHANNELS:
        return _channel_lines(id, decode(state.Channel, proved.record), names)
    if table == state.ELECTORATE:
        return _electorate_lines(decode(state.Electorate, proved.record), names)
    return [f"key      {proved.key.hex()}", f"record   {proved.record.hex()}"]


def _account_lines(id: bytes, account: state.Account, names: dict[bytes, str]) -> list[str]:
    return [
        f"account  {_called(id, names)}",
        f"balance  {credits_text(account.balance)} credits, never below "
        f"{credits_text(account.floor)}",
        f"owner    {_called(account.owner, names)}",
    ]


def _channel_lines(id: bytes, channel: state.Channel, names: dict[bytes, str]) -> list[str]:
    return [
        f"channel  {identity.text(id)}",
        f"payer    {_called(channel.payer, names)}",
        f"payee    {_called(channel.payee, names)}",
        f"escrow   {credits_text(channel.escrow)} credits, {credits_text(channel.claimed)} claimed",
        f"settles  by {date_text(channel.settles_s)}",
    ]


def _electorate_lines(electorate: state.Electorate, names: dict[bytes, str]) -> list[str]:
    return [
        f"voters   of epoch {electorate.epoch}, by number:",
        *[
            f"   {number:3d}   weight {voter.weight}, {_called(voter.device, names)}"
            for number, voter in enumerate(electorate.voters)
        ],
    ]


def _names(body: GenesisBody) -> dict[bytes, str]:
    names = {body.commons: COMMONS}
    for key, name in zip(body.owners, body.owner_names, strict=True):
        names[identity.device_id(key)] = name
    for device in body.devices:
        names[identity.device_id(device.certificate.device_key)] = device.certificate.name
    return names


def _called(id: bytes, names: dict[bytes, str]) -> str:
    """A founder's name with its id, or the id alone of whoever came later."""
    return f"{names[id]} ({identity.text(id)})" if id in names else identity.text(id)


def date_text(time_s: int) -> str:
    """Mesh time as a date; the bare number for one that no calendar has."""
    try:
        return f"mesh time {datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"mesh time {time_s} s"
