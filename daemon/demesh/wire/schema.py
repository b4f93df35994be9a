"""Messages as frozen dataclasses: one description gives the CBOR array, its checks and its errors.

A message is an array of its fields in order (R-WIRE-10). Types are given by annotations: `U64`,
`Id`, `Digest`, `bytes` with a size, `str`, `bool`, optional (`X | None`), nested messages and
tuples of them. What does not fit is a `Malformed`: the caller turns it into `Reject.PAYLOAD`.
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


def decode(cls: type[M], payload: bytes | memoryview) -> M:
    """The message in `payload`; raises Malformed, also for any but the deterministic encoding.

    A frame's payload was walked before, but what lies in byte strings within it was not.
    """
    content = bytes(payload)
    if not canonical(content):
        raise Malformed(f"{cls.__name__}: not deterministic CBOR")
    try:
        value = cbor2.loads(content)
    except (cbor2.CBORDecodeError, ValueError, OverflowError, RecursionError) as error:
        raise Malformed(f"{cls.__name__}: not CBOR: {error}") from None
    return typing.cast(M, _reader(typing.cast(type, cls))(value))


def _plain(value: object) -> object:
    if is_dataclass(value):
        return [_plain(item) for item in _values(typing.cast(type, type(value)))(value)]
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
def _reader(cls: type) -> Check:
    hints = typing.get_type_hints(cls, include_extras=True)
    checks = tuple(_check(f"{cls.__name__}.{f.name}", hints[f.name]) for f in fields(cls))

    def read(value: Any) -> Any:
        if type(value) is not list or len(value) != len(checks):
            raise Malformed(f"{cls.__name__}: expected an array of {len(checks)}")
        try:
            return cls(*[check(item) for check, item in zip(checks, value, strict=True)])
        except Malformed:
            raise
        except ValueError as error:
            raise Malformed(f"{cls.__name__}: {error}") from None

    return read


def _check(where: str, hint: Any) -> Check:
    """A function that returns a checked value or raises Malformed."""
    bounds = None
    if typing.get_origin(hint) is Annotated:
        hint, bounds = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner, nothing = typing.get_args(hint)
        assert nothing is type(None), f"{where}: only X | None is an optional"
        present = _check(where, inner)
        return lambda value: None if value is None else present(value)
    if typing.get_origin(hint) is tuple:
        item, *_ = typing.get_args(hint)
        return _check_tuple(where, _check(where, item), bounds)
    if is_dataclass(hint):
        return _reader(typing.cast(type, hint))
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
