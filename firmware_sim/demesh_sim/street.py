"""A scenario as real processes: a broker, one `demesh run` per board, and an observer.

    runs/<time>/genesis.cbor, scenario.toml, cable, observations.jsonl, broker.log
    runs/<time>/owners/<name>.key
    runs/<time>/<board>/demesh.toml, device.key, vote.key, log.txt, data/

The boards know nothing of this orchestrator; it knows of them what it observes over MQTT and
whether their processes run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from demesh.config import BuyPolicy, SellPolicy
from demesh.errors import DemeshError, StorageError
from demesh.storage.sqlite import Database
from demesh.wire import identity
from demesh_sim import founding
from demesh_sim import scenario as scenarios
from demesh_sim.audit import audit
from demesh_sim.driver import FileCable
from demesh_sim.founding import Founded
from demesh_sim.observer import Observer
from demesh_sim.physics import DAY, MINUTE, DayClock
from demesh_sim.picture import Picture, seen
from demesh_sim.processes import Child, EmbeddedBroker, end_all
from demesh_sim.scenario import Scenario
from demesh_sim.summary import BAD, INTERRUPTED, Run, Summary, feeders, summarize
from demesh_sim.view import Scene, View, title

# Four frames a second: movement is seen, and the terminal costs less than one board.
FRAME_S = 0.25

LATEST = "latest"


class NothingDecidedError(DemeshError):
    """There is nothing to sum up: the run was too short."""

    exit_code = BAD


class InterruptedEarlyError(NothingDecidedError):
    """There is nothing to sum up, and whoever pressed Ctrl-C knows why."""

    exit_code = INTERRUPTED


class Street:
    """A running street. Use as `async with street.running():`."""

    def __init__(self, path: Path, runs: Path, brokers: tuple[str, ...] = ()) -> None:
        """Lay out a run below `runs`; with a broker of ours if none is given. DemeshError."""
        self.scenario: Scenario = scenarios.load(path)
        self.founded: Founded = founding.found(self.scenario, int(time.time()))
        self.folder = _new_folder(runs)
        self._given = brokers
        founding.settle(self.founded, self.folder)
        shutil.copyfile(path, self.folder / "scenario.toml")
        FileCable.create(self.folder / "cable", len(self.scenario.board))
        self.ids = {board.plan.name: identity.text(board.id) for board in self.founded.boards}
        self.picture = Picture(seen(self.founded))
        self.broker = EmbeddedBroker(self.folder / "broker.log")
        self.boards: dict[str, Child] = {}
        self.observer: Observer | None = None
        self.clock = DayClock(0, self.scenario.clock.starts_minute, self.scenario.clock.speed_up)
        self.stop = asyncio.Event()  # please end
        self.hurry = asyncio.Event()  # at once
        self.wall_ms = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Observer]:
        """Broker, observer and boards, until the end of the block; raises TemporaryError."""
        watchers: list[asyncio.Task[None]] = []
        try:
            observer = await self._connect()
            watchers.append(asyncio.create_task(observer.run(), name="observer"))
            if self.broker.child is not None:
                watchers.append(self._notice_end(self.broker.child))
            await observer.ready.wait()
            began = time.monotonic_ns()
            self._lay_out(self._given or (self.broker.url,))
            for name in self.boards:
                watchers.append(await self.start(name))
            yield observer
            self.wall_ms = (time.monotonic_ns() - began) // 1_000_000
        finally:
            await end_all(list(self.boards.values()), self.hurry)
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
            if self.broker.child is not None:
                await end_all([self.broker.child], self.hurry)

    async def start(self, name: str) -> asyncio.Task[None]:
        """Start a board, for the first time or again; its end is noticed and shown."""
        await self.boards[name].start()
        return self._notice_end(self.boards[name])

    async def kill(self, name: str) -> None:
        """SIGKILL a board and wait until it is gone."""
        self.boards[name].kill()
        await self.boards[name].ended()

    async def show(self, view: View, duration_s: int) -> None:
        """Show the street until the time is over, somebody stops it, or no board is left."""
        assert self.observer is not None
        while not self.stop.is_set() and self.observer.now_ms() < duration_s * 1000:
            if not any(child.running for child in self.boards.values()):
                break
            view.show(self.scene(duration_s))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), FRAME_S)
        view.show(self.scene(duration_s))

    def scene(self, duration_s: int) -> Scene:
        """What is to be seen now."""
        assert self.observer is not None
        day, into = divmod(self.clock.simulated(time.monotonic_ns()), DAY)
        return Scene(
            self.picture,
            title(self.scenario),
            self.observer.url,
            self.observer.now_ms(),
            duration_s * 1000,
            day,
            into // MINUTE,
        )

    def summary(self) -> Summary:
        """The books of all boards, after the end."""
        with contextlib.ExitStack() as stack:
            books = {}
            for name in self.boards:
                place = self.folder / name / "data" / "ledger.db"
                if place.exists():
                    database = Database(place, self.founded.mesh_id)
                    stack.callback(database.close)
                    books[name] = database
            if not books:
                text = "ended before any board kept a ledger; there is nothing to sum up"
                raise (InterruptedEarlyError if self.stop.is_set() else NothingDecidedError)(text)
            found = audit(self.founded.genesis, books)
        simulated_s = self.wall_ms * self.scenario.clock.speed_up // 1000
        run = Run(
            self.wall_ms,
            simulated_s,
            self.picture.sold_wh,
            self.picture.finality_ms,
            feeders(self.scenario, self.picture),
            interrupted=self.stop.is_set(),
        )
        return summarize(found, run)

    async def _connect(self) -> Observer:
        if not self._given:
            await self.broker.start()
        names = {text: name for name, text in self.ids.items()}
        record = self.folder / "observations.jsonl"
        urls = self._given or (self.broker.url,)
        self.observer = Observer(urls, self.founded.mesh_id, names, self.picture, record)
        await self.observer.check()
        return self.observer

    def _lay_out(self, urls: tuple[str, ...]) -> None:
        """Write the boards' configurations; the simulated day begins now."""
        self.clock = DayClock(time.monotonic_ns(), self.clock.starts_minute, self.clock.speed_up)
        epoch_ms = time.time_ns() // 1_000_000
        for board in self.founded.boards:
            place = self.folder / board.plan.name
            text = configuration(board.plan, self.scenario, self.folder, urls, epoch_ms)
            (place / "demesh.toml").write_text(text, "utf-8")
            arguments = ["-m", "demesh", "run", "--config", str(place / "demesh.toml")]
            self.boards[board.plan.name] = Child(board.plan.name, arguments, place / "log.txt")

    def _notice_end(self, child: Child) -> asyncio.Task[None]:
        return asyncio.create_task(self._watch(child), name=child.name)

    async def _watch(self, child: Child) -> None:
        """Show the end of a process that nobody asked for."""
        code = await child.ended()
        assert self.observer is not None
        self.picture.gone(self.ids.get(child.name, ""))
        if code is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            text = f"{how}; last in its log: {child.last_line()}"
            self.picture.say(child.name, text, self.observer.now_ms())


async def run(street: Street, open_view: Callable[[str], View], duration_s: int) -> None:
    """Run a street to its end; SIGINT and SIGTERM end it early, a second one at once.

    `open_view` is given the broker's address once boards are about to appear there.
    """
    loop = asyncio.get_running_loop()

    def signalled() -> None:
        (street.hurry if street.stop.is_set() else street.stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled)
    async with street.running() as observer:
        view = open_view(observer.url)
        try:
            await street.show(view, duration_s)
        finally:
            view.close()


def configuration(
    plan: scenarios.Board, scenario: Scenario, folder: Path, urls: tuple[str, ...], epoch_ms: int
) -> str:
    """The demesh.toml of a board, whose folder lies in that of the run."""
    lines = [
        "[device]",
        *_entries(name=plan.name, driver="simulated", report_s=scenarios.REPORT_S),
        *_entries(**{"class": plan.device_class}),
        "[driver]",
        *_entries(
            scenario=str(folder / "scenario.toml"),
            board=plan.name,
            epoch_ms=epoch_ms,
            cable=str(folder / "cable"),
        ),
        "[mesh]",
        *_entries(genesis="../genesis.cbor", profile=scenario.mesh.patience),
    ]
    for url in urls:
        lines += ["[[broker]]", *_entries(url=url)]
    policies: tuple[tuple[str, SellPolicy | BuyPolicy | None], ...] = (
        ("sell", plan.sell),
        ("buy", plan.buy),
    )
    for name, policy in policies:
        if policy is not None:
            said = {key: value for key, value in asdict(policy).items() if value is not None}
            lines += [f"[market.{name}]", *_entries(**said)]
    return "\n".join(lines) + "\n"


def _entries(**values: str | int) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in values.items()]


def _new_folder(runs: Path) -> Path:
    """A folder named by the time, and `latest` pointing at it; raises StorageError."""
    name = datetime.now().astimezone().strftime("%Y-%m-%dT%H-%M-%S")
    try:
        runs.mkdir(parents=True, exist_ok=True)
        folder = runs / name
        number = 1
        while folder.exists():
            number += 1
            folder = runs / f"{name}.{number}"
        folder.mkdir(mode=founding.FOLDER_MODE)
        fresh = runs / f"{LATEST}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(folder.name)
        fresh.replace(runs / LATEST)
    except OSError as error:
        raise StorageError(f"{runs}: cannot hold a run: {error.strerror}") from None
    return folder.resolve()
