"""Sealed frames: what one device says to another, closed to everybody else (R-SEA-1).

    sealed  D0 83 40 {1: -65539, 4: kid, 5: nonce, -65538: [version, tag]} bstr(box)

The layout is COSE_Encrypt0 (RFC 9052) with an empty protected header, as for any algorithm without
associated data. The box is NaCl's crypto_box (X25519, XSalsa20, Poly1305) of a whole frame, between
the device keys of both, each converted to its Montgomery form; `kid` is the sender. A box that
opens was made by the sender or by ourselves, so a forger is found out for a tenth of what a
signature costs; what lies in it is validated as any other frame and stays evidence by itself.
"""

from __future__ import annotations

import hashlib

from nacl.exceptions import CryptoError
from nacl.public import Box
from nacl.signing import SigningKey, VerifyKey

from demesh.wire.frame import TAG_HEAD, VERSION_TAG, Binding, bstr, head, version_tag
from demesh.wire.keys import device_id
from demesh.wire.kinds import FRAME_BYTES_MAX, SEALED_SINCE, WIRE_VERSION, Reject

SEALED = b"\xd0\x83\x40\xa4\x01\x3a\x00\x01\x00\x02\x04\x50"  # tag 16, [h'', {1: -65539, 4: kid
NONCE_HEAD = b"\x05\x58\x18"  # 5: then the nonce
NONCE_BYTES = 24

# The largest frame, the box's authenticator and this envelope.
SEALED_BYTES_MAX = FRAME_BYTES_MAX + 128

# Peers whose shared key is remembered: making one costs as much as a signature.
BOXES_MAX = 1024


class Sealer:
    """Boxes between one device, in one boot, and its peers, who are named by their device keys."""

    def __init__(self, device_key: SigningKey, binding: Binding, boot: int) -> None:
        self._private = device_key.to_curve25519_private_key()
        self._kid = device_id(bytes(device_key.verify_key))
        self._secret = hashlib.blake2b(b"nonces", key=bytes(device_key), digest_size=32).digest()
        self._binding, self._boot = binding, boot
        self._sealed = 0
        self._boxes: dict[bytes, Box] = {}

    def seal(self, peer: bytes, frame: bytes) -> bytes:
        """A frame, for this peer only."""
        self._sealed += 1
        # R-SEA-2: another frame has another nonce even if the counters begin anew, in a mesh that
        # is founded again or from a data folder that was put back.
        said = self._binding.aad + self._boot.to_bytes(8, "big") + self._sealed.to_bytes(8, "big")
        nonce = hashlib.blake2b(said + frame, key=self._secret, digest_size=NONCE_BYTES).digest()
        box = self._box(peer).encrypt(frame, nonce).ciphertext
        start = SEALED + self._kid + NONCE_HEAD + nonce + version_tag(self._binding)
        return start + bstr(box)

    def open(self, peer: bytes, sealed: bytes) -> bytes | Reject:
        """The frame in what this peer sealed for us; SIZE, VERSION, MESH or SEAL (R-SEA-3)."""
        if not 0 < len(sealed) <= SEALED_BYTES_MAX:
            return Reject.SIZE
        start = SEALED + device_id(peer) + NONCE_HEAD
        at = len(start) + NONCE_BYTES
        nonce, versioned = sealed[len(start) : at], sealed[at : at + len(VERSION_TAG)]
        if not sealed.startswith(start) or versioned != VERSION_TAG:
            return Reject.SEAL  # whatever it is, it is not sealed by this peer
        at += len(VERSION_TAG)
        version, tag, item = sealed[at : at + 1], sealed[at + 1 : at + 6], sealed[at + 6 :]
        if not SEALED_SINCE <= int.from_bytes(version, "big") <= WIRE_VERSION:
            return Reject.VERSION
        if tag != TAG_HEAD + self._binding.tag:
            return Reject.MESH
        box = _content(item)
        try:
            return Reject.SEAL if box is None else self._box(peer).decrypt(box, nonce)
        except CryptoError:
            return Reject.SEAL

    def _box(self, peer: bytes) -> Box:
        box = self._boxes.get(peer)
        if box is None:
            box = Box(self._private, VerifyKey(peer).to_curve25519_public_key())
            if len(self._boxes) >= BOXES_MAX:
                del self._boxes[next(iter(self._boxes))]
            self._boxes[peer] = box
        return box


def _content(item: bytes) -> bytes | None:
    """What is in a CBOR byte string with the shortest head, and nothing behind it."""
    for size in (1, 2, 3, 5):
        content = item[size:]
        if len(item) >= size and item[:size] == head(2, len(content)):
            return content
    return None
