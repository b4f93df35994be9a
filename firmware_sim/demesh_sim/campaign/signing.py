"""Who signs in a campaign: keyed hashes, which anybody could forge, or real Ed25519.

A campaign is about votes, so most of its seeds sign with a hash under a key that is no secret. No
adversary here forges another voter's, so that this hides nothing but the cost.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from demesh_consensus import Block, Statement


class Signing(Protocol):
    """Signatures of all voters of one run; `key` counts the keys that a voter has had."""

    def sign(self, voter: int, statement: Statement, key: int = 0) -> bytes:
        """The voter's signature."""

    def verify(self, voter: int, statement: Statement, signature: bytes, key: int = 0) -> bool:
        """Is it the voter's signature over this statement?"""


def signed_bytes(statement: Statement) -> bytes:
    """What is signed: every field, in an order that no two statements share."""
    head = (statement.kind, statement.epoch, statement.view, statement.rules_version)
    return b"%d/%d/%d/%d/" % head + statement.digest


class KeyedHash:
    """A hash under the voter's number and its key's."""

    def sign(self, voter: int, statement: Statement, key: int = 0) -> bytes:
        name = b"voter %d/%d" % (voter, key)
        return hashlib.blake2b(signed_bytes(statement), key=name, digest_size=32).digest()

    def verify(self, voter: int, statement: Statement, signature: bytes, key: int = 0) -> bool:
        return signature == self.sign(voter, statement, key)


class Ed25519:
    """Real signatures through libsodium; what was verified once is remembered."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._keys: dict[tuple[int, int], SigningKey] = {}
        self._known: dict[tuple[int, int, bytes, bytes], bool] = {}

    def _key(self, voter: int, key: int) -> SigningKey:
        if (voter, key) not in self._keys:
            name = b"%d/%d/%d" % (self._seed, voter, key)
            secret = hashlib.blake2b(name, digest_size=32).digest()
            self._keys[voter, key] = SigningKey(secret)
        return self._keys[voter, key]

    def sign(self, voter: int, statement: Statement, key: int = 0) -> bytes:
        return bytes(self._key(voter, key).sign(signed_bytes(statement)).signature)

    def verify(self, voter: int, statement: Statement, signature: bytes, key: int = 0) -> bool:
        what = (voter, key, signed_bytes(statement), signature)
        if what not in self._known:
            self._known[what] = self._holds(*what)
        return self._known[what]

    def _holds(self, voter: int, key: int, signed: bytes, signature: bytes) -> bool:
        try:
            self._key(voter, key).verify_key.verify(signed, signature)
        except (BadSignatureError, ValueError, TypeError):
            return False
        return True


class VoterCrypto:
    """The port that a voter's core is given for an epoch, in which voters have these keys."""

    def __init__(self, signing: Signing, me: int, keys: tuple[int, ...]) -> None:
        self._signing, self._me, self._keys = signing, me, keys

    def digest(self, block: Block) -> bytes:
        return digest_of(block)

    def sign(self, statement: Statement) -> bytes:
        return self._signing.sign(self._me, statement, self._keys[self._me])

    def verify(self, voter: int, statement: Statement, signature: bytes) -> bool:
        return self._signing.verify(voter, statement, signature, self._keys[voter])


def digest_of(block: Block) -> bytes:
    """A name for every field of the block."""
    return hashlib.blake2b(repr(block).encode(), digest_size=32).digest()
