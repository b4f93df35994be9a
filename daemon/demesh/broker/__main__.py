"""`python -m demesh.broker --port N`: the embedded broker as a process of its own.

Prints one line with its address once it listens; ends by SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from demesh.broker.server import Server
from demesh.errors import DemeshError


async def serve(host: str, port: int) -> None:
    """Serve until a signal comes."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with Server(host, port) as server:
        sys.stdout.write(f"mqtt://{server.host}:{server.port}\n")
        sys.stdout.flush()
        await ended.wait()


def main() -> int:
    """Exit code 0 after a signal, otherwise that of the error."""
    parser = argparse.ArgumentParser(prog="python -m demesh.broker", description=serve.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883, help="0 takes a free one")
    arguments = parser.parse_args()
    try:
        asyncio.run(serve(arguments.host, arguments.port))
    except DemeshError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
