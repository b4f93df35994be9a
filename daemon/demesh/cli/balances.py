"""What `demesh account` shows: accounts as of the last block that a device has stored."""

from __future__ import annotations

import argparse
import json

from demesh.cli.members import Mesh, read_mesh
from demesh.cli.names import account_of, names_of
from demesh.cli.proofs import date_text
from demesh.errors import ProofError
from demesh.ledger.payout import held
from demesh.ledger.state import Account, AccountKind, Channel
from demesh.ports import Json
from demesh.report import credits_text
from demesh.wire import identity

TITLES = ("ACCOUNT", "KIND", "OWNER", "BALANCE", "FREE", "FLOOR", "IN CHANNELS", "ID")
KINDS = {int(kind): kind.name.lower() for kind in AccountKind}
AMOUNTS = ("BALANCE", "FREE", "FLOOR", "IN CHANNELS")


def show(arguments: argparse.Namespace) -> int:
    """Print all accounts, or one with its channels; raises DemeshError."""
    mesh = read_mesh(arguments.config)
    chosen = None if arguments.account is None else meant(mesh, arguments.account)
    if arguments.json:
        print(json.dumps(document(mesh, chosen), indent=2))
    else:
        print("\n".join(listing(mesh, chosen)))
    return 0


def meant(mesh: Mesh, given: str) -> bytes:
    """The id of the account that a person means; raises ProofError."""
    id = account_of(mesh.ledger, mesh.body.commons, given)
    if id is None:
        raise ProofError(f"{given}: no device or owner is called so, and it is no id")
    if mesh.ledger.account(id) is None:
        raise ProofError(f"{given}: {mesh.body.name} has no such account")
    return id


def listing(mesh: Mesh, chosen: bytes | None) -> list[str]:
    """The accounts as a table, by owner and name; below a chosen one its channels."""
    names = names_of(mesh.ledger, mesh.body.commons)
    rows: list[tuple[str, ...]] = [TITLES]
    for id, account in _accounts(mesh, chosen):
        escrow = sum(held(c) for _, c in mesh.ledger.channels() if c.payer == id)
        amounts = map(credits_text, (account.balance, account.room, account.floor, escrow))
        name, owner = names.get(id, "-"), names.get(account.owner, "-")
        rows.append((name, KINDS.get(account.kind, str(account.kind)), owner, *amounts, _text(id)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{mesh.body.name} after block {mesh.height}, in credits:"]
    for row in rows:
        cells = zip(TITLES, row, widths, strict=True)
        lines.append(
            "  ".join(
                cell.rjust(width) if title in AMOUNTS else cell.ljust(width)
                for title, cell, width in cells
            ).rstrip()
        )
    return lines if chosen is None else lines + _channels(mesh, chosen, names)


def document(mesh: Mesh, chosen: bytes | None) -> dict[str, Json]:
    """The same for programs: integer micro-credits and ids."""
    names = names_of(mesh.ledger, mesh.body.commons)
    accounts: list[Json] = []
    for id, account in _accounts(mesh, chosen):
        channels: list[Json] = [
            {
                "channel": _text(channel),
                "payer": _text(one.payer),
                "payee": _text(one.payee),
                "escrow": one.escrow,
                "claimed": one.claimed,
                "paid": one.paid,
                "settles_s": one.settles_s,
            }
            for channel, one in _of(mesh, id)
        ]
        accounts.append(
            {
                "account": _text(id),
                "name": names.get(id),
                "kind": KINDS.get(account.kind, str(account.kind)),
                "owner": _text(account.owner),
                "balance": account.balance,
                "free": account.room,
                "floor": account.floor,
                "locked": account.locked,
                "backed": account.backed,
                "channels": channels,
            }
        )
    return {
        "mesh": mesh.body.name,
        "height": mesh.height,
        "time_s": mesh.ledger.time_s,
        "accounts": accounts,
    }


def _accounts(mesh: Mesh, chosen: bytes | None) -> list[tuple[bytes, Account]]:
    names = names_of(mesh.ledger, mesh.body.commons)
    rows = [(id, one) for id, one in mesh.ledger.accounts() if chosen in (None, id)]

    def place(row: tuple[bytes, Account]) -> tuple[str, int, str]:
        id, account = row
        return names.get(account.owner, ""), account.kind, names.get(id, "")

    return sorted(rows, key=place)


def _of(mesh: Mesh, id: bytes) -> list[tuple[bytes, Channel]]:
    return [(c, one) for c, one in mesh.ledger.channels() if id in (one.payer, one.payee)]


def _channels(mesh: Mesh, id: bytes, names: dict[bytes, str]) -> list[str]:
    lines = []
    for channel, one in _of(mesh, id):
        pays = one.payer == id
        other = one.payee if pays else one.payer
        lines.append(
            f"{'pays' if pays else 'is paid by'} {names.get(other) or _text(other)} on channel "
            f"{_text(channel)}: {credits_text(one.escrow)} escrowed, "
            f"{credits_text(one.claimed)} claimed, settles by {date_text(one.settles_s)}"
        )
    return lines or ["no open channels"]


def _text(id: bytes) -> str:
    return identity.text(id)
