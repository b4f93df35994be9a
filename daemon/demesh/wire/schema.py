"""Messages as frozen dataclasses: one description gives the CBOR array, its checks and its errors.

A message is an array of its fields in order (R-WIRE-10). Types are given by annotations: `U64`,
`Id`, `Digest`, `bytes` with a size, `str`, `bool`, optional (`X | None`), nested messages and
tuples of them. What does not fit is a `Malformed`: the caller turns it into `Reject.PAYLOAD`.

A message grows only at its end (R-WIRE-14): fields marked `Tail` came later, with null, 0 or
nothing as their default. A suffix of them that has its defaults is left out of the array, and an
array that ends with a default is malformed, so what was said before they came has the bytes it had,
and every message has one encoding.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, TypeVar

import cbor2

from demesh.wire.validate import canonical


class Malformed(ValueError):
    """A payload is not what its kind says; a peer's fault, never shown as a traceback."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Least and greatest value of an integer, or length of bytes, text and tuples."""

    least: int
    greatest: int


@dataclass(frozen=True, slots=True)
class Tail:
    """A field that came later: where it has its default it may be missing at the end."""


TAIL = Tail()

U8 = Annotated[int, Bounds(0, 2**8 - 1)]
U16 = Annotated[int, Bounds(0, 2**16 - 1)]
U32 = Annotated[int, Bounds(0, 2**32 - 1)]
U53 = Annotated[int, Bounds(0, 2**53 - 1)]  # exact in JSON, SQLite and JavaScript
U64 = Annotated[int, Bounds(0, 2**64 - 1)]
Signed53 = Annotated[int, Bounds(-(2**53) + 1, 2**53 - 1)]
Id = Annotated[bytes, Bounds(16, 16)]
Nonce = Annotated[bytes, Bounds(8, 8)]
Digest = Annotated[bytes, Bounds(32, 32)]
PublicKey = Annotated[bytes, Bounds(32, 32)]
Signature = Annotated[bytes, Bounds(64, 64)]
Name = Annotated[str, Bounds(1, 64)]

M = TypeVar("M")
Check = Callable[[Any], Any]


def encode(message: object) -> bytes:
    """Deterministic CBOR (RFC 8949 4.2.1) of a message."""
    return cbor2.dumps(_plain(message), canonical=True)


def decode(cls: type[M], payload: bytes | memoryview, *, tails: bool = True) -> M:
    """The message in `payload`; raises Malformed, also for any but the deterministic encoding.

    Without `tails` it is read as before there were any. A frame's payload was walked before, but
    what lies in byte strings within it was not.
    """
    content = bytes(payload)
    if not canonical(content):
        raise Malformed(f"{cls.__name__}: not deterministic CBOR")
    try:
        value = cbor2.loads(content)
    except (cbor2.CBORDecodeError, ValueError, OverflowError, RecursionError) as error:
        raise Malformed(f"{cls.__name__}: not CBOR: {error}") from None
    return typing.cast(M, _reader(typing.cast(type, cls), tails)(value))


def _plain(value: object) -> object:
    if is_dataclass(value):
        cls = typing.cast(type, type(value))
        items = _values(cls)(value)
        if tails := tails_of(cls):
            items = items[: _said(items, tails)]
        return [_plain(item) for item in items]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, IntEnum):
        return int(value)
    return value


@cache
def _values(cls: type) -> Callable[[object], tuple[object, ...]]:
    """A function that gives a message's fields in order."""
    names = [f.name for f in fields(cls)]
    if len(names) == 1:
        one = attrgetter(names[0])
        return lambda value: (one(value),)
    return attrgetter(*names)


@cache
def tails_of(cls: type) -> tuple[object, ...]:
    """The defaults of the fields of a message that came later: its last ones."""
    hints = typing.get_type_hints(cls, include_extras=True)
    listed = fields(cls)
    late = [TAIL in getattr(hints[f.name], "__metadata__", ()) for f in listed]
    first = late.index(True) if True in late else len(late)
    assert all(late[first:]), f"{cls.__name__}: what came later stands last"
    defaults = tuple(f.default for f in listed[first:])
    assert all(one is None or not one for one in defaults), f"{cls.__name__}: null, 0 or empty"
    return defaults


def _said(items: tuple[object, ...], tails: tuple[object, ...]) -> int:
    """How many of a message's fields are written: all up to the last that says anything."""
    count, least = len(items), len(items) - len(tails)
    while count > least and items[count - 1] == tails[count - 1 - least]:
        count -= 1
    return count


@cache
def _reader(cls: type, tails: bool = True) -> Check:
    hints = typing.get_type_hints(cls, include_extras=True)
    checks = tuple(_check(f"{cls.__name__}.{f.name}", hints[f.name], tails) for f in fields(cls))
    late = tails_of(cls)
    least = len(checks) - len(late)
    most = len(checks) if tails else least
    counts = str(least) if least == most else f"{least} to {most}"
    expected = f"{cls.__name__}: expected an array of {counts}"

    def read(value: Any) -> Any:
        if type(value) is not list or not least <= len(value) <= most:
            raise Malformed(expected)
        try:
            items = [check(item) for check, item in zip(checks, value, strict=False)]
            if len(items) > least and items[-1] == late[len(items) - 1 - least]:
                raise Malformed(f"{cls.__name__}: ends with a default")
            return cls(*items)
        except Malformed:
            raise
        except ValueError as error:
            raise Malformed(f"{cls.__name__}: {error}") from None

    return read


def plain_hint(hint: Any) -> tuple[Any, Bounds | None]:
    """A field's type, and its bounds if it has any."""
    if typing.get_origin(hint) is not Annotated:
        return hint, None
    inner, *marks = typing.get_args(hint)
    return inner, next((mark for mark in marks if isinstance(mark, Bounds)), None)


def _check(where: str, hint: Any, tails: bool) -> Check:
    """A function that returns a checked value or raises Malformed."""
    hint, bounds = plain_hint(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner, nothing = typing.get_args(hint)
        assert nothing is type(None), f"{where}: only X | None is an optional"
        present = _check(where, inner, tails)
        return lambda value: None if value is None else present(value)
    if typing.get_origin(hint) is tuple:
        item, *_ = typing.get_args(hint)
        return _check_tuple(where, _check(where, item, tails), bounds)
    if is_dataclass(hint):
        return _reader(typing.cast(type, hint), tails)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return _check_enum(where, hint)
    return _check_scalar(where, hint, bounds)


def _check_scalar(where: str, kind: type, bounds: Bounds | None) -> Check:
    measured = kind is not int

    def check(value: Any) -> Any:
        found = type(value)
        if found is not kind:
            raise Malformed(f"{where}: expected {kind.__name__}, got {found.__name__}")
        if bounds is not None:
            size = len(value) if measured else value
            if not bounds.least <= size <= bounds.greatest:
                raise Malformed(f"{where}: {size} is outside {bounds.least}..{bounds.greatest}")
        return value

    return check


def _check_tuple(where: str, item: Check, bounds: Bounds | None) -> Check:
    assert bounds is not None, f"{where}: a tuple needs bounds"

    def check(value: Any) -> Any:
        if type(value) is not list or not bounds.least <= len(value) <= bounds.greatest:
            raise Malformed(f"{where}: expected {bounds.least}..{bounds.greatest} items")
        return tuple([item(one) for one in value])

    return check


def _check_enum(where: str, kind: type[IntEnum]) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not int:
            raise Malformed(f"{where}: expected {kind.__name__}")
        try:
            return kind(value)
        except ValueError:
            raise Malformed(f"{where}: {value} is no {kind.__name__}") from None

    return check
