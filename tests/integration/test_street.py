"""The whole street as processes: it trades, survives what boards and brokers do, and adds up.

Every wait is for an observation, as somebody who watches over MQTT would make it.
"""

import asyncio
import json
import shutil
import signal
import socket
import stat
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from demesh.wire import identity
from demesh_sim.street import Street
from transport.brokers import embedded

SCENARIO = Path(__file__).parents[2] / "configs" / "scenarios" / "street.toml"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")

# Eight interpreters on two cores come up in some seconds; CI machines are slower and shared.
UP_S = 60
SOON_S = 40

pytestmark = pytest.mark.xdist_group("street")  # one street at a time: they need the cores


class Lookout:
    """Waits until something was observed."""

    def __init__(self, street):
        self.street, self.picture = street, street.picture
        self.documents = []
        self._changed = asyncio.Event()
        street.observer.heard = self._heard

    def _heard(self, board, topic, document):
        self.documents.append((board, topic, document))
        self._changed.set()

    async def until(self, seen, what, within_s=SOON_S):
        try:
            async with asyncio.timeout(within_s):
                while not seen():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            lines = "\n".join(f"{line.who}: {line.text}" for line in self.picture.lines)
            pytest.fail(f"not seen in {within_s} s: {what}\n{lines}")

    async def everybody_decides(self):
        boards = self.picture.boards.values()
        await self.until(
            lambda: all(board.up and board.voting and board.height > 0 for board in boards),
            "all boards up, voting and with a block",
            UP_S,
        )

    async def further(self, blocks=5, within_s=SOON_S):
        goal = self.picture.height + blocks
        await self.until(lambda: self.picture.height >= goal, f"height {goal}", within_s)

    async def settled(self, more=1):
        goal = self.picture.settled_total + more
        await self.until(lambda: self.picture.settled_total >= goal, f"{goal} channels settled")

    def flows(self):
        return self.picture.flows(self.street.observer.now_ms())

    def said(self, text, since=0):
        return [
            board
            for board, topic, document in self.documents[since:]
            if topic == "event" and text in document.get("text", "")
        ]


@asynccontextmanager
async def watched(tmp_path, *brokers):
    """A street, and its lookout while it runs; afterwards its books are good."""
    street = Street(SCENARIO, tmp_path / "runs", brokers)
    async with street.running():
        lookout = Lookout(street)
        await lookout.everybody_decides()
        yield street, lookout
        await lookout.until(lambda: street.picture.height > 12, "a chain worth an audit")
    summary = street.summary()
    assert summary.missing == ()
    assert not any(child.running for child in street.boards.values())


@asynccontextmanager
async def mosquitto(folder):
    """Debian's broker on a free port of the loopback interface."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is missing: sudo apt install mosquitto")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"
        "max_queued_messages 10000\n"
    )
    process = await asyncio.create_subprocess_exec(
        MOSQUITTO, "-c", str(configuration), stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(10):
            while b"running" not in await process.stderr.readline():
                pass
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def test_boards_trade_over_the_embedded_broker_and_the_books_add_up(tmp_path):
    async with watched(tmp_path) as (street, lookout):
        await lookout.settled(3)
    assert street.picture.sold_wh > 0
    observed = (street.folder / "observations.jsonl").read_text().splitlines()
    assert {json.loads(line)["topic"] for line in observed} >= {
        "state",
        "decision",
        "ledger",
        "metering",
        "event",
    }
    latest = tmp_path / "runs" / "latest"
    assert latest.resolve() == street.folder
    keys = list(street.folder.rglob("*.key"))
    assert len(keys) == 19
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


async def test_boards_trade_over_mosquitto(tmp_path):
    async with mosquitto(tmp_path) as url, watched(tmp_path, url) as (_, lookout):
        await lookout.settled(2)


async def test_boards_of_two_brokers_trade_on_when_one_is_lost_and_the_books_add_up(tmp_path):
    lost = embedded(tmp_path)
    await asyncio.to_thread(lost.start)
    try:
        async with (
            mosquitto(tmp_path) as url,
            watched(tmp_path, lost.url, url) as (street, lookout),
        ):
            await lookout.settled(1)
            lost.stop(kill=True)
            await lookout.settled(2)
            assert street.observer.url == url  # whoever looks on loses as little
    finally:
        lost.stop(kill=True)


async def test_a_board_killed_while_it_sells_comes_back_and_goes_on(tmp_path):
    async with watched(tmp_path) as (street, lookout):
        await lookout.until(lookout.flows, "energy flows")
        flow = lookout.flows()[0]
        name = flow.provider
        agreement = next(
            key for key, session in lookout.picture.sessions.items() if session is flow
        )
        height = lookout.picture.boards[name].height
        await street.kill(name)
        await lookout.until(lambda: not lookout.picture.boards[name].up, f"{name} is gone")
        await lookout.further()
        since = len(lookout.documents)
        await street.start(name)
        board = lookout.picture.boards[name]
        await lookout.until(
            lambda: board.up and board.voting and board.height > height, f"{name} votes again"
        )
        await lookout.until(
            lambda: any(
                who == name and topic == "decision" and document.get("mine")
                for who, topic, document in lookout.documents[since:]
            ),
            f"{name} leads a view again",
        )
        await lookout.until(
            lambda: any(
                event["event"] == "settled" and event["agreement"] == agreement
                for _, topic, document in lookout.documents
                if topic == "ledger"
                for event in document["events"]
            ),
            "the channel it was serving when it died is settled",
        )


async def test_two_dead_boards_do_not_stop_decisions_and_three_do_until_one_returns(tmp_path):
    async with watched(tmp_path) as (street, lookout):
        await street.kill("feeder")
        await street.kill("ada-meter")
        await lookout.further(8)

        await street.kill("boris-meter")
        since = len(lookout.documents)
        await lookout.until(
            lambda: lookout.said("no quorum: have 5 of 8, need 6", since), "no quorum"
        )
        stuck = lookout.picture.height
        repeated = len(lookout.documents)
        await lookout.until(lambda: lookout.said("no quorum", repeated), "still no quorum")
        assert (
            lookout.picture.height <= stuck + 1
        )  # one may have been decided before the third died

        await street.start("ada-meter")
        await lookout.further(8, UP_S)
        await street.start("feeder")
        await street.start("boris-meter")
        boards = lookout.picture.boards.values()
        await lookout.until(
            lambda: all(b.up and b.height > stuck + 8 for b in boards), "all caught up", UP_S
        )


async def test_a_broker_killed_and_restarted_stops_nothing_for_good(tmp_path):
    async with watched(tmp_path) as (street, lookout):
        await lookout.settled()
        assert street.broker.child is not None
        street.broker.child.kill()
        await street.broker.child.ended()
        since = len(lookout.documents)
        await street.broker.start()
        await lookout.until(
            lambda: {board for board, _, _ in lookout.documents[since:]} == set(street.boards),
            "every board is back at the broker",
        )
        await lookout.further(8)
        await lookout.settled()


async def test_garbage_on_every_protocol_topic_is_counted_and_otherwise_ignored(tmp_path):
    async with watched(tmp_path) as (street, lookout):
        ids = street.ids
        base = f"demesh/1/{identity.text(street.founded.mesh_id[:16])}"
        topics = [f"{base}/{area}/{ids['feeder']}" for area in ("vote", "op", "tip", "card")]
        topics += [f"{base}/to/{ids[name]}/{ids['feeder']}" for name in ids]
        topics += [f"{base}/vote/nobody", f"{base}/gone/{ids['ada-meter']}"]
        frames = [b"", b"\xff", b"garbage", bytes(200), b"\xd2\x84" + bytes(90), bytes(70_000)]
        host, port = street.observer.url.removeprefix("mqtt://").split(":")
        async with aiomqtt.Client(host, int(port)) as stranger:
            for topic in topics:
                for frame in frames:
                    await stranger.publish(topic, frame, qos=1)
        # The feeder takes what is published in its name for its own and does not even look.
        others = [b for b in lookout.picture.boards.values() if b.name != "feeder"]
        await lookout.until(
            lambda: all({"SIZE", "SHAPE", "TOPIC"} <= b.rejects.keys() for b in others),
            "every board has counted what it threw away",
        )
        await lookout.further(8)
        await lookout.settled()


def left_over(folder):
    """Processes that still have to do with a folder."""
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if str(folder) in line]


def command(*arguments):
    return [sys.executable, "-m", "demesh", "swarm", "run", str(SCENARIO), *arguments]


def test_an_unreachable_broker_is_one_line_and_exit_code_75(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = subprocess.run(
        command("--broker", f"mqtt://127.0.0.1:{port}"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 75
    assert done.stderr.startswith(f"demesh: broker mqtt://127.0.0.1:{port} cannot be used")
    assert done.stderr.count("\n") == 1


async def test_ctrl_c_ends_a_run_cleanly_with_its_summary(tmp_path):
    process = await asyncio.create_subprocess_exec(
        *command("--plain", "--duration", "120"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    async with asyncio.timeout(UP_S):
        while b"quorum" not in await process.stdout.readline():
            pass
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(UP_S):
        output, errors = await process.communicate()
    assert b"state root at the common height" in output
    assert errors == b""
    assert process.returncode in (0, 130)  # by what the boards had decided until then
    assert not left_over(tmp_path)
