"""A cluster of PySyncObj on loopback: the Raft that a Python project would take from PyPI."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.programs import Program, free_ports

MISSING = (
    ""
    if importlib.util.find_spec("pysyncobj")
    else "PySyncObj is not installed: pip install '.[bench]' (of make bench: .venv/bin/pip)"
)

NODE = Path(__file__).with_name("pysyncobj_node.py")
START_S = 20.0

# It acts once a tick, and sends entries once a period: with both as short as they still pay, one
# write takes 2 ms instead of 100, and idle nodes talk all day.
TUNED = {"autoTickPeriod": 0.001, "appendEntriesPeriod": 0.002}


@dataclass(frozen=True, slots=True)
class Raft:
    """A running cluster; `leader` is the node that needs no extra hop."""

    programs: tuple[Program, ...]
    leader: Program
    ports: tuple[int, ...]

    def write(self, clients: int, seconds: float, value_bytes: int) -> list[int]:
        """So many clients write for so long, each its next value when one is there; ns each."""
        taken: list[int] = ask(self.leader, (clients, seconds, value_bytes))
        return taken


@contextmanager
def running(folder: Path, nodes: int, settings: Mapping[str, float]) -> Iterator[Raft]:
    """A cluster with empty journals until the block ends."""
    ports = free_ports(nodes)
    addresses = [f"127.0.0.1:{port}" for port in ports]
    folder.mkdir()
    with ExitStack() as stack:
        programs = []
        for number, address in enumerate(addresses):
            others = [one for one in addresses if one != address]
            options = {
                "me": address,
                "others": others,
                "journal": str(folder / f"journal-{number}"),
                "settings": settings,
            }
            command = [sys.executable, str(NODE), json.dumps(options)]
            programs.append(Program(command, folder / f"node-{number}.log", talks=True))
            stack.callback(programs[-1].stop)
        yield Raft(tuple(programs), _leader(programs), tuple(ports))


def _leader(programs: list[Program]) -> Program:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        for program in programs:
            if ask(program, "leader"):
                return program
        time.sleep(0.1)
    raise TimeoutError(f"PySyncObj has no leader after {START_S:g} s")


def ask(program: Program, order: object) -> Any:
    """One order to a node and its answer."""
    return json.loads(program.ask(json.dumps(order)))
