"""`demesh tariff`: say what a tariff file costs, in words and figures; show its bytes."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `tariff explain` and `tariff wire`."""
    parser = subparsers.add_parser("tariff", help="what a tariff costs, line by line")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    telling = commands.add_parser("explain", help="the sentence, and the bill for a use")
    telling.add_argument("file", type=Path, metavar="FILE", help="the tariff, in TOML")
    telling.add_argument("--use", metavar="AMOUNT", help="with its unit: 12.4kWh")
    telling.add_argument(
        "--at",
        metavar="START[/END]",
        help="ISO 8601: used at this time, or evenly from one to the other",
    )
    telling.add_argument("--json", action="store_true", help="the same for programs")
    telling.set_defaults(run=_explain)

    encoding = commands.add_parser("wire", help="the tariff's bytes on the wire, and their hash")
    encoding.add_argument("file", type=Path, metavar="FILE", help="the tariff, in TOML")
    encoding.set_defaults(run=_wire)


# Late, so that a running daemon needs none of it.


def _explain(arguments: argparse.Namespace) -> int:
    from demesh.cli.explaining import explain  # noqa: PLC0415

    return explain(arguments)


def _wire(arguments: argparse.Namespace) -> int:
    from demesh.cli.explaining import wire  # noqa: PLC0415

    return wire(arguments)
