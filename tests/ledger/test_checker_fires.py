"""The checker is checked: histories agree with the model, and each broken ledger is caught."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from demesh.ledger import channels, draft, ledger, membership, ops, payout, state
from demesh.ledger.draft import Draft
from demesh.ledger.events import Cause
from demesh.ledger.state import Channel, Result
from demesh.ledger.trie import Branch, Trie
from ledger.book import Book
from ledger.history import history
from ledger.model import Pair

BLOCKS = 120


def walk(seed: int, rules: int = 1) -> None:
    """A history of `BLOCKS` blocks on a ledger and its model."""
    pair = Pair(rules)
    for drawn, after_s in history(seed, BLOCKS, rules):
        pair.block(drawn, after_s)


@pytest.mark.parametrize("rules", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_seeded_history_agrees_with_the_model(seed, rules):
    walk(seed, rules)


def test_the_histories_reach_every_kind_of_fact_and_most_refusals():
    seen: Counter[object] = Counter()
    for seed in range(4):
        book = Book(rules=3)
        for drawn, after_s in history(seed, BLOCKS, 3):
            seen.update(book.block(*drawn, after_s=after_s))
            seen.update(type(event).__name__ for event in book.events)
            seen.update(getattr(event, "why", None) for event in book.events)
    facts = ["Transferred", "Opened", "Claimed", "Closing", "Settled", "Enrolled", *Cause]
    facts += ["Capped", "Extended", "Paid"]
    codes = [
        Result.OK,
        Result.EXPIRED,
        Result.VALIDITY,
        Result.AMOUNT,
        Result.FUNDS,
        Result.CHANNEL,
        Result.NOTHING,
        Result.PARTY,
        Result.CLOSING,
        Result.SERIAL,
        Result.KEY,
        Result.MAJORITY,
        Result.APPROVAL,
        Result.CAP,
    ]
    assert [one for one in (*facts, *codes) if seen[one] < 3] == []


# -- broken ledgers -------------------------------------------------------------------------------


def shares_round_up(patch):
    patch.setattr(payout, "share", lambda paid, ppm: -(-paid * ppm // 1_000_000))


def fee_on_the_escrow_instead_of_the_payout(patch):
    def settle(draft, id, why):
        channel = draft.channel(id)
        draft.put_channel(id, replace(channel, lanes=(state.Lane(0, channel.escrow),)))
        return original(draft, id, why)

    original = payout.settle
    patch.setattr(payout, "settle", settle)
    patch.setattr(channels, "settle", settle)


def op_memory_is_lost(patch):
    patch.setattr(Draft, "remember", lambda self, op, signer, valid_until_s, result: None)


def op_memory_is_lost_for_failures(patch):
    original = Draft.remember

    def remember(self, op, signer, valid_until_s, result):
        if result is Result.OK:
            original(self, op, signer, valid_until_s, result)

    patch.setattr(Draft, "remember", remember)


def ops_are_forgotten_a_second_early(patch):
    patch.setattr(Draft, "stale_ops", lambda self, count: self._until(b"f", self.time_s, count))


def payout_is_not_capped_by_the_escrow(patch):
    patch.setattr(Channel, "claimed", property(lambda self: sum(one.cum for one in self.lanes)))


def only_the_greatest_lane_counts(patch):
    def claimed(self):
        return min(max([one.cum for one in self.lanes], default=0), self.escrow)

    patch.setattr(Channel, "claimed", property(claimed))


def the_last_claim_counts_instead_of_the_greatest(patch):
    patch.setattr(Channel, "lane", lambda self, number: state.Lane(number, 0))


def nothing_settles_by_itself(patch):
    patch.setattr(ledger, "settle_due", lambda draft, count: ())


def channels_settle_before_the_claims_of_their_block(patch):
    original = ledger.Draft

    def settle_first(trie, time_s):
        draft = original(trie, time_s)
        payout.settle_due(draft, 256)
        return draft

    patch.setattr(ledger, "Draft", settle_first)


def expiry_leaves_no_window(patch):
    def settles_s(self):
        return self.expiry_s if self.close_at_s is None else self.close_at_s

    patch.setattr(Channel, "settles_s", property(settles_s))


def the_order_of_settlement_keeps_old_times(patch):
    original = Draft._put

    def put(self, key, record):
        if not (key[:1] == b"d" and record is None):
            original(self, key, record)

    patch.setattr(Draft, "_put", put)


def refund_is_kept(patch):
    original = Draft.drop_channel

    def drop(self, id):
        channel = self.channel(id)
        original(self, id)
        self.post(channel.payer, channel.claimed - channel.escrow)

    patch.setattr(Draft, "drop_channel", drop)


def transfers_take_nothing(patch):
    original = Draft.post
    patch.setattr(Draft, "post", lambda self, id, amount: original(self, id, max(amount, 0)))


def anyone_closes(patch):
    original = ops.close_channel

    def close(draft, signer, body, open_voucher):
        channel = draft.channel(body.channel)
        signer = signer if channel is None or signer == channel.payer else channel.payee
        return original(draft, signer, body, open_voucher)

    patch.setattr(ops, "close_channel", close)


def changes_leave_out_deletions(patch):
    original = Draft.finish

    def finish(self):
        trie, changes = original(self)
        return trie, tuple(change for change in changes if change[1] is not None)

    patch.setattr(Draft, "finish", finish)


def a_changed_branch_keeps_its_old_digest(patch):
    original = Trie.set

    def set_with_stale_digest(self, key, value):
        trie = original(self, key, value)
        if isinstance(self._top, Branch) and isinstance(trie._top, Branch):
            trie._top._digest = self._top._digest
        return trie

    patch.setattr(Trie, "set", set_with_stale_digest)


def one_owner_is_enough(patch):
    patch.setattr(membership, "_renews", lambda member, body: True)


def approvals_need_not_hold(patch):
    patch.setattr(membership, "check_approval", lambda *parts: True)


def serials_are_not_looked_at(patch):
    original = membership._misfit

    def misfit(member, owners, body):
        serial = 1 if member is None else member.serial + 1
        return original(member, owners, replace(body, serial=serial))

    patch.setattr(membership, "_misfit", misfit)


def keys_of_others_are_taken(patch):
    patch.setattr(membership, "_taken", lambda *parts: None)


def a_device_gets_no_account(patch):
    patch.setattr(Draft, "open_account", lambda self, id, account: None)


def epochs_are_never_closed(patch):
    patch.setattr(ledger, "close_epoch", lambda draft: False)


def every_member_op_closes_an_epoch(patch):
    def close(draft):
        electorate, voters = draft.electorate, draft.voters()
        if not draft.enrolments:
            return False
        draft.put_electorate(replace(electorate, epoch=electorate.epoch + 1, voters=voters))
        return True

    patch.setattr(ledger, "close_epoch", close)


def voters_are_ordered_by_id(patch):
    original = Draft.voters
    patch.setattr(
        Draft,
        "voters",
        lambda self: tuple(sorted(original(self), key=lambda one: one.device)),
    )


def observers_vote(patch):
    original = Draft.member

    def voters(self):
        known = self.electorate.voters
        held = [one.device for one in known]
        coming = sorted(self._enrolled.keys() - set(held))
        return tuple(
            draft.Elector(id, original(self, id).certificate.vote_key, original(self, id).weight)
            for id in (*held, *coming)
        )

    patch.setattr(Draft, "voters", voters)


def caps_are_ignored(patch):
    patch.setattr(state.Lane, "value", property(lambda self: self.cum))


def a_cap_takes_back_what_was_settled(patch):
    original = channels.replace

    def forgetful(record, **changes):
        return original(record, **{k: v for k, v in changes.items() if k != "settled"})

    patch.setattr(payout, "replace", forgetful)


def fees_are_taken_of_each_payment(patch):
    original = payout._so_far

    def so_far(channel, fee_ppm, total):
        if total <= channel.paid:
            return original(channel, fee_ppm, total)
        before = original(channel, fee_ppm, channel.paid)
        return tuple(
            early + late
            for early, late in zip(
                before, original(channel, fee_ppm, total - channel.paid), strict=True
            )
        )

    patch.setattr(payout, "_so_far", so_far)


def a_settle_forgets_what_it_paid(patch):
    original = payout.replace

    def forgetful(record, **changes):
        return original(record, **{k: v for k, v in changes.items() if k != "paid"})

    patch.setattr(payout, "replace", forgetful)


def top_ups_cost_nothing(patch):
    def top_up(draft, signer, body):
        answer = original(draft, signer, body)
        if not isinstance(answer, Result):
            draft.post(signer, body.amount)
        return answer

    original = channels.top_up
    patch.setattr(ops, "top_up", top_up)


def anyone_caps(patch):
    def cap_lane(draft, body, open_cap):
        def opened(frame):
            cap = open_cap(frame)[1]
            held = draft.channel(cap.channel)
            return (b"" if held is None else held.payee), cap

        return original(draft, body, opened)

    original = channels.cap_lane
    patch.setattr(ops, "cap_lane", cap_lane)


def an_extension_leaves_the_order_of_settlement(patch):
    original = Draft.put_channel

    def put(self, id, channel):
        before = self.channel(id)
        if before is None or before.expiry_s == channel.expiry_s:
            original(self, id, channel)
        else:
            self._put(b"c" + id, channel)

    patch.setattr(Draft, "put_channel", put)


MUTANTS_3 = [
    caps_are_ignored,
    a_cap_takes_back_what_was_settled,
    fees_are_taken_of_each_payment,
    a_settle_forgets_what_it_paid,
    top_ups_cost_nothing,
    anyone_caps,
    an_extension_leaves_the_order_of_settlement,
]

MUTANTS = [
    shares_round_up,
    fee_on_the_escrow_instead_of_the_payout,
    op_memory_is_lost,
    op_memory_is_lost_for_failures,
    ops_are_forgotten_a_second_early,
    payout_is_not_capped_by_the_escrow,
    only_the_greatest_lane_counts,
    the_last_claim_counts_instead_of_the_greatest,
    nothing_settles_by_itself,
    channels_settle_before_the_claims_of_their_block,
    expiry_leaves_no_window,
    the_order_of_settlement_keeps_old_times,
    refund_is_kept,
    transfers_take_nothing,
    anyone_closes,
    changes_leave_out_deletions,
    one_owner_is_enough,
    approvals_need_not_hold,
    serials_are_not_looked_at,
    keys_of_others_are_taken,
    a_device_gets_no_account,
    epochs_are_never_closed,
    every_member_op_closes_an_epoch,
    voters_are_ordered_by_id,
    observers_vote,
    a_changed_branch_keeps_its_old_digest,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_ledger_is_caught(mutant, monkeypatch):
    mutant(monkeypatch)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        for seed in range(4):
            walk(seed)


@pytest.mark.parametrize("mutant", MUTANTS_3, ids=lambda mutant: mutant.__name__)
def test_a_ledger_that_is_broken_in_what_rules_3_brought_is_caught(mutant, monkeypatch):
    mutant(monkeypatch)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        for seed in range(4):
            walk(seed, 3)
