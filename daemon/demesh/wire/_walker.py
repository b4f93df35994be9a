"""Deterministic CBOR (RFC 8949 4.2.1) in pure Python: whether bytes are the one way (R-WIRE-9).

`cbor2` accepts long heads, unsorted keys, indefinite lengths, tags and trailing bytes, and its
releases differ in which. So nothing reaches it that did not pass here: two machines that disagree
about one byte string would disagree about the ledger.
"""

from __future__ import annotations

# Messages nest 4 deep; 16 leaves room to grow and keeps recursion harmless.
DEPTH_MAX = 16


def canonical(data: bytes) -> bool:
    """Whether `data` is exactly one item of deterministic CBOR (RFC 8949 4.2.1) as Demesh uses it.

    Shortest heads, definite lengths, map keys strictly ascending bytewise, valid UTF-8, nesting at
    most 16; no tags, no floats, of simple values only false, true and null.
    """
    return _walk(data, 0, 0) == len(data)


def _walk(data: bytes, at: int, depth: int) -> int:
    """Where the item at `at` ends, or -1."""
    if at >= len(data):
        return -1
    first = data[at]
    major = first >> 5
    if major == 7:
        return at + 1 if 0xF4 <= first <= 0xF6 else -1
    argument = first & 0x1F
    at += 1
    if argument >= 24:
        size = 1 << (argument - 24)
        if size > 8 or at + size > len(data):
            return -1
        argument = int.from_bytes(data[at : at + size], "big")
        at += size
        if argument < (24 if size == 1 else 1 << (4 * size)):
            return -1
    if major <= 1:
        return at
    if major <= 3:
        end = at + argument
        if end > len(data) or (major == 3 and not _utf8(data[at:end])):
            return -1
        return end
    if major == 6 or depth == DEPTH_MAX:
        return -1
    return (
        _walk_map(data, at, argument, depth)
        if major == 5
        else _walk_array(data, at, argument, depth)
    )


def _walk_array(data: bytes, at: int, count: int, depth: int) -> int:
    if count > len(data) - at:  # every item takes a byte
        return -1
    for _ in range(count):
        at = _walk(data, at, depth + 1)
        if at < 0:
            return -1
    return at


def _walk_map(data: bytes, at: int, count: int, depth: int) -> int:
    if count > len(data) - at:
        return -1
    previous = b""
    for _ in range(count):
        start = at
        at = _walk(data, at, depth + 1)
        if at < 0 or data[start:at] <= previous:
            return -1
        previous = data[start:at]
        at = _walk(data, at, depth + 1)
        if at < 0:
            return -1
    return at


def _utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
