"""Daemons as processes, and what a person sees of them."""

from __future__ import annotations

import json
import queue
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from cli.mesh import Board, Mesh

PATIENCE_S = 40

Document = dict[str, Any]


class Watcher:
    """What a person with mosquitto_sub sees: every observation, by device and topic."""

    def __init__(self, port: int) -> None:
        self.seen: list[tuple[str, Document]] = []
        self.places: list[tuple[tuple[str, str], Document]] = []
        self.gone: list[bytes] = []
        self.votes = 0
        self._new: queue.Queue[None] = queue.Queue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain)

    def topics(self, name: str) -> tuple[str, str]:
        """Mesh and device as they stand in the topics of the board of that name."""
        return next(place for place, d in self.places if d.get("name") == name)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            left = end - time.monotonic()
            assert left > 0, f"not seen: {what}"
            try:
                self._new.get(timeout=min(left, 1))
            except queue.Empty:
                continue

    def last(self, topic: str, name: str) -> Document:
        """The last document of a topic from the board of that name."""
        return next((d for t, d in reversed(self.seen) if t == topic and d["name"] == name), {})

    def heights(self, board: Board) -> int:
        return int(self.last("state", board.name).get("height", -1))

    def hear_votes(self) -> None:
        """Count votes from now on."""
        self._client.subscribe("demesh/1/+/vote/+", 0)

    def _on_connect(self, client: paho.Client, *_: object) -> None:
        client.subscribe([("demesh/1/+/obs/#", 0), ("demesh/1/+/gone/+", 0)])

    def _on_message(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        levels = message.topic.split("/")
        if levels[3] == "vote":
            self.votes += 1
        elif levels[3] == "gone":
            self.gone.append(message.payload)
        else:
            document = json.loads(message.payload)
            self.seen.append(("/".join(levels[5:]), document))
            self.places.append(((levels[2], levels[4]), document))
        self._new.put(None)


class Street:
    """The boards of a mesh as processes, ended one by one."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.running: dict[str, subprocess.Popen[str]] = {}

    def start(self, *boards: Board, file_bytes_max: int | None = None) -> None:
        for board in boards:
            self.running[board.name] = self.mesh.start(board, file_bytes_max)

    def end(self, board: Board, number: signal.Signals) -> int:
        process = self.running.pop(board.name)
        process.send_signal(number)
        return process.wait(PATIENCE_S)

    def log(self, board: Board) -> str:
        """All it said."""
        return (board.folder / "log.txt").read_text()

    def kill_all(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait(PATIENCE_S)


def everybody_up(street: Street, watcher: Watcher) -> None:
    boards = street.mesh.boards
    watcher.until(
        lambda: all(len(watcher.last("state", b.name).get("up", ())) == 4 for b in boards),
        "everybody up, for everybody",
    )


def tip(board: Board) -> int:
    """The height of the last block on a board's disk."""
    path = board.folder / "data" / "ledger.db"
    if not path.exists():
        return -1
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT ifnull(max(height), 0) FROM blocks").fetchone()[0])
    except sqlite3.OperationalError:  # being written, or not laid out yet
        return -1
