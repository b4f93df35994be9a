"""Ed25519 keys as files of mode 0600: one line of text, the seed in hexadecimal."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nacl.signing import SigningKey

from demesh.errors import KeyFileError
from demesh.storage import durable

PREFIX = "demesh ed25519 seed: "
SEED_BYTES = 32
OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def create_key(path: Path) -> SigningKey:
    """A new key in a new file; raises KeyFileError, also when the file is already there."""
    key = SigningKey.generate()
    write_key(path, key)
    return key


def write_key(path: Path, key: SigningKey) -> None:
    """Write a key to a new file, durably; a key that is there is never overwritten."""
    try:
        durable.create(path, f"{PREFIX}{bytes(key).hex()}\n".encode())
    except FileExistsError:
        raise KeyFileError(f"{path}: there is a key already; move it away first") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot write the key: {error.strerror}") from None


def load_key(path: Path) -> SigningKey:
    """The key in a file; raises KeyFileError if it is missing, malformed or open to others."""
    return SigningKey(_seed(path, read_private(path, len(PREFIX) + 2 * SEED_BYTES + 2)))


def read_credential(path: Path, bytes_max: int) -> bytes:
    """The same of a file that systemd made for this service.

    It lets the service's user in by an access list, whose mask stands where the group's rights do.
    """
    return read_private(path, bytes_max, stat.S_IRWXO)


def read_private(path: Path, bytes_max: int, too_open: int = OPEN_TO_OTHERS) -> bytes:
    """At most one byte more than `bytes_max` of a file only its owner can read, or KeyFileError."""
    try:
        # Without O_NONBLOCK a FIFO under this name would hold the start for ever.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyFileError(f"{path}: no such file; the device needs it") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        # The mode of the opened file, not of the name: nothing can be exchanged in between.
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise KeyFileError(f"{path}: not a file")
        if state.st_mode & too_open:
            mode = stat.S_IMODE(state.st_mode)
            raise KeyFileError(f"{path}: mode {mode:04o} lets others read it; chmod 600 {path}")
        return os.read(handle, bytes_max + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from None
    finally:
        os.close(handle)


def _seed(path: Path, content: bytes) -> bytes:
    expected = f"{path}: not a key; expected one line '{PREFIX}' and 64 hexadecimal digits"
    try:
        text = content.decode("ascii")
        if not text.startswith(PREFIX):
            raise KeyFileError(expected)
        seed = bytes.fromhex(text.removeprefix(PREFIX).strip())
    except ValueError:
        raise KeyFileError(expected) from None
    if len(seed) != SEED_BYTES:
        raise KeyFileError(expected)
    return seed
