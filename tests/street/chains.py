"""Made-up chains: real blocks over a real ledger, without any node having run."""

import hashlib

from demesh.application import Application
from demesh.ledger.ledger import Ledger
from demesh.ports import StoredBlock
from demesh.wire import statements
from demesh.wire.frame import Binding
from demesh.wire.opbodies import Close, OpenChannel
from demesh.wire.readings import Voucher
from demesh.wire.signer import Signer
from demesh.wire.validate import Validator
from demesh_consensus.types import Block


def nobody_votes(electorate):
    """A made-up chain needs no voters."""
    raise AssertionError("nobody asks who votes")


class Shelf:
    """A board's books in memory."""

    def __init__(self, blocks=(), records=()):
        self.stored = [StoredBlock(i, block, None) for i, block in enumerate(blocks, 1)]
        self.kept = tuple(records)

    def tip(self):
        return self.stored[-1] if self.stored else None

    def blocks(self, first_height, count):
        return tuple(self.stored[first_height - 1 : first_height - 1 + count])

    def records(self):
        return self.kept


class Chain:
    """A chain that grows block by block, as voters would have made it."""

    def __init__(self, founded):
        self.founded = founded
        body = founded.genesis.body
        binding = Binding(founded.mesh_id, body.generation)
        self.validator = Validator(binding)
        self.signers = {}
        for board in founded.boards:
            key = bytes(board.device_key.verify_key)
            self.validator.enrol(board.id, key)
            self.signers[board.plan.name] = Signer(
                board.device_key, board.vote_key, binding, 1, b"seed"
            )
        ledger = Ledger.genesis(body)
        self.application = Application(ledger, founded.mesh_id, self.validator, nobody_votes)
        self.parent, self.time_s = founded.mesh_id, body.time_s
        self.encoded = []

    def grow(self, *ops):
        """One more block with these op frames."""
        self.time_s += 1
        for op in ops:
            assert self.application.submit(op, self.time_s) is None
        frames, root, closing = self.application.build(self.parent, self.time_s)
        height = len(self.encoded) + 1
        view = (height, height - 1, self.parent, height)
        block = Block(0, *view, self.time_s, frames, root, closing)
        digest = statements.digest_of(block)
        assert self.application.execute(block, digest)
        self.application.settle(digest)
        self.application.prune(frozenset({digest}))
        self.parent = digest
        self.encoded.append(statements.encode_block(block))
        return block

    def trade(self, payer, payee, escrow, cum):
        """Open a channel in one block, settle it in the next."""
        agreement = hashlib.blake2b(b"agreement", digest_size=16).digest()
        pays, serves = self.signers[payer], self.signers[payee]
        opening = OpenChannel(serves.id, escrow, self.time_s + 7200, 3600, agreement, ())
        self.grow(pays.op(opening, self.time_s + 600))
        ((channel, _),) = self.application.ledger.channels()
        voucher = pays.seal(Voucher(channel, 0, cum))
        self.grow(serves.op(Close(channel, voucher), self.time_s + 600))

    def shelf(self, height=None):
        """The books of a board that has come as far as this."""
        if height in (None, len(self.encoded)):
            return Shelf(self.encoded, self.application.ledger.records())
        shorter = Chain(self.founded)
        for block in self.encoded[:height]:
            shorter.grow(*statements.decode_block(block).ops)
        return Shelf(shorter.encoded, shorter.application.ledger.records())
