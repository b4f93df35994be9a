"""What is approved off the device: the word of one key for one change in one mesh.

An approval is carried by an op that anybody may submit. What it signs begins with a name that each
kind of change has for itself, the mesh and its generation, so that it is of no use for another
change, for another kind of change, or in another mesh (R-WIRE-5). What keeps it from being of use
twice is one of the fields: a serial, or an id that is remembered.
"""

from __future__ import annotations

from enum import StrEnum

import cbor2
from nacl.signing import SigningKey

from demesh.wire.frame import Binding
from demesh.wire.keys import device_id, signed_by, signer
from demesh.wire.opbodies import Approval

Fields = tuple[bytes | int | str, ...]


class Domain(StrEnum):
    """The kinds of changes, by the names that what is signed begins with."""

    MEMBER = "demesh member 1"


def approve(key: SigningKey, binding: Binding, domain: Domain, fields: Fields) -> Approval:
    """The word of the holder of `key` for the change that `fields` say."""
    signature = signer(key)(_approved_bytes(binding, domain, fields))
    return Approval(device_id(bytes(key.verify_key)), signature)


def holds(
    approval: Approval, public_key: bytes, binding: Binding, domain: Domain, fields: Fields
) -> bool:
    """Whether the holder of this key approved just this change in this mesh (R-WIRE-5)."""
    return approval.owner == device_id(public_key) and signed_by(
        public_key, _approved_bytes(binding, domain, fields), approval.signature
    )


def _approved_bytes(binding: Binding, domain: Domain, fields: Fields) -> bytes:
    said = [domain.value, binding.mesh_id, binding.generation, *fields]
    return cbor2.dumps(said, canonical=True)
