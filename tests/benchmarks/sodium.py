"""The floor of validation: a loop in C over libsodium's own verify, and nothing else.

The function is the one inside PyNaCl that the product calls too, given to the loop by its address,
so both run the same instructions for the same signatures.
"""

from __future__ import annotations

import ctypes
import importlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

LOOP = """
typedef int (*open_t)(unsigned char *, unsigned long long *, const unsigned char *,
                      unsigned long long, const unsigned char *);
int open_all(open_t open, unsigned char *out, int count, const char **signed_,
             const unsigned long long *sizes, const char *key)
{
    int good = 0;
    unsigned long long size;
    for (int i = 0; i < count; i++)
        good += open(out, &size, (const unsigned char *) signed_[i], sizes[i],
                     (const unsigned char *) key) == 0;
    return good;
}
"""


class RawLoop:
    """Signed messages (signature first) of one key, verified by one call into C."""

    def __init__(self, folder: Path, key: bytes, signed: Sequence[bytes]) -> None:
        """Compile the loop in `folder`; raises CalledProcessError."""
        source, library = folder / "loop.c", folder / "loop.so"
        source.write_text(LOOP)
        compiler = shutil.which("cc")
        assert compiler is not None, "ask missing() first"
        subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True
        )
        self._loop = ctypes.CDLL(str(library)).open_all
        self._count = len(signed)
        self._arguments = (
            ctypes.c_void_p(_address()),
            ctypes.create_string_buffer(max(map(len, signed))),
            self._count,
            (ctypes.c_char_p * self._count)(*signed),
            (ctypes.c_ulonglong * self._count)(*map(len, signed)),
            key,
        )

    def __call__(self) -> None:
        """Verify all of them once."""
        good = self._loop(*self._arguments)
        assert good == self._count, f"{good} of {self._count} signatures hold"


def missing() -> str:
    """What the loop lacks on this machine; empty if nothing."""
    if shutil.which("cc") is None:
        return "no C compiler for the raw verify loop: apt install gcc"
    if not _address():
        return "this PyNaCl does not show its libsodium: pip install pynacl brings one that does"
    return ""


def _address() -> int:
    """Where crypto_sign_open is, or 0."""
    try:
        sodium = importlib.import_module("nacl._sodium")
        function = sodium.ffi.addressof(sodium.lib, "crypto_sign_open")
        return int(sodium.ffi.cast("uintptr_t", function))
    except (ImportError, AttributeError):
        return 0
