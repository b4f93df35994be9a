"""Programs under measurement: brokers and daemons as processes, as the kernel sees them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

BROKERS = ("embedded", "mosquitto")
AMQTT = "amqtt"  # the pure Python broker there is, for a comparison of brokers alone
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

START_S = 20.0
END_S = 10.0


class Program:
    """A running process: its CPU time, memory and disk writes, as /proc has them."""

    def __init__(
        self, command: Sequence[str], log: Path, roots: Sequence[Path] = (), *, talks: bool = False
    ) -> None:
        """`roots` come first where Python looks for modules; outputs go to `log`.

        One that `talks` answers each line of its input with one of its output.
        """
        path = os.pathsep.join([*map(str, roots), *(root for root in sys.path if root)])
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else output,
                stderr=output,
            )
        self._log = log
        self._folder = Path("/proc") / str(self._process.pid)

    @property
    def cpu_ns(self) -> int:
        """CPU time of all its threads so far."""
        threads = self._folder.joinpath("task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)

    @property
    def rss_bytes(self) -> int:
        """Resident memory now, shared pages included."""
        return _field(self._folder / "status", "VmRSS:") * 1024

    @property
    def pss_bytes(self) -> int:
        """The same, with each shared page divided among those who share it."""
        return _field(self._folder / "smaps_rollup", "Pss:") * 1024

    @property
    def written_bytes(self) -> int:
        """Bytes it has sent towards the disk."""
        return _field(self._folder / "io", "write_bytes:")

    def ask(self, line: str) -> str:
        """What it answers; raises RuntimeError if it has ended."""
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None and pipe_out is not None, "it does not talk"
        try:
            pipe_in.write(f"{line}\n".encode())
            pipe_in.flush()
            answer = pipe_out.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            self._process.wait(END_S)
            self.check()
        return answer.decode()

    def check(self) -> None:
        """Raises RuntimeError with its last words if it has ended."""
        if self._process.poll() is not None:
            said = self._log.read_text("utf-8", "replace").strip().splitlines()[-1:]
            raise RuntimeError(f"{self._process.args!r} ended: {said}")

    def kill(self) -> None:
        """SIGKILL, as a power cut."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what does not listen."""
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running_broker(
    name: str, folder: Path, queued_max: int = 10_000, *, paced: bool = True
) -> Iterator[tuple[Program, int]]:
    """One of BROKERS or AMQTT on a free loopback port until the block ends; queues: mosquitto's.

    The embedded one, not `paced`, reads a flood as fast as it can, as mosquitto always does.
    """
    (port,) = free_ports(1)
    if name == "embedded":
        command = [sys.executable, "-m", "demesh.broker", "--port", str(port)]
        command += [] if paced else ["--unpaced"]
    elif name == AMQTT:
        config = folder / "amqtt.yaml"
        config.write_text(
            f"listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\n"
            "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n"
            "    allow_anonymous: true\n"
        )
        command = [sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(config)]
    else:
        assert MOSQUITTO is not None, "ask missing() first"
        config = folder / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"
            f"max_queued_messages {queued_max}\nlog_type error\n"
        )
        command = [MOSQUITTO, "-c", str(config)]
    program = Program(command, folder / f"{name}.log")
    try:
        _wait_for(program, port)
        yield program, port
    finally:
        program.stop()


def missing(name: str) -> str:
    """What to install for a broker; empty if it is there."""
    if name == "mosquitto" and MOSQUITTO is None:
        return "mosquitto is not installed: apt install mosquitto"
    if name == AMQTT and importlib.util.find_spec(AMQTT) is None:
        return "amqtt is not installed: pip install amqtt"
    return ""


def _wait_for(program: Program, port: int) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            program.check()
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback address that nobody listens at."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise LookupError(f"{path} has no {name}")
