"""What the peers of a campaign agree on: a list of ops, each at most once, and who may vote.

An op is any bytes. One that `seat` makes also gives a voter another weight, or another key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from demesh_consensus import Block, Crypto, Franchise, Tip, Voters
from demesh_sim.campaign.signing import Signing, VoterCrypto

GENESIS = hashlib.blake2b(b"genesis", digest_size=32).digest()
START = Tip(0, 0, 1_000, GENESIS, None)

_SEAT = b"seat"


@dataclass(frozen=True, slots=True)
class Roll:
    """The voters of an epoch by number: weights (0: an observer), and which key of theirs votes."""

    epoch: int
    weights: tuple[int, ...]
    keys: tuple[int, ...]

    def after(self, ops: Iterable[bytes]) -> Roll:
        """The roll after a block with these ops: of the next epoch, if they change it."""
        weights, keys = list(self.weights), list(self.keys)
        for op in ops:
            name, _, words = op.partition(b" ")
            if name == _SEAT:
                voter, weight, key = map(int, words.split())
                weights[voter], keys[voter] = weight, key
        changed = (tuple(weights), tuple(keys)) != (self.weights, self.keys)
        if not changed or not any(weights):
            return self
        return Roll(self.epoch + 1, tuple(weights), tuple(keys))

    @property
    def seed(self) -> bytes:
        """What shuffles the leaders."""
        return hashlib.blake2b(repr(self).encode(), digest_size=32).digest()


def founding(weights: tuple[int, ...]) -> Roll:
    """The roll of the genesis."""
    return Roll(0, weights, (0,) * len(weights))


def seat(voter: int, weight: int, key: int) -> bytes:
    """The op that gives a voter this weight and this key."""
    return b"%s %d %d %d" % (_SEAT, voter, weight, key)


@dataclass(frozen=True, slots=True)
class State:
    """All ops so far, and the voters of the next block."""

    ops: tuple[bytes, ...]
    roll: Roll

    def after(self, ops: tuple[bytes, ...]) -> State:
        """With one more block."""
        return State(self.ops + ops, self.roll.after(ops))

    @property
    def root(self) -> bytes:
        """The state root: a hash of all of it."""
        content = b"|".join(self.ops) + repr(self.roll).encode()
        return hashlib.blake2b(content, digest_size=32).digest()


class Log:
    """An application whose state is the list of all ops; it belongs to one voter with one key."""

    def __init__(
        self, weights: tuple[int, ...], signing: Signing, me: int | None, key: int = 0
    ) -> None:
        self.states = {GENESIS: State((), founding(weights))}
        self.pool: dict[bytes, None] = {}
        self.key = key
        self._signing, self._me = signing, me

    def _todo(self, parent: bytes) -> tuple[bytes, ...]:
        return tuple(op for op in self.pool if op not in self.states[parent].ops)

    def franchise(self, digest: bytes) -> Franchise:
        roll = self.states[digest].roll
        me = self._me
        if me is not None and (roll.weights[me] == 0 or roll.keys[me] != self.key):
            me = None
        crypto: Crypto = VoterCrypto(self._signing, self._me or 0, roll.keys)
        return Franchise(Voters(roll.epoch, roll.weights, roll.seed), me, crypto)

    def has_work(self, parent: bytes, time_s: int) -> bool:
        return bool(self._todo(parent))

    def wake_s(self, parent: bytes) -> int | None:
        return None

    def build(self, parent: bytes, time_s: int) -> tuple[tuple[bytes, ...], bytes, bool]:
        ops, before = self._todo(parent), self.states[parent]
        state = before.after(ops)
        return ops, state.root, state.roll != before.roll

    def execute(self, block: Block, digest: bytes) -> bool:
        before = self.states[block.parent]
        state = before.after(block.ops)
        if len(set(state.ops)) != len(state.ops) or state.root != block.state_root:
            return False
        if block.closing != (state.roll != before.roll):
            return False
        self.states[digest] = state
        return True

    def prune(self, keep: frozenset[bytes]) -> None:
        self.states = {d: s for d, s in self.states.items() if d in keep}


def replayed(blocks: Iterable[Block], weights: tuple[int, ...]) -> State:
    """The state after these blocks, from the genesis on."""
    state = State((), founding(weights))
    for block in blocks:
        state = state.after(block.ops)
    return state
