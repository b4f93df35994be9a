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
    """The latest finalized block: all that the next one needs.

    `view` is of the current epoch: 0 while there is only what the epochs before have left. The
    certificate shows the block to others: at the start of an epoch it is the one that closed the
    last (R-CON-14), and at the genesis there is none.
    """

    view: int
    height: int
    time_s: int
    digest: bytes
    certificate: Certificate | None


def filler(view: int, parent: Block, digest: bytes) -> Block:
    """The one block that may stand in `view` above a closing block: nothing of its own."""
    return Block(
        parent.epoch,
        view,
        parent.view,
        digest,
        parent.height + 1,
        parent.time_s,
        (),
        parent.state_root,
    )


class Chain:
    """Blocks by digest. A block is here only once it was executed on its parent."""

    __slots__ = ("_blocks", "_fetched", "_past_end", "application", "parts", "tip")

    def __init__(self, tip: Tip, application: Application) -> None:
        self.tip = tip
        self.application = application
        self._blocks: dict[bytes, Block] = {}
        self._past_end: dict[bytes, None] = {}  # closing blocks and what stands on them
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

    def ends(self, digest: bytes) -> bool:
        """Does the epoch end with this block, or below it?"""
        return digest in self._past_end

    def next_filler(self, view: int, parent: bytes) -> Block:
        """What to propose on a block at or above the end of the epoch."""
        return filler(view, self._blocks[parent], parent)

    def execute(self, block: Block, digest: bytes) -> bool:
        """Run a block whose parent is here; False if it is not what it says."""
        if digest in self._blocks:
            return True
        if self.ends(block.parent):
            if block != self.next_filler(block.view, block.parent):
                return False
        elif not self.application.execute(block, digest):
            return False
        self._blocks[digest] = block
        if block.closing or self.ends(block.parent):
            self._past_end[digest] = None
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

    def links(
        self, blocks: Sequence[Block], trail: Sequence[int], crypto: Crypto
    ) -> list[Link] | None:
        """Those of consecutive blocks that are above the tip, with digests; None if no chain.

        They may go on where earlier parts ended. `trail` are the views of the fillers above a
        closing last block.
        """
        links = [(crypto.digest(block), block) for block in blocks]
        if trail and (not links or not links[-1][1].closing):
            return None
        for view in trail:
            digest, block = links[-1]
            above = filler(view, block, digest)
            links.append((crypto.digest(above), above))
        links = [link for link in links if link[1].height > self.tip.height]
        if links and links[0][1].height > self.tip.height + 1:
            links = [*self._fetched, *links]
        parent = self.tip.digest
        for height, (digest, block) in enumerate(links, self.tip.height + 1):
            if block.parent != parent or block.height != height:
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

    def finalize(
        self, path: Sequence[Link], certificate: Certificate
    ) -> tuple[tuple[Link, ...], tuple[int, ...]]:
        """Make the path's last block the tip, or its closing one; (blocks, trail) that are final.

        What stands above a closing block is final too, and nothing: the next epoch begins on the
        closing block alone, whichever view made it final (R-CON-14).
        """
        assert path[-1][1].view == certificate.statement.view, "a finalization is for its view"
        count = next((n for n, (_, block) in enumerate(path, 1) if block.closing), len(path))
        digest, last = path[count - 1]
        self.tip = Tip(last.view, last.height, last.time_s, digest, certificate)
        self._blocks = {d: b for d, b in self._blocks.items() if b.view > last.view}
        self._past_end = {d: None for d in self._past_end if d in self._blocks}
        self.forget()
        # The next epoch needs the closing block alone, not what was tried beside it.
        self.application.prune(frozenset({digest} if last.closing else {digest, *self._blocks}))
        return tuple(path[:count]), tuple(block.view for _, block in path[count:])
