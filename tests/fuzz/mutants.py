"""Deliberate faults, each of which the fuzzer must find: `python -m fuzz.mutants [part of a name]`.

Each is put into a copy of the sources, the extension built anew where it is changed, and its target
run blind until it finds something. Faults in both implementations at once are for the third reader.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
INPUTS_MAX = 400_000
SEED = 1

ENVELOPE = "daemon/demesh/wire/_envelope.py"
REFERENCE, HOTPATH = "daemon/demesh/wire/_reference.py", "daemon/demesh/wire/_hotpath.pyx"
WALKER, SCHEMA = "daemon/demesh/wire/_walker.py", "daemon/demesh/wire/schema.py"
IDENTITY, STATEMENTS = "daemon/demesh/wire/identity.py", "daemon/demesh/wire/statements.py"
SEALING = "daemon/demesh/wire/sealing.py"
LIGHT, SNAPSHOTS = "daemon/demesh/light.py", "daemon/demesh/snapshots.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is wrong, which target must notice, and the changes: file, old text, new text."""

    name: str
    target: str
    changes: tuple[tuple[str, str, str], ...]


def _of(name: str, target: str, *changes: tuple[str, str, str]) -> Mutant:
    return Mutant(name, target, changes)


LONG_HEAD = (WALKER, "if argument < (24 if size == 1 else 1 << (4 * size)):", "if argument < 0:")
LONG_HEAD_C = (HOTPATH, "return 24 if size == 1 else (<uint64_t> 1) << (4 * size)", "return 0")
KEY_TWICE = (WALKER, "data[start:at] <= previous", "data[start:at] < previous")
KEY_TWICE_C = (
    HOTPATH,
    "order == 0 and low_size < high_size",
    "order == 0 and low_size <= high_size",
)
LONG_FIELD = (ENVELOPE, "if value < (24 if size == 1 else 1 << (4 * size)):", "if value < 0:")

MUTANTS = (
    _of("a long head, pure", "walker", LONG_HEAD),
    _of("a long head, compiled", "walker", LONG_HEAD_C),
    _of("a key twice, both", "walker", KEY_TWICE, KEY_TWICE_C),
    _of("17 levels, pure", "walker", (WALKER, "depth == DEPTH_MAX", "depth == DEPTH_MAX + 1")),
    _of("an end of text unread, compiled", "walker", (HOTPATH, "if more > end - at or", "if")),
    _of("a long field, pure", "envelope", LONG_FIELD),
    _of("a long field, both", "envelope", LONG_FIELD, LONG_HEAD_C),
    _of("bytes after the frame, pure", "envelope", (ENVELOPE, "    outer.finish()\n", "")),
    _of(
        "a window of 65, pure",
        "validator",
        (REFERENCE, "self._seq - seq >= WINDOW or", "self._seq - seq > WINDOW or"),
    ),
    _of(
        "a kind's limit less one, compiled",
        "validator",
        (HOTPATH, "if size > _LIMITS[p.kind]:", "if size >= _LIMITS[p.kind]:"),
    ),
    _of(
        "any boot again, both",
        "validator",
        (REFERENCE, "        if boot < self._boot:\n            return True\n", ""),
        (
            HOTPATH,
            "        if boot < self._boot:\n            return True\n        if seq > self._seq:\n"
            "            return False\n        return self._seq - seq",
            "        if seq > self._seq:\n            return False\n        return self._seq - seq",
        ),
    ),
    _of(
        "a repeat that is free, compiled",
        "validator",
        (HOTPATH, "                allowance.repeats -= 1\n", "                pass\n"),
    ),
    _of(
        "a credit for what was forged, pure",
        "validator",
        (REFERENCE, "if allowance.reserved or not holds:", "if allowance.reserved:"),
    ),
    _of("any version sealed", "seals", (SEALING, "if not SEALED_SINCE <= ", "if not 0 <= ")),
    _of("a long head of a box", "seals", (SEALING, "== head(2, len(content)):", ">= b'\\x40':")),
    _of(
        "a seal of another mesh",
        "seals",
        (SEALING, "if tag != TAG_HEAD + self._binding.tag:", "if False:"),
    ),
    _of(
        "not deterministic inside", "messages", (SCHEMA, "if not canonical(content):", "if False:")
    ),
    _of(
        "a bitmap with zeros behind",
        "messages",
        (STATEMENTS, "if len(value.voters) != (bits.bit_length() + 7) // 8:", "if False:"),
    ),
    _of("an owner who is none", "genesis", (IDENTITY, "if owner_key is None:", "if False:")),
    _of("a voter who is none", "proofs", (LIGHT, "if voter >= len(electorate.voters):", "if 0:")),
    _of("any path", "proofs", (LIGHT, "== header.state_root\n", "!= b''\n")),
    _of("any records", "leaps", (SNAPSHOTS, "if ledger.root != header.state_root:", "if False:")),
    _of(
        "a journal of another version",
        "stored",
        (
            "daemon/demesh/past.py",
            '    except Malformed as error:\n        raise StorageError(f"votes.journal: {error}; '
            'it is of another version") from None\n\n\ndef _entry_of',
            "    finally:\n        pass\n\n\ndef _entry_of",
        ),
    ),
    _of(
        "no checksum",
        "journals",
        (
            "daemon/demesh/storage/frames.py",
            "if _sum(salt, offset, payload) == checksum else",
            "if checksum else",
        ),
    ),
    _of("padding of an id", "topics", (IDENTITY, "if bits & 3:", "if False:")),
    _of(
        "a packet in pieces",
        "mqtt",
        (
            "daemon/demesh/broker/decoder.py",
            "return self._wait(data, start, at - start, packets)",
            "return self._wait(data, start, at - start + 1, packets)",
        ),
    ),
    _of(
        "a property beyond the others",
        "mqtt",
        (
            "daemon/demesh/broker/properties.py",
            "value, at = form.read(data, at + 1, stop)",
            "value, at = form.read(data, at + 1, end)",
        ),
    ),
    _of(
        "a level by each CONNECT",
        "mqtt",
        ("daemon/demesh/broker/decoder.py", "and not self._greeted", "and True"),
    ),
    _of(
        "a long packet cut short",
        "sieve",
        ("daemon/demesh/transport/sieve.py", "self._skip += max(0, at - size)", "pass"),
    ),
    _of(
        "any farewell",
        "node",
        (
            "daemon/demesh/membership/presence.py",
            "if not payload.isdigit() or len(payload) > 20:",
            "if not payload:",
        ),
    ),
    _of(
        "malformed is raised",
        "node",
        ("daemon/demesh/node.py", "        except Malformed:\n", "        except KeyError:\n"),
    ),
)


def main() -> int:
    """1 if one of them lives."""
    wanted = sys.argv[1:]
    lives = 0
    for mutant in MUTANTS:
        if wanted and not any(one in mutant.name or one == mutant.target for one in wanted):
            continue
        inputs = inputs_to_find(mutant)
        lives += inputs is None
        said = "NOT FOUND" if inputs is None else f"{inputs:,} inputs"
        print(f"{mutant.target:<10} {mutant.name:<36} {said}", flush=True)
    return 1 if lives else 0


def inputs_to_find(mutant: Mutant) -> int | None:
    """How many inputs its target takes; None if it finds nothing."""
    with tempfile.TemporaryDirectory(prefix="fuzz-mutant-") as folder:
        copy = Path(folder)
        for part in ("daemon", "consensus", "firmware_sim", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for file, old, new in mutant.changes:
            content = (copy / file).read_text("utf-8")
            assert old in content, f"{mutant.name}: {file} has no {old!r}"
            (copy / file).write_text(content.replace(old, new), "utf-8")
        if any(file == HOTPATH for file, _, _ in mutant.changes):
            _build(copy)
        command = ["-m", "fuzz", "--blind", "--seed", str(SEED), "--inputs", str(INPUTS_MAX)]
        ended = _python(copy, *command, mutant.target)
    counted = re.search(rf"^{mutant.target}\s+\d+\s+([\d,]+)", ended.stdout, re.MULTILINE)
    if counted is None or ended.returncode not in (0, 1):
        raise SystemExit(
            f"{mutant.name}: no result\n{ended.stdout[-2_000:]}{ended.stderr[-2_000:]}"
        )
    return int(counted[1].replace(",", "")) if ended.returncode else None


def _build(copy: Path) -> None:
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy / name)
    for built in (copy / "daemon/demesh/wire").glob("_hotpath*.so"):
        built.unlink()
    ended = _python(copy, "setup.py", "-q", "build_ext", "--inplace")
    assert list((copy / "daemon/demesh/wire").glob("_hotpath*.so")), ended.stderr


def _python(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(copy / part) for part in ("daemon", "consensus", "firmware_sim", "tests")]
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "REQUIRE_CYTHON": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


if __name__ == "__main__":
    raise SystemExit(main())
