"""RabbitMQ as the kit configures it: a mesh decides over it, and nobody speaks for another."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cli.mesh import Board, Mesh
from cli.street import Street
from demesh.wire import identity
from demesh.wire.topics import VIEWER
from integration.callers import (
    SPOOFS,
    Answer,
    calling,
    check_letters,
    check_retained_spoof,
    check_spoof,
    check_take_over,
    check_will_spoof,
    spoken_by,
)
from integration.decisions import Viewer, check_decisions, connect, login_of
from integration.kit import KIT, Door, Rabbit, passwords_for
from wire.test_topics import allowed

# One node for all, and one street at a time: they need the cores.
pytestmark = pytest.mark.xdist_group("street")

ANNA, BORIS, CAROL = (identity.text(bytes([number] * 16)) for number in (1, 2, 3))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    rabbit = Rabbit(tmp_path_factory.mktemp("rabbitmq"))
    try:
        rabbit.start()
        yield rabbit
    finally:
        rabbit.stop()


@pytest.fixture(scope="module")
def door(node: Rabbit) -> Door:
    """With the logins that `add-device` made."""
    passwords = passwords_for((ANNA, BORIS, CAROL))
    for login, password in passwords.items():
        node.add(login, password)
    return Door(node.port, passwords, 4)


@pytest.mark.parametrize("words", [[], [""], ["+"], ["a.*"], ["a b"], ["$(id)"]])
def test_a_name_that_is_no_id_gets_no_login(words: list[str]) -> None:
    add = KIT / "rabbitmq" / "add-device"
    done = subprocess.run([add, *words], capture_output=True, text=True, timeout=10, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "expected the id of a device" in done.stderr


def test_the_rights_that_a_device_is_given_are_those_of_the_acl(tmp_path: Path) -> None:
    listing = tmp_path / "rabbitmqctl"
    listing.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >>"$0.said"\n')
    listing.chmod(0o755)
    said = tmp_path / "rabbitmqctl.said"
    areas = [*spoken_by(ANNA, BORIS).values(), *spoken_by(BORIS, ANNA).values()]
    filters = ["demesh/1/+/vote/+", "demesh/1/+/obs/#", "demesh/1/+/to/+/+", "demesh/1/#", "#"]
    asked = 0
    for login in (ANNA, VIEWER):
        said.unlink(missing_ok=True)
        path = f"{tmp_path}:{os.environ['PATH']}"
        subprocess.run([KIT / "rabbitmq" / "add-device", login], check=True, env={"PATH": path})
        write, read = said.read_text().splitlines()[-2:]
        for access, pattern in (("write", write), ("read", read)):
            for topic in (*areas, *(filters if access == "read" else ())):
                key = topic.replace("/", ".").replace("+", "*")
                given = re.search(pattern.replace("{username}", login), key) is not None
                granted = allowed(login, access, topic)
                if login == VIEWER:  # the ACL's patterns let it hear more than it needs
                    granted = granted and "/obs/" in topic
                assert given == granted, (login, access, topic)
                asked += given
    assert asked > 10


@pytest.mark.parametrize("area", SPOOFS)
def test_who_speaks_in_anothers_name_is_thrown_out_and_reaches_nobody(
    door: Door, area: str
) -> None:
    assert check_spoof(door, area, ANNA, BORIS, CAROL) is Answer.CLOSED


def test_nothing_retained_is_left_or_taken_away_in_anothers_name(door: Door) -> None:
    check_retained_spoof(door, ANNA, BORIS, CAROL)


def test_a_will_in_anothers_name_is_not_said(door: Door) -> None:
    assert check_will_spoof(door, ANNA, BORIS, CAROL), "RabbitMQ looks at a will when it is due"


def test_letters_reach_who_they_are_for_and_nobody_else(door: Door) -> None:
    assert check_letters(door, ANNA, BORIS, CAROL) == {Answer.CLOSED}


def test_who_takes_anothers_client_id_cuts_him_off_and_is_thrown_out(door: Door) -> None:
    assert check_take_over(door, ANNA, BORIS, CAROL) == (False, True)


@pytest.mark.parametrize("login, password", [(None, None), (ANNA, "wrong"), ("", ""), ("x", "x")])
def test_who_has_no_login_is_refused(door: Door, login: str | None, password: str | None) -> None:
    with calling(door, login, password=password) as caller:
        assert not caller.connected


def test_retained_messages_reach_who_asks_for_the_very_topic_and_not_for_a_wildcard(
    door: Door,
) -> None:
    topic = spoken_by(BORIS, CAROL)["card"]
    with calling(door, BORIS) as speaker:
        assert speaker.publish(topic, b"card", retain=True) is Answer.TAKEN
        with calling(door, CAROL) as exact, calling(door, ANNA) as wildcard:
            assert exact.subscribe(topic) is Answer.TAKEN
            assert wildcard.subscribe(topic.rsplit("/", 1)[0] + "/+") is Answer.TAKEN
            assert exact.hears(topic, b"card")
            assert speaker.publish(topic, b"next") is Answer.TAKEN
            assert wildcard.hears(topic, b"next")
            assert (topic, b"card") not in wildcard.heard


def test_who_begins_with_version_5_is_hung_up_on(door: Door) -> None:
    with calling(door, ANNA, level=5) as caller:
        assert (caller.connected, caller.refusal, caller.closed) == (False, None, True)


@pytest.fixture
def street(node: Rabbit, door: Door, tmp_path: Path) -> Iterator[tuple[Street, Viewer]]:
    """Four boards that are not started yet, the first two to trade; and who watches them."""
    mesh = Mesh(tmp_path, "mqtt://127.0.0.1:1")
    passwords = {VIEWER: door.passwords[VIEWER]}
    for board in mesh.boards:
        login = login_of(board)
        passwords[login] = f"password of {login}"
        if not node.knows(login):
            node.add(login, passwords[login])
    inside = Door(door.port, passwords, 4)
    for board in mesh.boards:
        connect(mesh, board, inside)
        login = login_of(board)
        with calling(inside, login, client_id=login) as forgetful:  # what an earlier test left
            assert forgetful.connected
    mesh.trade(mesh.boards[0], mesh.boards[1])
    viewer, street = Viewer(inside), Street(mesh)
    try:
        yield street, viewer
    finally:
        street.kill_all()
        viewer.close()


def come_up(street: Street, viewer: Viewer, boards: Sequence[Board]) -> None:
    street.start(*boards)
    viewer.until(
        lambda: all(viewer.last("state", board.name) for board in boards), "the boards' states"
    )


def test_four_daemons_decide_and_trade_and_one_that_comes_later_catches_up(
    street: tuple[Street, Viewer],
) -> None:
    boards, viewer = street
    seller, buyer, third, late = boards.mesh.boards
    come_up(boards, viewer, (seller, third))
    boards.start(
        buyer
    )  # after the seller, whose card it is given by nobody but the seller (R-BRK-5)
    viewer.until(lambda: viewer.heights(buyer) >= 5, "height 5")
    boards.start(late)
    check_decisions(boards, viewer)


def test_the_doctor_finds_it_good_but_for_what_is_retained(
    street: tuple[Street, Viewer],
) -> None:
    mesh = street[0].mesh
    done = mesh.demesh("doctor", "brokers", "--config", str(mesh.boards[0].config))
    assert (done.returncode, done.stderr) == (0, "")
    bad = [line for line in done.stdout.splitlines() if line[2:10].strip() not in ("ok", "")]
    assert [line.split()[:2] for line in bad[1:-1]] == [["warning", "retained"]]
