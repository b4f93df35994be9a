"""A mesh of real daemons on disk: voters that measure nothing, and many who hold money.

The founders are as many owners, each with credit, so that a client can sign transfers for all of
them. One more device has no vote and no daemon: ops are published in its name.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from benchmarks.programs import Program
from demesh.ledger.rules import RULES_VERSIONS
from demesh.ledger.state import AccountKind
from demesh.passport import NodeIdentity
from demesh.storage.keys import write_key
from demesh.wire import identity
from demesh.wire.frame import Binding, seal_statement
from demesh.wire.kinds import Kind
from demesh.wire.messages import Genesis, GenesisAccount, GenesisBody, GenesisDevice
from demesh.wire.opbodies import Op, OpType, Transfer
from demesh.wire.schema import encode
from demesh.wire.topics import Topics

OWNERS = 64  # the most a genesis takes: 64 signers of 64 pending ops each fill every queue
CREDIT = 10**12
BEGINS_S = 1_800_000_000
OP_VALID_S = 600

DRIVER = """
from demesh.errors import ConfigError
from demesh.ports import Measurement


class Quiet:
    sample_ms = 1000

    def read(self, now):
        return Measurement(0)

    def actuate(self, command, now):
        raise AssertionError("nobody trades here")


def open_quiet(options, *, folder, now):
    if options:
        raise ConfigError("[driver] takes nothing")
    return Quiet()
"""


@dataclass(frozen=True, slots=True)
class Boards:
    """A founded mesh, laid out below `folder`."""

    folder: Path
    genesis: Genesis
    mesh_id: bytes
    identities: tuple[NodeIdentity, ...]
    client: bytes
    owners: tuple[SigningKey, ...]

    @property
    def voters(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(voter.name for voter in self.identities)

    @property
    def binding(self) -> Binding:
        """What signatures are bound to."""
        return identity.binding_of(self.mesh_id, self.genesis.body)

    @property
    def topics(self) -> Topics:
        """Where the client publishes."""
        return Topics(self.mesh_id, self.client)

    def transfer(self, signer: int, nonce: int) -> bytes:
        """The frame of a transfer of 1 from an owner to the next."""
        key, to = self.owners[signer % OWNERS], self.owners[(signer + 1) % OWNERS]
        body = encode(Transfer(_id(to), 1))
        op = Op(OpType.TRANSFER, nonce.to_bytes(8, "big"), BEGINS_S + OP_VALID_S, body)
        sign = identity.signer(key)
        return seal_statement(Kind.OP, self.binding, _id(key), encode(op), sign)

    @contextmanager
    def running(self, *ports: int) -> Iterator[dict[str, Program]]:
        """All voters' daemons, connected to the brokers at these ports."""
        brokers = "".join(f'[[broker]]\nurl = "mqtt://127.0.0.1:{port}"\n' for port in ports)
        plugins = _driver(self.folder)
        with ExitStack() as stack:
            programs: dict[str, Program] = {}
            for name in self.voters:
                place = self.folder / name
                (place / "demesh.toml").write_text(
                    f'[device]\nname = "{name}"\nclass = "voter"\ndriver = "quiet"\n'
                    f'[mesh]\ngenesis = "../genesis.cbor"\n{brokers}'
                )
                config = str(place / "demesh.toml")
                command = [sys.executable, "-m", "demesh", "run", "--config", config]
                programs[name] = Program(command, place / "log.txt", [plugins])
                stack.callback(programs[name].stop)
            yield programs


def found(folder: Path, count: int, mesh: str = "bench") -> Boards:
    """Found a mesh of `count` voters and write what their daemons need.

    Nobody belongs to two meshes of different names.
    """
    folder.mkdir(parents=True)
    owners = tuple(_key(f"{mesh} owner {n}") for n in range(OWNERS))
    accounts = [GenesisAccount(_id(key), _id(key), AccountKind.OWNER, -CREDIT) for key in owners]
    devices, voters = [], []
    for number in range(count + 1):
        name = f"voter-{number}" if number < count else "client"
        device, vote = _key(f"{mesh} {name} device"), _key(f"{mesh} {name} vote")
        certificate = identity.certify_device(
            owners[0], name, "voter", bytes(device.verify_key), bytes(vote.verify_key)
        )
        devices.append(GenesisDevice(certificate, int(number < count)))
        accounts.append(GenesisAccount(_id(device), _id(owners[0]), AccountKind.DEVICE, 0))
        if number < count:
            voters.append(NodeIdentity(name, "voter", device, vote))
            (folder / name).mkdir()
            write_key(folder / name / "device.key", device)
            write_key(folder / name / "vote.key", vote)
    commons = bytes(16)
    body = GenesisBody(
        mesh, 1, bytes(8), BEGINS_S, RULES_VERSIONS[-1],
        tuple(bytes(key.verify_key) for key in owners), tuple(f"owner {n}" for n in range(OWNERS)),
        tuple(devices), (*accounts, GenesisAccount(commons, commons, AccountKind.COMMONS, 0)),
        commons, 0,
    )  # fmt: skip
    genesis = identity.make_genesis(body, [identity.signer(key) for key in owners])
    (folder / "genesis.cbor").write_bytes(encode(genesis))
    client = _id(_key(f"{mesh} client device"))
    return Boards(folder, genesis, identity.mesh_id(body), tuple(voters), client, owners)


def _driver(folder: Path) -> Path:
    """A driver of our own, found as an installed one is; the folder to add to the path."""
    facts = folder / "plugins" / "quietdriver-1.dist-info"
    facts.mkdir(parents=True, exist_ok=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: quietdriver\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[demesh.drivers]\nquiet = quietdriver:open_quiet\n")
    (folder / "plugins" / "quietdriver.py").write_text(DRIVER)
    return folder / "plugins"


def _key(name: str) -> SigningKey:
    return SigningKey(hashlib.blake2b(name.encode(), digest_size=32).digest())


def _id(key: SigningKey) -> bytes:
    return identity.device_id(bytes(key.verify_key))
