"""Makes tests/vectors/*.json: frames and signatures, and the verdict everyone must give.

Run `PYTHONPATH=tests python -m vectors.make` after a change of the wire on purpose; a difference in
a vector that was there before is a break of the protocol and needs a new wire version. Keys are
derived from their names, Ed25519 is deterministic, so the files are the same wherever they are
made. What is in v1/ was made so for wire version 1, what is in v2/ for rules version 2, and neither
is ever made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nacl import bindings

from demesh.ledger.rules import RULES_VERSIONS
from demesh.wire.frame import (
    VERSION_TAG,
    Binding,
    bstr,
    head,
    seal_statement,
    signal_frame,
    signed_bytes,
    statement_frame,
    version_tag,
)
from demesh.wire.identity import signer
from demesh.wire.kinds import (
    FIRST_SIGNAL,
    FRAME_BYTES_MAX,
    KIND_BYTES_MAX,
    WIRE_VERSION,
    WIRE_VERSION_OLDEST,
    Kind,
    Reject,
)
from demesh.wire.messages import Want
from demesh.wire.schema import encode
from vectors import letters, nodes
from vectors.payloads import DIGEST, good
from vectors.street import Street, founding_keys, key, kid_of

FOLDER = Path(__file__).parent
STREET = Street(RULES_VERSIONS[-1])
BINDING = STREET.binding
ELSEWHERE = Binding(hashlib.blake2b(b"another mesh", digest_size=32).digest(), BINDING.generation)
LATER = Binding(BINDING.mesh_id, BINDING.generation + 1)

ALICE, BOB, VOTE, STRANGER = (key(name) for name in ("alice", "bob", "alice's votes", "stranger"))
ENROLLED = founding_keys()
SIGN = signer(ALICE)
KID = kid_of(ALICE)

# [NOTARIZE, epoch 0, view 42, digest, rules version]
VOTE_PAYLOAD = b"\x85\x01\x00\x18\x2a" + bstr(DIGEST) + head(0, STREET.rules_version)

GOOD = good(STREET)
STATEMENTS = {kind: GOOD[kind][0][1] for kind in Kind if kind < FIRST_SIGNAL}
SIGNALS = {kind: GOOD[kind][0][1] for kind in Kind if kind >= FIRST_SIGNAL}


def statement(kind: Kind, payload: bytes, binding: Binding = BINDING) -> bytes:
    """Alice's statement."""
    return seal_statement(kind, binding, KID, payload, SIGN)


def true_statement(kind: Kind, payload: bytes) -> bytes:
    """Alice's statement, by the key that signs such: her vote key votes and proposes."""
    pen = VOTE if kind in (Kind.PROPOSAL, Kind.VOTE) else ALICE
    return seal_statement(kind, BINDING, kid_of(pen), payload, signer(pen))


def signal(
    kind: Kind, payload: bytes, boot: int = 5, seq: int = 1, binding: Binding = BINDING
) -> bytes:
    """Alice's signal."""
    return signal_frame(kind, binding, KID, boot, seq, payload, SIGN)


def rewritten(frame: bytes, old: bytes, new: bytes) -> bytes:
    """The frame with its only occurrence of `old` replaced."""
    assert frame.count(old) == 1, f"{old.hex()} occurs {frame.count(old)} times"
    return frame.replace(old, new)


def flipped(frame: bytes, at: int) -> bytes:
    """The frame with one bit changed."""
    changed = bytearray(frame)
    changed[at] ^= 1
    return bytes(changed)


def frames() -> list[tuple[str, bytes, Reject | None]]:
    """(what it is, frame, verdict), to be checked in this order by one validator."""
    voucher = statement(Kind.VOUCHER, STATEMENTS[Kind.VOUCHER])
    ack = signal(Kind.ACK, SIGNALS[Kind.ACK], seq=100)
    rows: list[tuple[str, bytes, Reject | None]] = []
    for kind, payload in STATEMENTS.items():
        rows.append((f"statement {kind.name}", true_statement(kind, payload), None))
    rows += [(name, frame, None) for name, frame in _more_good()]
    for seq, (kind, payload) in enumerate(SIGNALS.items()):
        rows.append((f"signal {kind.name}", signal(kind, payload, seq=seq), None))
    rows += [
        ("a statement again", voucher, None),
        *_bad_envelopes(voucher, ack),
        *_bad_contexts(voucher, ack),
        *_replays(ack),
        *_bad_signatures(voucher),
        *_bad_payloads(),
    ]
    return rows


def _more_good() -> Iterator[tuple[str, bytes]]:
    """What else a kind may be, signed by Alice; signals are of an earlier boot."""
    seq = 0
    for kind, payloads in GOOD.items():
        for name, payload in payloads[1:]:
            if kind < FIRST_SIGNAL:
                yield f"statement {kind.name}: {name}", true_statement(kind, payload)
            else:
                yield f"signal {kind.name}: {name}", signal(kind, payload, boot=3, seq=seq)
                seq += 1


def _bad_envelopes(voucher: bytes, ack: bytes) -> list[tuple[str, bytes, Reject | None]]:
    kind = b"\x3a\x00\x01\x00\x00"
    version = VERSION_TAG + head(0, BINDING.version)
    start = voucher.index(BINDING.tag) + 4  # of the payload's head
    size = voucher[start + 1]
    long_head = voucher[:start] + b"\x59\x00" + voucher[start + 1 :]
    indefinite = voucher[:start] + b"\x5f" + voucher[start:-66] + b"\xff" + voucher[-66:]
    largest = bytes(FRAME_BYTES_MAX)
    return [
        ("nothing", b"", Reject.SIZE),
        ("a byte more than the largest frame", largest + b"\0", Reject.SIZE),
        ("the largest frame, of zeros", largest, Reject.SHAPE),
        ("text", b"hello", Reject.SHAPE),
        ("another tag", b"\xd3" + voucher[1:], Reject.SHAPE),
        ("an array of 5", b"\xd2\x85" + voucher[2:], Reject.SHAPE),
        ("cut short", voucher[:-1], Reject.SHAPE),
        ("a byte too many", voucher + b"\0", Reject.SHAPE),
        ("payload longer than the frame", flipped(voucher, start + 1)[:-66], Reject.SHAPE),
        ("another algorithm", rewritten(voucher, b"\x01\x32\x3a", b"\x01\x27\x3a"), Reject.SHAPE),
        ("a signature of 63", voucher[:-66] + b"\x58\x3f" + voucher[-63:], Reject.SHAPE),
        ("kind as text", rewritten(voucher, kind + b"\x05", kind + b"\x65"), Reject.SHAPE),
        ("a payload head of two bytes for one", long_head, Reject.CANONICAL),
        ("an indefinite payload", indefinite, Reject.CANONICAL),
        (
            "a kind of two bytes for one",
            rewritten(voucher, b"\x49\xa2\x01", b"\x4a\xa2\x01").replace(
                kind + b"\x05", kind + b"\x18\x05"
            ),
            Reject.CANONICAL,
        ),
        (
            "a sequence of two bytes for one",
            rewritten(
                ack_with(23), _protected_head(ack_with(23)), _protected_head(ack_with(24))
            ).replace(b"\x83\x11\x05\x17", b"\x83\x11\x05\x18\x17"),
            Reject.CANONICAL,
        ),
        (
            "a version of two bytes for one",
            rewritten(voucher, version, VERSION_TAG + b"\x18" + version[-1:]),
            Reject.CANONICAL,
        ),
        ("shape is judged from left to right", long_head[:-1], Reject.CANONICAL),
        ("size of the payload is the voucher's", voucher[: start + 2 + size], Reject.SHAPE),
        ("an unprotected header too many", _with_extra_header(ack), Reject.SHAPE),
    ]


def ack_with(seq: int) -> bytes:
    """An ACK of boot 5 with this sequence."""
    return signal(Kind.ACK, SIGNALS[Kind.ACK], seq=seq)


def _protected_head(frame: bytes) -> bytes:
    """Head and first byte of a signal's protected header."""
    return frame[2 : frame.index(b"\xa3\x01\x32") + 3]


def _with_extra_header(signal_: bytes) -> bytes:
    at = signal_.index(b"\xa1\x3a\x00\x01\x00\x01")
    return signal_[:at] + b"\xa2\x03\x00" + signal_[at + 1 :]


def _bad_contexts(voucher: bytes, ack: bytes) -> list[tuple[str, bytes, Reject | None]]:
    kind = b"\x3a\x00\x01\x00\x00"
    body = STATEMENTS[Kind.VOUCHER]
    last_version, next_version, far_version = (
        statement_frame(Kind.VOUCHER, replace(BINDING, version=one), KID, body, voucher[-64:])
        for one in (WIRE_VERSION_OLDEST, WIRE_VERSION + 1, 300)
    )
    as_signal = _as_signal_of(Kind.VOUCHER)
    as_statement = rewritten(voucher, kind + b"\x05", kind + b"\x11")
    large = head(2, KIND_BYTES_MAX[Kind.VOUCHER]) + bytes(KIND_BYTES_MAX[Kind.VOUCHER])
    oversize = rewritten(statement(Kind.OP, large), kind + b"\x04", kind + b"\x05")
    stranger = seal_statement(Kind.VOUCHER, BINDING, kid_of(STRANGER), body, signer(STRANGER))
    return [
        ("the version before", last_version, None),
        ("the next version", next_version, Reject.VERSION),
        ("a far version", far_version, Reject.VERSION),
        ("another mesh", statement(Kind.VOUCHER, body, ELSEWHERE), Reject.MESH),
        ("kind 0", rewritten(voucher, kind + b"\x05", kind + b"\x00"), Reject.KIND),
        ("kind 15", rewritten(voucher, kind + b"\x05", kind + b"\x0f"), Reject.KIND),
        ("a signal's kind in a statement", as_statement, Reject.KIND),
        ("a statement's kind in a signal", as_signal, Reject.KIND),
        ("kind 32", _as_signal_of(32), Reject.KIND),
        ("kind 255", _as_signal_of(255), Reject.KIND),
        ("kind 2^64-1", _as_signal_of(2**64 - 1), Reject.KIND),
        ("a voucher above its limit", oversize, Reject.KIND_SIZE),
        ("a stranger", stranger, Reject.SENDER),
    ]


def _as_signal_of(kind: int) -> bytes:
    """Alice's signal of any kind number, truly signed."""
    protected = b"\xa3\x01\x32\x04\x50" + KID + b"\x3a\x00\x01\x00\x00\x83"
    protected += head(0, kind) + head(0, 5) + head(0, 101)
    payload = SIGNALS[Kind.ACK]
    signed = b"\x84\x6aSignature1" + bstr(protected) + bstr(BINDING.aad) + bstr(payload)
    unprotected = b"\xa1" + version_tag(BINDING)
    return b"\xd2\x84" + bstr(protected) + unprotected + bstr(payload) + b"\x58\x40" + SIGN(signed)


def _replays(ack: bytes) -> list[tuple[str, bytes, Reject | None]]:
    forged = flipped(signal(Kind.ACK, SIGNALS[Kind.ACK], seq=2**64 - 1), -1)
    return [
        ("a jump of the sequence", ack, None),
        ("the same signal again", ack, Reject.REPLAY),
        ("63 behind the highest", ack_with(37), None),
        ("64 behind the highest", ack_with(36), Reject.REPLAY),
        ("the last boot", signal(Kind.ACK, SIGNALS[Kind.ACK], 4, 500), Reject.REPLAY),
        ("a forgery of the greatest sequence", forged, Reject.SIGNATURE),
        ("which does not move the window", ack_with(101), None),
        ("the next boot", signal(Kind.ACK, SIGNALS[Kind.ACK], 6, 0), None),
        ("the boot before", ack_with(102), Reject.REPLAY),
        ("boot and sequence of 8 bytes", signal(Kind.WANT, encode(Want(1, 0)), 2**63, 2**63), None),
    ]


def _bad_signatures(voucher: bytes) -> list[tuple[str, bytes, Reject | None]]:
    body = STATEMENTS[Kind.VOUCHER]
    as_bob = rewritten(voucher, KID, kid_of(BOB))
    as_op = rewritten(voucher, b"\x3a\x00\x01\x00\x00\x05", b"\x3a\x00\x01\x00\x00\x04")
    return [
        ("one bit of the signature", flipped(voucher, -1), Reject.SIGNATURE),
        ("one bit of the payload", flipped(voucher, -67), Reject.SIGNATURE),
        ("another enrolled sender's id", as_bob, Reject.SIGNATURE),
        ("another kind", as_op, Reject.SIGNATURE),
        ("another generation", statement(Kind.VOUCHER, body, LATER), Reject.SIGNATURE),
        ("s plus the group's order", _with_s_plus_order(voucher), Reject.SIGNATURE),
    ]


def _bad_payloads() -> list[tuple[str, bytes, Reject | None]]:
    payloads = {
        "empty": b"",
        "two items": b"\x01\x01",
        "a long integer": b"\x18\x17",
        "an indefinite array": b"\x9f\xff",
        "a float": b"\xf9\x00\x00",
        "a tag": b"\xc1\x00",
        "undefined": b"\xf7",
        "keys out of order": b"\xa2\x02\x00\x01\x00",
        "a key twice": b"\xa2\x01\x00\x01\x00",
        "text that is no UTF-8": b"\x61\xff",
        "17 arrays deep": b"\x81" * 17 + b"\x00",
        "cut short": b"\x82\x01",
    }
    good = {"16 arrays deep": b"\x81" * 16 + b"\x00", "a map in order": b"\xa2\x01\x00\x18\x18\x00"}
    return [
        *((f"payload: {n}", statement(Kind.OP, p), Reject.PAYLOAD) for n, p in payloads.items()),
        *((f"payload: {n}", statement(Kind.OP, p), None) for n, p in good.items()),
    ]


# -- signatures on which implementations of Ed25519 disagree --------------------------------------

ORDER = 2**252 + 27742317777372353535851937790883648493
# A point of order 8; with it comes the whole torsion subgroup.
TORSION = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
NEUTRAL = b"\x01" + bytes(31)
LONG_NEUTRAL = b"\xee" + b"\xff" * 30 + b"\x7f"  # y = p + 1


def _with_s_plus_order(frame: bytes) -> bytes:
    s = int.from_bytes(frame[-32:], "little") + ORDER
    return frame[:-32] + s.to_bytes(32, "little")


def _scalar(content: bytes) -> int:
    return int.from_bytes(hashlib.sha512(content).digest(), "little") % ORDER


def _times_base(scalar: int) -> bytes:
    return bindings.crypto_scalarmult_ed25519_base_noclamp(scalar.to_bytes(32, "little"))


def signatures() -> list[tuple[str, bytes, bytes, bytes, bool, bool]]:
    """(what it is, public key, message, signature, whether enrolled, whether it holds)."""
    message = b"the same verdict on every machine"
    secret, nonce = _scalar(b"secret"), _scalar(b"nonce")
    public, commitment = _times_base(secret), _times_base(nonce)

    def close(r: bytes, a: bytes, r_scalar: int, a_scalar: int = secret) -> bytes:
        s = (r_scalar + _scalar(r + a + message) * a_scalar) % ORDER
        return r + s.to_bytes(32, "little")

    mixed_r = bindings.crypto_core_ed25519_add(commitment, TORSION)
    mixed_a = bindings.crypto_core_ed25519_add(public, TORSION)
    good = close(commitment, public, nonce)
    s = int.from_bytes(good[32:], "little")
    large_s = good[:32] + (s + ORDER).to_bytes(32, "little")
    return [
        ("plain", public, message, good, True, True),
        ("another message", public, message + b".", good, True, False),
        ("s not below the order", public, message, large_s, True, False),
        ("R with torsion", public, message, close(mixed_r, public, nonce), True, False),
        ("R neutral", public, message, close(NEUTRAL, public, 0), True, False),
        ("R of order 8", public, message, close(TORSION, public, 0), True, False),
        ("R neutral, not canonical", public, message, close(LONG_NEUTRAL, public, 0), True, False),
        ("key with torsion", mixed_a, message, close(commitment, mixed_a, nonce), False, False),
        ("key neutral", NEUTRAL, message, close(commitment, NEUTRAL, nonce, 0), False, False),
        ("key of order 8", TORSION, message, close(commitment, TORSION, nonce, 0), False, False),
        ("key not on the curve", b"\x02" + bytes(31), message, good, False, False),
        ("key not canonical", b"\xee" + b"\xff" * 30 + b"\x7f", message, good, False, False),
        ("a signature of 63 bytes", public, message, good[:63], True, False),
        ("no signature", public, message, b"", True, False),
    ]


# -- files ----------------------------------------------------------------------------------------


def documents() -> dict[str, str]:
    """File name -> content."""
    context = {
        "mesh_id": BINDING.mesh_id.hex(),
        "generation": BINDING.generation,
        "version": BINDING.version,
        "genesis": encode(STREET.genesis).hex(),
        "enrolled": [
            {"kid": kid_of(key).hex(), "public_key": bytes(key.verify_key).hex()}
            for key in ENROLLED
        ],
        "statement_signed_bytes": signed_bytes(Kind.VOTE, BINDING, VOTE_PAYLOAD).hex(),
        "vote_payload": VOTE_PAYLOAD.hex(),
    }
    frame_rows = [
        {"name": name, "verdict": verdict.name if verdict else "OK", **_compressed(frame)}
        for name, frame, verdict in frames()
    ]
    signature_rows = [
        {
            "name": name,
            "public_key": public.hex(),
            "message": message.hex(),
            "signature": signature.hex(),
            "enrolled": enrolled,
            "holds": holds,
        }
        for name, public, message, signature, enrolled, holds in signatures()
    ]
    return {
        "frames.json": _json({**context, "frames": frame_rows}),
        "signatures.json": _json({"signatures": signature_rows}),
        "sealed.json": _json(letters.document(BINDING, _direct())),
        "node.json": _json(nodes.document(STREET)),
    }


def _direct() -> dict[str, bytes]:
    """Frames to seal: a short one, and one whose length takes two bytes."""
    found = {kind: signal(kind, SIGNALS[kind], boot=5) for kind in (Kind.ACK, Kind.BLOCKS)}
    voucher = statement(Kind.VOUCHER, STATEMENTS[Kind.VOUCHER])
    return {f"{kind.name}": frame for kind, frame in found.items()} | {"VOUCHER": voucher}


def _compressed(frame: bytes) -> dict[str, str | int]:
    """Hex; of a frame of zeros only their number."""
    if len(frame) > 4096 and not any(frame):
        return {"zeros": len(frame)}
    return {"hex": frame.hex()}


def _json(document: object) -> str:
    return json.dumps(document, indent=1) + "\n"


if __name__ == "__main__":
    for name, content in documents().items():
        (FOLDER / name).write_text(content, encoding="ascii")
