"""The provider alone, as transcripts: what it is told, and every effect that follows."""

from __future__ import annotations

import pytest

from demesh.metering.meter import MeshClock
from demesh.metering.provider import OPEN_WAIT_NS, TRANSITIONS, Phase, Provider
from demesh.metering.settlement import CLOSE_RETRY_NS, CLOSE_RETRY_NS_MAX
from demesh.metering.term import EXPIRY_MARGIN_S
from demesh.ports import SECOND, Actuate, Instant, Keep
from demesh.wire.intents import Act, ChannelFact, Ended, Send, Submit
from demesh.wire.kinds import Reject
from demesh.wire.opbodies import Close
from demesh.wire.readings import End, EndReason, Reading, Voucher
from metering.world import EPOCH_S, PAYER, PROVIDER, SAMPLE, agreement, offer

CHANNEL = b"C" * 16
QUANTUM = SECOND
FLOW = 2000


class Talk:
    """A provider and the time; `did` renders effects as lines."""

    def __init__(self, **terms: object) -> None:
        self.now: Instant = 0
        self.agreement = agreement(offer(**terms))
        self.clock = MeshClock(lambda now: EPOCH_S + now // SECOND, 0)
        self.clock.decided(EPOCH_S)
        self.machine = Provider(self.agreement, self.clock, 0)
        self.register = 0

    def open(self, **change: object) -> list[str]:
        fields = {
            "escrow": self.agreement.escrow,
            "claimed": 0,
            "expiry_s": EPOCH_S + 300,
            "closing": False,
            "open": True,
        } | change
        fact = ChannelFact(CHANNEL, self.agreement.id, PAYER, PROVIDER, **fields)
        return did(self.machine.channel(fact, self.now))

    def sample(self, units: int, after: Instant = SAMPLE) -> list[str]:
        self.now += after
        self.register += units
        return did(self.machine.measured(self.register, self.now))

    def pay(self, cum: int, channel: bytes = CHANNEL, lane: int = 0) -> list[str]:
        voucher = Voucher(channel, lane, cum)
        return did(self.machine.voucher(voucher, b"voucher %d" % cum, self.now))

    def end(self, reason: EndReason = EndReason.DONE) -> list[str]:
        return did(self.machine.end(End(self.agreement.id, reason, 0), self.now))

    def serving(self) -> Talk:
        self.open()
        return self


def did(acts: list[Act]) -> list[str]:
    """Effects as a person would note them; what is kept counts only where it must be durable."""
    lines = []
    for act in acts:
        match act:
            case Keep(_, _, value, urgent):
                if value is None or urgent:
                    lines.append("forget" if value is None else "sync")
            case Actuate(_, power_w):
                lines.append(f"flow {power_w}")
            case Send(_, Reading() as reading):
                lines.append(
                    f"{reading.why.name} {reading.page}: {reading.register}, {reading.need}"
                )
            case Send(_, End() as end):
                lines.append(f"END {end.reason.name} {end.units}")
            case Submit(Close(_, voucher)):
                lines.append(f"CLOSE {voucher.decode()}")
            case Ended():
                lines.append("ended")
    return lines


def test_nothing_flows_before_the_channel_is_open_on_the_ledger():
    talk = Talk()
    assert did(talk.machine.start()) == ["sync"]
    assert talk.sample(0) == []
    assert talk.open() == ["BEGIN 1: 0, 0", "sync", "flow 2000"]


def test_a_whole_session_from_begin_to_settled():
    talk = Talk().serving()
    assert talk.pay(0) == []
    for _ in range(9):
        assert talk.sample(2) == []
    assert talk.sample(2) == ["QUOTA 2: 20, 200"]
    assert talk.pay(200) == []
    assert talk.end() == ["sync", "flow 0", "END DONE 20", "ended"]
    assert talk.sample(1) == ["FINAL 3: 21, 210", "sync"]
    assert talk.pay(210) == ["sync", "CLOSE voucher 210"]
    assert talk.open(open=False) == ["forget"]
    assert talk.machine.over


def test_service_is_held_at_best_claim_plus_lag_and_goes_on_with_the_voucher():
    talk = Talk(lag=400, quantum_ms=10_000).serving()
    assert talk.sample(18) == []  # 180 owed, and the next sample may bring 180 more
    assert talk.sample(18) == ["flow 0"]  # 360 + 180 > 400
    assert talk.pay(100) == []  # 540 > 500: still too much
    assert talk.pay(360) == ["flow 2000"]
    assert talk.machine.phase is Phase.SERVING


def test_a_step_seen_once_does_not_hold_a_paid_flow_for_ever():
    talk = Talk(lag=400, quantum_ms=10_000).serving()
    assert talk.sample(60) == ["flow 0"]
    assert talk.pay(600) == ["sync", "flow 2000"]
    assert did(talk.machine.tick(talk.now)) == []
    assert talk.sample(5) == []


def test_a_voucher_is_synced_as_soon_as_more_than_l_would_be_lost_with_it():
    talk = Talk(lag=400).serving()
    assert talk.pay(400) == []
    assert talk.machine.credit.durable == 0
    assert talk.pay(401) == ["sync"]
    assert talk.pay(801) == []
    assert talk.pay(802) == ["sync"]


def test_the_greatest_voucher_counts_in_whatever_order_they_come():
    talk = Talk().serving()
    talk.sample(10)
    talk.pay(90)
    talk.pay(40)
    talk.pay(90)
    assert talk.machine.credit.claim == 90
    talk.end()
    talk.sample(0)
    talk.now += 2 * QUANTUM
    assert did(talk.machine.tick(talk.now)) == ["sync", "CLOSE voucher 90"]


@pytest.mark.parametrize(
    "voucher", [(50, b"D" * 16), (50, CHANNEL, 1), (10_001,)], ids=["channel", "lane", "escrow"]
)
def test_a_voucher_for_another_channel_or_lane_or_above_the_escrow_is_rejected(voucher):
    talk = Talk().serving()
    assert talk.pay(*voucher) == []
    assert (talk.machine.credit.claim, talk.machine.rejected) == (0, Reject.INVALID)


def test_a_reading_unpaid_for_two_quanta_ends_the_service():
    talk = Talk().serving()
    talk.pay(0)
    assert talk.sample(5, QUANTUM) == ["QUOTA 2: 5, 50"]
    assert talk.sample(5, QUANTUM) == ["RESYNC 3: 10, 100"]
    assert talk.sample(0, QUANTUM) == ["sync", "flow 0", "END UNPAID 10", "ended"]
    assert talk.sample(0) == ["FINAL 4: 10, 100", "sync"]
    assert talk.sample(0, QUANTUM) == ["FINAL 4: 10, 100"]
    assert talk.sample(0, QUANTUM) == ["sync", "CLOSE "]


def test_each_reading_has_its_own_two_quanta():
    talk = Talk().serving()
    for paid in range(50, 1_000, 50):
        talk.sample(5, QUANTUM)
        talk.pay(paid - 50)  # always one reading behind
    assert talk.machine.phase is Phase.SERVING


def test_the_end_comes_before_a_sample_that_would_not_fit_any_more():
    talk = Talk(units_max=50, lag=9_000).serving()
    assert talk.sample(20) == []
    assert talk.sample(20) == ["sync", "flow 0", "END DONE 40", "ended"]


def test_a_used_up_escrow_ends_the_session():
    talk = Talk(lag=90_000)
    talk.machine.agreement = talk.agreement
    talk.open()
    talk.machine._escrow = 300
    assert talk.sample(20) == ["sync", "flow 0", "END ESCROW 20", "ended"]


def test_a_flow_that_stands_still_ends_as_empty_by_its_own_pace():
    talk = Talk().serving()
    talk.sample(5, QUANTUM)
    talk.pay(50)
    while not (lines := talk.sample(0)):
        assert talk.now < 20 * QUANTUM
    assert lines[0].startswith("QUOTA")
    talk.pay(50)
    while True:
        lines = talk.sample(0)
        if "END EMPTY 5" in lines:
            break
        assert talk.now < 20 * QUANTUM
    assert talk.now - QUANTUM >= 8 * QUANTUM // 5


def test_service_ends_a_margin_before_the_channel_expires():
    talk = Talk().serving()
    talk.now = (300 - EXPIRY_MARGIN_S) * SECOND
    assert "END EXPIRY 0" in did(talk.machine.tick(talk.now))


@pytest.mark.parametrize(
    "change",
    [{"escrow": 9_999}, {"closing": True}, {"expiry_s": EPOCH_S + EXPIRY_MARGIN_S}],
    ids=str,
)
def test_a_channel_that_does_not_fit_is_closed_unused(change):
    talk = Talk()
    assert talk.open(**change) == ["sync", "CLOSE ", "ended"]


def test_a_payer_that_starts_to_close_ends_the_service():
    assert Talk().serving().open(closing=True) == ["sync", "flow 0", "END DONE 0", "ended"]


def test_a_channel_that_never_opens_is_given_up_and_said_so():
    talk = Talk()
    assert did(talk.machine.tick(OPEN_WAIT_NS - 1)) == []
    assert did(talk.machine.tick(OPEN_WAIT_NS)) == ["END DONE 0", "forget", "ended"]


def test_a_close_is_repeated_ever_more_slowly_with_the_best_voucher_of_the_moment():
    talk = Talk().serving()
    talk.end()
    talk.sample(0)
    due = talk.machine.deadline()
    wait = CLOSE_RETRY_NS
    for turn in range(8):
        assert did(talk.machine.tick(due - 1)) == []
        voucher = f"voucher {turn}" if turn else ""
        assert did(talk.machine.tick(due)) == [f"CLOSE {voucher}"]
        talk.pay(turn + 1)
        wait = min(2 * wait, CLOSE_RETRY_NS_MAX)
        assert talk.machine.deadline() - due == wait
        due = talk.machine.deadline()


def test_a_claim_that_a_watchtower_brought_counts():
    talk = Talk(lag=400, quantum_ms=10_000).serving()
    talk.sample(40)
    assert talk.open(claimed=400) == ["flow 2000"]


def test_a_flow_the_driver_lost_is_switched_on_again_and_its_register_goes_on():
    talk = Talk().serving()
    talk.sample(5)
    assert did(talk.machine.measured(None, talk.now + SAMPLE)) == ["flow 2000"]
    talk.machine.measured(3, talk.now + 2 * SAMPLE)
    assert talk.machine.units == 8


def test_stopping_leaves_a_last_reading_at_once():
    talk = Talk().serving()
    talk.sample(5)
    lines = did(talk.machine.stop(talk.now))
    assert lines == ["sync", "flow 0", "END STOPPING 5", "ended", "FINAL 2: 5, 50", "sync"]


def test_every_deadline_does_something_when_it_comes():
    """A deadline that stays in the past would keep the shell turning."""
    talk = Talk().serving()
    for _ in range(60):
        due = talk.machine.deadline()
        if due is None:
            break
        talk.now = max(talk.now, due)
        talk.machine.tick(talk.now)
        if talk.machine.deadline() is not None:
            assert talk.machine.deadline() > talk.now


def test_transitions_name_every_phase_and_only_done_is_a_dead_end():
    assert set(TRANSITIONS) == set(Phase)
    assert [phase for phase, next in TRANSITIONS.items() if not next] == [Phase.DONE]


def test_an_impossible_transition_is_our_own_fault():
    with pytest.raises(AssertionError, match="WAITING -> FINAL"):
        Talk().machine._enter(Phase.FINAL)
