"""How to reach the brokers of a configuration: its files read, its credentials checked.

The first connection goes by the device's id, those to further brokers by the id and their number:
two addresses may lead to one broker, which would throw one connection out for the other.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from demesh.config import BrokerSection, Config
from demesh.errors import KeyFileError

if TYPE_CHECKING:
    from ssl import SSLContext

    from demesh.transport.client import Link

PASSWORD_BYTES_MAX = 1024


def links(folder: Path, config: Config, client_id: str) -> tuple[Link, ...]:
    """One for each broker, without will and subscriptions; raises ConfigError, KeyFileError."""
    return tuple(
        _link(folder, broker, number, client_id) for number, broker in enumerate(config.brokers)
    )


def _link(folder: Path, broker: BrokerSection, number: int, client_id: str) -> Link:
    from demesh.transport.client import Link  # noqa: PLC0415

    return Link(
        broker.host,
        broker.port,
        broker.url,
        client_id=f"{client_id}-{number + 1}" if number else client_id,
        subscriptions=(),
        username=broker.username,
        password=read_password(folder, broker),
        wait_s=broker.wait_s,
        broker=number,
        least_qos=1,
        tls=_context(folder, broker) if broker.tls else None,
        keepalive_s=broker.keepalive_s,
    )


def _context(folder: Path, broker: BrokerSection) -> SSLContext:
    """Who vouches for the broker, and what vouches for us; raises ConfigError, KeyFileError."""
    from demesh.cli import tls  # noqa: PLC0415 - most brokers at home speak none

    if broker.psk_identity is not None and broker.psk_file is not None:
        return tls.by_shared_key(broker.psk_identity, folder / broker.psk_file)
    return tls.by_certificate(
        *(
            None if name is None else folder / name
            for name in (broker.ca_file, broker.client_certificate, broker.client_key)
        )
    )


def absent_files(folder: Path, config: Config) -> list[str]:
    """Files that the brokers' sections name and that are not there."""
    named = [
        name
        for broker in config.brokers
        for name in (
            broker.password_file,
            broker.ca_file,
            broker.client_certificate,
            broker.client_key,
            broker.psk_file,
        )
        if name is not None
    ]
    absent = [name for name in named if not (folder / name).exists()]
    where = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nowhere"))
    credentials = [b.password_credential for b in config.brokers if b.password_credential]
    return absent + [f"credential {name}" for name in credentials if not (where / name).exists()]


def read_password(folder: Path, broker: BrokerSection) -> str | None:
    """The broker's password, if there is one; raises KeyFileError."""
    from demesh.storage.keys import read_credential, read_private  # noqa: PLC0415

    if broker.password_file is not None:
        path = folder / broker.password_file
        content = read_private(path, PASSWORD_BYTES_MAX)
    elif broker.password_credential is not None:
        where = os.environ.get("CREDENTIALS_DIRECTORY")
        if where is None:
            raise KeyFileError(
                f"password_credential {broker.password_credential}: there is no "
                "$CREDENTIALS_DIRECTORY; start the daemon by systemd with LoadCredential, "
                "or write password_file"
            )
        path = Path(where) / broker.password_credential
        content = read_credential(path, PASSWORD_BYTES_MAX)
    else:
        return None
    try:
        password = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        password = ""
    if not password or len(content) > PASSWORD_BYTES_MAX or "\n" in password:
        raise KeyFileError(f"{path}: expected the broker password on one line of UTF-8 text")
    return password
