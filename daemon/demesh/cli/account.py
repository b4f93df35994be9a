"""`demesh account` and `demesh transfer`: what everybody has, and paying without a channel."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `account` and `transfer`."""
    showing = subparsers.add_parser("account", help="balances, what is free, open channels")
    showing.add_argument("account", metavar="NAME|ID", nargs="?", help="default: all accounts")
    showing.add_argument("--json", action="store_true", help="for programs, in micro-credits")
    _config(showing, "of any device of the mesh, running or not")
    showing.set_defaults(run=_show)

    paying = subparsers.add_parser("transfer", help="pay another account at once")
    paying.add_argument("to", metavar="TO", help="name or id of the account that is paid")
    paying.add_argument("amount", metavar="AMOUNT", help="in credits, as 2.50")
    _config(paying, "of the running device that pays, or that passes an owner's payment on")
    paying.add_argument(
        "--owner-key", type=Path, metavar="FILE", help="of the owner who pays; default: the device"
    )
    paying.set_defaults(run=_pay)


def _config(parser: argparse.ArgumentParser, whose: str) -> None:
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help=f"demesh.toml {whose}"
    )


# Late, so that a running daemon needs none of it.


def _show(arguments: argparse.Namespace) -> int:
    from demesh.cli.balances import show  # noqa: PLC0415

    return show(arguments)


def _pay(arguments: argparse.Namespace) -> int:
    from demesh.cli.paying import pay  # noqa: PLC0415

    return pay(arguments)
