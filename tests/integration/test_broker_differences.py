"""The table of differences is what the probes name and what the documentation says: no more."""

from __future__ import annotations

from pathlib import Path

from integration.differences import DIFFERENCES, RELEASE

HERE = Path(__file__).parent


def test_every_difference_is_named_by_a_probe() -> None:
    probes = "".join(path.read_text() for path in sorted(HERE.glob("test_broker_*_5.py")))
    probes += (HERE / "test_broker_conformance.py").read_text()
    assert [name for name in DIFFERENCES if f'"{name}"' not in probes] == []


def test_the_documentation_lists_the_differences_word_by_word() -> None:
    said = (HERE.parents[1] / "docs" / "brokers.md").read_text()
    rows = [f"| {name} | {one.mosquitto} | {one.ours} |" for name, one in DIFFERENCES.items()]
    assert [row for row in rows if row not in said] == []
    start = said.index(f"| what | mosquitto {RELEASE} | the embedded broker |")
    table = said[start:].split("\n\n")[0].splitlines()[2:]
    assert table == rows
