"""A hand that writes frames and topics of anybody in the street, for the cases of node.json."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from demesh.wire import statements
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.frame import (
    SIG_STRUCTURE,
    SIGN1,
    SIGNAL_PROTECTED,
    SIGNAL_SEQUENCE,
    SIGNATURE_HEAD,
    STATEMENT_PROTECTED,
    STATEMENT_UNPROTECTED,
    bstr,
    head,
    seal_statement,
    signal_frame,
    split,
    statement_frame,
    version_tag,
)
from demesh.wire.identity import signer
from demesh.wire.kinds import FIRST_SIGNAL, SEALED_SINCE, Kind
from demesh.wire.messages import MESSAGE_OF_KIND, Blocks
from demesh.wire.offers import Card
from demesh.wire.opbodies import OP_BODIES, Op, OpBody, Transfer
from demesh.wire.schema import encode
from demesh.wire.sealing import Sealer
from demesh.wire.topics import Topics
from demesh_consensus import Block, Certificate, Proposal, Statement, StatementKind
from vectors.payloads import OFFER
from vectors.street import BEGINS_S, NEWCOMER, WEIGHTS, Street, id_of, key

ME = "bob"
"""The device that receives."""

_KIND_OF = {cls: kind for kind, cls in MESSAGE_OF_KIND.items()}
NOTARIZE, NULLIFY, FINALIZE = StatementKind


@dataclass(frozen=True, slots=True)
class Step:
    """A message that arrives."""

    topic: str
    frame: bytes
    retained: bool = False
    at_ms: int = 1_000
    times: int = 1
    """The very same message so many times at once."""


@dataclass(frozen=True, slots=True)
class Case:
    """Messages in order, and what a node shows after them: rejects by code, and its tip."""

    name: str
    steps: tuple[Step, ...]
    rejects: dict[str, int]
    height: int = 0


class Hand:
    """Writes frames and topics of anybody in the street."""

    def __init__(self, street: Street) -> None:
        self.street = street
        self._seqs: dict[str, int] = {}
        self._ops = 0
        self._sealers = {
            name: Sealer(key(name), street.binding, boot=1) for name in (*WEIGHTS, NEWCOMER)
        }

    def says(self, name: str, area: str, frame: bytes, **given: object) -> Step:
        """Published by a device in an area of its own."""
        topic = Topics(self.street.binding.mesh_id, id_of(name)).mine(area)
        return replace(Step(topic, frame), **given)  # type: ignore[arg-type]

    def tells(self, name: str, frame: bytes, **given: object) -> Step:
        """Said to the node by a device, sealed if the mesh asks for it."""
        return self.bare(name, self.closed(name, frame), **given)

    def bare(self, name: str, content: bytes, **given: object) -> Step:
        """Whatever a device publishes on the topic on which it speaks to the node."""
        topic = Topics(self.street.binding.mesh_id, id_of(name)).to(id_of(ME))
        return replace(Step(topic, content), **given)  # type: ignore[arg-type]

    def closed(self, name: str, frame: bytes, to: str = ME) -> bytes:
        """A frame as a device sends it to another."""
        if self.street.binding.version < SEALED_SINCE:
            return frame
        return self._sealers[name].seal(bytes(key(to).verify_key), frame)

    def seal(self, name: str, message: object) -> bytes:
        """The frame of a message by a device key; signals of boot 1, counted from 1."""
        return self.payload(name, _KIND_OF[type(message)], encode(message))

    def payload(self, name: str, kind: Kind, payload: bytes) -> bytes:
        """The frame of any payload under a kind."""
        sign, binding = signer(key(name)), self.street.binding
        if kind < FIRST_SIGNAL:
            return seal_statement(kind, binding, id_of(name), payload, sign)
        seq = self._seqs[name] = self._seqs.get(name, 0) + 1
        return signal_frame(kind, binding, id_of(name), 1, seq, payload, sign)

    def op(self, name: str, body: OpBody, until_s: int = BEGINS_S + 600) -> bytes:
        """An op's frame; each has a nonce of its own."""
        self._ops += 1
        type_ = next(one for one, cls in OP_BODIES.items() if cls is type(body))
        return self.seal(name, Op(type_, self._ops.to_bytes(8, "little"), until_s, encode(body)))

    def blocks(self, blocks: Iterable[Block], final: bytes) -> Step:
        """Alice gives blocks with what makes the last one final."""
        encoded = tuple(statements.encode_block(one) for one in blocks)
        return self.tells("alice", self.seal("alice", Blocks(encoded, final)))

    def unknown(self, name: str, kind: int) -> bytes:
        """A truly signed frame of a kind that nobody knows; a signal is of boot 9."""
        binding, payload = self.street.binding, b"\x80"
        if kind < FIRST_SIGNAL:
            protected = STATEMENT_PROTECTED + head(0, kind)
            kid = STATEMENT_UNPROTECTED + id_of(name)
        else:
            numbers = head(0, kind) + head(0, 9) + head(0, 500)
            protected, kid = SIGNAL_PROTECTED + id_of(name) + SIGNAL_SEQUENCE + numbers, b"\xa1"
        unprotected = kid + version_tag(binding)
        signed = SIG_STRUCTURE + bstr(protected) + bstr(binding.aad) + bstr(payload)
        signature = signer(key(name))(signed)
        return SIGN1 + bstr(protected) + unprotected + bstr(payload) + SIGNATURE_HEAD + signature

    def versioned(self, name: str, version: int) -> bytes:
        """A good op in a frame of another wire version."""
        frame = self.op(name, Transfer(id_of("carol"), 1))
        _, payload, signature = split(frame)
        binding = replace(self.street.binding, version=version)
        return statement_frame(Kind.OP, binding, id_of(name), payload, signature)

    def card(self, name: str, boot: int = 1, revision: int = 1) -> bytes:
        """A device's card."""
        return self.seal(name, Card(boot, revision, self.paper(name), (OFFER,)))

    def paper(self, name: str) -> DeviceCertificate:
        """A founding device's certificate."""
        papers = (one.certificate for one in self.street.genesis.body.devices)
        return next(one for one in papers if one.name == name)

    def vote(self, name: str, said: Statement) -> bytes:
        """A vote, by a device's vote key."""
        return self.payload(f"{name}'s votes", Kind.VOTE, statements.encode_statement(said))

    def proposal(self, proposal: Proposal) -> bytes:
        """A proposal, passed on by Alice."""
        return self.payload("alice's votes", Kind.PROPOSAL, statements.encode_proposal(proposal))

    def certificate(self, certificate: Certificate) -> bytes:
        """A certificate, passed on by Alice."""
        return self.payload("alice", Kind.CERTIFICATE, statements.encode_certificate(certificate))
