"""TLS to a broker: what is let in, and each failure as one line that says what to do."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from broker.papers import Papers, needs_openssl
from demesh.cli import tls
from demesh.errors import ConfigError, KeyFileError
from demesh.ports import Publish
from demesh.transport import client
from demesh.transport.client import Link
from transport.brokers import mosquitto
from transport.peer import Peer, running
from transport.scripted import ScriptedBroker

pytestmark = needs_openssl


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("strangers"))


def server(paper: tuple[Path, Path], asks: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*paper)
    if asks is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(asks)
    return context


def secured(broker: ScriptedBroker, context: ssl.SSLContext, *topics: str) -> Link:
    url = f"mqtts://127.0.0.1:{broker.port}"
    return Link("127.0.0.1", broker.port, url, "device", topics, tls=context)


@asynccontextmanager
async def complaint(broker: ScriptedBroker, link: Link) -> AsyncIterator[str]:
    """What is said of a broker that cannot be used."""
    peer = Peer(link)
    async with running(peer):
        await peer.until(lambda: bool(peer.reports))
        yield peer.reports[0]


async def test_frames_of_any_size_go_both_ways(papers: Papers) -> None:
    broker = ScriptedBroker(tls=server((papers.certificate, papers.key)))
    async with broker.listening():
        peer = Peer(secured(broker, tls.by_certificate(papers.authority), "t"))
        frames = [bytes([number]) * size for number, size in enumerate((1, 300, 65_000, 20_000))]
        async with running(peer):
            await peer.up()
            for frame in frames * 5:
                peer.publish(Publish("t", frame))
            (line,) = broker.lines
            await peer.until(lambda: len(line.payloads) == 20)
            await peer.until(lambda: not len(peer.transport._outbox))
    assert line.payloads == frames * 5


async def test_a_device_shows_its_certificate_to_a_broker_that_asks(papers: Papers) -> None:
    broker = ScriptedBroker(tls=server((papers.certificate, papers.key), papers.authority))
    shown = tls.by_certificate(papers.authority, *papers.issue("device"))
    async with broker.listening():
        peer = Peer(secured(broker, shown))
        async with running(peer):
            await peer.up()
            peer_name = broker.lines[0].transport.get_extra_info("peercert")["subject"]
    assert peer_name == ((("commonName", "device"),),)


async def test_who_signed_the_brokers_certificate_must_be_known(
    papers: Papers, strangers: Papers
) -> None:
    broker = ScriptedBroker(tls=server((papers.certificate, papers.key)))
    async with broker.listening():
        for context in (tls.by_certificate(strangers.authority), tls.by_certificate()):
            async with complaint(broker, secured(broker, context)) as said:
                assert "signed by an authority that is not in ca_file" in said


@pytest.mark.parametrize(
    ("name", "extension", "days", "expected"),
    [
        ("old", "subjectAltName=IP:127.0.0.1", -1, "has expired"),
        ("other", "subjectAltName=DNS:other.example", 30, "is for another address"),
    ],
)
async def test_a_certificate_that_is_not_good_is_said_in_words(
    papers: Papers, name: str, extension: str, days: int, expected: str
) -> None:
    broker = ScriptedBroker(tls=server(papers.issue(name, extension, days)))
    async with broker.listening():
        link = secured(broker, tls.by_certificate(papers.authority))
        async with complaint(broker, link) as said:
            assert expected in said
            assert said.startswith(f"no broker at mqtts://127.0.0.1:{broker.port}: ")
        if name == "other":
            async with complaint(broker, replace(link, host="localhost")) as said:
                assert "is for another name" in said


async def test_a_broker_that_wants_another_certificate_or_one_at_all_is_said_in_words(
    papers: Papers, strangers: Papers
) -> None:
    broker = ScriptedBroker(tls=server((papers.certificate, papers.key), papers.authority))
    async with broker.listening():
        async with complaint(broker, secured(broker, tls.by_certificate(papers.authority))) as said:
            assert "client_certificate" in said, "or at least that"
        shown = tls.by_certificate(papers.authority, *strangers.issue("device"))
        async with complaint(broker, secured(broker, shown)) as said:
            assert "client_certificate" in said


async def test_tls_where_there_is_none_and_none_where_there_is_are_told(papers: Papers) -> None:
    plain, closed = ScriptedBroker(), ScriptedBroker(tls=server((papers.certificate, papers.key)))
    async with plain.listening(), closed.listening():
        link = secured(plain, tls.by_certificate(papers.authority))
        async with complaint(plain, link) as said:
            assert "TLS" in said
        async with complaint(closed, closed.link("device")) as said:
            assert "mqtts://)" in said or "write mqtts://" in said


@pytest.mark.skipif(
    shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin") is None,
    reason="mosquitto is not installed: apt install mosquitto",
)
async def test_the_broker_of_the_field_says_the_same(papers: Papers, tmp_path: Path) -> None:
    plain = mosquitto(tmp_path)
    folder = tmp_path / "closed"
    folder.mkdir()
    closed = mosquitto(
        folder,
        f"allow_anonymous true\ncafile {papers.authority}\ncertfile {papers.certificate}\n"
        f"keyfile {papers.key}\nrequire_certificate true\nuse_identity_as_username true\n",
    )
    context = tls.by_certificate(papers.authority, *papers.issue("device"))
    bare = tls.by_certificate(papers.authority)

    def link(port: int, context: ssl.SSLContext | None) -> Link:
        return Link("127.0.0.1", port, f"mqtts://127.0.0.1:{port}", "device", ("t",), tls=context)

    await asyncio.to_thread(plain.start)
    await asyncio.to_thread(closed.start)
    try:
        for port, tried, expected in (
            (plain.port, context, "TLS"),
            (closed.port, None, "TLS"),
            (closed.port, bare, "client_certificate"),
            (closed.port, context, "connected to"),
        ):
            async with complaint(ScriptedBroker(), link(port, tried)) as said:
                assert expected in said
    finally:
        plain.stop(kill=True)
        closed.stop(kill=True)


async def test_a_handshake_that_never_ends_is_given_up_in_time(
    papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "HANDSHAKE_S", 0.3)
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server_:
        port = server_.sockets[0].getsockname()[1]
        context = tls.by_certificate(papers.authority)
        link = Link("127.0.0.1", port, f"mqtts://127.0.0.1:{port}", "device", (), tls=context)
        async with complaint(ScriptedBroker(), link) as said:
            assert "TLS" in said


def test_files_that_are_no_papers_are_one_line_that_names_them(
    papers: Papers, strangers: Papers, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    junk.chmod(0o600)
    paper, key = papers.issue("device")
    with pytest.raises(ConfigError, match=f"{junk}: no certificates in PEM form"):
        tls.by_certificate(junk)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        tls.by_certificate(tmp_path / "absent.pem")
    with pytest.raises(ConfigError, match="is the certificate of another key"):
        tls.by_certificate(papers.authority, paper, strangers.issue("device")[1])
    with pytest.raises(ConfigError, match="expected a certificate and its key"):
        tls.by_certificate(papers.authority, junk, key)
    with pytest.raises(KeyFileError, match="is locked by a password"):
        tls.by_certificate(papers.authority, papers.certificate, papers.locked())
    key.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        tls.by_certificate(papers.authority, paper, key)
    key.chmod(0o600)


@pytest.mark.parametrize("text", ["", "xyz", "00" * 15, "00" * 65])
def test_a_shared_key_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broker.psk"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(KeyFileError, match="expected a key in hexadecimal"):
        tls.by_shared_key("device", file)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="pre-shared keys need Python 3.13")
async def test_a_shared_key_takes_the_place_of_certificates(tmp_path: Path) -> None:
    file = tmp_path / "broker.psk"
    file.write_text("5a" * 32)
    file.chmod(0o600)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("PSK")
    context.set_psk_server_callback(lambda name: b"\x5a" * 32 if name == "device" else b"")
    broker = ScriptedBroker(tls=context)
    async with broker.listening():
        peer = Peer(secured(broker, tls.by_shared_key("device", file)))
        async with running(peer):
            await peer.up()
