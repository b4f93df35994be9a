"""One mesh at two sites over bridged brokers: it decides, and goes on when the bridge is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.mesh import Board, Mesh
from cli.street import Street
from demesh.wire import identity
from integration.callers import Answer, calling, listening, spoken_by
from integration.decisions import Viewer, check_decisions, connect, login_of
from integration.kit import Mosquitto, passwords_for
from integration.line import Line

pytestmark = pytest.mark.xdist_group("street")  # one street at a time: they need the cores

ANNA, BORIS, CAROL = (identity.text(bytes([number] * 16)) for number in (1, 2, 3))
BRIDGE = "bridge-east"

# What docs/brokers.md promises: the bridge comes back within 5 s, and the mesh needs seconds.
RESUMED_S = 15

# Twenty blocks' time when all is well.
STILL_S = 5

# A line that is dead in silence: given up after one and a half keep-alives of 10 s.
NOTICED_S = 20


@dataclass
class Sites:
    """Two brokers with a line between them."""

    west: Mosquitto
    east: Mosquitto
    line: Line

    def start(self) -> None:
        self.west.process.start()
        self.east.process.start()

    def close(self) -> None:
        self.line.close()
        self.east.process.stop()
        self.west.process.stop()


def sites(folder: Path, in_the_west: tuple[str, ...], in_the_east: tuple[str, ...]) -> Sites:
    """The kit's two brokers, each with the logins of its side."""
    folder.mkdir(exist_ok=True)
    west = Mosquitto(folder / "west", passwords_for((*in_the_west, BRIDGE)))
    west.allow("bridged/acl")
    east = Mosquitto(folder / "east", passwords_for(in_the_east))
    line = Line(west.port)
    east.drop_in(
        "bridged/bridge.conf",
        {
            "address west.example:1883": f"address 127.0.0.1:{line.port}",
            "remote_password CHANGE-ME": f"remote_password {west.door.passwords[BRIDGE]}",
        },
    )
    return Sites(west, east, line)


@pytest.fixture(scope="module")
def bridged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    made = sites(tmp_path_factory.mktemp("bridged"), (ANNA, BORIS), (CAROL,))
    made.start()
    yield made
    made.close()


def test_what_is_said_at_one_site_is_heard_once_at_the_other_and_once_at_its_own(
    bridged: Sites,
) -> None:
    west, east = bridged.west.door, bridged.east.door
    for speaker, here, there, listener, neighbour in (
        (ANNA, west, east, CAROL, BORIS),
        (CAROL, east, west, BORIS, CAROL),
    ):
        with (
            calling(here, speaker) as speaking,
            listening(there, listener) as (far, _),
            listening(here, neighbour) as (near, _),
        ):
            topic = spoken_by(speaker, ANNA)["vote"]
            for number in range(20):
                assert speaking.publish(topic, b"%d" % number) is Answer.TAKEN
            assert far.hears(topic, b"19") and near.hears(topic, b"19")
            # What the bridge brings back comes before what is said after it.
            assert speaking.publish(topic, b"end") is Answer.TAKEN
            assert far.hears(topic, b"end") and near.hears(topic, b"end")
            said = [(topic, b"%d" % number) for number in range(20)]
            assert [one for one in far.heard if one[0] == topic] == [*said, (topic, b"end")]
            assert [one for one in near.heard if one[0] == topic] == [*said, (topic, b"end")]


def test_what_is_retained_at_one_site_is_retained_at_the_other(bridged: Sites) -> None:
    topic = spoken_by(ANNA, CAROL)["card"]
    with calling(bridged.east.door, CAROL) as device, calling(bridged.west.door, ANNA) as speaker:
        assert device.subscribe(topic) is Answer.TAKEN
        assert speaker.publish(topic, b"card", retain=True) is Answer.TAKEN
        assert device.hears(topic, b"card")
    with calling(bridged.east.door, CAROL) as latecomer:
        assert latecomer.subscribe(topic) is Answer.TAKEN
        assert latecomer.hears(topic, b"card")


def test_a_device_of_one_site_speaks_for_nobody_at_the_other(bridged: Sites) -> None:
    topic = spoken_by(BORIS, CAROL)["vote"]
    with listening(bridged.east.door, CAROL) as (device, _):
        with calling(bridged.west.door, ANNA) as false:
            assert false.publish(topic, b"spoof") is Answer.REFUSED
        with calling(bridged.west.door, BORIS) as true:
            assert true.publish(topic, b"true") is Answer.TAKEN
        assert device.hears(topic, b"true")
        assert (topic, b"spoof") not in device.heard


def test_nobody_at_the_other_site_hears_the_letters_between_two(bridged: Sites) -> None:
    topic = spoken_by(ANNA, BORIS)["to"]
    with calling(bridged.east.door, CAROL) as eavesdropper:
        eavesdropper.subscribe(topic, "demesh/#")
        with calling(bridged.west.door, ANNA) as sender:
            assert sender.publish(topic, b"letter") is Answer.TAKEN
            own = spoken_by(ANNA, CAROL)["to"]
            assert sender.publish(own, b"for you") is Answer.TAKEN
        assert eavesdropper.hears(own, b"for you")
        assert (topic, b"letter") not in eavesdropper.heard


@dataclass
class Town:
    """A mesh with boards at both sites."""

    made: Sites
    street: Street
    west: Viewer
    east: Viewer
    in_the_west: tuple[Board, ...]
    in_the_east: tuple[Board, ...]

    def height(self, board: Board) -> int:
        return max(self.west.heights(board), self.east.heights(board))

    def further(self, boards: tuple[Board, ...], viewer: Viewer, blocks: int = 5) -> None:
        goal = max(map(self.height, self.street.mesh.boards)) + blocks
        viewer.until(
            lambda: all(viewer.heights(board) >= goal for board in boards), f"height {goal}"
        )

    def stands_still(self) -> int:
        """Wait until people are told that nothing is decided; the height then."""
        since = len(self.west.seen)
        self.west.until(
            lambda: any(
                topic == "event" and ": heard 2 of 4 lately, need 3" in document["text"]
                for topic, document in self.west.seen[since:]
            ),
            "two of four are not heard where something waits for a decision",
        )
        return max(map(self.height, self.street.mesh.boards))


@pytest.fixture
def town(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Town]:
    """Four boards, of which the first two trade; as many as the parameter says in the west."""
    mesh = Mesh(tmp_path, "mqtt://127.0.0.1:1")
    split: int = request.param
    west, east = tuple(mesh.boards[:split]), tuple(mesh.boards[split:])
    made = sites(tmp_path / "sites", tuple(map(login_of, west)), tuple(map(login_of, east)))
    for boards, site in ((west, made.west), (east, made.east)):
        for board in boards:
            connect(mesh, board, site.door)
    mesh.trade(mesh.boards[0], mesh.boards[1])
    made.start()
    viewers = Viewer(made.west.door), Viewer(made.east.door)
    street = Street(mesh)
    try:
        street.start(*mesh.boards)
        yield Town(made, street, *viewers, west, east)
    finally:
        street.kill_all()
        for viewer in viewers:
            viewer.close()
        made.close()


def seconds(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


@pytest.mark.parametrize("town", [3], indirect=True)
def test_the_side_with_a_quorum_goes_on_without_the_bridge_and_the_other_catches_up(
    town: Town,
) -> None:
    check_decisions(town.street, town.west)
    town.made.line.cut()
    town.further(town.in_the_west, town.west, 8)
    left_behind = town.in_the_east[0]
    behind = town.west.heights(town.in_the_west[0]) - town.east.heights(left_behind)
    assert behind >= 6
    town.made.line.mend()
    took = seconds(lambda: town.further(town.in_the_east, town.east))
    assert took < RESUMED_S
    check_decisions(town.street, town.west)


@pytest.mark.parametrize("how", ["cut", "go_dead"])
@pytest.mark.parametrize("town", [2], indirect=True)
def test_two_halves_decide_nothing_without_the_bridge_and_go_on_with_it(
    town: Town, how: str
) -> None:
    check_decisions(town.street, town.west)
    getattr(town.made.line, how)()
    stuck = town.stands_still()
    town.made.line.mend()
    took = seconds(lambda: town.further(town.street.mesh.boards, town.west))
    assert took < RESUMED_S + (NOTICED_S if how == "go_dead" else 0)
    assert stuck < min(map(town.height, town.street.mesh.boards))
