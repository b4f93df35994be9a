"""TLS contexts from files: who vouches for a broker, and what this device shows of itself.

Files are read once, at the start. A mistake in one is an error of one line that names it.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from demesh.errors import ConfigError, KeyFileError
from demesh.storage.keys import read_private

# A chain of certificates and a key of 4096 bits take some kilobytes.
KEY_BYTES_MAX = 64 * 1024
PSK_BYTES_MAX = 64  # OpenSSL takes more; nobody needs it


def by_certificate(
    ca_file: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """A client's context, TLS 1.2 or later, host names checked; raises ConfigError, KeyFileError.

    The system's authorities vouch for the broker where no `ca_file` does.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(ca_file)
        except ssl.SSLError:
            raise ConfigError(f"{ca_file}: no certificates in PEM form in it") from None
        except OSError as error:
            raise ConfigError(f"{ca_file}: cannot be read: {error.strerror}") from None
    if certificate is not None:
        assert key is not None
        _show(context, certificate, key)
    return context


def by_shared_key(identity: str, file: Path) -> ssl.SSLContext:
    """A client's context for a key that the broker has as well (Python 3.13); KeyFileError."""
    try:
        key = bytes.fromhex(read_private(file, 2 * PSK_BYTES_MAX + 2).decode("ascii").strip())
    except ValueError:
        key = b""
    if not 16 <= len(key) <= PSK_BYTES_MAX:
        raise KeyFileError(
            f"{file}: expected a key in hexadecimal, of 16 to {PSK_BYTES_MAX} bytes, on one line"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # who has the key is the broker; there is no certificate
    context.verify_mode = ssl.CERT_NONE
    # OpenSSL maps keys to TLS 1.3 only for a hash that brokers do not agree on.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("PSK")
    context.set_psk_client_callback(lambda _: (identity, key))  # type: ignore[attr-defined]
    return context


def _show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Load what this device shows of itself, and the key of mode 0600 that belongs to it."""
    read_private(key, KEY_BYTES_MAX)  # its mode is what is checked

    def locked() -> str:
        raise KeyFileError(f"{key}: is locked by a password; nobody is there to type it")

    try:
        context.load_cert_chain(certificate, key, locked)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{certificate}: is the certificate of another key than {key}"
            ) from None
        raise ConfigError(
            f"{certificate}, {key}: expected a certificate and its key, both in PEM form"
        ) from None
    except OSError as error:
        raise ConfigError(f"{certificate}: cannot be read: {error.strerror}") from None
