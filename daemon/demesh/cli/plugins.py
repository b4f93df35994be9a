"""What other packages add to the daemon: device drivers and commands, as entry points by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from demesh.config import Config
from demesh.errors import ConfigError, DemeshError
from demesh.ports import Device, Instant

DRIVERS = "demesh.drivers"
COMMANDS = "demesh.commands"

OpenDriver = Callable[..., Device]
"""`factory(options: dict, *, folder: Path, now: Instant) -> Device`; ConfigError: bad options."""

PACKAGES = {"nacl": "pynacl", "paho": "paho-mqtt"}
"""The package that brings a module, where their names differ."""


class MissingExtraError(DemeshError):
    """A part of demesh that is not installed is needed (EX_UNAVAILABLE)."""

    exit_code = 69


def find_driver(name: str, where: str) -> OpenDriver:
    """The factory of a driver; ConfigError lists the known ones."""
    known = {point.name: point for point in entry_points(group=DRIVERS)}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f'did you mean "{near[0]}"? ' if near else ""
        listed = ", ".join(sorted(known)) or "none (is demesh installed?)"
        raise ConfigError(
            f'{where}: [device] driver = "{name}" is unknown; {hint}known drivers: {listed}'
        )
    factory: OpenDriver = load(known[name])
    return factory


def open_driver(factory: OpenDriver, path: Path, config: Config, *, now: Instant) -> Device:
    """The device behind a driver, which may keep files in the data folder; raises ConfigError."""
    folder = path.parent / config.device.data
    try:
        return factory(dict(config.driver), folder=folder, now=now)
    except ConfigError as error:
        named = str(error).startswith("[")
        raise ConfigError(f"{path}: {error}" if named else str(error)) from None


def load(point: EntryPoint) -> Any:
    """The object an entry point names; MissingExtraError says what to install."""
    try:
        return point.load()
    except ModuleNotFoundError as error:
        raise missing(error) from None


def missing(error: ModuleNotFoundError) -> DemeshError:
    """What to tell a person about a module that is not there; re-raises if it is our own."""
    module = (error.name or "").partition(".")[0]
    if module.startswith("demesh"):
        raise error
    package = PACKAGES.get(module, module)
    return MissingExtraError(f"the Python package {package} is missing; pip install {package}")
