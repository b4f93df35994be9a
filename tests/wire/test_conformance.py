"""The seeded cases: the code makes them, and so does who has read nothing but the documents."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from demesh.wire._reference import Validator, View
from demesh.wire.identity import device_id
from demesh.wire.kinds import WIRE_VERSION, Kind
from demesh.wire.schema import decode
from demesh.wire.sealing import Sealer
from vectors import conformance, stranger
from wire.test_cddl import fits

FILE = tomllib.loads(conformance.PATH.read_text("ascii"))
NEWEST = max(conformance.RULES.values())
DIRECT = sorted(conformance.DIRECT)
OPEN = [
    (table, kind) for table, rules in conformance.RULES.items() for kind in conformance.kinds(rules)
]
SEALED = [
    (table, kind)
    for table, kind in OPEN
    if f"{table}-sealed" in FILE and kind in conformance.DIRECT
]


def test_the_file_is_of_this_generator_and_has_every_kind() -> None:
    assert FILE["generator"] == conformance.GENERATOR
    assert (FILE["seed"], FILE["cases"]) == (conformance.SEED, conformance.CASES)
    for table, rules in conformance.RULES.items():
        assert list(FILE[table]) == [kind.name for kind in conformance.kinds(rules)]
    assert list(FILE["rules-3-sealed"]) == [kind.name for kind in DIRECT]
    assert {name for name in FILE if "-sealed" in name} == {"wire-2-sealed", "rules-3-sealed"}


def named(value: object) -> str:
    return value.name if isinstance(value, Kind) else str(value)


@pytest.mark.parametrize(("table", "kind"), OPEN, ids=named)
def test_the_cases_of_a_kind_have_their_hash(table: str, kind: Kind) -> None:
    assert conformance.digest(kind, conformance.RULES[table]) == FILE[table][kind.name]


@pytest.mark.parametrize(("table", "kind"), OPEN, ids=named)
def test_who_knows_only_the_documents_gets_the_same_hash(table: str, kind: Kind) -> None:
    found = stranger.digest(FILE["seed"], FILE["cases"], kind.name, table)
    assert found == FILE[table][kind.name]


@pytest.mark.parametrize(("table", "kind"), SEALED, ids=named)
def test_sealed_cases_have_their_hash_and_so_have_those_from_the_documents(
    table: str, kind: Kind
) -> None:
    expected = FILE[f"{table}-sealed"][kind.name]
    assert conformance.sealed_digest(kind, conformance.RULES[table]) == expected
    found = stranger.digest(FILE["seed"], FILE["cases"], kind.name, f"{table}-sealed")
    assert found == expected


@pytest.mark.parametrize("kind", DIRECT, ids=lambda kind: kind.name)
def test_sealed_cases_open_to_the_frame_that_is_in_them(kind: Kind) -> None:
    for number in range(16):
        sender, receiver, sealed = conformance.sealed_case(kind, number, NEWEST)
        assert fits(sealed, "sealed")
        sealer = Sealer(conformance.key(receiver), conformance.binding(WIRE_VERSION), 1)
        public = bytes(conformance.key(sender).verify_key)
        assert sealer.open(public, sealed) == conformance.case(kind, number, NEWEST)


def checked(frame: bytes) -> Any:
    validator = Validator(conformance.binding(WIRE_VERSION))
    for number in range(conformance.KEYS):
        public = bytes(conformance.key(number).verify_key)
        validator.enrol(device_id(public), public)
    return validator.check(frame)


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_the_cases_are_frames_of_their_kind(kind: Kind) -> None:
    for number in range(16):
        frame = conformance.case(kind, number, NEWEST)
        assert fits(frame, f"{kind.name.lower()}-frame")
        view = checked(frame)
        assert isinstance(view, View) and view.kind is kind
        assert decode(conformance.PAYLOADS[kind], view.payload)


def test_what_byte_strings_hold_is_what_the_cddl_says() -> None:
    def name(item: conformance.Item) -> str:
        return item.name if isinstance(item, Kind) else item.__name__.removeprefix("_")

    held = {place: name(item) for place, item in conformance.HELD.items()}
    assert held == {place: what for place, what in stranger.HELD.items() if place[0] != "Proof"}
