"""What a configuration says of its brokers, read from its files."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from broker.papers import Papers, needs_openssl
from cli.mesh import Mesh
from demesh.cli.links import links
from demesh.config import Config, parse
from demesh.errors import ConfigError, KeyFileError


def config(*brokers: dict[str, Any]) -> Config:
    table = {
        "device": {"name": "b1", "class": "battery", "driver": "simulated"},
        "mesh": {"genesis": "genesis.cbor"},
        "broker": list(brokers),
    }
    return parse(table, "demesh.toml")


def secret(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_each_broker_has_its_place_and_a_client_id_that_begins_with_the_devices(
    tmp_path: Path,
) -> None:
    found = links(
        tmp_path,
        config({"url": "mqtt://a"}, {"url": "mqtt://b:7", "keepalive_s": 5, "wait_s": 0}),
        "device",
    )
    assert [(link.host, link.port, link.broker) for link in found] == [("a", 1883, 0), ("b", 7, 1)]
    assert [link.client_id for link in found] == ["device", "device-2"]
    assert [(link.keepalive_s, link.wait_s) for link in found] == [(20, 30), (5, 0)]
    assert all(link.tls is None and link.least_qos == 1 for link in found)


def test_a_password_is_one_line_of_a_private_file(tmp_path: Path) -> None:
    told = config({"url": "mqtt://a", "username": "b1", "password_file": "p"})
    secret(tmp_path / "p", "open sesame\n")
    (link,) = links(tmp_path, told, "device")
    assert (link.username, link.password) == ("b1", "open sesame")
    for text in ("", "two\nlines\n", "x" * 2000):
        secret(tmp_path / "p", text)
        with pytest.raises(KeyFileError, match="expected the broker password on one line"):
            links(tmp_path, told, "device")
    secret(tmp_path / "p", "open sesame\n", 0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        links(tmp_path, told, "device")


def test_a_credential_of_systemd_is_taken_with_the_rights_that_systemd_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = config({"url": "mqtt://a", "username": "b1", "password_credential": "street"})
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(KeyFileError, match="start the daemon by systemd with LoadCredential"):
        links(tmp_path, told, "device")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(KeyFileError, match="street: no such file"):
        links(tmp_path, told, "device")
    secret(tmp_path / "street", "open sesame\n", 0o440)  # an access list shows as the group's
    assert links(tmp_path, told, "device")[0].password == "open sesame"
    secret(tmp_path / "street", "open sesame\n", 0o444)
    with pytest.raises(KeyFileError, match="lets others read it"):
        links(tmp_path, told, "device")


@needs_openssl
def test_tls_checks_who_the_broker_is_and_shows_who_this_device_is(tmp_path: Path) -> None:
    papers = Papers(tmp_path / "papers")
    papers.issue("device")
    told = {
        "url": "mqtts://a",
        "ca_file": "papers/ca.pem",
        "client_certificate": "papers/device.pem",
        "client_key": "papers/device.key",
    }
    first, second = links(tmp_path, config(told, {"url": "mqtts://b"}), "device")
    for link in (first, second):
        assert link.tls is not None
        assert link.tls.verify_mode is ssl.CERT_REQUIRED and link.tls.check_hostname
        assert link.tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert first.tls is not None
    assert len(first.tls.get_ca_certs()) == 1, "the system's are not asked beside it"
    with pytest.raises(ConfigError, match=r"ca\.pem: cannot be read"):
        links(tmp_path / "papers", config(told), "device")


def test_a_check_of_the_configuration_checks_the_brokers_files_that_are_there(
    tmp_path: Path,
) -> None:
    mesh = Mesh(tmp_path, "mqtts://a,mqtts://b")
    board = mesh.boards[0]

    def check(extra: str) -> tuple[int, str]:
        mesh.configure(board, "mqtts://a,mqtts://b", extra)
        done = mesh.demesh("run", "--config", str(board.config), "--check-config")
        return done.returncode, done.stdout + done.stderr

    assert check("wait_s = 2") == (0, f"{board.config}: good; board0 (meter)\n")
    code, said = check('username = "b"\npassword_file = "p"\nca_file = "ca.pem"')
    assert (code, "not there yet, so not checked: p, ca.pem" in said) == (0, True), said
    secret(board.folder / "p", "word", 0o644)
    (board.folder / "ca.pem").write_text("junk")
    code, said = check('username = "b"\npassword_file = "p"')
    assert (code, "chmod 600" in said) == (77, True), said
    code, said = check('ca_file = "ca.pem"')
    assert (code, "no certificates in PEM form" in said) == (78, True), said
    code, said = check('username = "b"\npassword_credential = "c"')
    assert (code, "not checked: credential c" in said) == (0, True), said
