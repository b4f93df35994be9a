"""All targets by name."""

from __future__ import annotations

from collections.abc import Callable

from fuzz import decoders, nodes, seals, sieves, texts, wire
from fuzz.target import Target

TARGETS: dict[str, Callable[[], Target]] = {
    "walker": wire.walker,
    "envelope": wire.envelope,
    "validator": wire.validator,
    "seals": seals.seals,
    "messages": decoders.messages,
    "genesis": decoders.genesis,
    "proofs": decoders.proofs,
    "leaps": decoders.leaps,
    "stored": decoders.stored,
    "journals": decoders.journals,
    "topics": texts.topics,
    "mqtt": texts.mqtt,
    "sieve": sieves.sieves,
    "node": nodes.node,
}

SHARES = {"validator": 3, "messages": 2, "node": 3}
"""Of the time of a run over all targets: what is slow and deep gets more than one part."""
