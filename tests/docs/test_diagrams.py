"""docs/diagrams.md is what the tables of the code give."""

from __future__ import annotations

from enum import Enum

from docs.diagrams import FILE, diagram, document, machines


def test_the_diagrams_are_those_of_the_tables() -> None:
    assert FILE.read_text("utf-8") == document(), "run `make diagrams`"


def test_every_machine_is_drawn() -> None:
    assert {path.rpartition("/")[2] for path, _ in machines()} >= {
        "buyer.py",
        "payer.py",
        "provider.py",
    }


def test_a_phase_without_a_way_on_is_an_end() -> None:
    phase = Enum("phase", ["OPEN", "SHUT"])
    table = {phase.OPEN: frozenset({phase.SHUT}), phase.SHUT: frozenset()}
    assert diagram(table) == [
        "stateDiagram-v2",
        "    [*] --> OPEN",
        "    OPEN --> SHUT",
        "    SHUT --> [*]",
    ]
