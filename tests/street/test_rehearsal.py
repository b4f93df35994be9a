"""The street in virtual time, from the command line to the exit code."""

import io
from pathlib import Path

from demesh.cli.main import main
from demesh_sim import rehearsal, scenario
from demesh_sim.view import PlainView

STREET = Path(__file__).parents[2] / "configs" / "scenarios" / "street.toml"


def test_the_virtual_street_trades_and_says_how_fast_it_was(capsys, monkeypatch):
    monkeypatch.delenv("DURATION", raising=False)
    words = ["swarm", "run", str(STREET), "--virtual", "--seed", "3", "--duration", "20"]
    assert main([*words, "--plain"]) == 0
    said = capsys.readouterr().out
    assert "Money is conserved, all boards agree, energy was sold and paid for." in said
    assert "8 h 00 min passed on the street" in said
    assert "x real time" in said and "trace " in said
    assert "of 24.0 kW allowed, by feeder" in said
    assert "delivers" in said  # lines for people, as they would appear on a real broker


def test_equal_seeds_print_equal_lines():
    def printed() -> str:
        out = io.StringIO()
        rehearsal.run(scenario.load(STREET), 5, 12, PlainView(out))
        return out.getvalue()

    assert "-- day 1" in printed() and printed() == printed()


def test_what_is_seen_of_a_virtual_street_is_what_its_books_say():
    report, summary = rehearsal.run(scenario.load(STREET), 5, 16, PlainView(io.StringIO()))
    assert summary.missing == ()
    assert summary.audit.common_height == report.common_height
    assert summary.run.sold_wh > 1_000
    # A kilowatt-hour costs 0.24 or 0.26 credits, and what is paid was sold before.
    assert summary.audit.paid * 1000 <= summary.run.sold_wh * 260_000
