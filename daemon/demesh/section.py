"""Typed access to the tables of a file that a person wrote, and errors that name the place.

A section is `[name]`, or the n-th `[[name]]` where there may be several.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from demesh.errors import ConfigError


class EntryError(ConfigError):
    """A key that is unknown, missing or of the wrong type; `section` and `key` say which.

    `number` counts the sections of that name from 0.
    """

    def __init__(self, where: str, section: str, key: str, text: str, number: int = 0) -> None:
        super().__init__(f"{where}: {text}")
        self.section, self.key, self.text, self.number = section, key, text, number


_KINDS = {bool: "true or false", int: "an integer", float: "a fraction", str: "text"}


def _shown(value: object) -> str:
    """A value as it stands in TOML, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


class Section:
    """One table of the file: typed access, and errors that name it."""

    def __init__(
        self, where: str, name: str, table: Mapping[str, Any], number: int | None = None
    ) -> None:
        """`number` of one of several `[[name]]`, from 0."""
        self.where, self.name, self.table, self.number = where, name, table, number

    @property
    def title(self) -> str:
        """As it stands in the file, with its place where there are several."""
        if self.number is None:
            return f"[{self.name}]" if self.name else ""
        return f"[[{self.name}]] no. {self.number + 1}:"

    def misfit(self, key: str, text: str) -> EntryError:
        """What is wrong with a key of this section."""
        return self._error(key, f"{self.title} {key} {text}".lstrip())

    def known(self, *keys: str) -> None:
        """Every key of the table is one of `keys`; raises EntryError with the nearest one."""
        for key in self.table:
            if key in keys:
                continue
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(keys)}"
            raise self.misfit(key, f"is unknown; {hint}")

    def section(self, key: str, *, needed: bool = True) -> Section:
        """The section `[key]` below this one; an empty one if it may be missing and is."""
        name = f"{self.name}.{key}" if self.name else key
        value = self.table.get(key)
        if value is None:
            if not needed:
                return Section(self.where, name, {})
            raise EntryError(self.where, name, "", f"the section [{name}] is missing")
        if not isinstance(value, dict):
            raise self.misfit(key, f"= {_shown(value)} must be a section; write [{name}]")
        return Section(self.where, name, value)

    def sections(self, key: str, most: int) -> list[Section]:
        """One `[key]`, or some `[[key]]`, `most` of them; there must be one."""
        value = self.table.get(key)
        if not isinstance(value, list):
            return [self.section(key)]
        if not value:
            raise self.misfit(key, f"is empty; write [{key}], or [[{key}]] for each of several")
        if len(value) > most:
            raise self.misfit(key, f"is there {len(value)} times; {most} are the most")
        for entry in value:
            if not isinstance(entry, dict):
                raise self.misfit(
                    key, f"holds {_shown(entry)}, which is no section; write [[{key}]]"
                )
        return [Section(self.where, key, entry, number) for number, entry in enumerate(value)]

    def text(self, key: str, default: str | None = None, *, chars_max: int = 1024) -> str:
        """Printable text; without a default it must be there and not blank."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self.misfit(key, f'= {_shown(value)} is not text; write {key} = "..."')
        if default is None and not value.strip():
            raise self.misfit(key, "is empty")
        if len(value) > chars_max or not value.isprintable():
            raise self.misfit(key, f"must be at most {chars_max} printable characters")
        return value

    def integer(self, key: str, least: int, most: int, default: int | None = None) -> int:
        """An integer within bounds."""
        value = self._value(key, default)
        if type(value) is not int:
            hint = "; write it without quotes" if isinstance(value, str) else ""
            if isinstance(value, float) and key in ("price", "price_max"):
                micro = round(value * 1_000_000)
                hint = f"; for {value} credits per kWh write {micro} (micro-credits)"
            kind = _KINDS.get(type(value), "something else")
            raise self.misfit(key, f"= {_shown(value)} is {kind}, expected an integer{hint}")
        if not least <= value <= most:
            raise self.misfit(key, f"= {value} is outside {least}..{most}")
        return value

    def _value(self, key: str, default: object) -> object:
        value = self.table.get(key, default)
        if value is None:
            raise self._error("", f"{self.title} {key} is missing; it has no default")
        return value

    def _error(self, key: str, text: str) -> EntryError:
        return EntryError(self.where, self.name, key, text, self.number or 0)
