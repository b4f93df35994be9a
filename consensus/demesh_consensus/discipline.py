"""What a voter may still say in a view, by what it has said there: R-CON-3, 4 and 5 as a table.

FINALIZE and NULLIFY exclude each other, whichever came first: a finalized view can never be
skipped. FINALIZE is only for what one has notarized. Nothing is said twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from demesh_consensus.types import StatementKind, Vote

NOTARIZE, NULLIFY, FINALIZE = StatementKind.NOTARIZE, StatementKind.NULLIFY, StatementKind.FINALIZE


class Word(Enum):
    """What I have said in a view."""

    NOTHING = "nothing"
    NOTARIZED = "notarized"
    NULLIFIED = "nullified"
    GIVEN_UP = "notarized, then nullified"
    FINALIZED = "finalized"


TRANSITIONS: dict[Word, frozenset[Word]] = {
    Word.NOTHING: frozenset({Word.NOTARIZED, Word.NULLIFIED}),
    Word.NOTARIZED: frozenset({Word.FINALIZED, Word.GIVEN_UP}),
    Word.NULLIFIED: frozenset(),
    Word.GIVEN_UP: frozenset(),
    Word.FINALIZED: frozenset(),
}

_AFTER: dict[frozenset[StatementKind], Word] = {
    frozenset(): Word.NOTHING,
    frozenset({NOTARIZE}): Word.NOTARIZED,
    frozenset({NULLIFY}): Word.NULLIFIED,
    frozenset({NOTARIZE, NULLIFY}): Word.GIVEN_UP,
    frozenset({NOTARIZE, FINALIZE}): Word.FINALIZED,
    # A journal that was cut may show the last word without the one before.
    frozenset({FINALIZE}): Word.FINALIZED,
}


def may_say(said: Iterable[Vote], kind: StatementKind) -> bool:
    """After these votes of mine in a view, may I say this there as well?"""
    kinds = frozenset(vote.statement.kind for vote in said)
    after = None if kind in kinds else _AFTER.get(kinds | {kind})
    return after in TRANSITIONS[_AFTER[kinds]]
