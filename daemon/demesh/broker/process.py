"""A broker as a process of its own: start, signals, end."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time

from demesh.broker.server import Server
from demesh.broker.settings import BrokerConfig, read_trust
from demesh.broker.store import Store
from demesh.errors import DemeshError

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
    async with server:
        for warning in trust.warnings:
            _log.warning("%s", warning)
        sys.stdout.write("".join(f"{endpoint}\n" for endpoint in server.endpoints))
        sys.stdout.flush()
        await ended.wait()


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
