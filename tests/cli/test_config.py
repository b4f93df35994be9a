"""The configuration: what is accepted, and that each mistake is one line a person can act on."""

from __future__ import annotations

import copy
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demesh.cli.reading import line_of, read_config
from demesh.config import (
    BrokerSection,
    BuyPolicy,
    Config,
    DeviceSection,
    MeshSection,
    SellPolicy,
    parse,
)
from demesh.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "configs" / "demesh.toml"

LEAST: dict[str, Any] = {
    "device": {"name": "b1", "class": "battery", "driver": "simulated"},
    "mesh": {"genesis": "genesis.cbor"},
    "broker": {"url": "mqtt://localhost"},
}


def changed(section: str, **values: object) -> dict[str, Any]:
    """The least configuration with some values of a section set, or (None) taken away."""
    table = copy.deepcopy(LEAST)
    inner = table
    for name in section.split(".") if section else []:
        inner = inner.setdefault(name, {})
    for key, value in values.items():
        if value is None:
            del inner[key]
        else:
            inner[key] = value
    return table


def complaint(table: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(table, "demesh.toml")
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_the_least_configuration_has_every_default() -> None:
    assert parse(LEAST, "demesh.toml") == Config(
        device=DeviceSection("b1", "battery", "simulated", "data", "device.key", "vote.key"),
        mesh=MeshSection("genesis.cbor", "lan"),
        brokers=(BrokerSection("localhost"),),
        sell=None,
        buy=None,
        driver={},
    )


def test_the_example_in_configs_is_accepted_and_shows_every_policy() -> None:
    config = read_config(EXAMPLE)
    assert isinstance(config.sell, SellPolicy)
    assert isinstance(config.buy, BuyPolicy)
    assert config.brokers[0].url == "mqtt://localhost:1883"


def test_options_of_the_driver_are_passed_on_as_they_are() -> None:
    options = {"scenario": "street.toml", "deep": {"list": [1, 2.5, "x"]}}
    assert parse(changed("driver", **options), "demesh.toml").driver == options


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("mqtt://localhost", "localhost", 1883),
        ("mqtt://broker.example:8883", "broker.example", 8883),
        ("mqtt://[::1]:1884", "::1", 1884),
        ("mqtt://10.0.0.7:1883/", "10.0.0.7", 1883),
        ("mqtts://broker.example", "broker.example", 8883),
        ("mqtts://[::1]:1883", "::1", 1883),
    ],
)
def test_a_broker_address_is_split_and_written_again(url: str, host: str, port: int) -> None:
    (broker,) = parse(changed("broker", url=url), "demesh.toml").brokers
    assert (broker.host, broker.port, broker.tls) == (host, port, url.startswith("mqtts"))
    assert parse(changed("broker", url=broker.url), "demesh.toml").brokers == (broker,)


@pytest.mark.parametrize(
    "url",
    ["localhost", "http://localhost", "mqtt://", "mqtt://h:0", "mqtt://h:70000", "mqtt://h:x",
     "mqtt://a..b", "mqtts://.h", "mqtt://" + "x" * 64,
     "mqtt://h/topic", "mqtt://[::1", "mqtt://h?x=1", ""],
)  # fmt: skip
def test_what_is_no_broker_address_is_refused_with_the_form_to_write(url: str) -> None:
    text = complaint(changed("broker", url=url))
    assert text.startswith("demesh.toml: [broker] url")
    assert "mqtt://host:port" in text or "is empty" in text


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (changed("", brokr={}), 'demesh.toml: brokr is unknown; did you mean "broker"?'),
        (
            changed("device", driwer="x"),
            'demesh.toml: [device] driwer is unknown; did you mean "driver"?',
        ),
        (
            changed("market", rent={}),
            "demesh.toml: [market] rent is unknown; known are sell, buy",
        ),
        (changed("", broker=None), "demesh.toml: the section [broker] is missing"),
        (changed("", broker=7), "demesh.toml: broker = 7 must be a section; write [broker]"),
        (
            changed("device", name=None),
            "demesh.toml: [device] name is missing; it has no default",
        ),
        (
            changed("device", name=True),
            'demesh.toml: [device] name = true is not text; write name = "..."',
        ),
        (changed("device", name=" "), "demesh.toml: [device] name is empty"),
        (
            changed("device", name="x" * 65),
            "demesh.toml: [device] name must be at most 64 printable characters",
        ),
        (
            changed("mesh", profile="wlan"),
            'demesh.toml: [mesh] profile = "wlan" is none of "lan" and "wan"',
        ),
        (
            changed("broker", wait_s="30"),
            'demesh.toml: [broker] wait_s = "30" is text, expected an integer; '
            "write it without quotes",
        ),
        (changed("broker", wait_s=-1), "demesh.toml: [broker] wait_s = -1 is outside 0..86400"),
        (
            changed("broker", password_file="p"),
            "demesh.toml: [broker] password_file needs a username beside it",
        ),
        (
            changed("broker", username="u", password_file="p", password_credential="c"),
            "demesh.toml: [broker] password_credential and password_file exclude each other; "
            "leave one of them out",
        ),
        (
            changed("broker", username="u", password_credential="/run/c"),
            "demesh.toml: [broker] password_credential is a name without a path, "
            "as in LoadCredential",
        ),
        (
            changed("broker", ca_file="ca.pem"),
            'demesh.toml: [broker] ca_file is of TLS; write url = "mqtts://..."',
        ),
        (
            changed("broker", url="mqtts://h", client_key="k"),
            "demesh.toml: [broker] client_key needs a client_certificate beside it",
        ),
        (
            changed("broker", url="mqtts://h", psk_identity="b1"),
            "demesh.toml: [broker] psk_identity needs a psk_file beside it",
        ),
        (
            changed("broker", url="mqtts://h", psk_identity="b1", psk_file="k", ca_file="c"),
            "demesh.toml: [broker] ca_file and psk_identity exclude each other; "
            "leave one of them out",
        ),
        (
            changed("broker", ca_fiel="c"),
            'demesh.toml: [broker] ca_fiel is unknown; did you mean "ca_file"?',
        ),
        (
            changed("", broker=[{"url": "mqtt://a"}, {"url": "mqtt://b", "keepalive_s": 0}]),
            "demesh.toml: [[broker]] no. 2: keepalive_s = 0 is outside 1..3600",
        ),
        (
            changed("", broker=[{"url": "mqtt://a"}, {"url": "mqtts://a:1883"}]),
            'demesh.toml: [[broker]] no. 2: url = "mqtts://a:1883" is that of no. 1 already',
        ),
        (
            changed("", broker=[{"url": "mqtt://a"}, {}]),
            "demesh.toml: [[broker]] no. 2: url is missing; it has no default",
        ),
        (
            changed("", broker=[]),
            "demesh.toml: broker is empty; write [broker], or [[broker]] for each of several",
        ),
        (
            changed("", broker=[{"url": f"mqtt://h{n}"} for n in range(9)]),
            "demesh.toml: broker is there 9 times; 8 are the most",
        ),
        (
            changed("", broker=["mqtt://a"]),
            'demesh.toml: broker holds "mqtt://a", which is no section; write [[broker]]',
        ),
        (
            changed("broker", url="mqtt://me:secret@h"),
            "demesh.toml: [broker] url holds a login; move it to username and password_file",
        ),
        (
            changed("market.sell", price=0.4, power_w_max=1, units_max=1),
            "demesh.toml: [market.sell] price = 0.4 is a fraction, expected an integer; "
            "for 0.4 credits per kWh write 400000 (micro-credits)",
        ),
        (
            changed("market.sell", price=1, tariff="t.toml", power_w_max=1, units_max=1),
            "demesh.toml: [market.sell] tariff and price exclude each other; leave one of them out",
        ),
        (
            changed("market.sell", power_w_max=1, units_max=1),
            "demesh.toml: [market.sell] price is missing; it has no default",
        ),
        (
            changed("market.buy", price_max=1, power_w_max=0, units_max=1),
            "demesh.toml: [market.buy] power_w_max = 0 is outside 1..4294967295",
        ),
        (
            changed("market.buy", price_max=True, power_w_max=1, units_max=1),
            "demesh.toml: [market.buy] price_max = true is true or false, expected an integer",
        ),
    ],
)
def test_a_mistake_says_where_it_is_what_came_and_what_to_do(
    table: dict[str, Any], expected: str
) -> None:
    assert complaint(table) == expected


def test_a_mistake_in_a_file_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "demesh.toml"
    text = EXAMPLE.read_text()
    for right, wrong in (
        ('name = "home1', 'nmae = "home1'),
        ("quantum_ms = 10000", "quantum_ms = 1"),
        ("[market.buy]", "[market.by]"),
    ):
        path.write_text(text.replace(right, wrong, 1))
        number = text[: text.index(right)].count("\n") + 1
        with pytest.raises(ConfigError) as caught:
            read_config(path)
        assert str(caught.value).startswith(f"{path}:{number}: "), wrong


SEVERAL = """
[[broker]]
url = "mqtt://home"
[[broker]]
# The other one.
url = "mqtts://street"
username = "b1"
password_file = "street.password"
[[broker]]
url = "mqtt://[::1]"
"""


def test_several_brokers_are_listed_in_order() -> None:
    table = changed("", **tomllib.loads(SEVERAL))
    assert [broker.url for broker in parse(table, "demesh.toml").brokers] == [
        "mqtt://home:1883",
        "mqtts://street:8883",
        "mqtt://[::1]:1883",
    ]


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        ('url = "mqtts://street"', 'url = "street"', 6),
        ('username = "b1"', 'user_name = "b1"', 7),
        ('username = "b1"\n', "", 7),  # and the password is on the next line, now this one
        ('url = "mqtts://street"\n', "", 4),
        ('url = "mqtt://[::1]"', 'url = "mqtt://home"', 10),
    ],
)
def test_a_mistake_in_one_broker_of_several_names_its_line(
    tmp_path: Path, right: str, wrong: str, line: int
) -> None:
    path = tmp_path / "demesh.toml"
    rest = EXAMPLE.read_text().replace("[broker]", "[other]")
    path.write_text(SEVERAL.replace(right, wrong, 1) + rest[: rest.index("[other]")])
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}:{line}: [[broker]] no. "), caught.value


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="this Python has pre-shared keys")
def test_pre_shared_keys_are_refused_where_python_has_none() -> None:
    text = complaint(changed("broker", url="mqtts://h", psk_identity="b1", psk_file="k"))
    assert "[broker] psk_identity needs Python 3.13, this is 3." in text


def test_what_is_no_toml_or_no_text_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "demesh.toml"
    path.write_text("[device]\nname = \n")
    with pytest.raises(ConfigError, match=r"demesh\.toml:2: not TOML: Invalid value"):
        read_config(path)
    path.write_text('[broker]\nurl = "mqtt://a"\n[[broker]]\nurl = "mqtt://b"\n')
    with pytest.raises(
        ConfigError, match=r"\[broker\] beside \[\[broker\]\]; write \[\[broker\]\]"
    ):
        read_config(path)
    path.write_bytes(b"[device]\nname = '\xff'\n")
    with pytest.raises(ConfigError, match=r"demesh\.toml:2: not UTF-8 text"):
        read_config(path)


def test_a_file_that_is_missing_a_folder_or_huge_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        read_config(tmp_path / "demesh.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_config(tmp_path)
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="is it the right file"):
        read_config(huge)


def test_the_line_of_a_key_is_found_within_its_section() -> None:
    text = '[a]\nx = 1\n[b]\n# x = 2\n"x" = 3\n[b.c]\nx = 4\n'
    assert line_of(text, "a", "x") == 2
    assert line_of(text, "b", "x") == 5
    assert line_of(text, "b.c", "x") == 7
    assert line_of(text, "b", "c") == 6
    assert line_of(text, "b", "") == 3
    assert line_of(text, "", "b") == 3
    assert line_of(text, "d", "x") is None


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
PLACES = [
    (section, key) for section, table in tomllib.loads(EXAMPLE.read_text()).items() for key in table
]


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(PLACES), junk=JUNK)
def test_whatever_stands_in_a_place_it_is_accepted_or_a_config_error(
    place: tuple[str, str], junk: object
) -> None:
    table = tomllib.loads(EXAMPLE.read_text())
    table[place[0]][place[1]] = junk
    try:
        parse(table, "demesh.toml")
    except ConfigError as error:
        assert str(error).startswith("demesh.toml: ")
