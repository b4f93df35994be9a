"""Frames: COSE_Sign1 (RFC 9052) with Ed25519 (algorithm -19, RFC 9864) in deterministic CBOR.

    frame      D2 84 bstr(protected) unprotected bstr(payload) 58 40 signature
    statement  protected {1: -19, -65537: kind}
               unprotected {4: kid, -65538: [version, tag]}
    signal     protected {1: -19, 4: kid, -65537: [kind, boot, seq]}
               unprotected {-65538: [version, tag]}
    signed     ["Signature1", protected, aad, payload], where aad is CBOR [mesh id, generation]

A statement (kind below 16) means the same for ever: its signed bytes hold neither the signer nor a
sequence, so every voter signs the same bytes and a certificate need only carry signatures. A signal
carries sender, boot counter and sequence under its signature. The layout has no freedom: one
content gives one sequence of bytes, which `Validator` insists on (R-WIRE-1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from demesh.wire.kinds import FIRST_SIGNAL, FRAME_BYTES_MAX, KIND_BYTES_MAX, WIRE_VERSION, Kind

Sign = Callable[[bytes], bytes]
"""Gives the 64-byte detached Ed25519 signature of a message."""

KID_BYTES = 16
TAG_BYTES = 4
SIGNATURE_BYTES = 64

SIGN1 = b"\xd2\x84"  # tag 18, array of 4
STATEMENT_PROTECTED = b"\xa2\x01\x32\x3a\x00\x01\x00\x00"  # {1: -19, -65537: then the kind
SIGNAL_PROTECTED = b"\xa3\x01\x32\x04\x50"  # {1: -19, 4: then the kid
SIGNAL_SEQUENCE = b"\x3a\x00\x01\x00\x00\x83"  # -65537: [ then kind, boot, seq
STATEMENT_UNPROTECTED = b"\xa2\x04\x50"  # {4: then the kid
SIGNAL_UNPROTECTED = b"\xa1"
VERSION_TAG = b"\x3a\x00\x01\x00\x01\x82"  # -65538: [ then version, tag
TAG_HEAD = b"\x44"
SIGNATURE_HEAD = b"\x58\x40"
SIG_STRUCTURE = b"\x84\x6aSignature1"


@dataclass(frozen=True, slots=True)
class Binding:
    """What every signature is bound to: the mesh (32 bytes) and its generation.

    `version` is what the mesh's frames say in their envelope; no signature covers it.
    """

    mesh_id: bytes
    generation: int
    version: int = WIRE_VERSION

    def __post_init__(self) -> None:
        if len(self.mesh_id) != 32:
            raise ValueError(f"a mesh id is 32 bytes, got {len(self.mesh_id)}")
        if not 0 <= self.generation < 2**32:
            raise ValueError(f"a generation is 0..2^32-1, got {self.generation}")

    @property
    def aad(self) -> bytes:
        """CBOR [mesh id, generation]: COSE's external_aad."""
        return b"\x82" + bstr(self.mesh_id) + head(0, self.generation)

    @property
    def tag(self) -> bytes:
        """The first 4 bytes of the mesh id: tells meshes on one broker apart at once."""
        return self.mesh_id[:TAG_BYTES]


def head(major: int, argument: int) -> bytes:
    """A CBOR head in its shortest form: major type 0..7, argument 0..2^64-1."""
    assert 0 <= argument < 2**64, f"CBOR argument {argument}"
    if argument < 24:
        return bytes((major << 5 | argument,))
    size = 1 if argument < 2**8 else 2 if argument < 2**16 else 4 if argument < 2**32 else 8
    return bytes((major << 5 | 23 + size.bit_length(),)) + argument.to_bytes(size, "big")


def bstr(content: bytes) -> bytes:
    """A CBOR byte string."""
    return head(2, len(content)) + content


def signed_bytes(kind: Kind, binding: Binding, payload: bytes) -> bytes:
    """What is signed in a statement; the same for every signer."""
    assert kind < FIRST_SIGNAL, f"{kind!r} is a signal"
    return _sig_structure(STATEMENT_PROTECTED + head(0, kind), binding, payload)


def statement_frame(
    kind: Kind,
    binding: Binding,
    kid: bytes,
    payload: bytes,
    signature: bytes,
) -> bytes:
    """The frame of a statement whose signature over `signed_bytes` is at hand."""
    assert kind < FIRST_SIGNAL, f"{kind!r} is a signal"
    assert len(kid) == KID_BYTES, f"kid of {len(kid)} bytes"
    protected = STATEMENT_PROTECTED + head(0, kind)
    unprotected = STATEMENT_UNPROTECTED + kid + version_tag(binding)
    return _frame(kind, protected, unprotected, payload, signature)


def seal_statement(kind: Kind, binding: Binding, kid: bytes, payload: bytes, sign: Sign) -> bytes:
    """A signed statement."""
    signature = sign(signed_bytes(kind, binding, payload))
    return statement_frame(kind, binding, kid, payload, signature)


def signal_frame(
    kind: Kind,
    binding: Binding,
    kid: bytes,
    boot: int,
    seq: int,
    payload: bytes,
    sign: Sign,
) -> bytes:
    """A signed signal; a sender uses each (boot, seq) once, with boot durable before the first."""
    assert kind >= FIRST_SIGNAL, f"{kind!r} is a statement"
    assert len(kid) == KID_BYTES, f"kid of {len(kid)} bytes"
    sequence = SIGNAL_SEQUENCE + head(0, kind) + head(0, boot) + head(0, seq)
    protected = SIGNAL_PROTECTED + kid + sequence
    unprotected = SIGNAL_UNPROTECTED + version_tag(binding)
    signature = sign(_sig_structure(protected, binding, payload))
    return _frame(kind, protected, unprotected, payload, signature)


def split(frame: bytes) -> tuple[bytes, bytes, bytes]:
    """(kid, payload, signature) of a statement frame that a Validator has passed before."""
    start = len(SIGN1) + 1 + len(STATEMENT_PROTECTED) + 1 + len(STATEMENT_UNPROTECTED)
    kid = frame[start : start + KID_BYTES]
    _, at = _argument(frame, start + KID_BYTES + len(VERSION_TAG))
    size, at = _argument(frame, at + len(TAG_HEAD) + TAG_BYTES)
    return kid, frame[at : at + size], frame[-SIGNATURE_BYTES:]


def _sig_structure(protected: bytes, binding: Binding, payload: bytes) -> bytes:
    return SIG_STRUCTURE + bstr(protected) + bstr(binding.aad) + bstr(payload)


def version_tag(binding: Binding) -> bytes:
    """The envelope's version and mesh: -65538: [version, tag]."""
    return VERSION_TAG + head(0, binding.version) + TAG_HEAD + binding.tag


def _frame(
    kind: Kind, protected: bytes, unprotected: bytes, payload: bytes, signature: bytes
) -> bytes:
    assert len(signature) == SIGNATURE_BYTES, f"signature of {len(signature)} bytes"
    frame = b"".join(
        (SIGN1, bstr(protected), unprotected, bstr(payload), SIGNATURE_HEAD, signature)
    )
    limit = min(KIND_BYTES_MAX[kind], FRAME_BYTES_MAX)
    assert len(frame) <= limit, f"{kind.name} frame of {len(frame)} bytes is above {limit}"
    return frame


def _argument(data: bytes, at: int) -> tuple[int, int]:
    """The argument of the CBOR head at `at`, and where what follows begins."""
    info = data[at] & 0x1F
    if info < 24:
        return info, at + 1
    size = 1 << (info - 24)
    return int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size
