"""Snapshots of the ledger: what they hold, when they are taken, and what makes one good.

R-SNP-1   After every block whose height is a multiple of EVERY, a device takes a snapshot: the
          ledger's records, ascending by key, in chunks. A chunk is the encoded Records of as many
          of them as have a sum of at most CHUNK_BYTES, counting each key and each record as its
          length plus 3. Its id is its BLAKE2b-256. So all devices have the same chunks.
R-SNP-2   A Checkpoint is the header of that block, the headers of the blocks above it up to one
          that has a Final of its own, that Final, and the ids of the chunks. It holds if the
          headers are linked, the last of them is final by the voters of their epoch (R-LGT-2), and
          the records of all chunks give the first one's state root. Above a closing block there are
          no headers. The records' electorate is of the first header's epoch, or of the next one if
          that is closing: else it is a filler, which is final too and is no block of the chain.
          More than ABOVE_MAX headers or CHUNKS_MAX chunks: there is no snapshot.
R-SNP-3   Of blocks and chunks a device keeps what is above or of its last checkpoint but one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Annotated

from demesh import light
from demesh.ledger.ledger import Ledger
from demesh.ledger.state import KEY_BYTES, Electorate
from demesh.ports import StoreCheckpoint
from demesh.wire import statements
from demesh.wire.schema import Bounds, Malformed, decode, encode
from demesh.wire.statements import Header
from demesh_consensus.types import Block

# A busy street makes so many blocks in some ten minutes, and they take about as much disk as its
# records do: half as often and a laggard gets 2,000 blocks more, twice as often and the disk has
# more to write for snapshots than for blocks. An idle mesh makes 24 blocks a day.
EVERY = 1_024

CHUNK_BYTES = 32_000
CHUNK_BYTES_MAX = 32 * 1024
"""Of a chunk of CHUNK_BYTES, encoded."""

# 8 MiB of records, 50,000 of a usual size. Whether a list of chunks is true shows only when all of
# them are here, and a liar fills them with the smallest records there are: 264,000, which take
# 140 MB and some seconds to be found out (measured). Four times as many would end a small board.
CHUNKS_MAX = 256

# Blocks that are final by a later one come one or two in a row; by backfill up to some hundred do,
# and who just caught up leaves this snapshot to the others.
ABOVE_MAX = 32

ID_BYTES = 32


@dataclass(frozen=True, slots=True)
class Records:
    """Keys and records by turns, ascending by key."""

    items: Annotated[tuple[Annotated[bytes, Bounds(0, 8_192)], ...], Bounds(2, 16_384)]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A block that is final, and what the ledger was after it (R-SNP-2)."""

    header: Header
    above: Annotated[tuple[Header, ...], Bounds(0, ABOVE_MAX)]
    final: Annotated[bytes, Bounds(1, 26_000)]
    chunks: Annotated[bytes, Bounds(ID_BYTES, ID_BYTES * CHUNKS_MAX)]

    @property
    def ids(self) -> tuple[bytes, ...]:
        """Of its chunks, in order."""
        starts = range(0, len(self.chunks), ID_BYTES)
        return tuple(self.chunks[start : start + ID_BYTES] for start in starts)


def id_of(chunk: bytes) -> bytes:
    """32 bytes."""
    return blake2b(chunk, digest_size=ID_BYTES).digest()


# -- taking ---------------------------------------------------------------------------------------


def take(ledger: Ledger, run: Sequence[Block], final: bytes) -> list[StoreCheckpoint]:
    """The snapshot after the first block of a run, if there is one; `ledger` is the one after it.

    `final` is of the last block of the run.
    """
    first, *above = run
    if first.height % EVERY or len(above) > ABOVE_MAX:
        return []
    chunks = chunks_of(ledger.records())
    if len(chunks) > CHUNKS_MAX:
        return []
    named = tuple((id_of(chunk), chunk) for chunk in chunks)
    checkpoint = Checkpoint(
        statements.header_of(first),
        tuple(statements.header_of(block) for block in above),
        final,
        b"".join(id for id, _ in named),
    )
    return [StoreCheckpoint(first.height, encode(checkpoint), named)]


def chunks_of(records: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Records, ascending by key, in chunks (R-SNP-1)."""
    chunks: list[bytes] = []
    items: list[bytes] = []
    size = 0
    for key, record in records:
        more = len(key) + len(record) + 6
        if size + more > CHUNK_BYTES:
            chunks.append(encode(Records(tuple(items))))
            items, size = [], 0
        items += (key, record)
        size += more
    chunks.append(encode(Records(tuple(items))))
    return chunks


# -- checking -------------------------------------------------------------------------------------


def check(electorate: Electorate, checkpoint: Checkpoint) -> None:
    """ValueError unless the block is final by these voters; its chunks are yet to come."""
    headers = (checkpoint.header, *checkpoint.above)
    if checkpoint.header.closing and checkpoint.above:
        raise ValueError("nothing stands above a closing block")
    if len(checkpoint.chunks) % ID_BYTES:
        raise ValueError("an id of a chunk is cut")
    if any(above.parent != below.digest for below, above in pairwise(headers)):
        raise ValueError("its headers are not linked")
    if any(header.epoch != electorate.epoch for header in headers):
        raise ValueError(f"it is not of epoch {electorate.epoch}")
    light.signers(electorate, headers[-1], checkpoint.final)


def records_of(chunk: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """What is in a chunk; raises Malformed."""
    items = decode(Records, chunk).items
    if len(items) % 2:
        raise Malformed("Records: a key without a record")
    keys = items[::2]
    if any(len(key) != KEY_BYTES.get(key[:1]) for key in keys):
        raise Malformed("Records: a key that no record of the ledger has")
    if any(first >= second for first, second in pairwise(keys)):
        raise Malformed("Records: their keys do not ascend")
    return tuple(zip(keys, items[1::2], strict=True))


def rebuilt(checkpoint: Checkpoint, chunks: Iterable[bytes]) -> Ledger:
    """The ledger of all chunks; ValueError unless it is that of the block, and no filler's."""
    records = [record for chunk in chunks for record in records_of(chunk)]
    ledger, header = Ledger.restore(records), checkpoint.header
    if ledger.root != header.state_root:
        raise ValueError(f"the chunks do not give the state of block {header.height}")
    if ledger.electorate.epoch != header.epoch + header.closing:
        raise ValueError(f"block {header.height} is a filler: no epoch goes on from it")
    return ledger
