"""What a broker is told by its owner, as frozen records; and what follows from its files."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from demesh.broker import files, passwords, rights, tls
from demesh.broker.access import Access, Open
from demesh.broker.accounts import Accounts
from demesh.broker.limits import Limits
from demesh.broker.websocket import PATH
from demesh.errors import ConfigError

PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 8080, "wss": 8443}
DAY_S = 86_400
# Authorities of the web renew a month before the end; who is told now has some days to act.
RENEW_DAYS = 14


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address to listen on; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    scheme: str = "mqtt"

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken there."""
        return self.scheme in ("mqtts", "wss")

    @property
    def web(self) -> bool:
        """Whether WebSocket is spoken there."""
        return self.scheme in ("ws", "wss")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{PATH if self.web else ''}"


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """A whole broker. Paths are as they are to be opened."""

    listen: tuple[Endpoint, ...] = (Endpoint(port=PORTS["mqtt"]),)
    passwords: Path | None = None
    acl: Path | None = None
    rules: tuple[str, ...] = ()  # ACL lines that hold where there are passwords and no `acl`
    data: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Trust:
    """What the files of a configuration say at one time: whom to let in, and how."""

    access: Access = field(default_factory=Open)
    context: ssl.SSLContext | None = None
    trusting: bool = True  # some clients need no password
    names: frozenset[str] = frozenset()  # who has a password
    authorities: bytes = b""  # who vouches for clients
    warnings: tuple[str, ...] = ()


def parse_endpoint(url: str) -> Endpoint:
    """`mqtt://`, `mqtts://`, `ws://` or `wss://` with an IP address or localhost; ConfigError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if parts.scheme not in PORTS or parts.username is not None or parts.query or parts.fragment:
            raise ValueError
        if parts.path.rstrip("/") not in ("", PATH if parts.scheme in ("ws", "wss") else ""):
            raise ValueError
        host = "127.0.0.1" if host == "localhost" else host
        ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError(
            f"{url!r} is no address to listen on; write SCHEME://ADDRESS:PORT with mqtt, mqtts, ws "
            f"or wss and an IP address or localhost, as mqtt://127.0.0.1:1883 or wss://[::]:8443"
        ) from None
    return Endpoint(host, PORTS[parts.scheme] if port is None else port, parts.scheme)


def check(config: BrokerConfig) -> None:
    """Whether the parts fit together; raises ConfigError."""
    if (config.certificate is None) is not (config.key is None):
        raise ConfigError("a certificate and its key are given together, or neither")
    if config.client_ca is not None and config.certificate is None:
        raise ConfigError("authorities of clients need TLS: give a certificate and its key")
    seen: set[tuple[str, int]] = set()
    for endpoint in config.listen:
        if not 0 <= endpoint.port <= 0xFFFF:
            raise ConfigError(f"{endpoint}: expected a port from 0 (any free one) to 65535")
        if endpoint.secure and config.certificate is None:
            raise ConfigError(f"{endpoint} speaks TLS: give a certificate and its key")
        if config.passwords is None and config.client_ca is not None and not endpoint.secure:
            raise ConfigError(
                f"nobody could log in at {endpoint}: certificates are shown under TLS only, and "
                f"there are no passwords"
            )
        if config.passwords is None and config.client_ca is None and not endpoint.loopback:
            raise ConfigError(
                f"{endpoint} can be reached from other machines, and anybody could publish there: "
                f"give a password file (`demesh broker account add` makes one), or take a loopback "
                f"address such as 127.0.0.1"
            )
        if endpoint.port and (endpoint.host, endpoint.port) in seen:
            raise ConfigError(f"{endpoint}: address and port are given twice")
        seen.add((endpoint.host, endpoint.port))
    if not config.listen:
        raise ConfigError("no address to listen on; leave `listen` out for mqtt://127.0.0.1:1883")


def read_trust(config: BrokerConfig, now_s: int, before: Trust | None = None) -> Trust:
    """Read all files anew; raises ConfigError, KeyFileError, and then nothing has changed.

    `now_s`: Unix time; `before`: what the files said until now.
    """
    check(config)
    accounts = allowed = context = None
    warnings = []
    if config.passwords is not None:
        accounts = passwords.parse(
            files.read_text(config.passwords, "passwords", private=True), str(config.passwords)
        )
        if not accounts.names() and config.client_ca is None:
            warnings.append(
                f"{config.passwords}: no accounts in it, so nobody is let in; "
                f"`demesh broker account add` makes one"
            )
    if config.acl is not None:
        allowed = rights.parse(files.read_text(config.acl, "rights"), str(config.acl))
    elif (accounts is not None or config.client_ca is not None) and config.rules:
        allowed = rights.parse("\n".join(config.rules), "built-in rights")
    if config.certificate is not None and config.key is not None:
        context = tls.server_context(
            config.certificate, config.key, config.client_ca, needed=accounts is None
        )
        warnings += _renewal(config.certificate, now_s)
    for endpoint in config.listen:
        if accounts is not None and not endpoint.secure and not endpoint.loopback:
            warnings.append(f"passwords can be read on the way to {endpoint}; mqtts:// hides them")
    by_certificate = config.client_ca is not None
    names = frozenset(accounts.names() if accounts is not None else ())
    removed = before.names - names if before is not None else frozenset()
    access = Accounts(accounts, allowed, by_certificate=by_certificate, removed=removed)
    # A browser shows its certificate whatever page asks.
    trusting = accounts is None or by_certificate
    authorities = b"" if config.client_ca is None else files.read(config.client_ca, "authorities")
    return Trust(access, context, trusting, names, authorities, tuple(warnings))


def _renewal(certificate: Path, now_s: int) -> list[str]:
    first, last = tls.lifetime(certificate)
    if now_s > last:
        raise ConfigError(f"{certificate}: expired {_days(now_s - last)} ago; renew it")
    if now_s < first:
        raise ConfigError(
            f"{certificate}: valid in {_days(first - now_s)} only; is this machine's clock right?"
        )
    if last - now_s < RENEW_DAYS * DAY_S:
        return [f"{certificate}: expires in {_days(last - now_s)}; renew it, then send SIGHUP"]
    return []


def _days(seconds: int) -> str:
    days = seconds // DAY_S
    return f"{days} day{'' if days == 1 else 's'}" if days else f"{seconds // 3600} hours"
