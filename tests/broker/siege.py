"""Who troubles a broker, and who is to notice nothing of it.

    python -m broker.siege crowd|guesses FOLDER

is an attack from another address of the network, and ends with 0 if the broker stands it; it needs
the addresses 10.9.9.1 to 3, all on this machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from broker.process import Running, running
from broker.rawclient import LOOPBACK, PATIENCE_S, Visitors
from demesh.broker.codec import Code, Connack, Connect, Puback, Publish, encode
from demesh.broker.passwords import Secret

# How long a message of anybody else may take at most while the broker is being troubled. It is a
# millisecond when nobody does, and the first time-out of a mesh is some seconds.
DELAY_S_MAX = 2.0

HERE, STRANGER, HONEST = "10.9.9.1", "10.9.9.2", "10.9.9.3"


@asynccontextmanager
async def witness(visitors: Visitors, **login: object) -> AsyncIterator[None]:
    """An honest client that says something to itself all the time, and is never kept waiting."""
    client = await visitors.connect("witness", **login)
    await client.subscribe(("witness", 0))
    clock = asyncio.get_running_loop().time
    over = asyncio.Event()
    delays_s: list[float] = []

    async def watch() -> None:
        while not over.is_set():
            began = clock()
            client.send(Publish("witness", b"here", 1, packet_id=1))
            came = {type(await client.next()), type(await client.next())}
            assert came == {Publish, Puback}
            delays_s.append(clock() - began)
            try:
                async with asyncio.timeout(0.005):
                    await over.wait()
            except TimeoutError:
                continue

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        yield
        over.set()
    assert len(delays_s) > 3
    assert max(delays_s) < DELAY_S_MAX


async def comes_in(visitors: Visitors, **login: object) -> float:
    """Seconds until an honest client that comes now is served."""
    clock = asyncio.get_running_loop().time
    began = clock()
    client = await visitors.connect("late", **login)
    await client.nothing()
    return clock() - began


async def until_served(visitors: Visitors) -> None:
    """An honest client tries until it is served."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            client = await visitors.dial()
            client.send(Connect("again"))
            if await client.next() == Connack():
                return


class Crowd:
    """Connections of one stranger, all open at once."""

    def __init__(self, host: str, port: int, source: str) -> None:
        self._to = host, port
        self._source = source
        self.lines: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open(self, number: int, first: Callable[[int], bytes]) -> None:
        """That many more, each with its first bytes."""
        for n in range(number):
            line = await asyncio.open_connection(*self._to, local_addr=(self._source, 0))
            line[1].write(first(n))
            self.lines.append(line)

    def leave(self) -> None:
        """Cut them all."""
        for _, writer in self.lines:
            writer.transport.abort()


@asynccontextmanager
async def crowd(port: int, host: str = LOOPBACK, source: str = LOOPBACK) -> AsyncIterator[Crowd]:
    """A crowd that leaves in the end."""
    strangers = Crowd(host, port, source)
    try:
        yield strangers
    finally:
        strangers.leave()


# -- attacks over a network -----------------------------------------------------------------------

WORD = b"right"
LOGIN = {"username": "honest", "password": WORD}


def _passwords(folder: Path, iterations: int) -> Path:
    salt = bytes(12)
    secret = Secret(iterations, salt, hashlib.pbkdf2_hmac("sha512", WORD, salt, iterations))
    path = folder / "passwords"
    path.write_text(f"honest:{secret}\nstranger:{secret}\n")
    path.chmod(0o600)
    return path


async def _crowd(broker: Running, strangers: Crowd, visitors: Visitors) -> None:
    """A device gone wrong opens more connections than there are, each properly logged in."""

    def hello(n: int) -> bytes:
        return encode(Connect(f"c{n}", username="stranger", password=WORD, clean_start=False))

    async with witness(visitors, **LOGIN):
        await strangers.open(1_500, hello)
        assert await comes_in(visitors, **LOGIN) < DELAY_S_MAX
    counters = await broker.counters(**LOGIN)
    assert counters["closed/connections_full"] > 900, counters


async def _guesses(broker: Running, strangers: Crowd, visitors: Visitors) -> None:
    """500 passwords are tried at once, each of which takes 10 ms to check."""

    def guess(n: int) -> bytes:
        return encode(Connect(f"g{n}", username="honest", password=b"%d" % n))

    async with witness(visitors, **LOGIN):
        await strangers.open(500, guess)
        assert await comes_in(visitors, **LOGIN) < DELAY_S_MAX
        for reader, _ in strangers.lines:
            async with asyncio.timeout(PATIENCE_S):
                answer = await reader.read()
            assert answer in (encode(Connack(Code.BAD_LOGIN)), encode(Connack(Code.BUSY))), answer
    counters = await broker.counters(**LOGIN)
    assert counters["closed/bad_login"] < 30, counters
    assert counters["closed/bad_login"] + counters["closed/logins_slowed"] == 500, counters


async def _attack(name: str, folder: Path) -> None:
    passwords = _passwords(folder, 4_000 if name == "guesses" else 101)
    async with (
        running(HERE, passwords) as broker,
        crowd(broker.port, HERE, STRANGER) as strangers,
    ):
        visitors = Visitors(broker.port, HERE, HONEST)
        await {"crowd": _crowd, "guesses": _guesses}[name](broker, strangers, visitors)
        visitors.leave()


if __name__ == "__main__":
    asyncio.run(_attack(sys.argv[1], Path(sys.argv[2])))
