"""A leap step by step: what is believed, what is asked next, and what liars can do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demesh import backfill, snapshots
from demesh.backfill import ASK_DELAYS, ASKS_IN_VAIN, Leaping, answer
from demesh.errors import StorageError
from demesh.ledger.ledger import Ledger
from demesh.light import HandOver, follow
from demesh.past import past_of
from demesh.ports import Adopt, Fetched, Restored, Sought, StoredBlock
from demesh.snapshots import Checkpoint, take
from demesh.wire import statements
from demesh.wire.kinds import Reject
from demesh.wire.messages import Chunk, Leap, Seek, Want
from demesh.wire.schema import decode, encode
from demesh_consensus.chain import Tip, filler
from ledger.book import ANN, BEN, certificate, enrolling, transfer
from light.story import Story, final

EVERY = 4
DELAY = 1_000
VOTERS = [b"one", b"two", b"three"]
FOUNDED = Story().ledger
ASKED = Want(1, 0)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "EVERY", EVERY)
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 500)  # several chunks of a small ledger


def told(closing: bool = False) -> Story:
    """Two epochs that ended, and a checkpoint at height 8."""
    story = Story()
    story.grow(transfer(ANN, BEN, 500))
    story.grow(enrolling(certificate("barn", "cem"), weight=2))
    story.grow(enrolling(certificate("yard", "ann"), weight=0), trail=2)
    for amount in range(1, 5):
        story.grow(transfer(ANN, BEN, amount))
    last = enrolling(certificate("shed", "cem")) if closing else transfer(ANN, BEN, 5)
    story.grow(last, trail=int(closing))
    return story


class Donor:
    """A device that has the checkpoint and no block below it."""

    def __init__(self, story: Story) -> None:
        self.story = story
        (self.stored,) = take(story.ledger, [story.block], story.finals[-1])
        self.chunks = dict(self.stored.chunks)

    def leap(self, epoch: int = 0) -> Leap:
        links = tuple(encode(link) for link in self.story.hand_overs[epoch:])
        given = answer(Fetched(b"asker", (), None, links, self.stored.checkpoint))
        assert isinstance(given, Leap)
        return given

    def chunk(self, seek: Want | Seek) -> Chunk:
        assert isinstance(seek, Seek)
        given = answer(Sought(b"asker", self.chunks[seek.chunk]))
        assert isinstance(given, Chunk)
        return given


def asked_next(leaping: Leaping, now: int = 0) -> tuple[bytes, Want | Seek]:
    return leaping.next(ASKED, b"one", VOTERS, now)


def finish(leaping: Leaping, donor: Donor) -> Adopt | Reject:
    """Answer every question for a chunk."""
    for _ in range(len(donor.chunks)):
        outcome = leaping.chunk(donor.chunk(asked_next(leaping)[1]), 0)
        if outcome is not None:
            return outcome
    raise AssertionError("all chunks were given, and nothing came of it")


@pytest.mark.parametrize("closing", [False, True])
def test_a_leap_from_the_genesis_ends_with_all_there_is_to_adopt(closing: bool) -> None:
    story = told(closing)
    donor, leaping = Donor(story), Leaping(DELAY)
    assert asked_next(leaping) == (b"one", ASKED)
    assert leaping.leap(donor.leap(), b"one", FOUNDED, 0) is None
    adopted = finish(leaping, donor)
    assert isinstance(adopted, Adopt)
    assert (adopted.height, adopted.checkpoint) == (8, donor.stored.checkpoint)
    assert adopted.chunks == donor.stored.chunks
    assert Ledger.restore(adopted.records).root == story.ledger.root
    assert [height for height, _ in adopted.hand_overs] == ([2, 3, 8] if closing else [2, 3])
    electorate = FOUNDED.electorate
    for _, link in adopted.hand_overs:
        electorate = follow(electorate, decode(HandOver, link))
    assert electorate == story.ledger.electorate


def test_hand_overs_that_do_not_fit_one_answer_come_in_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    donor, leaping = Donor(told()), Leaping(DELAY)
    whole = donor.leap()
    monkeypatch.setattr(backfill, "ANSWER_BYTES_MAX", max(map(len, whole.hand_overs)) + 10)
    first = donor.leap()
    assert (len(first.hand_overs), first.checkpoint) == (1, b"")
    assert leaping.leap(first, b"one", FOUNDED, 0) is None
    assert asked_next(leaping) == (b"one", Want(1, 1))
    assert leaping.leap(first, b"one", FOUNDED, 0) is Reject.STALE
    assert leaping.leap(donor.leap(1), b"one", FOUNDED, 0) is None
    assert isinstance(finish(leaping, donor), Adopt)


def test_a_checkpoint_that_does_not_fit_beside_the_hand_overs_comes_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    donor, leaping = Donor(told()), Leaping(DELAY)
    monkeypatch.setattr(backfill, "LEAP_BYTES_MAX", len(donor.stored.checkpoint) + 10)
    assert leaping.leap(donor.leap(), b"one", FOUNDED, 0) is None
    assert asked_next(leaping) == (b"one", Want(1, 2))
    assert leaping.leap(donor.leap(2), b"one", FOUNDED, 0) is None
    assert isinstance(asked_next(leaping)[1], Seek)


def test_chunks_are_asked_of_all_voters_in_turn() -> None:
    donor, leaping = Donor(told()), Leaping(DELAY)
    leaping.leap(donor.leap(), b"one", FOUNDED, 0)
    asked = []
    for _ in range(len(donor.chunks) - 1):
        to, seek = asked_next(leaping)
        asked.append(to)
        assert leaping.chunk(donor.chunk(seek), 0) is None
    assert asked[:4] == [b"one", b"two", b"three", b"one"]


def test_who_does_not_answer_in_time_is_passed_over_and_in_the_end_the_leap_is_given_up() -> None:
    donor, leaping = Donor(told()), Leaping(DELAY)
    leaping.leap(donor.leap(), b"one", FOUNDED, 0)
    patience = ASK_DELAYS * DELAY
    to, seek = asked_next(leaping, 0)
    assert to == b"one"
    assert leaping.again(ASKED, b"two", VOTERS, patience - 1) is None
    other = leaping.again(ASKED, b"two", VOTERS, patience)
    assert other is not None and other[0] != b"one" and other[1] == seek
    assert leaping.chunk(donor.chunk(seek), 0) is None
    for _ in range(3):
        to, seek = asked_next(leaping, patience)
        assert to != b"one"
        assert leaping.chunk(donor.chunk(seek), 0) is None
    asked_next(leaping, patience)
    now = patience
    for _ in range(ASKS_IN_VAIN):
        now += patience
        question = leaping.again(ASKED, b"two", VOTERS, now)
        assert question is not None and isinstance(question[1], Seek)
    assert leaping.again(ASKED, b"two", VOTERS, now + patience) == (b"two", Want(1, 2))


def test_a_chunk_that_was_not_asked_for_changes_nothing() -> None:
    donor, leaping = Donor(told()), Leaping(DELAY)
    assert leaping.chunk(Chunk(b"early"), 0) is Reject.STALE
    leaping.leap(donor.leap(), b"one", FOUNDED, 0)
    _, seek = asked_next(leaping)
    given = donor.chunk(seek)
    flipped = bytes([given.content[0] ^ 1]) + given.content[1:]
    assert leaping.chunk(Chunk(flipped), 0) is Reject.STALE
    assert asked_next(leaping)[1] == seek
    assert leaping.chunk(given, 0) is None
    assert leaping.chunk(given, 0) is Reject.STALE


def test_another_leap_to_the_same_height_does_not_undo_what_is_here() -> None:
    donor, leaping = Donor(told()), Leaping(DELAY)
    leaping.leap(donor.leap(), b"one", FOUNDED, 0)
    _, seek = asked_next(leaping)
    leaping.chunk(donor.chunk(seek), 0)
    assert leaping.leap(lying(donor).leap(2), b"two", FOUNDED, 0) is Reject.STALE
    assert isinstance(finish(leaping, donor), Adopt)


def lying(donor: Donor) -> Donor:
    """Gives a true header with chunks in which somebody is richer."""
    liar = Donor(donor.story)
    records = [
        (key, record.replace(b"\x00", b"\x01") if key[:1] == b"a" else record)
        for key, record in donor.story.ledger.records()
    ]
    liar.chunks = {snapshots.id_of(chunk): chunk for chunk in snapshots.chunks_of(records)}
    true = decode(Checkpoint, donor.stored.checkpoint)
    forged = encode(replace(true, chunks=b"".join(liar.chunks)))
    liar.stored = replace(donor.stored, checkpoint=forged)
    return liar


def test_a_list_of_chunks_that_was_a_lie_shows_at_the_end_and_is_not_believed_again() -> None:
    donor = Donor(told())
    liar, leaping = lying(donor), Leaping(DELAY)
    assert leaping.leap(liar.leap(), b"two", FOUNDED, 0) is None
    assert finish(leaping, liar) is Reject.INVALID
    assert leaping.leap(liar.leap(2), b"two", FOUNDED, 0) is Reject.INVALID
    assert leaping.leap(donor.leap(2), b"one", FOUNDED, 0) is None
    assert isinstance(finish(leaping, donor), Adopt)


def test_a_chunk_that_no_ledger_has_shows_at_once() -> None:
    donor = Donor(told())
    liar, leaping = Donor(donor.story), Leaping(DELAY)
    nonsense = encode(snapshots.Records((b"y" + bytes(16), b"")))
    true = decode(Checkpoint, liar.stored.checkpoint)
    ids = snapshots.id_of(nonsense) + true.chunks
    liar.stored = replace(liar.stored, checkpoint=encode(replace(true, chunks=ids)))
    assert leaping.leap(liar.leap(), b"two", FOUNDED, 0) is None
    assert leaping.chunk(Chunk(nonsense), 0) is Reject.INVALID
    assert leaping.leap(liar.leap(), b"two", FOUNDED, 0) is Reject.INVALID


def test_forged_hand_overs_and_checkpoints_are_refused() -> None:
    donor = Donor(told())
    good = donor.leap()
    one, two = good.hand_overs
    for forged in (
        replace(good, hand_overs=(two,)),
        replace(good, hand_overs=()),
        replace(good, hand_overs=(one, two[:-1] + bytes([two[-1] ^ 1]))),
        replace(good, hand_overs=(b"garbage", two)),
        replace(good, checkpoint=good.checkpoint[:-1]),
        replace(good, checkpoint=bytes([good.checkpoint[0]]) + bytes(60)),
    ):
        leaping = Leaping(DELAY)
        assert leaping.leap(forged, b"one", FOUNDED, 0) is Reject.INVALID
        assert isinstance(asked_next(leaping)[1], Want)


def test_an_older_checkpoint_holds_also_if_somebody_else_led_further() -> None:
    donor, leaping = Donor(told()), Leaping(DELAY)
    further = told()
    further.grow(enrolling(certificate("shed", "cem")))
    links = tuple(encode(link) for link in further.hand_overs)
    assert leaping.leap(Leap(links, b""), b"two", FOUNDED, 0) is None
    assert leaping.leap(donor.leap(), b"one", FOUNDED, 0) is None
    adopted = finish(leaping, donor)
    assert isinstance(adopted, Adopt)
    assert [height for height, _ in adopted.hand_overs] == [2, 3]


def test_no_leap_is_taken_that_blocks_are_as_good_for() -> None:
    donor = Donor(told())
    for height, refused in ((8 - EVERY, None), (9 - EVERY, Reject.STALE), (20, Reject.STALE)):
        assert Leaping(DELAY).leap(donor.leap(), b"one", FOUNDED, height) is refused


def test_a_leap_that_blocks_have_overtaken_is_given_up() -> None:
    donor, leaping = Donor(told()), Leaping(DELAY)
    leaping.leap(donor.leap(), b"one", FOUNDED, 0)
    _, seek = asked_next(leaping)
    assert leaping.chunk(donor.chunk(seek), 8) is Reject.STALE
    assert isinstance(asked_next(leaping)[1], Want)


def test_a_later_checkpoint_takes_the_place_of_an_earlier_one_and_keeps_what_is_common() -> None:
    story = told()
    donor, leaping = Donor(story), Leaping(DELAY)
    leaping.leap(donor.leap(), b"one", FOUNDED, 0)
    for _ in range(len(donor.chunks) - 1):
        leaping.chunk(donor.chunk(asked_next(leaping)[1]), 0)
    for _ in range(EVERY):
        story.grow(transfer(ANN, BEN, 9))
    later = Donor(story)
    common = donor.chunks.keys() & later.chunks.keys()
    assert common
    assert leaping.leap(later.leap(2), b"two", FOUNDED, 0) is None
    asked = 0
    outcome: Reject | Adopt | None = None
    while outcome is None:
        outcome = leaping.chunk(later.chunk(asked_next(leaping)[1]), 0)
        asked += 1
    assert isinstance(outcome, Adopt) and outcome.height == 8 + EVERY
    assert asked < len(later.chunks)


def test_there_is_no_answer_without_blocks_or_a_checkpoint() -> None:
    assert answer(Fetched(b"asker", ())) is None
    assert answer(Sought(b"asker", None)) is None


def test_who_comes_further_by_blocks_in_the_middle_of_a_leap_keeps_every_hand_over() -> None:
    story = told()
    donor, leaping = Donor(story), Leaping(DELAY)
    assert leaping.leap(donor.leap(), b"one", FOUNDED, 0) is None
    before = Story()
    before.grow(transfer(ANN, BEN, 500))
    before.grow(enrolling(certificate("barn", "cem"), weight=2))
    walked = before.ledger  # the first epoch ended meanwhile
    assert leaping.leap(Leap((), b""), b"two", walked, 2) is Reject.STALE
    assert leaping.leap(Leap((b"garbage",), b""), b"two", walked, 2) is Reject.INVALID
    adopted = finish(leaping, donor)
    assert isinstance(adopted, Adopt)
    assert [height for height, _ in adopted.hand_overs] == [3], "that of block 2 is stored"


# -- beginning anew -------------------------------------------------------------------------------


@pytest.mark.parametrize("closing", [False, True])
def test_a_node_begins_with_the_block_of_the_checkpoint_it_adopted(closing: bool) -> None:
    story = told(closing)
    donor, leaping = Donor(story), Leaping(DELAY)
    leaping.leap(donor.leap(), b"one", FOUNDED, 0)
    adopted = finish(leaping, donor)
    assert isinstance(adopted, Adopt)
    restored = Restored(records=adopted.records, checkpoint=adopted.checkpoint)
    past = past_of(FOUNDED.electorate.mesh_id, story.body, restored)
    certificate, _ = statements.decode_final(story.finals[-1])
    view = 0 if closing else story.block.view  # the next epoch begins at view 0
    digest = statements.digest_of(story.block)
    assert past.tip == Tip(view, 8, story.block.time_s, digest, certificate)
    assert past.ledger.root == story.ledger.root


def test_a_tip_that_only_a_later_block_made_final_has_no_certificate_to_show() -> None:
    story = told()
    ledger, height = story.ledger, len(story.blocks)
    story.grow()
    (taken,) = take(ledger, story.blocks[height - 1 :], story.finals[-1])
    restored = Restored(records=ledger.records(), checkpoint=taken.checkpoint)
    past = past_of(FOUNDED.electorate.mesh_id, story.body, restored)
    assert (past.tip.height, past.tip.certificate) == (8, None)


def test_stored_blocks_above_an_adopted_checkpoint_count_more_than_it() -> None:
    story = told()
    (taken,) = take(story.ledger, [story.block], story.finals[-1])
    story.grow(transfer(ANN, BEN, 1))
    stored = StoredBlock(9, statements.encode_block(story.block), story.finals[-1])
    restored = Restored((), stored, story.ledger.records(), (), taken.checkpoint)
    assert past_of(FOUNDED.electorate.mesh_id, story.body, restored).tip.height == 9


def test_records_that_are_not_those_of_the_checkpoint_are_refused() -> None:
    story = told()
    (taken,) = take(story.ledger, [story.block], story.finals[-1])
    story.grow(transfer(ANN, BEN, 1))
    restored = Restored(records=story.ledger.records(), checkpoint=taken.checkpoint)
    with pytest.raises(StorageError, match="do not give the state root of block 8"):
        past_of(FOUNDED.electorate.mesh_id, story.body, restored)


def test_a_filler_is_no_block_to_begin_at() -> None:
    """It was final, and has the state after its closing block: but the next epoch is not on it."""
    story = Story()
    for amount in range(1, 6):
        story.grow(transfer(ANN, BEN, amount))
    ended = story.ledger.electorate
    closing = story.grow(enrolling(certificate("barn", "cem"), weight=2), trail=1)
    above = filler(closing.view + 1, closing, statements.digest_of(closing))
    chunks = snapshots.chunks_of(story.ledger.records())
    forged = Checkpoint(
        statements.header_of(above),
        (),
        final(ended, above),
        b"".join(snapshots.id_of(chunk) for chunk in chunks),
    )
    leaping = Leaping(DELAY)
    assert leaping.leap(Leap((), encode(forged)), b"one", FOUNDED, 0) is None
    assert [leaping.chunk(Chunk(chunk), 0) for chunk in chunks][-1] is Reject.INVALID
    assert leaping.leap(Leap((), encode(forged)), b"one", FOUNDED, 0) is Reject.INVALID


def test_a_later_checkpoint_of_which_all_chunks_are_here_already_is_adopted_at_once() -> None:
    """A liar listed the later one's chunks, and one that nobody has, for the earlier one."""
    story = told()
    first = Donor(story)
    for _ in range(EVERY):
        story.grow(transfer(ANN, BEN, 9))
    later, leaping = Donor(story), Leaping(DELAY)
    true = decode(Checkpoint, first.stored.checkpoint)
    listed = b"".join((*later.chunks, snapshots.id_of(b"nobody has this")))
    mixed = Leap(first.leap().hand_overs, encode(replace(true, chunks=listed)))
    assert leaping.leap(mixed, b"two", FOUNDED, 0) is None
    for content in later.chunks.values():
        assert leaping.chunk(Chunk(content), 0) is None
    adopted = leaping.leap(later.leap(2), b"two", FOUNDED, 0)
    assert isinstance(adopted, Adopt) and adopted.height == 8 + EVERY
