"""One voter of a campaign with its disk, who lies in its place, and who watches it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from demesh_consensus import Effect, Epochs, Finalized, Instant, Misbehaved, Simplex
from demesh_sim.campaign.disk import Disk, Kept, Link, Standing
from demesh_sim.campaign.ledger import Log
from demesh_sim.campaign.messages import GotBlocks, GotVotes, Message, Said
from demesh_sim.lies import Post


class Liar(Protocol):
    """What a dishonest peer sends to one other instead of a message; see `adversaries`."""

    def instead(self, target: int, message: Said) -> list[Said]: ...

    def answer(self, message: GotVotes | GotBlocks) -> GotVotes | GotBlocks | None: ...


class Carrier(Protocol):
    """Takes messages to peers in place of the one medium; see `brokers`."""

    def booted(self, peer: Peer) -> None: ...

    def crashed(self, peer: Peer) -> None: ...

    def spread(self, source: Peer, message: Message, area: str) -> None: ...

    def send(self, source: Peer, target: Peer, message: Message) -> None: ...


class Watcher:
    """Sees a run; each method is called after the fact."""

    def booted(self, peer: Peer) -> None:
        """A core was made from what is on the disk."""

    def synced(self, peer: Peer, entries: Sequence[Kept]) -> None:
        """These entries are safe now."""

    def said(self, peer: Peer, message: Said) -> None:
        """The peer published something, or a liar sent it to somebody."""

    def hears(self, source: int, peer: Peer, message: Message) -> None:
        """A message is about to be given to the core."""

    def final(self, peer: Peer, effect: Finalized) -> None:
        """Blocks are final for this peer."""

    def accused(self, peer: Peer, proof: Misbehaved) -> None:
        """A peer shows that another contradicted itself."""

    def turned(self, peer: Peer) -> None:
        """A turn has ended."""

    def struck(self, what: str) -> None:
        """Something happened to the mesh."""

    def brought(self, peer: Peer, broker: int, post: Post) -> None:
        """A broker handed something to the peer."""

    def admitted(self, peer: Peer, post: Post) -> None:
        """The peer's border let it in."""

    def missed(self, peer: Peer, voter: int) -> None:
        """The peer believes that another is gone."""


@dataclass(eq=False)
class Peer:
    """One voter with its disk."""

    index: int
    log: Log
    epochs: Epochs = field(init=False)
    disk: Disk = field(default_factory=Disk)
    up: bool = True
    syncing: bool = False
    standing: Standing = field(default_factory=Standing)
    adversary: Liar | None = None
    audience: frozenset[int] | None = None  # of one of two twins
    life: int = 0
    offset: Instant = 0  # of its own clock
    nonce: int = 0
    doomed: Instant | None = None  # power fails with the next vote, for this long
    wake: Instant | None = None
    inbox: list[Callable[[], list[Effect]]] = field(default_factory=list)

    @property
    def core(self) -> Simplex:
        """Its current epoch."""
        return self.epochs.core

    @property
    def quarantined(self) -> bool:
        """Did it give up the key it has?"""
        return self.standing.given_up == self.log.key

    @property
    def chain(self) -> list[Link]:
        """Its final blocks."""
        return self.disk.chain
