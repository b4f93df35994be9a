"""A stored chain executed anew: nothing is believed but the genesis, and what is hashed below it.

Where blocks were pruned, the checkpoint below the first one stands for the genesis. Who signed the
chain is not looked at here: `light` shows that of its last block, and with it of all below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from demesh.application import Application
from demesh.ledger.events import Event
from demesh.ledger.ledger import Ledger
from demesh.ledger.state import Electorate
from demesh.ports import StoredBlock
from demesh.snapshots import Checkpoint, rebuilt
from demesh.wire import identity, statements
from demesh.wire.messages import GenesisBody
from demesh.wire.schema import Malformed, decode
from demesh.wire.validate import Validator
from demesh_consensus import Franchise

BLOCKS_PER_READ = 256


class Chain(Protocol):
    """The chain that a device has stored: `storage.sqlite.Reader` or a simulated disk."""

    def tip(self) -> StoredBlock | None:
        """The last finalized block."""

    def blocks(self, first_height: int, count: int) -> tuple[StoredBlock, ...]:
        """Consecutive finalized blocks, ascending."""

    def base(self) -> bytes | None:
        """The checkpoint below the first block, if blocks were pruned."""

    def chunk(self, id: bytes) -> bytes | None:
        """A chunk of a checkpoint."""


@dataclass(frozen=True, slots=True)
class Executed:
    """A height, the ledger after its block, and what that block did."""

    height: int
    ledger: Ledger
    events: tuple[Event, ...]


def begins_after(chain: Chain) -> int:
    """The height below the first block that is stored; 0 is the genesis."""
    if chain.tip() is None or chain.blocks(1, 1):
        return 0
    base = chain.base()
    return 0 if base is None else decode(Checkpoint, base).header.height


def replay(body: GenesisBody, chain: Chain) -> Iterator[Executed]:
    """The beginning, then every stored block executed anew, ascending.

    ValueError says which block, or what below the first, does not give its state root.
    """
    height = begins_after(chain)
    ledger, below = _beginning(body, chain)
    yield Executed(height, ledger, ())
    application = Application(ledger, below, _validator(body, ledger), _unasked)
    while stored := chain.blocks(height + 1, BLOCKS_PER_READ):
        for entry in stored:
            height += 1
            try:
                block = statements.decode_block(entry.block)
            except Malformed as error:
                raise ValueError(f"block {height}: {error}") from None
            digest = statements.digest_of(block)
            if not application.execute(block, digest):
                raise ValueError(f"block {height} does not give its state root when executed anew")
            applied = application.settle(digest)
            application.prune(frozenset({digest}))
            yield Executed(height, application.ledger, applied.events)


def _beginning(body: GenesisBody, chain: Chain) -> tuple[Ledger, bytes]:
    """The ledger below the first stored block, and what that names as its parent; ValueError."""
    base = chain.base() if begins_after(chain) else None
    if base is None:
        return Ledger.genesis(body), identity.mesh_id(body)
    checkpoint = decode(Checkpoint, base)
    chunks = [chain.chunk(id) or b"" for id in checkpoint.ids]
    return rebuilt(checkpoint, chunks), checkpoint.header.digest


def _validator(body: GenesisBody, ledger: Ledger) -> Validator:
    validator = Validator(identity.binding_of(identity.mesh_id(body), body))
    keys = [*body.owners, *(device.certificate.device_key for device in body.devices)]
    keys += [member.certificate.device_key for _, member in ledger.members()]
    for key in dict.fromkeys(keys):
        validator.enrol(identity.device_id(key), key)
    return validator


def _unasked(electorate: Electorate) -> Franchise:
    raise AssertionError("a replay executes what was decided and votes on nothing")
