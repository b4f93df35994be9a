"""The vectors of node.json, handed to a real node, and those of earlier versions as well."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from demesh.node import Node, NodeSettings
from demesh.passport import NodeIdentity
from demesh.ports import MILLISECOND, Effect, Journal, Publish, Received, Restored, StoreBlock
from demesh.wire.kinds import Reject
from demesh.wire.messages import Genesis
from demesh.wire.schema import decode

FOLDER = Path(__file__).parents[1] / "vectors"
VECTORS: dict[str, Any] = {
    name: json.loads((FOLDER / place / "node.json").read_text("ascii"))
    for name, place in (("newest", "."), ("wire 1", "v1"), ("rules 2", "v2"))
}
CASES = [(name, case) for name, vectors in VECTORS.items() for case in vectors["cases"]]
ALONE = [
    (name, case)
    for name, case in CASES
    if [step["times"] for step in case["steps"]] == [1] and case["rejects"]
]


def named(value: object) -> str:
    return value["name"] if isinstance(value, dict) else str(value)


# Decided before the node is asked: they have vectors of their own in frames.json.
OF_A_FRAME = {code.name for code in Reject if code <= Reject.PAYLOAD}


def node_of(vectors: dict[str, Any]) -> Node:
    device = vectors["device"]
    keys = (SigningKey(bytes.fromhex(device[one])) for one in ("device_key", "vote_key"))
    return Node(
        NodeIdentity(device["name"], device["class"], *keys),
        decode(Genesis, bytes.fromhex(vectors["genesis"])),
        Restored(),
        NodeSettings(
            None, None, vectors["delay_floor_ms"], b"anything", verify_ns=vectors["verify_ns"]
        ),
        0,
    )


def shown(node: Node) -> dict[str, int]:
    """Rejects by code, as the node's state document has them."""
    metering = {code.name: count for code, count in node.metering.rejects.items()}
    return dict(node.rejects + Counter(metering))


def played(node: Node, case: dict[str, Any]) -> list[list[Effect]]:
    """The effects of each step; in between the node is ticked as it asks for it."""
    node.start(0)
    effects: list[list[Effect]] = []
    for step in case["steps"]:
        now = step["at_ms"] * MILLISECOND
        while (due := node.deadline()) is not None and due <= now:
            node.tick(due)
        received = Received(step["topic"], bytes.fromhex(step["frame"]), step["retained"])
        effects += [node.handle(received, now) for _ in range(step["times"])]
    return effects


@pytest.mark.parametrize(("vectors", "case"), CASES, ids=named)
def test_a_node_counts_what_its_vector_says(vectors: str, case: dict[str, Any]) -> None:
    node = node_of(VECTORS[vectors])
    played(node, case)
    assert shown(node) == case["rejects"]
    assert node.consensus.tip.height == case["height"]


@pytest.mark.parametrize(("vectors", "case"), ALONE, ids=named)
def test_what_is_rejected_changes_nothing(vectors: str, case: dict[str, Any]) -> None:
    node = node_of(VECTORS[vectors])
    at_first = node.application.ledger.root
    ((*effects,),) = played(node, case)
    # What is of a later epoch is a reason to ask for blocks (R-CON-14); nothing else is said.
    said = [one.topic.split("/")[3] for one in effects if isinstance(one, Publish)]
    assert said == (["to"] if "epoch" in case["name"] else [])
    assert not [one for one in effects if isinstance(one, Journal | StoreBlock)]
    assert node.application.ledger.root == at_first and not list(node.application.pool)


def test_every_code_that_needs_a_node_has_a_vector() -> None:
    found = {code for case in VECTORS["newest"]["cases"] for code in case["rejects"]}
    assert {code.name for code in Reject} - OF_A_FRAME <= found
