"""What one would write in an afternoon: COSE_Sign1 by cbor2 and VerifyKey, as their manuals say."""

from __future__ import annotations

from collections.abc import Sequence

import cbor2
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from demesh.wire.frame import Binding

KID = 4
SIGNATURE1 = "Signature1"


class Usual:
    """Checks statements: signer and signature, and nothing of what `Validator` insists on."""

    def __init__(self, binding: Binding, keys: dict[bytes, bytes]) -> None:
        self._aad = binding.aad
        self._keys = {kid: VerifyKey(key) for kid, key in keys.items()}

    def check_batch(self, frames: Sequence[bytes]) -> list[object]:
        """The payload's content of each frame, or None."""
        return [self._check(frame) for frame in frames]

    def _check(self, frame: bytes) -> object:
        protected, unprotected, payload, signature = cbor2.loads(frame).value
        structure = cbor2.dumps([SIGNATURE1, protected, self._aad, payload])
        try:
            self._keys[unprotected[KID]].verify(structure, signature)
        except (KeyError, BadSignatureError):
            return None
        return cbor2.loads(payload)
