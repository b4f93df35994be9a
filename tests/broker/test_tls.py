"""TLS without a socket, and what is wrong with certificates and keys, each in one line."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest

from broker.papers import Papers, needs_openssl
from demesh.broker import tls
from demesh.broker.layers import CLOSED
from demesh.errors import ConfigError, DemeshError, KeyFileError

pytestmark = needs_openssl


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """An authority, a server's certificate and two devices'."""
    return Papers(tmp_path_factory.mktemp("papers"))


class Caller:
    """The client's side, in memory."""

    def __init__(self, context: ssl.SSLContext, name: str = "localhost") -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)

    def hear(self, data: bytes) -> bytes:
        """Take in what the server said; what it means."""
        self.incoming.write(data)
        try:
            return self.session.read(1 << 20)
        except ssl.SSLWantReadError:
            return b""

    def shake(self, server: tls.Tls) -> None:
        """Hands, as far as both want to."""
        for _ in range(4):
            with contextlib.suppress(ssl.SSLWantReadError):
                self.session.do_handshake()
            server.receive(self.outgoing.read())
            self.incoming.write(server.wrap(b""))


def server(papers: Papers, *, client_ca: Path | None = None, needed: bool = False) -> tls.Tls:
    return tls.Tls(tls.server_context(papers.certificate, papers.key, client_ca, needed=needed))


def test_words_pass_both_ways_and_a_goodbye_is_one(papers: Papers) -> None:
    layer, caller = server(papers), Caller(papers.context())
    caller.shake(layer)
    assert layer.shaken and layer.ended is None and layer.name is None
    words = bytes(range(256)) * 300
    caller.session.write(words)
    caller.session.write(b"last")
    assert layer.receive(caller.outgoing.read()) == words + b"last"
    heard = caller.hear(layer.wrap(words))
    while len(heard) < len(words):
        heard += caller.session.read(1 << 20)
    assert heard == words
    assert caller.hear(layer.farewell()) == b""
    assert caller.session.read() == b""  # the end, and not "more is to come"


def test_a_turn_opens_so_many_records_and_the_rest_waits(papers: Papers) -> None:
    layer, caller = server(papers), Caller(papers.context())
    caller.shake(layer)
    for _ in range(3 * tls.RECORDS_PER_TURN - 1):
        caller.session.write(b"x")
    heard = [layer.receive(caller.outgoing.read())]
    while layer.more:
        heard.append(layer.receive(b""))
    turn = b"x" * tls.RECORDS_PER_TURN
    assert heard == [turn, turn, turn[1:]]


def test_a_client_that_says_goodbye_has_done_nothing_wrong(papers: Papers) -> None:
    layer, caller = server(papers), Caller(papers.context())
    caller.shake(layer)
    caller.session.write(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        caller.session.unwrap()
    assert layer.receive(caller.outgoing.read()) == b"last"
    assert layer.ended == CLOSED


def test_what_is_not_tls_is_told_so_and_ended(papers: Papers) -> None:
    for garbage in (
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(99),
    ):
        layer = server(papers)
        assert layer.receive(garbage) == b""
        assert layer.ended == "what it says is not TLS"


def test_a_client_that_does_not_trust_the_certificate_is_told_from_one_that_breaks_off(
    papers: Papers,
) -> None:
    layer, caller = server(papers), Caller(ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        caller.shake(layer)
    layer.receive(caller.outgoing.read())
    assert layer.ended == "the client refuses: unknown ca"


def test_to_a_session_that_broke_nothing_more_is_said(papers: Papers) -> None:
    layer, caller = server(papers), Caller(papers.context())
    caller.shake(layer)
    assert layer.receive(b"\x17\x03\x03\x00\x20" + bytes(32)) == b""
    assert layer.ended not in (None, CLOSED)
    layer.wrap(b"")
    assert layer.wrap(b"a message for it") == b""
    assert layer.farewell() == b""


def test_a_verified_certificate_names_the_client(papers: Papers) -> None:
    layer = server(papers, client_ca=papers.authority, needed=True)
    Caller(papers.context("dev-1")).shake(layer)
    assert (layer.shaken, layer.ended, layer.name) == (True, None, "dev-1")


def test_a_certificate_that_can_be_read_in_two_ways_names_nobody(papers: Papers) -> None:
    (papers.folder / "one").mkdir()
    papers.issue("one/CN=two")
    papers.issue("no-text", "2.5.29.17=DER:30:04:82:02:ff:fe")  # a DNS name of two bytes
    for name in ("one/CN=two", "no-text"):
        layer = server(papers, client_ca=papers.authority, needed=True)
        Caller(papers.context(name)).shake(layer)
        assert layer.shaken and layer.name is None


def test_a_client_without_a_certificate_or_with_a_strangers_is_refused(papers: Papers) -> None:
    stranger = Papers(papers.folder / "stranger")
    for context in (papers.context(), stranger.context("dev-1", trusting=papers)):
        layer = server(papers, client_ca=papers.authority, needed=True)
        with pytest.raises(ssl.SSLError):
            Caller(context).shake(layer)
            raise ssl.SSLError(layer.ended)  # TLS 1.3: the client learns of it later
        assert layer.ended not in (None, CLOSED)
        assert layer.name is None
    layer = server(papers, client_ca=papers.authority, needed=False)
    Caller(papers.context()).shake(layer)
    assert (layer.shaken, layer.ended, layer.name) == (True, None, None)


def test_a_certificate_that_was_revoked_is_refused(papers: Papers) -> None:
    listed = papers.revoked("dev-2")
    for name, good in (("dev-1", True), ("dev-2", False)):
        layer = server(papers, client_ca=listed, needed=True)
        try:
            Caller(papers.context(name)).shake(layer)
        except ssl.SSLError:
            assert not good
        assert (layer.ended is None) is good


def test_the_first_and_the_last_second_of_a_certificate_are_read(papers: Papers) -> None:
    first, last = tls.lifetime(papers.certificate)
    assert last - first == 30 * 86_400
    with pytest.raises(ConfigError, match="no certificate in PEM form"):
        tls.lifetime(papers.key)


def test_every_fault_of_the_files_is_one_line_that_names_the_file(
    papers: Papers, tmp_path: Path
) -> None:
    other = Papers(tmp_path / "other")
    junk = tmp_path / "junk.pem"
    junk.write_text("junk\n")
    junk.chmod(0o600)
    broken = tmp_path / "broken.pem"
    broken.write_text(papers.certificate.read_text()[:200] + "\n-----END CERTIFICATE-----\n")
    shown = tmp_path / "shown.key"
    shown.write_text(papers.key.read_text())
    shown.chmod(0o644)
    locked = papers.locked()
    missing = tmp_path / "missing"
    cases: list[tuple[Path, Path, Path | None, type[DemeshError], str]] = [
        (missing, papers.key, None, ConfigError, f"{missing}: certificate: .*No such file"),
        (papers.certificate, missing, None, KeyFileError, f"{missing}: key: .*No such file"),
        (papers.certificate, shown, None, KeyFileError, f"{shown}: key: mode 0644.*chmod 600"),
        (
            papers.certificate,
            other.key,
            None,
            ConfigError,
            f"{other.key}: this key does not belong",
        ),
        (papers.certificate, junk, None, ConfigError, f"{junk}: expected a private key"),
        (papers.certificate, locked, None, ConfigError, f"{locked}: the key is under a passphrase"),
        (junk, papers.key, None, ConfigError, f"{junk}: expected a certificate"),
        (broken, papers.key, None, ConfigError, f"{broken} with "),
        (papers.certificate, papers.key, junk, ConfigError, f"{junk}: no certificates of auth"),
        (
            papers.certificate,
            papers.key,
            missing,
            ConfigError,
            f"{missing}: authorities of clients",
        ),
    ]
    for certificate, key, client_ca, fault, says in cases:
        with pytest.raises(fault, match=says) as caught:
            tls.server_context(certificate, key, client_ca, needed=False)
        assert "\n" not in str(caught.value)
