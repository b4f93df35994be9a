"""A handful of consensus cores for tests of one case: the campaign's arena with a test's handles.

Signatures are keyed hashes: what is tested here is the voting, not Ed25519.
"""

from __future__ import annotations

from collections.abc import Callable

from demesh_consensus import Finalized, Statement, StatementKind, Vote
from demesh_sim.campaign import ledger
from demesh_sim.campaign.arena import MS, SECOND, Arena
from demesh_sim.campaign.ledger import GENESIS, START
from demesh_sim.campaign.messages import Said
from demesh_sim.campaign.peer import Peer, Watcher
from demesh_sim.campaign.signing import KeyedHash, VoterCrypto, digest_of

__all__ = [
    "GENESIS",
    "MS",
    "SECOND",
    "START",
    "Cluster",
    "HashCrypto",
    "Log",
    "Peer",
    "digest_of",
    "signature",
    "vote",
]


def signature(voter: int, statement: Statement) -> bytes:
    return KeyedHash().sign(voter, statement)


class Log(ledger.Log):
    """An append-only list of ops; its state root is the hash of the list."""

    _root = staticmethod(ledger.root_of)


class HashCrypto(VoterCrypto):
    """Keyed hashes instead of signatures."""

    def __init__(self, me: int) -> None:
        super().__init__(KeyedHash(), me)


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


def vote(voter: int, kind: StatementKind, view: int, digest: bytes = b"") -> Vote:
    statement = Statement(kind, 0, view, digest)
    return Vote(statement, voter, signature(voter, statement))
