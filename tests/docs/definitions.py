"""Message classes as docs/protocol.md writes them: one line a class, its fields in order."""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from enum import IntEnum
from typing import Any

from demesh.wire.schema import Bounds, plain_hint, tails_of

_SIGNED_53 = Bounds(-(2**53) + 1, 2**53 - 1)


def definition(cls: type) -> str:
    """`Name = [field: type, ...]`, `?` for what came later; private classes lose the underscore."""
    hints = typing.get_type_hints(cls, include_extras=True)
    late = len(fields(cls)) - len(tails_of(cls))
    listed = ", ".join(
        f"{'? ' if at >= late else ''}{f.name}: {_type(hints[f.name])}"
        for at, f in enumerate(fields(cls))
    )
    return f"{_name(cls)} = [{listed}]"


def _name(cls: type) -> str:
    return cls.__name__.removeprefix("_")


def _type(hint: Any) -> str:
    hint, bounds = plain_hint(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner, _ = typing.get_args(hint)
        return f"{_type(inner)} / null"
    if typing.get_origin(hint) is tuple:
        item, *_ = typing.get_args(hint)
        return f"[{bounds.least}*{bounds.greatest} {_type(item)}]"
    if is_dataclass(hint) or issubclass(hint, IntEnum):
        return _name(hint)
    if hint is bool:
        return "bool"
    if hint is int:
        return _integer(bounds)
    word = "bytes" if hint is bytes else "text"
    same = bounds.least == bounds.greatest
    return f"{word}({bounds.least if same else f'{bounds.least}..{bounds.greatest}'})"


def _integer(bounds: Bounds) -> str:
    if bounds == _SIGNED_53:
        return "s53"
    bits = bounds.greatest.bit_length()
    if bounds.least == 0 and bounds.greatest == 2**bits - 1:
        return f"u{bits}"
    return f"int({bounds.least}..{bounds.greatest})"
