"""The embedded broker as a process of its own, with the limits and the logins of a test.

    python -m broker.process '{"host": "127.0.0.1", "passwords": null, "limits": {}}'

says where it listens and serves until SIGTERM, as `demesh broker` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from broker.rawclient import LOOPBACK, PATIENCE_S, Visitors
from demesh.broker.limits import Limits
from demesh.broker.process import run
from demesh.broker.settings import BrokerConfig, Endpoint

COUNTERS = "$SYS/broker/counters/"


class Running:
    """A broker that runs, and what can be known of it from outside."""

    def __init__(self, pid: int, host: str, port: int) -> None:
        self.pid = pid
        self.host = host
        self.port = port

    def peak_bytes(self) -> int:
        """The most memory it ever had resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024

    async def counters(self, **login: object) -> dict[str, int]:
        """What it has counted, as it says itself."""
        visitors = Visitors(self.port, self.host)
        client = await visitors.connect_5(**login)
        await client.subscribe((f"{COUNTERS}#", 0))
        messages = await client.messages()
        visitors.leave()
        return {m.topic.removeprefix(COUNTERS): int(m.payload) for m in messages}


@asynccontextmanager
async def running(
    host: str = LOOPBACK, passwords: Path | None = None, **limits: int | None
) -> AsyncIterator[Running]:
    """Start one, and end it."""
    settings = {"host": host, "passwords": passwords and str(passwords), "limits": limits}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "broker.process", json.dumps(settings)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            address = (await process.stdout.readline()).decode()
        yield Running(process.pid, host, int(address.rpartition(":")[2]))
        assert process.returncode is None, "the broker has ended"
    finally:
        process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    passwords = settings["passwords"]
    run(
        BrokerConfig(
            (Endpoint(settings["host"]),),
            passwords=None if passwords is None else Path(passwords),
            limits=Limits(**settings["limits"]),
        )
    )
