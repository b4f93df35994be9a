"""Whatever happens to messages, ops and daemons: once the world is fair again all is settled."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demesh.metering import payer, provider
from demesh.metering.payer import Payer
from demesh.metering.provider import Provider
from demesh.metering.settlement import Settlement
from metering.chaos import TERMS, play

EVENTS = st.lists(st.integers(0, 2**20), min_size=20, max_size=250)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EVENTS, st.integers(0, len(TERMS) - 1))
def test_whatever_happens_every_channel_is_settled_within_the_bounds(events, terms):
    world = play(events, terms)
    assert world.over, "\n".join(world.log)


@pytest.mark.parametrize("seed", range(24))
def test_a_long_seeded_chaos_is_settled_within_the_bounds(seed):
    assert_seed(seed)


def test_chaos_gets_far_enough_to_mean_something():
    worlds = [seeded(seed) for seed in range(24)]
    assert sum(world.paid > 0 for world in worlds) >= 12
    assert sum(world.deaths for world in worlds) >= 48
    assert sum(len(world.channels) > 0 for world in worlds) >= 16


def seeded(seed: int):
    drawn = random.Random(seed)
    return play([drawn.randrange(2**20) for _ in range(800)], seed)


def assert_seed(seed: int) -> None:
    world = seeded(seed)
    assert world.over, "\n".join(world.log)


# -- the checker is checked: each broken machine is caught ----------------------------------------


def caught() -> bool:
    """Whether some seed of chaos shows that the machines are broken."""
    for seed in range(120):
        try:
            assert_seed(seed)
        except AssertionError:
            return True
    return False


def test_a_provider_whose_vouchers_are_not_durable_is_caught(monkeypatch):
    keep = Provider._keep
    monkeypatch.setattr(Provider, "_keep", lambda self, urgent=False: keep(self))
    assert caught()


def test_a_provider_without_a_limit_is_caught(monkeypatch):
    monkeypatch.setattr(Provider, "_next_cost", lambda self: 0)
    assert caught()


def test_a_payer_that_pays_what_it_is_asked_is_caught(monkeypatch):
    monkeypatch.setattr(Payer, "_most", lambda self: self._escrow)
    assert caught()


def test_a_payer_that_believes_more_than_its_meter_is_caught(monkeypatch):
    monkeypatch.setattr(Payer, "units", property(lambda self: 10**6))
    assert caught()


def test_a_provider_that_counts_pages_from_its_last_entry_is_caught(monkeypatch):
    monkeypatch.setattr(provider, "PAGES_SKIPPED", 0)
    assert caught()


def test_a_provider_that_forgets_its_jump_of_pages_is_caught(monkeypatch):
    monkeypatch.setattr(Provider, "resume", lambda self: [])
    assert caught()


def test_a_close_without_its_voucher_is_caught(monkeypatch):
    tick = Settlement.tick
    monkeypatch.setattr(Settlement, "tick", lambda self, voucher, now: tick(self, b"", now))
    assert caught()


def test_a_payer_that_never_closes_is_caught_where_the_provider_lost_everything(monkeypatch):
    monkeypatch.setattr(payer, "CLOSE_AFTER_NS", 10**15)
    monkeypatch.setattr(provider, "OPEN_WAIT_NS", 10**15)
    assert caught()
