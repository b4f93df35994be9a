"""All groups of benchmarks, and one run of them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks import (
    attack,
    broker,
    brokers,
    claims,
    consensus,
    daemon,
    ledger,
    metering,
    peers,
    quantum,
    street,
    swarm,
    traffic,
    transport,
    validate,
    voters,
)
from benchmarks.plan import ROOT, Plan
from benchmarks.row import Row, Skipped
from demesh.wire.validate import COMPILED

Group = Callable[[Plan], Iterable[Row | Skipped]]

GROUPS: dict[str, Group] = {
    "validate": validate.rows,
    "ledger": ledger.rows,
    "claims": claims.rows,
    "metering": metering.rows,
    "quantum": quantum.rows,
    "street": street.rows,
    "swarm": swarm.rows,
    "broker": broker.rows,
    "brokers": brokers.rows,
    "traffic": traffic.rows,
    "transport": transport.rows,
    "consensus": consensus.rows,
    "attack": attack.rows,
    "peers": peers.rows,
    "voters": voters.rows,
    "daemon": daemon.rows,
}


def run(
    plan: Plan, names: Sequence[str], tell: Callable[[str], None]
) -> tuple[list[Row], list[Skipped]]:
    """Run these groups one after the other: side by side they would measure each other."""
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for name in names:
        began = time.monotonic()
        for found in GROUPS[name](plan):
            if isinstance(found, Row):
                rows.append(found)
            else:
                skipped.append(found)
        tell(f"{name}: {time.monotonic() - began:.0f} s")
    return rows, skipped


def busy_percent(seconds: float = 1.0) -> int:
    """How much of all cores works in so many seconds, while this run does nothing."""
    before = _ticks()
    time.sleep(seconds)
    all_ticks, idle_ticks = (now - then for now, then in zip(_ticks(), before, strict=True))
    return 100 - round(100 * idle_ticks / max(1, all_ticks))


def _ticks() -> tuple[int, int]:
    """(All, idle) ticks of all cores since the start."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]


def machine() -> dict[str, object]:
    """Where and on what this was measured."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": commit,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "busy_percent": busy_percent(),
        "compiled": COMPILED,
        "command": sys.argv,
    }
