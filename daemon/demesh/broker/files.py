"""The broker's files: read whole or not at all, and replaced in one step."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from demesh.errors import ConfigError, KeyFileError

# Passwords of 5,000 accounts, or the system's list of authorities; anything larger is another file.
FILE_BYTES_MAX = 1024 * 1024

# A group's right to read is how systems share secrets with services (Debian's ssl-cert).
OPEN_TO_OTHERS = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP


def read(path: Path, what: str, *, private: bool = False) -> bytes:
    """A file's content; raises ConfigError, and KeyFileError for a private one."""
    fault = KeyFileError if private else ConfigError
    try:
        # Without O_NONBLOCK a FIFO under this name would hold the start for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            # The mode of the opened file, not of the name: nothing can be exchanged in between.
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise fault(f"{path}: {what}: not a file")
            if private and mode & OPEN_TO_OTHERS:
                raise KeyFileError(
                    f"{path}: {what}: mode {stat.S_IMODE(mode):04o} lets others read or change it; "
                    f"chmod 600 {path}"
                )
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise fault(f"{path}: {what}: cannot be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: {what}: larger than {FILE_BYTES_MAX} bytes; is it this file?")
    return content


def read_text(path: Path, what: str, *, private: bool = False) -> str:
    """As `read`, as text; raises ConfigError, KeyFileError."""
    try:
        return read(path, what, private=private).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: {what}: not UTF-8 text") from None


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another, whole and durably, with its owner and mode; 0600 if new.

    Raises OSError.
    """
    path = path.resolve()  # the file that a link leads to, not the link
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if path.exists():
                before = path.stat()
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
