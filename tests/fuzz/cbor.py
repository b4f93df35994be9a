"""CBOR as a tree that may be wrong in every way, and what makes it deterministic.

Shares nothing with the code under test: what `canonical` says here is an independent opinion. It
reads liberally, long heads and disorder included, writes the one deterministic encoding of what it
read, and compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field

UINT, NINT, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
FALSE, TRUE, NULL = 20, 21, 22

# More than any sound message nests, and far from Python's own limit.
DEPTH_READ_MAX = 40
DEPTH_SOUND_MAX = 16

WIDTHS = (0, 1, 2, 4, 8)


class UnreadableError(ValueError):
    """Not an item of CBOR, or one of indefinite length, which is never deterministic."""


@dataclass(slots=True)
class Item:
    """One data item: `value` is an integer, tag or simple value; the rest is content.

    `width` is in how many bytes the argument is written after the first one, None for as few as
    it takes. `lie` is added to the length that the head claims.
    """

    major: int
    value: int = 0
    content: bytes = b""
    items: list[Item] = field(default_factory=list)
    width: int | None = None
    lie: int = 0

    @property
    def argument(self) -> int:
        """What the head says."""
        if self.major in (BYTES, TEXT):
            return max(0, len(self.content) + self.lie)
        if self.major in (ARRAY, MAP):
            pairs = 2 if self.major == MAP else 1
            return max(0, len(self.items) // pairs + self.lie)
        return self.value


def head(major: int, argument: int, width: int | None = None) -> bytes:
    """A head with its argument in `width` bytes, or in more if they do not hold it."""
    least = 0 if argument < 24 else next(w for w in WIDTHS[1:] if argument < 256**w)
    width = least if width is None or width < least else width
    if width == 0:
        return bytes((major << 5 | argument,))
    return bytes((major << 5 | 23 + width.bit_length(),)) + argument.to_bytes(width, "big")


def write(item: Item) -> bytes:
    """The bytes of an item as it is, faults included."""
    first = head(item.major, item.argument, item.width)
    if item.major in (ARRAY, MAP, TAG):
        return first + b"".join([write(one) for one in item.items])
    return first + item.content if item.major in (BYTES, TEXT) else first


def read(data: bytes) -> Item:
    """The one item that is all of `data`, however it is written; raises UnreadableError."""
    item, end = _read(data, 0, 0)
    if end != len(data):
        raise UnreadableError("bytes after the item")
    return item


def _read(data: bytes, at: int, depth: int) -> tuple[Item, int]:
    if at >= len(data) or depth > DEPTH_READ_MAX:
        raise UnreadableError("cut short, or too deep")
    major, info = data[at] >> 5, data[at] & 0x1F
    at += 1
    width = 0
    argument = info
    if info >= 24:
        if info > 27:
            raise UnreadableError("an indefinite or reserved head")
        width = 1 << info - 24
        if at + width > len(data):
            raise UnreadableError("cut short")
        argument = int.from_bytes(data[at : at + width], "big")
        at += width
    if major in (BYTES, TEXT):
        if argument > len(data) - at:
            raise UnreadableError("cut short")
        return Item(major, content=data[at : at + argument], width=width), at + argument
    if major in (UINT, NINT, SIMPLE):
        return Item(major, argument, width=width), at
    count = argument if major == ARRAY else 2 * argument if major == MAP else 1
    if count > len(data) - at:
        raise UnreadableError("cut short")
    items = []
    for _ in range(count):
        one, at = _read(data, at, depth + 1)
        items.append(one)
    return Item(major, value=argument, items=items, width=width), at


def canonical(data: bytes) -> bool:
    """Whether `data` is deterministic CBOR as Demesh uses it (R-WIRE-9), by another way."""
    try:
        item = read(data)
    except UnreadableError:
        return False
    return sound(item, 0) and shortest(item) == data


def sound(item: Item, depth: int) -> bool:
    """Whether Demesh uses such items at all: no tags and floats, 16 levels, text that is text."""
    if item.major == SIMPLE:
        return item.value in (FALSE, TRUE, NULL)
    if item.major == TEXT:
        try:
            item.content.decode()
        except UnicodeDecodeError:
            return False
    if item.major in (ARRAY, MAP):
        return depth < DEPTH_SOUND_MAX and all(sound(one, depth + 1) for one in item.items)
    return item.major != TAG


def shortest(item: Item) -> bytes:
    """The deterministic encoding of the same value: short heads, sorted maps, no key twice."""
    if item.major == MAP:
        keys = [shortest(key) for key in item.items[::2]]
        pairs = dict(zip(keys, [shortest(value) for value in item.items[1::2]], strict=True))
        body = b"".join(key + pairs[key] for key in sorted(pairs))
        return head(MAP, len(pairs)) + body
    if item.major in (ARRAY, TAG):
        return head(item.major, item.argument) + b"".join([shortest(one) for one in item.items])
    if item.major in (BYTES, TEXT):
        return head(item.major, len(item.content)) + item.content
    return head(item.major, item.value)
