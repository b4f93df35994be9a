"""A device's pen: messages into signed frames with its keys, boot counter and sequence."""

from __future__ import annotations

import hashlib

from nacl.signing import SigningKey

from demesh.wire import identity
from demesh.wire.frame import Binding, seal_statement, signal_frame
from demesh.wire.kinds import FIRST_SIGNAL, Kind
from demesh.wire.messages import MESSAGE_OF_KIND
from demesh.wire.opbodies import OP_BODIES, Op, OpBody
from demesh.wire.schema import encode
from demesh.wire.statements import (
    digest_of,
    encode_certificate,
    encode_proposal,
    sign_statement,
    statement_bytes,
    vote_frame,
)
from demesh.wire.validate import Validator
from demesh_consensus.types import Block, Certificate, Proposal, Statement, Vote

_KIND_OF = {cls: kind for kind, cls in MESSAGE_OF_KIND.items()}
_TYPE_OF = {cls: type_ for type_, cls in OP_BODIES.items()}


class Signer:
    """Signs for one device in one mesh during one boot, whose counter is durable before it."""

    def __init__(
        self, device_key: SigningKey, vote_key: SigningKey, binding: Binding, boot: int, seed: bytes
    ) -> None:
        self._sign = identity.signer(device_key)
        self._sign_vote = identity.signer(vote_key)
        self.id = identity.device_id(bytes(device_key.verify_key))
        self.vote_id = identity.device_id(bytes(vote_key.verify_key))
        self.binding, self.boot = binding, boot
        self._seq = 0
        self._seed, self._nonces = seed, 0

    def nonce(self) -> bytes:
        """8 bytes, never the same twice: from the seed, the boot counter and a count."""
        self._nonces += 1
        label = b"nonce/%d/%d" % (self.boot, self._nonces)
        return hashlib.blake2b(label, key=self._seed[:64], digest_size=8).digest()

    def seal(self, message: object) -> bytes:
        """The frame of any message of `MESSAGE_OF_KIND`, by the device key."""
        kind = _KIND_OF[type(message)]
        payload = encode(message)
        if kind < FIRST_SIGNAL:
            return seal_statement(kind, self.binding, self.id, payload, self._sign)
        self._seq += 1
        return signal_frame(kind, self.binding, self.id, self.boot, self._seq, payload, self._sign)

    def op(self, body: OpBody, valid_until_s: int) -> bytes:
        """The frame of an op with a fresh nonce."""
        return self.seal(Op(_TYPE_OF[type(body)], self.nonce(), valid_until_s, encode(body)))

    def proposal(self, proposal: Proposal) -> bytes:
        """A proposal, own or passed on, by the vote key."""
        payload = encode_proposal(proposal)
        return seal_statement(Kind.PROPOSAL, self.binding, self.vote_id, payload, self._sign_vote)

    def certificate(self, certificate: Certificate) -> bytes:
        """A certificate, by the device key."""
        payload = encode_certificate(certificate)
        return seal_statement(Kind.CERTIFICATE, self.binding, self.id, payload, self._sign)

    def own_vote(self, vote: Vote) -> bytes:
        """A vote of this device."""
        return vote_frame(vote, self.binding, self.vote_id)

    def sign_vote(self, statement: Statement) -> bytes:
        """The vote key's signature over a statement."""
        return sign_statement(statement, self.binding, self._sign_vote)


class VoteCrypto:
    """`demesh_consensus.Crypto` over wire signatures: voters by index are vote keys."""

    def __init__(self, signer: Signer, validator: Validator, voters: tuple[bytes, ...]) -> None:
        self._signer, self._validator, self._voters = signer, validator, voters

    def digest(self, block: Block) -> bytes:
        """BLAKE2b-256 of the encoded block."""
        return digest_of(block)

    def sign(self, statement: Statement) -> bytes:
        """This device's vote."""
        return self._signer.sign_vote(statement)

    def verify(self, voter: int, statement: Statement, signature: bytes) -> bool:
        """Does the voter's key say so?"""
        message = statement_bytes(statement, self._signer.binding)
        return self._validator.verify(self._voters[voter], message, signature)
