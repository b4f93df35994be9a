"""The payer alone, as transcripts, and against providers that lie."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.metering.meter import MeshClock
from demesh.metering.payer import (
    CLOSE_AFTER_NS,
    OPEN_WAIT_NS,
    SETTLE_MARGIN_S,
    SILENT_QUANTA,
    TRANSITIONS,
    Payer,
    PayerEntry,
    Phase,
)
from demesh.metering.register import NO_PREVIOUS, Verdict, digest
from demesh.ports import SECOND, Actuate, Instant, Keep
from demesh.wire.intents import Act, ChannelFact, Ended, Send, Submit
from demesh.wire.kinds import Reject
from demesh.wire.opbodies import Close, OpenChannel
from demesh.wire.readings import End, EndReason, Reading, Voucher, Why
from demesh.wire.schema import decode
from metering.world import EPOCH_S, PAYER, PROVIDER, SAMPLE, agreement, offer

CHANNEL = b"C" * 16
QUANTUM = SECOND
EXPIRY_S = EPOCH_S + 300


class Talk:
    """A payer, the time, and the provider's book of pages."""

    def __init__(self, **terms: object) -> None:
        self.now: Instant = 0
        self.agreement = agreement(offer(**terms), duration_s=60)
        self.clock = MeshClock(lambda now: EPOCH_S + now // SECOND, 0)
        self.machine = Payer(self.agreement, self.clock, 0)
        self.register = 0
        self.page: Reading | None = None

    def open(self, **change: object) -> list[str]:
        fields = {
            "escrow": self.agreement.escrow,
            "claimed": 0,
            "expiry_s": EXPIRY_S,
            "closing": False,
            "open": True,
        } | change
        fact = ChannelFact(CHANNEL, self.agreement.id, PAYER, PROVIDER, **fields)
        return did(self.machine.channel(fact, self.now))

    def sample(self, units: int, after: Instant = SAMPLE) -> list[str]:
        self.now += after
        self.register += units
        return did(self.machine.measured(self.register, self.now))

    def next_page(self, register: int, why: Why = Why.QUOTA, **change: object) -> Reading:
        """What an honest provider would send next, but for `change`."""
        last = self.page
        reading = Reading(
            self.agreement.id,
            CHANNEL,
            1 if last is None else last.page + 1,
            Why.BEGIN if last is None else why,
            EPOCH_S,
            0,
            register,
            register * 10,
            NO_PREVIOUS if last is None else digest(last),
        )
        self.page = replace(reading, **change)
        return self.page

    def hear(self, reading: Reading) -> list[str]:
        return did(self.machine.reading(reading, self.now))

    def taking(self) -> Talk:
        self.open()
        self.hear(self.next_page(0))
        return self


def did(acts: list[Act]) -> list[str]:
    """Effects as a person would note them."""
    lines = []
    for act in acts:
        match act:
            case Keep(_, _, value, urgent):
                if value is None or urgent:
                    lines.append("forget" if value is None else "sync")
            case Actuate(_, power_w):
                lines.append(f"flow {power_w}")
            case Send(_, Voucher() as voucher):
                lines.append(f"VOUCHER {voucher.cum}")
            case Send(_, End() as end):
                lines.append(f"END {end.reason.name} {end.units}")
            case Submit(OpenChannel() as body):
                lines.append(f"OPEN {body.escrow} until +{body.expiry_s - EPOCH_S} s")
            case Submit(Close()):
                lines.append("CLOSE")
            case Ended():
                lines.append("ended")
    return lines


def test_the_agreement_is_durable_before_the_escrow_is_asked_for():
    talk = Talk()
    assert did(talk.machine.start(0)) == ["sync", f"OPEN 10000 until +{60 + SETTLE_MARGIN_S} s"]


def test_a_whole_purchase_from_open_to_settled():
    talk = Talk()
    assert talk.open() == ["flow -2000"]
    assert talk.hear(talk.next_page(0)) == ["VOUCHER 0"]
    assert talk.sample(20) == []
    assert talk.hear(talk.next_page(19)) == ["VOUCHER 190"]
    assert did(talk.machine.end(End(b"A" * 16, EndReason.DONE, 20), talk.now)) == [
        "sync",
        "flow 0",
        "ended",
    ]
    assert talk.hear(talk.next_page(20, Why.FINAL)) == ["VOUCHER 200"]
    assert talk.open(open=False) == ["forget"]
    assert talk.machine.over


def test_never_more_than_the_own_meter_and_the_lead_and_the_rest_when_the_meter_confirms_it():
    talk = Talk(lead=100).taking()
    talk.sample(20)
    assert talk.hear(talk.next_page(35)) == ["VOUCHER 300"]  # 200 + 100 of the 350 asked for
    assert talk.sample(4) == []
    assert talk.sample(1) == ["VOUCHER 350"]
    assert talk.sample(5) == []


def test_never_more_than_the_escrow():
    talk = Talk(lead=100, units_max=10).taking()
    talk.sample(50)
    assert talk.hear(talk.next_page(50)) == ["VOUCHER 100"]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 80), st.integers(0, 5_000)), max_size=25),
    st.integers(0, 2_000),
    st.booleans(),
)
def test_whatever_a_provider_says_no_voucher_passes_the_bound_and_none_falls(said, lead, lies):
    talk = Talk(lead=lead).taking()
    highest = register = 0
    for own, delivered, asked in said:
        talk.sample(own)
        register += delivered
        need = asked if lies else register * 10
        for act in talk.machine.reading(talk.next_page(register, need=need), talk.now):
            if isinstance(act, Send) and isinstance(act.message, Voucher):
                cum = act.message.cum
                assert highest <= cum <= min(talk.register * 10 + lead, talk.agreement.escrow)
                highest = cum


def test_a_page_seen_again_is_answered_again_with_the_same_voucher():
    talk = Talk().taking()
    talk.sample(20)
    page = talk.next_page(20)
    assert talk.hear(page) == ["VOUCHER 200"]
    talk.sample(20)
    assert talk.hear(page) == ["VOUCHER 200"]


def test_a_lost_page_is_not_answered_until_the_provider_resyncs():
    talk = Talk().taking()
    talk.sample(20)
    talk.next_page(10)
    assert talk.hear(talk.next_page(20)) == []
    assert (talk.machine.verdict, talk.machine.rejected) == (Verdict.GAP, Reject.STALE)
    talk.next_page(20)
    assert talk.hear(talk.next_page(20, Why.RESYNC)) == ["VOUCHER 200"]


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"register": 10, "need": 0, "page": 2}, Verdict.FORK),
        ({"begin": 5}, Verdict.BEGIN),
    ],
)
def test_equivocation_ends_the_session_as_a_dispute(change, verdict):
    talk = Talk().taking()
    talk.sample(20)
    talk.hear(talk.next_page(20))
    page = replace(talk.page, **({"page": 3, "previous": digest(talk.page)} | change))
    assert talk.hear(page) == ["END DISPUTE 20", "sync", "flow 0", "ended"]
    assert talk.machine.verdict is verdict


def test_a_register_that_runs_faster_than_any_credit_is_not_answered():
    talk = Talk(lead=100, lag=400).taking()  # 50 units a quantum at most
    talk.sample(1_000, QUANTUM)
    assert talk.hear(talk.next_page(103)) == ["VOUCHER 1030"]
    talk.sample(0, QUANTUM)
    assert talk.hear(talk.next_page(103 + 104)) == []
    assert talk.machine.verdict is Verdict.RATE


def test_a_reading_before_the_open_block_waits_for_it():
    talk = Talk()
    assert talk.hear(talk.next_page(0)) == []
    assert talk.open() == ["flow -2000", "VOUCHER 0"]


def test_the_payer_ends_when_nothing_is_drawn_any_more():
    talk = Talk().taking()
    talk.sample(10, QUANTUM)
    while not (lines := talk.sample(0)):
        assert talk.now < 4 * QUANTUM
    assert lines == ["END DONE 10", "sync", "flow 0", "ended"]
    assert talk.now == 3 * QUANTUM


def test_the_payer_ends_when_the_provider_is_silent():
    talk = Talk().taking()
    while not (lines := talk.sample(1)):
        assert talk.now < 20 * QUANTUM
    assert lines[0].startswith("END EMPTY")
    assert talk.now == SILENT_QUANTA * QUANTUM


def test_the_payer_ends_when_its_time_is_up():
    talk = Talk().taking()
    talk.now = (300 - SETTLE_MARGIN_S) * SECOND
    assert did(talk.machine.tick(talk.now))[0] == "END EXPIRY 0"


def test_a_channel_that_never_opens_is_given_up_and_said_so():
    talk = Talk()
    assert did(talk.machine.tick(OPEN_WAIT_NS)) == ["END DONE 0", "forget", "ended"]


def test_an_end_that_was_lost_is_said_again_to_who_goes_on_asking():
    talk = Talk().taking()
    talk.sample(10)
    talk.machine.stop(talk.now)
    assert talk.hear(talk.next_page(10)) == ["VOUCHER 100", "END DONE 10"]


def test_a_channel_its_payee_leaves_open_is_closed_by_the_payer():
    talk = Talk().taking()
    talk.machine.stop(talk.now)
    assert talk.machine.deadline() == talk.now + CLOSE_AFTER_NS
    assert did(talk.machine.tick(talk.now + CLOSE_AFTER_NS)) == ["CLOSE"]


def test_after_a_restart_the_own_meter_is_read_before_anything_is_paid():
    before = Talk().taking()
    before.sample(20)
    acts = before.machine.reading(before.next_page(20), before.now)
    entry = decode(PayerEntry, next(act.value for act in acts if isinstance(act, Keep)))
    after = Talk()
    after.machine = Payer.restore(entry, after.clock, 0)
    after.page = before.page
    assert after.open() == ["flow -2000"]
    assert after.hear(after.next_page(30, Why.RESYNC)) == []
    assert after.sample(30) == ["VOUCHER 300"]


def test_after_a_restart_a_claim_on_the_ledger_is_adopted():
    talk = Talk().taking()
    talk.open(claimed=70)
    assert talk.hear(talk.next_page(0)) == ["VOUCHER 70"]


def test_every_deadline_does_something_when_it_comes():
    talk = Talk().taking()
    for _ in range(30):
        talk.now = max(talk.now, talk.machine.deadline())
        talk.machine.tick(talk.now)
        assert talk.machine.deadline() > talk.now


def test_transitions_name_every_phase_and_only_done_is_a_dead_end():
    assert set(TRANSITIONS) == set(Phase)
    assert [phase for phase, next in TRANSITIONS.items() if not next] == [Phase.DONE]
