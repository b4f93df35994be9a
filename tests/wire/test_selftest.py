"""The verdicts that a node asks for before it trusts its libsodium."""

from __future__ import annotations

import json
from typing import Any

import pytest

from demesh.errors import UnfitError
from demesh.wire import selftest
from vectors.make import FOLDER


def test_this_machine_says_what_everybody_says(mode: Any) -> None:
    selftest.check_signatures(mode.Validator)


def test_its_cases_are_vectors() -> None:
    rows = json.loads((FOLDER / "signatures.json").read_text(encoding="ascii"))["signatures"]
    vectors = {
        (row["name"], row["signature"], row["holds"]): (row["public_key"], row["message"])
        for row in rows
    }
    place = selftest.PUBLIC_KEY.hex(), selftest.MESSAGE.hex()
    assert all(vectors.get(case) == place for case in selftest.SIGNATURES)
    no_keys = {row["public_key"] for row in rows if not row["enrolled"]}
    assert {key.hex() for key in selftest.NO_KEYS} <= no_keys


@pytest.mark.parametrize("name", [name for name, _, _ in selftest.SIGNATURES])
def test_one_other_verdict_is_enough_to_refuse_to_run(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [(what, s, holds != (what == name)) for what, s, holds in selftest.SIGNATURES]
    monkeypatch.setattr(selftest, "SIGNATURES", cases)
    with pytest.raises(UnfitError, match=f"the signature '{name}'"):
        selftest.check_signatures()


def test_a_key_of_small_order_that_passes_is_enough_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "is_public_key", lambda key: True)
    with pytest.raises(UnfitError, match="a key of small order"):
        selftest.check_signatures()
