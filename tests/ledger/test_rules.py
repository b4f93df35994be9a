"""What a version of the rules does not have, its meshes answer as those who know no other."""

from __future__ import annotations

import pytest

from demesh.application import Application
from demesh.ledger.ledger import Ledger
from demesh.ledger.rules import RULES_VERSIONS
from demesh.ledger.state import Electorate, Result
from demesh.wire.frame import seal_statement
from demesh.wire.kinds import Kind, Reject
from demesh.wire.opbodies import (
    Allot,
    Call,
    CapLane,
    Claim,
    Close,
    Extend,
    Guarantee,
    Op,
    OpType,
    Release,
    Settle,
    TopUp,
    Transfer,
)
from demesh.wire.schema import encode
from demesh_consensus import Franchise
from ledger.book import (
    ANN,
    BEN,
    BINDING,
    KEYS,
    START_S,
    Book,
    cap_frame,
    claiming,
    genesis_body,
    new_validator,
    opening,
)

ID = bytes(16)
SINCE_3 = {
    OpType.TOP_UP: TopUp(ID, 1),
    OpType.EXTEND: Extend(ID, START_S + 1),
    OpType.SETTLE: Settle(ID, b""),
    OpType.CAP: CapLane(cap_frame(BEN, ID, 1)),
    OpType.ALLOT: Allot(BEN, 1),
    OpType.GUARANTEE: Guarantee(BEN, 1),
    OpType.RELEASE: Release(BEN, 1),
    OpType.CALL: Call(BEN, 1),
}
FIRST = {OpType.TRANSFER: Transfer(BEN, 1)}


def application(rules: int) -> Application:
    def nobody(electorate: Electorate) -> Franchise:
        raise AssertionError("nobody votes here")

    ledger = Ledger.genesis(genesis_body(rules=rules))
    return Application(ledger, b"tip", new_validator(), nobody)


def op_frame(type_: OpType, body: object) -> bytes:
    payload = encode(Op(type_, bytes(8), START_S + 60, encode(body)))
    return seal_statement(
        Kind.OP, BINDING, ANN, payload, lambda message: KEYS["ann"].sign(message).signature
    )


def test_every_op_that_came_later_is_tried_here() -> None:
    assert [*SINCE_3] == [one for one in OpType if one > OpType.MEMBER]


@pytest.mark.parametrize("rules", RULES_VERSIONS)
@pytest.mark.parametrize("type_", SINCE_3)
def test_an_op_that_came_with_rules_3_is_no_op_before(type_: OpType, rules: int) -> None:
    said = application(rules).submit(op_frame(type_, SINCE_3[type_]), START_S)
    assert said is (None if rules >= 3 else Reject.PAYLOAD)


@pytest.mark.parametrize("rules", RULES_VERSIONS)
def test_an_op_of_the_first_rules_is_one_in_all(rules: int) -> None:
    frame = op_frame(OpType.TRANSFER, FIRST[OpType.TRANSFER])
    assert application(rules).submit(frame, START_S) is None


@pytest.mark.parametrize("rules", RULES_VERSIONS)
@pytest.mark.parametrize("body", [Claim(b"v", 1, ID), Close(ID, b"v", 1, ID)])
def test_an_op_with_a_link_is_no_op_before_rules_3(body: Claim | Close, rules: int) -> None:
    type_ = OpType.CLAIM if isinstance(body, Claim) else OpType.CLOSE
    said = application(rules).submit(op_frame(type_, body), START_S)
    assert said is (None if rules >= 3 else Reject.PAYLOAD)


@pytest.mark.parametrize("rules", RULES_VERSIONS)
def test_a_cap_is_no_voucher(rules: int) -> None:
    book = Book(rules=rules)
    id = book.open(opening(ANN, BEN))
    assert book.block(claiming(BEN, cap_frame(ANN, id, 5))) == (Result.VOUCHER,)


@pytest.mark.parametrize("rules", RULES_VERSIONS)
def test_only_channels_of_rules_3_keep_the_fee_of_their_opening(rules: int) -> None:
    book = Book(rules=rules)
    id = book.open(opening(ANN, BEN))
    channel = book.ledger.channel(id)
    assert channel is not None
    assert channel.fee_ppm == (10_000 if rules >= 3 else None)
