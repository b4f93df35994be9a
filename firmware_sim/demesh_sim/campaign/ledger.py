"""What the voters of a campaign agree on: a list of ops, each at most once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from demesh_consensus import Block, Tip

GENESIS = hashlib.blake2b(b"genesis", digest_size=32).digest()
START = Tip(0, 0, 1_000, GENESIS, None)


def root_of(state: Iterable[bytes]) -> bytes:
    """The state root: a hash of the list."""
    return hashlib.blake2b(b"|".join(state), digest_size=32).digest()


class Log:
    """An application whose state is the list of all ops."""

    def __init__(self) -> None:
        self.states: dict[bytes, tuple[bytes, ...]] = {GENESIS: ()}
        self.pool: dict[bytes, None] = {}

    def _todo(self, parent: bytes) -> tuple[bytes, ...]:
        return tuple(op for op in self.pool if op not in self.states[parent])

    def has_work(self, parent: bytes, time_s: int) -> bool:
        return bool(self._todo(parent))

    def wake_s(self, parent: bytes) -> int | None:
        return None

    def build(self, parent: bytes, time_s: int) -> tuple[tuple[bytes, ...], bytes]:
        ops = self._todo(parent)
        return ops, root_of(self.states[parent] + ops)

    def execute(self, block: Block, digest: bytes) -> bool:
        state = self.states[block.parent] + block.ops
        if len(set(state)) != len(state) or root_of(state) != block.state_root:
            return False
        self.states[digest] = state
        return True

    def prune(self, keep: frozenset[bytes]) -> None:
        self.states = {d: s for d, s in self.states.items() if d in keep}
