"""Draws every table of phases: `make diagrams` writes docs/diagrams.md anew.

A machine has a table if its module defines TRANSITIONS; it begins in the first phase of its Enum.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "diagrams.md"
HEAD = """# State diagrams

Drawn from the tables `TRANSITIONS` in the code by `make diagrams`; do not edit. A machine
asserts every step against its table. The rules behind the steps are in [protocol.md](protocol.md).
"""


def machines() -> list[tuple[str, Mapping[Enum, frozenset[Enum]]]]:
    """(path, table) of every module that has one, by path."""
    found = []
    for source in ("consensus", "daemon", "firmware_sim"):
        for path in sorted((ROOT / source).rglob("*.py")):
            if re.search(r"^TRANSITIONS\b", path.read_text("utf-8"), re.MULTILINE):
                name = ".".join(path.relative_to(ROOT / source).with_suffix("").parts)
                table = importlib.import_module(name).TRANSITIONS
                found.append((path.relative_to(ROOT).as_posix(), table))
    return found


def diagram(table: Mapping[Enum, frozenset[Enum]]) -> list[str]:
    """Mermaid lines, in the order in which the phases are defined."""
    phases = list(type(next(iter(table))))
    lines = ["stateDiagram-v2", f"    [*] --> {phases[0].name}"]
    for phase in phases:
        after = [one.name for one in phases if one in table[phase]] or ["[*]"]
        lines += [f"    {phase.name} --> {name}" for name in after]
    return lines


def document() -> str:
    """All of docs/diagrams.md."""
    parts = [HEAD]
    for path, table in machines():
        package, name = Path(path).parts[-2:]
        title = f"{package.capitalize()}: {name.removesuffix('.py')}"
        lines = "\n".join(diagram(table))
        parts.append(f"## {title}\n\n`{path}`\n\n```mermaid\n{lines}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    FILE.write_text(document(), "utf-8")
