"""A cluster of etcd on loopback, and a client of its HTTP/JSON gateway."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.programs import Program, free_ports

ETCD = shutil.which("etcd")
MISSING = "" if ETCD else "etcd is not installed: apt install etcd-server"

START_S = 20.0


@dataclass(frozen=True, slots=True)
class Etcd:
    """A running cluster; `leader` is the port of the node that needs no extra hop."""

    programs: tuple[Program, ...]
    leader: int
    peers: tuple[int, ...]

    async def write(self, clients: int, seconds: float, value_bytes: int) -> list[int]:
        """So many clients write for so long, each its next value when one is there; ns each."""
        taken: list[int] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for client in range(clients):
                    group.create_task(self._write(client, bytes(value_bytes), taken))
        return taken

    async def _write(self, client: int, value: bytes, taken: list[int]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.leader)
        try:
            for number in itertools.count():
                put = {"key": _text(b"%d/%d" % (client, number)), "value": _text(value)}
                began = time.monotonic_ns()
                await _post(reader, writer, json.dumps(put).encode())
                taken.append(time.monotonic_ns() - began)
        finally:
            writer.close()


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
    head = f"POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200"), answer
    size = answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(size))


@contextmanager
def running(folder: Path, nodes: int) -> Iterator[Etcd]:
    """A cluster with empty disks, at its defaults, until the block ends."""
    assert ETCD is not None, "look at MISSING first"
    ports = free_ports(2 * nodes)
    clients, peers = ports[:nodes], ports[nodes:]
    urls = [f"http://127.0.0.1:{port}" for port in peers]
    cluster = ",".join(f"n{number}={url}" for number, url in enumerate(urls))
    with ExitStack() as stack:
        programs = []
        for number, url in enumerate(urls):
            client = f"http://127.0.0.1:{clients[number]}"
            command = [
                ETCD, "--name", f"n{number}", "--data-dir", str(folder / f"etcd-{number}"),
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", url, "--initial-advertise-peer-urls", url,
                "--initial-cluster", cluster, "--initial-cluster-state", "new",
                "--log-level", "error",
            ]  # fmt: skip
            programs.append(Program(command, folder / f"etcd-{number}.log"))
            stack.callback(programs[-1].stop)
        yield Etcd(tuple(programs), _leader(clients, programs), tuple(peers))


def _leader(clients: list[int], programs: list[Program]) -> int:
    """Wait for all nodes to be healthy; the leader's client port."""
    end = time.monotonic() + START_S
    while True:
        try:
            states = [_status(port) for port in clients]
        except OSError:
            states = []
        for port, state in zip(clients, states, strict=False):
            if state["header"]["member_id"] == state.get("leader"):
                return port
        for program in programs:
            program.check()
        if time.monotonic() > end:
            raise TimeoutError(f"etcd has no leader after {START_S:g} s")
        time.sleep(0.1)


def _status(port: int) -> dict[str, dict[str, str]]:
    url = f"http://127.0.0.1:{port}/v3/maintenance/status"
    with urllib.request.urlopen(url, b"{}", timeout=5) as answer:
        state: dict[str, dict[str, str]] = json.load(answer)
        return state


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
