"""Kinds of frames, their family and size limit, and the codes of rejection (R-WIRE-2, R-WIRE-3)."""

from __future__ import annotations

from enum import IntEnum

FRAME_BYTES_MAX = 64 * 1024
"""A frame larger than this is rejected unread: one MQTT packet, one read, one verify."""

WIRE_VERSION = 2
"""The newest version that this code speaks. It understands the one before it as well."""

WIRE_VERSION_OLDEST = 1

SEALED_SINCE = 2
"""From this version on, what one device says to another is sealed (R-SEA-1)."""


def wire_version(rules_version: int) -> int:
    """The version that a mesh of these rules speaks (R-WIRE-12)."""
    return min(rules_version, WIRE_VERSION)


class Kind(IntEnum):
    """What a frame carries. Below 16: statements, idempotent, no sequence. From 16: signals."""

    PROPOSAL = 1
    VOTE = 2
    CERTIFICATE = 3
    OP = 4
    VOUCHER = 5
    CARD = 6
    CAP = 8

    ACCEPT = 16
    ACK = 17
    REFUSE = 18
    READING = 19
    END = 20
    RECALL = 21
    RECALLED = 22
    WANT = 23
    BLOCKS = 24
    LEAP = 25
    SEEK = 26
    CHUNK = 27


FIRST_SIGNAL = 16

KIND_BYTES_MAX: dict[Kind, int] = {
    Kind.PROPOSAL: FRAME_BYTES_MAX,
    Kind.VOTE: 192,
    Kind.CERTIFICATE: 16 * 1024,
    Kind.OP: 4096,
    Kind.VOUCHER: 256,
    Kind.CARD: 4096,
    Kind.CAP: 256,
    Kind.ACCEPT: 2048,
    Kind.ACK: 512,
    Kind.REFUSE: 512,
    Kind.READING: 512,
    Kind.END: 512,
    Kind.RECALL: 256,
    Kind.RECALLED: 20 * 1024,
    Kind.WANT: 256,
    Kind.BLOCKS: FRAME_BYTES_MAX,
    Kind.LEAP: FRAME_BYTES_MAX,
    Kind.SEEK: 256,
    Kind.CHUNK: 33 * 1024,
}
"""Largest frame of each kind, in bytes, envelope included."""


class Reject(IntEnum):
    """Why a frame was not processed. The first eleven in the order they are checked."""

    SIZE = 1  # empty or above FRAME_BYTES_MAX
    SHAPE = 2  # not our COSE_Sign1 envelope
    CANONICAL = 3  # not deterministic CBOR (RFC 8949 4.2.1)
    VERSION = 4  # a wire version we do not speak
    MESH = 5  # another mesh's tag
    KIND = 6  # a kind we do not know, or in the wrong family's envelope
    KIND_SIZE = 7  # larger than its kind allows
    SENDER = 8  # no key enrolled under this id
    REPLAY = 9  # boot and sequence seen before, or older than the window
    SIGNATURE = 10  # Ed25519 says no
    PAYLOAD = 11  # does not decode as its kind
    TOPIC = 12  # this kind does not belong on this topic, or not from this sender
    STALE = 13  # about a view, page or revision already behind us
    AHEAD = 14  # too far ahead of us to keep
    CERTIFICATE = 15  # signatures below quorum, or invalid
    INVALID = 16  # well formed, but breaks a rule of its protocol
    FULL = 17  # a bounded place is full
    BUDGET = 18  # what its topic or its signer may cost is used up; after REPLAY, before SIGNATURE
    SEAL = 19  # a direct message that is not sealed, or not for us by the publisher of its topic
