"""mosquitto as the kit configures it: a mesh decides over it, and nobody speaks for another."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.mesh import Mesh
from cli.street import Street
from demesh.wire import identity
from integration.callers import (
    SPOOFS,
    Answer,
    calling,
    check_letters,
    check_retained_spoof,
    check_spoof,
    check_take_over,
    check_will_spoof,
    listening,
    spoken_by,
)
from integration.certificates import Authority
from integration.decisions import Viewer, check_decisions, connect, login_of
from integration.kit import Door, Mosquitto, passwords_for
from transport.brokers import free_port

ANNA, BORIS, CAROL = (identity.text(bytes([number] * 16)) for number in (1, 2, 3))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    folder = tmp_path_factory.mktemp("mosquitto")
    kit = Mosquitto(folder, passwords_for((ANNA, BORIS, CAROL, "+")))
    kit.process.start()
    yield kit
    kit.process.stop()


@pytest.fixture(params=(4, 5), ids=("3.1.1", "5"))
def door(broker: Mosquitto, request: pytest.FixtureRequest) -> Door:
    return Door(broker.port, broker.door.passwords, request.param)


@pytest.mark.parametrize("area", SPOOFS)
def test_what_a_device_says_in_anothers_name_reaches_nobody(door: Door, area: str) -> None:
    told = check_spoof(door, area, ANNA, BORIS, CAROL)
    # MQTT 3.1.1 has no way to say no but to hang up.
    assert told is (Answer.REFUSED if door.level == 5 else Answer.TAKEN)


def test_nothing_retained_is_left_or_taken_away_in_anothers_name(door: Door) -> None:
    check_retained_spoof(door, ANNA, BORIS, CAROL)


def test_a_will_in_anothers_name_is_not_said(door: Door) -> None:
    assert check_will_spoof(door, ANNA, BORIS, CAROL), "mosquitto looks at a will when it is due"


def test_letters_reach_who_they_are_for_and_nobody_else(door: Door) -> None:
    # It grants whatever is asked for, and holds back what the login may not hear.
    assert check_letters(door, ANNA, BORIS, CAROL) == {Answer.TAKEN}


@pytest.mark.parametrize("login, password", [(None, None), (ANNA, "wrong"), ("", ""), ("x", "x")])
def test_who_has_no_login_is_refused(door: Door, login: str | None, password: str | None) -> None:
    with calling(door, login, password=password) as caller:
        assert not caller.connected


def test_who_takes_anothers_client_id_cuts_him_off_and_hears_nothing_of_his(door: Door) -> None:
    assert check_take_over(door, ANNA, BORIS, CAROL) == (True, True)


def test_client_ids_by_login_keep_ids_apart_and_make_all_programs_of_a_device_one(
    tmp_path: Path,
) -> None:
    kit = Mosquitto(tmp_path / "mosquitto", passwords_for((ANNA, BORIS, CAROL)))
    kit.drop_in(
        "mosquitto/demesh.conf",
        {
            "listener 1883": f"listener {kit.port} 127.0.0.1",
            "max_connections 1000": "use_username_as_clientid true",
        },
    )
    kit.process.start()
    try:
        with calling(kit.door, BORIS, client_id=BORIS) as daemon:
            with calling(kit.door, ANNA, client_id=BORIS) as thief:
                assert thief.connected and not daemon.closed
            with calling(kit.door, BORIS, client_id=f"{BORIS}-doctor") as tool:
                assert tool.connected
                daemon.until(lambda: daemon.closed, "the end of the daemon's connection")
    finally:
        kit.process.stop()


def test_a_login_that_is_a_wildcard_speaks_for_nobody(door: Door) -> None:
    topic = spoken_by(BORIS, CAROL)["vote"]
    with listening(door, CAROL) as (device, _), calling(door, BORIS) as true:
        with calling(door, "+") as false:
            assert false.connected
            false.publish(topic, b"spoof")
        assert true.publish(topic, b"true") is Answer.TAKEN
        assert device.hears(topic, b"true")
        assert (topic, b"spoof") not in device.heard


def test_devices_come_in_over_tls_with_their_passwords(tmp_path: Path) -> None:
    with secured(tmp_path, "demesh-tls") as (door, authority):
        trusting = ssl.create_default_context(cafile=authority.certificate)
        with calling(door, BORIS, tls=trusting) as caller:
            assert caller.publish(spoken_by(BORIS, CAROL)["vote"], b"true") is Answer.TAKEN
            assert caller.publish(spoken_by(ANNA, CAROL)["vote"], b"x") is Answer.REFUSED
        with calling(door, BORIS, password="wrong", tls=trusting) as caller:
            assert not caller.connected
        with calling(door, BORIS) as plain:
            assert not plain.connected
        with calling(door, BORIS, tls=ssl.create_default_context()) as caller:
            assert not caller.connected


def test_a_client_certificate_is_the_login_whatever_the_client_says(tmp_path: Path) -> None:
    with secured(tmp_path, "demesh-certificates") as (door, authority):
        presenting = ssl.create_default_context(cafile=authority.certificate)
        presenting.load_cert_chain(*authority.issue(BORIS, "boris"))
        for said in (BORIS, ANNA, None):
            with calling(door, said, tls=presenting) as caller:
                assert caller.publish(spoken_by(BORIS, CAROL)["vote"], b"true") is Answer.TAKEN
                assert caller.publish(spoken_by(ANNA, CAROL)["vote"], b"x") is Answer.REFUSED
        stranger = ssl.create_default_context(cafile=authority.certificate)
        stranger.load_cert_chain(*Authority(tmp_path / "other").issue(BORIS, "boris"))
        for context in (stranger, ssl.create_default_context(cafile=authority.certificate)):
            with calling(door, BORIS, tls=context) as caller:
                assert not caller.connected


@contextmanager
def secured(folder: Path, drop_in: str) -> Iterator[tuple[Door, Authority]]:
    """A broker with a drop-in for TLS, and the authority that signed its certificate."""
    kit = Mosquitto(folder / "mosquitto", passwords_for((ANNA, BORIS)))
    authority = Authority(folder / "ca")
    certificate, key = authority.issue("broker", "server", host="IP:127.0.0.1")
    shutil.copy(certificate, kit.folder / "server.crt")
    shutil.copy(key, kit.folder / "server.key")
    shutil.copy(authority.certificate, kit.folder / "devices-ca.crt")
    listener = "listener 8883" if drop_in == "demesh-tls" else "listener 8884"
    port = free_port()
    kit.drop_in(f"mosquitto/{drop_in}.conf", {listener: f"listener {port} 127.0.0.1"})
    kit.process.start()
    try:
        yield Door(port, kit.door.passwords, 5), authority
    finally:
        kit.process.stop()


@pytest.mark.xdist_group("street")  # one street at a time: they need the cores
def test_four_daemons_decide_and_trade_over_it(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, "mqtt://127.0.0.1:1")
    logins = [login_of(board) for board in mesh.boards]
    broker = Mosquitto(tmp_path / "mosquitto", passwords_for(logins))
    for board in mesh.boards:
        connect(mesh, board, broker.door)
    mesh.trade(mesh.boards[0], mesh.boards[1])
    broker.process.start()
    viewer, street = Viewer(broker.door), Street(mesh)
    try:
        street.start(*mesh.boards)
        check_decisions(street, viewer)
    finally:
        street.kill_all()
        viewer.close()
        broker.process.stop()
