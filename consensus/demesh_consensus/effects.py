"""What the consensus core asks its host to do, and the two ports it calls.

Effects are returned in order. `Record` must be durable before any `Broadcast` of the same turn
leaves the device (R-CON-10).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from demesh_consensus.types import Block, Certificate, Proposal, Statement, Vote, Voters


class Refusal(Enum):
    """Why a message changed nothing; counted by the host."""

    STALE = "stale"
    AHEAD = "ahead"
    INVALID = "invalid"
    CERTIFICATE = "certificate"


Entry = Vote | Proposal | Certificate
"""What a journal holds."""


@dataclass(frozen=True, slots=True)
class Record:
    """Make an own vote, the proposal it is about, or the certificate it rests on, durable."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Publish to all."""

    message: Vote | Proposal | Certificate


@dataclass(frozen=True, slots=True)
class PublishTip:
    """Publish the latest finalization, retained, on the own tip topic (R-CON-9)."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Finalized:
    """These blocks, ascending, with their digests, are final; the certificate is for the last.

    Above a closing block it may be for an empty block further up, by the views of `trail`.
    """

    blocks: tuple[tuple[bytes, Block], ...]
    certificate: Certificate
    trail: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class AskBlocks:
    """Ask a voter for finalized blocks from a height upwards (R-CON-12)."""

    voter: int
    first_height: int


@dataclass(frozen=True, slots=True)
class AskVotes:
    """Ask every other voter for my latest votes (R-CON-10)."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """Two signed statements of one voter that exclude each other (R-CON-11)."""

    first: Vote
    second: Vote


@dataclass(frozen=True, slots=True)
class StandingStill:
    """There is work and no decision: publish pending ops again (R-CON-8)."""

    since_ns: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A vote of mine exists that my journal lacks: this key never votes again (R-CON-10)."""

    vote: Vote


@dataclass(frozen=True, slots=True)
class Refused:
    """The message was not processed."""

    reason: Refusal


Effect = (
    Record
    | Broadcast
    | PublishTip
    | Finalized
    | AskBlocks
    | AskVotes
    | Misbehaved
    | StandingStill
    | Quarantined
    | Refused
)


class Crypto(Protocol):
    """Digests and signatures, bound to mesh and generation by the host."""

    def digest(self, block: Block) -> bytes:
        """32 bytes naming the block."""

    def sign(self, statement: Statement) -> bytes:
        """My vote key's signature."""

    def verify(self, voter: int, statement: Statement, signature: bytes) -> bool:
        """Is this the voter's signature over the statement?"""


@dataclass(frozen=True, slots=True)
class Franchise:
    """Who votes in an epoch, which of them I am (None: an observer), and their keys."""

    voters: Voters
    me: int | None
    crypto: Crypto


class Application(Protocol):
    """The replicated state machine. States are kept per block digest until pruned."""

    def franchise(self, digest: bytes) -> Franchise:
        """The voters of the block that follows this one, by the state after it (R-CON-14)."""

    def has_work(self, parent: bytes, time_s: int) -> bool:
        """Is there an includable op, or a deadline due at `time_s`, on top of this block?"""

    def wake_s(self, parent: bytes) -> int | None:
        """The next mesh time at which `has_work` turns true by itself."""

    def build(self, parent: bytes, time_s: int) -> tuple[tuple[bytes, ...], bytes, bool]:
        """Ops for a block on `parent`, the state root after them, and if they close the epoch."""

    def execute(self, block: Block, digest: bytes) -> bool:
        """Run the block on its parent's state, keep the result; False if it says otherwise."""

    def prune(self, keep: frozenset[bytes]) -> None:
        """Forget every state but those of these blocks."""
