"""What consensus has to tell the rest of the node: decisions, faults, and what failed."""

from __future__ import annotations

from dataclasses import dataclass

import demesh_consensus as consensus
from demesh.ledger.ledger import Applied
from demesh.ledger.state import Result
from demesh.wire.kinds import Reject
from demesh.wire.opbodies import OpBody


@dataclass(frozen=True, slots=True)
class Decided:
    """A block is final; which device led its view, and what it did, told once."""

    block: consensus.Block
    leader: bytes
    applied: Applied


@dataclass(frozen=True, slots=True)
class Accused:
    """Two votes of one device exclude each other."""

    device: bytes
    proof: consensus.Misbehaved


@dataclass(frozen=True, slots=True)
class Failed:
    """The finalized ledger refused an op of mine."""

    body: OpBody
    result: Result


@dataclass(frozen=True, slots=True)
class Proposed:
    """A view's proposal was seen."""

    view: int


Told = (
    Decided | Failed | Proposed | Reject | Accused | consensus.StandingStill | consensus.Quarantined
)
"""What the node makes of it: a count, a line for people, news for metering."""
