"""What people see: a picture of what was observed, a live view that fits, or plain lines."""

import io
import sys
from pathlib import Path

import pytest

from demesh.wire import identity
from demesh_sim import founding, scenario
from demesh_sim.picture import SESSIONS_MAX, Picture, seen
from demesh_sim.view import INSTALL_HINT, PlainView, Scene, credits, kilo, open_view, status

STREET = scenario.load(Path(__file__).parents[2] / "configs" / "scenarios" / "street.toml")
FOUNDED = founding.found(STREET, 1_800_000_000, founding.seeded(7))
IDS = {board.plan.name: identity.text(board.id) for board in FOUNDED.boards}


def state(height, power_w=0, have=8):
    return {
        "voting": True,
        "view": height + 1,
        "height": height,
        "power_w": power_w,
        "stored_wh": 9_300,
        "balance": -1_234_567,
        "quorum": {"have": have, "need": 6, "of": 8},
    }


def session(peer, units_wh, phase="serving", **more):
    return {
        "agreement": more.pop("agreement", "a1"),
        "role": more.pop("role", "provider"),
        "peer": IDS[peer],
        "phase": phase,
        "units_wh": units_wh,
        "cost": units_wh * 240,
        "paid": units_wh * 240,
        "power_w": 2_500,
    }


def settled(paid=720_000):
    parties = {"payer": IDS["chloe-wallbox"], "payee": IDS["ada-battery"]}
    return {"event": "settled", **parties, "paid": paid, "fee": paid // 100}


@pytest.fixture
def picture():
    made = Picture(seen(FOUNDED))
    for name, device in IDS.items():
        made.receive(device, "state", state(118, -5_200 if "battery" in name else 900), 25_000)
    for height in range(100, 119):
        decision = {"height": height, "view": height, "leader": "feeder", "ops": 2}
        made.receive(IDS["feeder"], "decision", {**decision, "finality_ms": 80}, 25_000)
    made.receive(IDS["ada-battery"], "metering", session("chloe-wallbox", 1_200), 25_000)
    made.receive(IDS["feeder"], "ledger", {"height": 110, "events": [settled()]}, 25_000)
    made.receive(IDS["feeder"], "event", {"text": "quorum: have 8 of 8, need 6"}, 25_000)
    return made


def scene(picture, now_ms=26_000):
    return Scene(picture, "street", "mqtt://127.0.0.1:1883", now_ms, 60_000, 0, 17 * 60 + 3)


def drawn(picture, width, height):
    console = pytest.importorskip("rich.console").Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None
    )
    from demesh_sim.live import render  # noqa: PLC0415 - rich is an extra

    console.print(render(scene(picture), width, height))
    return console.file.getvalue()


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (180, 60), (40, 10)])
def test_the_live_view_fits_any_terminal(picture, size):
    width, height = size
    lines = drawn(picture, width, height).splitlines()
    assert all(len(line) <= width for line in lines)
    if width >= 80:
        assert len(lines) < height


def test_the_live_view_shows_power_decisions_flows_and_money(picture):
    text = drawn(picture, 110, 34)
    for expected in (
        "day 1 17:03",
        "ada-battery",
        "-5.2 kW",
        "118 feeder",
        "chloe-wallbox",
        "2.5 kW",
        "1.2 kWh",
        "0.720 chloe-wallbox ▶ ada-battery",
        "quorum: have 8 of 8",
    ):
        assert expected in text


def test_a_lost_quorum_and_a_board_that_is_gone_are_seen_at_once(picture):
    for device in IDS.values():
        picture.receive(device, "state", state(118, have=5), 25_000)
    picture.gone(IDS["feeder"])
    text = drawn(picture, 110, 34)
    assert "no quorum: have 5 of 8, need 6" in text
    assert "no quorum: have 5 of 8, need 6" in drawn(picture, 80, 24)
    assert "down" in text
    picture.receive(IDS["feeder"], "state", state(118), 26_000)
    assert "down" not in drawn(picture, 110, 34)


def test_the_port_is_to_be_seen_on_a_narrow_terminal_too(picture):
    assert drawn(picture, 80, 24).splitlines()[0].endswith("00:26 of 01:00 · port 1883")


def test_a_board_that_is_gone_delivers_nothing(picture):
    assert [flow.provider for flow in picture.flows(26_000)] == ["ada-battery"]
    picture.gone(IDS["ada-battery"])
    assert picture.flows(26_000) == []


def test_a_board_far_behind_is_marked(picture):
    picture.receive(IDS["ada-meter"], "state", state(90), 25_000)
    assert "behind" in drawn(picture, 110, 34)


def test_plain_lines_come_once_with_a_status_now_and_then(picture):
    out = io.StringIO()
    view = PlainView(out)
    view.show(scene(picture, 25_100))
    view.show(scene(picture, 25_200))
    picture.say("ada-meter", "something new", 25_300)
    view.show(scene(picture, 25_400))
    lines = out.getvalue().splitlines()
    assert lines[0] == "00:25  feeder: quorum: have 8 of 8, need 6"
    assert "8/8 up · height 118 · 1 flow 2.5 kW · sold 1.2 kWh" in lines[1]
    assert lines[2:] == ["00:25  ada-meter: something new"]


def test_what_several_boards_say_at_once_is_one_line(picture):
    before = picture.lines_total
    for device in IDS.values():
        picture.receive(device, "event", {"text": "feeder of Ada is gone"}, 30_000)
    assert picture.lines_total == before + 1
    picture.receive(IDS["ada-meter"], "event", {"text": "feeder of Ada is gone"}, 40_000)
    assert picture.lines_total == before + 2


def test_a_block_told_by_every_board_counts_once(picture):
    for device in IDS.values():
        document = {"height": 111, "events": [settled(100_000)]}
        picture.receive(device, "ledger", document, 26_000)
    assert picture.settled_total == 2
    assert picture.paid_total == 820_000 and picture.fees_total == 8_200


def test_energy_sold_outlives_its_sessions(picture):
    before = picture.sold_wh
    for number in range(SESSIONS_MAX + 50):
        document = session("ada-meter", 10, agreement=f"b{number}", phase="ended")
        picture.receive(IDS["ada-battery"], "metering", document, 26_000)
    assert len(picture.sessions) <= SESSIONS_MAX
    assert picture.sold_wh == before + 10 * (SESSIONS_MAX + 50)


def test_the_providers_register_is_what_was_sold_and_the_payers_is_not_added(picture):
    payer = session("ada-battery", 9_999, role="payer")
    picture.receive(IDS["chloe-wallbox"], "metering", payer, 26_000)
    assert picture.sold_wh == 1_200


@pytest.mark.parametrize(
    ("topic", "document"),
    [
        ("state", {"height": "high", "quorum": 7, "rejects": [], "power_w": True}),
        ("decision", {"height": None, "ops": {}, "finality_ms": "soon"}),
        ("ledger", {"height": 999, "events": [7, {"event": "settled", "paid": []}, {}]}),
        ("ledger", {"events": "many"}),
        ("metering", {}),
        ("event", {"text": "bell \x07 and \x1b[2J"}),
        ("event", {"text": 5}),
        ("", {}),
        ("nobody/knows", {"x": 1}),
    ],
)
def test_what_a_broken_board_says_harms_no_view(picture, topic, document):
    picture.receive(IDS["feeder"], topic, document, 26_000)
    picture.receive("a stranger", topic, document, 26_000)
    text = drawn(picture, 110, 34)
    assert "\x07" not in text and "\x1b" not in text
    assert status(scene(picture))


def test_without_a_terminal_the_view_is_plain():
    assert isinstance(open_view(io.StringIO(), plain=False), PlainView)


def test_without_rich_the_plain_view_says_once_how_to_get_it(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "demesh_sim.live", raising=False)
    out = Terminal()
    assert isinstance(open_view(out, plain=False), PlainView)
    assert out.getvalue() == INSTALL_HINT + "\n"


def test_numbers_are_cut_and_never_rounded_up():
    assert kilo(4_299, "W") == "4.2 kW" and kilo(-4_299, "W") == "-4.2 kW"
    assert credits(1_234_999) == "1.234" and credits(-1_234_999) == "-1.234"
    assert credits(-999) == "0.000"
