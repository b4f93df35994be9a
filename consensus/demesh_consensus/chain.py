"""The finalized tip and the executed blocks above it: what a proposal can stand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from demesh_consensus.effects import Application, Crypto
from demesh_consensus.types import Block, Certificate, Proposal

# Answers that one finalization may take: with 48 KiB each, a run of 16 full blocks of which only
# the last was finalized. A liar's parts take no more memory than that.
PARTS_MAX = 16

Link = tuple[bytes, Block]
"""A block and its digest."""


@dataclass(frozen=True, slots=True)
class Tip:
    """The latest finalized block: all that the next one needs."""

    view: int
    height: int
    time_s: int
    digest: bytes
    certificate: Certificate | None


class Chain:
    """Blocks by digest. A block is here only once it was executed on its parent."""

    __slots__ = ("_application", "_blocks", "_fetched", "parts", "tip")

    def __init__(self, tip: Tip, application: Application) -> None:
        self.tip = tip
        self._application = application
        self._blocks: dict[bytes, Block] = {}
        self._fetched: list[Link] = []  # linked to the tip, not known to be final: not executed
        self.parts = 0  # answers they came in

    @property
    def wanted(self) -> int:
        """The height of the first block to ask for."""
        return self.tip.height + len(self._fetched) + 1

    def place(self, digest: bytes) -> tuple[int, int] | None:
        """(height, time_s) of the tip or of a block above it; None if it is not here."""
        if digest == self.tip.digest:
            return self.tip.height, self.tip.time_s
        block = self._blocks.get(digest)
        return (block.height, block.time_s) if block else None

    def execute(self, block: Block, digest: bytes) -> bool:
        """Run a block whose parent is here; False if its ops or its root are wrong."""
        if digest in self._blocks:
            return True
        if not self._application.execute(block, digest):
            return False
        self._blocks[digest] = block
        return True

    def path(self, digest: bytes, proposed: Mapping[bytes, Proposal]) -> list[Link] | None:
        """Blocks from above the tip up to this one, executed on the way; None if one is missing."""
        path: list[Link] = []
        while digest != self.tip.digest:
            block = self._blocks.get(digest)
            if block is None and digest in proposed:
                block = proposed[digest].block
            if block is None or block.view <= self.tip.view:
                return None
            path.append((digest, block))
            digest = block.parent
        path.reverse()
        for height, (link, block) in enumerate(path, self.tip.height + 1):
            if block.height != height or not self.execute(block, link):
                return None
        return path

    def links(self, blocks: Sequence[Block], crypto: Crypto) -> list[Link] | None:
        """Those of consecutive blocks that are above the tip, with digests; None if no chain.

        They may go on where earlier parts ended; if they do not fit, those are forgotten.
        """
        links = [(crypto.digest(block), block) for block in blocks]
        links = [link for link in links if link[1].height > self.tip.height]
        if links and links[0][1].height > self.tip.height + 1:
            links = [*self._fetched, *links]
        parent = self.tip.digest
        for height, (digest, block) in enumerate(links, self.tip.height + 1):
            if block.parent != parent or block.height != height:
                self.forget()
                return None
            parent = digest
        return links

    def hold(self, links: Sequence[Link]) -> None:
        """The beginning of a run whose end, and with it the proof, is still to come."""
        if self.parts == PARTS_MAX:
            self.forget()
            return
        self._fetched, self.parts = list(links), self.parts + 1

    def forget(self) -> None:
        """Drop what was fetched and is not proved: it may be a liar's."""
        self._fetched, self.parts = [], 0

    def finalize(self, path: Sequence[Link], certificate: Certificate) -> None:
        """The path's last block is the new tip."""
        digest, last = path[-1]
        assert last.view == certificate.statement.view, "a finalization is for its block's view"
        self.tip = Tip(last.view, last.height, last.time_s, digest, certificate)
        self._blocks = {d: b for d, b in self._blocks.items() if b.view > last.view}
        self.forget()
        self._application.prune(frozenset({digest, *self._blocks}))
