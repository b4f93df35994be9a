"""What `demesh transfer` does: one TRANSFER op of a device or of an owner, and what came of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from nacl.signing import SigningKey

from demesh.cli.amounts import amount_of
from demesh.cli.balances import meant
from demesh.cli.members import Mesh, load_owner_keys, read_mesh
from demesh.cli.names import names_of
from demesh.cli.results import SENTENCES
from demesh.cli.submit import Submission
from demesh.errors import RefusedError
from demesh.ledger.state import Result
from demesh.report import credits_text
from demesh.wire import identity
from demesh.wire.opbodies import Transfer

UNDECIDED = (
    "the payment may still be made, for two hours of mesh time: look with demesh account before "
    "you give the command again, for that is a second payment"
)


def pay(arguments: argparse.Namespace) -> int:
    """Pay and say what came of it; raises DemeshError."""
    amount = amount_of(arguments.amount)
    mesh = read_mesh(arguments.config)
    body = Transfer(meant(mesh, arguments.to), amount)
    submission = Submission(arguments.config, mesh, body, _owner_key(mesh, arguments.owner_key))
    payer = submission.op.signer
    _check(submission.foreseen(), mesh, payer, body)
    submission.check_running()
    result, after = submission.carry(UNDECIDED)
    _check(result, after, payer, body)
    left = after.ledger.account(payer)
    assert left is not None, "it has just paid"
    print(
        f"done by block {after.height}: {_name(after, payer)} paid {credits_text(amount)} credits "
        f"to {_name(after, body.to)}, and has {credits_text(left.room)} left to spend"
    )
    return 0


def _owner_key(mesh: Mesh, path: Path | None) -> SigningKey | None:
    if path is None:
        return None
    (key,) = load_owner_keys(mesh, [path]).values()
    return key


def _check(result: Result, mesh: Mesh, payer: bytes, body: Transfer) -> None:
    """Raises RefusedError, in words, for any answer but OK."""
    if result is Result.OK:
        return
    account, name = mesh.ledger.account(payer), _name(mesh, payer)
    has = f"; {name} has {credits_text(account.room)} credits to spend" if account else ""
    paid = f"{name} cannot pay {credits_text(body.amount)} credits to {_name(mesh, body.to)}"
    raise RefusedError(f"{paid}: {SENTENCES[result]}{has}")


def _name(mesh: Mesh, id: bytes) -> str:
    return names_of(mesh.ledger, mesh.body.commons).get(id) or identity.text(id)
