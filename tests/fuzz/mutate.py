"""Changes that leave an input almost as good as it was: of its bytes, and of its CBOR tree.

What fails early finds nothing. So most changes keep the tree whole and spoil one thing in it: a
value at its limit, a head longer than need be, a length off by one, a field too many; also within
byte strings that hold CBOR themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from fuzz import cbor
from fuzz.cbor import ARRAY, BYTES, MAP, NINT, SIMPLE, TAG, TEXT, UINT, Item

# Bytes that mean something in CBOR or in the envelope's layout, so that changes stay near a border.
TELLING = b"\x00\x01\x17\x18\x19\x1a\x1b\x1f\x32\x3a\x40\x44\x49\x50\x58\x59\x5f\x60\x7f\x80\x81"
TELLING += b"\x82\x83\x84\x9f\xa0\xa1\xa2\xa3\xbf\xc0\xd2\xf4\xf6\xf7\xf9\xff"

EDGES = (0, 1, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**63, 2**64 - 1)
SIZES = (0, 1, 8, 15, 16, 17, 23, 24, 31, 32, 33, 63, 64, 65, 128, 255, 256, 257)
SIMPLES = (cbor.FALSE, cbor.TRUE, cbor.NULL, 0, 19, 23, 24, 32, 255)
BROKEN_TEXT = (b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xe0\x80\x80", b"\xc3")
GOOD_TEXT = (b"", b"a", b"\xc3\xa9", b"\xef\xbf\xbf", b"\xf0\x9f\x94\x8b", b"\x00", b"x" * 64)

Mutate = Callable[[Random, bytes, Sequence[bytes]], bytes]
"""A changed input; the sequence holds others to take pieces from."""


def pick(dice: Random, count: int) -> int:
    """A number below `count`, faster than `randrange`."""
    return int(dice.random() * count)


def one_byte(dice: Random, data: bytes) -> bytes:
    """One byte changed, put in or taken out, or all cut off from it: quick, so worth many tries."""
    at = pick(dice, len(data))
    kind = pick(dice, 7)
    if kind == 0 or not data:
        return data[:at]
    if kind == 1:
        return data[:at] + data[at + 1 :]
    telling = TELLING[pick(dice, len(TELLING))]
    if kind == 2:
        return data[:at] + bytes((telling,)) + data[at:]
    if kind == 3:
        telling = data[at] ^ 1 << pick(dice, 8)
    elif kind == 4:
        telling = (data[at] + dice.choice((-1, 1))) & 0xFF
    return data[:at] + bytes((telling,)) + data[at + 1 :]


# -- bytes ----------------------------------------------------------------------------------------


def of_bytes(dice: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to four changes of bytes, most of them near the beginning."""
    changed = bytearray(data)
    for _ in range(1 + pick(dice, 4) * pick(dice, 2)):
        size = len(changed)
        near = min(size, 64) if dice.random() < 0.6 else size
        at = pick(dice, near + 1)
        kind = pick(dice, 8)
        if kind <= 1 and at < size:
            changed[at] = TELLING[pick(dice, len(TELLING))]
        elif kind == 2 and at < size:
            changed[at] ^= 1 << pick(dice, 8)
        elif kind == 3:
            changed.insert(at, TELLING[pick(dice, len(TELLING))])
        elif kind == 4:
            del changed[at : at + 1 + pick(dice, 2)]
        elif kind == 5:
            del changed[at:]
        elif kind == 6 and at < size:
            changed[at] = (changed[at] + dice.choice((-1, 1))) & 0xFF
        else:
            other = others[pick(dice, len(others))] if others else data
            start = pick(dice, len(other) + 1)
            end = start + pick(dice, 40) if dice.random() < 0.5 else len(other)
            changed[at : at + (end - start if dice.random() < 0.5 else size)] = other[start:end]
    return bytes(changed)


# -- trees ----------------------------------------------------------------------------------------


def of_tree(dice: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One or two changes of the tree; of the bytes where there is no tree, and at times anyway."""
    if dice.random() < 0.2:
        return of_bytes(dice, data, others)
    try:
        root = cbor.read(data)
    except cbor.UnreadableError:
        return of_bytes(dice, data, others)
    for _ in range(1 + pick(dice, 2)):
        root = _spoiled(dice, root, others)
    return cbor.write(root)


def _spoiled(dice: Random, root: Item, others: Sequence[bytes]) -> Item:
    places = _places(root)
    parent, at = places[pick(dice, len(places))]
    old = root if parent is None else parent.items[at]
    new = _changed(dice, old, others)
    if parent is None:
        return new
    parent.items[at] = new
    return root


def _places(root: Item) -> list[tuple[Item | None, int]]:
    """Every item of the tree, as its parent and its place there."""
    places: list[tuple[Item | None, int]] = [(None, 0)]
    stack = [root]
    while stack:
        parent = stack.pop()
        for at, item in enumerate(parent.items):
            places.append((parent, at))
            if item.items:
                stack.append(item)
    return places


def _changed(dice: Random, item: Item, others: Sequence[bytes]) -> Item:
    kind = pick(dice, 12)
    if kind == 0:
        return anything(dice, 2)
    if kind == 1:
        item.width = cbor.WIDTHS[pick(dice, 5)]
        return item
    if kind == 2:
        item.lie = dice.choice((-1, 1, 1, 2**32))
        return item
    if kind == 3:
        item.major = pick(dice, 8)
        return item
    if kind == 4:
        return Item(dice.choice((ARRAY, TAG, BYTES)), 2, cbor.write(item), [item])
    if kind == 5 and others:
        return _taken(dice, others) or item
    if item.major == BYTES:
        return _bytes(dice, item, others)
    if item.major == TEXT:
        item.content = dice.choice(BROKEN_TEXT if dice.random() < 0.5 else GOOD_TEXT)
        return item
    if item.major in (ARRAY, MAP, TAG):
        return _container(dice, item)
    if item.major == SIMPLE:
        item.value = dice.choice(SIMPLES)
        return item
    item.value = max(0, item.value + dice.choice((-1, 1))) if kind == 6 else dice.choice(EDGES)
    item.value &= 2**64 - 1
    return item


def _taken(dice: Random, others: Sequence[bytes]) -> Item | None:
    """Some item of another input."""
    try:
        root = cbor.read(others[pick(dice, len(others))])
    except cbor.UnreadableError:
        return None
    places = _places(root)
    parent, at = places[pick(dice, len(places))]
    return root if parent is None else parent.items[at]


def _bytes(dice: Random, item: Item, others: Sequence[bytes]) -> Item:
    inside = item.content
    kind = pick(dice, 3)
    if inside and kind == 0:
        item.content = of_tree(dice, inside, others)  # a protected header, an op, a block
        return item
    if inside and kind == 1:  # another id, hash or signature of the same length
        at = pick(dice, len(inside))
        item.content = inside[:at] + bytes((inside[at] ^ 1 << pick(dice, 8),)) + inside[at + 1 :]
        return item
    size = dice.choice((len(inside) - 1, len(inside) + 1, dice.choice(SIZES)))
    item.content = (inside + bytes(max(0, size - len(inside))))[: max(0, size)]
    return item


def _container(dice: Random, item: Item) -> Item:
    items = item.items
    kind = pick(dice, 5)
    at = pick(dice, len(items) + 1)
    if kind == 0 or not items:
        items.insert(at, anything(dice, 2))
    elif kind == 1:
        del items[at : at + 1]
    elif kind == 2:
        start = at & ~1 if item.major == MAP else at
        items[start:start] = items[start : start + (2 if item.major == MAP else 1)]
    elif kind == 3 and len(items) > 1:
        other = pick(dice, len(items))
        at = min(at, len(items) - 1)
        items[at], items[other] = items[other], items[at]
    else:
        deep = Item(ARRAY, items=[])
        for _ in range(dice.choice((1, 13, 14, 15, 16, 17))):
            deep = Item(ARRAY, items=[deep])
        items.insert(at, deep)
    return item


def anything(dice: Random, depth: int) -> Item:
    """A random item, most of them sound."""
    major = pick(dice, 8 if depth else 4)
    if major in (UINT, NINT):
        return Item(major, dice.choice(EDGES))
    if major == BYTES:
        return Item(BYTES, content=dice.randbytes(dice.choice(SIZES)))
    if major == TEXT:
        return Item(TEXT, content=dice.choice(GOOD_TEXT))
    if major == SIMPLE:
        return Item(SIMPLE, dice.choice(SIMPLES[:4]))
    if major == TAG:
        return Item(TAG, pick(dice, 300), items=[anything(dice, depth - 1)])
    count = pick(dice, 4)
    items = [anything(dice, depth - 1) for _ in range(count * (2 if major == MAP else 1))]
    made = Item(major, items=items)
    if major == MAP:  # in order, or nothing with a map would ever be accepted
        pairs = sorted(zip(items[::2], items[1::2], strict=True), key=lambda p: cbor.write(p[0]))
        made.items = [one for pair in pairs for one in pair]
    return made


def after(count: int, mutate: Mutate) -> Mutate:
    """The same for inputs whose first bytes choose something: they stay, or are drawn anew."""

    def changed(dice: Random, data: bytes, others: Sequence[bytes]) -> bytes:
        first = dice.randbytes(count) if dice.random() < 0.05 else data[:count]
        return first + mutate(dice, data[count:], [other[count:] for other in others[-8:]])

    return changed
