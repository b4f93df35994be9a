"""A provider that hears nothing of the ledger any more, and what that costs it at most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demesh.metering.tariff import cost
from demesh.ports import SECOND
from demesh.wire.opbodies import Close
from metering.world import PAYER, PROVIDER, SAMPLE, World, agreement, offer

DURATION_S = 7_200
HOUR = 3_600 * SECOND


def served(duration_s: int = DURATION_S) -> World:
    """A service of 10 Wh that is paid, with a channel that outlives any of its hours."""
    terms = offer(units_max=10**9, lag=4_000, lead=4_000, quantum_ms=10_000)
    world = World(agreement(terms, duration_s=duration_s), step_max=1)
    world.start()
    for _ in range(3):
        world.pass_time(SAMPLE, (0, 0))
        exchange(world)
    go_on(world, 10)
    assert serving(world)
    return world


def exchange(world: World) -> None:
    while world.network:
        world.deliver(0)
    while world.ops:
        world.decide()


def go_on(world: World, seconds: int) -> None:
    """One unit a second flows and everything arrives, but for who is cut off from the ledger."""
    for _ in range(seconds):
        world.pass_time(SECOND, (1, 1))
        exchange(world)


def serving(world: World) -> bool:
    side = world.sides[PROVIDER]
    return bool(side.metering and side.metering.agreements())


def flows(world: World) -> bool:
    return any(world.sides[PROVIDER].powers.values())


def channel(world: World):
    (only,) = world.channels.values()
    return only


def test_a_provider_that_is_cut_off_serves_on_for_its_window_and_no_longer() -> None:
    world = served()
    world.cut[PROVIDER] = world.now
    go_on(world, 3_500)
    assert flows(world), "service needs no ledger for a while"
    go_on(world, 100)
    assert not flows(world) and not serving(world)


@pytest.mark.parametrize("duration_s", [600, 3_000])
def test_a_provider_that_is_cut_off_is_through_before_its_channel_expires(duration_s: int) -> None:
    world = served(duration_s)
    world.cut[PROVIDER] = world.now
    world.cut[PAYER] = world.now  # nor does the payer's end stop it
    while flows(world):
        go_on(world, 1)
    left_s = channel(world).fact.expiry_s - world.time_s(world.now)
    assert 58 <= left_s <= 60 + 120


def test_a_longer_window_does_not_let_the_clock_that_stands_still_pass_for_the_time() -> None:
    """The case that a stopped clock alone would serve for ever: expiry is its hour and more."""
    world = served(DURATION_S)
    fact = channel(world).fact
    world.turn(PROVIDER, lambda m: m.channel(longer(fact), world.time_s(world.now), world.now))
    world.cut = {PROVIDER: world.now, PAYER: world.now}
    go_on(world, fact.expiry_s - world.time_s(world.now) - 61)
    assert flows(world)
    go_on(world, 2)
    assert not flows(world)


def longer(fact):
    return replace(fact, window_s=86_400)


def test_a_payer_that_closes_behind_the_back_of_its_provider_wins_lag_and_l_if_that_returns() -> (
    None
):
    """The attack: cut the provider off, close with nothing, go on taking and promising."""
    world = served()
    world.cut[PROVIDER] = world.now
    world.ops.append((PAYER, Close(channel(world).fact.channel, b"")))
    go_on(world, 3_560)
    assert not flows(world)
    assert channel(world).paid is None, "the window that the payer started still runs"
    world.join(PROVIDER)
    go_on(world, 30)
    assert channel(world).paid is not None
    offer = world.terms.offer
    assert cost(offer.tariff, world.units(PROVIDER)) - world.paid <= 2 * offer.lag


def test_after_a_restart_nothing_flows_before_the_ledger_said_that_the_channel_is_open() -> None:
    world = served()
    world.kill(PROVIDER)
    world.cut[PROVIDER] = world.now
    world.boot(PROVIDER)
    go_on(world, 5)
    assert not flows(world)
    world.join(PROVIDER)
    go_on(world, 1)
    assert flows(world)
