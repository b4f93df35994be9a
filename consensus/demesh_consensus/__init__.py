"""Byzantine-tolerant decisions as pure state machines: standard library only, no I/O, no clock."""

from demesh_consensus.chain import Tip
from demesh_consensus.effects import (
    Application,
    AskBlocks,
    AskVotes,
    Broadcast,
    Crypto,
    Effect,
    Entry,
    Finalized,
    Franchise,
    Misbehaved,
    PublishTip,
    Quarantined,
    Record,
    Refusal,
    Refused,
    StandingStill,
)
from demesh_consensus.epochs import Epochs
from demesh_consensus.pacemaker import Timing
from demesh_consensus.simplex import Simplex
from demesh_consensus.types import (
    RULES_VERSION,
    Block,
    Certificate,
    Instant,
    Proposal,
    Statement,
    StatementKind,
    Vote,
    Voters,
)

__all__ = [
    "RULES_VERSION",
    "Application",
    "AskBlocks",
    "AskVotes",
    "Block",
    "Broadcast",
    "Certificate",
    "Crypto",
    "Effect",
    "Entry",
    "Epochs",
    "Finalized",
    "Franchise",
    "Instant",
    "Misbehaved",
    "Proposal",
    "PublishTip",
    "Quarantined",
    "Record",
    "Refusal",
    "Refused",
    "Simplex",
    "StandingStill",
    "Statement",
    "StatementKind",
    "Timing",
    "Tip",
    "Vote",
    "Voters",
]
