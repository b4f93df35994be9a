"""What the daemon's stack costs before its first turn: import time and memory, part by part."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.plan import Plan
from benchmarks.row import Row

GROUP = "validate"

# In the order in which they are imported: a part costs what those before it have not brought.
PARTS = {
    "ssl": "ssl",
    "asyncio": "asyncio",
    "sqlite3": "sqlite3",
    "nacl": "nacl.signing",
    "cbor2": "cbor2",
    "paho": "paho.mqtt.client",
    "hot path": "demesh.wire.validate",
    "the rest of the daemon": (
        "demesh.cli.main, demesh.cli.run, demesh.node, demesh.runtime, demesh.observe.lines, "
        "demesh.storage.store, demesh.transport.client, demesh.wire.identity"
    ),
}

# CPU ns and resident bytes at the start and after each import.
CHILD = """
import json, sys, time
def now():
    for line in open('/proc/self/status'):
        if line.startswith('VmRSS:'):
            return time.process_time_ns(), int(line.split()[1]) * 1024
seen = [now()]
for part in sys.argv[1:]:
    exec('import ' + part)
    seen.append(now())
print(json.dumps(seen))
"""

MEGABYTE = 1_000_000


def rows(plan: Plan) -> Iterator[Row]:
    """Each part, and all of them beside a bare Python."""
    rounds = plan.count(7)
    runs = [_run() for _ in range(rounds)]
    how = f"median of {rounds} new interpreters"

    def median(at: int, of: int) -> float:
        return statistics.median(run[at][of] for run in runs)

    for number, name in enumerate(PARTS, 1):
        steps = [(run[number][0] - run[number - 1][0]) / 1e6 for run in runs]
        grown = [(run[number][1] - run[number - 1][1]) / MEGABYTE for run in runs]
        taken = f"after those before it, {statistics.median(steps):.1f} ms of CPU, {how}"
        yield Row(GROUP, f"memory, import of {name}", statistics.median(grown), "MB", taken)
    bare_ms, bare = median(0, 0) / 1e6, median(0, 1) / MEGABYTE
    last = len(PARTS)
    yield Row(GROUP, "memory, whole stack", median(last, 1) / MEGABYTE, "MB", how, bare, "bare")
    yield Row(GROUP, "import time, whole stack", median(last, 0) / 1e6, "ms", f"CPU, {how}",
              bare_ms, "bare")  # fmt: skip


def _run() -> list[tuple[int, int]]:
    words = [sys.executable, "-c", CHILD, *PARTS.values()]
    said = subprocess.run(words, capture_output=True, check=True, text=True).stdout
    return [(taken, size) for taken, size in json.loads(said)]
