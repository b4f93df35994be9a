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
    """Signatures of all voters of one run."""

    def sign(self, voter: int, statement: Statement) -> bytes:
        """The voter's signature."""

    def verify(self, voter: int, statement: Statement, signature: bytes) -> bool:
        """Is it the voter's signature over this statement?"""


def signed_bytes(statement: Statement) -> bytes:
    """What is signed: every field, in an order that no two statements share."""
    head = b"%d/%d/%d/" % (statement.kind, statement.epoch, statement.view)
    return head + statement.digest


class KeyedHash:
    """A hash under the voter's number."""

    def sign(self, voter: int, statement: Statement) -> bytes:
        key = b"voter %d" % voter
        return hashlib.blake2b(signed_bytes(statement), key=key, digest_size=32).digest()

    def verify(self, voter: int, statement: Statement, signature: bytes) -> bool:
        return signature == self.sign(voter, statement)


class Ed25519:
    """Real signatures through libsodium; what was verified once is remembered."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._keys: dict[int, SigningKey] = {}
        self._known: dict[tuple[int, bytes, bytes], bool] = {}

    def _key(self, voter: int) -> SigningKey:
        if voter not in self._keys:
            secret = hashlib.blake2b(b"%d/%d" % (self._seed, voter), digest_size=32).digest()
            self._keys[voter] = SigningKey(secret)
        return self._keys[voter]

    def sign(self, voter: int, statement: Statement) -> bytes:
        return bytes(self._key(voter).sign(signed_bytes(statement)).signature)

    def verify(self, voter: int, statement: Statement, signature: bytes) -> bool:
        what = (voter, signed_bytes(statement), signature)
        if what not in self._known:
            self._known[what] = self._holds(*what)
        return self._known[what]

    def _holds(self, voter: int, signed: bytes, signature: bytes) -> bool:
        try:
            self._key(voter).verify_key.verify(signed, signature)
        except (BadSignatureError, ValueError, TypeError):
            return False
        return True


class VoterCrypto:
    """The port that a voter's core is given."""

    def __init__(self, signing: Signing, me: int) -> None:
        self._signing, self._me = signing, me

    def digest(self, block: Block) -> bytes:
        return digest_of(block)

    def sign(self, statement: Statement) -> bytes:
        return self._signing.sign(self._me, statement)

    def verify(self, voter: int, statement: Statement, signature: bytes) -> bool:
        return self._signing.verify(voter, statement, signature)


def digest_of(block: Block) -> bytes:
    """A name for every field of the block."""
    return hashlib.blake2b(repr(block).encode(), digest_size=32).digest()
