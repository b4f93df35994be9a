"""A handful of consensus cores for tests of one case: the campaign's arena with a test's handles.

Signatures are keyed hashes: what is tested here is the voting, not Ed25519.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from demesh_consensus import Finalized, Franchise, Statement, StatementKind, Vote, Voters
from demesh_sim.campaign import ledger
from demesh_sim.campaign.arena import MS, SECOND, Arena
from demesh_sim.campaign.ledger import GENESIS, START, State, founding
from demesh_sim.campaign.messages import Said
from demesh_sim.campaign.peer import Peer, Watcher
from demesh_sim.campaign.signing import KeyedHash, VoterCrypto, digest_of

__all__ = [
    "GENESIS",
    "MS",
    "SECOND",
    "SEED",
    "START",
    "Cluster",
    "Log",
    "Peer",
    "crypto_of",
    "digest_of",
    "franchise_of",
    "root_of",
    "signature",
    "state_of",
    "vote",
]


FOUNDERS = (1, 1, 1, 1)

# With this seed the leader of view v is voter v mod 4 when four weigh the same.
SEED = b"seed 13"


def signature(voter: int, statement: Statement, key: int = 0) -> bytes:
    return KeyedHash().sign(voter, statement, key)


class Log(ledger.Log):
    """The list of all ops, among founders of equal weight unless told; leaders in a plain order."""

    def __init__(
        self, me: int | None = None, weights: tuple[int, ...] = FOUNDERS, key: int = 0
    ) -> None:
        super().__init__(weights, KeyedHash(), me, key)

    def franchise(self, digest: bytes) -> Franchise:
        given = super().franchise(digest)
        return replace(given, voters=replace(given.voters, seed=SEED))


def state_of(*ops: bytes, weights: tuple[int, ...] = FOUNDERS) -> State:
    """The application's state after these ops, in one block."""
    return State((), founding(weights)).after(ops)


def root_of(*ops: bytes) -> bytes:
    return state_of(*ops).root


def crypto_of(me: int | None, keys: tuple[int, ...]) -> VoterCrypto:
    """Keyed hashes instead of signatures."""
    return VoterCrypto(KeyedHash(), me or 0, keys)


def franchise_of(voters: Voters, me: int | None) -> Franchise:
    """Everybody still has the first key."""
    return Franchise(voters, me, crypto_of(me, (0,) * len(voters.weights)))


class Border(Watcher):
    """Compares every finalization with everybody else's; votes are durable before they leave.

    The campaign's checkers ask for more: that every vote was sent by somebody. Tests make votes.
    """

    def __init__(self) -> None:
        self.truth: dict[int, bytes] = {}

    def final(self, peer: Peer, effect: Finalized) -> None:
        for digest, block in effect.blocks:
            assert self.truth.setdefault(block.height, digest) == digest, "fork"

    def said(self, peer: Peer, message: Said) -> None:
        own = isinstance(message, Vote) and message.voter == peer.index
        if own and peer.adversary is None:
            held = peer.disk.held
            assert message in held or message in [getattr(entry, "vote", None) for entry in held], (
                "a vote left before it was durable"
            )


class Cluster(Arena):
    """Runs peers until a virtual time."""

    def __init__(
        self, count: int, seed: int = 0, weights: tuple[int, ...] | None = None, loss: float = 0.0
    ) -> None:
        super().__init__(weights or (1,) * count, seed)
        self.border = Border()
        self.watch(self.border)
        self.loss = loss
        self.start()

    @property
    def voters(self) -> Voters:
        """Those of the genesis."""
        roll = founding(self.weights)
        return Voters(roll.epoch, roll.weights, roll.seed)

    @property
    def truth(self) -> dict[int, bytes]:
        return self.border.truth

    @property
    def cut(self) -> Callable[[int, int], bool]:
        return self.weather.cut

    @cut.setter
    def cut(self, cut: Callable[[int, int], bool]) -> None:
        self.weather.cut = cut

    @property
    def loss(self) -> float:
        return self.weather.loss

    @loss.setter
    def loss(self, loss: float) -> None:
        self.weather.loss = loss

    def run_until(self, done: Callable[[], bool], seconds: float) -> None:
        end = self.now + int(seconds * SECOND)
        while not done():
            assert self.step(end), f"not within {seconds} s"

    @property
    def heights(self) -> list[int]:
        return [peer.core.tip.height for peer in self.peers]


def vote(
    voter: int, kind: StatementKind, view: int, digest: bytes = b"", epoch: int = 0, key: int = 0
) -> Vote:
    statement = Statement(kind, epoch, view, digest)
    return Vote(statement, voter, signature(voter, statement, key))
