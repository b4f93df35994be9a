"""Paths: every record proves under its root, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demesh.ledger.ledger import Ledger
from demesh.ledger.proof import STEPS_MAX, Path, Step, root_of
from demesh.ledger.state import ELECTORATE, KEY_BYTES, MEMBERS, Electorate, Membership, open_record
from demesh.ledger.trie import EMPTY_ROOT, Trie
from demesh.wire.schema import Malformed, decode, encode
from ledger.book import Book, certificate, device, enrolling, genesis_body

# Keys of two lengths that are no prefixes of one another, as the tables of the ledger are.
keys = st.binary(min_size=2, max_size=2).map(lambda b: b"a" + b) | st.binary(
    min_size=5, max_size=5
).map(lambda b: b"b" + b)
contents = st.dictionaries(keys, st.binary(max_size=6), min_size=1, max_size=60)


def drawn_proof(data: st.DataObject) -> tuple[Trie, bytes, bytes, Path]:
    content = data.draw(contents)
    trie = Trie().updated(content.items())
    key = data.draw(st.sampled_from(sorted(content)))
    path = trie.prove(key)
    assert path is not None
    return trie, key, content[key], path


@given(contents)
def test_every_key_of_a_trie_proves_after_a_trip_over_the_wire(content):
    trie = Trie().updated(content.items())
    for key, record in content.items():
        path = trie.prove(key)
        assert path is not None
        assert root_of(key, record, decode(Path, encode(path))) == trie.root


@given(contents, keys)
def test_a_key_that_is_not_there_has_no_path(content, key):
    trie = Trie().updated(content.items())
    assert (trie.prove(key) is None) == (key not in content)


@given(st.data())
def test_another_key_or_record_does_not_prove(data):
    trie, key, record, path = drawn_proof(data)
    other_key = data.draw(keys.filter(lambda one: one != key))
    other_record = data.draw(st.binary(max_size=6).filter(lambda one: one != record))
    assert proves(trie, key, record, path)
    assert not proves(trie, other_key, record, path)
    assert not proves(trie, key, other_record, path)


@given(st.data())
def test_a_changed_step_does_not_prove(data):
    trie, key, record, path = drawn_proof(data)
    if not path.steps:
        return
    at = data.draw(st.integers(0, len(path.steps) - 1))
    step = path.steps[at]
    place, mask = data.draw(st.integers(0, 31)), data.draw(st.integers(1, 255))
    flipped = bytearray(step.beside)
    flipped[place] ^= mask
    bit = data.draw(st.integers(0, 47).filter(lambda one: one != step.bit))
    for changed in (replace(step, beside=bytes(flipped)), replace(step, bit=bit)):
        steps = (*path.steps[:at], changed, *path.steps[at + 1 :])
        assert not proves(trie, key, record, steps)


@given(st.data())
def test_a_dropped_added_or_moved_step_does_not_prove(data):
    trie, key, record, path = drawn_proof(data)
    steps = path.steps
    at = data.draw(st.integers(0, len(steps)))
    added = Step(data.draw(st.integers(0, 47)), data.draw(st.binary(min_size=32, max_size=32)))
    assert not proves(trie, key, record, (*steps[:at], added, *steps[at:]))
    for place, step in enumerate(steps):
        rest = (*steps[:place], *steps[place + 1 :])
        assert not proves(trie, key, record, rest)
        again = (*steps[: place + 1], step, *steps[place + 1 :])
        assert not proves(trie, key, record, again)
    if len(steps) > 1:
        assert not proves(trie, key, record, steps[::-1])


@settings(max_examples=50)
@given(st.data())
def test_every_changed_byte_of_an_encoded_path_is_noticed(data):
    trie, key, record, path = drawn_proof(data)
    written = encode(path)
    mask = data.draw(st.integers(1, 255))
    for place in range(len(written)):
        changed = bytearray(written)
        changed[place] ^= mask
        try:
            read = decode(Path, bytes(changed))
        except Malformed:
            continue
        assert not proves(trie, key, record, read)


def proves(trie: Trie, key: bytes, record: bytes, path: Path | tuple[Step, ...]) -> bool:
    """Whether a path, which may be none at all, shows the record under the trie's root."""
    try:
        return root_of(key, record, path if isinstance(path, Path) else Path(path)) == trie.root
    except ValueError:
        return False


def test_a_single_record_needs_no_steps_and_nothing_is_in_the_empty_trie():
    assert Trie().set(b"ab", b"1").prove(b"ab") == Path(())
    assert Trie().prove(b"ab") is None
    assert root_of(b"ab", b"1", Path(())) == Trie().set(b"ab", b"1").root != EMPTY_ROOT


def test_a_digest_in_the_middle_of_the_tree_is_no_record():
    trie = Trie().updated([(b"\x00", b"1"), (b"\x40", b"2"), (b"\x80", b"3")])
    path = trie.prove(b"\x00")
    assert path is not None
    assert [step.bit for step in path.steps] == [0, 1]
    assert not proves(trie, b"\x00", path.steps[1].beside, path.steps[:1])


@pytest.mark.parametrize("bits", [(3, 3), (4, 3), (0, 5, 5)])
def test_bits_that_do_not_ascend_are_no_path_in_memory_or_on_the_wire(bits):
    steps = tuple(Step(bit, bytes(32)) for bit in bits)
    with pytest.raises(ValueError, match="ascend"):
        Path(steps)
    ascending = encode(Path(tuple(Step(bit, bytes(32)) for bit in range(len(bits)))))
    for place, bit in enumerate(bits):
        ascending = ascending.replace(b"\x82%c\x58" % place, b"\x82%c\x58" % (16 + bit), 1)
    with pytest.raises(Malformed, match="ascend"):
        decode(Path, ascending)


def test_a_bit_behind_the_end_of_the_key_is_refused():
    with pytest.raises(ValueError, match="bit 16 is not one of a key of 2 bytes"):
        root_of(b"ab", b"1", Path((Step(16, bytes(32)),)))
    assert root_of(b"ab", b"1", Path((Step(15, bytes(32)),)))


def test_the_longest_key_bounds_a_path():
    assert 8 * max(KEY_BYTES.values()) == STEPS_MAX
    long = encode(Path(tuple(Step(bit, bytes(32)) for bit in range(STEPS_MAX + 1))))
    with pytest.raises(Malformed, match=r"0\.\.328"):
        decode(Path, long)


def test_a_ledger_proves_its_voters_and_members_to_who_has_the_root():
    book = Book()
    book.block(enrolling(certificate("barn", "cem"), weight=3))
    proved = book.ledger.prove(ELECTORATE)
    assert proved is not None
    record, path = proved
    assert root_of(ELECTORATE, record, path) == book.ledger.root
    assert open_record(Electorate, record) == book.ledger.electorate
    key = MEMBERS + device("barn")
    proved = book.ledger.prove(key)
    assert proved is not None
    assert root_of(key, *proved) == book.ledger.root
    assert open_record(Membership, proved[0]) == book.ledger.member(device("barn"))
    assert Ledger.genesis(genesis_body()).prove(key) is None
    assert root_of(key, *proved) != Ledger.genesis(genesis_body()).root
