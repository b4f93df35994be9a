"""The objects of consensus: statements, votes, certificates, blocks, proposals and voters.

Voters are addressed by their index in `Voters`; the wire maps indices to keys. Digests are 32
bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum

Instant = int
"""A point on the node's own monotonic clock, in nanoseconds."""


class StatementKind(IntEnum):
    """What a voter can say about a view."""

    NOTARIZE = 1
    NULLIFY = 2
    FINALIZE = 3


RULES_VERSION = 1
"""What statements say unless their epoch has another version (R-CON-14)."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What is signed: the same bytes for every voter. `digest` is empty for NULLIFY."""

    kind: StatementKind
    epoch: int
    view: int
    digest: bytes = b""
    rules_version: int = RULES_VERSION


@dataclass(frozen=True, slots=True)
class Vote:
    """A statement with one voter's signature over it."""

    statement: Statement
    voter: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    """A statement with signatures of quorum weight, as (voter, signature) in ascending order."""

    statement: Statement
    signatures: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Block:
    """One link of the chain, in mesh time; `state_root` is the ledger's after this block.

    `closing` is set if this block changes the voters: it is the last of its epoch (R-CON-14).
    """

    epoch: int
    view: int
    parent_view: int
    parent: bytes
    height: int
    time_s: int
    ops: tuple[bytes, ...]
    state_root: bytes
    closing: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """A leader's block, why its parent is the right one, and the leader's own NOTARIZE."""

    block: Block
    justification: tuple[Certificate, ...]
    vote: Vote


@dataclass(frozen=True, slots=True)
class Voters:
    """The voters of one epoch: integer weights, quorum and the schedule of leaders."""

    epoch: int
    weights: tuple[int, ...]
    seed: bytes
    rules_version: int = RULES_VERSION
    total: int = field(init=False)
    """W, the sum of all weights."""
    quorum: int = field(init=False)
    """Floor(2W/3) + 1: two quorums of this weight share an honest voter."""
    faulty_max: int = field(init=False)
    """The greatest faulty weight that safety survives: the largest f with 3f < W."""
    order: tuple[int, ...] = field(init=False)
    """One round of leaders."""

    def __post_init__(self) -> None:
        total = sum(self.weights)
        if not self.weights or min(self.weights) < 0 or total == 0:
            raise ValueError("voters need non-negative weights with a positive sum")
        object.__setattr__(self, "total", total)
        object.__setattr__(self, "quorum", 2 * total // 3 + 1)
        object.__setattr__(self, "faulty_max", (total - 1) // 3)
        object.__setattr__(self, "order", _schedule(self.weights, self.seed))

    def leader(self, view: int) -> int:
        """The voter whose turn view `view` is."""
        return self.order[view % len(self.order)]

    def statement(self, kind: StatementKind, view: int, digest: bytes = b"") -> Statement:
        """What a voter of this epoch signs."""
        return Statement(kind, self.epoch, view, digest, self.rules_version)

    def heard(self, statement: Statement) -> bool:
        """Is this a statement of this epoch and of its rules?"""
        return (statement.epoch, statement.rules_version) == (self.epoch, self.rules_version)


# A round holds each voter at most this often, whatever its weight, so that a schedule stays small.
TURNS_MAX = 16


def _schedule(weights: tuple[int, ...], seed: bytes) -> tuple[int, ...]:
    """One round of leaders: each voter as often as its weight (scaled), shuffled by `seed`."""
    heaviest = max(weights)
    scale = max(1, -(-heaviest // TURNS_MAX))
    turns = [
        (hashlib.blake2b(b"%d/%d" % (voter, turn), key=seed[:64], digest_size=16).digest(), voter)
        for voter, weight in enumerate(weights)
        for turn in range(-(-weight // scale))
    ]
    return tuple(voter for _, voter in sorted(turns))
