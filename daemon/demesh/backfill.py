"""Blocks for who is behind, and a checkpoint for who is further behind than anybody has blocks.

Theory of operation. A device asks one voter at a time for the blocks above its tip (R-CON-12). Who
has them no more answers with a leap: the hand-overs from the asker's epoch on, and its latest
checkpoint. The asker verifies both with the voters that it knows, so it believes nobody; then it
asks for chunks, one after the other, of the voters in turn. Chunks go by their hash, so it does not
matter who sends them, and their number and size are bounded before the first one is asked for. That
the list of chunks was true shows at the end, by the state root: if it was not, whoever gave it is
not listened to again. What is verified is adopted in one transaction, and the device begins anew
from its disk as after a power cut, which it survives anyway. Until then nothing has changed.

R-SNP-4   A WANT for blocks that a device has no more is answered by a LEAP: hand-overs from the
          epoch asked for on, as many as fit, and with the last of them the latest Checkpoint.
R-SNP-5   A LEAP is taken from whom was asked, if its hand-overs and its checkpoint hold and that
          is at least EVERY blocks above the tip. Chunks are asked for by SEEK; one that is not
          answered in time goes to another voter, and after ASKS_IN_VAIN in a row the leap is given
          up and blocks are asked for again.
R-SNP-6   What gives the state root is adopted at once or not at all: records, checkpoint, chunks
          and hand-overs, in place of all blocks. The journal stays as it is (R-CON-10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from demesh import light, snapshots
from demesh.ledger.ledger import Ledger
from demesh.ledger.state import Electorate
from demesh.light import HandOver
from demesh.ports import MILLISECOND, Adopt, Fetched, Instant, Sought
from demesh.snapshots import Checkpoint
from demesh.wire import statements
from demesh.wire.kinds import Reject
from demesh.wire.messages import Blocks, Chunk, Leap, Seek, Want
from demesh.wire.schema import Malformed, decode, encode

# Blocks given per question: with a frame of 48 KiB, about a second of a busy mesh.
BLOCKS_PER_ANSWER = 64
ANSWER_BYTES_MAX = 48 * 1024

# Questions for blocks, chunks or votes that one member may ask at once, and how long until it may
# ask one more: a laggard takes as long to execute an answer, a liar gets 1 MB/s out of me and no
# more.
QUESTIONS_MAX = 8
QUESTION_EVERY = 50 * MILLISECOND

# What a LEAP may hold besides its envelope.
LEAP_BYTES_MAX = 60_000

# Each goes to another voter, so a third of them may be silent and a question be lost on top.
ASKS_IN_VAIN = 8


# Until a chunk is asked of another voter, in units of the least D, as for blocks (R-CON-12).
ASK_DELAYS = 4

# -- answering ------------------------------------------------------------------------------------


class Questions:
    """How much each member may ask."""

    def __init__(self) -> None:
        self._done: dict[bytes, Instant] = {}  # when a member's questions are worked off

    def takes(self, asker: bytes, now: Instant) -> bool:
        """May this member have another answer already?"""
        done = max(now, self._done.get(asker, now)) + QUESTION_EVERY
        if done > now + QUESTIONS_MAX * QUESTION_EVERY:
            return False
        self._done[asker] = done
        return True


def answer(found: Fetched | Sought) -> Blocks | Leap | Chunk | None:
    """What to give to who asked; None if there is nothing."""
    if isinstance(found, Sought):
        return None if found.chunk is None else Chunk(found.chunk)
    return _blocks(found) if found.blocks else _leap(found)


def _blocks(fetched: Fetched) -> Blocks | None:
    """The longest run of blocks that fits and ends with a known finalization.

    If there is none, then all that fits and the next finalization above: the asker takes such runs
    in parts. No run goes on beyond the end of an epoch (R-CON-12).
    """
    size, end = 0, 0
    fits: list[bytes] = []
    final: bytes | None = None
    for stored in fetched.blocks:
        size += len(stored.block) + len(stored.certificate or b"")
        if size > ANSWER_BYTES_MAX and fits:
            break
        fits.append(stored.block)
        if stored.certificate is not None:
            final, end = stored.certificate, len(fits)
            if statements.decode_block(stored.block).closing:
                break
    if final is None:
        above = (s.certificate for s in fetched.blocks[len(fits) :] if s.certificate)
        final, end = next(above, fetched.final), len(fits)
    return None if final is None else Blocks(tuple(fits[:end]), final)


def _leap(fetched: Fetched) -> Leap | None:
    """Hand-overs as they fit, with the last of them the checkpoint (R-SNP-4)."""
    if fetched.checkpoint is None or len(fetched.checkpoint) > LEAP_BYTES_MAX:
        return None
    checkpoint = decode(Checkpoint, fetched.checkpoint)
    fits: list[bytes] = []
    size = 0
    for link in fetched.hand_overs:
        if decode(HandOver, link).header.epoch >= checkpoint.header.epoch:
            break
        size += len(link)
        if size > ANSWER_BYTES_MAX:
            return Leap(tuple(fits), b"")
        fits.append(link)
    if size + len(fetched.checkpoint) > LEAP_BYTES_MAX:
        return Leap(tuple(fits), b"")
    return Leap(tuple(fits), fetched.checkpoint)


# -- asking ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Target:
    """A checkpoint that holds, as far as the voters' word goes, and the chunks that are here."""

    checkpoint: Checkpoint
    source: bytes
    chunks: dict[bytes, bytes] = field(default_factory=dict)

    def missing(self) -> bytes | None:
        """The id of the first chunk that is not here."""
        return next((id for id in self.checkpoint.ids if id not in self.chunks), None)


class Leaping:
    """How far a leap has come. It changes nothing by itself: its end is an `Adopt`."""

    def __init__(self, delay_min: Instant) -> None:
        self._patience = ASK_DELAYS * delay_min
        self._walked: list[tuple[HandOver, Electorate]] = []  # from my epoch on
        self._target: _Target | None = None
        self._asked: tuple[bytes, Instant] | None = None  # for a chunk, and when
        self._silent: dict[bytes, None] = {}  # did not answer when asked for a chunk
        self._vain = 0
        self._liars: dict[bytes, None] = {}

    def again(
        self, want: Want, to: bytes, voters: Sequence[bytes], now: Instant
    ) -> tuple[bytes, Want | Seek] | None:
        """What to ask, and whom, when nothing came; None while an answer may still come."""
        if self._target is not None and self._asked is not None:
            silent, asked_at = self._asked
            if now < asked_at + self._patience:
                return None
            self._silent[silent] = None
            self._vain += 1
            if self._vain > ASKS_IN_VAIN:
                self._give_up()
        return self.next(want, to, voters, now)

    def next(
        self, want: Want, to: bytes, voters: Sequence[bytes], now: Instant
    ) -> tuple[bytes, Want | Seek]:
        """What to ask, and whom: `to` for hand-overs or blocks, and for chunks all in turn."""
        if self._target is None:
            walked = self._walked[-1][1].epoch if self._walked else 0
            return to, Want(want.first_height, max(want.epoch, walked))
        missing = self._target.missing()
        assert missing is not None, "what is complete is adopted"
        if all(voter in self._silent for voter in voters):
            self._silent.clear()
        heard = [voter for voter in voters if voter not in self._silent] or [to]
        to = heard[(len(self._target.chunks) + self._vain) % len(heard)]
        self._asked = to, now
        return to, Seek(missing)

    def leap(
        self, given: Leap, source: bytes, ledger: Ledger, height: int
    ) -> Reject | Adopt | None:
        """An answer by who was asked; ledger and height are those of my tip (R-SNP-5).

        What is to be adopted, if an earlier leap brought all the chunks already.
        """
        if source in self._liars:
            return Reject.INVALID
        mine = ledger.electorate
        while self._walked and self._walked[0][1].epoch <= mine.epoch:
            del self._walked[0]  # I came further by blocks; what is beyond leads on to my target
        before = len(self._walked)
        try:
            self._walk(mine, given.hand_overs)
            if not given.checkpoint:
                return None if len(self._walked) > before else Reject.STALE
            checkpoint = decode(Checkpoint, given.checkpoint)
            snapshots.check(self._electorate(mine, checkpoint.header.epoch), checkpoint)
        except ValueError:
            return Reject.INVALID
        held, reached = self._target, checkpoint.header.height
        if reached < height + snapshots.EVERY:
            return Reject.STALE
        if held is not None and held.checkpoint.header.height >= reached:
            return Reject.STALE
        self._target, self._asked, self._vain = _Target(checkpoint, source), None, 0
        if held is not None:
            listed = frozenset(checkpoint.ids)
            self._target.chunks = {id: c for id, c in held.chunks.items() if id in listed}
        return self._finish(self._target)

    def chunk(self, given: Chunk, height: int) -> Reject | Adopt | None:
        """A chunk, by whomever; with the last one what is to be adopted (R-SNP-6)."""
        target, id = self._target, snapshots.id_of(given.content)
        if target is not None and target.checkpoint.header.height <= height:
            self._give_up()  # I came further by blocks
            return Reject.STALE
        if target is None or id in target.chunks or id not in target.checkpoint.ids:
            return Reject.STALE
        try:
            snapshots.records_of(given.content)
        except Malformed:
            return self._was_lied_to(target)
        target.chunks[id] = given.content
        self._asked, self._vain = None, 0
        return self._finish(target)

    def _walk(self, mine: Electorate, hand_overs: Sequence[bytes]) -> None:
        """From epoch to epoch as far as they lead; raises ValueError."""
        for encoded in hand_overs:
            link = decode(HandOver, encoded)
            last = self._walked[-1][1] if self._walked else mine
            if link.header.epoch >= last.epoch:
                self._walked.append((link, light.follow(last, link)))

    def _electorate(self, mine: Electorate, epoch: int) -> Electorate:
        """The voters of an epoch that was walked to; ValueError for any other."""
        for electorate in (mine, *(after for _, after in self._walked)):
            if electorate.epoch == epoch:
                return electorate
        raise ValueError(f"nothing leads to epoch {epoch}")

    def _finish(self, target: _Target) -> Reject | Adopt | None:
        """If all chunks are here: what is to be adopted, or that the list of them was a lie."""
        if target.missing() is not None:
            return None
        try:
            return self._adopt(target)
        except ValueError:
            return self._was_lied_to(target)

    def _was_lied_to(self, target: _Target) -> Reject:
        """Its list of chunks was false: whoever gave it is not listened to again."""
        self._liars[target.source] = None
        self._give_up()
        return Reject.INVALID

    def _adopt(self, target: _Target) -> Adopt:
        """All that takes the place of what is stored; ValueError if it gives another state."""
        checkpoint = target.checkpoint
        chunks = tuple((id, target.chunks[id]) for id in checkpoint.ids)
        ledger = snapshots.rebuilt(checkpoint, [content for _, content in chunks])
        header = checkpoint.header
        links = [link for link, _ in self._walked if link.header.height < header.height]
        if header.closing:
            links.append(light.hand_over(header, checkpoint.final, ledger))
        placed = tuple((link.header.height, encode(link)) for link in links)
        return Adopt(header.height, encode(checkpoint), chunks, ledger.records(), placed)

    def _give_up(self) -> None:
        self._target, self._asked, self._vain = None, None, 0
        self._silent.clear()
