"""A broker as a process of its own: start, signals, end."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from typing import Any

from demesh.broker.server import Server
from demesh.broker.settings import BrokerConfig, read_trust
from demesh.broker.store import Store
from demesh.errors import DemeshError, FaultError

_log = logging.getLogger("demesh.broker")


def run(config: BrokerConfig) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP reads the files again. Raises DemeshError."""
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    asyncio.run(_serve(config))


async def _serve(config: BrokerConfig) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    trust = read_trust(config, int(time.time()))
    store = None if config.data is None else Store(config.data)
    server = Server(*config.listen, limits=config.limits, trust=trust, store=store)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: _reload(config, server))
    for warning in trust.warnings:
        _log.warning("%s", warning)
    await serve(server, ended)


async def serve(server: Server, ended: asyncio.Event) -> None:
    """Until `ended`. Raises TemporaryError, StorageError; FaultError after a fault of our own.

    A fault that the server could not lay to one connection may have left the machine in any state:
    it ends as by a kill, and whoever starts it again has what was saved before.
    """
    faults: list[BaseException] = []

    def failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        fault = context.get("exception")
        if fault is None or isinstance(fault, OSError):  # the world's: no file handles are left
            loop.default_exception_handler(context)
            return
        _log.critical("a fault of the broker itself, please report it", exc_info=fault)
        faults.append(fault)
        ended.set()

    asyncio.get_running_loop().set_exception_handler(failed)
    async with server:
        sys.stdout.write("".join(f"{endpoint}\n" for endpoint in server.endpoints))
        sys.stdout.flush()
        await ended.wait()
        if faults:
            await server.abandon()
    if faults:
        raise FaultError(f"a fault of the broker ended it: {faults[0]!r}; start it again")


def _reload(config: BrokerConfig, server: Server) -> None:
    """Read passwords, rights and certificates again: all of them, or none."""
    try:
        trust = read_trust(config, int(time.time()), server.trust)
    except DemeshError as error:
        _log.error("nothing was read again, the broker goes on as before: %s", error)
        return
    server.set_trust(trust)
    for warning in trust.warnings:
        _log.warning("%s", warning)
    _log.info("passwords, rights and certificates are read again")
