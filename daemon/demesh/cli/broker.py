"""`demesh broker`: the embedded broker alone, told by flags or by a file; and its accounts."""

from __future__ import annotations

import argparse
import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demesh.cli import accounts
from demesh.errors import ConfigError
from demesh.section import EntryError, Section

if TYPE_CHECKING:
    from demesh.broker.limits import Limits
    from demesh.broker.settings import BrokerConfig

FILES = ("passwords", "acl", "data", "certificate", "key", "client_ca")
FILE_CHARS_MAX = 4096

# Limits that may be 0: then there is none of it.
MAY_BE_ZERO = frozenset({"sys_s"})
LIMIT_MAX = 2**31 - 1


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `broker` and `broker account`."""
    parser = subparsers.add_parser("broker", help="run the embedded broker, or make its accounts")
    parser.add_argument("--config", type=Path, help="broker.toml, in the place of all flags")
    parser.add_argument(
        "--listen",
        action="append",
        metavar="URL",
        help="mqtt://, mqtts://, ws:// or wss:// with address and port; may be given several times "
        "(mqtt://127.0.0.1:1883)",
    )
    parser.add_argument("--passwords", metavar="FILE", help="accounts, as mosquitto writes them")
    parser.add_argument(
        "--acl", metavar="FILE", help="rights, as mosquitto reads them (default: a mesh's own)"
    )
    parser.add_argument(
        "--data", metavar="FOLDER", help="keep sessions and retained messages there"
    )
    parser.add_argument("--certificate", metavar="FILE", help="of this broker, with its chain, PEM")
    parser.add_argument("--key", metavar="FILE", help="of the certificate, PEM")
    parser.add_argument(
        "--client-ca", metavar="FILE", help="let in who has a certificate of these authorities"
    )
    parser.add_argument(
        "--check-config", action="store_true", help="check configuration and files, and end"
    )
    parser.set_defaults(run=run)
    accounts.add_command(parser.add_subparsers(metavar="account"))


def run(arguments: argparse.Namespace) -> int:
    """Check, or serve until told to stop; raises DemeshError."""
    from demesh.broker.settings import read_trust  # noqa: PLC0415

    config = _of_file(arguments) if arguments.config is not None else _of_flags(arguments)
    if arguments.check_config:
        for warning in read_trust(config, int(time.time())).warnings:
            print(warning)
        print(f"good; would listen on {', '.join(map(str, config.listen))}")
        return 0
    from demesh.broker.process import run as serve  # noqa: PLC0415
    from demesh.observe.lines import open_log  # noqa: PLC0415

    open_log()
    serve(config)
    return 0


def parse(table: dict[str, Any], where: str, folder: Path) -> BrokerConfig:
    """The broker in a TOML table; paths are from the file's `folder`. Raises ConfigError."""
    top = Section(where, "", table)
    top.known("listen", *FILES, "limits")
    names = {name: top.text(name, "", chars_max=FILE_CHARS_MAX) for name in FILES}
    urls = table.get("listen", [])
    if isinstance(urls, str):
        urls = [urls]
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise top.misfit("listen", 'is no list of addresses; write listen = ["mqtt://127.0.0.1"]')
    if not urls and "listen" in table:
        raise top.misfit("listen", "is empty; leave it out for mqtt://127.0.0.1:1883")
    limits = _limits(top.section("limits", needed=False))
    return _config(urls, {name: folder / text for name, text in names.items() if text}, limits)


def _of_flags(arguments: argparse.Namespace) -> BrokerConfig:
    from demesh.broker.limits import Limits  # noqa: PLC0415

    given = {name: getattr(arguments, name) for name in FILES}
    paths = {name: Path(value) for name, value in given.items() if value is not None}
    return _config(arguments.listen or [], paths, Limits())


def _of_file(arguments: argparse.Namespace) -> BrokerConfig:
    from demesh.cli.reading import line_of, parse_toml, read_text  # noqa: PLC0415

    for name in ("listen", *FILES):
        if getattr(arguments, name) is not None:
            raise ConfigError(
                f"--{name.replace('_', '-')} beside --config: write it into {arguments.config}"
            )
    path: Path = arguments.config
    text = read_text(path)
    try:
        return parse(parse_toml(path, text), str(path), path.parent)
    except EntryError as error:
        line = line_of(text, error.section, error.key)
        raise ConfigError(f"{path}:{line}: {error.text}" if line else str(error)) from None


def _config(urls: list[str], paths: dict[str, Path], limits: Limits) -> BrokerConfig:
    from demesh.broker.settings import BrokerConfig, check, parse_endpoint  # noqa: PLC0415
    from demesh.wire.topics import acl_lines  # noqa: PLC0415

    listen = tuple(parse_endpoint(url) for url in urls) or BrokerConfig().listen
    config = BrokerConfig(listen, rules=acl_lines(), limits=limits, **paths)
    check(config)
    return config


def _limits(section: Section) -> Limits:
    from demesh.broker.limits import Limits  # noqa: PLC0415

    names = [field.name for field in fields(Limits)]
    section.known(*names)
    chosen = {
        name: section.integer(name, 0 if name in MAY_BE_ZERO else 1, LIMIT_MAX)
        for name in names
        if name in section.table
    }
    return Limits(**chosen)
