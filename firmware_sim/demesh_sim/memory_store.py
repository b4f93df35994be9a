"""The Store port in memory, with what a power cut does to it.

Two media, as in `demesh.storage`: a journal of frames with checksums, in the real file's format,
and a database that changes by whole transactions. A turn takes its steps in the order of
`storage.store`; each step that reaches the disk is a point where the power can go:

    append to the journal, sync it -> write to the database -> commit it if something is urgent
    with a compaction: write to the database -> commit it -> replace the journal

`begin` takes a turn, `finish` completes it, `commit` (the port) is both. A `crash` in between stops
at any of those points and cuts an unsynced append at any byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from demesh.ports import (
    Adopt,
    CompactJournal,
    Journal,
    Keep,
    Persist,
    Restored,
    StoreBlock,
    StoreCheckpoint,
    StoredBlock,
)
from demesh.storage import frames
from demesh.storage.frames import MAGIC, SALT_BYTES
from demesh.storage.store import is_urgent

Step = Callable[[], None]
Rows = StoreBlock | StoreCheckpoint | Adopt | Keep

SALT = bytes(SALT_BYTES)  # a real file draws its own; here equal runs have equal bytes
EMPTY_JOURNAL = MAGIC + SALT


class MemoryStore:
    """A disk that survives `crash`, as far as it was synced."""

    def __init__(self) -> None:
        self.journal = bytearray(EMPTY_JOURNAL)
        self.syncs = 0
        self.bytes_synced = 0
        self._turn: tuple[Persist, ...] = ()  # begun, not finished
        self._pending: list[Rows] = []  # the open transaction
        self._blocks: dict[int, StoredBlock] = {}
        self._hand_overs: dict[int, bytes] = {}
        self._checkpoints: dict[int, bytes] = {}
        self._chunks: dict[bytes, tuple[int, bytes]] = {}
        self._records: dict[bytes, bytes] = {}
        self._kept: dict[tuple[str, bytes], bytes] = {}
        self._top = 0

    # -- the port ---------------------------------------------------------------------------------

    def load(self) -> Restored:
        """Read everything back; the torn tail of the journal is cut off, as on a real disk."""
        records, end = read_journal(self.journal)
        del self.journal[end:]
        return Restored(
            journal=records,
            tip=self.tip(),
            records=self.records(),
            kept=tuple((space, key, value) for (space, key), value in sorted(self._kept.items())),
            checkpoint=self.checkpoint(),
        )

    def commit(self, effects: Sequence[Persist]) -> None:
        """Make a turn's effects durable as each asks."""
        self.begin(effects)
        self.finish()

    def blocks(self, first_height: int, count: int) -> tuple[StoredBlock, ...]:
        """Consecutive finalized blocks, ascending, at most `count`; uncommitted ones are seen."""
        uncommitted = {
            effect.height: StoredBlock(effect.height, effect.block, effect.certificate)
            for effect in self._pending
            if isinstance(effect, StoreBlock)
        }
        found: list[StoredBlock] = []
        for height in range(first_height, first_height + count):
            block = uncommitted.get(height) or self._blocks.get(height)
            if block is None:
                break
            found.append(block)
        return tuple(found)

    def final(self, height: int) -> bytes | None:
        """The first stored finalization of a block at this height or above."""
        for found in self.blocks(height, max(self._top - height + 1, 1) + len(self._pending)):
            if found.certificate is not None:
                return found.certificate
        return None

    def tip(self) -> StoredBlock | None:
        """The committed block of greatest height."""
        return self._blocks.get(self._top)

    def hand_overs(self, first_epoch: int = 0, count: int = -1) -> tuple[bytes, ...]:
        """Those of closed epochs from `first_epoch` on, in order, at most `count`; committed."""
        found = [hand_over for _, hand_over in sorted(self._hand_overs.items())][first_epoch:]
        return tuple(found if count < 0 else found[:count])

    def checkpoint(self) -> bytes | None:
        """The latest one that is committed."""
        return self._checkpoints[max(self._checkpoints)] if self._checkpoints else None

    def base(self) -> bytes | None:
        """The earliest one: that of the block below the first one that is stored."""
        return self._checkpoints[min(self._checkpoints)] if self._checkpoints else None

    def chunk(self, id: bytes) -> bytes | None:
        """A committed chunk of the last two checkpoints."""
        found = self._chunks.get(id)
        return None if found is None else found[1]

    def records(self) -> tuple[tuple[bytes, bytes], ...]:
        """The committed records of the ledger, by key."""
        return tuple(sorted(self._records.items()))

    # -- its two halves ---------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Something is written that a power cut would take back."""
        return bool(self._pending)

    def begin(self, effects: Sequence[Persist]) -> bool:
        """Take a turn's effects; True if it takes a sync before anything may be published."""
        assert not self._turn, "a turn is under way"
        self._turn = tuple(effects)
        return any(
            isinstance(effect, Journal | CompactJournal) or is_urgent(effect) for effect in effects
        )

    def finish(self) -> None:
        """The syncs of the turn are done."""
        for step in self._steps():
            step()
        self._turn = ()

    def flush(self) -> None:
        """Commit what is pending; the shell does so at least once a second."""
        if self._pending:
            self.syncs += 1
        for effect in self._pending:
            self._apply(effect)
        self._pending.clear()

    # -- the power cut ----------------------------------------------------------------------------

    def crash(self, chance: Random) -> None:
        """Stop at any point of the turn that is under way; lose what was not synced."""
        steps = self._steps() if self._turn else []
        done = chance.randrange(len(steps) + 1)
        for step in steps[:done]:
            step()
        if done < len(steps) and steps[done] == self._append:
            frame = journal_frame(self._appended(), len(self.journal))
            self.journal += frame[: chance.randrange(len(frame))]
        self._turn = ()
        self._pending.clear()

    # -- steps of a turn --------------------------------------------------------------------------

    def _steps(self) -> list[Step]:
        turn = self._turn
        compacts = any(isinstance(effect, CompactJournal) for effect in turn)
        urgent = compacts or any(is_urgent(effect) for effect in turn)
        steps: list[Step] = []
        if not compacts and self._appended():
            steps.append(self._append)
        steps.append(self._write)
        if urgent:
            steps.append(self.flush)
        if compacts:
            steps.append(self._compact)
        return steps

    def _appended(self) -> tuple[bytes, ...]:
        return tuple(effect.record for effect in self._turn if isinstance(effect, Journal))

    def _append(self) -> None:
        frame = journal_frame(self._appended(), len(self.journal))
        self.journal += frame
        self.syncs += 1
        self.bytes_synced += len(frame)

    def _write(self) -> None:
        self._pending += [e for e in self._turn if isinstance(e, Rows)]

    def _compact(self) -> None:
        whole: tuple[bytes, ...] = ()
        for effect in self._turn:
            if isinstance(effect, CompactJournal):
                whole = effect.records
            elif isinstance(effect, Journal):
                whole += (effect.record,)
        self.journal = bytearray(EMPTY_JOURNAL + frames.whole(SALT, whole))
        self.syncs += 1
        self.bytes_synced += len(self.journal)

    def _apply(self, effect: Rows) -> None:
        if isinstance(effect, StoreCheckpoint):
            self._put_checkpoint(effect)
        elif isinstance(effect, Adopt):
            self._adopt(effect)
        elif isinstance(effect, StoreBlock):
            height, block, certificate = effect.height, effect.block, effect.certificate
            before = self._blocks.get(height)
            if certificate is None and before is not None and before.block == block:
                certificate = before.certificate
            self._blocks[height] = StoredBlock(height, block, certificate)
            if effect.hand_over is not None:
                self._hand_overs[height] = effect.hand_over
            self._top = max(self._top, height)
            for key, value in effect.changes:
                if value is None:
                    self._records.pop(key, None)
                else:
                    self._records[key] = value
        elif effect.value is None:
            self._kept.pop((effect.space, effect.key), None)
        else:
            self._kept[effect.space, effect.key] = effect.value

    def _put_checkpoint(self, effect: StoreCheckpoint) -> None:
        before = max((height for height in self._checkpoints if height < effect.height), default=0)
        self._add_checkpoint(effect)
        if before:
            self._checkpoints = {h: c for h, c in self._checkpoints.items() if h >= before}
            self._chunks = {id: c for id, c in self._chunks.items() if c[0] >= before}
            self._blocks = {h: b for h, b in self._blocks.items() if h > before}

    def _adopt(self, effect: Adopt) -> None:
        for table in (self._blocks, self._checkpoints, self._chunks):
            table.clear()
        self._top = 0
        self._add_checkpoint(effect)
        self._records = dict(effect.records)
        self._hand_overs.update(effect.hand_overs)

    def _add_checkpoint(self, effect: StoreCheckpoint | Adopt) -> None:
        self._checkpoints[effect.height] = effect.checkpoint
        self._chunks.update((id, (effect.height, content)) for id, content in effect.chunks)


# -- the journal's format, with the salt of this store ---------------------------------------------


def journal_frame(records: Sequence[bytes], offset: int) -> bytes:
    """One append at `offset` of the file."""
    return frames.frame(SALT, records, offset)


def read_journal(content: bytes | bytearray) -> tuple[tuple[bytes, ...], int]:
    """The records of all whole frames, and where the last of them ends."""
    return frames.leading(SALT, bytes(content))
