"""Targets that read what peers sent or a disk gave back: messages, genesis, proofs, snapshots.

Each may raise its documented error and nothing else, and what it reads is written in one way only.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any

from demesh import light, snapshots
from demesh.backfill import ASK_DELAYS, ASKS_IN_VAIN, Leaping
from demesh.errors import ConfigError, StorageError
from demesh.ledger import state
from demesh.ledger.ledger import Ledger
from demesh.light import HandOver, Proof
from demesh.metering.payer import PayerEntry
from demesh.metering.provider import ProviderEntry
from demesh.past import Standing, entries_of, past_of
from demesh.ports import Adopt, Restored, StoredBlock
from demesh.snapshots import Checkpoint, Records
from demesh.storage import frames
from demesh.storage.frames import HEADER_BYTES, MAGIC, SALT_BYTES
from demesh.wire import identity, statements
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.identity import check_genesis, device_id
from demesh.wire.messages import MESSAGE_OF_KIND, Chunk, Genesis, GenesisBody, Leap, Want
from demesh.wire.opbodies import OP_BODIES
from demesh.wire.schema import Malformed, decode, encode
from demesh.wire.validate import Validator
from demesh_sim.bare import Bare, found_bare
from fuzz import cbor
from fuzz.cbor import ARRAY, BYTES, Item
from fuzz.mutate import after, of_bytes, of_tree
from fuzz.target import Target, expect
from ledger.book import ANN, BEN, certificate, enrolling, transfer
from light.story import VOTE_KEYS, Story
from node.hostile import Nonsense

# -- every message and record ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decoder:
    """Reads and writes one kind of thing; `shape` is the record that its bytes spell."""

    shape: type
    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]


def _of_class(cls: type) -> Decoder:
    return Decoder(cls, lambda payload: decode(cls, payload), encode)


def _write_chunk(records: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return encode(Records(tuple(part for record in records for part in record)))


CLASSES = (
    *MESSAGE_OF_KIND.values(),
    *OP_BODIES.values(),
    *(DeviceCertificate, GenesisBody, Genesis),
    *(Standing, ProviderEntry, PayerEntry),
    *(HandOver, Proof, Checkpoint, Records, statements.Header),
    *(state.Account, state.Channel, state.Receipt, state.Parameters, state.Quota, state.Backing),
    *(state.Owner, state.Membership, state.Electorate),
)

DECODERS = (
    *(_of_class(cls) for cls in CLASSES),
    Decoder(statements._Statement, statements.decode_statement, statements.encode_statement),
    Decoder(statements._Block, statements.decode_block, statements.encode_block),
    Decoder(statements._Certificate, statements.decode_certificate, statements.encode_certificate),
    Decoder(statements._Final, statements.decode_final, lambda f: statements.encode_final(*f)),
    Decoder(statements._Proposal, statements.decode_proposal, statements.encode_proposal),
    Decoder(Records, snapshots.records_of, _write_chunk),
)

SEEDS_EACH = 4


def messages() -> Target:
    """Every decoder: Malformed or a value, and a value is encoded to the very bytes it came of."""

    def run(data: bytes) -> None:
        if not data:
            return
        decoder, payload = DECODERS[data[0] % len(DECODERS)], data[1:]
        try:
            value = decoder.read(payload)
        except Malformed:
            return
        again = decoder.write(value)
        expect(again == payload, f"{decoder.shape.__name__}: two encodings of one value", again)
        expect(cbor.canonical(payload), f"{decoder.shape.__name__}: not deterministic")

    return Target(run, tuple(_message_seeds()), after(1, of_tree), burst=2)


def _message_seeds() -> list[bytes]:
    """Sound values at the limits of their fields, and some of a real chain."""
    dice = Random(1)
    chain = told()
    real: dict[type, list[bytes]] = {
        statements._Block: [statements.encode_block(block) for block in chain.blocks],
        statements._Final: list(chain.finals),
        statements._Certificate: [
            statements.encode_certificate(statements.decode_final(final)[0])
            for final in chain.finals
        ],
        HandOver: [encode(link) for link in chain.hand_overs],
        Proof: [encode(chain.proof(state.ELECTORATE))],
        Genesis: [encode(founded().genesis)],
        Records: snapshots.chunks_of(chain.ledger.records()),
    }
    seeds = []
    for place, decoder in enumerate(DECODERS):
        made = real.get(decoder.shape, [])[-2:]
        known = [bytes(16), bytes(range(32)), b"", *made]
        for _ in range(200):
            if len(made) >= SEEDS_EACH:
                break
            try:
                payload = encode(Nonsense(dice, known).message(decoder.shape))
                decoder.read(payload)
            except ValueError:
                continue
            made = [*made, payload]
        seeds += [bytes((place,)) + payload for payload in made if len(payload) < 8_000]
    return seeds


# -- a chain to tell of ---------------------------------------------------------------------------

EVERY = 4
LIAR, HONEST = bytes(16), bytes(range(16))
CHUNK_BYTES = 500  # several chunks of a small ledger


@cache
def told() -> Story:
    """Three epochs, the last of which has a block at a height of a snapshot."""
    story = Story()
    story.grow(transfer(ANN, BEN, 500))
    story.grow(enrolling(certificate("barn", "cem"), weight=2))
    story.grow(enrolling(certificate("yard", "ann"), weight=0), trail=2)
    for amount in range(1, 6):
        story.grow(transfer(ANN, BEN, amount))
    return story


@cache
def founded() -> Bare:
    """A sound genesis and its owners' keys."""
    return found_bare(2, 1, owners=2)


def _list(*parts: bytes) -> bytes:
    """An input of several parts."""
    return cbor.write(Item(ARRAY, items=[Item(BYTES, content=part) for part in parts]))


def _parts(data: bytes) -> list[bytes]:
    """The byte strings in an input, whatever else it is."""
    try:
        return [item.content for item in cbor.read(data).items]
    except cbor.UnreadableError:
        return [data]


# -- genesis --------------------------------------------------------------------------------------


def genesis() -> Target:
    """A genesis that its founders sign, whatever it says: sound, or a reason why not."""
    keys = {bytes(key.verify_key): key for key in founded().owners}

    def run(data: bytes) -> None:
        try:
            given = decode(Genesis, data)
        except Malformed:
            return
        message = identity._founding_bytes(given.body)
        signed = tuple(
            bytes(keys[owner].sign(message).signature) if owner in keys else bytes(64)
            for owner in given.body.owners
        )
        for one in (given, replace(given, signatures=signed)):
            try:
                mesh = check_genesis(one)
            except ValueError:
                continue
            expect(mesh == identity.mesh_id(one.body), "another mesh id")
            try:
                past = past_of(mesh, one.body, Restored())
            except ConfigError:
                continue
            expect(past.ledger.total() == 0, "money from nowhere")

    return Target(run, (encode(founded().genesis),), of_tree, bytes_max=8_192)


# -- proofs ---------------------------------------------------------------------------------------


def proofs() -> Target:
    """A proof shows what is in the ledger, or ValueError says that it shows nothing."""
    story = told()
    body, records = story.body, dict(story.ledger.records())

    def run(data: bytes) -> None:
        try:
            proved = light.verify(body, decode(Proof, data))
        except ValueError:
            return
        expect(records.get(proved.key) == proved.record, "proved what is not so", proved.key)

    keys = [state.ELECTORATE, state.PARAMETERS, state.ACCOUNTS + ANN]
    found = [story.proof(key) for key in keys]
    found += [replace(found[0], final=_with_a_stranger(found[0].final))]
    return Target(run, tuple(encode(proof) for proof in found), of_tree, bytes_max=16_384)


def _with_a_stranger(final: bytes) -> bytes:
    """The same, signed by a voter of a number that nobody has as well."""
    certificate, trail = statements.decode_final(final)
    signatures = (*certificate.signatures, (40, bytes(64)))
    return statements.encode_final(replace(certificate, signatures=signatures), trail)


# -- snapshots ------------------------------------------------------------------------------------


def leaps() -> Target:
    """Hand-overs, a checkpoint and chunks of a liar: refused, or the ledger that is true."""
    story = told()
    ledger = Ledger.genesis(story.body)
    checkpoint, chunks = _taken(story)
    links = tuple(encode(link) for link in story.hand_overs)

    def run(data: bytes) -> None:
        parts = _parts(data)
        (given, named), lies = [*parts, b"", b""][:2], parts[2:]
        lie = Leap(tuple(_parts(given)), named)
        with _often():
            attempts = [lie]
            with suppress(ValueError):
                held = decode(Checkpoint, named)
                # A liar names the chunks that it has.
                true = replace(held, chunks=b"".join(map(snapshots.id_of, lies)))
                attempts.append(replace(lie, checkpoint=encode(true)))
                # Whatever the records, and if all voters signed for them: no other error.
                snapshots.rebuilt(_with_root(held, lies), lies)
            for attempt in attempts:
                _leap(attempt, lies)

    def _leap(lie: Leap, lies: list[bytes]) -> None:
        """One liar's leap, and then an honest one."""
        leaping = Leaping(1)
        lied = [leaping.leap(lie, LIAR, ledger, 0)]
        for chunk in lies:
            if not _adopts(lied):
                lied.append(leaping.chunk(Chunk(chunk), 0))
        if _adopts(lied):
            expect(_adopts(lied) == story.ledger.root, "adopted what is not so")
            return
        for asked in range(ASKS_IN_VAIN + 2):  # nobody has the chunks that it made up
            leaping.again(Want(1, 0), LIAR, (LIAR, HONEST), 2 * ASK_DELAYS * asked)
        told_ = [leaping.leap(Leap(links, encode(checkpoint)), HONEST, ledger, 0)]
        told_ += [leaping.chunk(Chunk(chunk), 0) for chunk in chunks]
        expect(_adopts(told_) == story.ledger.root, "a liar kept me from the truth", told_)

    seeds = (
        _list(_list(*links), encode(checkpoint), *chunks),
        _list(_list(*links[:1]), encode(checkpoint), *chunks),
        _list(_list(*links), encode(checkpoint), *chunks[1:]),
    )
    return Target(run, seeds, of_tree, bytes_max=32_768)


def _adopts(outcomes: list[Any]) -> bytes | None:
    """The state root of what is to be adopted, if anything is."""
    roots = [Ledger.restore(one.records).root for one in outcomes if isinstance(one, Adopt)]
    return roots[0] if roots else None


def _with_root(checkpoint: Checkpoint, chunks: list[bytes]) -> Checkpoint:
    """The checkpoint as voters would have signed it who had these records."""
    records = [record for chunk in chunks for record in snapshots.records_of(chunk)]
    header = replace(checkpoint.header, state_root=Ledger.restore(records).root)
    return replace(checkpoint, header=header)


class _often:  # noqa: N801  a context, used like a function
    """A small chain has snapshots too while this lasts."""

    def __enter__(self) -> None:
        self._before = snapshots.EVERY, snapshots.CHUNK_BYTES
        snapshots.EVERY, snapshots.CHUNK_BYTES = EVERY, CHUNK_BYTES

    def __exit__(self, *_: object) -> None:
        snapshots.EVERY, snapshots.CHUNK_BYTES = self._before


@cache
def _taken(story: Story) -> tuple[Checkpoint, tuple[bytes, ...]]:
    with _often():
        (stored,) = snapshots.take(story.ledger, [story.block], story.finals[-1])
    return decode(Checkpoint, stored.checkpoint), tuple(chunk for _, chunk in stored.chunks)


# -- disks ----------------------------------------------------------------------------------------


def stored() -> Target:
    """What a damaged or foreign data folder holds: a start, or a StorageError."""
    story = told()
    body, mesh = story.body, identity.mesh_id(story.body)
    vote_key = next(iter(VOTE_KEYS.values()))
    vote_id = device_id(bytes(vote_key.verify_key))

    def run(data: bytes) -> None:
        journal, tip, final, records, checkpoint, *_ = [*_parts(data), b"", b"", b"", b"", b""]
        rows = _parts(records)
        restored = Restored(
            journal=tuple(_parts(journal)),
            tip=StoredBlock(1, tip, final or None) if tip else None,
            records=tuple(zip(rows[::2], rows[1::2], strict=False)),
            checkpoint=checkpoint or None,
        )
        try:
            past = past_of(mesh, body, restored)
            binding = statements.Binding(mesh, body.generation)
            entries_of(past.journal, Validator(binding), vote_id)
        except StorageError:
            pass

    changes = [part for record in story.ledger.records() for part in record]
    checkpoint, _ = _taken(story)
    block, final = statements.encode_block(story.block), story.finals[-1]
    certificate_ = statements.encode_certificate(statements.decode_final(final)[0])
    journal = _list(Standing(3, 2, 1).record(), b"c" + certificate_, b"v\0\0", b"p")
    seeds = (
        _list(journal, block, final, _list(*changes), b""),
        _list(journal, b"", b"", _list(*changes), encode(checkpoint)),
        _list(journal, b"", b"", b"", b""),
    )
    return Target(run, seeds, of_tree, bytes_max=16_384)


def journals() -> Target:
    """A damaged journal: never a record that was not written, and those in front are whole."""
    salt = bytes(range(SALT_BYTES))
    written = tuple(bytes((number,)) * (number * 7 % 40) for number in range(12))
    whole = MAGIC + salt
    for at in range(0, len(written), 3):
        whole += frames.frame(salt, written[at : at + 3], len(whole))

    def run(data: bytes) -> None:
        records, end = frames.leading(salt, data)
        expect(end >= HEADER_BYTES, "ends before its header")
        expect(records == written[: len(records)], "records that nobody wrote", records)

    return Target(run, (whole, whole[:-1], MAGIC + salt), of_bytes)
