"""Snapshots: the same chunks on every device, and a checkpoint that proves itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh import snapshots
from demesh.ledger.state import ACCOUNTS, FORGET, KEY_BYTES
from demesh.snapshots import Checkpoint, check, chunks_of, id_of, rebuilt, records_of, take
from demesh.wire import statements
from demesh.wire.schema import Malformed, decode, encode
from ledger.book import ANN, BEN, certificate, enrolling, transfer
from light.story import Story, final

EVERY = 4


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "EVERY", EVERY)


def grown(blocks: int = EVERY, closing: bool = False) -> Story:
    story = Story()
    for number in range(1, blocks):
        story.grow(transfer(ANN, BEN, number))
    last = enrolling(certificate("barn", "cem")) if closing else transfer(ANN, BEN, blocks)
    story.grow(last, trail=2 * closing)
    return story


def taken(story: Story) -> tuple[Checkpoint, tuple[bytes, ...]]:
    """The snapshot after the story's last block."""
    (stored,) = take(story.ledger, [story.block], story.finals[-1])
    assert stored.height == story.block.height
    return decode(Checkpoint, stored.checkpoint), tuple(content for _, content in stored.chunks)


# -- chunks ---------------------------------------------------------------------------------------

keys = st.sampled_from(sorted(KEY_BYTES)).flatmap(
    lambda table: st.binary(min_size=KEY_BYTES[table] - 1, max_size=KEY_BYTES[table] - 1).map(
        lambda subject: table + subject
    )
)
contents = st.dictionaries(keys, st.binary(max_size=2_000), min_size=1, max_size=80)


@given(contents, st.randoms())
def test_chunks_hold_every_record_in_order_and_follow_from_the_content_alone(content, chance):
    records = sorted(content.items())
    chunks = chunks_of(records)
    assert [record for chunk in chunks for record in records_of(chunk)] == records
    shuffled = list(content.items())
    chance.shuffle(shuffled)
    assert chunks_of(sorted(shuffled)) == chunks


@given(contents)
def test_a_chunk_is_bounded_and_no_smaller_than_it_must_be(content):
    chunks = chunks_of(sorted(content.items()))
    assert all(len(chunk) <= snapshots.CHUNK_BYTES_MAX for chunk in chunks)
    for chunk, following in pairwise(chunks):
        (key, record), *_ = records_of(following)
        listed = sum(len(k) + len(r) + 6 for k, r in records_of(chunk))
        assert listed + len(key) + len(record) + 6 > snapshots.CHUNK_BYTES


def test_the_largest_records_and_the_smallest_fit_their_chunks() -> None:
    large = [(FORGET + number.to_bytes(40, "big"), bytes(8_192)) for number in range(9)]
    small = [(ACCOUNTS + number.to_bytes(16, "big"), b"") for number in range(9_000)]
    for records in (large, small):
        chunks = chunks_of(records)
        assert len(chunks) > 1 and max(map(len, chunks)) <= snapshots.CHUNK_BYTES_MAX
        assert [record for chunk in chunks for record in records_of(chunk)] == records


def test_garbage_and_a_key_without_a_record_are_no_chunk() -> None:
    for garbage in (b"", b"\x80", b"\x81\x80", encode(snapshots.Records((b"a", b"b", b"c")))):
        with pytest.raises(Malformed):
            records_of(garbage)


def test_keys_that_the_ledger_does_not_have_and_keys_out_of_order_are_no_chunk() -> None:
    one, two = ACCOUNTS + bytes(16), ACCOUNTS + bytes(15) + b"x"
    assert records_of(encode(snapshots.Records((one, b"", two, b""))))
    for wrong in ((two, one), (one, one), (one[:-1], two), (b"y" + bytes(16), two)):
        with pytest.raises(Malformed):
            records_of(encode(snapshots.Records((wrong[0], b"", wrong[1], b""))))


# -- when -----------------------------------------------------------------------------------------


def test_a_snapshot_is_taken_at_every_multiple_and_nowhere_else() -> None:
    story = Story()
    for height in range(1, 3 * EVERY):
        story.grow(transfer(ANN, BEN, height))
        found = take(story.ledger, [story.block], story.finals[-1])
        assert bool(found) == (height % EVERY == 0)


def test_a_block_that_a_later_one_made_final_has_a_snapshot_too() -> None:
    story = grown()
    ledger = story.ledger
    for _ in range(3):
        story.grow()
    run = story.blocks[EVERY - 1 :]
    (stored,) = take(ledger, run, story.finals[-1])
    checkpoint = decode(Checkpoint, stored.checkpoint)
    check(ledger.electorate, checkpoint)
    assert [header.height for header in checkpoint.above] == [EVERY + 1, EVERY + 2, EVERY + 3]
    assert rebuilt(checkpoint, [content for _, content in stored.chunks]).root == ledger.root


def test_too_long_a_run_and_too_large_a_ledger_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    story = grown()
    ledger, block, shown = story.ledger, story.block, story.finals[-1]
    assert not take(ledger, [block] * (snapshots.ABOVE_MAX + 2), shown)
    monkeypatch.setattr(snapshots, "CHUNKS_MAX", 0)
    assert not take(ledger, [block], shown)


# -- what makes one good --------------------------------------------------------------------------


@pytest.mark.parametrize("closing", [False, True])
def test_a_checkpoint_holds_for_the_voters_of_its_epoch_and_gives_the_ledger(closing: bool) -> None:
    story = grown(closing=closing)
    checkpoint, chunks = taken(story)
    check(Story().ledger.electorate, checkpoint)
    assert checkpoint.ids == tuple(id_of(chunk) for chunk in chunks)
    ledger = rebuilt(checkpoint, chunks)
    assert ledger.root == story.ledger.root and ledger.records() == story.ledger.records()


def test_a_forged_checkpoint_fails() -> None:
    story = grown()
    voters, block = story.ledger.electorate, story.block
    checkpoint, _ = taken(story)
    other = statements.header_of(replace(block, state_root=bytes(32)))
    stranger = statements.header_of(replace(block, height=EVERY + 1))
    later = grown(EVERY + 1)
    above = statements.header_of(later.block)
    for forged in (
        replace(checkpoint, header=other),
        replace(checkpoint, final=final(voters, block, voters=(0,))),
        replace(checkpoint, above=(stranger,)),
        replace(checkpoint, above=(above, above), final=later.finals[-1]),
        replace(checkpoint, header=other, above=(above,), final=later.finals[-1]),
        replace(checkpoint, chunks=checkpoint.chunks + b"x"),
    ):
        with pytest.raises(ValueError):
            check(voters, forged)
    check(voters, replace(checkpoint, above=(above,), final=later.finals[-1]))
    with pytest.raises(ValueError, match="it is not of epoch 1"):
        check(replace(voters, epoch=1), checkpoint)


def test_nothing_stands_above_a_closing_block() -> None:
    story = grown(closing=True)
    checkpoint, _ = taken(story)
    with pytest.raises(ValueError, match="above a closing block"):
        check(Story().ledger.electorate, replace(checkpoint, above=(checkpoint.header,)))


def test_chunks_that_are_not_all_or_not_the_right_ones_do_not_give_the_root() -> None:
    story = grown()
    checkpoint, chunks = taken(story)
    records = story.ledger.records()
    poorer = chunks_of([(k, r) for k, r in records if k[1:] != ANN])
    richer = chunks_of(sorted([*records, (b"a" + bytes(16), records[0][1])]))
    for wrong in (poorer, richer, [], [*chunks, chunks_of([(b"zz", b"")])[0]]):
        with pytest.raises(ValueError):
            rebuilt(checkpoint, wrong)


def test_a_checkpoint_of_the_most_chunks_and_headers_fits_an_answer() -> None:
    story = grown()
    checkpoint, _ = taken(story)
    largest = replace(
        checkpoint,
        above=(checkpoint.header,) * snapshots.ABOVE_MAX,
        final=bytes(128 * 64 + 200),  # of 128 voters
        chunks=bytes(snapshots.ID_BYTES * snapshots.CHUNKS_MAX),
    )
    assert len(encode(largest)) < 60_000
