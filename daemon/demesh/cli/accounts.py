"""`demesh broker account`: who may log in, in a password file as mosquitto has it.

Passwords are made, not chosen: 24 random bytes as text. They are shown once or written to a file
for a device's `password_file`; the password file itself keeps hashes.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from demesh.errors import ConfigError, KeyFileError

if TYPE_CHECKING:
    from demesh.broker.passwords import Passwords

PASSWORD_BYTES = 24


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `account` below `broker`."""
    account = subparsers.add_parser("account", help="make, remove and list accounts")
    actions = account.add_subparsers(metavar="ACTION", required=True)
    adds = actions.add_parser("add", help="make an account with a new random password")
    adds.add_argument("-o", "--output", type=Path, help="write the password to this new file")
    adds.add_argument(
        "--renew", action="store_true", help="give an account that is there a new password"
    )
    adds.set_defaults(run=add)
    removes = actions.add_parser("remove", help="remove an account")
    removes.set_defaults(run=remove)
    for parser in (adds, removes):
        parser.add_argument("name", help="of a device, the text of its id")
    lists = actions.add_parser("list", help="the names of all accounts")
    lists.set_defaults(run=show)
    for parser in (adds, removes, lists):
        parser.add_argument("--passwords", type=Path, required=True, metavar="FILE")


def add(arguments: argparse.Namespace) -> int:
    """Make one account; raises DemeshError, and then nothing has changed."""
    from demesh.broker import passwords  # noqa: PLC0415

    name: str = arguments.name
    output: Path | None = arguments.output
    fault = passwords.name_fault(name)
    if fault:
        raise ConfigError(fault)
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    with _edited(arguments.passwords) as path:
        text, accounts = _read(path) if path.exists() else ("", passwords.Passwords({}))
        if name in accounts and not arguments.renew:
            raise ConfigError(f"{path}: {name} has an account; --renew gives it a new password")
        secret = passwords.make(password.encode(), secrets.token_bytes(passwords.SALT_BYTES))
        rest = passwords.without(text, name)
        rest += "" if rest.endswith("\n") or not rest else "\n"
        if output is not None:
            _write_new(output, f"{password}\n".encode())
        try:
            _replace(path, rest + passwords.line(name, secret))
        except KeyFileError:
            if output is not None:
                output.unlink()
            raise
    print(password if output is None else f"{name}: password in {output}")
    return 0


def remove(arguments: argparse.Namespace) -> int:
    """Remove one account; raises DemeshError."""
    from demesh.broker import passwords  # noqa: PLC0415

    with _edited(arguments.passwords) as path:
        text, accounts = _read(path)
        if arguments.name not in accounts:
            raise ConfigError(f"{path}: no account {arguments.name!r}")
        _replace(path, passwords.without(text, arguments.name))
    print(f"{arguments.name}: removed; a running broker lets it in until SIGHUP")
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Print the names."""
    _, accounts = _read(arguments.passwords)
    for name in accounts.names():
        print(name)
    return 0


def _read(path: Path) -> tuple[str, Passwords]:
    from demesh.broker import files, passwords  # noqa: PLC0415

    text = files.read_text(path, "passwords", private=True)
    return text, passwords.parse(text, str(path))


def _replace(path: Path, text: str) -> None:
    from demesh.broker import files  # noqa: PLC0415

    try:
        files.replace(path, text.encode())
    except OSError as error:
        raise KeyFileError(f"{path}: passwords: cannot be written: {error.strerror}") from None


def _write_new(path: Path, content: bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise KeyFileError(f"{path}: there is a file already; move it away first") from None
    except OSError as error:
        raise KeyFileError(f"{path}: password: cannot be written: {error.strerror}") from None


@contextmanager
def _edited(path: Path) -> Iterator[Path]:
    """Hold off other edits of the file: two at once would lose one of the accounts."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise KeyFileError(f"{path.parent}: no such folder: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(folder)
