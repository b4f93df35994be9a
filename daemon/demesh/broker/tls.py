"""TLS of the broker: a server's context from files, and TLS as a layer without a socket.

Why not asyncio's own: there the handshake is out of sight until it is done, so that a thousand
half-open ones would count as no connection at all; and a listener keeps the certificate it began
with. Here a connection counts from its first byte, and each new one takes the context of the day.
"""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Any

from demesh.broker import files
from demesh.broker.layers import CLOSED
from demesh.errors import ConfigError

# Of a record read at a time; TLS allows 16 KiB in one.
RECORD_BYTES = 16 * 1024

# A record of one byte costs as much as a packet, and a read brings ten thousand of them: nobody
# else is to wait for more than some. Full ones carry 4 MiB, more than is ever read at once.
RECORDS_PER_TURN = 256

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})
REVOCATIONS = b"-----BEGIN X509 CRL-----"


def server_context(
    certificate: Path, key: Path, client_ca: Path | None, *, needed: bool
) -> ssl.SSLContext:
    """The context of a server, TLS 1.2 or later; raises ConfigError, KeyFileError.

    With `client_ca` clients are asked for certificates, and where `needed` not served without one.
    A file of authorities that holds revocation lists too is held to them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    files.read(certificate, "certificate")
    files.read(key, "key", private=True)
    try:
        # A key under a passphrase: nobody is there to be asked.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        raise ConfigError(_fault(certificate, key, error)) from None
    if client_ca is not None:
        pem = files.read(client_ca, "authorities of clients")
        try:
            context.load_verify_locations(cafile=client_ca)
        except ssl.SSLError:
            raise ConfigError(f"{client_ca}: no certificates of authorities in PEM form") from None
        context.verify_mode = ssl.CERT_REQUIRED if needed else ssl.CERT_OPTIONAL
        if REVOCATIONS in pem:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def lifetime(certificate: Path) -> tuple[int, int]:
    """First and last second (Unix time) of the first certificate in a file; raises ConfigError."""
    pem = files.read(certificate, "certificate").decode("latin-1")
    start, end = pem.find(ssl.PEM_HEADER), pem.find(ssl.PEM_FOOTER)
    try:
        der = ssl.PEM_cert_to_DER_cert(pem[start : end + len(ssl.PEM_FOOTER)])
        # Certificate, TBSCertificate, and in it: [version], serial, algorithm, issuer, validity.
        fields = _content(_content(der))
        if fields[0] == 0xA0:
            fields = _after(fields)
        first = _content(_after(_after(_after(fields))))
        return _second(first), _second(_after(first))
    except (ValueError, IndexError):
        raise ConfigError(f"{certificate}: no certificate in PEM form") from None


class Tls:
    """The server's side of one connection; a `layers.Layer`."""

    __slots__ = ("_incoming", "_outgoing", "_session", "_shaken", "ended", "more")

    def __init__(self, context: ssl.SSLContext) -> None:
        self.ended: str | None = None
        self.more = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False

    @property
    def shaken(self) -> bool:
        """Whether the handshake is done."""
        return self._shaken

    @property
    def name(self) -> str | None:
        """The common name in the client's verified certificate; None without a certificate, and if
        that has several or something that is no text: whoever reads it must read the same."""
        try:
            paper: dict[str, Any] = (self._session.getpeercert() if self._shaken else None) or {}
        except UnicodeDecodeError:
            return None
        parts = (pair for part in paper.get("subject", ()) for pair in part)
        names = [value for key, value in parts if key == "commonName"]
        return str(names[0]) if len(names) == 1 else None

    def receive(self, data: bytes) -> bytes:
        """What was said within TLS."""
        self._incoming.write(data)
        self.more = False
        parts: list[bytes] = []
        try:
            if not self._shaken:
                self._session.do_handshake()
                self._shaken = True
            for _ in range(RECORDS_PER_TURN):
                part = self._session.read(RECORD_BYTES)
                if not part:
                    self.ended = CLOSED
                    break
                parts.append(part)
            else:
                self.more = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = CLOSED
        except ssl.SSLError as error:
            self.ended = _said(error)
        return b"".join(parts)

    def wrap(self, data: bytes) -> bytes:
        """Records with the data, after what the handshake still had to say."""
        if data and self._shaken and self.ended is None:
            self._session.write(data)
        return self._outgoing.read()

    def farewell(self) -> bytes:
        """close_notify, if a session was begun."""
        if self._shaken and self.ended is None:
            with contextlib.suppress(ssl.SSLError):  # it waits for the other's: we do not
                self._session.unwrap()
        return self._outgoing.read()


def _said(error: ssl.SSLError) -> str:
    """An OpenSSL error as it reads in a log line: `WRONG_VERSION_NUMBER` as its words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    reason = error.reason or "TLS error"
    if reason in _NO_TLS:
        return "what it says is not TLS"
    _, alert, why = reason.partition("_ALERT_")
    return ("the client refuses: " + why if alert else reason).lower().replace("_", " ")


def _fault(certificate: Path, key: Path, error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if reason == "KEY_VALUES_MISMATCH":
        return f"{key}: this key does not belong to the certificate {certificate}"
    text = files.read(key, "key", private=True)
    if b"ENCRYPTED" in text:
        return f"{key}: the key is under a passphrase; write it without: openssl pkey -in {key}"
    if b"PRIVATE KEY-----" not in text:
        return f"{key}: expected a private key in PEM form"
    if ssl.PEM_HEADER.encode() not in files.read(certificate, "certificate"):
        return f"{certificate}: expected a certificate in PEM form"
    return f"{certificate} with {key}: not accepted by OpenSSL: {_said(error)}"


def _element(der: bytes) -> tuple[int, int]:
    """Where the content of the first DER element begins and ends."""
    size, start = der[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[2:start])
    if start + size > len(der):
        raise ValueError("cut short")
    return start, start + size


def _content(der: bytes) -> bytes:
    start, end = _element(der)
    return der[start:end]


def _after(der: bytes) -> bytes:
    return der[_element(der)[1] :]


def _second(der: bytes) -> int:
    """A UTCTime (years 1950-2049) or a GeneralizedTime (RFC 5280, 4.1.2.5) as Unix time."""
    text = _content(der).decode("ascii")
    if der[0] == 0x17:
        text = ("19" if text >= "5" else "20") + text
    month = MONTHS[int(text[4:6]) - 1]
    clock = f"{text[8:10]}:{text[10:12]}:{text[12:14]}"
    return ssl.cert_time_to_seconds(f"{month} {text[6:8]} {clock} {text[:4]} GMT")
