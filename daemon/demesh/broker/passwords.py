"""mosquitto's password file: one `name:hash` a line, and what a login costs (pure).

name:$7$iterations$salt$hash    PBKDF2 of SHA-512, 64 bytes; salt and hash in base64
name:$6$salt$hash               SHA-512 of password and salt, as mosquitto before 2.0 wrote it
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from demesh.errors import ConfigError

# mosquitto's own number. Our passwords are 24 random bytes, which no number of guesses finds; and
# while a password is checked the broker does nothing else.
ITERATIONS = 101
# 3 ms for each login on a laptop, and nobody else is served then. Wrong logins from this machine
# itself are not slowed down, and behind a proxy that is everybody: with 100,000 each of them would
# stop the broker for a tenth of a second.
ITERATIONS_MAX = 4_000

SALT_BYTES = 12
HASH_BYTES = 64
NAME_CHARS_MAX = 256


@dataclass(frozen=True, slots=True)
class Secret:
    """What is kept of one password; `iterations` 0: the old form."""

    iterations: int
    salt: bytes
    hash: bytes

    def fits(self, password: bytes) -> bool:
        """Whether this is the password; takes as long for a wrong one."""
        return hmac.compare_digest(self.hash, _hashed(password, self.salt, self.iterations))

    def __str__(self) -> str:
        words = [base64.b64encode(part).decode() for part in (self.salt, self.hash)]
        return "$".join(["", "7", str(self.iterations), *words])


class Passwords:
    """The accounts of a file. A wrong name costs as much time as a wrong password."""

    __slots__ = ("_most", "_secrets")

    def __init__(self, secrets: Mapping[str, Secret]) -> None:
        self._secrets = dict(secrets)
        self._most = max((secret.iterations for secret in secrets.values()), default=0)

    def __contains__(self, name: str) -> bool:
        return name in self._secrets

    def __len__(self) -> int:
        return len(self._secrets)

    def names(self) -> tuple[str, ...]:
        """Names in the order of the file."""
        return tuple(self._secrets)

    def fits(self, name: str, password: bytes) -> bool:
        """Whether this account is there and has this password."""
        secret = self._secrets.get(name)
        if secret is None:
            _hashed(password, bytes(SALT_BYTES), self._most)
            return False
        good = secret.fits(password)
        if secret.iterations < self._most:
            _hashed(password, bytes(SALT_BYTES), self._most - secret.iterations)
        return good


def make(password: bytes, salt: bytes) -> Secret:
    """What to keep of a new password; `salt`: SALT_BYTES random ones."""
    return Secret(ITERATIONS, salt, _hashed(password, salt, ITERATIONS))


def parse(text: str, where: str) -> Passwords:
    """The accounts in a file's text; raises ConfigError that names `where` and the line."""
    secrets: dict[str, Secret] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, value = line.partition(":")
        fault = name_fault(name) if colon else "expected name:$7$iterations$salt$hash"
        if not fault and name in secrets:
            fault = f"a second account {name!r}; delete one of the lines"
        secret = None if fault else _secret(value.strip())
        if secret is None:
            fault = fault or (
                f"the password of {name!r} is in no form that is known ($7$ or $6$); make it with "
                f"`demesh broker account add`"
            )
        elif secret.iterations > ITERATIONS_MAX:
            fault = (
                f"the password of {name!r} has {secret.iterations} iterations, expected at most "
                f"{ITERATIONS_MAX}: nobody else is served while one is checked; make it anew with "
                f"`mosquitto_passwd -I {ITERATIONS}` or `demesh broker account add`"
            )
        if fault or secret is None:
            raise ConfigError(f"{where}:{number}: {fault}")
        secrets[name] = secret
    return Passwords(secrets)


def name_fault(name: str) -> str:
    """What is wrong with an account's name, as a line for a person; empty if nothing is.

    Names go into topics and files: no `+ # /`, for rights by pattern would not hold, and no colon.
    """
    if not name or len(name) > NAME_CHARS_MAX:
        return f"expected a name of 1 to {NAME_CHARS_MAX} characters"
    if name.startswith(("#", "$")) or name != name.strip() or not name.isprintable():
        return f"{name!r} is no name: # or $ in front, spaces at an end, or not printable"
    if any(mark in name for mark in "+#/:"):
        return f"{name!r} is no name: none of + # / : may be in it"
    return ""


def line(name: str, secret: Secret) -> str:
    """One line of the file."""
    return f"{name}:{secret}\n"


def without(text: str, name: str) -> str:
    """The file's text without the account; everything else as it was."""
    kept: Iterable[str] = (
        row for row in text.splitlines(keepends=True) if row.partition(":")[0] != name
    )
    return "".join(kept)


def _secret(value: str) -> Secret | None:
    empty, *words = value.split("$")
    if empty:
        return None
    match words:
        case ["7", count, salt, kept] if count.isascii() and count.isdigit() and len(count) < 9:
            iterations = int(count)
            if not iterations:
                return None
        case ["6", salt, kept]:
            iterations = 0
        case _:
            return None
    try:
        secret = Secret(
            iterations, base64.b64decode(salt, validate=True), base64.b64decode(kept, validate=True)
        )
    except binascii.Error:
        return None
    return secret if secret.salt and len(secret.hash) == HASH_BYTES else None


def _hashed(password: bytes, salt: bytes, iterations: int) -> bytes:
    if not iterations:
        return hashlib.sha512(password + salt).digest()
    return hashlib.pbkdf2_hmac("sha512", password, salt, iterations)
