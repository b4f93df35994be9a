"""One honest side against one that is not: by name, and what it costs the honest one at most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demesh.metering.tariff import cost
from demesh.ports import SECOND
from demesh.wire.intents import Send
from demesh.wire.readings import End, Reading, Voucher
from metering.world import PAYER, PROVIDER, SAMPLE, World, agreement, offer, run_fair, run_out


class MissingPayer(World):
    """Takes energy and never sends a voucher."""

    def _send(self, sender: bytes, send: Send) -> None:
        if not isinstance(send.message, Voucher):
            super()._send(sender, send)


class LatePayer(World):
    """Pays properly at first and then vanishes with the energy."""

    def _send(self, sender: bytes, send: Send) -> None:
        if sender == PROVIDER or self.now < 15 * SECOND:
            super()._send(sender, send)


class Miser(World):
    """Always pays a little, never what is due."""

    def _send(self, sender: bytes, send: Send) -> None:
        if isinstance(send.message, Voucher):
            send = replace(send, message=replace(send.message, cum=send.message.cum // 2))
        super()._send(sender, send)


class MutePayer(World):
    """Pays, but never ends: its End is never sent."""

    def _send(self, sender: bytes, send: Send) -> None:
        if sender == PROVIDER or not isinstance(send.message, End):
            super()._send(sender, send)


class GreedyProvider(World):
    """Asks for twice of what it delivered."""

    def _send(self, sender: bytes, send: Send) -> None:
        message = send.message
        if isinstance(message, Reading):
            units = 2 * (message.register - message.begin)
            need = cost(self.terms.offer.tariff, units)
            message = replace(message, register=message.begin + units, need=need)
            send = replace(send, message=message)
        super()._send(sender, send)


class EmptyProvider(World):
    """Sends readings that grow while nothing flows to the payer."""

    def pass_time(self, after: int, steps: tuple[int, int]) -> None:
        super().pass_time(after, (steps[0], 0))


def outcome(kind: type[World], **terms: object) -> World:
    world = kind(agreement(offer(**terms)))
    world.start()
    run_fair(world, 60, (3, 3))
    run_out(world)
    assert world.over, "\n".join(world.log)
    return world


@pytest.mark.parametrize("kind", [MissingPayer, LatePayer, Miser])
@pytest.mark.parametrize("lag", [100, 400, 2_000])
def test_a_payer_that_does_not_pay_takes_the_lag_and_one_sample_at_most(kind, lag):
    world = outcome(kind, lag=lag)
    delivered = world.units(PROVIDER) * 10
    assert delivered - world.paid <= lag + 30
    assert any("UNPAID" in line for line in world.log)


@pytest.mark.parametrize("lead", [0, 100, 1_000])
def test_a_provider_that_asks_for_too_much_gets_the_lead_at_most(lead):
    world = outcome(GreedyProvider, lead=lead)
    assert world.paid <= world.units(PAYER) * 10 + lead


@pytest.mark.parametrize("lead", [0, 100, 1_000])
def test_a_provider_that_delivers_nothing_gets_the_lead_at_most(lead):
    world = outcome(EmptyProvider, lead=lead)
    assert world.units(PAYER) == 0
    assert world.paid <= lead


def test_a_payer_that_never_says_end_is_found_by_its_own_deeds():
    world = outcome(MutePayer)
    assert world.units(PROVIDER) * 10 - world.paid <= 400 + 30


# -- physics a thousand times faster than the wall clock ------------------------------------------


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_a_day_in_a_minute_is_sold_without_a_stop(offset):
    """2 kW at 1440 x: 80 Wh in a sample; the payer's flow begins `offset` samples later."""
    terms = offer(units_max=20_000, lead=4_000, lag=20_000, quantum_ms=1_000)
    world = FastStreet(agreement(terms, duration_s=10), step_max=80)
    world.late = offset
    world.start()
    run_fair(world, 60, (80, 80))
    assert world.over
    assert world.units(PROVIDER) > 7_000
    assert world.paid == world.units(PROVIDER) * 10
    assert sum("provider: flow 0" in line for line in world.log) == 1, "held only at the end"


class FastStreet(World):
    """The payer's meter starts `late` samples after its flow."""

    late = 0

    def pass_time(self, after: int, steps: tuple[int, int]) -> None:
        mine = steps[1]
        if self.sides[PAYER].powers and self.late:
            self.late -= 1
            mine = 0
        super().pass_time(after, (steps[0], mine))


def test_samples_are_a_tenth_of_a_second():
    assert SAMPLE * 10 == SECOND
