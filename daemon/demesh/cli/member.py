"""`demesh member`: who belongs to a mesh, and how its owners change that.

`keys` and `certify` make what a new device needs; `list`, `set` and `renew-vote-key` work on a
device whose daemon runs, for it knows the ledger and may submit ops.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `member list`, `set`, `renew-vote-key`, `keys` and `certify`."""
    parser = subparsers.add_parser("member", help="who belongs to the mesh; change that")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    listing = commands.add_parser("list", help="members, owners, weights and vote keys")
    _config(listing, "of any device of the mesh, running or not")
    listing.set_defaults(run=_list)

    setting = commands.add_parser("set", help="take a device in, change its weight or vote key")
    setting.add_argument("name", metavar="NAME", help="the device that is to change")
    _config(setting, "of any running device of the mesh, which submits the change")
    _owners(setting, "of an owner who approves; more than half of the owners must")
    setting.add_argument("--weight", type=int, metavar="N", help="0 observes; default: as it is")
    setting.add_argument("--vote-key", metavar="FILE|PUBLIC", help="another key to vote with")
    setting.add_argument("--certificate", type=Path, metavar="FILE", help="of a new device")
    setting.set_defaults(run=_set)

    renewing = commands.add_parser("renew-vote-key", help="give this device a new key to vote with")
    _config(renewing, "of the device itself, whose daemon runs")
    _owners(renewing, "of the device's owner")
    renewing.set_defaults(run=_renew)

    making = commands.add_parser("keys", help="make the keys of a new device, where they are not")
    _config(making, "of the new device")
    making.set_defaults(run=_keys)

    certifying = commands.add_parser("certify", help="an owner's certificate for a new device")
    certifying.add_argument("--owner-key", type=Path, required=True, metavar="FILE")
    certifying.add_argument("--name", required=True, help="as in the device's configuration")
    certifying.add_argument("--class", dest="device_class", required=True, metavar="CLASS")
    certifying.add_argument("--device-key", required=True, metavar="FILE|PUBLIC")
    certifying.add_argument("--vote-key", required=True, metavar="FILE|PUBLIC")
    certifying.add_argument("-o", dest="output", type=Path, required=True, metavar="FILE")
    certifying.set_defaults(run=_certify)


def _config(parser: argparse.ArgumentParser, whose: str) -> None:
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help=f"demesh.toml {whose}"
    )


def _owners(parser: argparse.ArgumentParser, whose: str) -> None:
    parser.add_argument(
        "--owner-key",
        dest="owner_keys",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help=f"private key {whose}",
    )


# Late, so that a running daemon needs none of it.


def _list(arguments: argparse.Namespace) -> int:
    from demesh.cli.members import show  # noqa: PLC0415

    return show(arguments.config)


def _set(arguments: argparse.Namespace) -> int:
    from demesh.cli.changes import change  # noqa: PLC0415

    return change(arguments)


def _renew(arguments: argparse.Namespace) -> int:
    from demesh.cli.renewal import renew  # noqa: PLC0415

    return renew(arguments.config, arguments.owner_keys)


def _keys(arguments: argparse.Namespace) -> int:
    from demesh.cli.members import make_keys  # noqa: PLC0415

    return make_keys(arguments.config)


def _certify(arguments: argparse.Namespace) -> int:
    from demesh.cli.members import certify  # noqa: PLC0415

    return certify(arguments)
