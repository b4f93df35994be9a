"""A mesh without a street: voters whose devices measure nothing, and a customer who moves money.

What a fault campaign needs and no more: consensus, ledger, stores and network are all real, and
transfers come at a rate the test chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from nacl.signing import SigningKey

from demesh.ledger.rules import RULES_VERSIONS
from demesh.ledger.state import AccountKind
from demesh.node import NodeSettings
from demesh.passport import NodeIdentity
from demesh.ports import MILLISECOND, SECOND, Actuate, Instant, Measurement, Publish
from demesh.wire import identity
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.frame import seal_statement
from demesh.wire.kinds import Kind
from demesh.wire.messages import Genesis, GenesisAccount, GenesisBody, GenesisDevice
from demesh.wire.opbodies import Op, OpType, Transfer
from demesh.wire.schema import encode
from demesh.wire.topics import Topics
from demesh_sim.founding import Entropy, seeded
from demesh_sim.hosts import Member
from demesh_sim.swarm import Swarm
from demesh_sim.uplinks import speaker

BEGINS_S = 1_800_000_000  # mesh time of the genesis; any number far from 0
STARTER_CREDIT = 1_000_000_000
OP_VALID_S = 600
TRANSFER_MAX = 1_000


@dataclass(slots=True)
class IdleDevice:
    """A device with nothing to measure."""

    sample_ms: int = 60_000

    def read(self, now: Instant) -> Measurement:
        """See Device."""
        return Measurement(0)

    def actuate(self, command: Actuate, now: Instant) -> None:
        """See Device."""


@dataclass(frozen=True, slots=True)
class Bare:
    """A founded mesh of idle devices, and devices of its owners that it has not taken in yet."""

    genesis: Genesis
    members: tuple[Member, ...]
    mesh_id: bytes
    owners: tuple[SigningKey, ...]
    newcomers: tuple[Member, ...] = ()

    @property
    def ids(self) -> tuple[bytes, ...]:
        """The members' device ids."""
        keys = (member.identity.device_key for member in self.members)
        return tuple(identity.device_id(bytes(key.verify_key)) for key in keys)


def found_bare(
    voters: int,
    seed: int,
    delay_floor_ms: int = 250,
    *,
    observers: int = 0,
    newcomers: int = 0,
    owners: int = 1,
    rules_version: int = RULES_VERSIONS[-1],
) -> Bare:
    """A mesh of `voters` equal voters, then observers; devices go round the owners.

    All keys follow from the seed.
    """
    entropy = seeded(seed)
    keys = [SigningKey(entropy(32))]
    commons = entropy(16)
    keys += [SigningKey(entropy(32)) for _ in range(owners - 1)]
    ids = [identity.device_id(bytes(key.verify_key)) for key in keys]
    devices: list[GenesisDevice] = []
    accounts = [
        *(GenesisAccount(id, id, AccountKind.OWNER, 0) for id in ids),
        GenesisAccount(commons, commons, AccountKind.COMMONS, 0),
    ]
    founders, joining = voters + observers, list[Member]()
    members: list[Member] = []
    for index in range(founders + newcomers):
        member, certificate = _board(
            f"voter-{index}" if index < voters else f"board-{index}",
            keys[index % owners],
            entropy,
            delay_floor_ms,
        )
        if index >= founders:
            keys_and_paper = replace(member.identity, certificate=certificate)
            joining.append(replace(member, identity=keys_and_paper))
            continue
        members.append(member)
        devices.append(GenesisDevice(certificate, weight=1 if index < voters else 0))
        account, owner = identity.device_id(certificate.device_key), certificate.owner
        accounts.append(GenesisAccount(account, owner, AccountKind.DEVICE, -STARTER_CREDIT))
    body = GenesisBody(
        name="bare",
        generation=1,
        nonce=entropy(8),
        time_s=BEGINS_S,
        rules_version=rules_version,
        owners=tuple(bytes(key.verify_key) for key in keys),
        owner_names=("owner", *(f"owner-{number}" for number in range(1, owners))),
        devices=tuple(devices),
        accounts=tuple(accounts),
        commons=commons,
        commons_ppm=10_000,
    )
    genesis = identity.make_genesis(body, [identity.signer(key) for key in keys])
    mesh_id = identity.mesh_id(body)
    return Bare(genesis, tuple(members), mesh_id, tuple(keys), tuple(joining))


def _board(
    name: str, owner: SigningKey, entropy: Entropy, delay_floor_ms: int
) -> tuple[Member, DeviceCertificate]:
    keys = NodeIdentity(name, "voter", SigningKey(entropy(32)), SigningKey(entropy(32)))
    public = bytes(keys.device_key.verify_key), bytes(keys.vote_key.verify_key)
    certificate = identity.certify_device(owner, name, "voter", *public)
    settings = NodeSettings(None, None, delay_floor_ms, seed=entropy(32))
    return Member(keys, settings, IdleDevice()), certificate


class Customer:
    """Publishes transfers between members, each signed by its payer, evenly spread in time."""

    def __init__(self, swarm: Swarm, bare: Bare, every_ms: int, until_s: int) -> None:
        self.sent = 0
        self._swarm, self._bare = swarm, bare
        self._every_ns, self._until = every_ms * MILLISECOND, until_s * SECOND
        self._chance = Random(f"{swarm.seed}/customer")
        self._client = speaker(swarm.networks, "customer")
        swarm.heap.after(2 * SECOND, self._buy)

    def _buy(self) -> None:
        heap, chance = self._swarm.heap, self._chance
        if heap.now >= self._until:
            return
        ids: Sequence[bytes] = self._bare.ids
        payer = chance.randrange(len(ids))
        payee = (payer + 1 + chance.randrange(len(ids) - 1)) % len(ids)
        body = Transfer(ids[payee], 1 + chance.randrange(TRANSFER_MAX))
        nonce = chance.getrandbits(64).to_bytes(8, "big")
        valid_until_s = BEGINS_S + heap.now // SECOND + OP_VALID_S
        op = Op(OpType.TRANSFER, nonce, valid_until_s, encode(body))
        sign = identity.signer(self._bare.members[payer].identity.device_key)
        binding = identity.binding_of(self._bare.mesh_id, self._bare.genesis.body)
        frame = seal_statement(Kind.OP, binding, ids[payer], encode(op), sign)
        # Anybody may pass an op on: it goes out under the name of a member that is not the payer.
        topic = Topics(self._bare.mesh_id, ids[payee]).mine("op")
        self._client.publish(Publish(topic, frame))
        self.sent += 1
        heap.after(1 + chance.randrange(2 * self._every_ns), self._buy)
