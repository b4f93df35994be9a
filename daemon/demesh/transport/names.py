"""Name lookups that nobody has to wait for.

A lookup asks a library that takes as long as it likes, some ten seconds where the network is gone,
and cannot be told to stop. In the threads that asyncio has for such work a few of them keep all
others waiting, and the end of the program too. Here each has a thread of its own, which ends with
the process. There are few: a broker is looked up once in ten seconds at most.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any


class NamesLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, but for lookups."""

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """As `socket.getaddrinfo`; cancelling it leaves the lookup to itself."""
        found: asyncio.Future[list[Any]] = self.create_future()

        def settle(answer: list[Any] | Exception) -> None:
            if found.done():
                return
            if isinstance(answer, Exception):
                found.set_exception(answer)
            else:
                found.set_result(answer)

        def look() -> None:
            answer: list[Any] | Exception
            try:
                answer = socket.getaddrinfo(host, port, family, type, proto, flags)
            except (OSError, UnicodeError) as error:
                answer = error
            with suppress(RuntimeError):  # the loop has been closed: nobody waits
                self.call_soon_threadsafe(settle, answer)

        threading.Thread(target=look, name=f"lookup {host!r}", daemon=True).start()
        return await found
