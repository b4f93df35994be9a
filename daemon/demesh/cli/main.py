"""The command line: `demesh COMMAND`. Commands are imported only when they are meant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

from demesh import __version__
from demesh.errors import ConfigError, DemeshError

OWN = (
    *("run", "ledger", "member", "account", "transfer"),
    *("tariff", "broker", "doctor", "version"),
)

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; every DemeshError is one line on stderr and its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if not __debug__:
            raise ConfigError("python -O takes the daemon's assertions away; run it without -O")
        arguments = _parser(words).parse_args(words)
        run: Callable[[argparse.Namespace], int] = arguments.run
        return run(arguments)
    except DemeshError as error:
        return _tell(error)
    except ModuleNotFoundError as error:
        from demesh.cli.plugins import missing  # noqa: PLC0415

        return _tell(missing(error))
    except KeyboardInterrupt:
        return INTERRUPTED


def _tell(error: DemeshError) -> int:
    print(f"demesh: {' '.join(str(error).split())}", file=sys.stderr)
    return error.exit_code


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser, with those commands registered that `words` may mean."""
    parser = argparse.ArgumentParser(
        prog="demesh", description="A mesh of machines of different owners, over MQTT."
    )
    parser.add_argument("--version", action="version", version=f"demesh {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_version(subparsers)
    meant = next((word for word in words if not word.startswith("-")), "")
    if meant != "version":
        from demesh.cli import (  # noqa: PLC0415
            account,
            broker,
            doctor,
            ledger,
            member,
            run,
            tariff,
        )

        run.add_command(subparsers)
        ledger.add_command(subparsers)
        member.add_command(subparsers)
        account.add_command(subparsers)
        broker.add_command(subparsers)
        doctor.add_command(subparsers)
        tariff.add_command(subparsers)
    if meant not in OWN:
        _add_others(subparsers, meant)
    return parser


def _add_others(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], meant: str
) -> None:
    """Register what other packages bring; MissingExtraError only for the command that is meant."""
    from demesh.cli.plugins import COMMANDS, MissingExtraError, load  # noqa: PLC0415

    for point in sorted(entry_points(group=COMMANDS), key=lambda point: point.name):
        try:
            add = load(point)
        except MissingExtraError as error:
            if meant == point.name:
                raise
            subparsers.add_parser(point.name, help=str(error))
        else:
            add(subparsers)


def _add_version(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("version", help="print the version")
    parser.set_defaults(run=_version)


def _version(_: argparse.Namespace) -> int:
    print(f"demesh {__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
