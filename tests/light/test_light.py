"""Light verification: what genesis, hand-overs and a path show, and what they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demesh.ledger.proof import Path
from demesh.ledger.state import ACCOUNTS, ELECTORATE, Account, Electorate, open_record
from demesh.ledger.trie import Trie
from demesh.light import HandOver, Proof, follow, prove, signers, verify
from demesh.wire import statements
from demesh.wire.schema import Malformed, decode, encode
from demesh.wire.statements import Header
from demesh_consensus import Block, Certificate, StatementKind
from ledger.book import ANN, BEN, certificate, device, enrolling, genesis_body, transfer
from light.story import Story, final


def told() -> Story:
    """Four epochs: barn joins, yard leaves by a filler's finalization, attic has another key."""
    story = Story()
    story.grow(transfer(ANN, BEN, 500))
    story.grow(enrolling(certificate("barn", "cem"), weight=2))
    story.grow(transfer(BEN, ANN, 20))
    story.grow(enrolling(certificate("yard", "ann"), weight=0), trail=2)
    story.grow(
        enrolling(certificate("attic", "ben", vote="attic votes anew"), approvers=("ben",)),
        trail=1,
    )
    story.grow(transfer(ANN, BEN, 7))
    return story


STORY = told()
PROOF = STORY.proof(ACCOUNTS + ANN)


def fails(proof: Proof, *words: str) -> None:
    """The proof shows nothing, and one line says why."""
    with pytest.raises(ValueError) as caught:
        verify(STORY.body, proof)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def with_link(number: int, link: HandOver) -> Proof:
    links = PROOF.hand_overs
    return replace(PROOF, hand_overs=(*links[:number], link, *links[number + 1 :]))


def block_of(header: Header) -> Block:
    (found,) = [b for b in STORY.blocks if statements.digest_of(b) == header.digest]
    return found


def electorates() -> list[Electorate]:
    """Those of all epochs."""
    held = [Story().ledger.electorate]
    for link in STORY.hand_overs:
        held.append(follow(held[-1], link))
    return held


# -- what a proof shows ---------------------------------------------------------------------------


def test_a_proof_shows_a_balance_after_the_last_block_to_who_has_the_genesis_alone() -> None:
    proved = verify(genesis_body(), decode(Proof, encode(PROOF)))
    account = open_record(Account, proved.record)
    assert account is not None and account.balance == -500 + 20 - 7
    assert (proved.epoch, proved.height, proved.time_s) == (3, 6, STORY.block.time_s)
    assert proved.key == ACCOUNTS + ANN
    assert proved.electorate == STORY.ledger.electorate
    assert proved.signed == (0, 1, 2)


def test_every_record_of_the_ledger_can_be_proved() -> None:
    for key, record in STORY.ledger.records():
        assert verify(STORY.body, STORY.proof(key)).record == record


def test_a_proof_holds_at_every_height_the_closing_ones_too() -> None:
    story = Story()
    for number in range(1, 4):
        story.grow(transfer(ANN, BEN, number))
        assert verify(story.body, story.proof(ELECTORATE)).epoch == number - 1
        story.grow(
            enrolling(certificate("barn", "cem"), weight=number, serial=number), trail=number - 1
        )
        proved = verify(story.body, story.proof(ELECTORATE))
        assert (proved.epoch, proved.height) == (number - 1, 2 * number)
        assert decode(Electorate, proved.record).epoch == number


def test_a_quorum_by_weight_is_enough_and_one_less_is_not() -> None:
    voters, block = STORY.ledger.electorate, STORY.block
    # roof 2, attic 1, barn 2: of 5, a quorum is 4
    for few, weight in (((0, 1), 3), ((1, 2), 3), ((0,), 2)):
        short = replace(PROOF, final=final(voters, block, voters=few))
        fails(short, "block 6: signed with weight", f"{weight}, expected 4 of 5")
    quorum = replace(PROOF, final=final(voters, block, voters=(0, 2)))
    assert verify(STORY.body, quorum).signed == (0, 2)


def test_a_hand_over_needs_its_quorum_too() -> None:
    first = electorates()[0]
    link = PROOF.hand_overs[0]
    short = final(first, block_of(link.header), voters=(0,))
    fails(with_link(0, replace(link, final=short)), "the hand-over to epoch 1", "weight 2")


# -- what it does not -----------------------------------------------------------------------------


def test_every_single_changed_byte_of_a_proof_fails() -> None:
    story = Story()
    story.grow(enrolling(certificate("yard", "ann"), weight=0), trail=2)
    story.grow(transfer(ANN, BEN, 7))
    proof = story.proof(ACCOUNTS + ANN)
    whole = encode(proof)
    assert verify(story.body, proof).epoch == 1
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(ValueError):  # Malformed is one
            verify(story.body, decode(Proof, bytes(damaged)))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_anywhere_fails_whatever_it_becomes(data: st.DataObject) -> None:
    whole = bytearray(encode(PROOF))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError):
        verify(STORY.body, decode(Proof, bytes(whole)))


def test_every_beginning_of_a_proof_and_every_longer_one_is_malformed() -> None:
    whole = encode(PROOF)
    for end in (*range(0, len(whole), 17), len(whole) - 1):
        with pytest.raises(Malformed):
            decode(Proof, whole[:end])
    with pytest.raises(Malformed):
        decode(Proof, whole + b"\x00")


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_bytes_of_a_proof_that_were_cut_moved_or_doubled_fail(data: st.DataObject) -> None:
    whole = encode(PROOF)
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start + 1, len(whole)))
    to = data.draw(st.integers(0, len(whole)))
    piece = whole[start:end]
    forged = data.draw(
        st.sampled_from(
            (
                whole[:start] + whole[end:],
                whole[:to] + piece + whole[to:],
                whole[:to] + piece + whole[to + len(piece) :],
            )
        )
    )
    if forged != whole:
        with pytest.raises(ValueError):
            verify(STORY.body, decode(Proof, forged))


def test_the_certificate_must_be_a_finalization_of_this_block_epoch_and_rules() -> None:
    voters, block = STORY.ledger.electorate, STORY.block
    for other in (
        final(voters, block, kind=StatementKind.NOTARIZE),
        final(voters, replace(block, view=block.view + 1)),
        final(voters, replace(block, state_root=bytes(32))),
        final(voters, replace(block, epoch=2)),
        final(voters, block, rules_version=2),
    ):
        fails(replace(PROOF, final=other), "block 6", "for something else")


def test_a_voter_that_signs_twice_counts_once() -> None:
    voters, block = STORY.ledger.electorate, STORY.block
    held, trail = statements.decode_final(final(voters, block, voters=(0,)))
    ((_, signature),) = held.signatures
    twice = Certificate(held.statement, ((0, signature), (1, signature), (2, signature)))
    forged = statements.encode_final(twice, trail)
    fails(replace(PROOF, final=forged), "the signature of voter 1 does not hold")
    nobody = Certificate(held.statement, ((0, signature), (9, signature)))
    forged = statements.encode_final(nobody, trail)
    fails(replace(PROOF, final=forged), "signed by voter 9 of 3")


def test_voters_of_another_epoch_have_no_say() -> None:
    former = electorates()[2]
    forged = final(replace(former, epoch=3), STORY.block)
    # attic has another key now
    fails(replace(PROOF, final=forged), "the signature of voter 1 does not hold")


def test_former_voters_cannot_hand_over_anew() -> None:
    """Whoever was outvoted or left, and keeps the old keys, leads nobody astray."""
    founders, link = electorates()[0], PROOF.hand_overs[2]
    forged = final(replace(founders, epoch=2), block_of(link.header), voters=(0, 1, 2))
    fails(with_link(2, replace(link, final=forged)), "the hand-over to epoch 3", "of voter 2")


def test_a_proof_of_another_mesh_or_generation_fails() -> None:
    other = Story(replace(genesis_body(), nonce=b"another."))
    other.grow()
    foreign = other.proof(ACCOUNTS + ANN)
    assert verify(other.body, foreign).height == 1
    fails(foreign, "it is of mesh", "(street)")
    fails(replace(foreign, mesh_id=PROOF.mesh_id), "block 1", "the signature of voter 0")


def test_a_hand_over_left_out_repeated_or_swapped_fails() -> None:
    one, two, three = PROOF.hand_overs
    for links, words in (
        ((two, three), "the hand-over to epoch 1: block 4: it is of epoch 1, expected 0"),
        ((one, three), "the hand-over to epoch 2: block 5: it is of epoch 2, expected 1"),
        ((one, two), "block 6: it is of epoch 3, expected 2"),
        ((two, one, three), "the hand-over to epoch 1"),
        ((one, one, two, three), "the hand-over to epoch 2: block 2: it is of epoch 0, expected 1"),
        ((), "block 6: it is of epoch 3, expected 0"),
    ):
        fails(replace(PROOF, hand_overs=links), words)


def test_the_electorate_of_one_hand_over_does_not_serve_another() -> None:
    one, two, _ = PROOF.hand_overs
    lent = replace(one, electorate=two.electorate, path=two.path)
    fails(with_link(0, lent), "epoch 1: its voters are not in the state of block 2")


def test_a_block_that_does_not_close_hands_nothing_over() -> None:
    first, block = electorates()[0], STORY.blocks[0]
    plain = Story()
    plain.grow(transfer(ANN, BEN, 500))
    found = plain.ledger.prove(ELECTORATE)
    assert found is not None
    link = HandOver(statements.header_of(block), final(first, block), *found)
    fails(replace(PROOF, hand_overs=(link,)), "epoch 1: block 1 does not close its epoch")


@pytest.mark.parametrize("field", ["epoch", "mesh_id", "generation"])
def test_an_electorate_that_the_state_holds_must_be_the_next_one_of_this_mesh(field: str) -> None:
    first, closing = electorates()[0], STORY.blocks[1]
    after = electorates()[1]
    wrong = replace(after, **{field: bytes(32) if field == "mesh_id" else 7})  # type: ignore[arg-type]
    link = rooted(first, closing, encode(wrong))
    with pytest.raises(ValueError, match="the hand-over to epoch 1: its voters are of epoch"):
        follow(first, link)
    assert follow(first, rooted(first, closing, encode(after))) == after
    with pytest.raises(ValueError, match="the hand-over to epoch 1: Electorate: "):
        follow(first, rooted(first, closing, b"\x80"))


def rooted(first: Electorate, closing: Block, record: bytes) -> HandOver:
    """A hand-over by a real quorum to a state that holds nothing but this record."""
    root = Trie().set(ELECTORATE, record).root
    block = replace(closing, state_root=root)
    return HandOver(statements.header_of(block), final(first, block), record, Path(()))


def test_rules_that_this_program_does_not_know_are_named() -> None:
    voters = replace(STORY.ledger.electorate, rules_version=4)
    with pytest.raises(ValueError, match="version 4, this demesh knows 3 at most; update it"):
        signers(voters, statements.header_of(STORY.block), final(voters, STORY.block))


# -- trails ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda trail: trail[:-1],
        lambda trail: trail[1:],
        lambda trail: (*trail, trail[-1] + 1),
        lambda trail: tuple(reversed(trail)),
        lambda trail: (trail[0] + 1, *trail[1:]),
        lambda trail: (),
    ],
    ids=["shorter", "without the first", "longer", "reversed", "another view", "none"],
)
def test_a_changed_trail_fails(change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> None:
    link = PROOF.hand_overs[1]
    certificate, trail = statements.decode_final(link.final)
    assert len(trail) == 2
    forged = statements.encode_final(certificate, change(trail))
    fails(with_link(1, replace(link, final=forged)), "the hand-over to epoch 2: block 4")


def test_a_trail_above_a_block_that_does_not_close_fails() -> None:
    voters, block = STORY.ledger.electorate, STORY.block
    forged = final(voters, block, (block.view + 1,))
    fails(replace(PROOF, final=forged), "only above a closing block")


def test_the_last_block_may_be_a_closing_one_that_a_filler_finalized() -> None:
    story = Story()
    story.grow(enrolling(certificate("barn", "cem"), weight=2), trail=3)
    proved = verify(story.body, story.proof(ELECTORATE))
    assert (proved.epoch, decode(Electorate, proved.record).epoch) == (0, 1)


# -- the record -----------------------------------------------------------------------------------


def test_a_path_or_record_of_another_key_fails() -> None:
    other = STORY.proof(ACCOUNTS + BEN)
    for forged in (
        replace(PROOF, key=other.key),
        replace(PROOF, record=other.record),
        replace(PROOF, path=other.path),
        replace(PROOF, key=other.key, record=other.record),
        replace(PROOF, key=b"a"),
        replace(PROOF, path=Path(())),
    ):
        fails(forged, "its record is not in the state of block 6")


def test_a_record_of_an_earlier_state_fails_under_a_later_block() -> None:
    story = Story()
    story.grow(transfer(ANN, BEN, 500))
    before = story.proof(ACCOUNTS + ANN)
    story.grow(transfer(ANN, BEN, 1))
    after = story.proof(ACCOUNTS + ANN)
    assert verify(story.body, before).height == 1  # it says so itself, and as of when
    with pytest.raises(ValueError, match="not in the state of block 2"):
        verify(story.body, replace(after, record=before.record, path=before.path))


def test_there_is_no_proof_of_what_is_not_there() -> None:
    assert (
        prove(
            STORY.ledger,
            statements.header_of(STORY.block),
            STORY.finals[-1],
            (),
            ACCOUNTS + bytes(16),
        )
        is None
    )


def test_the_voters_of_the_story_are_those_it_tells_of() -> None:
    held = [[(one.device, one.weight) for one in each.voters] for each in electorates()]
    roof, attic, yard, barn = (device(name) for name in ("roof", "attic", "yard", "barn"))
    assert held == [
        [(roof, 2), (attic, 1), (yard, 1)],
        [(roof, 2), (attic, 1), (yard, 1), (barn, 2)],
        [(roof, 2), (attic, 1), (barn, 2)],
        [(roof, 2), (attic, 1), (barn, 2)],
    ]
