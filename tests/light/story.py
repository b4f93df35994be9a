"""A mesh's history by hand: a chain over the real ledger, its blocks final by the real vote keys.

Nothing of a running node is needed, so a test can sign whatever it likes as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from demesh.ledger.ledger import Ledger
from demesh.ledger.ops import SignedOp
from demesh.ledger.state import Electorate
from demesh.light import HandOver, Proof, hand_over, prove
from demesh.ports import StoreBlock
from demesh.wire import statements
from demesh.wire.frame import Binding
from demesh.wire.messages import GenesisBody
from demesh.wire.schema import encode
from demesh_consensus import Block, Certificate, StatementKind, Voters
from demesh_consensus.chain import filler
from ledger.book import Book, genesis_body, key_of

# Whose vote key is whose: as `ledger.book` derives them.
VOTE_KEYS = {
    bytes(key_of(name).verify_key): key_of(name)
    for device in ("roof", "attic", "cellar", "yard", "barn", "shed")
    for name in (f"{device} votes", f"{device} votes anew")
}


def final(
    electorate: Electorate,
    block: Block,
    trail: Sequence[int] = (),
    voters: Iterable[int] | None = None,
    kind: StatementKind = StatementKind.FINALIZE,
    rules_version: int | None = None,
) -> bytes:
    """The Final of a block, above it the fillers of a trail, signed by voters (by all of them)."""
    digest = statements.digest_of(block)
    for view in trail:
        block = filler(view, block, digest)
        digest = statements.digest_of(block)
    weights = tuple(one.weight for one in electorate.voters)
    rules = electorate.rules_version if rules_version is None else rules_version
    statement = Voters(block.epoch, weights, b"", rules).statement(kind, block.view, digest)
    message = statements.statement_bytes(
        statement, Binding(electorate.mesh_id, electorate.generation)
    )
    signing = range(len(weights)) if voters is None else sorted(voters)
    signatures = tuple(
        (voter, VOTE_KEYS[electorate.voters[voter].vote_key].sign(message).signature)
        for voter in signing
    )
    return statements.encode_final(Certificate(statement, signatures), tuple(trail))


class Story:
    """A chain that grows block by block. Every block has a finalization of its own."""

    def __init__(self, body: GenesisBody | None = None) -> None:
        self.body = body or genesis_body()
        self.book = Book(Ledger.genesis(self.body))
        self.blocks: list[Block] = []
        self.finals: list[bytes] = []
        self.stored: list[StoreBlock] = []
        self.hand_overs: list[HandOver] = []
        self._changes = dict(self.book.ledger.records())

    @property
    def ledger(self) -> Ledger:
        return self.book.ledger

    @property
    def block(self) -> Block:
        return self.blocks[-1]

    def grow(self, *ops: SignedOp, trail: int = 0) -> Block:
        """One more block; above a closing one `trail` fillers, the last of which was finalized."""
        electorate, before = self.ledger.electorate, self.blocks[-1] if self.blocks else None
        self.book.block(*ops)
        begins = before is None or before.closing
        view = 1 if begins or before is None else before.view + 1
        block = Block(
            electorate.epoch,
            view,
            0 if begins or before is None else before.view,
            self.ledger.electorate.mesh_id if before is None else statements.digest_of(before),
            len(self.blocks) + 1,
            self.book.time_s,
            (),
            self.ledger.root,
            self.book.closing,
        )
        assert block.closing or not trail
        shown = final(electorate, block, range(view + 1, view + 1 + trail))
        link = hand_over(statements.header_of(block), shown, self.ledger) if block.closing else None
        self.blocks.append(block)
        self.finals.append(shown)
        if link is not None:
            self.hand_overs.append(link)
        after = dict(self.ledger.records())
        changed = [(key, after.get(key)) for key in sorted(after | self._changes)]
        changes = tuple((k, v) for k, v in changed if self._changes.get(k) != v)
        self._changes = after
        self.stored.append(
            StoreBlock(
                block.height,
                statements.encode_block(block),
                shown,
                changes,
                None if link is None else encode(link),
            )
        )
        return block

    def proof(self, key: bytes) -> Proof:
        """What a device with this ledger would show."""
        before = [link for link in self.hand_overs if link.header.epoch < self.block.epoch]
        found = prove(self.ledger, statements.header_of(self.block), self.finals[-1], before, key)
        assert found is not None
        return found
