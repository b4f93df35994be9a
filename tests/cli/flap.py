"""Four daemons that trade over a broker that is killed every second: `make flap`.

First beside a second, steady broker, then without one. What is final is read from the boards' own
disks, where it is within a second; how fast it became so, from what they say of it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from cli.mesh import Mesh
from cli.street import Street, Watcher, tip
from transport.brokers import BrokerProcess, embedded
from transport.flapping import Flapping

LOOK_S = 0.25

# How long nothing may be decided while the mesh trades: an agreement takes two seconds, in which
# there need be no decision, and a block is on disk a second later.
STEADY_PAUSE_S = 10.0

# When the flapping ends: a try a second to connect, a standstill's repeats, and a look at the disk.
RESUMED_S = 15.0


@dataclass
class Figures:
    """Of one run."""

    seconds: float
    kills: int = 0
    decided: int = 0
    longest_s: float = 0.0
    resumed_s: float = 0.0
    finality_ms: list[int] = field(default_factory=list)
    memory_kb: list[tuple[int, int]] = field(default_factory=list)  # of each board, early and late
    brokers: list[dict[str, object]] = field(default_factory=list)  # as a board sees them

    def lines(self, title: str) -> list[str]:
        """For a person."""
        found = [
            f"{title}: {self.kills} kills in {self.seconds:.0f} s",
            f"  decided {self.decided}, {self.decided / self.seconds:.2f} a second; "
            f"longest pause {self.longest_s:.1f} s, first after the end {self.resumed_s:.1f} s",
        ]
        if took := sorted(self.finality_ms):
            high = took[min(len(took) - 1, len(took) * 99 // 100)]
            found.append(
                f"  finality p50 {took[len(took) // 2]} ms, p99 {high} ms, max {took[-1]} ms"
            )
        memory = ", ".join(
            f"{early / 1024:.1f} -> {late / 1024:.1f}" for early, late in self.memory_kb
        )
        found.append(f"  memory of the boards, MB: {memory}")
        return found + [f"  {broker}" for broker in self.brokers]


def memory_kb(street: Street) -> list[int]:
    """Resident, of each daemon."""
    found = []
    for process in street.running.values():
        status = Path(f"/proc/{process.pid}/status").read_text()
        found.append(int(status.partition("VmRSS:")[2].split()[0]))
    return found


async def measure(folder: Path, seconds: float, steady: bool) -> Figures:
    """One run; raises AssertionError for what must not be."""
    brokers = [embedded(folder) for _ in range(2 if steady else 1)]
    for broker in brokers:
        broker.start()
    street = Street(Mesh(folder, ",".join(broker.url for broker in brokers)))
    watcher = Watcher(brokers[-1].port)
    boards = street.mesh.boards
    street.mesh.trade(boards[0], boards[1])
    street.mesh.trade(boards[2], boards[3])
    street.start(*boards)
    try:
        await _until(lambda: min(map(tip, boards)) >= 4, 60)
        return await _flapped(street, brokers[0], watcher, seconds, steady)
    finally:
        watcher.close()
        street.kill_all()
        for broker in brokers:
            broker.stop(kill=True)


async def _flapped(
    street: Street, broker: BrokerProcess, watcher: Watcher, seconds: float, steady: bool
) -> Figures:
    boards, figures = street.mesh.boards, Figures(seconds)
    flapping = Flapping(broker)
    watcher.seen.clear()
    first = last = max(map(tip, boards))
    began = moved = time.monotonic()
    early: list[int] = []
    async with flapping.flapping():
        while time.monotonic() < began + seconds:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            if (height := max(map(tip, boards))) > last:
                last, moved = height, now
            figures.longest_s = max(figures.longest_s, now - moved)
            if not early and now > began + seconds / 10:
                early = memory_kb(street)
            assert all(p.poll() is None for p in street.running.values()), "a daemon ended"
            assert not steady or now - moved < STEADY_PAUSE_S, "no decision, beside a steady broker"
    figures.kills, figures.decided = flapping.kills, last - first
    ended = time.monotonic()
    await _until(lambda: min(map(tip, boards)) > last, RESUMED_S)
    figures.resumed_s = time.monotonic() - ended
    figures.memory_kb = list(zip(early, memory_kb(street), strict=True))
    if steady:
        found = [d for t, d in watcher.seen if t == "decision" and d["finality_ms"] is not None]
        figures.finality_ms = [decision["finality_ms"] for decision in found]
        figures.brokers = watcher.last("runtime", boards[0].name).get("brokers", [])
        by_height = {(d["height"], d["root"]) for t, d in watcher.seen if t == "decision"}
        assert len(by_height) == len({height for height, _ in by_height}), "one root per height"
    for board in boards:
        assert "Traceback" not in street.log(board), street.log(board)
    return figures


async def _until(reached, seconds: float) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"not within {seconds:.0f} s"
        await asyncio.sleep(LOOK_S)


def main() -> int:
    """Both runs, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m cli.flap", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of each run (600)")
    seconds = parser.parse_args().seconds
    for steady, title in ((True, "beside a steady broker"), (False, "without another")):
        with tempfile.TemporaryDirectory(prefix="demesh-flap-") as folder:
            try:
                figures = asyncio.run(measure(Path(folder), seconds, steady))
            except AssertionError as error:
                print(f"{title}: {error}")
                return 1
        print("\n".join(figures.lines(title)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
