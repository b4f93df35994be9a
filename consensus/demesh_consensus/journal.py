"""R-CON-10, the first half: what must be durable with a vote, and what a restart takes back.

    votes         all of mine: I never contradict them
    proposals     those I notarized: a quorum that notarized a block can always give its body
    certificates  what my votes rest on: before FINALIZE the notarization of that view, before any
                  other vote a certificate of the view before it

The last one is for the day when all boards lose power at once and up to f never come back. Who has
moved on cannot vote again in the view it left, and those who stayed behind may be too few to end
that view a second time: without the certificate nobody could ever leave it, or build above it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from demesh_consensus.effects import Entry, Record
from demesh_consensus.round import Rounds
from demesh_consensus.types import Certificate, Proposal, Statement, StatementKind, Vote


def grounds(statement: Statement, rounds: Rounds, tip_view: int) -> list[Record]:
    """Certificates to record with a vote of mine for this statement, each one once."""
    view = statement.view - (statement.kind is not StatementKind.FINALIZE)
    round_ = rounds.get(view)
    if round_ is None or view <= tip_view:
        return []  # what is final below, quorum weight grounded when it said FINALIZE
    fresh = [kind for kind in sorted(round_.certificates) if kind not in round_.recorded]
    round_.recorded.extend(fresh)
    return [Record(round_.certificates[kind]) for kind in fresh]


def entries(rounds: Rounds, tip_view: int, me: int) -> Iterator[Entry]:
    """All that a restart still needs: what is in the journal and above the tip."""
    for _, round_ in rounds.above(tip_view):
        for kind in round_.recorded:
            yield round_.certificates[kind]
        wanted = round_.notarized or not round_.nullified
        if round_.proposal and wanted and round_.said(me, StatementKind.NOTARIZE):
            yield round_.proposal
        yield from round_.votes_of(me)


def restore(journal: Sequence[Entry], rounds: Rounds, me: int | None, floor: int) -> int:
    """Take back what an epoch's journal has above view `floor`; the highest I was in, else 0."""
    view = 0
    for entry in journal:
        statement = entry.vote.statement if isinstance(entry, Proposal) else entry.statement
        if statement.view <= floor:
            continue
        round_ = rounds.at(statement.view)
        if isinstance(entry, Certificate):
            round_.certificates[statement.kind] = entry
            round_.recorded.append(statement.kind)
            view = max(view, statement.view + 1)
            continue
        if isinstance(entry, Proposal):
            round_.propose(statement.digest, entry)
        vote = entry if isinstance(entry, Vote) else entry.vote
        round_.add(vote)
        if vote.voter == me:
            # Who finalized a view held its notarization, and so had left it.
            view = max(view, statement.view + (statement.kind is StatementKind.FINALIZE))
    return view
