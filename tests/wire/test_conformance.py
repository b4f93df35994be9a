"""The seeded cases: the code makes them, and so does who has read nothing but the documents."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from demesh.wire._reference import Validator, View
from demesh.wire.identity import device_id
from demesh.wire.kinds import Kind
from demesh.wire.schema import decode
from demesh.wire.sealing import Sealer
from vectors import conformance, stranger
from wire.test_cddl import fits

FILE = tomllib.loads(conformance.PATH.read_text("ascii"))
VERSIONS = conformance.VERSIONS
NEWEST = max(VERSIONS)
DIRECT = sorted(conformance.DIRECT)


def test_the_file_is_of_this_generator_and_has_every_kind() -> None:
    assert FILE["generator"] == conformance.GENERATOR
    assert (FILE["seed"], FILE["cases"]) == (conformance.SEED, conformance.CASES)
    for version in VERSIONS:
        assert list(FILE[f"wire-{version}"]) == [kind.name for kind in Kind]
    assert list(FILE[f"wire-{NEWEST}-sealed"]) == [kind.name for kind in DIRECT]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_the_cases_of_a_kind_have_their_hash(kind: Kind, version: int) -> None:
    assert conformance.digest(kind, version) == FILE[f"wire-{version}"][kind.name]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_who_knows_only_the_documents_gets_the_same_hash(kind: Kind, version: int) -> None:
    found = stranger.digest(FILE["seed"], FILE["cases"], kind.name, version)
    assert found == FILE[f"wire-{version}"][kind.name]


@pytest.mark.parametrize("kind", DIRECT, ids=lambda kind: kind.name)
def test_sealed_cases_have_their_hash_and_so_have_those_from_the_documents(kind: Kind) -> None:
    expected = FILE[f"wire-{NEWEST}-sealed"][kind.name]
    assert conformance.sealed_digest(kind, NEWEST) == expected
    found = stranger.digest(FILE["seed"], FILE["cases"], kind.name, NEWEST, sealed=True)
    assert found == expected


@pytest.mark.parametrize("kind", DIRECT, ids=lambda kind: kind.name)
def test_sealed_cases_open_to_the_frame_that_is_in_them(kind: Kind) -> None:
    for number in range(16):
        sender, receiver, sealed = conformance.sealed_case(kind, number, NEWEST)
        assert fits(sealed, "sealed")
        sealer = Sealer(conformance.key(receiver), conformance.binding(NEWEST), 1)
        public = bytes(conformance.key(sender).verify_key)
        assert sealer.open(public, sealed) == conformance.case(kind, number, NEWEST)


def checked(frame: bytes) -> Any:
    validator = Validator(conformance.binding(NEWEST))
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
