"""What a store gives to devices that ask, the same behind every shell."""

from __future__ import annotations

from demesh.ports import Fetch, Fetched, SeekChunk, Sought, Store

# More than fit an answer, and no more than a few of them in memory.
HAND_OVERS_PER_ANSWER = 256


def answered(store: Store, asked: Fetch | SeekChunk) -> Fetched | Sought:
    """The answer to a question of the node; raises StorageError."""
    if isinstance(asked, SeekChunk):
        return Sought(asked.asker, store.chunk(asked.id))
    blocks = store.blocks(asked.first_height, asked.count)
    if blocks:
        final = store.final(asked.first_height + len(blocks) - 1)
        return Fetched(asked.asker, blocks, final)
    hand_overs = store.hand_overs(asked.epoch, HAND_OVERS_PER_ANSWER)
    return Fetched(asked.asker, (), None, hand_overs, store.checkpoint())
