"""The envelope of a frame in pure Python, read from left to right (R-WIRE-1)."""

from __future__ import annotations

from dataclasses import dataclass

from demesh.wire.frame import (
    KID_BYTES,
    SIGN1,
    SIGNAL_PROTECTED,
    SIGNAL_SEQUENCE,
    SIGNAL_UNPROTECTED,
    SIGNATURE_BYTES,
    SIGNATURE_HEAD,
    STATEMENT_PROTECTED,
    STATEMENT_UNPROTECTED,
    TAG_BYTES,
    TAG_HEAD,
    VERSION_TAG,
)
from demesh.wire.kinds import Reject


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fields of a frame and where its parts lie; `boot` and `seq` are 0 in a statement."""

    signal: bool
    kind: int
    kid: bytes
    boot: int
    seq: int
    version: int
    tag: bytes
    protected: tuple[int, int]  # start and end, CBOR head included
    payload: tuple[int, int]
    payload_head: int  # bytes of the payload's CBOR head


class _RejectedError(Exception):
    def __init__(self, reject: Reject) -> None:
        self.reject = reject


class _Cursor:
    """Reads one expected thing after the other from `data[at:end]`; raises _RejectedError."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data = data
        self.at = at
        self.end = end

    def expect(self, constant: bytes) -> None:
        if self.take(len(constant)) != constant:
            raise _RejectedError(Reject.SHAPE)

    def take(self, size: int) -> bytes:
        if size > self.end - self.at:
            raise _RejectedError(Reject.SHAPE)
        self.at += size
        return self.data[self.at - size : self.at]

    def argument(self, major: int) -> int:
        """The argument of a head of this major type."""
        first = self.take(1)[0]
        info = first & 0x1F
        if first >> 5 != major or 28 <= info <= 30:
            raise _RejectedError(Reject.SHAPE)
        if info == 31:
            raise _RejectedError(Reject.CANONICAL)
        if info < 24:
            return info
        size = 1 << (info - 24)
        value = int.from_bytes(self.take(size), "big")
        if value < (24 if size == 1 else 1 << (4 * size)):
            raise _RejectedError(Reject.CANONICAL)
        return value

    def finish(self) -> None:
        if self.at != self.end:
            raise _RejectedError(Reject.SHAPE)


def read_envelope(frame: bytes) -> Envelope | Reject:
    """The envelope of a frame of any version, mesh and kind; SHAPE or CANONICAL if it is none."""
    try:
        return _envelope(_Cursor(frame, 0, len(frame)))
    except _RejectedError as fault:
        return fault.reject


def _envelope(outer: _Cursor) -> Envelope:
    outer.expect(SIGN1)
    protected = outer.at
    size = outer.argument(2)
    inner = _Cursor(outer.data, outer.at, outer.at + size)
    outer.take(size)
    boot = seq = 0
    signal = outer.data[inner.at : inner.at + 1] == SIGNAL_PROTECTED[:1] and size > 0
    if signal:
        inner.expect(SIGNAL_PROTECTED)
        kid = inner.take(KID_BYTES)
        inner.expect(SIGNAL_SEQUENCE)
        kind = inner.argument(0)
        boot = inner.argument(0)
        seq = inner.argument(0)
        inner.finish()
        outer.expect(SIGNAL_UNPROTECTED)
    else:
        inner.expect(STATEMENT_PROTECTED)
        kind = inner.argument(0)
        inner.finish()
        outer.expect(STATEMENT_UNPROTECTED)
        kid = outer.take(KID_BYTES)
    protected_end = inner.end
    outer.expect(VERSION_TAG)
    version = outer.argument(0)
    outer.expect(TAG_HEAD)
    tag = outer.take(TAG_BYTES)
    payload = outer.at
    size = outer.argument(2)
    payload_head = outer.at - payload
    outer.take(size)
    payload_end = outer.at
    outer.expect(SIGNATURE_HEAD)
    outer.take(SIGNATURE_BYTES)
    outer.finish()
    return Envelope(
        signal,
        kind,
        kid,
        boot,
        seq,
        version,
        tag,
        (protected, protected_end),
        (payload, payload_end),
        payload_head,
    )
