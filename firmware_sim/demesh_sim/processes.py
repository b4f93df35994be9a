"""The operating-system processes of a run: started quietly, ended by their id, never left over.

Children are in process groups of their own, so Ctrl-C reaches only the orchestrator, which ends
them in order. Where util-linux' setpriv is there, the kernel ends them should the orchestrator die.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demesh.errors import TemporaryError

# A daemon gives its last words 3 s (runtime.py RT3); twice that and some for a busy Pi.
GRACE_S = 8.0

# An interpreter with our imports starts in 0.5 s here and in 5 s on a busy Pi Zero.
BROKER_START_S = 20.0


class Child:
    """One process; restartable, for it remembers how it was started."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        """`arguments` come after the interpreter; both outputs are appended to `log`."""
        self.name = name
        self._command = [*_bound_to_us(), sys.executable, *arguments]
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._expected = False

    @property
    def running(self) -> bool:
        """Started and not ended yet."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its process id; only while it was started."""
        assert self._process is not None
        return self._process.pid

    async def start(self, *, piped: bool = False) -> asyncio.StreamReader | None:
        """Start it; with `piped`, its standard output is given back instead of logged."""
        assert not self.running
        self._expected = False
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if piped else log,
                stderr=log,
                process_group=0,
            )
        return self._process.stdout

    async def ended(self) -> int | None:
        """Wait for its end; the exit code, or None if it was asked to end."""
        assert self._process is not None
        code = await self._process.wait()
        return None if self._expected else code

    def ask(self) -> None:
        """SIGTERM: please end."""
        self._expected = True
        if self._process is not None and self.running:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL, as a power cut; not a word is saved."""
        self._expected = True
        if self._process is not None and self.running:
            self._process.kill()

    def last_line(self) -> str:
        """The last line it logged, for a person."""
        try:
            written = self._log.read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return written[-1] if written else ""


async def end_all(children: Sequence[Child], hurry: asyncio.Event) -> None:
    """Ask all, wait, kill those that stay; at once when `hurry` is set."""
    for child in children:
        child.ask()
    running = [child for child in children if child.running]
    if not running:
        return
    everyone = asyncio.gather(*(child.ended() for child in running))
    patience = asyncio.ensure_future(hurry.wait())
    waits: set[asyncio.Future[Any]] = {everyone, patience}
    await asyncio.wait(waits, timeout=GRACE_S, return_when=asyncio.FIRST_COMPLETED)
    patience.cancel()
    for child in running:
        child.kill()
    await everyone


class EmbeddedBroker:
    """The embedded broker as a process; keeps its port over a restart."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.child: Child | None = None
        self.url = ""
        self._port = 0

    async def start(self) -> None:
        """Start it and wait until it listens; raises TemporaryError."""
        arguments = ["-m", "demesh.broker", "--port", str(self._port)]
        self.child = Child("broker", arguments, self._log)
        output = await self.child.start(piped=True)
        assert output is not None
        try:
            async with asyncio.timeout(BROKER_START_S):
                line = (await output.readline()).decode().strip()
        except TimeoutError:
            line = ""
        if not line.startswith("mqtt://"):
            self.child.kill()
            said = self.child.last_line() or f"no answer in {BROKER_START_S:.0f} s"
            raise TemporaryError(f"the embedded broker did not start: {said}")
        self.url = line
        self._port = int(line.rpartition(":")[2])


def _bound_to_us() -> list[str]:
    setpriv = shutil.which("setpriv", path=os.environ.get("PATH", os.defpath) + ":/usr/bin")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []
