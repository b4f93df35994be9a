"""Every transcript is what the voter does today; see `play` for how to read and write one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from transcripts.play import play

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.txt"))
RULES = set(
    re.findall(r"\*\*(R-CON-\d+)", (HERE.parents[1] / "docs/protocol.md").read_text("utf-8"))
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_voter_does_what_the_transcript_says(path: Path) -> None:
    text = path.read_text("utf-8")
    assert play(text) == text, f"read it; if it is meant: python -m transcripts.write {path.stem}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_first_line_says_what_it_shows_and_cites_rules(path: Path) -> None:
    first = path.read_text("utf-8").partition("\n")[0]
    cited = re.fullmatch(r"[A-Z].*\. ((?:R-CON-\d+(?:, )?)+)", first)
    assert cited, first
    assert set(cited[1].split(", ")) <= RULES


def test_every_rule_has_a_transcript() -> None:
    cited = {rule for path in FILES for rule in re.findall(r"R-CON-\d+", path.read_text("utf-8"))}
    assert cited == RULES


def test_a_changed_effect_is_seen() -> None:
    text = (HERE / "late-proposal.txt").read_text("utf-8")
    assert play(text.replace("broadcast NULLIFY v1", "broadcast FINALIZE v1")) == text
    assert play(text.replace("0.500s  tick", "0.499s  tick")) != text
