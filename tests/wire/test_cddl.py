"""docs/demesh.cddl says what the code does: of every good vector, and of every bound of a field."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cddl_verifier import Validator

from demesh.ledger.proof import Step
from demesh.ledger.state import Result
from demesh.wire import statements, validate
from demesh.wire.frame import Binding, signed_bytes
from demesh.wire.identity import approve_member, make_genesis, signed_by, signer
from demesh.wire.kinds import FIRST_SIGNAL, Kind, Reject
from demesh.wire.offers import Refusal
from demesh.wire.opbodies import OpType
from demesh.wire.readings import EndReason, Why
from demesh.wire.schema import Malformed, decode, encode, plain_hint, tails_of
from demesh_consensus import StatementKind
from docs.test_protocol import described
from vectors import make
from vectors.street import OWNERS, certificate, key

TEXT = (Path(__file__).parents[2] / "docs" / "demesh.cddl").read_text("utf-8")
FULL = Validator(TEXT)

# What a message holds as encoded items of its own is looked at when it is used: for whether the
# message is well formed only its size counts.
HOLDS = "holds<length, item> = (bytes .size length) .and (bytes .cbor item)\n"
OUTSIDE = Validator(TEXT.replace(HOLDS, "holds<length, item> = bytes .size length\n"))


def fits(payload: bytes, rule: str, schema: Validator = FULL) -> bool:
    return bool(schema.validate(payload, rule, require_deterministic=True))


# -- vectors --------------------------------------------------------------------------------------


def rule_of(kind: Kind) -> str:
    """The rule of a kind's payload."""
    found = re.search(rf"^{kind.name.lower()}-frame = (\w+)<{int(kind)}, (\w+)>$", TEXT, re.M)
    assert found is not None, f"no rule for the frame of {kind.name}"
    assert found[1] == ("statement" if kind < FIRST_SIGNAL else "signal")
    return found[2]


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_every_good_vector_is_of_its_kinds_rules(kind: Kind) -> None:
    family = "statement" if kind < FIRST_SIGNAL else "signal"
    found = [
        frame
        for name, frame, verdict in make.frames()
        if verdict is None and name.partition(":")[0] == f"{family} {kind.name}"
    ]
    assert len(found) == len(make.GOOD[kind])
    validator = validate.Validator(make.BINDING)
    for pen in make.ENROLLED:
        validator.enrol(make.kid_of(pen), bytes(pen.verify_key))
    for frame in found:
        result = FULL.validate(frame, f"{kind.name.lower()}-frame", require_deterministic=True)
        assert result, result.errors
        view = validator.check(frame)
        assert isinstance(view, validate.View) and view.kind is kind
        assert fits(bytes(view.payload), rule_of(kind))


# What a description of one message cannot know: whose it is, when it came, whether it is signed.
UNSEEN = {Reject.MESH, Reject.SENDER, Reject.REPLAY, Reject.SIGNATURE}
# A long head within a byte string is seen by who looks into it: the tool does not.
ENCLOSED = ("a kind of two bytes for one", "a sequence of two bytes for one")
# A voucher that is said to be an op: the validator asks the signature before the payload.
MISLABELLED = ("another kind",)
SEEN = set(Reject) - UNSEEN


@pytest.mark.parametrize(
    ("name", "frame", "verdict"),
    [row for row in make.frames() if row[2] is not None],
    ids=[row[0] for row in make.frames() if row[2] is not None],
)
def test_a_bad_vector_is_refused_where_its_own_bytes_show_it(
    name: str, frame: bytes, verdict: Reject
) -> None:
    visible = (verdict in SEEN and name not in ENCLOSED) or name in MISLABELLED
    assert fits(frame, "frame") is not visible


SEALED = json.loads((make.FOLDER / "sealed.json").read_text("ascii"))
# Whom a box is for, and whether it opens, is not to be seen.
CLOSED = (
    "another sender's id",
    "another mesh",
    "for somebody else",
    "one bit of the nonce",
    "one bit of the authenticator",
    "one bit of the content",
)


def test_sealed_messages_are_of_their_rule_unless_their_own_bytes_show_that_they_are_not() -> None:
    for row in SEALED["good"]:
        assert "sealed" not in row or fits(bytes.fromhex(row["sealed"]), "sealed")
    for row in SEALED["bad"]:
        content = bytes(row["zeros"]) if "zeros" in row else bytes.fromhex(row["hex"])
        assert fits(content, "sealed") is (row["name"] in CLOSED), row["name"]


def test_the_genesis_of_the_vectors_and_what_its_owners_signed_are_of_their_rules() -> None:
    assert fits(encode(make.STREET.genesis), "Genesis")
    signed: list[bytes] = []

    def note(message: bytes) -> bytes:
        signed.append(message)
        return signer(key(OWNERS[len(signed) - 1]))(message)

    make_genesis(make.STREET.genesis.body, [note, note])
    assert all(fits(message, "GenesisSigned") for message in signed)


def test_what_an_owner_signs_of_a_device_is_of_its_rule() -> None:
    owner, paper = key("owner"), certificate("alice", "owner")
    values = [paper.name, paper.device_class, paper.owner, paper.device_key, paper.vote_key]
    message = cbor2.dumps(["demesh device certificate 1", *values], canonical=True)
    assert signed_by(bytes(owner.verify_key), message, paper.signature)
    assert fits(message, "DeviceCertificateSigned")

    binding = Binding(make.BINDING.mesh_id, 3)
    approval = approve_member(owner, binding, paper, 2, 1)
    values = ["demesh member 1", binding.mesh_id, 3, encode(paper), 2, 1]
    message = cbor2.dumps(values, canonical=True)
    assert signed_by(bytes(owner.verify_key), message, approval.signature)
    assert fits(message, "MemberSigned")


def test_the_signed_bytes_of_a_frame_are_of_their_rule() -> None:
    assert fits(signed_bytes(Kind.VOTE, make.BINDING, make.VOTE_PAYLOAD), "FrameSigned")


# -- rules and classes ----------------------------------------------------------------------------

CLASSES = described()
GENERIC = {"Op": "op<type, body>", "Statement": "statement-about<kind, named>"}
"""Where the CDDL has one array for several alternatives of a class."""


def written(name: str) -> list[tuple[str, str]]:
    """(field, type) of a rule, as the document lists them: what came later is a group each, for
    it may only be there if what stands before it is."""
    head = re.escape(GENERIC.get(name, name))
    found = re.search(rf"^{head} = \[\n(.*?)^\]$", TEXT, re.M | re.S)
    assert found is not None, f"no rule for {name}"
    lines = (line.partition(";")[0].strip() for line in found[1].splitlines())
    pairs = (line.removesuffix(",").partition(": ") for line in lines if line)
    return [
        (field.replace("? (", "? "), type_.rstrip(")") if field.startswith("?") else type_)
        for field, _, type_ in pairs
    ]


@pytest.mark.parametrize("name", CLASSES)
def test_a_rule_has_the_fields_of_its_class_in_their_order(name: str) -> None:
    hints = typing.get_type_hints(CLASSES[name], include_extras=True)
    late = len(fields(CLASSES[name])) - len(tails_of(CLASSES[name]))
    assert [field for field, _ in written(name)] == [
        f"? {one.name}" if at >= late else one.name for at, one in enumerate(fields(CLASSES[name]))
    ]
    for shown, type_ in written(name):
        field = shown.removeprefix("? ")
        hint, bounds = plain_hint(hints[field])
        if typing.get_origin(hint) is tuple:
            assert bounds is not None
            assert type_.startswith(f"[{bounds.least}*{bounds.greatest} ") and type_.endswith("]")
            hint, _ = plain_hint(typing.get_args(hint)[0])
        if is_dataclass(hint):
            assert typing.cast(type, hint).__name__.removeprefix("_") in type_


@pytest.mark.parametrize("enum", [Refusal, Why, EndReason, OpType, StatementKind])
def test_an_enumeration_is_that_of_the_code(enum: type[IntEnum]) -> None:
    listed = ", ".join(f"{one.name}: {int(one)}" for one in enum)
    assert f"\n{enum.__name__} = &( {listed} )\n" in TEXT


def test_no_rule_is_of_a_class_that_is_gone() -> None:
    signed = {"DeviceCertificateSigned", "MemberSigned", "GenesisSigned", "FrameSigned"}
    enums = {enum.__name__ for enum in (Refusal, Why, EndReason, OpType, StatementKind, Result)}
    assert set(re.findall(r"^([A-Z]\w+) = ", TEXT, re.M)) == {*CLASSES, *signed, *enums}


# -- bounds ---------------------------------------------------------------------------------------

OTHER_TYPES: tuple[object, ...] = (None, True, 0, -1, b"", "", [])
# Arrays of more items than this are held to the code by their text alone.
ITEMS_MAX = 5_000


def least(hint: Any) -> Any:
    """A value that fits: numbers and arrays small, byte strings as long as a field may be."""
    hint, bounds = plain_hint(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return least(typing.get_args(hint)[0])
    if typing.get_origin(hint) is tuple:
        return several(typing.get_args(hint)[0], bounds.least)
    if is_dataclass(hint):
        hints = typing.get_type_hints(hint, include_extras=True)
        first = len(fields(hint)) - len(tails_of(hint))
        return [least(hints[one.name]) for one in fields(hint)[:first]]
    if issubclass(hint, IntEnum):
        return int(min(hint))
    if hint is bool:
        return False
    if hint is int:
        return bounds.least
    size = bounds.greatest if bounds.greatest <= 64 else bounds.least
    return "é" * size if hint is str else bytes(size)


def several(item: Any, count: int) -> list[Any]:
    """Items that fit; the steps of a path ascend."""
    if plain_hint(item)[0] is Step:
        return [[bit, bytes(32)] for bit in range(count)]
    return [least(item)] * count


def around(hint: Any) -> Iterator[Any]:
    """Values at the bounds, just outside, and of other types."""
    yield from OTHER_TYPES
    yield least(hint)
    hint, bounds = plain_hint(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        yield from around(typing.get_args(hint)[0])
    elif typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        counts = [bounds.least - 1, bounds.least, bounds.greatest, bounds.greatest + 1]
        small = bounds.greatest <= ITEMS_MAX or plain_hint(item)[0] is bytes
        yield from (several(item, count) for count in counts[: 4 if small else 2] if count >= 0)
        yield from ([wrong] for wrong in around(item))
    elif is_dataclass(hint):
        whole = least(hint)
        yield from (whole[:-1], [*whole, 0])
    elif issubclass(hint, IntEnum):
        yield from range(min(hint) - 1, max(hint) + 2)
    elif hint is bool:
        yield True
    else:
        edges = (bounds.least - 1, bounds.least, bounds.greatest, bounds.greatest + 1)
        one: Any = {int: None, bytes: b"\x00", str: "\N{SNOWMAN}"}[hint]
        yield from edges if one is None else (one * size for size in edges if size >= 0)


def cases(cls: type) -> Iterator[list[Any]]:
    """A message that fits, and ones that differ from it in one field, or in their number."""
    hints = typing.get_type_hints(cls, include_extras=True)
    names = [one.name for one in fields(cls)]
    good = least(cls)
    yield from (good, good[:-1], [*good, 0], good[::-1])
    for place, name in enumerate(names):
        if place == len(good):  # what came later, after the ones before it
            good.append(least(hints[name]))
        yield from ([*good[:place], value, *good[place + 1 :]] for value in around(hints[name]))
    if cls is CLASSES["Statement"]:
        yield [int(StatementKind.NULLIFY), 0, 0, b"", 1]


def taken(cls: type, payload: bytes) -> bool | None:
    """Does the code read it? Of statements also what their kind says of their digest.

    None: no, for a reason that CDDL cannot give: it ends with a default (R-WIRE-14).
    """
    try:
        message: Any = decode(cls, payload)
        for statement in _statements_in(message):
            statements.decode_statement(encode(statement))
    except Malformed as error:
        return None if str(error).endswith("ends with a default") else False
    return True


def _statements_in(value: Any) -> Iterator[Any]:
    if isinstance(value, CLASSES["Statement"]):
        yield value
    elif is_dataclass(value):
        for one in fields(value):
            yield from _statements_in(getattr(value, one.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _statements_in(item)


@pytest.mark.parametrize("name", CLASSES)
def test_at_the_bounds_of_every_field_code_and_rule_agree(name: str) -> None:
    seen = set()
    for case in cases(CLASSES[name]):
        payload = cbor2.dumps(case, canonical=True)
        verdict = taken(CLASSES[name], payload)
        if verdict is None:
            continue
        assert fits(payload, name, OUTSIDE) is verdict, f"{name}: {str(case)[:200]}: {verdict}"
        seen.add(verdict)
    assert seen == {True, False}
