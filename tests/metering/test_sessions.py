"""The collection: who may say what about which session, what is kept, what people see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demesh.errors import StorageError
from demesh.metering import sessions
from demesh.metering.payer import CLOSE_AFTER_NS
from demesh.metering.sessions import SESSIONS_MAX, STRAYS_MAX, Metering
from demesh.ports import SECOND, Actuate, Keep, Observe
from demesh.wire.intents import ChannelFact, Ended, Send, Submit
from demesh.wire.kinds import Reject
from demesh.wire.offers import Refusal, Refuse
from demesh.wire.opbodies import Close
from demesh.wire.readings import End, EndReason, Voucher
from metering.world import EPOCH_S, PAYER, PROVIDER, World, agreement

STRANGER = b"S" * 16
CHANNEL = b"C" * 16
NOW = 7 * SECOND


def metering(me: bytes, kept: tuple[tuple[str, bytes, bytes], ...] = ()) -> Metering:
    return Metering(me, kept, lambda now: EPOCH_S + now // SECOND, NOW)


def fact(**change: object) -> ChannelFact:
    agreed = agreement()
    expiry_s = EPOCH_S + 600
    standard = ChannelFact(
        CHANNEL, agreed.id, PAYER, PROVIDER, agreed.escrow, 0, expiry_s, False, True
    )
    return replace(standard, **change)


def serving() -> Metering:
    core = metering(PROVIDER)
    core.start(agreement(), NOW)
    core.channel(fact(), EPOCH_S, NOW)
    return core


def of_kind(acts: list[object], kind: type) -> list[object]:
    return [act for act in acts if isinstance(act, kind)]


def test_an_agreement_starts_once_however_often_it_is_told():
    core = metering(PROVIDER)
    assert core.start(agreement(), NOW)
    assert core.start(agreement(), NOW) == []


def test_only_the_payer_s_voucher_counts():
    core = serving()
    assert core.receive_voucher(STRANGER, Voucher(CHANNEL, 0, 5), b"f", NOW) == []
    assert core.receive_voucher(PAYER, Voucher(b"D" * 16, 0, 5), b"f", NOW) == []
    assert core.rejects == {Reject.INVALID: 2}
    assert of_kind(core.receive_voucher(PAYER, Voucher(CHANNEL, 0, 5), b"f", NOW), Keep)


def test_only_the_other_side_ends_a_session():
    core = serving()
    end = End(agreement().id, EndReason.DONE, 0)
    assert core.receive_end(STRANGER, end, NOW) == []
    assert core.receive_refuse(STRANGER, Refuse(end.agreement, Refusal.UNKNOWN), NOW) == []
    assert of_kind(core.receive_end(PAYER, end, NOW), Ended)


def test_a_buyer_that_withdraws_frees_the_provider():
    core = metering(PROVIDER)
    core.start(agreement(), NOW)
    acts = core.receive_refuse(PAYER, Refuse(agreement().id, Refusal.UNKNOWN), NOW)
    assert of_kind(acts, Ended)
    assert core.documents() == ()


def test_a_reading_of_a_session_long_gone_is_answered_by_end():
    world = World(agreement())
    world.start()
    world.decide()
    reading = next(m for _, _, m in world.network)
    acts = metering(PAYER).receive_reading(PROVIDER, reading, NOW)
    assert acts == [Send(PROVIDER, End(agreement().id, EndReason.DONE, 0))]


def test_an_open_the_ledger_refused_ends_at_once_on_both_sides():
    core = metering(PAYER)
    core.start(agreement(), NOW)
    acts = core.open_failed(agreement().id, NOW)
    assert [send.message.reason for send in of_kind(acts, Send)] == [EndReason.ESCROW]
    assert of_kind(acts, Ended)
    assert core.open_failed(agreement().id, NOW) == []


def test_a_second_channel_for_one_agreement_is_closed_unclaimed():
    core = serving()
    acts = core.channel(fact(channel=b"D" * 16), EPOCH_S, NOW)
    assert acts == [Submit(Close(b"D" * 16, b""))]


def test_a_channel_somebody_else_opens_in_a_payer_s_name_is_not_served():
    core = metering(PROVIDER)
    core.start(agreement(), NOW)
    core.decided(EPOCH_S)
    acts = core.channel(fact(payer=STRANGER), EPOCH_S, NOW)
    assert acts == [Submit(Close(CHANNEL, b""))]
    assert of_kind(core.channel(fact(channel=b"D" * 16), EPOCH_S, NOW), Actuate)


def test_a_payer_gives_the_payee_a_minute_to_close_a_stray():
    core = metering(PAYER)
    assert core.channel(fact(), EPOCH_S, NOW) == []
    assert core.deadline() == NOW + CLOSE_AFTER_NS
    assert core.tick(NOW + CLOSE_AFTER_NS) == [Submit(Close(CHANNEL, b""))]
    core.channel(fact(open=False), EPOCH_S, NOW)
    assert core.deadline() is None


def test_strays_are_bounded():
    core = metering(PROVIDER)
    ids = [bytes([n]) * 16 for n in range(STRAYS_MAX + 5)]
    closed = [act for id in ids for act in core.channel(fact(channel=id), EPOCH_S, NOW)]
    assert len(closed) == STRAYS_MAX


def test_sessions_are_bounded_and_the_one_too_many_hears_it():
    core = metering(PROVIDER)
    for number in range(SESSIONS_MAX):
        core.start(replace(agreement(), id=number.to_bytes(16, "big")), NOW)
    acts = core.start(replace(agreement(), id=b"Z" * 16), NOW)
    assert [send.message.reason for send in of_kind(acts, Send)] == [EndReason.STOPPING]
    assert of_kind(acts, Ended)


def test_what_was_kept_is_taken_up_and_other_spaces_are_left_alone():
    keeps = of_kind(metering(PROVIDER).start(agreement(), NOW), Keep)
    kept = tuple((keep.space, keep.key, keep.value) for keep in keeps)
    core = metering(PROVIDER, (*kept, ("window", b"x", b"?")))
    assert core.agreements() == (agreement(),)


def test_flows_of_an_earlier_run_end_before_anything_else():
    before = serving()
    keeps = of_kind(before.receive_voucher(PAYER, Voucher(CHANNEL, 0, 500), b"f", NOW), Keep)
    core = metering(PROVIDER, tuple((k.space, k.key, k.value) for k in keeps))
    acts = core.channel(fact(), EPOCH_S, NOW)
    assert of_kind(acts, Actuate) == [Actuate(agreement().id, 0)]
    assert of_kind(core.channel(fact(), EPOCH_S, NOW), Actuate) == []


def test_a_channel_that_is_gone_after_a_restart_ends_its_session():
    before = serving()
    keeps = of_kind(before.receive_voucher(PAYER, Voucher(CHANNEL, 0, 500), b"f", NOW), Keep)
    core = metering(PROVIDER, tuple((k.space, k.key, k.value) for k in keeps))
    acts = core.tick(NOW)
    assert Keep(keeps[0].space, agreement().id, None) in acts
    assert core.documents() == ()


def test_an_entry_that_cannot_be_read_says_what_to_do():
    with pytest.raises(StorageError, match="restore the data folder from a copy"):
        metering(PROVIDER, (("metering.provider", b"k", b"\x80"),))


def test_people_see_who_sells_what_to_whom_and_what_came_of_it():
    core = Metering(PROVIDER, (), lambda now: EPOCH_S, NOW, {PAYER: "ada-meter"}.__getitem__)
    core.start(agreement(), NOW)
    core.decided(EPOCH_S)
    opened = of_kind(core.channel(fact(), EPOCH_S, NOW), Observe)
    assert [line.text for line in opened] == ["delivers 2000 W to ada-meter"]
    assert opened[0].document == {
        "agreement": "ifaucqkbifaucqkbifaucqkbiey",
        "role": "provider",
        "peer": "ada-meter",
        "phase": "serving",
        "units_wh": 0,
        "cost": 0,
        "paid": 0,
        "power_w": 2000,
    }
    core.receive_voucher(PAYER, Voucher(CHANNEL, 0, 500), b"f", NOW)
    core.receive_end(PAYER, End(agreement().id, EndReason.DONE, 0), NOW)
    ended = of_kind(core.tick(NOW + 9 * SECOND), Observe)
    assert [line.text for line in ended] == ["sold 0 Wh for 0.0005 to ada-meter (done)"]


def test_the_deadline_is_the_earliest_of_all_and_none_without_sessions():
    core = metering(PROVIDER)
    assert core.deadline() is None
    core.start(agreement(), NOW)
    core.start(replace(agreement(), id=b"Z" * 16), NOW + SECOND)
    assert core.deadline() == NOW + 30 * SECOND


def test_the_two_roles_share_no_phase_by_accident():
    provider = sessions.Provider(agreement(), metering(PROVIDER)._clock, NOW)
    provider.phase = type(provider.phase)(5)
    assert not provider.over
