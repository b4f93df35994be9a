"""Fuzz everything that reads what others wrote, and print what it took.

    python -m fuzz [--seconds N | --inputs N] [--seed S] [--blind] [target ...]

Where Atheris is installed the pure implementation's coverage guides it; else, and with `--blind`,
changes are drawn from the seed alone, and the same seed gives the same inputs. `--seconds` is for
all targets together, `--inputs` for each. Exit code 1: there was a finding; its input is printed
and kept in `tests/fuzz/corpus`, where every later test runs it again.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fuzz import blind, corpus
from fuzz.blind import Finding, Outcome
from fuzz.targets import SHARES, TARGETS

HEX_SHOWN = 4_096
ROW = "{:<10} {:>6} {:>12} {:>10} {:>8} {:>9}"


def main() -> int:
    """0, or 1 for a finding."""
    given = _arguments()
    if importlib.util.find_spec("demesh.wire._hotpath") is None:
        raise SystemExit(
            "the compiled hot path is not built; it takes a C compiler and pip install -e ."
        )
    names: list[str] = given.target or list(TARGETS)
    guided = not given.blind and importlib.util.find_spec("atheris") is not None
    print(f"seed {given.seed}, {'guided by coverage' if guided else 'blind'}")
    print(ROW.format("target", "s", "inputs", "inputs/s", "corpus", "findings"), flush=True)
    share = sum(SHARES.get(name, 1) for name in names)
    findings: list[tuple[str, Finding]] = []
    inputs = 0
    for name in names:
        seconds = None
        if given.inputs is None:
            seconds = given.seconds * SHARES.get(name, 1) / share
        run = _guided if guided else _blind
        outcome = run(name, given.seed, seconds, given.inputs)
        rate = outcome.inputs / max(outcome.seconds, 1e-9)
        cells = f"{outcome.seconds:.0f}", f"{outcome.inputs:,}", f"{rate:,.0f}", outcome.corpus
        print(ROW.format(name, *cells, int(outcome.finding is not None)), flush=True)
        inputs += outcome.inputs
        if outcome.finding is not None:
            findings.append((name, outcome.finding))
    print(f"{inputs:,} inputs, {len(findings)} findings")
    for name, finding in findings:
        path = corpus.keep(name, finding.data)
        print(f"\n{name}: {len(finding.data)} bytes, kept as {path}")
        print(finding.data[:HEX_SHOWN].hex())
        print(finding.trace.rstrip())
    return 1 if findings else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz what reads bytes.")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--seconds", type=float, default=120, help="for all targets together")
    amount.add_argument("--inputs", type=int, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000)
    parser.add_argument("--blind", action="store_true", help="without Atheris, so repeatable")
    parser.add_argument("target", nargs="*", choices=[*TARGETS, []], help=", ".join(TARGETS))
    return parser.parse_args()


def _blind(name: str, seed: int, seconds: float | None, inputs: int | None) -> Outcome:
    goes_on: Callable[[int], bool] = lambda count: count < (inputs or 0)  # noqa: E731
    if seconds is not None:
        end = time.monotonic() + seconds
        goes_on = lambda _: time.monotonic() < end  # noqa: E731
    return blind.run(name, TARGETS[name](), seed, goes_on)


def _guided(name: str, seed: int, seconds: float | None, inputs: int | None) -> Outcome:
    """In a process of its own: libFuzzer ends the one it runs in."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        begin, found = Path(folder, "corpus"), Path(folder, "found")
        begin.mkdir()
        found.mkdir()
        for place, data in enumerate((*TARGETS[name]().seeds, *corpus.kept(name))):
            (begin / f"{place:04}").write_bytes(data)
        amount = f"-max_total_time={max(1, round(seconds))}" if seconds else f"-runs={inputs}"
        command = [sys.executable, "-m", "fuzz.guided", name, amount]
        command += [f"-seed={seed or 1}", f"-artifact_prefix={found}/", str(begin)]
        began = time.monotonic()
        ended = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
        took = time.monotonic() - began
        said = ended.stdout.decode("utf-8", "replace")
        finding = None
        if spoiled := sorted(found.iterdir()):
            finding = Finding(spoiled[0].read_bytes(), said[-8_000:])
        elif ended.returncode:
            raise SystemExit(f"{name}: Atheris ended with {ended.returncode}\n{said[-8_000:]}")
        counts = re.findall(r"(?:stat::number_of_executed_units:\s*|^#)(\d+)", said, re.MULTILINE)
        inputs_done = max((int(count) for count in counts), default=0)
        return Outcome(inputs_done, took, len(list(begin.iterdir())), finding)


if __name__ == "__main__":
    raise SystemExit(main())
