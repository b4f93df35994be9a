"""`demesh doctor brokers`: what it says of brokers that are as they should be, and of others."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.mesh import Mesh
from cli.street import Street
from demesh.cli.facts import Certificate, Facts, Patient, Rights, Stage
from demesh.cli.verdicts import Grade, clock, crossing, verdicts
from integration.certificates import Authority
from integration.decisions import Viewer, check_decisions, connect, login_of
from integration.kit import Mosquitto, passwords_for
from transport.brokers import PROGRAM, BrokerProcess, embedded, free_port

PATIENT = Patient("me", "mesh", members=4, profile="lan", behind_s=-5)
GOOD = Facts(
    "mqtts://broker:8883",
    "me",
    addresses=("192.0.2.7",),
    connect_us=900,
    certificate=Certificate("TLSv1.3", "broker", "a home's CA", 30),
    tls=True,
    level=5,
    welcome={"ReceiveMaximum": 100, "MaximumPacketSize": 131072},
    version="mosquitto version 2.0.11",
    numbers={"clients/disconnected": 2},
    round_trip_us=800,
    second_us=700,
    queue_tried=1500,
    queue_kept=1500,
    retained=8,
)
RABBIT = replace(GOOD, version="", level=4, hung_up_on_5=True, welcome={}, numbers={})
OTHER = replace(GOOD, version="")


def test_a_good_broker_has_a_line_for_everything_and_nothing_to_change() -> None:
    findings = verdicts(GOOD, PATIENT)
    assert {finding.grade for finding in findings} == {Grade.OK}
    assert not any(finding.change for finding in findings)
    about = ["name", "tcp", "tls", "login", "limits", "rights", "pace", "queue", "retained"]
    assert list(dict.fromkeys(finding.about for finding in findings)) == [*about, "sessions"]


# What is wrong, what it is about, how bad it is, and a part of the line to change.
CASES: list[tuple[Facts, str, Grade, str]] = [
    (replace(GOOD, failed=Stage.NAME, failure="no such name"), "name", Grade.UNREACHABLE, "url"),
    (
        replace(GOOD, failed=Stage.TCP, failure="Connection refused"),
        "tcp", Grade.UNREACHABLE, "mosquitto.conf: listener 1883",
    ),
    (
        replace(GOOD, failed=Stage.TLS, failure="has expired", for_good=True),
        "tls", Grade.WRONG, "",
    ),
    (
        replace(GOOD, failed=Stage.LOGIN, failure="not authorized", for_good=True),
        "login", Grade.WRONG, "give me its login at the broker",
    ),
    (replace(GOOD, failed=Stage.LOGIN, failure="hung up"), "login", Grade.UNREACHABLE, "for MQTT"),
    (replace(GOOD, failed=Stage.TLS, failure="hung up"), "tls", Grade.UNREACHABLE, "for TLS"),
    (
        replace(GOOD, certificate=Certificate("TLSv1.3", "broker", "a home's CA", 13)),
        "tls", Grade.WARNING, "have a home's CA renew it",
    ),
    (replace(GOOD, username=None, anonymous=True), "login", Grade.WARNING, "allow_anonymous false"),
    (
        replace(RABBIT, anonymous=True),
        "login", Grade.WARNING, "rabbitmq.conf: mqtt.allow_anonymous = false",
    ),
    (replace(GOOD, welcome={"MaximumQoS": 0}), "limits", Grade.WRONG, ""),
    (replace(GOOD, welcome={"RetainAvailable": 0}), "limits", Grade.WRONG, "retain_available true"),
    (
        replace(GOOD, welcome={"MaximumPacketSize": 65_536}),
        "limits", Grade.WRONG, "max_packet_size 131072",
    ),
    (
        replace(GOOD, welcome={"ReceiveMaximum": 9}),
        "limits", Grade.WARNING, "max_inflight_messages 100",
    ),
    (
        replace(GOOD, rights=Rights(unheard=("tip",))),
        "rights", Grade.WRONG, "configs/brokers/acl; pattern write demesh/1/+/tip/%u",
    ),
    (
        replace(RABBIT, rights=Rights(unheard=("tip",))),
        "rights", Grade.WRONG, "configs/brokers/rabbitmq/add-device me",
    ),
    (replace(GOOD, rights=Rights(deaf=("demesh/1/x/vote/+",))), "rights", Grade.WRONG, "acl"),
    (
        replace(GOOD, username="anna", rights=Rights(unheard=("tip",))),
        "rights", Grade.WARNING, 'username = "me"',
    ),
    (replace(GOOD, rights=Rights(spoofed=("vote",))), "rights", Grade.WARNING, "acl_file"),
    (replace(GOOD, rights=Rights(overheard=True)), "rights", Grade.WARNING, "acl_file"),
    (replace(GOOD, second_us=44_000), "pace", Grade.WARNING, "set_tcp_nodelay true"),
    (replace(RABBIT, second_us=44_000), "pace", Grade.WARNING, "nodelay = true"),
    (
        replace(OTHER, second_us=44_000),
        "pace", Grade.WARNING, "docs/brokers.md has it for some brokers; mosquitto has set_tcp",
    ),
    (
        replace(GOOD, round_trip_us=61_000, second_us=61_000),
        "pace", Grade.WARNING, 'profile = "wan"',
    ),
    (replace(GOOD, queue_kept=1000), "queue", Grade.WARNING, "max_queued_messages 10000"),
    (replace(RABBIT, queue_kept=0), "queue", Grade.WARNING, "configs/brokers/rabbitmq/demesh.json"),
    (replace(RABBIT, retained_by_wildcard=False), "retained", Grade.WARNING, ""),
    (
        replace(GOOD, retained_by_wildcard=False, retained_at_all=False),
        "retained", Grade.WARNING, "retain_available true",
    ),
    (
        replace(GOOD, retained=9),
        "retained", Grade.WARNING, "mosquitto_pub -r -n -t demesh/1/mesh/card/ID",
    ),
    (
        replace(GOOD, numbers={"clients/disconnected": 9}),
        "sessions", Grade.WARNING, "persistent_client_expiration 1d",
    ),
]  # fmt: skip


@pytest.mark.parametrize("facts, about, grade, change", CASES)
def test_one_thing_that_is_not_as_it_should_be_is_named_with_the_line_to_change(
    facts: Facts, about: str, grade: Grade, change: str
) -> None:
    bad = [finding for finding in verdicts(facts, PATIENT) if finding.grade is not Grade.OK]
    assert (about, grade) in [(finding.about, finding.grade) for finding in bad]
    assert {finding.about for finding in bad} == {about}
    assert any(change in finding.change for finding in bad)


def test_what_was_not_reached_is_not_judged() -> None:
    for stage in Stage:
        findings = verdicts(replace(GOOD, failed=stage, failure="no"), PATIENT)
        assert findings[-1].about == stage.value or stage is Stage.TLS
        assert all(one.about in ("name", "tcp", "tls", "login") for one in findings)


def test_many_retained_topics_need_a_queue_that_takes_them() -> None:
    many, crowd = replace(GOOD, retained=1200), replace(PATIENT, members=600)
    assert all(one.grade is Grade.OK for one in verdicts(many, crowd))
    short = verdicts(replace(many, queue_kept=1001), crowd)
    assert [one.change for one in short if one.about == "retained"] == [
        "mosquitto.conf: max_queued_messages 10000"
    ]


def test_a_slow_line_needs_the_profile_for_slow_lines_and_nothing_else() -> None:
    far = replace(GOOD, round_trip_us=90_000, second_us=95_000)
    assert all(one.grade is Grade.OK for one in verdicts(far, replace(PATIENT, profile="wan")))


def test_a_clock_that_is_behind_the_mesh_is_told_and_one_that_is_ahead_is_not() -> None:
    assert clock(replace(PATIENT, behind_s=61)).grade is Grade.WARNING
    assert clock(replace(PATIENT, behind_s=60)).grade is Grade.OK
    assert clock(replace(PATIENT, behind_s=-100_000_000)).grade is Grade.OK


def test_who_comes_by_a_certificate_is_not_told_that_everybody_may_come() -> None:
    certified = replace(GOOD, username=None, certified=True)
    assert all(one.grade is Grade.OK for one in verdicts(certified, PATIENT))


def test_two_urls_of_one_broker_are_told_apart_from_two_brokers() -> None:
    assert crossing("mqtt://a:1", "mqtt://b:1").grade is Grade.WARNING


# -- as a process, at real brokers ----------------------------------------------------------------

Doctor = Callable[[], subprocess.CompletedProcess[str]]


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path, "mqtt://127.0.0.1:1")


@pytest.fixture
def doctor(mesh: Mesh) -> Doctor:
    """Ask the doctor about the first board's brokers."""

    def ask() -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [
                sys.executable, "-m", "demesh",
                "doctor", "brokers", "--config", mesh.boards[0].config,
            ],
            env=mesh.environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done

    return ask


@pytest.fixture
def kit(mesh: Mesh, tmp_path: Path) -> Iterator[Mosquitto]:
    """The kit's mosquitto, not started yet, with a login for the first board."""
    broker = Mosquitto(tmp_path / "mosquitto", passwords_for([login_of(mesh.boards[0])]))
    connect(mesh, mesh.boards[0], broker.door)
    yield broker
    broker.process.stop()


def lines(output: str) -> list[tuple[str, str, str]]:
    """Grade, subject and text of each finding; what to change, under the grade `change`."""
    found: list[list[str]] = []
    for line in output.splitlines():
        head, text = line[:20].split(), line[21:]
        if not head:
            found[-1][2] += " " + text
        elif line.startswith("  "):
            found.append([head[0], head[1] if len(head) > 1 else "", text])
    return [(grade, about, text) for grade, about, text in found]


def graded(output: str, grade: str) -> list[str]:
    return [about for one, about, _ in lines(output) if one == grade]


def changes(output: str) -> list[str]:
    return [text for grade, _, text in lines(output) if grade == "change"]


def test_the_kits_mosquitto_is_as_it_should_be(kit: Mosquitto, doctor: Doctor) -> None:
    kit.process.start()
    done = doctor()
    assert (done.returncode, done.stderr) == (0, "")
    assert graded(done.stdout, "warning") == graded(done.stdout, "wrong") == []
    assert done.stdout.startswith(f"mqtt://127.0.0.1:{kit.port}\n")
    assert ("ok", "queue", "1500 messages are kept for a device that is away") in lines(done.stdout)
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_what_answers_nothing_or_nonsense_is_told_in_one_line(
    mesh: Mesh, kit: Mosquitto, doctor: Doctor
) -> None:
    kit.process.start()
    kit.process.freeze()
    silent = doctor()
    kit.process.stop(kill=True)
    assert silent.returncode == 75
    assert ("absent", "login", "it does not answer") in lines(silent.stdout)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer_as_a_website, args=(server,))
        thread.start()
        mesh.configure(mesh.boards[0], f"mqtt://127.0.0.1:{server.getsockname()[1]}")
        website = doctor()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert website.returncode == 75
    assert graded(website.stdout, "absent") == ["login"]


def answer_as_a_website(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            with server.accept()[0] as visitor:
                visitor.recv(1000)
                visitor.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def test_a_device_with_a_certificate_needs_no_password_and_one_without_or_with_an_old_one_is_told(
    mesh: Mesh, kit: Mosquitto, doctor: Doctor, tmp_path: Path
) -> None:
    authority, port, board = Authority(tmp_path / "ca"), free_port(), mesh.boards[0]
    drop_in = "mosquitto/demesh-certificates.conf"
    kit.drop_in(drop_in, {"listener 8884": f"listener {port} 127.0.0.1"})
    certificate, key = authority.issue("broker", "server", host="DNS:localhost")
    shutil.copy(certificate, kit.folder / "server.crt")
    shutil.copy(key, kit.folder / "server.key")
    shutil.copy(authority.certificate, kit.folder / "devices-ca.crt")
    trust = f'ca_file = "{authority.certificate}"\n'
    shown = []
    for name, days in (("device", 9), ("old", 0)):
        certificate, key = authority.issue(login_of(board), name, days=days)
        key.chmod(0o600)
        shown.append(f'client_certificate = "{certificate}"\nclient_key = "{key}"')
    kit.process.start()
    mesh.configure(board, f"mqtts://localhost:{port}", trust + shown[0])
    done = doctor()
    assert done.returncode == 0
    assert graded(done.stdout, "warning") == []
    assert graded(done.stdout, "wrong") == []
    for mine, told in (("", "it wants a certificate of this device"), (shown[1], "has expired")):
        mesh.configure(board, f"mqtts://localhost:{port}", trust + mine)
        done = doctor()
        assert done.returncode == 78
        assert graded(done.stdout, "wrong") == ["tls"]
        assert told in done.stdout


@pytest.mark.xdist_group("street")  # one street at a time: they need the cores
def test_a_mesh_at_work_notices_nothing_of_the_doctor(
    mesh: Mesh, doctor: Doctor, tmp_path: Path
) -> None:
    broker = Mosquitto(tmp_path / "mosquitto", passwords_for(map(login_of, mesh.boards)))
    for board in mesh.boards:
        connect(mesh, board, broker.door)
    mesh.trade(mesh.boards[0], mesh.boards[1])
    broker.process.start()
    viewer, street = Viewer(broker.door), Street(mesh)
    try:
        street.start(*mesh.boards)
        check_decisions(street, viewer)
        since = len(viewer.seen)
        done = doctor()
        check_decisions(street, viewer)
        states = [document for topic, document in viewer.seen[since:] if topic == "state"]
    finally:
        street.kill_all()
        viewer.close()
        broker.process.stop()
    assert done.returncode == 0
    assert graded(done.stdout, "warning") == []
    assert ("ok", "retained", "8 of this mesh, at most 8 are expected") in lines(done.stdout)
    assert not any(state["flooded"] for state in states)
    assert not any({"TOPIC", "SHAPE", "MESH"} & state["rejects"].keys() for state in states)


def test_a_mosquitto_that_is_merely_open_works_and_has_three_lines_to_change(
    mesh: Mesh, doctor: Doctor, tmp_path: Path
) -> None:
    if PROGRAM is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    port, file = free_port(), tmp_path / "mosquitto.conf"
    file.write_text(f"user root\nlistener {port} 127.0.0.1\nallow_anonymous true\n")
    broker = BrokerProcess([PROGRAM, "-c", str(file)], port)
    mesh.configure(mesh.boards[0], broker.url)
    broker.start()
    try:
        done = doctor()
    finally:
        broker.stop()
    assert done.returncode == 0
    assert graded(done.stdout, "warning") == ["login", "pace", "queue"]
    assert changes(done.stdout) == [
        "mosquitto.conf: allow_anonymous false; password_file, acl_file",
        "mosquitto.conf: set_tcp_nodelay true",
        "mosquitto.conf: max_queued_messages 10000",
    ]


def test_a_login_without_rights_is_wrong(kit: Mosquitto, doctor: Doctor) -> None:
    (kit.folder / "acl").write_text("pattern read demesh/1/+/vote/+\npattern read $SYS/broker/#\n")
    kit.process.start()
    done = doctor()
    assert done.returncode == 78
    assert ("wrong", "rights", "this device is not heard on its own topics: "
            "vote, op, tip, card, gone, to, obs") in lines(done.stdout)  # fmt: skip


def test_a_rule_that_forgot_one_topic_is_named_by_it(kit: Mosquitto, doctor: Doctor) -> None:
    acl = kit.folder / "acl"
    acl.write_text(acl.read_text().replace("pattern write demesh/1/+/tip/%u\n", ""))
    kit.process.start()
    done = doctor()
    assert done.returncode == 78
    assert any(text.endswith("pattern write demesh/1/+/tip/%u") for text in changes(done.stdout))


def test_a_rule_that_is_too_wide_is_a_warning(kit: Mosquitto, doctor: Doctor) -> None:
    with (kit.folder / "acl").open("a") as file:
        file.write("pattern readwrite demesh/1/+/#\n")
    kit.process.start()
    done = doctor()
    assert done.returncode == 0
    assert [text for grade, _, text in lines(done.stdout) if grade == "warning"] == [
        "this login is heard in other devices' names (vote, op, tip, card, gone, to) and given "
        "letters between others"
    ]


def test_a_wrong_password_is_wrong_and_an_absent_broker_is_not(
    mesh: Mesh, kit: Mosquitto, doctor: Doctor
) -> None:
    secret = mesh.boards[0].folder / "broker.password"
    secret.write_text("guessed")
    absent = doctor()
    assert absent.returncode == 75
    assert graded(absent.stdout, "absent") == ["tcp"]
    kit.process.start()
    refused = doctor()
    assert refused.returncode == 78
    assert graded(refused.stdout, "wrong") == ["login"]


def test_a_certificate_that_has_expired_is_wrong_and_one_that_is_good_is_told(
    mesh: Mesh, kit: Mosquitto, doctor: Doctor, tmp_path: Path
) -> None:
    authority, port = Authority(tmp_path / "ca"), free_port()
    kit.drop_in("mosquitto/demesh-tls.conf", {"listener 8883": f"listener {port} 127.0.0.1"})
    board = mesh.boards[0]
    mesh.configure(
        board, f"mqtts://localhost:{port}",
        f'ca_file = "{authority.certificate}"\nusername = "{login_of(board)}"\n'
        'password_file = "broker.password"',
    )  # fmt: skip
    for days, code, grade in ((0, 78, "wrong"), (9, 0, "warning")):
        certificate, key = authority.issue("broker", "server", host="DNS:localhost", days=days)
        shutil.copy(certificate, kit.folder / "server.crt")
        shutil.copy(key, kit.folder / "server.key")
        kit.process.start()
        done = doctor()
        kit.process.stop()
        assert done.returncode == code
        assert graded(done.stdout, grade) == ["tls"]


def test_two_urls_of_one_embedded_broker_are_noticed(
    mesh: Mesh, doctor: Doctor, tmp_path: Path
) -> None:
    broker = embedded(tmp_path)
    mesh.configure(
        mesh.boards[0], broker.url, f'[[broker]]\nurl = "mqtt://localhost:{broker.port}"'
    )
    text = mesh.boards[0].config.read_text().replace("[broker]", "[[broker]]", 1)
    mesh.boards[0].config.write_text(text)
    broker.start()
    try:
        done = doctor()
    finally:
        broker.stop()
    assert done.returncode == 0
    assert graded(done.stdout, "warning") == ["login", "login", "company"]
