"""What must hold after every event of a run, checked from outside the code under test.

The checkers decode frames, blocks and records themselves (plain CBOR, by position, as in
docs/protocol.md) and keep their own books. Each rule has a name, which a violation begins with:

    agreement    no two boards finalize different blocks at a height; heights have no gap; each
                 block names its predecessor; mesh time does not go back
    certificate  a finalization is quorum weight's FINALIZE for just that block, by the voters of
                 its epoch, or for an empty block above a closing one
    epoch        a block closes its epoch if and only if it changes the voters, and the next one
                 begins on it; all boards know the same voters
    discipline   one voter says NOTARIZE and FINALIZE for one digest in a view at most, FINALIZE
                 only for what it notarized, and never both FINALIZE and NULLIFY in a view
    durable      a vote leaves a board only when its journal holds it
    money        all balances and escrows on a disk sum to 0; none is below its floor
    checkpoint   all boards take the same snapshot at a height, of all records that blocks changed;
                 an adopted one is of a block that others finalized, and has the records they had
    exposure     vouchers on a channel never sum to more than its escrow (see also `exposure`)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import cbor2

from demesh.ports import Adopt, Instant, Persist, Publish, StoreBlock, StoreCheckpoint
from demesh_sim.memory_store import MemoryStore
from demesh_sim.witness import Witness

PROPOSAL, VOTE, VOUCHER = 1, 2, 5  # kinds of frames
NOTARIZE, NULLIFY, FINALIZE = 1, 2, 3
SIGNATURE_BYTES = 64
HEADER_KID, HEADER_KIND = 4, -65537


class Violation(AssertionError):
    """A rule was broken. Says which, when, by whom, and how to see it again."""


@dataclass(frozen=True, slots=True)
class Run:
    """What names a run: its seed, and the command that repeats it."""

    seed: int
    replay: str

    def violation(self, rule: str, at: Instant, board: str, text: str) -> Violation:
        """The violation to raise."""
        ms = at // 1_000_000
        return Violation(
            f"{rule}: {board} at {ms // 1000}.{ms % 1000:03d} s, seed {self.seed}: {text}\n"
            f"replay: {self.replay}"
        )


@dataclass(frozen=True, slots=True)
class Electorate:
    """An epoch's voters in the order of their indices: ids of devices and vote keys, weights."""

    devices: tuple[bytes, ...]
    kids: tuple[bytes, ...]
    weights: tuple[int, ...]

    @property
    def quorum(self) -> int:
        """More than two thirds of all weight."""
        return 2 * sum(self.weights) // 3 + 1


@dataclass(slots=True)
class Link:
    """A finalized block as first seen."""

    digest: bytes
    time_s: int
    state_root: bytes
    board: int
    epoch: int
    closing: bool


@dataclass(slots=True)
class Books:
    """One board's disk, recounted: records, and what they sum to."""

    height: int = 0
    records: dict[bytes, bytes] = field(default_factory=dict)
    total: int = 0


class Checkers(Witness):
    """All rules over one swarm. Raises Violation from within the event that broke one."""

    def __init__(
        self, run: Run, names: Sequence[str], devices: Sequence[bytes], founders: Electorate
    ) -> None:
        self.chain: dict[int, Link] = {}
        self.checked = 0
        self.adopted: list[tuple[int, int]] = []  # (board, height)
        self._snapshots: dict[int, dict[bytes, bytes]] = {}
        self._run = run
        self._names = tuple(names)
        self._devices = tuple(devices)
        self._electorates = {0: founders}
        self._said: dict[tuple[bytes, int, int], dict[int, bytes]] = {}
        self._books = [Books() for _ in names]
        self._promised: dict[tuple[bytes, bytes, int], int] = {}
        self._escrows: dict[bytes, int] = {}

    # -- what a witness is told -------------------------------------------------------------------

    def booted(self, board: int, at: Instant, store: MemoryStore) -> None:
        """A board's books begin with what its disk gave back."""
        tip, checkpoint = store.tip(), store.checkpoint()
        adopted = cbor2.loads(checkpoint)[0][4] if checkpoint else 0
        books = self._books[board] = Books(tip.height if tip else adopted)
        for key, value in store.records():
            self._write(books, board, at, key, value)
        self._balanced(books, board, at)

    def persisted(
        self, board: int, at: Instant, effects: Sequence[Persist], store: MemoryStore
    ) -> None:
        """Finalized blocks and what they changed."""
        for effect in effects:
            if isinstance(effect, StoreBlock):
                self.checked += 1
                self._block(board, at, effect)
            elif isinstance(effect, StoreCheckpoint):
                self.checked += 1
                self._snapshot(board, at, effect)
            elif isinstance(effect, Adopt):
                self.checked += 1
                self._adopt(board, at, effect)

    def publishing(self, board: int, at: Instant, message: Publish, store: MemoryStore) -> None:
        """Votes, proposals and vouchers on their way out."""
        frame = open_frame(message.payload)
        if frame is None:
            return
        self.checked += 1
        if frame.kind == VOTE:
            statement = cbor2.loads(frame.payload)
            self._vote(board, at, frame.kid, statement, frame.signature, store)
        elif frame.kind == PROPOSAL:
            block, _, leader, rules, signature = cbor2.loads(frame.payload)
            statement = [NOTARIZE, block[0], block[1], proposed_digest(frame), rules]
            # Of an epoch nobody here has finalized anything of yet, the publisher is its own word.
            voters = self._electorates.get(block[0])
            kid = voters.kids[leader] if voters else frame.kid
            self._vote(board, at, kid, statement, signature, store)
        elif frame.kind == VOUCHER:
            self._voucher(board, at, frame.kid, *cbor2.loads(frame.payload))

    # -- agreement, certificate -------------------------------------------------------------------

    def _block(self, board: int, at: Instant, effect: StoreBlock) -> None:
        height, books = effect.height, self._books[board]
        block = cbor2.loads(effect.block)
        epoch, view, parent_view, parent, says_height, time_s, _, state_root, closing = block
        name = stored_digest(effect)
        if says_height != height:
            self._fail("agreement", board, at, f"block of height {says_height} stored as {height}")
        if height not in (books.height, books.height + 1):
            self._fail("agreement", board, at, f"height {height} stored after {books.height}")
        known = self.chain.get(height)
        if known is None:
            before = self.chain.get(height - 1)
            if before is not None and before.digest != parent:
                self._fail("agreement", board, at, f"height {height} is on another parent")
            if before is not None and before.time_s > time_s:
                self._fail("agreement", board, at, f"mesh time goes back at height {height}")
            follows = (before.epoch + before.closing, view) if before else (0, view)
            if (epoch, view) != follows or (before and before.closing and parent_view):
                self._fail("epoch", board, at, f"height {height} is in epoch {epoch}")
            self.chain[height] = Link(name, time_s, state_root, board, epoch, closing)
        elif known.digest != name:
            first = self._names[known.board]
            self._fail("agreement", board, at, f"height {height}: not the block {first} finalized")
        if effect.certificate is not None:
            self._certificate(board, at, cbor2.loads(effect.certificate), block, name)
        if height > books.height:
            for key, value in effect.changes:
                self._write(books, board, at, key, value)
            changed = any(key == b"v" for key, _ in effect.changes)
            if changed != closing:
                self._fail("epoch", board, at, f"height {height} closes wrongly or not at all")
            books.height = height
            self._balanced(books, board, at)

    def _certificate(
        self, board: int, at: Instant, final: Any, block: list[Any], name: bytes
    ) -> None:
        (statement, bitmap, signatures), trail = final
        epoch, view, closing = block[0], block[1], block[8]
        if trail and not closing:
            self._fail("certificate", board, at, f"view {view}: a trail, and nothing closes")
        for above in trail:
            height, ops = block[4] + 1, list[bytes]()
            block = [epoch, above, view, name, height, block[5], ops, block[7], False]
            view, name = above, _digest(block)
        bits = int.from_bytes(bitmap, "little")
        voters = self._electorates[epoch]
        weights = voters.weights
        weight = sum(weights[voter] for voter in range(len(weights)) if bits >> voter & 1)
        if list(statement[:4]) != [FINALIZE, epoch, view, name]:
            self._fail("certificate", board, at, f"view {view} is certified by {statement!r}")
        if weight < voters.quorum or bits >> len(weights):
            self._fail("certificate", board, at, f"view {view}: weight {weight} is no quorum")
        if len(signatures) != SIGNATURE_BYTES * bits.bit_count():
            self._fail("certificate", board, at, f"view {view}: signatures do not fit the bitmap")

    # -- checkpoint -------------------------------------------------------------------------------

    def _snapshot(self, board: int, at: Instant, effect: StoreCheckpoint) -> None:
        """What a board's books say, and what all others said."""
        records, books = _unpacked(effect), self._books[board]
        if books.height == effect.height and not books.records.items() <= records.items():
            self._fail("checkpoint", board, at, f"height {effect.height}: not what blocks changed")
        if self._snapshots.setdefault(effect.height, records) != records:
            self._fail("checkpoint", board, at, f"height {effect.height}: another snapshot here")
        self._certified(board, at, effect)

    def _adopt(self, board: int, at: Instant, effect: Adopt) -> None:
        """The books of a board that leapt: those that others had at that height."""
        if effect.height <= self._books[board].height:
            self._fail("checkpoint", board, at, f"back to height {effect.height}")
        self._certified(board, at, effect)
        taken = self._snapshots.get(effect.height)
        if dict(effect.records) != taken or _unpacked(effect) != taken:
            self._fail("checkpoint", board, at, f"height {effect.height}: not what others had")
        self.adopted.append((board, effect.height))

    def _certified(self, board: int, at: Instant, effect: StoreCheckpoint | Adopt) -> None:
        """Its block is the one finalized at its height, as are those above it."""
        header, above, final, ids = cbor2.loads(effect.checkpoint)
        linked = [header, *above]
        names = [_hash(cbor2.dumps(each)) for each in linked]
        for each, name in zip(linked, names, strict=True):
            known = self.chain.get(each[4])
            if known is not None and known.digest != name:
                self._fail("checkpoint", board, at, f"height {each[4]}: not the finalized block")
        if header[4] != effect.height or effect.height not in self.chain:
            self._fail("checkpoint", board, at, f"height {effect.height}: not final anywhere")
        last = [*linked[-1][:6], list[bytes](), *linked[-1][7:]]
        self._certificate(board, at, cbor2.loads(final), last, names[-1])
        listed = b"".join(id for id, _ in effect.chunks)
        if listed != ids or any(_hash(content) != id for id, content in effect.chunks):
            self._fail("checkpoint", board, at, f"height {effect.height}: chunks are not its own")

    # -- discipline, durable ----------------------------------------------------------------------

    def _vote(
        self,
        board: int,
        at: Instant,
        kid: bytes,
        statement: Sequence[Any],
        signature: bytes,
        store: MemoryStore,
    ) -> None:
        kind, epoch, view, name, _ = statement
        voters, device = self._electorates.get(epoch), self._devices[board]
        if voters and (kid, device) not in zip(voters.kids, voters.devices, strict=True):
            return  # passed on for another voter
        what = f"{('', 'NOTARIZE', 'NULLIFY', 'FINALIZE')[kind]}({view})"
        if signature not in store.journal:
            self._fail("durable", board, at, f"{what} leaves, and the journal does not hold it")
        said = self._said.setdefault((kid, epoch, view), {})
        if said.setdefault(kind, name) != name:
            self._fail("discipline", board, at, f"{what} for two digests")
        if FINALIZE in said and NULLIFY in said:
            self._fail("discipline", board, at, f"{what}: both FINALIZE and NULLIFY in a view")
        if FINALIZE in said and said.get(NOTARIZE, said[FINALIZE]) != said[FINALIZE]:
            self._fail("discipline", board, at, f"{what}: FINALIZE for what it did not notarize")

    # -- money, exposure --------------------------------------------------------------------------

    def _write(
        self, books: Books, board: int, at: Instant, key: bytes, value: bytes | None
    ) -> None:
        """Put a record and move the total by the difference."""
        before = books.records.pop(key, None)
        if value is not None:
            books.records[key] = value
        if key[:1] == b"a":
            books.total += _balance(value) - _balance(before)
            if value is not None and cbor2.loads(value)[2] < cbor2.loads(value)[3]:
                self._fail("money", board, at, f"account {key[1:].hex()} is below its floor")
        elif key == b"v":
            self._elected(board, at, cbor2.loads(value or b""))
        elif key[:1] == b"c":
            books.total += _escrow(value) - _escrow(before)
            if value is not None:
                self._escrows[key[1:]] = _escrow(value)

    def _elected(self, board: int, at: Instant, record: list[Any]) -> None:
        """The voters of an epoch, by the record of the block that closed the one before."""
        epoch, voters = record[2], record[4]
        found = Electorate(
            tuple(device for device, _, _ in voters),
            tuple(hashlib.blake2b(key, digest_size=16).digest() for _, key, _ in voters),
            tuple(weight for _, _, weight in voters),
        )
        if self._electorates.setdefault(epoch, found) != found:
            self._fail("epoch", board, at, f"epoch {epoch} has other voters here")

    def _balanced(self, books: Books, board: int, at: Instant) -> None:
        if books.total != 0:
            self._fail("money", board, at, f"height {books.height}: all money is {books.total}")

    def _voucher(
        self, board: int, at: Instant, payer: bytes, channel: bytes, lane: int, cum: int
    ) -> None:
        place = (payer, channel, lane)
        self._promised[place] = max(cum, self._promised.get(place, 0))
        lanes = [c for (p, ch, _), c in self._promised.items() if (p, ch) == (payer, channel)]
        if sum(lanes) > self._escrows.get(channel, sum(lanes)):
            self._fail("exposure", board, at, f"promised {sum(lanes)}, above the escrow")

    # -- at the end -------------------------------------------------------------------------------

    def heights(self) -> tuple[int, ...]:
        """How far each board's disk has come."""
        return tuple(books.height for books in self._books)

    def _fail(self, rule: str, board: int, at: Instant, text: str) -> None:
        raise self._run.violation(rule, at, self._names[board], text)


# -- plain CBOR ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    """A COSE_Sign1 frame, opened without a look at its signature."""

    kind: int
    kid: bytes
    payload: bytes
    signature: bytes


def open_frame(data: bytes) -> Frame | None:
    """The frame in `data`; None if it is none (a will, an observation)."""
    if data[:2] != b"\xd2\x84":
        return None
    protected, unprotected, payload, signature = cbor2.load(BytesIO(data[1:]))
    headers = cbor2.loads(protected)
    kind = headers[HEADER_KIND]
    if not isinstance(kind, int):  # a signal: [kind, boot, sequence]
        return Frame(kind[0], headers[HEADER_KID], payload, signature)
    return Frame(kind, unprotected[HEADER_KID], payload, signature)


def proposed_digest(frame: Frame) -> bytes:
    """The digest of the block in a proposal."""
    return _digest(cbor2.loads(frame.payload)[0])


def stored_digest(stored: StoreBlock) -> bytes:
    """The digest of a finalized block."""
    return _digest(cbor2.loads(stored.block))


def _digest(block: list[Any]) -> bytes:
    """BLAKE2b-256 of the block's deterministic CBOR, with its ops as a hash of their hashes."""
    ops = b"".join(hashlib.blake2b(op, digest_size=32).digest() for op in block[6])
    return _hash(cbor2.dumps([*block[:6], _hash(ops), *block[7:]]))


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=32).digest()


def _unpacked(effect: StoreCheckpoint | Adopt) -> dict[bytes, bytes]:
    """Every record in the chunks of a checkpoint."""
    records: dict[bytes, bytes] = {}
    for _, content in effect.chunks:
        ((*items,),) = cbor2.loads(content)
        records |= zip(items[::2], items[1::2], strict=True)
    return records


def _balance(account: bytes | None) -> int:
    return 0 if account is None else int(cbor2.loads(account)[2])


def _escrow(channel: bytes | None) -> int:
    return 0 if channel is None else int(cbor2.loads(channel)[2])
