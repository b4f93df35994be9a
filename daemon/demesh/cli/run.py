"""`demesh run`: one device, from its configuration to the running daemon."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from demesh.cli.links import absent_files, links
from demesh.cli.plugins import OpenDriver, find_driver, open_driver
from demesh.cli.reading import read_config
from demesh.config import Config
from demesh.errors import ConfigError

if TYPE_CHECKING:
    from demesh.node import Node
    from demesh.passport import NodeIdentity
    from demesh.ports import Instant, Restored
    from demesh.runtime import Runtime
    from demesh.wire.certificates import DeviceCertificate
    from demesh.wire.messages import Genesis
    from demesh.wire.offers import Tariff

GENESIS_BYTES_MAX = 4 * 1024 * 1024
CERTIFICATE_BYTES_MAX = 1024

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
    from demesh.transport.names import NamesLoop  # noqa: PLC0415

    again = True
    while again:
        runtime = _open(path, config, factory)
        with asyncio.Runner(loop_factory=NamesLoop) as runner:
            runner.run(runtime.run())
        again = runtime.again
    return 0


def _open(path: Path, config: Config, factory: OpenDriver) -> Runtime:
    """The whole device, ready to run; raises DemeshError."""
    # Late, so that a check or a mistake in the configuration needs none of it.
    from demesh.observe.lines import open_log  # noqa: PLC0415
    from demesh.observe.projection import Projection  # noqa: PLC0415
    from demesh.runtime import Runtime  # noqa: PLC0415
    from demesh.storage.store import FileStore  # noqa: PLC0415
    from demesh.wire import identity  # noqa: PLC0415

    folder = path.parent
    _, mesh = read_genesis(folder / config.mesh.genesis)
    device_key = bytes(_load_keys(path, config).device_key.verify_key)
    ways = links(folder, config, identity.text(identity.device_id(device_key)))
    open_log()
    store = FileStore(folder / config.device.data, mesh)
    now = time.monotonic_ns()
    device = open_driver(factory, path, config, now=now)
    node = _node(path, config, store.load(), now)
    ways = tuple(replace(way, subscriptions=node.subscriptions, will=node.will) for way in ways)
    projection = Projection(node.me.name, node.topics.observation(""))
    return Runtime(node, store, device, projection, ways)


def _node(path: Path, config: Config, restored: Restored, now: Instant) -> Node:
    """The node of a configuration; raises ConfigError, KeyFileError, StorageError, UnfitError."""
    from demesh.node import Node, NodeSettings  # noqa: PLC0415

    genesis, _ = read_genesis(path.parent / config.mesh.genesis)
    settings = NodeSettings(
        config.sell,
        config.buy,
        DELAY_FLOOR_MS[config.mesh.profile],
        os.urandom(32),
        config.device.report_s * 1000,
        _verify_ns(),
        _tariff(path, config),
    )
    return Node(_load_keys(path, config), genesis, restored, settings, now)


def _tariff(path: Path, config: Config) -> Tariff | None:
    """What the policy sells under, if that is in a file of its own; raises ConfigError."""
    if config.sell is None or config.sell.tariff is None:
        return None
    from demesh.cli.tariffs import read_sold_tariff  # noqa: PLC0415

    return read_sold_tariff(path.parent / config.sell.tariff)


def _verify_ns() -> int:
    """What one signature costs here, once it is sure that it is judged as everywhere; UnfitError.

    The least of some tries: whatever else the machine does now, it does not do always.
    """
    from demesh.wire import keys, selftest  # noqa: PLC0415

    selftest.check_signatures()
    _, good, _ = selftest.SIGNATURES[0]
    signature, tries = bytes.fromhex(good), []
    for _ in range(5):
        began = time.perf_counter_ns()
        keys.signed_by(selftest.PUBLIC_KEY, selftest.MESSAGE, signature)
        tries.append(time.perf_counter_ns() - began)
    return max(1, min(tries))


def _load_keys(path: Path, config: Config) -> NodeIdentity:
    from demesh.passport import NodeIdentity  # noqa: PLC0415
    from demesh.storage.keys import load_key  # noqa: PLC0415

    paper = config.device.certificate
    return NodeIdentity(
        config.device.name,
        config.device.device_class,
        load_key(path.parent / config.device.key),
        load_key(path.parent / config.device.vote_key),
        None if paper is None else read_certificate(path.parent / paper),
    )


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


def read_certificate(path: Path) -> DeviceCertificate:
    """The certificate of a device; raises ConfigError. Whether it holds, only the mesh can say."""
    from demesh.wire.certificates import DeviceCertificate  # noqa: PLC0415
    from demesh.wire.schema import Malformed, decode  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            return decode(DeviceCertificate, file.read(CERTIFICATE_BYTES_MAX))
    except OSError as error:
        raise ConfigError(f"{path}: the certificate cannot be read: {error.strerror}") from None
    except Malformed as error:
        raise ConfigError(f"{path}: not a certificate of a device: {error}") from None


def _report_check(path: Path, config: Config) -> int:
    """Say what is good and what is missing; raises DemeshError for what is wrong."""
    device = config.device
    _tariff(path, config)
    named = (config.mesh.genesis, device.key, device.vote_key, device.certificate)
    absent = [name for name in named if name is not None and not (path.parent / name).exists()]
    unchecked = absent_files(path.parent, config)
    if not unchecked:
        links(path.parent, config, device.name)
    if not absent:
        from demesh.ports import Restored  # noqa: PLC0415

        _node(path, config, Restored(), 0)
    print(f"{path}: good; {config.device.name} ({config.device.device_class})")
    if absent or unchecked:
        print(f"{path}: not there yet, so not checked: {', '.join([*absent, *unchecked])}")
    return 0
