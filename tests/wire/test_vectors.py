"""The vectors: what every implementation of the wire must say."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from demesh.wire.frame import Binding, signed_bytes
from demesh.wire.identity import device_id, is_public_key, signed_by
from demesh.wire.kinds import Kind, Reject
from vectors import make


def load(name: str) -> Any:
    return json.loads((make.FOLDER / name).read_text(encoding="ascii"))


def frame_of(row: dict[str, Any]) -> bytes:
    return bytes(row["zeros"]) if "zeros" in row else bytes.fromhex(row["hex"])


def test_frames_get_the_verdict_of_their_vector(mode: Any) -> None:
    document = load("frames.json")
    binding = Binding(bytes.fromhex(document["mesh_id"]), document["generation"])
    validator = mode.Validator(binding, document["version"])
    for row in document["enrolled"]:
        validator.enrol(bytes.fromhex(row["kid"]), bytes.fromhex(row["public_key"]))
    verdicts = [validator.check(frame_of(row)) for row in document["frames"]]
    names = [one.name if isinstance(one, Reject) else "OK" for one in verdicts]
    expected = [row["verdict"] for row in document["frames"]]
    assert dict(zip([row["name"] for row in document["frames"]], names, strict=True)) == {
        row["name"]: row["verdict"] for row in document["frames"]
    }
    assert names == expected


def test_every_verdict_of_the_validator_has_a_vector() -> None:
    found = {row["verdict"] for row in load("frames.json")["frames"]}
    assert found == {"OK"} | {code.name for code in Reject if code <= Reject.PAYLOAD}


def test_every_kind_has_a_good_vector() -> None:
    names = {row["name"] for row in load("frames.json")["frames"] if row["verdict"] == "OK"}
    for kind in Kind:
        family = "statement" if kind < 16 else "signal"
        assert f"{family} {kind.name}" in names


def test_the_signed_bytes_of_a_vote_are_those_of_the_vector() -> None:
    document = load("frames.json")
    binding = Binding(bytes.fromhex(document["mesh_id"]), document["generation"])
    payload = bytes.fromhex(document["vote_payload"])
    expected = document["statement_signed_bytes"]
    assert signed_bytes(Kind.VOTE, binding, payload).hex() == expected


@pytest.mark.parametrize("row", load("signatures.json")["signatures"], ids=lambda row: row["name"])
def test_disputed_signatures_get_one_verdict(row: dict[str, Any], mode: Any) -> None:
    public, message, signature = (
        bytes.fromhex(row[field]) for field in ("public_key", "message", "signature")
    )
    assert is_public_key(public) is row["enrolled"]
    assert signed_by(public, message, signature) is row["holds"]
    validator = mode.Validator(make.BINDING)
    kid = device_id(public)
    if row["enrolled"]:
        validator.enrol(kid, public)
    else:
        with pytest.raises(ValueError, match="not an Ed25519 public key"):
            validator.enrol(kid, public)
    assert validator.verify(kid, message, signature) is row["holds"]


def test_the_files_are_what_make_py_makes() -> None:
    for name, content in make.documents().items():
        assert (make.FOLDER / name).read_text(encoding="ascii") == content, (
            f"{name} differs; if the wire was changed on purpose: python -m vectors.make"
        )


FROZEN = {
    "frames.json": "7291778eab2c516df8454e85a0212735390697492d92fd53b2fd3ecd1db849d6",
    "signatures.json": "859bfc9b763738941928e531b319b48730d645020191f86da3125d082c39f299",
}


@pytest.mark.parametrize("name", FROZEN)
def test_the_vectors_of_version_1_are_frozen(name: str) -> None:
    content = (make.FOLDER / "v1" / name).read_bytes()
    assert hashlib.blake2b(content, digest_size=32).hexdigest() == FROZEN[name]
