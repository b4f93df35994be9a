"""Instructions per frame, by callgrind: exact, and the same on a machine that others use.

A child under valgrind checks so many frames, and then twice as many; the difference is what a frame
takes, without the interpreter's start or the call around the batch. Its own instructions are
those of the extension and of Python for it; libsodium's stand apart, being the signature's.

    python -m benchmarks.instructions FOLDER FRAMES     the child
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.frames import allowance, bad_frames, validator, vouchers
from benchmarks.plan import Plan
from benchmarks.row import Row, Skipped
from demesh.wire.kinds import Reject

GROUP = "validate"

HEADER = Path("/usr/include/valgrind/callgrind.h")
REQUESTS = """
#include <valgrind/callgrind.h>
void begin(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void end(const char *name) { CALLGRIND_DUMP_STATS_AT(name); CALLGRIND_STOP_INSTRUMENTATION; }
"""

LIBSODIUM = "_sodium"  # PyNaCl's module, which has libsodium inside
OWN = "own"

VALID, KNOWN = "valid frame", "statement known already"

Counts = dict[str, Counter[str]]


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """A valid frame, one known already, every class of bad ones."""
    if why := missing():
        yield Skipped(GROUP, why)
        return
    frames = plan.count(100, 10)
    once, twice = counted(plan.folder, frames)
    for name in once:
        own, sodium = (
            (twice[name][place] - once[name][place]) / frames for place in (OWN, LIBSODIUM)
        )
        how = f"callgrind, {frames} frames; libsodium's come on top: {sodium:,.0f}"
        yield Row(GROUP, f"instructions, {name}", own, "", how)


def missing() -> str:
    """What counting lacks on this machine; empty if nothing."""
    if shutil.which("valgrind") and shutil.which("cc") and HEADER.exists():
        return ""
    return "no valgrind to count instructions with: apt install valgrind gcc"


def counted(folder: Path, frames: int) -> tuple[Counts, Counts]:
    """Instructions by name and place, of so many frames and of twice as many."""
    source = folder / "requests.c"
    source.write_text(REQUESTS)
    cc, valgrind = shutil.which("cc"), shutil.which("valgrind")
    assert cc and valgrind, "ask missing() first"
    library = str(folder / "requests.so")
    subprocess.run([cc, "-O2", "-shared", "-fPIC", "-o", library, str(source)], check=True)
    out = folder / "callgrind.out"
    subprocess.run(
        [
            valgrind, "-q", "--tool=callgrind", "--instr-atstart=no", "--compress-strings=no",
            f"--callgrind-out-file={out}",
            sys.executable, "-m", "benchmarks.instructions", library, str(frames),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
             "PYTHONHASHSEED": "0"},
        check=True, capture_output=True,
    )  # fmt: skip
    found: tuple[Counts, Counts] = ({}, {})
    for path in sorted(folder.glob(f"{out.name}.*"), key=lambda one: int(one.suffix[1:])):
        name, cost = read(path.read_text())
        if name:
            name, times = name.rsplit(" x", 1)
            found[int(times) - 1][name] = cost
    return found


def read(dump: str) -> tuple[str, Counter[str]]:
    """What a dump is called, and the instructions spent in libsodium and elsewhere.

    Of callgrind's format only this: `ob=` names the object that the following lines are about, and
    the line after `calls=` is what the callee took, which the callee's own lines say again.
    """
    name, place, called, cost = "", OWN, False, Counter[str]()
    for line in dump.splitlines():
        if line.startswith("desc: Trigger: Client Request: "):
            name = line.removeprefix("desc: Trigger: Client Request: ")
        elif line.startswith("ob="):
            place = LIBSODIUM if LIBSODIUM in line.rpartition("/")[2] else OWN
        elif line.startswith("calls="):
            called = True
        elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            if not called:
                cost[place] += int(line.split()[1])
            called = False
    return name, cost


def count(library: Path, frames: int) -> None:
    """In the child: each batch once and twice as long, every one with a validator of its own."""
    gc.disable()  # it would fall on some batch
    requests = ctypes.CDLL(str(library))
    compiled: Any = importlib.import_module("demesh.wire._hotpath")
    good = vouchers(2 * frames)
    batches: dict[str, tuple[Sequence[bytes], Reject | None]] = {
        VALID: (good, None),
        KNOWN: (good, None),
    }
    for code, bad in bad_frames(2 * frames).items():
        batches[f"reject {code.name}"] = bad, code
    for name, (batch, rejected) in batches.items():
        for times in (1, 2):
            some = batch[: times * frames]
            one, spent = validator(compiled), allowance(compiled, rejected)
            if name == KNOWN:
                one.check_batch(some)
            label = f"{name} x{times}".encode()
            requests.begin()
            verdicts = one.check_batch(some, spent)
            requests.end(label)
            assert len(verdicts) == len(some)
            del verdicts  # now, or the next batch would pay for it


if __name__ == "__main__":
    count(Path(sys.argv[1]), int(sys.argv[2]))
