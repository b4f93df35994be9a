"""TOML tables as frozen dataclasses: the fields and their annotations say what may be written.

A key may have another name in the file: `field(metadata={"key": ...})`. Integers are not negative
and keep to `Annotated` bounds. Every mistake is told in one line, with its place.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from demesh.cli.reading import parse_toml, read_text
from demesh.errors import ConfigError

R = TypeVar("R")


def load(cls: type[R], path: Path, check: Callable[[R], None]) -> R:
    """The record in a file, after `check`, which raises Misfit; raises ConfigError."""
    text = read_text(path)
    values = parse_toml(path, text)
    try:
        record = _record(cls, values, "")
        check(record)
    except Misfit as misfit:
        line = _line_of(text, misfit.key)
        raise ConfigError(f"{path}:{line}: {misfit}" if line else f"{path}: {misfit}") from None
    return record


class Misfit(ConfigError):
    """Something in the file is wrong; `key`, where there is one, helps to find the line."""

    def __init__(self, text: str, key: str = "") -> None:
        super().__init__(text)
        self.key = key


def _line_of(text: str, key: str) -> int | None:
    """The line on which a key is written, if it is written only once."""
    lines = [
        number
        for number, line in enumerate(text.splitlines(), 1)
        if key and re.match(rf"\s*{re.escape(key)}\s*=", line)
    ]
    return lines[0] if len(lines) == 1 else None


def _record(cls: type[R], values: Any, where: str) -> R:
    if not isinstance(values, dict):
        raise Misfit(f"{where.rstrip('.')}: expected a table, got {_shown(values)}")
    hints = typing.get_type_hints(cls, include_extras=True)
    parts = fields(cls)  # type: ignore[arg-type]
    known = {item.metadata.get("key", item.name): item for item in parts}
    for key in values:
        if key not in known:
            raise Misfit(f"{where}{key} is unknown{meant(key, list(known))}", key)
    taken = {}
    for key, item in known.items():
        if key in values:
            taken[item.name] = _value(hints[item.name], values[key], where, key)
        elif not _has_default(item):
            raise Misfit(f"{where}{key} is missing; it has no default")
    return cls(**taken)


def _has_default(item: Field[Any]) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        inner, bounds = typing.get_args(hint)
        number = _value(inner, value, where, key)
        if not bounds.least <= number <= bounds.greatest:
            expected = f"expected {bounds.least} to {bounds.greatest}"
            raise Misfit(f"{where}{key} = {number} is out of range; {expected}", key)
        return number
    if origin in (typing.Union, types.UnionType):
        (inner,) = (arm for arm in typing.get_args(hint) if arm is not type(None))
        return _value(inner, value, where, key)
    if origin is tuple:
        if not isinstance(value, list):
            raise Misfit(f"{where}{key} = {_shown(value)} is not an array", key)
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, item, where, f"{key}[{at}]") for at, item in enumerate(value))
    if is_dataclass(hint):
        return _record(typing.cast(type, hint), value, f"{where}{key}.")
    if type(value) is not hint:
        kind = {int: "an integer", str: "text in quotes", bool: "true or false"}[hint]
        raise Misfit(f"{where}{key} = {_shown(value)} is not {kind}", key)
    if hint is int and value < 0:
        raise Misfit(f"{where}{key} = {value} must not be negative", key)
    return value


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    return "an array" if isinstance(value, list) else repr(value)


def meant(word: str, known: list[str]) -> str:
    """What to add to "is unknown": the nearest of what is known, or all of it."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of {', '.join(known)}"
