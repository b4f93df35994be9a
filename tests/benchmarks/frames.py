"""Frames to validate: valid ones, and for each code those that must be rejected for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any

from nacl.signing import SigningKey

from demesh.wire.frame import (
    TAG_BYTES,
    TAG_HEAD,
    Binding,
    head,
    seal_statement,
    signal_frame,
)
from demesh.wire.identity import device_id, signer
from demesh.wire.kinds import FRAME_BYTES_MAX, KIND_BYTES_MAX, WIRE_VERSION, Kind, Reject
from demesh.wire.offers import Ack
from demesh.wire.readings import Voucher
from demesh.wire.schema import encode

BINDING = Binding(hashlib.blake2b(b"benchmark mesh", digest_size=32).digest(), 1)
ELSEWHERE = Binding(hashlib.blake2b(b"another mesh", digest_size=32).digest(), 1)
KEY = SigningKey(hashlib.blake2b(b"benchmark key", digest_size=32).digest())
KID = device_id(bytes(KEY.verify_key))
STRANGER = hashlib.blake2b(b"stranger", digest_size=16).digest()

KIND_AT = 11  # in a statement's frame
VERSION_AT = 37

VERIFIED = (Reject.SIGNATURE, Reject.PAYLOAD)
"""Rejected only after a signature was verified, at a thousand times the price of the others."""


def validator(module: Any) -> Any:
    """A validator that knows KEY and has seen its signals up to a very high sequence."""
    made = module.Validator(BINDING)
    made.enrol(KID, bytes(KEY.verify_key))
    made.set_window(KID, 1, 1 << 40)
    return made


def allowance(module: Any, code: Reject | None) -> Any:
    """What the frames of this code may cost: nothing for BUDGET, else nobody counts."""
    return module.Allowance(0, 0) if code is Reject.BUDGET else None


def vouchers(count: int) -> list[bytes]:
    """Valid frames of the most frequent statement of a trading device, all different."""
    sign = signer(KEY)
    return [
        seal_statement(Kind.VOUCHER, BINDING, KID, encode(Voucher(bytes(16), 0, cum)), sign)
        for cum in range(1, count + 1)
    ]


def bad_frames(count: int) -> dict[Reject, list[bytes]]:
    """For each class of `Reject`, `count` frames that must be rejected for that reason."""
    return {code: list(islice(make, count)) for code, make in _makers().items()}


def _makers() -> dict[Reject, Iterator[bytes]]:
    def ack(seq: int) -> bytes:
        return signal_frame(Kind.ACK, BINDING, KID, 1, seq, encode(Ack(bytes(16))), _pretend(seq))

    numbers = range(1, 1 << 30)
    too_long = bytes(KIND_BYTES_MAX[Kind.VOUCHER])
    return {
        Reject.SIZE: cycle([b"", bytes(FRAME_BYTES_MAX + 1)]),
        Reject.SHAPE: (hashlib.blake2b(b"%d" % n).digest() * 3 for n in numbers),
        Reject.CANONICAL: (_long_head(_voucher(n)) for n in numbers),
        Reject.VERSION: (_with_byte(_voucher(n), VERSION_AT, WIRE_VERSION + 1) for n in numbers),
        Reject.MESH: (_voucher(n, mesh=ELSEWHERE) for n in numbers),
        Reject.KIND: (_with_byte(_voucher(n), KIND_AT, 0x0F) for n in numbers),
        Reject.KIND_SIZE: (
            _with_byte(_statement(Kind.OP, too_long + b"%d" % n, n), KIND_AT, Kind.VOUCHER)
            for n in numbers
        ),
        Reject.SENDER: (_voucher(n, kid=STRANGER) for n in numbers),
        Reject.REPLAY: (ack(n) for n in numbers),
        Reject.BUDGET: (_voucher(n) for n in numbers),
        Reject.SIGNATURE: (_voucher(n) for n in numbers),
        Reject.PAYLOAD: (
            seal_statement(Kind.VOUCHER, BINDING, KID, b"\x1b" + n.to_bytes(8, "big"), signer(KEY))
            for n in numbers
        ),
    }


def _voucher(cum: int, kid: bytes = KID, mesh: Binding = BINDING) -> bytes:
    return _statement(Kind.VOUCHER, encode(Voucher(bytes(16), 0, cum)), cum, kid, mesh)


def _statement(
    kind: Kind, payload: bytes, number: int, kid: bytes = KID, mesh: Binding = BINDING
) -> bytes:
    return seal_statement(kind, mesh, kid, payload, _pretend(number))


def _pretend(number: int) -> Callable[[bytes], bytes]:
    """A signature that costs a whole verification: R is anything, s below the group order."""
    drawn = hashlib.blake2b(b"signature %d" % number).digest()
    return lambda _: drawn[:63] + b"\x00"


def _long_head(frame: bytes) -> bytes:
    """The same with the payload's length in a byte of its own, where it fits into the head."""
    at = VERSION_AT + 1 + len(TAG_HEAD) + TAG_BYTES
    size = frame[at] & 0x1F
    assert frame[at : at + 1] == head(2, size), "the payload is shorter than 24 bytes"
    return frame[:at] + bytes((0x58, size)) + frame[at + 1 :]


def _with_byte(frame: bytes, at: int, value: int) -> bytes:
    return frame[:at] + bytes((value,)) + frame[at + 1 :]
