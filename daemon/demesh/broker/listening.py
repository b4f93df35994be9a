"""Opening one address of the broker."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import replace

from demesh.broker.settings import Endpoint
from demesh.errors import TemporaryError


async def listen(
    endpoint: Endpoint, made: Callable[[], asyncio.Protocol]
) -> tuple[asyncio.Server, Endpoint]:
    """A listener, and its address with the port in use; raises TemporaryError if it is taken."""
    loop = asyncio.get_running_loop()
    try:
        listener = await loop.create_server(made, endpoint.host, endpoint.port, reuse_address=True)
    except OSError as error:
        raise TemporaryError(_fault(endpoint, error)) from error
    return listener, replace(endpoint, port=listener.sockets[0].getsockname()[1])


def _fault(endpoint: Endpoint, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        place = f"port {endpoint.port} on {endpoint.host}"
        return f"{place} is in use; stop what listens there, or choose port 0"
    why = os.strerror(error.errno) if error.errno else error
    return f"cannot listen on {endpoint}: {why}"
