"""Ed25519 keys and the ids that follow from them; the one place that says if a signature holds."""

from __future__ import annotations

import hashlib

from nacl import bindings
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from demesh.wire.frame import SIGNATURE_BYTES, Sign

ID_BYTES = 16
PUBLIC_KEY_BYTES = 32


def device_id(public_key: bytes) -> bytes:
    """The id (16 bytes) of a public key, whoever holds it: device, vote key or owner."""
    return hashlib.blake2b(public_key, digest_size=ID_BYTES).digest()


def signer(key: SigningKey) -> Sign:
    """The function that signs with `key`."""
    return lambda message: key.sign(message).signature


def is_public_key(public_key: bytes) -> bool:
    """Whether these are 32 bytes of a canonical point of the main subgroup, not of small order."""
    return len(public_key) == PUBLIC_KEY_BYTES and bool(
        bindings.crypto_core_ed25519_is_valid_point(public_key)
    )


def signed_by(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` holds: libsodium's rule, cofactorless (docs/protocol.md, R-WIRE-6).

    Every machine must give the same verdict, so nothing else in Demesh may verify a signature, save
    the compiled validator, which calls the same function.
    """
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True
