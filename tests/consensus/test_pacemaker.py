"""How long a view is given (R-CON-6): what was late, however late, is what D learns from."""

from __future__ import annotations

from consensus.cluster import MS
from demesh_consensus.pacemaker import VIEWS_REMEMBERED, Pacemaker, Timing

TIMING = Timing(250 * MS, 8_000 * MS)


def pace_after(latenesses: list[int], notarized: bool = False) -> Pacemaker:
    """Views one after the other, each a second long, with what came of them."""
    pace = Pacemaker(TIMING, 1, 0)
    for view, late in enumerate(latenesses, 1):
        began = view * 1_000 * MS
        pace.entered(view)
        pace.work(True, began)
        pace.entered(view + 1)  # the view is over before anything came
        if notarized:
            pace.notarized(view, began + late)
        else:
            pace.proposed(view, began + late)
    return pace


def test_proposals_that_come_after_their_view_make_the_next_ones_longer() -> None:
    assert pace_after([700 * MS] * 6).delay(0) == 700 * MS


def test_a_view_that_is_notarized_late_was_too_short_as_well() -> None:
    assert pace_after([1_400 * MS] * 6, notarized=True).delay(0) == 700 * MS


def test_less_than_a_third_that_is_late_changes_nothing() -> None:
    assert pace_after([10 * MS] * 11 + [900 * MS] * 5).delay(0) == 250 * MS
    assert pace_after([10 * MS] * 10 + [900 * MS] * 6).delay(0) == 900 * MS


def test_no_lateness_counts_for_more_than_a_quarter_of_the_longest_delay() -> None:
    assert pace_after([900 * MS] * 6 + [3_500 * MS] * 12).delay(0) == 2_000 * MS


def test_what_an_outage_held_up_teaches_nothing() -> None:
    assert pace_after([1_001 * MS] * 16).delay(0) == 250 * MS


def test_views_long_ago_are_forgotten() -> None:
    late = pace_after([1_000 * MS] * VIEWS_REMEMBERED + [10 * MS] * VIEWS_REMEMBERED)
    assert late.delay(0) == 250 * MS


def test_a_view_without_work_teaches_nothing() -> None:
    pace = Pacemaker(TIMING, 1, 0)
    pace.proposed(1, 900 * MS)
    assert pace.delay(0) == 250 * MS


def test_work_that_pauses_counts_from_its_return() -> None:
    pace = Pacemaker(TIMING, 1, 0)
    pace.work(True, 0)
    pace.work(False, 10 * MS)
    pace.work(True, 9_000 * MS)
    pace.proposed(1, 9_300 * MS)
    assert pace.delay(0) == 300 * MS
