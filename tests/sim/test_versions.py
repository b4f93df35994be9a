"""A mesh of rules version 1: what its boards say is what a node of wire version 1 understands."""

from __future__ import annotations

import pytest

from demesh.ports import Instant, Publish
from demesh.wire import identity
from demesh.wire.kinds import Kind, Reject
from demesh.wire.sealing import SEALED
from demesh.wire.validate import Validator, View
from demesh_sim.bare import Bare, Customer, found_bare
from demesh_sim.links import PROFILES
from demesh_sim.memory_store import MemoryStore
from demesh_sim.swarm import Swarm
from demesh_sim.witness import Witness


class Elder(Witness):
    """Hears everything with the ears of wire version 1."""

    def __init__(self, bare: Bare) -> None:
        binding = identity.binding_of(bare.mesh_id, bare.genesis.body)
        self._validator = Validator(binding, newest=1)
        for device in bare.genesis.body.devices:
            for key in (device.certificate.device_key, device.certificate.vote_key):
                self._validator.enrol(identity.device_id(key), key)
        self.understood: set[Kind] = set()
        self.rejects: set[Reject] = set()
        self.sealed = 0

    def publishing(self, board: int, at: Instant, message: Publish, store: MemoryStore) -> None:
        area = message.topic.split("/")[3]
        if area == "gone":
            return
        self.sealed += message.payload.startswith(SEALED[:2])
        verdict = self._validator.check(message.payload)
        if isinstance(verdict, View):
            self.understood.add(verdict.kind)
        else:
            self.rejects.add(verdict)


@pytest.mark.parametrize("rules", [1, 2, 3])
def test_what_is_said_in_a_mesh_of_rules_1_is_understood_by_wire_version_1(rules: int) -> None:
    bare = found_bare(4, seed=41, rules_version=rules)
    elder = Elder(bare)
    swarm = Swarm(
        bare.members, bare.genesis, 41, PROFILES["wifi"], witnesses=[elder],
        replay="python -m pytest tests/sim/test_versions.py",
    )  # fmt: skip
    Customer(swarm, bare, every_ms=300, until_s=15)
    swarm.run(6)
    swarm.hosts[2].crash()
    swarm.run(12)
    swarm.hosts[2].boot()
    swarm.run(25)
    report = swarm.report()
    assert report.blocks == report.common_height > 10
    if rules >= 2:
        assert elder.rejects == {Reject.VERSION} and not elder.understood
        return
    assert not elder.rejects and not elder.sealed
    spoken = {Kind.PROPOSAL, Kind.VOTE, Kind.CERTIFICATE, Kind.CARD}
    assert elder.understood >= spoken | {Kind.RECALL, Kind.RECALLED}
