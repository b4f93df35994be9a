"""Files a person wrote, read into checked values; a mistake is one line that names its place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from demesh.config import Config, parse
from demesh.errors import ConfigError
from demesh.section import EntryError

# A configuration has some dozen lines; a scenario some hundred. Anything larger is another file.
CONFIG_BYTES_MAX = 1024 * 1024


def read_config(path: Path) -> Config:
    """The configuration in a file; raises ConfigError with file and line."""
    text = read_text(path)
    table = parse_toml(path, text)
    try:
        return parse(table, str(path))
    except EntryError as error:
        line = line_of(text, error.section, error.key, error.number)
        place = f"{path}:{line}" if line else str(path)
        raise ConfigError(f"{place}: {error.text}") from None


def read_text(path: Path) -> str:
    """The text of a file; raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > CONFIG_BYTES_MAX:
        raise ConfigError(f"{path}: larger than {CONFIG_BYTES_MAX} bytes; is it the right file?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None


def parse_toml(path: Path, text: str) -> dict[str, Any]:
    """The table in a TOML text; raises ConfigError with file and line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error), re.DOTALL)
        if said is None:
            raise ConfigError(f"{path}: not TOML: {error}") from None
        what, line, column = said.groups()
        for name in re.findall(r"^\s*\[\[\s*(\w+)\s*\]\]", text, re.MULTILINE):
            if re.search(rf"^\s*\[\s*{name}\s*\]", text, re.MULTILINE):
                what = f"[{name}] beside [[{name}]]; write [[{name}]] for each of several"
        raise ConfigError(f"{path}:{line}: not TOML: {what} (column {column})") from None


def line_of(text: str, section: str, key: str, number: int = 0) -> int | None:
    """The line on which a key, or with an empty one a section, is written; None if not found.

    `number` is that of one `[[section]]` of several, from 0.
    """
    here, within, passed = "", not section, 0
    for line_number, line in enumerate(text.splitlines(), 1):
        heading = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line)
        if heading:
            here = heading[1].replace('"', "")
            within = here == section and passed == number
            passed += here == section
            full = f"{section}.{key}" if section else key
            if (within and not key) or (key and here == full):
                return line_number
        elif within and key and re.match(rf'\s*"?{re.escape(key)}"?\s*(=|\.)', line):
            return line_number
    return None
