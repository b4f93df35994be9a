"""Seeded cases of every kind, and a hash of their frames: annex A of docs/protocol.md in code.

Another implementation that draws the same cases and gets the same hashes encodes, orders and signs
as this one does. `python -m vectors.conformance` writes the file.
"""

from __future__ import annotations

import hashlib
import types
import typing
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

import cbor2
from nacl.signing import SigningKey

from demesh import light, snapshots
from demesh.ledger import proof, state
from demesh.wire import statements
from demesh.wire.frame import Binding, seal_statement, signal_frame
from demesh.wire.identity import device_id, signer
from demesh.wire.kinds import FIRST_SIGNAL, SEALED_SINCE, Kind, wire_version
from demesh.wire.messages import MESSAGE_OF_KIND
from demesh.wire.opbodies import OP_BODIES, Op, OpType
from demesh.wire.readings import EndReason, Why
from demesh.wire.schema import Bounds, plain_hint, tails_of
from demesh.wire.sealing import Sealer
from demesh.wire.topics import KINDS_OF_AREA
from demesh_consensus import StatementKind

PATH = Path(__file__).parent / "conformance.toml"
GENERATOR = 1
SEED = "demesh conformance"
CASES = 256
GENERATION = 7

# How far above the least a length is drawn: what is longest still fits the frame of its kind.
BYTES_MORE_MAX, CHARACTERS_MORE_MAX, ITEMS_MORE_MAX = 32, 15, 2
SMALL_MAX = 1_000
CHARACTERS = "aé☃😀"
VOTERS_MORE_MAX, VOTER_STEP, BIT_STEP = 2, 40, 100
KEYS = 4
RULES = {"wire-1": 1, "wire-2": 2, "rules-3": 3}
"""The tables, and the rules of the mesh that their cases are of."""

GROWN_WITH = 3
"""The rules from which on messages have grown; see `Author`."""

DIRECT = KINDS_OF_AREA["to"]

# What earlier rules know of these enumerations: so many, the least ones.
BEFORE: dict[type[IntEnum], int] = {OpType: 5, Why: 4, EndReason: 7}
ADDED = frozenset({Kind.CAP})


class Draws:
    """An endless byte stream that follows from a name, and what is drawn from it."""

    def __init__(self, name: str) -> None:
        self._name, self._blocks, self._left = name, 0, b""

    def octets(self, count: int) -> bytes:
        """The next bytes of the stream."""
        while len(self._left) < count:
            block = f"{self._name}/{self._blocks}".encode("ascii")
            self._left += hashlib.blake2b(block, digest_size=64).digest()
            self._blocks += 1
        found, self._left = self._left[:count], self._left[count:]
        return found

    def below(self, count: int) -> int:
        """A number from 0 to `count` - 1, of 8 bytes of the stream."""
        return int.from_bytes(self.octets(8), "big") % count

    def length(self, bounds: Bounds, more: int) -> int:
        """A length within its bounds."""
        return bounds.least + self.below(min(bounds.greatest - bounds.least, more) + 1)


# What a byte string of a message holds; all others are any bytes.
Item = Kind | type
HELD: dict[tuple[str, str], Item] = {
    ("Claim", "voucher"): Kind.VOUCHER,
    ("Close", "voucher"): Kind.VOUCHER,
    ("Settle", "voucher"): Kind.VOUCHER,
    ("CapLane", "cap"): Kind.CAP,
    ("Recalled", "votes"): Kind.VOTE,
    ("Recalled", "tip"): statements._Certificate,
    ("Blocks", "blocks"): statements._Block,
    ("Blocks", "final"): statements._Final,
    ("Leap", "hand_overs"): light.HandOver,
    ("Leap", "checkpoint"): snapshots.Checkpoint,
    ("Chunk", "content"): snapshots.Records,
    ("Block", "ops"): Kind.OP,
    ("HandOver", "final"): statements._Final,
    ("HandOver", "electorate"): state.Electorate,
    ("Checkpoint", "final"): statements._Final,
}

PAYLOADS: dict[Kind, type] = {
    Kind.PROPOSAL: statements._Proposal,
    Kind.VOTE: statements._Statement,
    Kind.CERTIFICATE: statements._Certificate,
    **MESSAGE_OF_KIND,
}


@cache
def key(number: int) -> SigningKey:
    """The signing keys of the cases."""
    name = f"conformance key {number}".encode("ascii")
    return SigningKey(hashlib.blake2b(name, digest_size=32).digest())


def binding(version: int) -> Binding:
    """The mesh of the cases; it has no genesis."""
    mesh_id = hashlib.blake2b(b"conformance mesh", digest_size=32).digest()
    return Binding(mesh_id, GENERATION, version)


class Author:
    """Draws messages and frames, for earlier rules without what has grown since."""

    def __init__(self, draws: Draws, rules: int) -> None:
        self._draws, self._binding = draws, binding(wire_version(rules))
        self._grown = rules >= GROWN_WITH
        self._special: dict[type, Callable[[], list[Any]]] = {
            Op: self._op,
            statements._Statement: self._statement,
            statements._Certificate: self._certificate,
            proof.Path: self._path,
        }

    def frame(self, kind: Kind) -> bytes:
        """Signer, then boot and sequence of a signal, then the message."""
        pen = key(self._draws.below(KEYS))
        sign, kid = signer(pen), device_id(bytes(pen.verify_key))
        if kind < FIRST_SIGNAL:
            payload = self.encoded(PAYLOADS[kind])
            return seal_statement(kind, self._binding, kid, payload, sign)
        boot, seq = (self._integer(Bounds(0, 2**64 - 1)) for _ in range(2))
        payload = self.encoded(PAYLOADS[kind])
        return signal_frame(kind, self._binding, kid, boot, seq, payload, sign)

    def encoded(self, item: Item) -> bytes:
        """A drawn message or frame as bytes."""
        if isinstance(item, Kind):
            return self.frame(item)
        return cbor2.dumps(self._message(item), canonical=True)

    def _message(self, cls: type) -> list[Any]:
        if cls in self._special:
            return self._special[cls]()
        hints = typing.get_type_hints(cls, include_extras=True)
        name, late = cls.__name__.removeprefix("_"), tails_of(cls)
        count = len(fields(cls)) - len(late)
        least = count
        if late and self._grown:
            count += self._draws.below(len(late) + 1)
        drawn = [
            self._value(hints[one.name], HELD.get((name, one.name))) for one in fields(cls)[:count]
        ]
        while len(drawn) > least and drawn[-1] in (None, 0, "", b"", []):
            drawn.pop()
        return drawn

    def _value(self, hint: Any, held: Item | None = None) -> Any:
        hint, found = plain_hint(hint)
        bounds = found or Bounds(0, 0)
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            return self._value(typing.get_args(hint)[0]) if self._draws.below(2) else None
        if typing.get_origin(hint) is tuple:
            count = self._draws.length(bounds, ITEMS_MORE_MAX)
            return [self._value(typing.get_args(hint)[0], held) for _ in range(count)]
        if is_dataclass(hint):
            return self._message(typing.cast(type, hint))
        if issubclass(hint, IntEnum):
            values = self._known(hint)
            return int(values[self._draws.below(len(values))])
        if hint is bool:
            return bool(self._draws.below(2))
        if hint is int:
            return self._integer(bounds)
        if hint is str:
            count = self._draws.length(bounds, CHARACTERS_MORE_MAX)
            return "".join(CHARACTERS[self._draws.below(4)] for _ in range(count))
        if held is None:
            return self._draws.octets(self._draws.length(bounds, BYTES_MORE_MAX))
        if bounds.least == 0 and not self._draws.below(2):
            return b""
        return self.encoded(held)

    def _integer(self, bounds: Bounds) -> int:
        span = bounds.greatest - bounds.least
        match self._draws.below(4):
            case 0:
                return bounds.least
            case 1:
                return bounds.greatest
            case 2:
                return bounds.least + self._draws.below(min(span, SMALL_MAX) + 1)
            case _:
                return bounds.least + self._draws.below(span + 1)

    def _known(self, enum: type[IntEnum]) -> list[Any]:
        return sorted(enum)[: None if self._grown else BEFORE.get(enum)]

    # -- what is not free in every field ----------------------------------------------------------

    def _op(self) -> list[Any]:
        types_ = self._known(OpType)
        type_ = types_[self._draws.below(len(types_))]
        nonce, until_s = self._draws.octets(8), self._integer(Bounds(0, 2**53 - 1))
        return [int(type_), nonce, until_s, self.encoded(OP_BODIES[type_])]

    def _statement(self) -> list[Any]:
        kind = sorted(StatementKind)[self._draws.below(3)]
        epoch, view = self._integer(Bounds(0, 2**32 - 1)), self._integer(Bounds(0, 2**64 - 1))
        digest = b"" if kind is StatementKind.NULLIFY else self._draws.octets(32)
        return [int(kind), epoch, view, digest, self._integer(Bounds(0, 2**32 - 1))]

    def _certificate(self) -> list[Any]:
        statement = self._statement()
        voter, bits, signatures = -1, 0, b""
        for _ in range(self._draws.length(Bounds(1, 128), VOTERS_MORE_MAX)):
            voter += 1 + self._draws.below(VOTER_STEP)
            bits |= 1 << voter
            signatures += self._draws.octets(64)
        return [statement, bits.to_bytes(voter // 8 + 1, "little"), signatures]

    def _path(self) -> list[Any]:
        bit, steps = -1, []
        for _ in range(self._draws.length(Bounds(0, 328), ITEMS_MORE_MAX)):
            bit += 1 + self._draws.below(BIT_STEP)
            steps.append([bit, self._draws.octets(32)])
        return [steps]


def kinds(rules: int) -> list[Kind]:
    """The kinds that a mesh of these rules has."""
    return [kind for kind in Kind if rules >= GROWN_WITH or kind not in ADDED]


def case(kind: Kind, number: int, rules: int) -> bytes:
    """The frame of one case."""
    return Author(Draws(f"{SEED}/{kind.name}/{number}"), rules).frame(kind)


def digest(kind: Kind, rules: int) -> str:
    """BLAKE2b-256 over the frames of all cases of a kind, one after the other."""
    whole = hashlib.blake2b(digest_size=32)
    for number in range(CASES):
        whole.update(case(kind, number, rules))
    return whole.hexdigest()


def sealed_case(kind: Kind, number: int, rules: int) -> tuple[int, int, bytes]:
    """(sender's key, receiver's key, what is sent) of one case of a direct message."""
    draws = Draws(f"{SEED}/{kind.name}/{number}")
    frame = Author(draws, rules).frame(kind)
    sender = Draws(f"{SEED}/{kind.name}/{number}").below(KEYS)
    receiver, boot = draws.below(KEYS), int.from_bytes(draws.octets(8), "big")
    sealer = Sealer(key(sender), binding(wire_version(rules)), boot)
    return sender, receiver, sealer.seal(bytes(key(receiver).verify_key), frame)


def sealed_digest(kind: Kind, rules: int) -> str:
    """BLAKE2b-256 over what is sent of all cases of a kind, one after the other."""
    whole = hashlib.blake2b(digest_size=32)
    for number in range(CASES):
        whole.update(sealed_case(kind, number, rules)[2])
    return whole.hexdigest()


def document() -> str:
    """What conformance.toml says."""
    lines = [
        "# Annex A of docs/protocol.md says how the cases are drawn. Written by",
        "# `PYTHONPATH=tests python -m vectors.conformance`.",
        "",
        f"generator = {GENERATOR}",
        f'seed = "{SEED}"',
        f"cases = {CASES}",
    ]
    for table, rules in RULES.items():
        lines += ["", f"[{table}]"]
        lines += [f'{kind.name} = "{digest(kind, rules)}"' for kind in kinds(rules)]
    for table, rules in RULES.items():
        if wire_version(rules) >= SEALED_SINCE:
            direct = [kind for kind in kinds(rules) if kind in DIRECT]
            lines += ["", f"[{table}-sealed]"]
            lines += [f'{kind.name} = "{sealed_digest(kind, rules)}"' for kind in direct]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PATH.write_text(document(), encoding="ascii")
