"""A device's configuration as frozen records, and the pure check that makes one from a TOML table.

Reading the file belongs to `cli/reading.py`. Paths stay text here: relative ones are meant from the
folder of the configuration file, and only the shell knows where that is.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from demesh.errors import ConfigError

AMOUNT_MAX = 2**53 - 1  # exact in JSON, SQLite and JavaScript, like every amount on the wire
POWER_W_MAX = 2**32 - 1  # the wire's U32
MQTT_PORT = 1883
NAME_CHARS_MAX = 64  # the wire's Name


class EntryError(ConfigError):
    """A key that is unknown, missing or of the wrong type; `section` and `key` say which."""

    def __init__(self, where: str, section: str, key: str, text: str) -> None:
        super().__init__(f"{where}: {text}")
        self.section, self.key, self.text = section, key, text


@dataclass(frozen=True, slots=True)
class SellPolicy:
    """What the owner sells energy for: micro-credits per kWh; lead and lag in micro-credits."""

    price: int
    power_w_max: int
    units_max: int  # Wh per agreement
    sessions_max: int = 1
    quantum_ms: int = 10_000  # a voucher each: shorter costs traffic, longer costs exposure
    lead: int = 10_000
    lag: int = 10_000


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
    """Where the broker is. `wait_s`: patience for the first connection; 0 waits for ever."""

    host: str
    port: int = MQTT_PORT
    username: str | None = None
    password_file: str | None = None
    wait_s: int = 30

    @property
    def url(self) -> str:
        """The address as a person writes it, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything `demesh run` is told by its owner."""

    device: DeviceSection
    mesh: MeshSection
    broker: BrokerSection
    sell: SellPolicy | None = None
    buy: BuyPolicy | None = None
    driver: Mapping[str, Any] = field(default_factory=dict)


PROFILES = ("lan", "wan")


def parse(table: Mapping[str, Any], where: str) -> Config:
    """The configuration in a TOML table; `where` names the file. Raises EntryError."""
    top = _Section(where, "", table)
    top.known("device", "mesh", "broker", "market", "driver")
    device = top.section("device")
    mesh = top.section("mesh")
    broker = top.section("broker")
    market = top.section("market", needed=False)
    driver = top.section("driver", needed=False)
    market.known("sell", "buy")
    return Config(
        device=_device(device),
        mesh=_mesh(mesh),
        broker=_broker(broker),
        sell=_sell(market.section("sell")) if "sell" in market.table else None,
        buy=_buy(market.section("buy")) if "buy" in market.table else None,
        driver=dict(driver.table),
    )


def _device(section: _Section) -> DeviceSection:
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


def _mesh(section: _Section) -> MeshSection:
    section.known("genesis", "profile")
    profile = section.text("profile", "lan")
    if profile not in PROFILES:
        raise section.misfit("profile", f'= "{profile}" is none of "lan" and "wan"')
    return MeshSection(genesis=section.text("genesis"), profile=profile)


def _broker(section: _Section) -> BrokerSection:
    section.known("url", "username", "password_file", "wait_s")
    url = section.text("url")
    host, port = split_url(section, "url", url)
    username = section.text("username", "") or None
    password_file = section.text("password_file", "") or None
    if password_file is not None and username is None:
        raise section.misfit("password_file", "needs a username beside it")
    return BrokerSection(
        host, port, username, password_file, wait_s=section.integer("wait_s", 0, 86_400, 30)
    )


def _sell(section: _Section) -> SellPolicy:
    section.known(*(f.name for f in fields(SellPolicy)))
    return SellPolicy(
        price=section.integer("price", 0, AMOUNT_MAX),
        power_w_max=section.integer("power_w_max", 1, POWER_W_MAX),
        units_max=section.integer("units_max", 1, AMOUNT_MAX),
        sessions_max=section.integer("sessions_max", 1, 64, 1),
        quantum_ms=section.integer("quantum_ms", 100, 3_600_000, 10_000),
        lead=section.integer("lead", 0, AMOUNT_MAX, 10_000),
        lag=section.integer("lag", 0, AMOUNT_MAX, 10_000),
    )


def _buy(section: _Section) -> BuyPolicy:
    section.known(*(f.name for f in fields(BuyPolicy)))
    return BuyPolicy(
        price_max=section.integer("price_max", 0, AMOUNT_MAX),
        power_w_max=section.integer("power_w_max", 1, POWER_W_MAX),
        units_max=section.integer("units_max", 1, AMOUNT_MAX),
        duration_s=section.integer("duration_s", 1, 7 * 86_400, 3600),
    )


def split_url(section: _Section, key: str, url: str) -> tuple[str, int]:
    """Host and port of `mqtt://host:port`, IPv6 in brackets; port 1883 where none is given."""
    expected = f'= "{url}" is not a broker address; write mqtt://host:port or mqtt://[::1]:port'
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise section.misfit(key, expected) from None
    if parts.scheme != "mqtt" or not parts.hostname or port == 0:
        raise section.misfit(key, expected)
    if parts.username is not None or parts.password is not None:
        raise section.misfit(key, "holds a login; move it to username and password_file")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise section.misfit(key, expected)
    return parts.hostname, MQTT_PORT if port is None else port


_KINDS = {bool: "true or false", int: "an integer", float: "a fraction", str: "text"}


def _shown(value: object) -> str:
    """A value as it stands in TOML, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


class _Section:
    """One table of the file: typed access, and errors that name it."""

    def __init__(self, where: str, name: str, table: Mapping[str, Any]) -> None:
        self.where, self.name, self.table = where, name, table

    def misfit(self, key: str, text: str) -> EntryError:
        place = f"[{self.name}] {key}" if self.name else key
        return EntryError(self.where, self.name, key, f"{place} {text}")

    def known(self, *keys: str) -> None:
        """Every key of the table is one of `keys`; raises EntryError with the nearest one."""
        for key in self.table:
            if key in keys:
                continue
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(keys)}"
            raise self.misfit(key, f"is unknown; {hint}")

    def section(self, key: str, *, needed: bool = True) -> _Section:
        name = f"{self.name}.{key}" if self.name else key
        value = self.table.get(key)
        if value is None:
            if not needed:
                return _Section(self.where, name, {})
            raise EntryError(self.where, name, "", f"the section [{name}] is missing")
        if not isinstance(value, dict):
            raise self.misfit(key, f"= {_shown(value)} must be a section; write [{name}]")
        return _Section(self.where, name, value)

    def text(self, key: str, default: str | None = None, *, chars_max: int = 1024) -> str:
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self.misfit(key, f'= {_shown(value)} is not text; write {key} = "..."')
        if default is None and not value.strip():
            raise self.misfit(key, "is empty")
        if len(value) > chars_max or not value.isprintable():
            raise self.misfit(key, f"must be at most {chars_max} printable characters")
        return value

    def integer(self, key: str, least: int, most: int, default: int | None = None) -> int:
        value = self._value(key, default)
        if type(value) is not int:
            hint = "; write it without quotes" if isinstance(value, str) else ""
            if isinstance(value, float) and key in ("price", "price_max"):
                micro = round(value * 1_000_000)
                hint = f"; for {value} credits per kWh write {micro} (micro-credits)"
            kind = _KINDS.get(type(value), "something else")
            raise self.misfit(key, f"= {_shown(value)} is {kind}, expected an integer{hint}")
        if not least <= value <= most:
            raise self.misfit(key, f"= {value} is outside {least}..{most}")
        return value

    def _value(self, key: str, default: object) -> object:
        value = self.table.get(key, default)
        if value is None:
            raise EntryError(
                self.where, self.name, "", f"[{self.name}] {key} is missing; it has no default"
            )
        return value
