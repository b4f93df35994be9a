"""A device's configuration as frozen records, and the pure check that makes one from a TOML table.

Reading the file belongs to `cli/reading.py`, reading what it names to others there. Paths stay text
here: relative ones are meant from the folder of the file, and only the shell knows where that is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from demesh.section import Section

AMOUNT_MAX = 2**53 - 1  # exact in JSON, SQLite and JavaScript, like every amount on the wire
POWER_W_MAX = 2**32 - 1  # the wire's U32
MQTT_PORT, MQTTS_PORT = 1883, 8883

# Two are enough for one to fail or lie; each costs the device its whole traffic once more.
BROKERS_MAX = 8

# Python's ssl takes pre-shared keys since then.
PSK_PYTHON = (3, 13)

NAME_CHARS_MAX = 64  # the wire's Name


@dataclass(frozen=True, slots=True)
class SellPolicy:
    """What the owner sells energy for; lead and lag in micro-credits. Price or tariff, not both."""

    price: int | None  # micro-credits per kWh
    power_w_max: int
    units_max: int  # Wh per agreement
    sessions_max: int = 1
    quantum_ms: int = 10_000  # a voucher each: shorter costs traffic, longer costs exposure
    lead: int = 10_000
    lag: int = 10_000
    tariff: str | None = None  # a file, as `demesh tariff explain` reads it


@dataclass(frozen=True, slots=True)
class BuyPolicy:
    """What the owner pays at most, in micro-credits per kWh, and how much one agreement may be."""

    price_max: int
    power_w_max: int
    units_max: int  # Wh per agreement
    duration_s: int = 3600


@dataclass(frozen=True, slots=True)
class DeviceSection:
    """Who this device is and where its own files are."""

    name: str
    device_class: str
    driver: str
    data: str = "data"
    key: str = "device.key"
    vote_key: str = "vote.key"
    certificate: str | None = None  # its owner's, for a device that the genesis does not name
    report_s: int = 60  # how often a mere change of what is measured is shown


@dataclass(frozen=True, slots=True)
class MeshSection:
    """Which mesh it belongs to, and how patient consensus is: `lan` or `wan`."""

    genesis: str
    profile: str = "lan"


@dataclass(frozen=True, slots=True)
class BrokerSection:
    """Where a broker is, and how to be let in. All files are named, none is read here.

    `wait_s`: patience for the first connection; 0 waits for ever. The system's authorities vouch
    for a TLS broker where no `ca_file` does.
    """

    host: str
    port: int = MQTT_PORT
    tls: bool = False
    username: str | None = None
    password_file: str | None = None
    password_credential: str | None = None  # a file in $CREDENTIALS_DIRECTORY
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    psk_identity: str | None = None
    psk_file: str | None = None
    keepalive_s: int = 20
    wait_s: int = 30

    @property
    def url(self) -> str:
        """The address as a person writes it, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything `demesh run` is told by its owner."""

    device: DeviceSection
    mesh: MeshSection
    brokers: tuple[BrokerSection, ...]
    sell: SellPolicy | None = None
    buy: BuyPolicy | None = None
    driver: Mapping[str, Any] = field(default_factory=dict)


PROFILES = ("lan", "wan")


def parse(table: Mapping[str, Any], where: str) -> Config:
    """The configuration in a TOML table; `where` names the file. Raises EntryError."""
    top = Section(where, "", table)
    top.known("device", "mesh", "broker", "market", "driver")
    device = top.section("device")
    mesh = top.section("mesh")
    market = top.section("market", needed=False)
    driver = top.section("driver", needed=False)
    market.known("sell", "buy")
    return Config(
        device=_device(device),
        mesh=_mesh(mesh),
        brokers=_brokers(top.sections("broker", BROKERS_MAX)),
        sell=_sell(market.section("sell")) if "sell" in market.table else None,
        buy=_buy(market.section("buy")) if "buy" in market.table else None,
        driver=dict(driver.table),
    )


def _device(section: Section) -> DeviceSection:
    section.known("name", "class", "driver", "data", "key", "vote_key", "certificate", "report_s")
    return DeviceSection(
        name=section.text("name", chars_max=NAME_CHARS_MAX),
        device_class=section.text("class", chars_max=NAME_CHARS_MAX),
        driver=section.text("driver"),
        data=section.text("data", "data"),
        key=section.text("key", "device.key"),
        vote_key=section.text("vote_key", "vote.key"),
        certificate=section.text("certificate", "") or None,
        report_s=section.integer("report_s", 1, 86_400, 60),
    )


def _mesh(section: Section) -> MeshSection:
    section.known("genesis", "profile")
    profile = section.text("profile", "lan")
    if profile not in PROFILES:
        raise section.misfit("profile", f'= "{profile}" is none of "lan" and "wan"')
    return MeshSection(genesis=section.text("genesis"), profile=profile)


_COMPANIONS = {
    "password_file": "username",
    "password_credential": "username",
    "client_certificate": "client_key",
    "client_key": "client_certificate",
    "psk_identity": "psk_file",
    "psk_file": "psk_identity",
}
"""Keys of a broker that mean nothing without another."""

_OF_TLS = ("ca_file", "client_certificate", "client_key", "psk_identity", "psk_file")

_EXCLUSIVE = (
    ("password_file", "password_credential"),
    ("psk_identity", "ca_file"),
    ("psk_identity", "client_certificate"),
)


def _brokers(sections: list[Section]) -> tuple[BrokerSection, ...]:
    found: list[BrokerSection] = []
    for section in sections:
        broker = _broker(section)
        for number, other in enumerate(found, 1):
            if (broker.host, broker.port) == (other.host, other.port):
                raise section.misfit("url", f'= "{broker.url}" is that of no. {number} already')
        found.append(broker)
    return tuple(found)


def _broker(section: Section) -> BrokerSection:
    words = ("username", *_COMPANIONS, "ca_file")
    section.known("url", "keepalive_s", "wait_s", *words)
    tls, host, port = split_url(section, "url", section.text("url"))
    given = {word: section.text(word) for word in words if word in section.table}
    _check_company(section, given, tls)
    return BrokerSection(
        host,
        port,
        tls,
        **given,
        keepalive_s=section.integer("keepalive_s", 1, 3600, 20),
        wait_s=section.integer("wait_s", 0, 86_400, 30),
    )


def _check_company(section: Section, given: Mapping[str, str], tls: bool) -> None:
    """Which keys of a broker go together; raises EntryError."""
    for key in given:
        if key in _COMPANIONS and _COMPANIONS[key] not in given:
            raise section.misfit(key, f"needs a {_COMPANIONS[key]} beside it")
        if key in _OF_TLS and not tls:
            raise section.misfit(key, 'is of TLS; write url = "mqtts://..."')
    for one, other in _EXCLUSIVE:
        if one in given and other in given:
            raise section.misfit(other, f"and {one} exclude each other; leave one of them out")
    if "/" in given.get("password_credential", ""):
        raise section.misfit(
            "password_credential", "is a name without a path, as in LoadCredential"
        )
    if "psk_identity" in given and sys.version_info < PSK_PYTHON:
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        needed = f"{PSK_PYTHON[0]}.{PSK_PYTHON[1]}"
        text = f"needs Python {needed}, this is {here}; take certificates or passwords instead"
        raise section.misfit("psk_identity", text)


def _sell(section: Section) -> SellPolicy:
    section.known(*(f.name for f in fields(SellPolicy)))
    listed = "tariff" in section.table
    if listed and "price" in section.table:
        raise section.misfit("tariff", "and price exclude each other; leave one of them out")
    return SellPolicy(
        price=None if listed else section.integer("price", 0, AMOUNT_MAX),
        tariff=section.text("tariff") if listed else None,
        power_w_max=section.integer("power_w_max", 1, POWER_W_MAX),
        units_max=section.integer("units_max", 1, AMOUNT_MAX),
        sessions_max=section.integer("sessions_max", 1, 64, 1),
        quantum_ms=section.integer("quantum_ms", 100, 3_600_000, 10_000),
        lead=section.integer("lead", 0, AMOUNT_MAX, 10_000),
        lag=section.integer("lag", 0, AMOUNT_MAX, 10_000),
    )


def _buy(section: Section) -> BuyPolicy:
    section.known(*(f.name for f in fields(BuyPolicy)))
    return BuyPolicy(
        price_max=section.integer("price_max", 0, AMOUNT_MAX),
        power_w_max=section.integer("power_w_max", 1, POWER_W_MAX),
        units_max=section.integer("units_max", 1, AMOUNT_MAX),
        duration_s=section.integer("duration_s", 1, 7 * 86_400, 3600),
    )


def split_url(section: Section, key: str, url: str) -> tuple[bool, str, int]:
    """Whether it is TLS, host and port of `mqtt://host:port` or `mqtts://host:port`."""
    expected = (
        f'= "{url}" is not a broker address; write mqtt://host:port or mqtt://[::1]:port, '
        "and mqtts:// for TLS"
    )
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")  # as it is looked up: UnicodeError is a ValueError
    except ValueError:
        raise section.misfit(key, expected) from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port == 0:
        raise section.misfit(key, expected)
    if parts.username is not None or parts.password is not None:
        raise section.misfit(key, "holds a login; move it to username and password_file")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise section.misfit(key, expected)
    tls = parts.scheme == "mqtts"
    return tls, parts.hostname, port or (MQTTS_PORT if tls else MQTT_PORT)
