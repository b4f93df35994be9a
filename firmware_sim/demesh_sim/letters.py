"""Sealed messages, opened for witnesses: the simulation holds every board's keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO

import cbor2
from nacl.public import Box
from nacl.signing import SigningKey

from demesh.ports import Publish
from demesh.wire import identity

SEALED = b"\xd0\x83"
HEADER_NONCE = 5


class Letters:
    """Reads what one board seals for another: by itself, with the sender's key."""

    def __init__(self, device_keys: Iterable[SigningKey]) -> None:
        self._keys = {identity.device_id(bytes(key.verify_key)): key for key in device_keys}

    def opened(self, sender: bytes, message: Publish) -> Publish:
        """The message as its receiver sees it, if that is one of the boards."""
        if not message.payload.startswith(SEALED):
            return message
        receiver = identity.parse(message.topic.split("/")[-2])
        if receiver not in self._keys:
            return message
        _, headers, box = cbor2.load(BytesIO(message.payload[1:]))
        public = self._keys[receiver].verify_key.to_curve25519_public_key()
        private = self._keys[sender].to_curve25519_private_key()
        return replace(message, payload=Box(private, public).decrypt(box, headers[HEADER_NONCE]))
