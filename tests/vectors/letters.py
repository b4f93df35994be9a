"""Sealed messages, good and bad: what one device says to another from wire version 2 on."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from demesh.wire.frame import Binding, bstr, head, version_tag
from demesh.wire.kinds import FRAME_BYTES_MAX, WIRE_VERSION, Reject
from demesh.wire.sealing import SEALED_BYTES_MAX, Sealer
from vectors.street import id_of, key

SENDER, RECEIVER = "alice", "bob"
BOOT = 5


def sealed(
    binding: Binding, frame: bytes, to: str = RECEIVER, boot: int = BOOT, count: int = 1
) -> bytes:
    """What Alice seals as her `count`-th message of a boot."""
    sealer, peer = Sealer(key(SENDER), binding, boot), bytes(key(to).verify_key)
    return [sealer.seal(peer, frame) for _ in range(count)][-1]


def good(binding: Binding, frames: dict[str, bytes]) -> list[dict[str, object]]:
    """Frames and what is sent of them; of the largest one only the hash."""
    rows: list[dict[str, object]] = []
    places = ((BOOT, 1), (BOOT, 2), (2**64 - 1, 300))
    for (name, frame), (boot, count) in zip(frames.items(), places, strict=True):
        closed = sealed(binding, frame, boot=boot, count=count)
        numbers = {"boot": boot, "count": count}
        rows.append({"name": name, **numbers, "frame": frame.hex(), "sealed": closed.hex()})
    largest = sealed(binding, bytes(FRAME_BYTES_MAX), boot=BOOT + 1)
    rows.append(
        {
            "name": "the largest frame, of zeros",
            "boot": BOOT + 1,
            "count": 1,
            "frame_zeros": FRAME_BYTES_MAX,
            "sealed_blake2b_256": hashlib.blake2b(largest, digest_size=32).hexdigest(),
        }
    )
    return rows


def bad(binding: Binding, frame: bytes) -> list[tuple[str, bytes, Reject]]:
    """(what it is, bytes, verdict) of what Bob gets on Alice's topic."""
    whole = sealed(binding, frame)
    versioned, kid, size = version_tag(binding), id_of(SENDER), len(frame) + 16
    start = whole[: whole.index(versioned) + len(versioned)]
    box = whole[-size:]
    assert whole == start + bstr(box)

    def says(version: int) -> bytes:
        return whole.replace(versioned, version_tag(replace(binding, version=version)), 1)

    other = Binding(bytes(32), binding.generation, binding.version)
    at_nonce = whole.index(kid) + len(kid) + 3
    return [
        ("nothing", b"", Reject.SIZE),
        ("a byte more than the largest", bytes(SEALED_BYTES_MAX + 1), Reject.SIZE),
        ("a frame as it is", frame, Reject.SEAL),
        ("another tag", b"\xd1" + whole[1:], Reject.SEAL),
        ("an array of 4", whole.replace(b"\xd0\x83", b"\xd0\x84", 1), Reject.SEAL),
        ("something protected", whole.replace(b"\x83\x40", b"\x83\x41\xa0", 1), Reject.SEAL),
        ("another sender's id", whole.replace(kid, id_of("carol"), 1), Reject.SEAL),
        (
            "another algorithm",
            whole.replace(b"\x00\x01\x00\x02", b"\x00\x01\x00\x03", 1),
            Reject.SEAL,
        ),
        ("wire version 1", says(1), Reject.VERSION),
        ("a later wire version", says(WIRE_VERSION + 1), Reject.VERSION),
        ("a far wire version", says(300), Reject.VERSION),
        ("another mesh", sealed(other, frame), Reject.MESH),
        ("for somebody else", sealed(binding, frame, to="carol"), Reject.SEAL),
        ("one bit of the nonce", _flipped(whole, at_nonce), Reject.SEAL),
        ("one bit of the authenticator", _flipped(whole, -size), Reject.SEAL),
        ("one bit of the content", _flipped(whole, -1), Reject.SEAL),
        ("cut short", whole[:-1], Reject.SEAL),
        ("a byte too many", whole + b"\0", Reject.SEAL),
        ("a long head", start + b"\x59" + size.to_bytes(2, "big") + box, Reject.SEAL),
        ("an indefinite box", start + b"\x5f" + bstr(box) + b"\xff", Reject.SEAL),
        ("an array for a box", start + head(4, 0), Reject.SEAL),
        ("no box", start, Reject.SEAL),
        ("an empty box", start + b"\x40", Reject.SEAL),
    ]


def _flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


def document(binding: Binding, frames: dict[str, bytes]) -> dict[str, object]:
    """What sealed.json says."""
    refused = bad(binding, next(iter(frames.values())))
    return {
        "mesh_id": binding.mesh_id.hex(),
        "generation": binding.generation,
        "version": binding.version,
        "sender": _keys(SENDER),
        "receiver": _keys(RECEIVER),
        "good": good(binding, frames),
        "bad": [
            {"name": name, "verdict": verdict.name}
            | ({"hex": content.hex()} if any(content) else {"zeros": len(content)})
            for name, content, verdict in refused
        ],
    }


def _keys(name: str) -> dict[str, str]:
    return {
        "device_key": bytes(key(name)).hex(),
        "public_key": bytes(key(name).verify_key).hex(),
        "kid": id_of(name).hex(),
        "x25519_public_key": bytes(key(name).verify_key.to_curve25519_public_key()).hex(),
    }
