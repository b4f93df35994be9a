"""Brokers as processes on free loopback ports: the embedded one, and mosquitto where it is."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

START_S = 10


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class BrokerProcess:
    """A broker that can be frozen, killed and started again on the same port."""

    def __init__(self, command: list[str], port: int) -> None:
        self.port = port
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it listens."""
        self._process = subprocess.Popen(
            self._command,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, "the broker ended"
                assert time.monotonic() < end, "the broker does not listen"

    def freeze(self) -> None:
        """Stop it in mid-life: connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def stop(self, *, kill: bool = False) -> None:
        """End it, politely or not."""
        if self._process is None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait(START_S)
        self._process = None


def embedded(_: Path) -> BrokerProcess:
    """The broker that comes with demesh."""
    port = free_port()
    return BrokerProcess([sys.executable, "-m", "demesh.broker", "--port", str(port)], port)


def mosquitto(folder: Path, extra: str = "allow_anonymous true\n") -> BrokerProcess:
    """The broker of the field, with its files in `folder`; skips where it is not installed."""
    if PROGRAM is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    port, config = free_port(), folder / "mosquitto.conf"
    config.write_text(
        f"user root\n"  # or it gives up the rights to our folder when root runs the tests
        f"listener {port} 127.0.0.1\n{extra}set_tcp_nodelay true\nmax_queued_messages 10000\n"
        f"persistence true\npersistence_location {folder}/\nautosave_interval 1\n"
    )
    return BrokerProcess([PROGRAM, "-c", str(config)], port)


BROKERS = {"embedded": embedded, "mosquitto": mosquitto}
