"""The summary reads the books and nothing else, and says "good" only if they are."""

from dataclasses import replace
from pathlib import Path

import pytest

from demesh_sim import founding, scenario
from demesh_sim.audit import audit
from demesh_sim.summary import Run, franchise, lines, percentile, summarize
from street.chains import Chain, Shelf

STREET = scenario.load(Path(__file__).parents[2] / "configs" / "scenarios" / "street.toml")
FOUNDED = founding.found(STREET, 1_800_000_000, founding.seeded(7))
GENESIS = FOUNDED.genesis
NAMES = [board.plan.name for board in FOUNDED.boards]
RUN = Run(wall_ms=60_400, simulated_s=86_976, sold_wh=41_300, finality_ms={80: 98, 200: 2})


@pytest.fixture(scope="module")
def chain():
    made = Chain(FOUNDED)
    made.trade("ada-meter", "boris-battery", escrow=1_000_000, cum=700_000)
    while len(made.encoded) < 12:
        made.grow()
    return made


def summary_of(books, run=RUN):
    return summarize(audit(GENESIS, books), run)


def test_a_good_run_is_told_in_full_and_ends_with_0(chain):
    summary = summary_of({name: chain.shelf() for name in NAMES})
    assert summary.exit_code == 0 and summary.missing == ()
    text = "\n".join(lines(summary))
    assert "12 blocks, finality p50 80 ms, p99 200 ms" in text
    assert "41.3 kWh sold" in text
    assert "1 settled of 1 opened; 0.700 credits paid, of which 0.007 fees" in text
    assert "Boris" in text and "boris-battery 0.693" in text and "ada-meter -0.700" in text
    assert "equal on all 8 boards" in text
    assert "24 h 09 min passed on the street" in text


def test_the_franchise_is_explained_with_its_limits(chain):
    text = "\n".join(summary_of({name: chain.shelf() for name in NAMES}).franchise)
    assert "8 votes, one per board; 6 of them decide. Up to 2 boards may be" in text
    assert "Ada (3) and Boris (3) have more than 2" in text
    assert "Chloe" not in text


def test_weights_that_owners_changed_count_as_they_are_now(chain):
    summary = summary_of({name: chain.shelf() for name in NAMES})
    changed = replace(summary.audit, epoch=2, votes=(("Ada", 3), ("Boris", 1), ("Chloe", 1)))
    text = " ".join(franchise(changed))
    assert text.startswith(
        "Epoch 2: 5 votes, on 3 boards; 4 of them decide. Boards with up to 1 of"
    )
    assert "Ada (3) has more than 1" in text


def test_boards_of_different_heights_are_compared_at_the_common_one(chain):
    books = {name: chain.shelf() for name in NAMES} | {"feeder": chain.shelf(11)}
    found = audit(GENESIS, books)
    assert found.common_height == 11 and found.roots_agree and found.blocks == 12
    assert found.sum == 0 and found.commons == 7_000


def test_money_in_an_open_channel_is_counted_as_escrow():
    made = Chain(FOUNDED)
    made.trade("ada-meter", "boris-battery", escrow=1_000_000, cum=700_000)
    found = audit(GENESIS, {"feeder": made.shelf(1)})
    assert found.escrow == 1_000_000 and found.sum == 0
    assert found.channels_opened == 1 and found.channels_settled == 0


def test_a_board_with_another_history_is_found(chain):
    other = Chain(FOUNDED)
    other.trade("chloe-meter", "boris-battery", escrow=1_000_000, cum=700_000)
    while len(other.encoded) < 12:
        other.grow()
    summary = summary_of({"feeder": chain.shelf(), "ada-meter": other.shelf()})
    assert summary.exit_code == 1
    assert summary.missing == ("state roots differ at height 12",)
    assert sum("state root at height 12" in line for line in lines(summary)) == 2


def test_records_that_do_not_give_the_state_root_are_found(chain):
    books = {name: chain.shelf() for name in NAMES}
    books["feeder"] = Shelf(chain.encoded, chain.shelf(11).kept)
    summary = summary_of(books)
    assert summary.missing == ("feeder: its records do not give the state root of block 12",)


def test_a_chain_that_does_not_execute_is_found(chain):
    cut = chain.encoded[:4] + chain.encoded[5:]
    summary = summary_of({"feeder": Shelf(cut, chain.shelf().kept)})
    assert "feeder: block 5 does not give its state root when executed anew" in summary.missing


@pytest.mark.parametrize(
    ("height", "sold_wh", "expected"),
    [
        (10, 5, "the common height is 10; expected more than 10"),
        (12, 0, "no energy was sold"),
        (1, 5, "no channel was settled"),
        (0, 5, "no channel was settled"),
    ],
)
def test_what_a_run_lacks_is_said(chain, height, sold_wh, expected):
    run = Run(60_000, 86_400, sold_wh, {})
    books = {"feeder": chain.shelf(height) if height else Shelf()}
    summary = summary_of(books, run)
    assert summary.exit_code == 1 and expected in summary.missing
    assert f"NOT GOOD: {expected}" in lines(summary)


def test_who_ends_a_run_early_is_told_what_it_lacks_and_not_that_it_is_bad(chain):
    run = Run(5_000, 7_200, 0, {}, interrupted=True)
    summary = summary_of({name: chain.shelf(1) for name in NAMES}, run)
    assert summary.exit_code == 130 and summary.missing == ()
    text = lines(summary)
    assert "interrupted early: no energy was sold" in text
    assert text[-1] == "Money is conserved, all boards agree."
    faulty = summary_of({"feeder": Shelf(chain.encoded, chain.shelf(11).kept)}, run)
    assert faulty.exit_code == 1


def test_a_summary_fits_a_narrow_terminal(chain):
    held = [(f"board-{number}", -1_000_000 * number) for number in range(9)]
    good = summary_of({name: chain.shelf() for name in NAMES} | {"feeder": chain.shelf(1)})
    balances = (replace(good.audit.balances[0], accounts=tuple(held)), *good.audit.balances[1:])
    said = lines(replace(good, audit=replace(good.audit, balances=balances)))
    assert all(len(line) <= 80 for line in said)
    assert any(line.endswith("board-2 -2.000,") for line in said)
    assert "balances are of that height; the slowest board is 11 blocks behind" in said


def test_percentiles_are_of_the_counted_values():
    assert percentile({}, 500) is None
    assert percentile({5: 1}, 990) == 5
    assert percentile({1: 50, 2: 49, 9: 1}, 500) == 1
    assert percentile({1: 50, 2: 49, 9: 1}, 990) == 2
    assert percentile({1: 50, 2: 49, 9: 1}, 1000) == 9
