"""A mesh of daemons over brokers with logins, and whether it decides, as people see it."""

from __future__ import annotations

import queue

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from cli.mesh import Board, Mesh
from cli.street import Street, Watcher
from demesh.storage.keys import load_key
from demesh.wire import identity
from demesh.wire.topics import VIEWER
from integration.kit import Door


class Viewer(Watcher):
    """A watcher with the login of people; it asks for nothing that this login may not hear."""

    def __init__(self, door: Door) -> None:
        self.seen, self.places, self.gone = [], [], []
        self._new = queue.Queue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, f"{VIEWER}-{id(self)}")
        self._client.username_pw_set(VIEWER, door.passwords[VIEWER])
        self._client.on_connect = lambda client, *_: client.subscribe("demesh/1/+/obs/#", 0)
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect(door.host, door.port)
        self._client.loop_start()


def login_of(board: Board) -> str:
    """A board's login: the text of its id."""
    key = load_key(board.folder / "device.key")
    return identity.text(identity.device_id(bytes(key.verify_key)))


def connect(mesh: Mesh, board: Board, door: Door) -> None:
    """Write a board's configuration for the broker at that door."""
    login = login_of(board)
    secret = board.folder / "broker.password"
    secret.write_text(door.passwords[login])
    secret.chmod(0o600)
    mesh.configure(
        board, door.url, f'username = "{login}"\npassword_file = "broker.password"\nwait_s = 20'
    )


def height(viewers: list[Viewer], board: Board) -> int:
    """The height of a board, from whoever heard it last."""
    return max(viewer.heights(board) for viewer in viewers)


def check_decisions(street: Street, viewer: Viewer, blocks: int = 5) -> None:
    """Everybody comes to `blocks` blocks above the highest, and channels are settled."""
    boards = street.mesh.boards
    goal = max(viewer.heights(board) for board in boards) + blocks
    viewer.until(
        lambda: all(viewer.heights(board) >= goal for board in boards), f"height {goal} everywhere"
    )
    since = len(viewer.seen)
    viewer.until(
        lambda: any(
            event["event"] == "settled"
            for topic, document in viewer.seen[since:]
            if topic == "ledger"
            for event in document["events"]
        ),
        "a channel is settled",
    )
