"""What `demesh member` reads and what it makes for new devices: the ledger, keys, certificates."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from demesh.cli.reading import read_config
from demesh.cli.run import read_genesis
from demesh.config import Config
from demesh.errors import ConfigError, KeyFileError
from demesh.ledger.ledger import Ledger
from demesh.ledger.state import Membership
from demesh.past import past_of
from demesh.ports import Restored
from demesh.storage.durable import replace
from demesh.storage.keys import create_key, load_key
from demesh.storage.sqlite import Reader
from demesh.wire import identity
from demesh.wire.messages import GenesisBody
from demesh.wire.schema import encode


@dataclass(frozen=True, slots=True)
class Mesh:
    """A mesh as a device of it has stored it, at one moment."""

    config: Config
    folder: Path  # of the configuration
    body: GenesisBody
    id: bytes
    height: int
    ledger: Ledger

    def owner_name(self, owner: bytes) -> str:
        """What an owner of the mesh is called."""
        return dict(self.ledger.owners())[owner].name

    def named(self, name: str) -> tuple[bytes, Membership] | None:
        """Id and membership of the device of that name."""
        found = (row for row in self.ledger.members() if row[1].certificate.name == name)
        return next(found, None)


def read_mesh(path: Path) -> Mesh:
    """What the data folder of a configuration holds; before the first block, the genesis."""
    config = read_config(path)
    folder = path.parent
    genesis, mesh = read_genesis(folder / config.mesh.genesis)
    stored = folder / config.device.data / "ledger.db"
    restored = Restored()
    if stored.exists():
        database = Reader(stored, mesh)
        try:
            restored = Restored(tip=database.tip(), records=database.records())
        finally:
            database.close()
    past = past_of(mesh, genesis.body, restored)
    return Mesh(config, folder, genesis.body, mesh, past.tip.height, past.ledger)


def quorum(weights: Sequence[int]) -> int:
    """The weight that decides: more than two thirds of all."""
    return 2 * sum(weights) // 3 + 1


# -- list -----------------------------------------------------------------------------------------


def show(path: Path) -> int:
    """Print the members; raises DemeshError."""
    print("\n".join(listing(read_mesh(path))))
    return 0


def listing(mesh: Mesh) -> list[str]:
    """The members as a table, in the order of their owners' and their own names."""
    electorate = mesh.ledger.electorate
    weights = [voter.weight for voter in electorate.voters]
    rows = [("NAME", "OWNER", "WEIGHT", "CHANGES", "DEVICE", "VOTE KEY")]
    members = [(mesh.owner_name(m.certificate.owner), id, m) for id, m in mesh.ledger.members()]
    for owner, id, member in sorted(members, key=lambda row: (row[0], row[2].certificate.name)):
        rows.append(
            (
                member.certificate.name,
                owner,
                str(member.weight) if member.weight else "observes",
                str(member.serial),
                identity.text(id),
                identity.text(identity.device_id(member.certificate.vote_key)),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return [
        f"{mesh.body.name} after block {mesh.height}, epoch {electorate.epoch}: "
        f"{len(weights)} of {len(members)} members vote, with weight {sum(weights)}; "
        f"a decision takes {quorum(weights)}",
        *table,
    ]


# -- new devices ----------------------------------------------------------------------------------


def make_keys(path: Path) -> int:
    """Make the keys that are missing and print the public ones; raises DemeshError."""
    config = read_config(path)
    public = []
    for role, name in (("device", config.device.key), ("vote", config.device.vote_key)):
        place = path.parent / name
        there = place.exists()
        key = load_key(place) if there else create_key(place)
        public.append(bytes(key.verify_key).hex())
        print(f"{place}: {'was there already' if there else 'made'}; {role} key {public[-1]}")
    print("An owner makes the certificate of this device with")
    print(
        f"  demesh member certify --owner-key FILE --name {config.device.name} "
        f"--class {config.device.device_class} \\\n    --device-key {public[0]} \\\n"
        f"    --vote-key {public[1]} -o {config.device.name}.certificate"
    )
    return 0


def certify(arguments: argparse.Namespace) -> int:
    """Write an owner's certificate; raises DemeshError."""
    owner = load_owner_key(arguments.owner_key)
    keys = [public_key(arguments.device_key), public_key(arguments.vote_key)]
    try:
        certificate = identity.certify_device(owner, arguments.name, arguments.device_class, *keys)
    except ValueError as error:
        raise KeyFileError(str(error)) from None
    try:
        replace(arguments.output, encode(certificate))
    except OSError as error:
        raise ConfigError(f"{arguments.output}: cannot be written: {error.strerror}") from None
    print(f"{arguments.output}: certificate of {certificate.name} ({certificate.device_class})")
    print(
        f"Put it beside the configuration of {certificate.name}, name it there ([device] "
        f'certificate = "{arguments.output.name}"), and start the daemon: it waits until the mesh '
        "takes it in, which owners do with demesh member set"
    )
    return 0


def public_key(given: str) -> bytes:
    """A public key: 64 hexadecimal digits, or that of the private key in a file."""
    if len(given) == 64:
        try:
            key = bytes.fromhex(given)
        except ValueError:
            key = b""
        if key:
            if not identity.is_public_key(key):
                raise KeyFileError(f"{given}: not an Ed25519 public key")
            return key
    if not Path(given).exists():
        raise KeyFileError(f"{given}: no key file, and no public key of 64 hexadecimal digits")
    return bytes(load_key(Path(given)).verify_key)


def load_owner_key(path: Path) -> SigningKey:
    """An owner's private key; raises KeyFileError."""
    if not path.exists():
        raise KeyFileError(f"{path}: no such file; --owner-key takes the private key of an owner")
    return load_key(path)


def load_owner_keys(mesh: Mesh, paths: Sequence[Path]) -> dict[bytes, SigningKey]:
    """Owners' keys by owner id, each of an owner of the mesh and none twice; KeyFileError."""
    owners = dict(mesh.ledger.owners())
    keys: dict[bytes, SigningKey] = {}
    for path in paths:
        key = load_owner_key(path)
        owner = identity.device_id(bytes(key.verify_key))
        if owner not in owners:
            names = ", ".join(sorted(owner.name for owner in owners.values()))
            raise KeyFileError(
                f"{path}: not the key of an owner of {mesh.body.name}, who are {names}"
            )
        if owner in keys:
            raise KeyFileError(f"{path}: the key of {owners[owner].name} is given twice")
        keys[owner] = key
    return keys
