"""What peers of a campaign say to one another; the daemon's frames without their envelopes."""

from __future__ import annotations

from dataclasses import dataclass

from demesh_consensus import Block, Certificate, Proposal, Vote

Said = Vote | Proposal | Certificate
"""What is published to all."""


@dataclass(frozen=True, slots=True)
class WantVotes:
    """Which votes of mine do you hold?"""

    nonce: int


@dataclass(frozen=True, slots=True)
class GotVotes:
    """These; and my tip, epoch and clock."""

    nonce: int
    votes: tuple[Vote, ...]
    tip: Certificate | None
    epoch: int
    time_s: int


@dataclass(frozen=True, slots=True)
class WantBlocks:
    """Final blocks from this height, please."""

    first_height: int


@dataclass(frozen=True, slots=True)
class GotBlocks:
    """Consecutive blocks, and the finalization of the last one, or of what stands on it."""

    blocks: tuple[Block, ...]
    certificate: Certificate
    trail: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Op:
    """An op that waits for a block."""

    op: bytes


Message = Said | WantVotes | GotVotes | WantBlocks | GotBlocks | Op
