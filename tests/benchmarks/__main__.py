"""`make bench`: measures, prints one table and writes runs/bench/<time>.json.

PYTHONPATH=tests python -m benchmarks [--quick] [--only GROUP ...]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.plan import ROOT, Plan
from benchmarks.row import table, write_json
from benchmarks.suite import GROUPS, machine, run


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="least counts: does it run at all?")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="GROUP")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench", help="folder of JSON")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    before, began = machine(), time.monotonic()
    with tempfile.TemporaryDirectory(dir=arguments.out, prefix="data-") as folder:
        plan = Plan(Path(folder), quick=arguments.quick)
        rows, skipped = run(plan, arguments.only, lambda text: print(text, file=sys.stderr))
    path = arguments.out / f"{time.strftime('%Y-%m-%dT%H-%M-%S')}.json"
    taken_s, after = time.monotonic() - began, machine()
    busy = [one["busy_percent"] for one in (before, after)]
    write_json(path, rows, skipped, {**before, "load_after": after["load"], "busy_percent": busy})
    print("\n".join(table(rows)))
    for one in skipped:
        print(f"skipped: {one.group}: {one.why}")
    print(
        f"other work held {busy[0]} % of the cores before, {busy[1]} % after: it slows wall times"
    )
    print(f"{taken_s:.0f} s; {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
