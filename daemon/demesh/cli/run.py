"""`demesh run`: one device, from its configuration to the running daemon."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from demesh.cli.plugins import find_driver, open_driver
from demesh.cli.reading import read_config
from demesh.config import Config
from demesh.errors import ConfigError, KeyFileError

if TYPE_CHECKING:
    from nacl.signing import SigningKey

    from demesh.transport.client import Link
    from demesh.wire.messages import Genesis

PASSWORD_BYTES_MAX = 1024
GENESIS_BYTES_MAX = 4 * 1024 * 1024

# The least time from a proposal to giving up on it: a few round trips of the network it runs on.
DELAY_FLOOR_MS = {"lan": 250, "wan": 1000}


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `run`."""
    parser = subparsers.add_parser("run", help="run this device's daemon")
    parser.add_argument("--config", type=Path, required=True, help="demesh.toml of the device")
    parser.add_argument(
        "--check-config", action="store_true", help="check the configuration and end"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, or run until told to stop; raises DemeshError."""
    path: Path = arguments.config
    config = read_config(path)
    factory = find_driver(config.device.driver, str(path))
    if arguments.check_config:
        return _report_check(path, config)
    founded = read_founded(path, config)
    password = _read_password(path.parent, config)

    # Late, so that a check or a mistake needs none of it.
    from demesh.node import Node, NodeIdentity, NodeSettings  # noqa: PLC0415
    from demesh.observe.lines import open_log  # noqa: PLC0415
    from demesh.observe.projection import Projection  # noqa: PLC0415
    from demesh.runtime import Runtime  # noqa: PLC0415
    from demesh.storage.store import FileStore  # noqa: PLC0415

    open_log()
    data = path.parent / config.device.data
    store = FileStore(data, founded.mesh)
    now = time.monotonic_ns()
    device = open_driver(factory, config.driver, folder=data, now=now)
    node = Node(
        NodeIdentity(
            config.device.name, config.device.device_class, founded.device_key, founded.vote_key
        ),
        founded.genesis,
        store.load(),
        NodeSettings(config.sell, config.buy, DELAY_FLOOR_MS[config.mesh.profile], os.urandom(32)),
        now,
    )
    links = (_link(config, founded, password),)
    asyncio.run(Runtime(node, store, device, Projection(founded.topics), links).run())
    return 0


@dataclass(frozen=True, slots=True)
class Founded:
    """What the mesh's founding left on this device, checked against one another."""

    mesh: bytes
    genesis: Genesis
    device_key: SigningKey
    vote_key: SigningKey
    client_id: str
    topics: str  # prefix of this device's observation topics


def read_founded(path: Path, config: Config) -> Founded:
    """Genesis and keys; raises ConfigError and KeyFileError where they do not belong together."""
    from demesh.storage.keys import load_key  # noqa: PLC0415
    from demesh.wire import identity  # noqa: PLC0415

    folder = path.parent
    genesis, mesh = read_genesis(folder / config.mesh.genesis)
    device_key = load_key(folder / config.device.key)
    vote_key = load_key(folder / config.device.vote_key)
    public = bytes(device_key.verify_key)
    certificates = [founding.certificate for founding in genesis.body.devices]
    mine = next((c for c in certificates if c.device_key == public), None)
    if mine is None:
        raise KeyFileError(
            f"{folder / config.device.key}: not the key of a device in {config.mesh.genesis}"
        )
    if mine.vote_key != bytes(vote_key.verify_key):
        raise KeyFileError(
            f"{folder / config.device.vote_key}: not the vote key certified for {mine.name}"
        )
    if (mine.name, mine.device_class) != (config.device.name, config.device.device_class):
        raise ConfigError(
            f"{path}: [device] is {config.device.name} ({config.device.device_class}), its "
            f"certificate says {mine.name} ({mine.device_class}); write these"
        )
    me = identity.text(identity.device_id(public))
    topics = f"demesh/1/{identity.text(mesh[:16])}/obs/{me}/"
    return Founded(mesh, genesis, device_key, vote_key, me, topics)


def read_genesis(path: Path) -> tuple[Genesis, bytes]:
    """A genesis and its mesh id (32 bytes); raises ConfigError."""
    from demesh.wire.identity import check_genesis  # noqa: PLC0415
    from demesh.wire.messages import Genesis  # noqa: PLC0415
    from demesh.wire.schema import Malformed, decode  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            content = file.read(GENESIS_BYTES_MAX)
        genesis = decode(Genesis, content)
        return genesis, check_genesis(genesis)
    except OSError as error:
        raise ConfigError(f"{path}: the genesis cannot be read: {error.strerror}") from None
    except Malformed as error:
        raise ConfigError(f"{path}: not a genesis: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: no valid genesis: {error}") from None


def _link(config: Config, founded: Founded, password: str | None) -> Link:
    from demesh.transport.client import Link  # noqa: PLC0415

    broker = config.broker
    return Link(
        broker.host,
        broker.port,
        broker.url,
        client_id=founded.client_id,
        subscriptions=(),
        username=broker.username,
        password=password,
        wait_s=broker.wait_s,
    )


def _read_password(folder: Path, config: Config) -> str | None:
    if config.broker.password_file is None:
        return None
    from demesh.storage.keys import read_private  # noqa: PLC0415

    path = folder / config.broker.password_file
    content = read_private(path, PASSWORD_BYTES_MAX)
    try:
        password = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        password = ""
    if not password or len(content) > PASSWORD_BYTES_MAX or "\n" in password:
        raise KeyFileError(f"{path}: expected the broker password on one line of UTF-8 text")
    return password


def _report_check(path: Path, config: Config) -> int:
    print(f"{path}: good; {config.device.name} ({config.device.device_class})")
    named = (config.mesh.genesis, config.device.key, config.device.vote_key)
    absent = [name for name in named if not (path.parent / name).exists()]
    if absent:
        print(f"{path}: not there yet: {', '.join(absent)}")
    return 0
