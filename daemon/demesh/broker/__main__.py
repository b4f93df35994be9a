"""`python -m demesh.broker --port N`: the embedded broker as a process of its own.

Prints one line with its address once it listens; ends by SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from demesh.broker.limits import Limits
from demesh.broker.server import Server
from demesh.errors import DemeshError


async def serve(host: str, port: int, limits: Limits) -> None:
    """Serve until a signal comes."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with Server(host, port, limits) as server:
        sys.stdout.write(f"mqtt://{server.host}:{server.port}\n")
        sys.stdout.flush()
        await ended.wait()


def main() -> int:
    """Exit code 0 after a signal, otherwise that of the error."""
    parser = argparse.ArgumentParser(prog="python -m demesh.broker", description=serve.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883, help="0 takes a free one")
    parser.add_argument(
        "--unpaced", action="store_true", help="read every client as fast as it writes: to measure"
    )
    arguments = parser.parse_args()
    limits = Limits(packets_per_s_max=None) if arguments.unpaced else Limits()
    try:
        asyncio.run(serve(arguments.host, arguments.port, limits))
    except DemeshError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
