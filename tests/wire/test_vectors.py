"""The vectors: what every implementation of the wire must say."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from nacl.signing import SigningKey

from demesh.wire import statements
from demesh.wire.frame import Binding, signal_frame, signed_bytes
from demesh.wire.identity import (
    binding_of,
    check_genesis,
    device_id,
    is_public_key,
    signed_by,
    signer,
)
from demesh.wire.kinds import FIRST_SIGNAL, Kind, Reject, wire_version
from demesh.wire.messages import MESSAGE_OF_KIND, Genesis
from demesh.wire.schema import decode, encode
from demesh.wire.sealing import Sealer
from demesh.wire.signer import Signer
from demesh.wire.validate import Validator, View
from demesh_consensus import Vote
from vectors import make
from vectors.street import Street


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


# -- sealed ---------------------------------------------------------------------------------------

LETTERS = {place: load(f"{place}sealed.json") for place in ("", "v2/")}
ROWS = {
    verdict: [(letters, row) for letters in LETTERS.values() for row in letters[verdict]]
    for verdict in ("good", "bad")
}


def sealer(letters: dict[str, Any], who: str, boot: int = 1) -> Sealer:
    mesh = bytes.fromhex(letters["mesh_id"])
    binding = Binding(mesh, letters["generation"], letters["version"])
    return Sealer(SigningKey(bytes.fromhex(letters[who]["device_key"])), binding, boot)


def public(letters: dict[str, Any], who: str) -> bytes:
    return bytes.fromhex(letters[who]["public_key"])


def called(value: dict[str, Any]) -> str:
    return str(value.get("name", value.get("version")))


@pytest.mark.parametrize(("letters", "row"), ROWS["good"], ids=called)
def test_a_frame_is_sealed_and_opened_as_its_vector_says(
    letters: dict[str, Any], row: dict[str, Any]
) -> None:
    zeros = row.get("frame_zeros", 0)
    frame = bytes(zeros) if zeros else bytes.fromhex(row["frame"])
    pen = sealer(letters, "sender", row["boot"])
    closed = [pen.seal(public(letters, "receiver"), frame) for _ in range(row["count"])][-1]
    if zeros:
        found = hashlib.blake2b(closed, digest_size=32).hexdigest()
        assert found == row["sealed_blake2b_256"]
    else:
        assert closed.hex() == row["sealed"]
    assert sealer(letters, "receiver").open(public(letters, "sender"), closed) == frame


@pytest.mark.parametrize(("letters", "row"), ROWS["bad"], ids=called)
def test_a_bad_seal_gets_the_verdict_of_its_vector(
    letters: dict[str, Any], row: dict[str, Any]
) -> None:
    verdict = sealer(letters, "receiver").open(public(letters, "sender"), frame_of(row))
    assert isinstance(verdict, Reject) and verdict.name == row["verdict"]


# -- the versions before --------------------------------------------------------------------------

FROZEN = {
    "v1/frames.json": "7291778eab2c516df8454e85a0212735390697492d92fd53b2fd3ecd1db849d6",
    "v1/signatures.json": "859bfc9b763738941928e531b319b48730d645020191f86da3125d082c39f299",
    "v1/node.json": "aa7d557490d8e74001002cb0be169217e00ef6967f894072421e48743d2a5bd5",
    "v2/frames.json": "0878c1278e8c8fea175ad6afb457e52d9b3335a222ace5e97b384eb3fbe722be",
    "v2/node.json": "613990bf9c05a7b84a2b616ca5eaee19b31e4e272945050e72a575354b96c073",
    "v2/sealed.json": "955eaa7ede26a326247b8b6d15b7d080e35b56926440663b31852c877a16dca0",
}
BEFORE = (1, 2)  # rules versions


def before(rules: int) -> tuple[dict[str, Any], Binding]:
    document = load(f"v{rules}/frames.json")
    mesh = bytes.fromhex(document["mesh_id"])
    return document, Binding(mesh, document["generation"], wire_version(rules))


@pytest.mark.parametrize("name", FROZEN)
def test_the_vectors_of_earlier_versions_are_frozen(name: str) -> None:
    content = (make.FOLDER / name).read_bytes()
    assert hashlib.blake2b(content, digest_size=32).hexdigest() == FROZEN[name]


@pytest.mark.parametrize(("rules", "newest"), [(1, 1), (1, 2), (2, 2)])
def test_frames_of_earlier_versions_get_the_verdict_that_they_always_got(
    mode: Any, rules: int, newest: int
) -> None:
    document, binding = before(rules)
    validator = mode.Validator(binding, newest)
    for row in document["enrolled"]:
        validator.enrol(bytes.fromhex(row["kid"]), bytes.fromhex(row["public_key"]))
    # What was too new for wire version 1 is what the next one is about.
    newer = {"the next version": "OK"} if newest > binding.version else {}
    for row in document["frames"]:
        verdict = validator.check(frame_of(row))
        name = verdict.name if isinstance(verdict, Reject) else "OK"
        assert name == newer.get(row["name"], row["verdict"]), row["name"]


def written_anew(pen: Signer, view: View) -> bytes:
    """The frame that today's code makes of the message in an old one."""
    kind, payload = view.kind, view.payload
    if kind is Kind.PROPOSAL:
        return pen.proposal(statements.decode_proposal(payload))
    if kind is Kind.VOTE:
        said = statements.decode_statement(payload)
        return pen.own_vote(Vote(said, 0, pen.sign_vote(said)))
    if kind is Kind.CERTIFICATE:
        return pen.certificate(statements.decode_certificate(payload))
    message = decode(MESSAGE_OF_KIND[kind], payload, tails=False)
    if kind < FIRST_SIGNAL:
        return pen.seal(message)
    return signal_frame(
        kind, pen.binding, pen.id, view.boot, view.seq, encode(message), signer(make.ALICE)
    )


@pytest.mark.parametrize("rules", BEFORE)
def test_a_node_of_a_mesh_of_earlier_rules_writes_the_very_frames_it_always_wrote(
    rules: int,
) -> None:
    document, binding = before(rules)
    pen = Signer(make.ALICE, make.VOTE, binding, boot=5, seed=b"any")
    validator = Validator(binding)
    for row in document["enrolled"]:
        validator.enrol(bytes.fromhex(row["kid"]), bytes.fromhex(row["public_key"]))
    kinds = {f"{family} {kind.name}" for family in ("statement", "signal") for kind in Kind}
    good = [row for row in document["frames"] if row["name"].partition(":")[0] in kinds]
    assert len(good) > 80
    for row in good:
        frame = frame_of(row)
        view = validator.check(frame)
        assert isinstance(view, View), row["name"]
        assert written_anew(pen, view) == frame, row["name"]


@pytest.mark.parametrize("rules", BEFORE)
def test_a_mesh_of_earlier_rules_is_founded_with_the_id_it_always_had(rules: int) -> None:
    document, binding = before(rules)
    genesis = decode(Genesis, bytes.fromhex(document["genesis"]), tails=False)
    assert binding_of(check_genesis(genesis), genesis.body) == binding
    assert encode(Street(rules).genesis).hex() == document["genesis"]
