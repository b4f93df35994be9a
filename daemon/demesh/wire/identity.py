"""Who is who: ids and their text, device certificates, the genesis of a mesh.

An id is BLAKE2b-128 of an Ed25519 public key, so nobody chooses it and it needs no registry. People
see it as 26 characters of base32 and a check character, which finds every single wrong character
and every swap of two. Signatures here are over deterministic CBOR that begins with the name of
what is signed, so none of them can ever pass for a frame or for one another (R-WIRE-5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import cbor2
from nacl.signing import SigningKey

from demesh.wire.approvals import Domain, Fields, approve, holds
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.frame import Binding, Sign
from demesh.wire.keys import ID_BYTES, device_id, is_public_key, signed_by, signer
from demesh.wire.kinds import wire_version
from demesh.wire.messages import Genesis, GenesisBody
from demesh.wire.opbodies import Approval
from demesh.wire.schema import decode, encode

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
TEXT_CHARS = 27  # 26 for 128 bits, one to check them
PPM = 1_000_000

# A certificate of this many signatures is half of what its frame may hold; a mesh is at its best
# with 31 voters, and more devices than that observe or form a neighbourhood of their own.
VOTERS_MAX = 128

# The weight of all voters together: a sum fits the integers that single weights fit.
WEIGHT_MAX = 2**32 - 1

__all__ = [
    "approve_member",
    "binding_of",
    "certify_device",
    "check_approval",
    "check_certificate",
    "check_genesis",
    "device_id",
    "is_public_key",
    "make_genesis",
    "mesh_id",
    "parse",
    "signed_by",
    "signer",
    "text",
]

_VALUE_OF = {character: value for value, character in enumerate(ALPHABET)}
_CERTIFICATE_DOMAIN = "demesh device certificate 1"
_GENESIS_DOMAIN = "demesh genesis 1"

# -- ids ------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def text(identity: bytes) -> str:
    """The text of an id (16 bytes): 27 characters of base32, the last one a check (R-ID-7)."""
    if len(identity) != ID_BYTES:
        raise ValueError(f"an id is {ID_BYTES} bytes, got {len(identity)}")
    bits = int.from_bytes(identity, "big") << 2
    values = [bits >> shift & 31 for shift in range(125, -1, -5)]
    values.append(_checksum([*values, 0]))
    return "".join(ALPHABET[value] for value in values)


def parse(written: str) -> bytes:
    """The id behind a text; ValueError says what is wrong. One id has one text."""
    if len(written) != TEXT_CHARS:
        raise ValueError(f"{written!r}: an id has {TEXT_CHARS} characters, got {len(written)}")
    for place, character in enumerate(written, 1):
        if character not in _VALUE_OF:
            raise ValueError(
                f"{written!r}: character {place} is {character!r}; ids use a-z and 2-7"
            )
    values = [_VALUE_OF[character] for character in written]
    if _checksum(values) != 0:
        raise ValueError(f"{written!r}: the check character does not fit; is there a typing error?")
    bits = 0
    for value in values[:-1]:
        bits = bits << 5 | value
    if bits & 3:
        raise ValueError(f"{written!r}: not an id; its last bits should be 0")
    return (bits >> 2).to_bytes(ID_BYTES, "big")


def _checksum(values: Sequence[int]) -> int:
    """Sum of v_i * 2^i in GF(32), x^5+x^2+1.

    2 has order 31, more than the 27 places: no two weigh the same, so swaps show.
    """
    total = 0
    for value in values:
        total <<= 1
        if total & 32:
            total ^= 0b100101
        total ^= value
    return total


# -- certificates ---------------------------------------------------------------------------------


def certify_device(
    owner: SigningKey, name: str, device_class: str, device_key: bytes, vote_key: bytes
) -> DeviceCertificate:
    """The owner's certificate for a device; ValueError if one of its keys is no public key."""
    for role, key in (("device", device_key), ("vote", vote_key)):
        if not is_public_key(key):
            raise ValueError(f"{name}: its {role} key is not an Ed25519 public key: {key.hex()}")
    if device_key == vote_key:
        raise ValueError(f"{name}: device key and vote key must differ, both are {vote_key.hex()}")
    owner_id = device_id(bytes(owner.verify_key))
    unsigned = DeviceCertificate(name, device_class, owner_id, device_key, vote_key, b"")
    signature = signer(owner)(_certified_bytes(unsigned))
    return DeviceCertificate(name, device_class, owner_id, device_key, vote_key, signature)


def check_certificate(certificate: DeviceCertificate, owner_public_key: bytes) -> bool:
    """Whether this owner signed it, for two different and valid keys (R-ID-8)."""
    return (
        certificate.owner == device_id(owner_public_key)
        and is_public_key(certificate.device_key)
        and is_public_key(certificate.vote_key)
        and certificate.device_key != certificate.vote_key
        and is_public_key(owner_public_key)
        and signed_by(owner_public_key, _certified_bytes(certificate), certificate.signature)
    )


def _certified_bytes(certificate: DeviceCertificate) -> bytes:
    fields = [
        _CERTIFICATE_DOMAIN,
        certificate.name,
        certificate.device_class,
        certificate.owner,
        certificate.device_key,
        certificate.vote_key,
    ]
    return cbor2.dumps(fields, canonical=True)


# -- membership -----------------------------------------------------------------------------------


def approve_member(
    owner: SigningKey, binding: Binding, certificate: DeviceCertificate, weight: int, serial: int
) -> Approval:
    """An owner's word that a device is to be a member of this weight, as its change `serial`."""
    return approve(owner, binding, Domain.MEMBER, _membership(certificate, weight, serial))


def check_approval(
    approval: Approval,
    owner_public_key: bytes,
    binding: Binding,
    certificate: DeviceCertificate,
    weight: int,
    serial: int,
) -> bool:
    """Whether this owner signed just this membership in this mesh (R-WIRE-5)."""
    fields = _membership(certificate, weight, serial)
    return holds(approval, owner_public_key, binding, Domain.MEMBER, fields)


def _membership(certificate: DeviceCertificate, weight: int, serial: int) -> Fields:
    return encode(certificate), weight, serial


# -- genesis --------------------------------------------------------------------------------------


def mesh_id(body: GenesisBody) -> bytes:
    """BLAKE2b-256 of the encoded body: 32 bytes."""
    return hashlib.blake2b(encode(body), digest_size=32).digest()


def binding_of(mesh: bytes, body: GenesisBody) -> Binding:
    """What frames of the mesh with this id and body are bound to, and the version they say."""
    return Binding(mesh, body.generation, wire_version(body.rules_version))


def make_genesis(body: GenesisBody, signs: Sequence[Sign]) -> Genesis:
    """The genesis signed by every owner, in the order of `body.owners`, checked at once."""
    message = _founding_bytes(body)
    genesis = Genesis(body, tuple(sign(message) for sign in signs))
    check_genesis(genesis)
    return genesis


def check_genesis(genesis: Genesis) -> bytes:
    """The mesh id of a sound genesis; ValueError: what was expected, what came (R-ID-1..6)."""
    body = genesis.body
    if decode(Genesis, encode(genesis)) != genesis:
        raise ValueError("genesis: a field has a type that does not survive its encoding")
    _check_owners(body)
    _check_signatures(genesis)
    _check_devices(body)
    _check_accounts(body)
    return mesh_id(body)


def _founding_bytes(body: GenesisBody) -> bytes:
    return cbor2.dumps([_GENESIS_DOMAIN, encode(body)], canonical=True)


def _check_owners(body: GenesisBody) -> None:
    """R-ID-1: owners are different, valid keys with different names."""
    if len(body.owner_names) != len(body.owners):
        raise ValueError(
            f"genesis: {len(body.owners)} owners need as many names, got {len(body.owner_names)}"
        )
    for name, key in zip(body.owner_names, body.owners, strict=True):
        if not is_public_key(key):
            raise ValueError(f"genesis: owner {name}: not an Ed25519 public key: {key.hex()}")
    _check_different("owner key", (key.hex() for key in body.owners))
    _check_different("owner name", body.owner_names)


def _check_signatures(genesis: Genesis) -> None:
    """R-ID-2: every founding owner signed this very body."""
    body = genesis.body
    if len(genesis.signatures) != len(body.owners):
        raise ValueError(
            f"genesis: expected {len(body.owners)} signatures, got {len(genesis.signatures)}"
        )
    message = _founding_bytes(body)
    signed = zip(body.owner_names, body.owners, genesis.signatures, strict=True)
    for name, key, signature in signed:
        if not signed_by(key, message, signature):
            raise ValueError(f"genesis: the signature of owner {name} does not hold for this body")


def _check_devices(body: GenesisBody) -> None:
    """R-ID-3: founders certify each device; own name, own keys. R-ID-4: some, not all vote."""
    owners = {device_id(key): key for key in body.owners}
    keys = [key.hex() for key in body.owners]
    for device in body.devices:
        certificate = device.certificate
        owner_key = owners.get(certificate.owner)
        if owner_key is None:
            raise ValueError(
                f"genesis: device {certificate.name}: its owner {text(certificate.owner)} "
                f"is not among the {len(owners)} founding owners"
            )
        if not check_certificate(certificate, owner_key):
            raise ValueError(
                f"genesis: device {certificate.name}: its certificate does not hold "
                f"(signature or keys; owner {text(certificate.owner)})"
            )
        keys += [certificate.device_key.hex(), certificate.vote_key.hex()]
    _check_different("key", keys)
    _check_different("device name", (device.certificate.name for device in body.devices))
    voters = sum(1 for device in body.devices if device.weight)
    if not 1 <= voters <= VOTERS_MAX:
        raise ValueError(
            f"genesis: expected 1 to {VOTERS_MAX} devices with a weight above 0, got {voters}"
        )
    total = sum(device.weight for device in body.devices)
    if total > WEIGHT_MAX:
        raise ValueError(f"genesis: the weights together are at most {WEIGHT_MAX}, got {total}")


def _check_accounts(body: GenesisBody) -> None:
    """R-ID-5: different accounts of founders, floors of at most 0. R-ID-6: a sound commons."""
    _check_different("account", (text(account.id) for account in body.accounts))
    owners = {device_id(key) for key in body.owners}
    for account in body.accounts:
        if account.owner not in owners and account.id != body.commons:
            raise ValueError(
                f"genesis: account {text(account.id)}: its owner {text(account.owner)} "
                f"is not among the {len(owners)} founding owners"
            )
        if account.floor > 0:
            raise ValueError(
                f"genesis: account {text(account.id)}: balances begin at 0, so its floor must be "
                f"0 or below, got {account.floor}"
            )
    if all(account.id != body.commons for account in body.accounts):
        raise ValueError(f"genesis: the commons {text(body.commons)} is not among the accounts")
    if body.commons_ppm > PPM:
        raise ValueError(f"genesis: commons_ppm is at most {PPM}, got {body.commons_ppm}")


def _check_different(what: str, values: Iterable[str]) -> None:
    seen: dict[str, None] = {}
    for value in values:
        if value in seen:
            raise ValueError(f"genesis: {what} {value} appears twice")
        seen[value] = None
