"""A scenario file says what a street is, and a wrong one says in one line what is wrong with it."""

from pathlib import Path

import pytest

from demesh.errors import ConfigError
from demesh_sim import scenario

STREET = Path(__file__).parents[2] / "configs" / "scenarios" / "street.toml"


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = STREET.read_text()
    assert old in text
    path = tmp_path / "changed.toml"
    path.write_text(text.replace(old, new, 1))
    return path


def error_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        scenario.load(path)
    line = str(caught.value)
    assert "\n" not in line and str(path) in line
    assert caught.value.exit_code == 78
    return line


def test_the_street_has_three_homes_and_eight_boards_with_an_owner_each():
    street = scenario.load(STREET)
    assert [owner.name for owner in street.owner] == ["Ada", "Boris", "Chloe"]
    classes = sorted(board.device_class for board in street.board)
    assert classes == [
        *["battery"] * 2, "feeder-meter", "heat-pump", *["smart-meter"] * 3, "wallbox"
    ]  # fmt: skip
    assert street.clock.starts_minute == 6 * 60 + 30


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "speed_up = 1440",
            "sped_up = 1440",
            ":9: clock.sped_up is unknown; did you mean 'speed_up'?",
        ),
        (
            "capacity_wh = 36_000",
            'capacity_wh = "24"',
            "capacity_wh = '24' is not an integer",
        ),
        (
            "capacity_wh = 36_000",
            "capacity_wh = 24.5",
            "capacity_wh = 24.5 is not an integer",
        ),
        ("capacity_wh = 36_000", "capacity_wh = -1", "capacity_wh = -1 must not be negative"),
        (
            "speed_up = 1440",
            "speed_up = 0",
            "speed_up = 0 is out of range; expected 1 to",
        ),
        ("start_wh = 18_000", "", "battery.start_wh is missing"),
        ("start_wh = 18_000", "start_wh = 40_000", "needs reserve_wh <= start_wh <= capacity_wh"),
        ('owner = "Ada"', 'owner = "Adda"', "no owner 'Adda'; did you mean 'Ada'?"),
        ('profile = "roof"', 'profile = "rooof"', "no profile 'rooof'; did you mean 'roof'?"),
        ('name = "ada-meter"', 'name = "feeder"', "two [[board]] are named 'feeder'"),
        ('name = "ada-meter"', 'name = "Ada/.."', "name must be of a-z, 0-9 and -"),
        ('"06:30"', '"6:30"', "'6:30' is not a time of day"),
        ('"06:30"', '"24:00"', "'24:00' is not a time of day"),
        ("  250, 220,", "  250,", "watts has 23 values, expected 24"),
        ('arrives = "00:00"', 'arrives = "09:00"', "a stay must leave after it arrives"),
        ('patience = "lan"', 'patience = "moon"', "mesh.patience = 'moon' is none of lan, wan"),
        ("[clock]", "[clock", "not TOML"),
        ("[clock]", "[[clock]]", "clock: expected a table, got an array"),
    ],
)
def test_a_mistake_in_a_scenario_is_named_in_one_line(
    tmp_path: Path, old: str, new: str, expected: str
):
    assert expected in error_of(changed(tmp_path, old, new))


def test_a_missing_scenario_file_is_named(tmp_path: Path):
    assert "cannot be read" in error_of(tmp_path / "nowhere.toml")


def test_an_unreadable_scenario_is_named(tmp_path: Path):
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    assert "cannot be read" in error_of(folder)


def test_selling_needs_a_battery_and_buying_something_to_buy_for(tmp_path: Path):
    text = STREET.read_text()
    feeder = "limit_w = 24_000 # 3 x 35 A\n"
    for policy, expected in (
        ("[board.sell]\nprice=1\npower_w_max=1\nunits_max=1\n", "sell needs a battery"),
        ("[board.buy]\nprice_max=1\npower_w_max=1\nunits_max=1\n", "buy needs a load or a car"),
    ):
        path = tmp_path / "policy.toml"
        path.write_text(text.replace(feeder, feeder + policy, 1))
        assert expected in error_of(path)
