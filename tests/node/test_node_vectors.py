"""The vectors of tests/vectors/node.json, handed to a real node."""

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

PATH = Path(__file__).parents[1] / "vectors" / "node.json"
VECTORS: dict[str, Any] = json.loads(PATH.read_text("ascii"))
CASES: list[dict[str, Any]] = VECTORS["cases"]

# Decided before the node is asked: they have vectors of their own in frames.json.
OF_A_FRAME = {code.name for code in Reject if code <= Reject.PAYLOAD}


def node_of(vectors: dict[str, Any]) -> Node:
    device = vectors["device"]
    keys = (SigningKey(bytes.fromhex(device[one])) for one in ("device_key", "vote_key"))
    return Node(
        NodeIdentity(device["name"], device["class"], *keys),
        decode(Genesis, bytes.fromhex(vectors["genesis"])),
        Restored(),
        NodeSettings(None, None, vectors["delay_floor_ms"], b"anything"),
        0,
    )


def shown(node: Node) -> dict[str, int]:
    """Rejects by code, as the node's state document has them."""
    metering = {code.name: count for code, count in node.metering.rejects.items()}
    return dict(node.rejects + Counter(metering))


def played(node: Node, case: dict[str, Any]) -> list[list[Effect]]:
    """The effects of each step; in between the node is ticked as it asks for it."""
    node.start(0)
    effects = []
    for step in case["steps"]:
        now = step["at_ms"] * MILLISECOND
        while (due := node.deadline()) is not None and due <= now:
            node.tick(due)
        received = Received(step["topic"], bytes.fromhex(step["frame"]), step["retained"])
        effects.append(node.handle(received, now))
    return effects


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_node_counts_what_its_vector_says(case: dict[str, Any]) -> None:
    node = node_of(VECTORS)
    played(node, case)
    assert shown(node) == case["rejects"]
    assert node.consensus.tip.height == case["height"]


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if len(case["steps"]) == 1 and case["rejects"]],
    ids=lambda case: case["name"],
)
def test_what_is_rejected_changes_nothing(case: dict[str, Any]) -> None:
    node, at_first = node_of(VECTORS), node_of(VECTORS).application.ledger.root
    ((*effects,),) = played(node, case)
    # What is of a later epoch is a reason to ask for blocks (R-CON-14); nothing else is said.
    said = [one.topic.split("/")[3] for one in effects if isinstance(one, Publish)]
    assert said == (["to"] if "epoch" in case["name"] else [])
    assert not [one for one in effects if isinstance(one, Journal | StoreBlock)]
    assert node.application.ledger.root == at_first and not list(node.application.pool)


def test_every_code_that_needs_a_node_has_a_vector() -> None:
    found = {code for case in CASES for code in case["rejects"]}
    assert {code.name for code in Reject} - OF_A_FRAME <= found
