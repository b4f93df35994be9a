"""What each version of the rules lets a mesh do: the one place where they differ.

R-LED-31  A mesh keeps the rules that its genesis names. An op of a type that they do not have, and
          any field that came later (R-WIRE-14) where they have none, is PAYLOAD, and such a voucher
          is none: just what a node says that knows no other rules. So nodes of several ages, which
          all know the rules of their mesh, never differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from demesh.wire.opbodies import OpType


@dataclass(frozen=True, slots=True)
class Rules:
    """One version: the types of ops there are, whether messages have grown since, and whether
    remembered ops count for the owner of who signed them."""

    version: int
    ops: frozenset[OpType]
    grown: bool
    by_owner: bool

    def holder(self, signer: bytes, owner: bytes | None) -> bytes:
        """For whom a signer's ops count; `owner` is that of its account (R-LED-49)."""
        return owner if self.by_owner and owner is not None else signer


_FIRST_OPS = frozenset({OpType.TRANSFER, OpType.OPEN, OpType.CLAIM, OpType.CLOSE, OpType.MEMBER})

# 1 and 2 differ in what crosses the wire (R-WIRE-12), not in state and ops.
RULES = {
    rules.version: rules
    for rules in (
        Rules(1, _FIRST_OPS, grown=False, by_owner=False),
        Rules(2, _FIRST_OPS, grown=False, by_owner=False),
        Rules(3, frozenset(OpType), grown=True, by_owner=True),
    )
}

RULES_VERSIONS = tuple(RULES)
"""What this code keeps, ascending; another number is another mesh."""
