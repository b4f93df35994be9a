"""What somebody without any key can say in a mesh over an open broker: packets made by the burst.

All packets of a volley have one length, so a whole burst is altered by slicing and none is ever the
same: that costs the attacker a copy of some bytes, and a cache of refused frames would not help.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from demesh.broker.codec import Publish, encode
from demesh.wire import identity
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.frame import (
    Binding,
    bstr,
    seal_statement,
    signal_frame,
    split,
    version_tag,
)
from demesh.wire.kinds import KIND_BYTES_MAX, SEALED_SINCE, Kind
from demesh.wire.messages import Genesis
from demesh.wire.offers import Ack, Card
from demesh.wire.opbodies import Op, OpType
from demesh.wire.schema import encode as encode_message
from demesh.wire.sealing import NONCE_BYTES, SEALED, SEALED_BYTES_MAX
from demesh.wire.statements import encode_statement
from demesh.wire.topics import Topics
from demesh_consensus.types import Statement, StatementKind

BURST_BYTES = 64 * 1024  # one write: more only moves the queue into the attacker's kernel
BURST_MESSAGES = 64

ALTERED = 8  # random bytes of each packet: 2^64 different ones
VALID_S = 600

# s stays below the group order, or the signature is refused before any work was done for it.
LAST_OF_SIGNATURE = 0x0F

PACKET_ID = b"\x00\x01"


class Volley:
    """A burst of packets with one topic and one length."""

    def __init__(
        self, topic: str, payload: bytes, qos: int, alter_from_end: int, alphabet: bytes = b""
    ) -> None:
        """Each packet gets random bytes, or some of `alphabet`, from that far before its end on."""
        packet = encode(Publish(topic, payload, qos, packet_id=1 if qos else 0))
        self._size = len(packet)
        self.messages = max(1, min(BURST_MESSAGES, BURST_BYTES // self._size))
        self._burst = bytearray(packet * self.messages)
        self._at = self._size - alter_from_end
        self._table = bytes(alphabet[n % len(alphabet)] for n in range(256)) if alphabet else None

    def altered(self) -> bytes:
        """The next burst."""
        noise = os.urandom(ALTERED * self.messages)
        if self._table is not None:
            noise = noise.translate(self._table)
        for number in range(ALTERED):
            self._burst[self._at + number :: self._size] = noise[number::ALTERED]
        return bytes(self._burst)


@dataclass(frozen=True, slots=True)
class Public:
    """All that anybody can know of a mesh and its victim, who is the first voter."""

    mesh_id: bytes
    binding: Binding
    rules_version: int
    founder: bytes
    certificates: tuple[DeviceCertificate, ...]

    @classmethod
    def of(cls, genesis: Genesis) -> Public:
        """What the genesis says of it."""
        body = genesis.body
        mesh_id = identity.mesh_id(body)
        voters = tuple(device.certificate for device in body.devices if device.weight)
        founder = identity.device_id(body.owners[0])
        return cls(mesh_id, identity.binding_of(mesh_id, body), body.rules_version, founder, voters)

    @property
    def victim(self) -> bytes:
        """The device that others pretend to be."""
        return identity.device_id(self.certificates[0].device_key)

    @property
    def others(self) -> tuple[bytes, ...]:
        """The other voters' devices."""
        return tuple(identity.device_id(one.device_key) for one in self.certificates[1:])

    @property
    def topics(self) -> Topics:
        """The victim's own: an open broker lets anybody publish there."""
        return Topics(self.mesh_id, self.victim)

    def everywhere(self) -> Iterator[str]:
        """Every topic of every voter that the other voters listen to."""
        devices = (self.victim, *self.others)
        for device in devices:
            topics = Topics(self.mesh_id, device)
            yield from (topics.mine(area) for area in ("vote", "op", "tip", "card"))
            yield from (topics.to(other) for other in devices if other != device)


def garbage(public: Public, qos: int) -> list[Volley]:
    """Random bytes as long as a vote, everywhere."""
    size = KIND_BYTES_MAX[Kind.VOTE]
    return [Volley(topic, os.urandom(size), qos, size) for topic in public.everywhere()]


def oversize(public: Public, qos: int) -> list[Volley]:
    """One byte more than any message has, everywhere."""
    size = SEALED_BYTES_MAX + 1
    return [Volley(topic, os.urandom(size), qos, size) for topic in public.everywhere()]


def forged(
    public: Public, qos: int, view: tuple[int, int], proposal: bytes
) -> dict[str, list[Volley]]:
    """By area: the victim's messages as they would be in this epoch and view, none of them signed.

    `proposal` is the last real frame of one, whoever signed it; empty if none was heard. A farewell
    needs no signature.
    """
    victim, topics = public.certificates[0], public.topics
    vote_id = identity.device_id(victim.vote_key)

    def volley(topic: str, frame: bytes) -> Volley:
        last = len(frame) - 1
        return Volley(topic, frame[:last] + bytes((frame[last] & LAST_OF_SIGNATURE,)), qos, 64)

    def statement(kind: Kind, kid: bytes, payload: bytes) -> bytes:
        return seal_statement(kind, public.binding, kid, payload, _pretend)

    epoch, number = view
    votes = [
        Statement(kind, epoch, number, _digest(kind), public.rules_version)
        for kind in (StatementKind.NOTARIZE, StatementKind.FINALIZE, StatementKind.NULLIFY)
    ]
    frames = [statement(Kind.VOTE, vote_id, encode_statement(vote)) for vote in votes]
    if proposal:
        frames.append(statement(Kind.PROPOSAL, vote_id, split(proposal)[1]))
    valid_s = 2**40 + VALID_S
    op = encode_message(Op(OpType.TRANSFER, os.urandom(8), valid_s, os.urandom(20)))
    card = encode_message(Card(1, 2**31, victim, ()))
    if public.binding.version >= SEALED_SINCE:
        nonce, tag = bstr(os.urandom(NONCE_BYTES)), version_tag(public.binding)
        direct = SEALED + public.victim + b"\x05" + nonce + tag + bstr(os.urandom(200))
    else:
        ack = encode_message(Ack(bytes(16)))
        direct = signal_frame(Kind.ACK, public.binding, public.victim, 1, 2**40, ack, _pretend)
    return {
        "vote": [volley(topics.mine("vote"), frame) for frame in frames],
        "op": [volley(topics.mine("op"), statement(Kind.OP, public.founder, op))],
        "card": [volley(topics.mine("card"), statement(Kind.CARD, public.victim, card))],
        "to": [volley(topics.to(other), direct) for other in public.others],
        "gone": [Volley(topics.mine("gone"), b"0" * ALTERED, qos, ALTERED, b"0123456789")],
    }


class Replay:
    """Packets that were heard, as they were heard, again and again."""

    def __init__(self, heard: Sequence[tuple[str, bytes]], qos: int) -> None:
        packets = [
            encode(Publish(topic, payload, qos, packet_id=1 if qos else 0))
            for topic, payload in heard
        ]
        self.messages = len(packets)
        self._burst = b"".join(packets)

    def altered(self) -> bytes:
        """The same as before: that is the point of it."""
        return self._burst


def _digest(kind: StatementKind) -> bytes:
    return b"" if kind is StatementKind.NULLIFY else os.urandom(32)


def _pretend(_: bytes) -> bytes:
    """A signature that costs a whole verification: R is anything, s in its range."""
    return os.urandom(63) + b"\x00"
