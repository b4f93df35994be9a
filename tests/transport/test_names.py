"""A lookup that hangs keeps nobody waiting: no other lookup, and not the end of the program."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from demesh.transport.names import NamesLoop

PATIENCE_S = 10.0
HANGING = 40  # more than asyncio has threads


@pytest.fixture
def tarpit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lookups of `hanging.invalid` last until the test is over."""
    over, lookup = threading.Event(), socket.getaddrinfo

    def slow(host: Any, *rest: Any) -> Any:
        if host == "hanging.invalid":
            over.wait(2 * PATIENCE_S)
        return lookup("127.0.0.1" if host == "known.invalid" else host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield over
    over.set()


def test_names_are_found_and_the_loop_ends_while_lookups_hang(tarpit: threading.Event) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        hanging = [
            asyncio.ensure_future(loop.getaddrinfo("hanging.invalid", 1)) for _ in range(HANGING)
        ]
        async with asyncio.timeout(PATIENCE_S):
            found = await loop.getaddrinfo("known.invalid", 1883, type=socket.SOCK_STREAM)
        for one in hanging:
            one.cancel()
        return found

    done = threading.Event()
    found: list[Any] = []

    def run() -> None:
        with asyncio.Runner(loop_factory=NamesLoop) as runner:
            found.extend(runner.run(main()))
        done.set()

    threading.Thread(target=run, daemon=True).start()
    assert done.wait(PATIENCE_S), "the end waits for lookups"
    assert found[0][4] == ("127.0.0.1", 1883)


def test_a_name_that_is_unknown_is_an_error_of_the_system() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await loop.getaddrinfo("none.invalid", 1, flags=socket.AI_NUMERICHOST)

    with (
        asyncio.Runner(loop_factory=NamesLoop) as runner,
        pytest.raises(OSError),
    ):
        runner.run(main())
