"""Founds a mesh for a scenario: owners' and devices' keys, certificates, the genesis they sign.

`found` is pure: its entropy is an argument, so a virtual run is the same for the same seed and a
run of processes takes its keys from the system. `settle` lays a founded mesh out on disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from demesh.ledger.rules import RULES_VERSIONS
from demesh.ledger.state import AccountKind
from demesh.storage.keys import write_key
from demesh.wire import identity
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.messages import Genesis, GenesisAccount, GenesisBody, GenesisDevice
from demesh.wire.schema import encode
from demesh_sim.scenario import Board, Scenario

Entropy = Callable[[int], bytes]

GENESIS_FILE = "genesis.cbor"
GENERATION = 1
FOLDER_MODE = 0o700


@dataclass(frozen=True, slots=True)
class FoundedOwner:
    """A founding owner and the key that signs for the household."""

    name: str
    id: bytes
    key: SigningKey


@dataclass(frozen=True, slots=True)
class FoundedBoard:
    """A founding device with its two keys."""

    plan: Board
    id: bytes
    device_key: SigningKey
    vote_key: SigningKey
    certificate: DeviceCertificate


@dataclass(frozen=True, slots=True)
class Founded:
    """A mesh that is agreed on and has not begun."""

    genesis: Genesis
    mesh_id: bytes
    owners: tuple[FoundedOwner, ...]
    boards: tuple[FoundedBoard, ...]


def seeded(seed: int) -> Entropy:
    """Entropy of a virtual run: the same bytes for the same seed. Never for real value."""
    drawn = 0

    def draw(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.blake2b(b"demesh_sim/%d/%d" % (seed, drawn), digest_size=size).digest()

    return draw


def found(scenario: Scenario, time_s: int, entropy: Entropy = os.urandom) -> Founded:
    """The mesh of a scenario; `time_s` is where its mesh time begins."""
    owners = tuple(_owner(owner.name, entropy) for owner in scenario.owner)
    by_name = {owner.name: owner for owner in owners}
    boards = tuple(_board(plan, by_name[plan.owner], entropy) for plan in scenario.board)
    commons = hashlib.blake2b(b"commons of " + entropy(32), digest_size=16).digest()
    body = GenesisBody(
        name=scenario.name,
        generation=GENERATION,
        nonce=entropy(8),
        time_s=time_s,
        rules_version=RULES_VERSIONS[-1],
        owners=tuple(bytes(owner.key.verify_key) for owner in owners),
        owner_names=tuple(owner.name for owner in owners),
        devices=tuple(GenesisDevice(board.certificate, weight=1) for board in boards),
        accounts=_accounts(scenario, owners, boards, commons),
        commons=commons,
        commons_ppm=scenario.mesh.commons_ppm,
    )
    genesis = identity.make_genesis(body, [identity.signer(owner.key) for owner in owners])
    return Founded(genesis, identity.mesh_id(body), owners, boards)


def settle(founded: Founded, folder: Path) -> None:
    """Write genesis, owners' keys and each board's keys (0600) below `folder`, which must exist."""
    (folder / GENESIS_FILE).write_bytes(encode(founded.genesis))
    (folder / "owners").mkdir(mode=FOLDER_MODE)
    for owner in founded.owners:
        write_key(folder / "owners" / f"{owner.name}.key", owner.key)
    for board in founded.boards:
        place = folder / board.plan.name
        place.mkdir(mode=FOLDER_MODE)
        write_key(place / "device.key", board.device_key)
        write_key(place / "vote.key", board.vote_key)


def _owner(name: str, entropy: Entropy) -> FoundedOwner:
    key = SigningKey(entropy(32))
    return FoundedOwner(name, identity.device_id(bytes(key.verify_key)), key)


def _board(plan: Board, owner: FoundedOwner, entropy: Entropy) -> FoundedBoard:
    device_key, vote_key = SigningKey(entropy(32)), SigningKey(entropy(32))
    public = bytes(device_key.verify_key)
    certificate = identity.certify_device(
        owner.key, plan.name, plan.device_class, public, bytes(vote_key.verify_key)
    )
    return FoundedBoard(plan, identity.device_id(public), device_key, vote_key, certificate)


def _accounts(
    scenario: Scenario,
    owners: tuple[FoundedOwner, ...],
    boards: tuple[FoundedBoard, ...],
    commons: bytes,
) -> tuple[GenesisAccount, ...]:
    """An account for each owner, each device (which may owe its starter credit) and the commons."""
    by_name = {owner.name: owner.id for owner in owners}
    floor = -scenario.mesh.starter_credit
    return (
        *(GenesisAccount(owner.id, owner.id, AccountKind.OWNER, 0) for owner in owners),
        *(GenesisAccount(b.id, by_name[b.plan.owner], AccountKind.DEVICE, floor) for b in boards),
        GenesisAccount(commons, commons, AccountKind.COMMONS, 0),
    )
