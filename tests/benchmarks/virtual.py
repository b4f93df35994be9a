"""The mesh of the benchmarks in virtual time: the same keys and genesis, on a simulated network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.boards import Boards
from demesh.node import NodeSettings
from demesh.ports import Publish
from demesh_sim.bare import IdleDevice
from demesh_sim.hosts import Member
from demesh_sim.links import Profile
from demesh_sim.swarm import Swarm
from demesh_sim.witness import Witness

SEED = 1


def swarm_of(
    mesh: Boards,
    profile: Profile,
    delay_floor_ms: int,
    witnesses: Sequence[Witness],
    device: type[IdleDevice] = IdleDevice,
) -> Swarm:
    """All voters of a founded mesh; what is on disk of it stays untouched."""
    settings = NodeSettings(None, None, delay_floor_ms, seed=bytes(32))
    members = [
        Member(one, replace(settings, seed=bytes([index]) * 32), device())
        for index, one in enumerate(mesh.identities)
    ]
    return Swarm(members, mesh.genesis, SEED, profile, witnesses=witnesses)


def submit(swarm: Swarm, mesh: Boards, number: int) -> None:
    """Let the first voter pass on an op, as every device may."""
    client = swarm.hosts[0].client
    assert client is not None, "it is up"
    topic = mesh.topics.mine("op")
    client.publish(Publish(topic, mesh.transfer(number, number)))
