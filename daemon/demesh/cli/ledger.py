"""`demesh ledger`: prove what a device's ledger says; check a proof with the genesis alone.

`prove` reads the data folder of a daemon, stopped or running; `verify` needs no device at all, or
executes anew all that a data folder has.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `ledger prove` and `ledger verify`."""
    parser = subparsers.add_parser("ledger", help="prove what the ledger says; check a proof")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    making = commands.add_parser("prove", help="write a proof from a device's data folder")
    making.add_argument("--data", type=Path, required=True, help="data folder of the device")
    making.add_argument("--genesis", type=Path, required=True, help="the mesh's genesis")
    what = making.add_mutually_exclusive_group(required=True)
    what.add_argument("--account", metavar="ID|NAME", help="of a device, an owner, the commons")
    what.add_argument("--channel", metavar="ID", help="an open channel")
    what.add_argument("--electorate", action="store_true", help="who votes on the next block")
    making.add_argument("-o", dest="output", type=Path, metavar="FILE", help="not standard output")
    making.set_defaults(run=_prove)

    checking = commands.add_parser(
        "verify", help="say what a proof or a data folder shows; 0 only if it holds"
    )
    checking.add_argument("--genesis", type=Path, required=True, help="all that is trusted")
    checked = checking.add_mutually_exclusive_group(required=True)
    checked.add_argument("proof", type=Path, nargs="?", metavar="PROOF")
    checked.add_argument("--data", type=Path, metavar="FOLDER", help="execute its blocks anew")
    checking.set_defaults(run=_verify)


# Late, so that a running daemon needs none of it.


def _prove(arguments: argparse.Namespace) -> int:
    from demesh.cli.proofs import prove  # noqa: PLC0415

    return prove(arguments)


def _verify(arguments: argparse.Namespace) -> int:
    if arguments.data is not None:
        from demesh.cli.replaying import verify_folder  # noqa: PLC0415

        return verify_folder(arguments)
    from demesh.cli.proofs import verify  # noqa: PLC0415

    return verify(arguments)
