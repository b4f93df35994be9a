"""The trie: a map, a root that depends on content alone, and old values that stay as they were."""

from __future__ import annotations

import random
import sys
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demesh.ledger.trie import EMPTY_ROOT, Trie

# Keys of four bytes from a small alphabet: they collide, share prefixes and differ in one bit.
keys = st.binary(min_size=4, max_size=4).map(lambda raw: bytes(byte & 0x83 for byte in raw))
values = st.binary(max_size=3)
changes = st.lists(st.tuples(keys, st.none() | values), max_size=40)


def applied_to_dict(history: list[tuple[bytes, bytes | None]]) -> dict[bytes, bytes]:
    content: dict[bytes, bytes] = {}
    for key, value in history:
        if value is None:
            content.pop(key, None)
        else:
            content[key] = value
    return content


@given(changes)
def test_it_holds_what_a_dictionary_would_hold_in_the_order_of_the_keys(history):
    trie = Trie().updated(history)
    content = applied_to_dict(history)
    assert list(trie.items()) == sorted(content.items())
    assert all(trie.get(key) == content.get(key) for key, _ in history)


@given(changes, st.randoms(use_true_random=False))
def test_equal_content_has_an_equal_root_whatever_the_history(history, rng):
    trie = Trie().updated(history)
    items = list(applied_to_dict(history).items())
    rng.shuffle(items)
    assert Trie().updated(items).root == trie.root


@given(changes, changes)
def test_different_content_has_a_different_root(history, other):
    same = applied_to_dict(history) == applied_to_dict(other)
    assert (Trie().updated(history).root == Trie().updated(other).root) == same


@given(changes, changes)
def test_a_change_leaves_every_earlier_trie_as_it_was(history, later):
    trie = Trie().updated(history)
    root, items = trie.root, list(trie.items())
    trie.updated(later).root  # noqa: B018  hashes what is new, which must not touch what is old
    assert (trie.root, list(trie.items())) == (root, items)


@given(changes, st.binary(max_size=4))
def test_iteration_by_prefix_gives_exactly_the_keys_with_it(history, prefix):
    trie = Trie().updated(history)
    expected = [
        item for item in sorted(applied_to_dict(history).items()) if item[0].startswith(prefix)
    ]
    assert list(trie.items(prefix)) == expected


def test_the_empty_trie_has_a_root_of_zeros_and_deleting_everything_leads_back_to_it():
    trie = Trie().set(b"ab", b"1").set(b"cd", b"2")
    assert Trie().root == EMPTY_ROOT == bytes(32) == trie.delete(b"ab").delete(b"cd").root
    assert Trie().get(b"ab") is None
    assert list(Trie().items(b"a")) == []


def test_a_key_that_is_the_prefix_of_another_is_refused():
    with pytest.raises(ValueError, match="prefix-free"):
        Trie().set(b"ab", b"1").set(b"abc", b"2")


def test_setting_an_equal_value_returns_the_very_same_trie():
    trie = Trie().set(b"ab", b"1")
    assert trie.set(b"ab", b"1") is trie
    assert trie.delete(b"zz") is trie


def test_the_root_follows_its_definition():
    def h(data: bytes) -> bytes:
        return blake2b(data, digest_size=32).digest()

    zero, one = b"\x00" + b"\x00" + h(b"x"), b"\x00" + b"\x10" + h(b"y")
    # 00000000 and 00010000 differ first in bit 3.
    expected = h(b"\x01" + b"\x00\x03" + h(zero) + h(one))
    assert Trie().set(b"\x10", b"y").set(b"\x00", b"x").root == expected


def test_the_deepest_possible_trie_needs_no_recursion():
    # Each key differs from the last in one more leading bit: the path has a branch per bit.
    width = 256
    deep = [(((1 << width) - 1) ^ ((1 << n) - 1)).to_bytes(32, "big") for n in range(width)]
    limit = sys.getrecursionlimit()
    frames = 0
    frame = sys._getframe()
    while frame is not None:
        frames, frame = frames + 1, frame.f_back
    sys.setrecursionlimit(frames + 30)
    try:
        trie = Trie().updated((key, b"x") for key in deep)
        root = trie.root
        assert len(list(trie.items())) == width
        assert trie.updated((key, None) for key in deep).root == EMPTY_ROOT
    finally:
        sys.setrecursionlimit(limit)
    assert root == Trie().updated((key, b"x") for key in reversed(deep)).root


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_a_change_rebuilds_only_the_path_to_its_key(seed):
    rng = random.Random(seed)
    trie = Trie().updated((rng.randbytes(16), b"x") for _ in range(1000))

    def nodes(node: object) -> dict[int, object]:
        found, stack = {}, [node]
        while stack:
            top = stack.pop()
            found[id(top)] = top
            if hasattr(top, "left"):
                stack += [top.left, top.right]
        return found

    before = nodes(trie._top)
    fresh = [node for node in nodes(trie.set(rng.randbytes(16), b"y")._top) if node not in before]
    # log2(1000) is 10; a random trie's longest path is about twice as long.
    assert len(fresh) <= 40
