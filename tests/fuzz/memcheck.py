"""Memory safety of the extension: built with AddressSanitizer and UBSan, fed with all that is kept.

    python -m fuzz.memcheck [--inputs N] [--valgrind | --prove]

Theory of operation. The sanitizers stop at the first access outside an object, and at the first
undefined shift, overflow or alignment. But a `bytes` object of n bytes has n + 1: a zero behind its
end, so a read of one byte too many would go unnoticed. So every argument's last zero is poisoned
while the extension has it, and a frame that lies at the end of its memory really does.

valgrind needs no special build; it does not see that zero, nor the stack, and takes fifty times as
long. It also sees libsodium at work. What Python reads of memory never written is not looked at.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.machinery
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO, Any

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "daemon/demesh/wire/_hotpath.pyx"
NAME = "demesh.wire._hotpath"
TARGETS = ("walker", "envelope", "validator")
SUITE = ("test_differential.py", "test_vectors.py", "test_window.py")
BYTES_HEAD = bytes.__basicsize__ - 1  # what stands before the content of a bytes object
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
INPUTS = 20_000


# What the sanitizers must notice: old text, new text, and a word of what they say.
FAULTS = (
    (
        "if at >= end:\n        return NULL\n    first",
        "if at > end:\n        return NULL\n    first",
    ),
    ("if size > end - at:", "if size > end - at + 1:"),
    ("if more > end - at or not low", "if not low"),
    ("malloc(total)", "malloc(total - 1)"),
    (
        "    argument = first & 0x1F\n    at += 1\n",
        "    argument = first & 0x1F\n    at += 1 << (first - 192)\n",
    ),
)


def main() -> int:
    """0 if there is nothing to say, or with `--prove` if there was about every fault."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.memcheck")
    parser.add_argument("--inputs", type=int, default=INPUTS, help="for each target")
    parser.add_argument("--valgrind", action="store_true", help="instead of the sanitizers")
    parser.add_argument("--prove", action="store_true", help="faults in a copy must be noticed")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside is not None:
        return _inside(given.inside, given.inputs, given.valgrind, given.prove)
    if given.prove:
        return _prove(given.inputs)
    ended = _watched(SOURCE, given.inputs, given.valgrind, False, None)
    print("memcheck: nothing found" if ended == 0 else f"memcheck: ended with {ended}")
    return int(ended != 0)


def _prove(inputs: int) -> int:
    """1 if a fault goes unnoticed."""
    unnoticed = 0
    content = SOURCE.read_text("utf-8")
    with tempfile.TemporaryDirectory(prefix="memcheck-") as folder:
        for number, (old, new) in enumerate(FAULTS):
            assert old in content, f"the source has no {old!r}"
            source, log = Path(folder, "_hotpath.pyx"), Path(folder, "log")
            source.write_text(content.replace(old, new), "utf-8")
            with log.open("w+") as said:
                _watched(source, inputs, False, True, said)
            told = re.search(r"(AddressSanitizer|runtime error): .*", log.read_text("utf-8"))
            unnoticed += told is None
            print(f"fault {number}: {told[0][:90] if told else 'NOT NOTICED'}", flush=True)
    return int(unnoticed != 0)


def _watched(source: Path, inputs: int, valgrind: bool, prove: bool, log: IO[str] | None) -> int:
    """The exit code of the process that has the extension built of this source."""
    with tempfile.TemporaryDirectory(prefix="memcheck-") as folder:
        built = _build(source, Path(folder), [] if valgrind else SANITIZE)
        command = [sys.executable, "-m", "fuzz.memcheck", *(["--prove"] if prove else [])]
        command += ["--inside", str(built), "--inputs", str(inputs)]
        environment = {**os.environ, "PYTHONMALLOC": "malloc"}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        if valgrind:
            options = ["--quiet", "--error-exitcode=9", "--undef-value-errors=no"]
            command = ["valgrind", *options, *command, "--valgrind"]
        else:
            # What Python never frees is no leak of ours.
            environment["ASAN_OPTIONS"] = "detect_leaks=0"
            environment["UBSAN_OPTIONS"] = "print_stacktrace=1"
            environment["LD_PRELOAD"] = _library("libasan.so")
        return subprocess.run(
            command, env=environment, stdout=log, stderr=log, check=False
        ).returncode


def _library(name: str) -> str:
    said = subprocess.run(
        [_compiler()[0], f"-print-file-name={name}"], capture_output=True, text=True, check=True
    )
    path = said.stdout.strip()
    if not Path(path).is_absolute():
        raise SystemExit(f"memcheck: the compiler has no {name}; on Debian it comes with gcc")
    return path


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "gcc"))


def _build(source: Path, folder: Path, flags: list[str]) -> Path:
    """The extension with these flags, in a folder of its own."""
    written, built = folder / "_hotpath.c", folder / "_hotpath.abi3.so"
    include = sysconfig.get_paths()["include"]
    to_c = [sys.executable, "-m", "cython", "-3", "--module-name", NAME]
    to_c += [str(source.resolve()), "-o", str(written)]
    subprocess.run(to_c, check=True)
    options = ["-shared", "-fPIC", "-O1", "-g", "-DPy_LIMITED_API=0x030B0000", f"-I{include}"]
    compile_ = [*_compiler(), *options, *flags, str(written), "-o", str(built)]
    subprocess.run(compile_, check=True)
    return built


# -- in the process that is watched ---------------------------------------------------------------


def _inside(built: Path, inputs: int, valgrind: bool, prove: bool) -> int:
    module = _load(built)
    sys.modules[NAME] = module if valgrind else _tightened(module)
    # Only now: all of these import the extension by its name.
    from fuzz import blind  # noqa: PLC0415
    from fuzz.targets import TARGETS as ALL  # noqa: PLC0415

    for name in TARGETS:
        outcome = blind.run(name, ALL[name](), 1, lambda count: count < inputs)
        print(f"memcheck: {name}, {outcome.inputs:,} inputs", flush=True)
        if outcome.finding is not None:
            print(outcome.finding.trace)
            return 1
    if valgrind or prove:
        return 0
    import pytest  # noqa: PLC0415

    suite = [str(ROOT / "tests/wire" / name) for name in SUITE]
    return int(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *suite]))


def _load(built: Path) -> Any:
    loader = importlib.machinery.ExtensionFileLoader(NAME, str(built))
    spec = importlib.util.spec_from_file_location(NAME, built, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _tightened(module: Any) -> ModuleType:
    """The module, every bytes argument of which ends where its content does."""
    within = _Poison().within

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            given = [one for one in arguments if type(one) is bytes]
            if arguments and isinstance(arguments[-1], list):
                given += [one for one in arguments[-1] if type(one) is bytes]
            with within(given):
                return function(*arguments)

        return call

    class Validator(module.Validator):  # type: ignore[misc]
        check = guarded(module.Validator.check)
        check_batch = guarded(module.Validator.check_batch)
        verify = guarded(module.Validator.verify)
        enrol = guarded(module.Validator.enrol)

    twin = ModuleType(NAME)
    twin.__dict__.update({key: getattr(module, key) for key in dir(module)})
    twin.Validator = Validator  # type: ignore[attr-defined]
    twin.canonical = guarded(module.canonical)  # type: ignore[attr-defined]
    twin.read_envelope = guarded(module.read_envelope)  # type: ignore[attr-defined]
    return twin


class _Poison:
    """Makes the zero behind the content of bytes objects unreadable for instrumented code."""

    def __init__(self) -> None:
        process = ctypes.CDLL(None)
        self._poison = process["__asan_poison_memory_region"]
        self._unpoison = process["__asan_unpoison_memory_region"]
        self._is_poisoned = process["__asan_address_is_poisoned"]
        for function in (self._poison, self._unpoison):
            function.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        self._is_poisoned.argtypes = (ctypes.c_void_p,)
        probe = b"a frame of some bytes" * 3
        with self.within([probe]):
            zero = id(probe) + BYTES_HEAD + len(probe)
            assert self._is_poisoned(zero), "the zero behind a bytes object can still be read"
            assert not self._is_poisoned(zero - 1), "the last byte cannot be read any more"

    @contextmanager
    def within(self, given: list[bytes]) -> Iterator[None]:
        """While this lasts; the single-byte objects that Python shares stay as they are."""
        zeros = [id(one) + BYTES_HEAD + len(one) for one in given if len(one) > 1]
        for zero in zeros:
            self._poison(zero, 1)
        try:
            yield
        finally:
            for zero in zeros:
                self._unpoison(zero, 1)


if __name__ == "__main__":
    raise SystemExit(main())
