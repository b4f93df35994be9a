"""Proofs that a record is in a state, for who has nothing but the state's root.

R-LED-1   The state root. H is BLAKE2b-256. A leaf is H(00 || key || H(record)), a branch is
          H(01 || bit as 2 bytes big-endian || left || right), the empty trie is 32 zero bytes.
          Equal content gives an equal root, whatever led to it.
R-LED-29  A path shows that a record is under a key: the branches from the root down to its leaf,
          each with its bit and the digest on the side that the key does not take. Bits ascend and
          lie within the key. The record is there if and only if hashing upwards gives the root. A
          path shows presence only: that there is none shows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Annotated

from demesh.wire.schema import U16, Bounds, Digest

# A path has at most one step for each bit of the longest key, 41 bytes (R-LED-4).
STEPS_MAX = 8 * 41


@dataclass(frozen=True, slots=True)
class Step:
    """A branch on the way: the bit it divides by, and the digest of the side not taken."""

    bit: U16
    beside: Digest


@dataclass(frozen=True, slots=True)
class Path:
    """The branches from the root down to a leaf; ValueError unless their bits ascend."""

    steps: Annotated[tuple[Step, ...], Bounds(0, STEPS_MAX)]

    def __post_init__(self) -> None:
        if any(above.bit >= below.bit for above, below in pairwise(self.steps)):
            raise ValueError("the bits of a path must ascend")


def root_of(key: bytes, record: bytes, path: Path) -> bytes:
    """The root of the state in which `path` leads to `record` under `key` (R-LED-29).

    Compare it with a root that is to be trusted. ValueError for a path that no such key can have.
    """
    if path.steps and path.steps[-1].bit >= 8 * len(key):
        raise ValueError(f"bit {path.steps[-1].bit} is not one of a key of {len(key)} bytes")
    digest = leaf_digest(key, record)
    for step in reversed(path.steps):
        if is_set(key, step.bit):
            digest = branch_digest(step.bit, step.beside, digest)
        else:
            digest = branch_digest(step.bit, digest, step.beside)
    return digest


def is_set(key: bytes, bit: int) -> bool:
    """Whether `bit` of `key` is 1, counted from the front; past its end it is 0."""
    byte = bit >> 3
    return byte < len(key) and bool(key[byte] >> (7 - (bit & 7)) & 1)


def leaf_digest(key: bytes, record: bytes) -> bytes:
    """H(00 || key || H(record)), 32 bytes."""
    inner = blake2b(record, digest_size=32).digest()
    return blake2b(b"\x00" + key + inner, digest_size=32).digest()


def branch_digest(bit: int, left: bytes, right: bytes) -> bytes:
    """H(01 || bit || left || right), 32 bytes."""
    head = b"\x01" + bit.to_bytes(2, "big")
    return blake2b(head + left + right, digest_size=32).digest()
