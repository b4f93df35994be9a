"""The walker accepts one encoding of each value, and only values that Demesh uses."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from demesh.wire.frame import head

# A value as a tree: (kind, content), where kind is int, bytes, text, simple, array or map.
Tree = tuple[str, Any]

leaves = (
    st.tuples(st.just("int"), st.integers(-(2**64), 2**64 - 1))
    | st.tuples(st.just("bytes"), st.binary(max_size=40))
    | st.tuples(st.just("text"), st.text(max_size=40))
    | st.tuples(st.just("simple"), st.sampled_from([False, True, None]))
)


def containers(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    pairs = st.lists(st.tuples(inner, inner), max_size=4, unique_by=lambda pair: encode(pair[0]))
    return st.tuples(st.just("array"), st.lists(inner, max_size=30)) | st.tuples(
        st.just("map"), pairs
    )


trees = st.recursive(leaves, containers, max_leaves=20)


def encode(tree: Tree) -> bytes:
    """RFC 8949 4.2.1, written from the RFC and from nothing of ours but `head`."""
    kind, value = tree
    match kind:
        case "int":
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case "bytes":
            return head(2, len(value)) + value
        case "text":
            content = value.encode()
            return head(3, len(content)) + content
        case "array":
            return head(4, len(value)) + b"".join(encode(one) for one in value)
        case "map":
            pairs = sorted((encode(key), encode(item)) for key, item in value)
            return head(5, len(value)) + b"".join(key + item for key, item in pairs)
        case _:
            return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]


def encode_freely(tree: Tree, draw: Any) -> bytes:
    """Any other well-formed way to write the same value: longer heads, pieces, another order."""
    kind, value = tree

    def any_head(major: int, argument: int) -> bytes:
        sizes = [size for size in (1, 2, 4, 8) if argument < 1 << (8 * size)]
        size = draw(st.sampled_from([0, *sizes]))
        if size == 0:
            return head(major, argument)
        return bytes((major << 5 | 23 + size.bit_length(),)) + argument.to_bytes(size, "big")

    pieces = kind in ("bytes", "text", "array", "map") and draw(st.integers(0, 3)) == 0
    match kind:
        case "int":
            return any_head(0, value) if value >= 0 else any_head(1, -1 - value)
        case "bytes" | "text":
            major = 2 if kind == "bytes" else 3
            content = value if kind == "bytes" else value.encode()
            whole = any_head(major, len(content)) + content
            return bytes((major << 5 | 31,)) + whole + b"\xff" if pieces else whole
        case "array":
            items = b"".join(encode_freely(one, draw) for one in value)
            return b"\x9f" + items + b"\xff" if pieces else any_head(4, len(value)) + items
        case "map":
            pairs = draw(st.permutations(value))
            items = b"".join(encode_freely(k, draw) + encode_freely(v, draw) for k, v in pairs)
            return b"\xbf" + items + b"\xff" if pieces else any_head(5, len(value)) + items
        case _:
            return encode(tree)


@given(trees)
def test_the_deterministic_encoding_of_a_value_is_accepted(mode: Any, tree: Tree) -> None:
    assert mode.canonical(encode(tree))


@given(trees, st.data())
def test_no_second_encoding_of_a_value_is_accepted(mode: Any, tree: Tree, data: Any) -> None:
    other = encode_freely(tree, data.draw)
    assume(other != encode(tree))
    assert not mode.canonical(other)


@given(trees, st.binary(min_size=1, max_size=3))
def test_nothing_may_follow_and_nothing_may_lack(mode: Any, tree: Tree, more: bytes) -> None:
    encoded = encode(tree)
    assert not mode.canonical(encoded + more)
    assert not any(mode.canonical(encoded[:size]) for size in range(len(encoded)))


def test_all_inputs_of_two_bytes_are_accepted_only_if_cbor2_writes_them_back(mode: Any) -> None:
    for value in range(1 << 16):
        data = value.to_bytes(2, "big")
        if mode.canonical(data):
            assert cbor2.dumps(cbor2.loads(data), canonical=True) == data


GOOD = {
    "00": "zero",
    "17": "23",
    "1818": "24",
    "18ff": "255",
    "190100": "256",
    "1a00010000": "2^16",
    "1b0000000100000000": "2^32",
    "1bffffffffffffffff": "2^64-1",
    "3bffffffffffffffff": "-2^64",
    "40": "no bytes",
    "60": "no text",
    "62c3bc": "two bytes of UTF-8",
    "63e6b0b4": "three",
    "64f0908591": "four",
    "63ed9fbf": "the last before the surrogates",
    "64f48fbfbf": "the last code point",
    "80": "empty array",
    "a0": "empty map",
    "a201006130f6": "an integer key before a text key",
    "f4": "false",
    "f5": "true",
    "f6": "null",
    "81" * 16 + "00": "16 deep",
}

BAD = {
    "": "nothing",
    "1817": "23 in two bytes",
    "1900ff": "255 in three",
    "1a0000ffff": "65535 in five",
    "1b00000000ffffffff": "2^32-1 in nine",
    "18": "a head cut short",
    "1b00000000000000": "a long head cut short",
    "1c": "reserved",
    "1c" + "ff" * 16: "reserved, as if 16 bytes followed",
    "5c" + "00" * 15 + "0100": "reserved, as if a length of 16 bytes followed",
    "1d" + "ff" * 32: "reserved, as if 32 bytes followed",
    "1e" + "ff" * 64: "reserved, as if 64 bytes followed",
    "1f": "an indefinite integer",
    "5f4101ff": "indefinite bytes",
    "7f6161ff": "indefinite text",
    "9f00ff": "an indefinite array",
    "bf0000ff": "an indefinite map",
    "ff": "a break",
    "4201": "bytes cut short",
    "580101": "a long length",
    "5bffffffffffffffff": "2^64-1 bytes",
    "9bffffffffffffffff": "2^64-1 items",
    "bbffffffffffffffff": "2^64-1 pairs",
    "8201": "an item short",
    "a101": "a value short",
    "a2010001f6": "a key twice",
    "a2020001f6": "keys falling",
    "a26130f60100": "a text key before an integer key",
    "a2613000623030": "a map cut short",
    "61ff": "no UTF-8",
    "62c080": "an overlong zero",
    "62c1bf": "an overlong DEL",
    "63e09fbf": "an overlong of three",
    "64f08fbfbf": "an overlong of four",
    "63eda080": "a surrogate",
    "64f4908080": "above the last code point",
    "61c3": "half a character",
    "c000": "a date",
    "d81c80": "a shared value",
    "d9d9f700": "self-described",
    "e0": "simple value 0",
    "f7": "undefined",
    "f800": "a simple value of two bytes",
    "f820": "simple value 32",
    "f90000": "a half float",
    "fa00000000": "a float",
    "fb0000000000000000": "a double",
    "0000": "two items",
    "81" * 17 + "00": "17 deep",
    "81" * 60000: "60000 deep",
    "a1" * 17 + "00" * 18: "17 maps deep",
}


@pytest.mark.parametrize("encoded", GOOD, ids=GOOD.values())
def test_good(mode: Any, encoded: str) -> None:
    assert mode.canonical(bytes.fromhex(encoded)) is True


@pytest.mark.parametrize("encoded", BAD, ids=BAD.values())
def test_bad(mode: Any, encoded: str) -> None:
    assert mode.canonical(bytes.fromhex(encoded)) is False
