"""Members and epochs: who may join, whose word it takes, and when the voters change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demesh.ledger import membership
from demesh.ledger.events import Enrolled
from demesh.ledger.ledger import Ledger
from demesh.ledger.membership import ENROLMENTS_MAX, RENEWAL_S_MIN
from demesh.ledger.state import Account, AccountKind, Elector, Electorate, Result
from demesh.wire.identity import WEIGHT_MAX, approve_member, certify_device
from demesh.wire.kinds import KIND_BYTES_MAX, Kind, Reject
from demesh.wire.messages import GenesisDevice
from demesh.wire.opbodies import OP_BODIES, Op, OpBody, SetMember
from demesh.wire.schema import decode, encode
from demesh.wire.signer import Signer
from demesh.wire.validate import Validator
from ledger.book import (
    ANN,
    BEN,
    CEM,
    DAY_S,
    FOUNDING,
    KEYS,
    MESH,
    OWNERS,
    START_S,
    STRANGER,
    Book,
    certificate,
    device,
    enrolling,
    genesis_body,
    key_of,
    public,
    signed,
    transfer,
)

FOUNDERS = tuple(
    Elector(device(name), public(f"{name} votes"), weight) for name, _, weight in FOUNDING if weight
)


def names(book: Book) -> list[tuple[str, int]]:
    """Name and weight of each voter, by voter number."""
    name_of = {id: member.certificate.name for id, member in book.ledger.members()}
    return [(name_of[one.device], one.weight) for one in book.ledger.electorate.voters]


# -- genesis --------------------------------------------------------------------------------------


def test_a_genesis_makes_its_devices_members_and_those_with_a_weight_voters_in_its_order():
    ledger = Ledger.genesis(genesis_body())
    assert ledger.electorate == Electorate(MESH.mesh_id, 1, 0, 1, FOUNDERS)
    assert [id for id, _ in ledger.members()] == sorted(device(name) for name, _, _ in FOUNDING)
    cellar = ledger.member(device("cellar"))
    assert cellar is not None
    assert (cellar.certificate, cellar.weight, cellar.serial) == (
        certificate("cellar", "cem"),
        0,
        0,
    )
    assert ledger.member(STRANGER) is None
    owners = dict(ledger.owners())
    assert {id: (owner.key, owner.name) for id, owner in owners.items()} == {
        id: (bytes(KEYS[name].verify_key), name)
        for name, id in zip(OWNERS, (ANN, BEN, CEM), strict=True)
    }


def test_a_genesis_of_other_rules_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match="expected rules_version 1 to 3, got 4; install"):
        Ledger.genesis(replace(genesis_body(), rules_version=4))


def test_records_without_voters_are_no_ledger():
    records = [record for record in Book().ledger.records() if record[0] != b"v"]
    with pytest.raises(ValueError, match="incomplete: no voters"):
        Ledger.restore(records)


# -- joining --------------------------------------------------------------------------------------


def test_a_new_device_joins_with_the_word_of_most_owners_and_votes_from_the_next_epoch():
    book = Book()
    barn = certificate("barn", "cem")
    assert book.block(enrolling(barn, weight=3)) == (Result.OK,)
    assert book.closing
    assert book.events == (Enrolled(device("barn"), CEM, "barn", 3, 1),)
    voters = (*FOUNDERS, Elector(device("barn"), public("barn votes"), 3))
    assert book.ledger.electorate == Electorate(MESH.mesh_id, 1, 1, 1, voters)
    assert book.ledger.account(device("barn")) == Account(CEM, AccountKind.DEVICE, 0, 0)
    member = book.ledger.member(device("barn"))
    assert member is not None
    assert (member.certificate, member.weight, member.serial) == (barn, 3, 1)


def test_a_device_that_has_an_account_keeps_it():
    accounts = (*genesis_body().accounts, replace(genesis_body().accounts[0], id=device("barn")))
    ledger = Ledger.genesis(replace(genesis_body(), accounts=accounts))
    book = Book(ledger)
    mesh = replace(MESH, mesh_id=ledger.electorate.mesh_id)
    held = certificate("barn", "cem")
    approvals = tuple(approve_member(KEYS[one], mesh, held, 1, 1) for one in OWNERS)
    assert book.block(signed(ANN, SetMember(held, 1, 1, approvals))) == (Result.OK,)
    assert book.ledger.account(device("barn")) == ledger.account(device("barn"))


def test_an_observer_joins_leaves_and_changes_without_a_new_epoch():
    book = Book()
    assert book.block(enrolling(certificate("barn", "cem"), weight=0)) == (Result.OK,)
    assert not book.closing
    other = certificate("barn", "cem", vote="another key")
    assert book.block(enrolling(other, weight=0, serial=2)) == (Result.OK,)
    assert not book.closing
    assert book.ledger.electorate.epoch == 0


def test_anyone_with_an_account_submits_and_nobody_else():
    book = Book()
    assert book.block(enrolling(certificate("barn", "cem"), submitter=STRANGER)) == (Result.SIGNER,)
    assert book.block(enrolling(certificate("barn", "cem"), submitter=device("attic"))) == (
        Result.SIGNER,
    )
    assert book.block(enrolling(certificate("barn", "cem"), submitter=CEM)) == (Result.OK,)
    assert book.block(
        enrolling(certificate("shed", "ann"), submitter=device("barn"), approvers=OWNERS)
    ) == (Result.OK,)


# -- whose word -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("approvers", "result"),
    [
        (("ann",), Result.MAJORITY),
        (("cem",), Result.MAJORITY),
        (("cem", "ben"), Result.OK),
        (OWNERS, Result.OK),
        (("ann", "ann"), Result.APPROVER),
        (("ann", "ben", "ann"), Result.APPROVER),
        (("ann", "dora"), Result.APPROVER),
        (("ann", "ben", "dora"), Result.APPROVER),
    ],
)
def test_more_than_half_of_all_owners_approve_each_once(approvers, result):
    book = Book()
    assert book.block(enrolling(certificate("barn", "cem"), approvers=approvers)) == (result,)
    assert (book.ledger.member(device("barn")) is not None) == (result is Result.OK)


def test_half_of_the_owners_are_not_enough():
    four = (*genesis_body().owners, bytes(KEYS["dora"].verify_key))
    body = replace(genesis_body(), owners=four, owner_names=(*OWNERS, "dora"))
    book = Book(Ledger.genesis(body))
    mesh = replace(MESH, mesh_id=book.ledger.electorate.mesh_id)
    held = certificate("barn", "cem")
    for count, result in ((2, Result.MAJORITY), (3, Result.OK)):
        approvals = [approve_member(KEYS[one], mesh, held, 1, 1) for one in OWNERS[:count]]
        op = signed(ANN, SetMember(held, 1, 1, tuple(approvals)))
        assert book.block(op) == (result,)


def test_an_approval_is_for_one_mesh_generation_certificate_weight_and_serial():
    held = certificate("barn", "cem")
    others = [
        approve_member(KEYS["ben"], replace(MESH, mesh_id=bytes(32)), held, 1, 1),
        approve_member(KEYS["ben"], replace(MESH, generation=2), held, 1, 1),
        approve_member(KEYS["ben"], MESH, certificate("barn", "cem", vote="x"), 1, 1),
        approve_member(KEYS["ben"], MESH, held, 2, 1),
        approve_member(KEYS["ben"], MESH, held, 1, 2),
        replace(approve_member(KEYS["cem"], MESH, held, 1, 1), owner=BEN),
    ]
    good = [approve_member(KEYS[one], MESH, held, 1, 1) for one in ("ann", "cem")]
    book = Book()
    for nonce, other in enumerate(others):
        op = signed(ANN, SetMember(held, 1, 1, (*good, other)), nonce=nonce)
        assert book.block(op) == (Result.APPROVAL,)
    assert book.block(signed(ANN, SetMember(held, 1, 1, tuple(good)))) == (Result.OK,)


def test_the_owner_alone_replaces_a_vote_key_and_that_closes_the_epoch():
    book = Book()
    renewed = certificate("attic", "ben", vote="after the flood")
    assert book.block(enrolling(renewed, approvers=("ben",))) == (Result.OK,)
    assert book.closing
    voters = (FOUNDERS[0], replace(FOUNDERS[1], vote_key=public("after the flood")), FOUNDERS[2])
    assert (book.ledger.electorate.epoch, book.ledger.electorate.voters) == (1, voters)


def test_the_owner_alone_replaces_a_vote_key_once_a_day_and_with_others_at_any_time():
    book = Book()

    def renewed(number, serial, *approvers, after_s):
        held = certificate("attic", "ben", vote=f"key {number}")
        until_s = book.time_s + after_s
        op = enrolling(held, serial=serial, approvers=approvers, valid_until_s=until_s)
        return book.block(op, after_s=after_s)

    assert renewed(1, 1, "ben", after_s=1) == (Result.OK,)
    assert renewed(2, 2, "ben", after_s=RENEWAL_S_MIN - 1) == (Result.MAJORITY,)
    assert renewed(3, 2, "ann", "ben", after_s=0) == (Result.OK,)
    assert renewed(4, 3, "ben", after_s=1) == (Result.OK,), "what others allowed did not count"


@pytest.mark.parametrize(
    "op",
    [
        enrolling(certificate("attic", "ben", vote="new"), approvers=("ann",)),
        enrolling(certificate("attic", "ben", vote="new"), weight=2, approvers=("ben",)),
        enrolling(certificate("attic", "ben", vote="new"), weight=0, approvers=("ben",)),
        enrolling(certificate("attic", "ben", vote="new", name="top"), approvers=("ben",)),
        enrolling(
            certificate("attic", "ben", vote="new", device_class="battery"), approvers=("ben",)
        ),
        enrolling(certificate("barn", "ben"), approvers=("ben",)),
    ],
)
def test_the_owner_alone_changes_nothing_else(op):
    book = Book()
    assert book.block(op) == (Result.MAJORITY,)
    assert not book.closing


# -- what is refused ------------------------------------------------------------------------------


def forged(field: str) -> SetMember:
    """A membership whose certificate is wrong, approved by all the same."""
    held = replace(certificate("barn", "cem"), **{field: "another"})
    approvals = tuple(approve_member(KEYS[one], MESH, held, 1, 1) for one in OWNERS)
    return SetMember(held, 1, 1, approvals)


REFUSED: dict[str, tuple[OpBody, Result]] = {
    "serial 0 of a new device": (
        enrolling(certificate("barn", "cem"), serial=0).body,
        Result.SERIAL,
    ),
    "serial 2 of a new device": (
        enrolling(certificate("barn", "cem"), serial=2).body,
        Result.SERIAL,
    ),
    "serial 0 of a founder": (
        enrolling(certificate("roof", "ann"), weight=5, serial=0).body,
        Result.SERIAL,
    ),
    "an owner of no mesh": (enrolling(certificate("barn", "dora")).body, Result.OWNER),
    "a founder sold": (
        enrolling(certificate("roof", "ben"), weight=2, approvers=OWNERS).body,
        Result.OWNER,
    ),
    "nothing new": (enrolling(certificate("roof", "ann"), weight=2).body, Result.UNCHANGED),
    "a signature at most": (
        enrolling(replace(certificate("roof", "ann"), signature=bytes(64)), weight=2).body,
        Result.UNCHANGED,
    ),
    "another's vote key": (
        enrolling(certificate("barn", "cem", vote="roof votes")).body,
        Result.KEY,
    ),
    "an observer's vote key": (
        enrolling(certificate("barn", "cem", vote="cellar votes")).body,
        Result.KEY,
    ),
    "another's device key to vote": (
        enrolling(certificate("barn", "cem", vote="roof")).body,
        Result.KEY,
    ),
    "another's vote key as device": (
        enrolling(certificate("roof votes", "cem", vote="x", name="barn")).body,
        Result.KEY,
    ),
    "an owner's key to vote": (enrolling(certificate("barn", "cem", vote="ben")).body, Result.KEY),
    "an owner's key as device": (
        enrolling(certificate("ben", "cem", vote="x", name="barn")).body,
        Result.KEY,
    ),
    "another's name": (enrolling(certificate("barn", "cem", name="roof")).body, Result.NAME),
    "an owner's name": (enrolling(certificate("barn", "cem", name="ben")).body, Result.NAME),
    "a founder renamed like another": (
        enrolling(certificate("roof", "ann", name="attic"), weight=2).body,
        Result.NAME,
    ),
    "too much weight": (
        enrolling(certificate("barn", "cem"), weight=WEIGHT_MAX - 3).body,
        Result.WEIGHT,
    ),
    "a name that nobody certified": (forged("name"), Result.CERTIFICATE),
    "a class that nobody certified": (forged("device_class"), Result.CERTIFICATE),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_membership_that_breaks_a_rule_is_refused_and_nothing_changes(what):
    body, result = REFUSED[what]
    book = Book()
    before = [record for record in book.ledger.records() if record[0][:1] in (b"m", b"v", b"a")]
    assert book.block(signed(ANN, body)) == (result,)
    after = [record for record in book.ledger.records() if record[0][:1] in (b"m", b"v", b"a")]
    assert after == before
    assert (book.events, book.closing) == ((), False)


def test_the_keys_of_a_certificate_must_be_keys():
    held = certificate("barn", "cem")
    equal = replace(held, vote_key=held.device_key)
    book = Book()
    for nonce, broken in enumerate((replace(held, vote_key=bytes(32)), equal)):
        assert book.block(enrolling(broken, nonce=nonce)) == (Result.CERTIFICATE,)


def test_the_greatest_weight_of_all_together_is_taken():
    book = Book()
    assert book.block(enrolling(certificate("barn", "cem"), weight=WEIGHT_MAX - 4)) == (Result.OK,)
    assert sum(one.weight for one in book.ledger.electorate.voters) == WEIGHT_MAX


def test_an_op_that_was_used_is_of_no_use_again():
    book = Book()
    op = enrolling(certificate("barn", "cem"))
    back = enrolling(certificate("barn", "cem"), weight=0, serial=2)
    assert book.block(op, back) == (Result.OK, Result.OK)
    assert book.block(replace(op, id=bytes(32))) == (Result.SERIAL,)
    assert book.block(replace(back, id=bytes(31) + b"1")) == (Result.SERIAL,)


def test_a_name_that_was_given_up_may_be_taken():
    book = Book()
    renamed = enrolling(certificate("roof", "ann", name="ridge"), weight=2)
    assert book.block(renamed, enrolling(certificate("barn", "cem", name="roof"))) == (
        Result.OK,
        Result.OK,
    )


def test_a_founder_with_an_owners_name_keeps_it_and_renews_its_key():
    named = (GenesisDevice(certificate("roof", "ann", name="ann"), 1),)
    book = Book(Ledger.genesis(replace(genesis_body(), devices=named)))
    mesh = replace(MESH, mesh_id=book.ledger.electorate.mesh_id)
    renewed = certificate("roof", "ann", name="ann", vote="new")
    approval = approve_member(KEYS["ann"], mesh, renewed, 1, 1)
    assert book.block(signed(ANN, SetMember(renewed, 1, 1, (approval,)))) == (Result.OK,)


def test_the_last_voter_stays():
    book = Book()
    gone = [
        enrolling(certificate(name, owner), weight=0) for name, owner, weight in FOUNDING if weight
    ]
    assert book.block(*gone) == (Result.OK, Result.OK, Result.VOTERS)
    assert names(book) == [("yard", 1)]


def test_no_more_voters_and_members_than_their_bounds(monkeypatch):
    monkeypatch.setattr(membership, "VOTERS_MAX", 4)
    monkeypatch.setattr(membership, "MEMBERS_MAX", 6)
    book = Book()
    assert book.block(
        enrolling(certificate("a", "cem")),
        enrolling(certificate("b", "cem")),
        enrolling(certificate("b", "cem"), weight=0),
        enrolling(certificate("a", "cem"), weight=7, serial=2),
        enrolling(certificate("c", "cem"), weight=0),
    ) == (Result.OK, Result.VOTERS, Result.OK, Result.OK, Result.MEMBERS)


def test_a_block_answers_a_bounded_number_and_the_rest_may_come_again():
    book = Book()
    joins = [
        enrolling(certificate(f"barn {n}", "cem"), weight=0) for n in range(ENROLMENTS_MAX + 2)
    ]
    refused = enrolling(certificate("shed", "cem"), approvers=("cem",))
    results = book.block(refused, transfer(ANN, BEN, 1), *joins)
    assert results[0] is Result.MAJORITY
    assert results[1:] == (Result.OK,) * ENROLMENTS_MAX + (Result.CROWDED,) * 3
    assert not Result.CROWDED.final
    late = joins[-3:]
    assert [book.ledger.result(op.id) for op in late] == [None] * 3
    assert all(book.ledger.includable(op, book.time_s) for op in late)
    assert book.block(*late) == (Result.OK,) * 3


# -- epochs ---------------------------------------------------------------------------------------


def test_several_changes_in_a_block_close_one_epoch_and_voters_that_stay_keep_their_order():
    book = Book()
    assert (
        book.block(
            enrolling(certificate("attic", "ben"), weight=0),
            enrolling(certificate("barn", "cem"), weight=5),
            enrolling(certificate("yard", "ann"), weight=4),
            enrolling(certificate("silo", "cem"), weight=6),
            enrolling(certificate("cellar", "cem"), weight=7),
        )
        == (Result.OK,) * 5
    )
    assert book.closing
    coming = sorted([("barn", 5), ("silo", 6), ("cellar", 7)], key=lambda one: device(one[0]))
    assert names(book) == [("roof", 2), ("yard", 4), *coming]
    assert book.ledger.electorate.epoch == 1
    book.block(transfer(ANN, BEN, 1))
    assert not book.closing
    assert book.ledger.electorate.epoch == 1


def test_who_left_comes_back_last():
    book = Book()
    book.block(enrolling(certificate("roof", "ann"), weight=0))
    book.block(enrolling(certificate("roof", "ann"), weight=2, serial=2))
    assert names(book) == [("attic", 1), ("yard", 1), ("roof", 2)]
    assert book.ledger.electorate.epoch == 2


def test_a_change_that_is_taken_back_in_the_same_block_closes_nothing():
    book = Book()
    there = enrolling(certificate("roof", "ann"), weight=0)
    back = enrolling(certificate("roof", "ann"), weight=2, serial=2)
    assert book.block(there, back) == (Result.OK, Result.OK)
    assert not book.closing
    assert (book.ledger.electorate.epoch, book.ledger.electorate.voters) == (0, FOUNDERS)


def test_a_voters_new_name_closes_nothing():
    book = Book()
    op = enrolling(certificate("roof", "ann", name="ridge"), weight=2)
    assert book.block(op) == (Result.OK,)
    assert not book.closing


def test_an_op_counts_with_what_ops_before_it_in_the_block_did():
    book = Book()
    barn = certificate("barn", "cem")
    assert book.block(
        enrolling(barn),
        enrolling(barn, weight=2, serial=2),
        enrolling(certificate("shed", "cem", vote="barn votes")),
        transfer(ANN, device("barn"), 5),
    ) == (Result.OK, Result.OK, Result.KEY, Result.OK)
    assert names(book)[-1] == ("barn", 2)
    assert book.ledger.total() == 0


# -- size -----------------------------------------------------------------------------------------


def test_an_op_with_the_approvals_of_33_owners_and_the_longest_names_fits_its_frame():
    owners = [key_of(f"owner {n}") for n in range(33)]
    wide = "\U0001f3e0" * 64
    held = certify_device(owners[0], wide, wide, public("barn"), public("barn votes"))
    approvals = [approve_member(one, MESH, held, WEIGHT_MAX, 2**32 - 1) for one in owners]
    body = SetMember(held, WEIGHT_MAX, 2**32 - 1, tuple(approvals))
    assert len(encode(body)) == 3_455
    signer = Signer(key_of("barn"), key_of("barn votes"), MESH, 1, b"seed")
    frame = signer.op(body, START_S + DAY_S)
    assert len(frame) <= KIND_BYTES_MAX[Kind.OP]
    validator = Validator(MESH)
    validator.enrol(device("barn"), public("barn"))
    view = validator.check(frame)
    assert not isinstance(view, Reject)
    op = decode(Op, view.payload)
    assert decode(OP_BODIES[op.type], op.fields) == body
