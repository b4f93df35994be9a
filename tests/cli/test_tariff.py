"""`demesh tariff`: what a person wrote is read or refused in one line, and every line adds up."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.mesh import Mesh
from demesh.cli.explaining import bill, read_at, read_use, spread
from demesh.cli.main import main
from demesh.cli.reading import read_config
from demesh.cli.tariffs import read_sold_tariff, read_tariff
from demesh.errors import ConfigError, InputError
from demesh.metering.tariff import cost, rates
from demesh.metering.windows import edge_after, rate_at
from demesh.metering.wording import sentence
from demesh.wire.offers import Tariff, Tier, Window
from demesh.wire.schema import decode
from metering.tariffs import PATIENT, windowed
from transport.brokers import free_port

CONFIGS = Path(__file__).parents[2] / "configs"
NIGHT = CONFIGS / "tariffs" / "night-and-day.toml"
STEPS = CONFIGS / "tariffs" / "steps.toml"
FLAT = "[[rate]]\ntiers = [{ price = 240_000, per = 1_000 }]\n"
WINDOW = '[[rate]]\nfrom = "22:00"\nto = "24:00"\ntiers = [{ price = 1, per = 1 }]\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "tariff.toml"
    path.write_text(text)
    return path


def test_the_examples_are_read() -> None:
    found = {path.stem: read_tariff(path) for path in (CONFIGS / "tariffs").glob("*.toml")}
    assert sorted(found) == ["flat", "night-and-day", "steps"]
    assert found["flat"] == Tariff("Wh", 0, 0, None, (Tier(None, 240_000, 1000),))
    night = (Tier(None, 180_000, 1000),)
    steps = (Tier(10_000, 260_000, 1000), Tier(None, 320_000, 1000))
    assert found["night-and-day"] == Tariff(
        *("Wh", 50_000, 0, 20_000_000, steps),
        (
            Window(31, 1320, 1440, night),
            Window(127, 0, 360, night),
            Window(96, 0, 1440, (Tier(None, 220_000, 1000),)),
        ),
        *(60, 1_767_222_000, 1_798_758_000),
    )


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (FLAT, 0, "unit is missing; it has no default"),
        ('unit = "kWh"\n' + FLAT, 1, 'unit = "kWh" is not known; write unit = "Wh" and scale = 3'),
        ('unit = "wh"\n' + FLAT, 1, 'unit = "wh" is not known; did you mean "Wh"?'),
        ('unit = "Wh"\nscale = 2\n' + FLAT, 0, "scale is 2, expected a multiple of 3"),
        ('unit = "m3"\nscale = -3\n' + FLAT, 2, "scale goes with units that take a prefix: B, J,"),
        ('unit = "Wh"\nstrat = 2\n' + FLAT, 2, 'strat is unknown; did you mean "start"?'),
        ('unit = "Wh"\nstart = -1\n' + FLAT, 2, "start = -1 is outside 0.."),
        ('unit = "Wh"\nmost = 1\nleast = 2\n' + FLAT, 0, "most is 1, expected at least 2"),
        ('unit = "Wh"\nutc_offset_min = 900\n' + FLAT, 2, "= 900 is outside -720..840"),
        ('unit = "Wh"\n', 0, "the section [rate] is missing"),
        ('unit = "Wh"\n' + WINDOW, 0, "rate no. 1 is the last: leave days, from and to out"),
        ('unit = "Wh"\n' + FLAT + FLAT, 0, "rate no. 1 has no days, from and to"),
        ('unit = "Wh"\n' + WINDOW * 8 + FLAT, 0, "rate is there 9 times; 8 are the most"),
        (
            'unit = "Wh"\n' + WINDOW.replace("24:00", "06:00") + FLAT,
            4,
            'to = "06:00" is not after from = "22:00"; for a night write two: '
            'one from "22:00" to "24:00", one from "00:00" to "06:00"',
        ),
        (
            'unit = "Wh"\n' + WINDOW.replace('"22:00"', "22:00:00") + FLAT,
            3,
            'from = 22:00:00 is no time of day; write from = "22:00" in quotes',
        ),
        ('unit = "Wh"\n' + WINDOW.replace("24:00", "24:01") + FLAT, 4, "= 24:01 is no time of day"),
        (
            'unit = "Wh"\n[[rate]]\ndays = ["mon", "thurs"]\n' + WINDOW[9:] + FLAT,
            3,
            'days holds "thurs", which is none; did you mean "thu"?',
        ),
        (
            'unit = "Wh"\n[[rate]]\ndays = ["mon", "mon"]\n' + WINDOW[9:] + FLAT,
            3,
            'days holds "mon" twice',
        ),
        ('unit = "Wh"\n[[rate]]\ndays = []\n' + WINDOW[9:] + FLAT, 3, "must be a list of days"),
        ('unit = "Wh"\n[[rate]]\n', 2, "[[rate]] no. 1: tiers are missing; write tiers = [{"),
        ('unit = "Wh"\n[[rate]]\ntiers = [1]\n', 3, "tiers no. 1 must be { price = ..., per = "),
        (
            'unit = "Wh"\n' + FLAT.replace("240_000", "0.24"),
            3,
            "[[rate]] no. 1: tiers no. 1: price = 0.24 is a fraction, expected an integer; "
            "for 0.24 credits per kWh write 240000 (micro-credits)",
        ),
        ('unit = "Wh"\n' + FLAT.replace("per", "pers"), 3, 'pers is unknown; did you mean "per"?'),
        (
            'unit = "Wh"\n' + FLAT.replace("{ price", "{ upto = 5, price"),
            0,
            "units above 5 have no price",
        ),
        (
            'unit = "Wh"\nvalid_from = 2026-01-01\n' + FLAT,
            2,
            "must say its offset; write 2026-01-01T00:00:00+01:00",
        ),
        (
            'unit = "Wh"\nvalid_to = 1960-01-01T00:00:00Z\n' + FLAT,
            2,
            "must be a whole second since 1970",
        ),
        (
            'unit = "Wh"\nvalid_from = 2026-01-01T00:00:00Z\nvalid_to = 2026-01-01T00:00:00Z\n'
            + FLAT,
            0,
            "valid_to must come after valid_from",
        ),
    ],
)
def test_a_mistake_names_its_line_and_says_what_to_write(
    tmp_path: Path, text: str, line: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_tariff(path)
    place = f"{path}:{line}: " if line else f"{path}"
    assert str(caught.value).startswith(place)
    assert said in str(caught.value)
    assert main(["tariff", "explain", str(path)]) == 78
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and not told.out


NUMBER = r"[\d,]+"


def number(text: str) -> int:
    return int(text.replace(",", ""))


def assert_adds_up(lines: list[str], tariff: Tariff, units: int) -> None:
    """Every line is what it says it is, from its own text, and the last is the cost."""
    listed, used = 0, 0
    for line in lines[1:]:
        if found := re.search(rf"({NUMBER}) x ({NUMBER}) / ({NUMBER}) += +({NUMBER})(.*)$", line):
            many, price, per, amount = map(number, found.groups()[:4])
            assert amount == many * price // per
            assert (found[5] == " (rounded down)") == (many * price % per > 0)
            listed, used = listed + amount, used + many
        elif line.split()[0] == "start":
            listed += number(line.split()[-1])
        elif line.split()[0] == "sum":
            assert number(line.split()[-1]) == listed
        elif found := re.search(rf"at (least|most) +({NUMBER})$", line):
            assert number(found[2]) == (tariff.least if found[1] == "least" else tariff.most)
            assert (listed < number(found[2])) == (found[1] == "least")
            listed = number(found[2])
        else:
            found = re.search(rf"total +([\d.]+) credits +({NUMBER})$", line)
            assert found is not None, line
            assert number(found[2]) == listed
            whole, places = found[1].split(".")
            assert int(whole) * 10**6 + int(places.ljust(6, "0")) == listed
    assert used == units == number(lines[0].split()[0])
    assert lines[-1].split()[0] == "total"


@PATIENT
@given(windowed(), st.integers(0, 10**7), st.integers(0, 2**31), st.integers(1, 20 * 86_400))
def test_every_line_of_a_bill_can_be_recomputed_from_its_text(
    tariff: Tariff, units: int, first_s: int, lasts_s: int
) -> None:
    span = read_at(tariff, f"{iso(first_s)}/{iso(first_s + lasts_s)}")
    counts = spread(tariff, units, span)
    lines = bill(tariff, counts, span)
    assert_adds_up(lines, tariff, units)
    assert number(lines[-1].split()[-1]) == cost(tariff, counts)


def iso(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()


@PATIENT
@given(windowed(), st.integers(0, 10**6), st.integers(0, 2**31), st.integers(1, 20 * 1440))
def test_a_use_is_spread_evenly_over_the_time(
    tariff: Tariff, units: int, first_s: int, minutes: int
) -> None:
    """Of every rate as much as its minutes of the whole, but for a unit at every edge."""
    first_s -= first_s % 60
    counts = spread(tariff, units, read_at(tariff, f"{iso(first_s)}/{iso(first_s + 60 * minutes)}"))
    assert sum(counts) == units
    if not tariff.windows:
        return
    found = [rate_at(tariff, first_s + 60 * minute) for minute in range(minutes)]
    edges = sum(one != next for one, next in pairwise(found))
    for rate in range(len(rates(tariff))):
        assert abs(counts[rate] * minutes - units * found.count(rate)) <= (edges + 1) * minutes


def test_what_explain_prints_for_a_night(capsys: pytest.CaptureFixture[str]) -> None:
    at = "2026-11-23T21:00/2026-11-24T07:30"
    assert main(["tariff", "explain", str(NIGHT), "--use", "12.4kWh", "--at", at]) == 0
    assert capsys.readouterr().out == (
        "0.05 to start; Mon-Fri 22:00-24:00 0.18 per kWh; daily 00:00-06:00 0.18 per kWh; "
        "Sat, Sun 00:00-24:00 0.22 per kWh; else 0.26 per kWh up to 10 kWh, then 0.32 per kWh; "
        "at most 20.00; times UTC+01:00; valid from 2026-01-01 to 2027-01-01\n"
        "\n"
        "12,400 Wh from 2026-11-23 21:00 to 2026-11-24 07:30, evenly, UTC+01:00, "
        "in micro-credits:\n"
        "  start                                                   50,000\n"
        "  else, tier 1 up to 10,000  2,952 x 260,000 / 1,000 =   767,520\n"
        "  Mon-Fri 22:00-24:00        2,362 x 180,000 / 1,000 =   425,160\n"
        "  daily 00:00-06:00          7,086 x 180,000 / 1,000 = 1,275,480\n"
        "  sum                                                  2,518,160\n"
        "  total                      2.51816 credits           2,518,160\n"
    )


@pytest.mark.parametrize(
    ("use", "at", "last"),
    [
        ("0Wh", None, "total  0.05 credits  50,000"),
        ("1Wh", None, "total                         0.10 credits           100,000"),
        ("1 MWh", None, "total                         20.00 credits             20,000,000"),
    ],
)
def test_the_least_and_the_most_have_a_line(
    use: str, at: str | None, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert at is None
    assert main(["tariff", "explain", str(STEPS), "--use", use]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    tariff = read_tariff(STEPS)
    assert_adds_up(lines, tariff, read_use(tariff, use))
    assert " ".join(lines[-1].split()) == " ".join(last.split())
    clamped = any(word in line for line in lines for word in ("at least", "at most"))
    assert clamped == (use != "0Wh")


def test_the_same_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tariff", "explain", str(NIGHT), "--json"]
    assert main([*words, "--use", "12.4kWh", "--at", "2026-11-23T22:30"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sentence"] == sentence(read_tariff(NIGHT))
    assert found["counts"] == [0, 12_400, 0, 0]
    assert (found["from_s"], found["to_s"]) == (1_795_469_400, 1_795_469_401)
    (line,) = found["lines"]
    assert line["amount"] == line["units"] * line["price"] // line["per"] == 2_232_000
    assert found["total"] == found["start"] + line["amount"]
    assert main(words) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"sentence", "unit", "scale"}


def test_without_a_use_there_is_the_sentence_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tariff", "explain", str(NIGHT)]) == 0
    assert capsys.readouterr().out == sentence(read_tariff(NIGHT)) + "\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--use", "12.4"],
            "expected an amount in Wh or kWh or nWh or uWh or mWh or MWh or GWh or TWh, as in 12Wh",
        ),
        (["--use=-1Wh"], "expected an amount in Wh"),
        (["--use", "1kW"], "expected an amount in Wh"),
        (["--use", "12.4567kWh"], "the tariff counts whole Wh"),
        (["--use", "9999999999TWh"], "more than 9007199254740991 Wh"),
        (["--use", "1Wh"], "the price depends on the time; write --at 2026-11-23T21:00"),
        (["--at", "2026-11-23T21:00"], "--at needs --use"),
        (["--use", "1Wh", "--at", "tonight"], '"tonight" is no time'),
        (["--use", "1Wh", "--at", "2026-11-24/2026-11-23"], "the end after the start"),
        (["--use", "1Wh", "--at", "2026-01-01/2026-02-01/2026-03-01"], "START or START/END"),
        (["--use", "1Wh", "--at", "2026-01-01/2027-03-01"], "at most 366 days"),
        (["--use", "1Wh", "--at", "9999-12-31T23:59Z"], "START or START/END"),
        (["--use", "1Wh", "--at", "1969-01-01"], "from 1970 on"),
        (["--use", "1Wh", "--at", "2025-12-31"], "not valid then: 0.05 to start"),
        (["--use", "1Wh", "--at", "2027-01-01"], "not valid then"),
    ],
)
def test_a_use_or_a_time_that_does_not_fit_is_one_line_and_65(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tariff", "explain", str(NIGHT), *words]) == 65
    told = capsys.readouterr()
    assert said in told.err and told.err.count("\n") == 1 and not told.out


def test_units_are_written_with_the_prefixes_they_may_have() -> None:
    wh = Tariff("Wh", 0, 0, None, (Tier(None, 1, 1),))
    kwh = Tariff("Wh", 0, 0, None, (Tier(None, 1, 1),), scale=3)
    m3 = Tariff("m3", 0, 0, None, (Tier(None, 1, 1),), scale=-3)
    assert [read_use(wh, text) for text in ("7Wh", "0.007 kWh", "7000mWh")] == [7, 7, 7]
    assert [read_use(kwh, text) for text in ("7kWh", "7000Wh")] == [7, 7]
    assert read_use(m3, "1.5m3") == 1500
    for text in ("1km3", "0.0001m3"):
        with pytest.raises(InputError):
            read_use(m3, text)


def test_a_time_without_an_offset_is_one_where_the_tariff_is_at_home() -> None:
    tariff = read_tariff(NIGHT)
    assert read_at(tariff, "2026-11-23T21:00") == read_at(tariff, "2026-11-23T20:00Z")
    assert edge_after(tariff, read_at(tariff, "2026-11-23T21:00").first_s) == (
        read_at(tariff, "2026-11-23T22:00").first_s
    )


def test_wire_shows_the_bytes_and_their_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tariff", "wire", str(NIGHT)]) == 0
    shown, digest = capsys.readouterr().out.splitlines()
    content = bytes.fromhex(shown)
    assert decode(Tariff, content) == read_tariff(NIGHT)
    assert digest == f"BLAKE2b-256 {hashlib.blake2b(content, digest_size=32).hexdigest()}"


SELL = '\n[market.sell]\ntariff = "tariff.toml"\npower_w_max = 1\nunits_max = 1\n'


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ('unit = "Wh"\n' + FLAT, 0, "good"),
        ('unit = "Wh"\n' + WINDOW + FLAT, 78, "nothing can be sold yet under a tariff with"),
        ('unit = "Wh"\nvalid_to = 2999-01-01T00:00:00Z\n' + FLAT, 78, "nothing can be sold yet"),
        ('unit = "Wh"\nscale = 3\n' + FLAT, 78, "energy is sold in Wh"),
        ('unit = "s"\n' + FLAT, 78, "energy is sold in Wh"),
        (None, 78, "tariff.toml: cannot be read"),
    ],
)
def test_a_device_sells_under_a_tariff_that_is_the_same_at_all_times(
    tmp_path: Path, text: str | None, code: int, said: str
) -> None:
    """R-MKT-11; the tariff's file lies beside the configuration."""
    mesh = Mesh(tmp_path, f"mqtt://127.0.0.1:{free_port()}", count=1)
    path = mesh.boards[0].config
    path.write_text(path.read_text() + SELL)
    if text is not None:
        written(path.parent, text)
    done = mesh.demesh("run", "--config", str(path), "--check-config")
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert done.stderr.count("\n") == (1 if code else 0)


def test_the_tariff_s_file_is_kept_as_it_is_written_in_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "demesh.toml"
    text = (CONFIGS / "demesh.toml").read_text()
    path.write_text(text.replace("price = 250000", 'tariff = "tariffs/steps.toml"'))
    config = read_config(path)
    assert config.sell is not None
    assert (config.sell.price, config.sell.tariff) == (None, "tariffs/steps.toml")
    assert read_sold_tariff(CONFIGS / config.sell.tariff).most == 20_000_000
