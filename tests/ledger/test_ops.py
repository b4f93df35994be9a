"""Transfers, op memory and genesis: what is asked, what is answered, and that it happens once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demesh.ledger import ledger as ledger_module
from demesh.ledger import ops as ops_module
from demesh.ledger.events import Transferred
from demesh.ledger.ledger import FORGOTTEN_MAX, Ledger
from demesh.ledger.rules import RULES_VERSIONS
from demesh.ledger.state import PARAMETERS, Result
from demesh.wire.messages import GenesisAccount
from ledger.book import (
    ANN,
    BEN,
    CEM,
    COMMONS,
    DAY_S,
    FLOOR,
    HOUR_S,
    START_S,
    STRANGER,
    Book,
    certificate,
    device,
    enrolling,
    genesis_body,
    mesh,
    open_voucher,
    opening,
    transfer,
)


def test_accounts_of_genesis_begin_at_zero_with_their_floor():
    ledger = Ledger.genesis(genesis_body())
    account = ledger.account(ANN)
    assert account is not None
    assert (account.balance, account.floor, account.owner) == (0, FLOOR, ANN)
    assert len(ledger.accounts()) == 5
    assert ledger.total() == 0
    assert ledger.time_s == START_S


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"commons": STRANGER}, "commons is not one of the accounts"),
        ({"commons_ppm": 20_001}, "commons_ppm = 20001 is outside"),
        ({"accounts": genesis_body().accounts * 2}, "same id"),
        ({"accounts": (GenesisAccount(COMMONS, COMMONS, 4, 1),)}, "has floor 1"),
        (
            {
                "accounts": (
                    GenesisAccount(COMMONS, COMMONS, 4, -(2**53) + 1),
                    GenesisAccount(ANN, ANN, 1, -1),
                )
            },
            "floors together",
        ),
    ],
)
def test_a_genesis_that_breaks_a_rule_is_refused_with_a_reason(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        Ledger.genesis(replace(genesis_body(), **change))


def test_a_genesis_at_its_bounds_is_taken():
    accounts = (
        GenesisAccount(COMMONS, COMMONS, 4, 0),
        GenesisAccount(ANN, ANN, 1, -(2**53) + 2),
        GenesisAccount(BEN, BEN, 1, -1),
    )
    body = replace(genesis_body(commons_ppm=20_000), accounts=accounts)
    book = Book(Ledger.genesis(body))
    # All the money there can be, in one place, still is a record that is read back.
    assert book.block(transfer(ANN, COMMONS, 2**53 - 2), transfer(BEN, COMMONS, 1)) == (
        Result.OK,
        Result.OK,
    )
    assert Ledger.restore(book.ledger.records()).account(COMMONS).balance == 2**53 - 1


def test_a_transfer_moves_money_and_says_so():
    book = Book()
    op = transfer(ANN, BEN, 700)
    assert book.block(op) == (Result.OK,)
    assert (book.balance(ANN), book.balance(BEN)) == (-700, 700)
    assert book.events == (Transferred(op.id, ANN, BEN, 700),)
    assert book.ledger.result(op.id) == Result.OK


def test_a_transfer_may_reach_the_floor_but_not_pass_it():
    book = Book()
    assert book.block(transfer(ANN, BEN, -FLOOR + 1)) == (Result.FUNDS,)
    assert book.block(transfer(ANN, BEN, -FLOOR)) == (Result.OK,)
    assert book.balance(ANN) == FLOOR
    assert book.block(transfer(ANN, BEN, 1)) == (Result.FUNDS,)
    assert book.block(transfer(COMMONS, BEN, 1)) == (Result.FUNDS,)


@pytest.mark.parametrize(
    ("op", "result"),
    [
        (transfer(STRANGER, BEN, 1), Result.SIGNER),
        (transfer(ANN, STRANGER, 1), Result.PEER),
        (transfer(ANN, ANN, 1), Result.PEER),
        (transfer(ANN, BEN, 0), Result.AMOUNT),
        (transfer(ANN, BEN, -5), Result.AMOUNT),
    ],
)
def test_a_refused_transfer_moves_nothing_and_is_remembered(op, result):
    book = Book()
    assert book.block(op) == (result,)
    assert book.events == ()
    assert all(account.balance == 0 for _, account in book.ledger.accounts())
    assert book.ledger.result(op.id) == result


def test_money_received_in_a_block_can_be_spent_in_the_same_block():
    book = Book()
    assert book.block(transfer(ANN, COMMONS, 10), transfer(COMMONS, BEN, 10)) == (Result.OK,) * 2
    assert (book.balance(ANN), book.balance(COMMONS), book.balance(BEN)) == (-10, 0, 10)


def test_the_same_op_twice_in_a_block_pays_once():
    book = Book()
    op = transfer(ANN, BEN, 10)
    assert book.block(op, op) == (Result.OK, Result.OK)
    assert book.balance(BEN) == 10
    assert len(book.events) == 1


def test_the_same_op_in_a_later_block_gets_the_recorded_answer_and_pays_nothing():
    book = Book()
    op = transfer(ANN, BEN, 10)
    book.block(op)
    assert book.block(op) == (Result.OK,)
    assert book.balance(BEN) == 10
    assert book.events == ()


def test_two_equal_transfers_with_different_nonces_pay_twice():
    book = Book()
    book.block(transfer(ANN, BEN, 10, nonce=1), transfer(ANN, BEN, 10, nonce=2))
    assert book.balance(BEN) == 20


def test_a_failed_op_stays_failed_when_the_money_is_there_later():
    book = Book()
    op = transfer(COMMONS, BEN, 10)
    assert book.block(op) == (Result.FUNDS,)
    book.block(transfer(ANN, COMMONS, 100))
    assert book.block(op) == (Result.FUNDS,)
    assert book.balance(BEN) == 0


def test_an_op_is_valid_up_to_and_including_its_last_second():
    book = Book()
    last = transfer(ANN, BEN, 1, nonce=1, valid_until_s=START_S + 10)
    late = transfer(ANN, BEN, 1, nonce=2, valid_until_s=START_S + 9)
    assert book.block(last, late, after_s=10) == (Result.OK, Result.EXPIRED)
    assert book.ledger.result(late.id) is None


def test_an_op_valid_for_more_than_a_day_waits_and_takes_no_memory():
    book = Book()
    near = transfer(ANN, BEN, 1, valid_until_s=START_S + 1 + DAY_S)
    far = transfer(ANN, BEN, 2, valid_until_s=START_S + 2 + DAY_S)
    assert book.block(near, far) == (Result.OK, Result.VALIDITY)
    assert book.ledger.result(far.id) is None
    assert not book.ledger.includable(far, START_S + 1)
    assert book.ledger.includable(far, START_S + 2)
    assert book.balance(BEN) == 1


def test_an_op_is_forgotten_once_it_can_only_be_expired():
    book = Book()
    op = transfer(ANN, BEN, 1, valid_until_s=START_S + 10)
    book.block(op)
    before = len(book.ledger.records())
    assert book.ledger.deadline_s() == START_S + 11
    book.block(after_s=9)
    assert book.ledger.result(op.id) == Result.OK
    book.block(after_s=1)
    assert book.ledger.result(op.id) is None
    assert book.block(op) == (Result.EXPIRED,)
    assert book.balance(BEN) == 1
    assert book.ledger.deadline_s() is None
    assert len(book.ledger.records()) == before - 3  # receipt, its place in the order, quota


def test_forgetting_is_bounded_per_block_and_goes_on_in_the_next():
    book = Book()
    count = FORGOTTEN_MAX + 3
    book.block(*(transfer(ANN, BEN, 1, nonce=n, valid_until_s=START_S + 5) for n in range(count)))
    book.block(after_s=10)
    left = [op for op, _ in book.ledger.records() if op[:1] == b"o"]
    assert len(left) == 3
    assert book.ledger.deadline_s() == START_S + 6
    book.block()
    assert book.ledger.deadline_s() is None


def test_more_ops_than_a_signer_may_have_remembered_get_quota_and_may_come_again(monkeypatch):
    monkeypatch.setattr(ops_module, "REMEMBERED_MAX", 2)
    monkeypatch.setattr(ledger_module, "REMEMBERED_MAX", 2)
    book = Book()
    first, second, third = (
        transfer(ANN, BEN, 1, nonce=n, valid_until_s=START_S + 5 + n) for n in range(3)
    )
    assert book.block(first, second, third) == (Result.OK, Result.OK, Result.QUOTA)
    assert not book.ledger.includable(third, book.time_s)
    assert book.block(third, transfer(CEM, BEN, 1)) == (Result.QUOTA, Result.OK)
    assert not Result.QUOTA.final
    book.block(after_s=4)  # forgets the first
    assert book.ledger.includable(third, book.time_s)
    assert book.block(third) == (Result.OK,)
    assert book.balance(BEN) == 4


@pytest.mark.parametrize("rules", RULES_VERSIONS)
def test_since_rules_3_all_devices_of_an_owner_share_its_memory(monkeypatch, rules):
    monkeypatch.setattr(ops_module, "REMEMBERED_MAX", 2)
    monkeypatch.setattr(ledger_module, "REMEMBERED_MAX", 2)
    book = Book(rules=rules)
    devices = [("barn", 1), ("shed", 2)]
    for name, nonce in devices:
        held = certificate(name, "ann")
        options = {"nonce": nonce, "valid_until_s": START_S + 2, "submitter": BEN}
        assert book.block(enrolling(held, 0, binding=mesh(rules), **options)) == (Result.OK,)
    book.block(after_s=10)  # forgets Ben's
    first, second = (transfer(device(name), CEM, 0) for name, _ in devices)
    own = transfer(ANN, BEN, 1)
    assert book.block(first, second) == (Result.AMOUNT,) * 2
    shared = rules >= 3
    assert book.ledger.includable(own, book.time_s) is not shared
    assert book.block(own) == (Result.QUOTA if shared else Result.OK,)
    assert book.block(transfer(BEN, CEM, 1)) == (Result.OK,)
    book.block(after_s=2 * HOUR_S)
    assert not any(key[:1] in (b"q", b"o") for key, _ in book.ledger.records())


def test_includable_tells_what_a_block_would_record():
    book = Book()
    op = transfer(ANN, BEN, 1, valid_until_s=START_S + 10)
    assert book.ledger.includable(op, START_S + 10)
    assert not book.ledger.includable(op, START_S + 11)
    book.block(op)
    assert not book.ledger.includable(op, START_S + 2)


def test_mesh_time_never_runs_back():
    book = Book()
    book.block(after_s=100)
    ledger = book.ledger.apply((), START_S + 50, open_voucher).ledger
    assert ledger.time_s == START_S + 100
    assert ledger.root == book.ledger.root


def test_a_block_that_changes_nothing_has_no_changes_and_the_same_root():
    ledger = Ledger.genesis(genesis_body())
    applied = ledger.apply((), START_S, open_voucher)
    assert applied.changes == ()
    assert applied.ledger.root == ledger.root


def test_changes_name_every_record_that_differs_and_no_other():
    book = Book()
    op = transfer(ANN, BEN, 10)
    applied = book.ledger.apply((op,), START_S + 1, open_voucher)
    before, after = dict(book.ledger.records()), dict(applied.ledger.records())
    keys = [key for key, _ in applied.changes]
    assert keys == sorted(keys)
    assert keys == [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    assert all(after.get(key) == value for key, value in applied.changes)
    assert PARAMETERS in keys


def test_a_restored_ledger_is_the_same_whatever_the_order_of_its_records():
    book = Book()
    book.block(transfer(ANN, BEN, 10), opening(BEN, CEM))
    records = book.ledger.records()
    restored = Ledger.restore(reversed(records))
    assert restored.root == book.ledger.root
    assert restored.records() == records
    assert restored.channels() == book.ledger.channels()


@pytest.mark.parametrize("records", [[], [(b"", b"")], [(b"zz", b"")], [(b"a" * 16, b"")]])
def test_records_that_cannot_be_a_ledger_are_refused(records):
    with pytest.raises(ValueError, match=r"not a key|incomplete"):
        Ledger.restore(records)


def test_two_forks_of_a_ledger_do_not_touch_each_other_or_their_parent():
    parent = Ledger.genesis(genesis_body())
    root = parent.root
    one = parent.apply((transfer(ANN, BEN, 10),), START_S + 1, open_voucher).ledger
    other = parent.apply((transfer(ANN, CEM, 20),), START_S + 1, open_voucher).ledger
    assert parent.root == root
    assert len({root, one.root, other.root}) == 3
    again = parent.apply((transfer(ANN, BEN, 10),), START_S + 1, open_voucher).ledger
    assert again.root == one.root
    assert parent.account(BEN).balance == 0
    assert (one.account(BEN).balance, other.account(BEN).balance) == (10, 0)
    assert (one.account(CEM).balance, other.account(CEM).balance) == (0, 20)
