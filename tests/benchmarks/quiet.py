"""A mesh that has nothing to do, in virtual time: what its devices send and write all the same.

Every packet of every link is encoded and counted, both directions, after a minute in which the mesh
came up. An hour of quiet is measured, which virtual time makes cheap, and taken 24 times. Documents
for people, which a swarm does not put on its network, are made as the daemon makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from unittest.mock import patch

from benchmarks.plan import Plan
from benchmarks.row import Row
from demesh.broker.codec import Packet, encode
from demesh.broker.codec import Publish as PublishPacket
from demesh.observe.projection import Projection
from demesh.ports import Instant, Measurement, Observe
from demesh.wire.topics import Topics
from demesh_sim.bare import Bare, IdleDevice, found_bare
from demesh_sim.links import HEADER_BYTES, PROFILES, Pipe
from demesh_sim.swarm import Swarm
from demesh_sim.witness import Witness

GROUP = "daemon"

DEVICES = 10
WARM_S = 60
DAY_S = 86_400
MEGABYTE = 1_000_000

SEGMENTS_PER_PACKET = 2  # each packet is acknowledged by a segment of its own, at worst


@dataclass(slots=True)
class MovingMeter(IdleDevice):
    """A device whose meter never shows the same twice: the report says so once a minute."""

    sample_ms: int = 1_000
    shown: int = 0

    def read(self, now: Instant) -> Measurement:
        """See Device."""
        self.shown += 1
        return Measurement(self.shown)


@dataclass(frozen=True, slots=True)
class Quiet:
    """Of all devices together."""

    packets: int
    bytes: int
    documents: int
    document_bytes: int
    syncs: int

    def __sub__(self, earlier: Quiet) -> Quiet:
        return Quiet(
            self.packets - earlier.packets,
            self.bytes - earlier.bytes,
            self.documents - earlier.documents,
            self.document_bytes - earlier.document_bytes,
            self.syncs - earlier.syncs,
        )


class Counter(Witness):
    """Counts packets, once `send` stands in the place of the pipes', and documents."""

    def __init__(self, bare: Bare) -> None:
        self._projections = [
            Projection("voter", Topics(bare.mesh_id, id).observation("")) for id in bare.ids
        ]
        self._send = Pipe.send
        self.packets = self.bytes = self.documents = self.document_bytes = 0

    def send(self, pipe: Pipe[Packet | None], packet: Packet | None) -> bool:
        """`Pipe.send`, counted."""
        if packet is not None:
            self.packets += 1
            self.bytes += len(encode(packet))
        return self._send(pipe, packet)

    def observed(self, board: int, at: Instant, observation: Observe) -> None:
        """See Witness."""
        for document in self._projections[board].publications(observation, at):
            self.documents += 1
            self.document_bytes += len(encode(PublishPacket(document.topic, document.payload)))

    def read(self, swarm: Swarm) -> Quiet:
        """All counts so far."""
        syncs = sum(host.store.syncs for host in swarm.hosts)
        return Quiet(self.packets, self.bytes, self.documents, self.document_bytes, syncs)


def rows(plan: Plan) -> Iterator[Row]:
    """Idle bytes on the wire and syncs of the disk, per device and day."""
    quiet_s = plan.count(3600, 60)
    start, rest = _measure(quiet_s, IdleDevice)
    _, moving = _measure(quiet_s, MovingMeter)
    per_day = DAY_S / (quiet_s * DEVICES)
    sent = rest.bytes * per_day / MEGABYTE
    how = f"{DEVICES} voters, {quiet_s} s of virtual quiet x {DAY_S // quiet_s}"
    packets = rest.packets * per_day
    framed = sent + packets * SEGMENTS_PER_PACKET * HEADER_BYTES / MEGABYTE
    shown = moving.document_bytes * per_day / MEGABYTE
    documents = f"{moving.documents * per_day:,.0f} documents for people; not retained, QoS 0"
    wakes = f"{how}; {packets:,.0f} packets"
    return iter([
        Row(GROUP, "idle MQTT bytes per device-day", sent, "MB", wakes,
            start.bytes / DEVICES / MEGABYTE, "coming up"),
        Row(GROUP, "the same with TCP/IP headers", framed, "MB",
            f"computed: {SEGMENTS_PER_PACKET} x {HEADER_BYTES} B a packet at worst",
            sent, "MQTT alone"),
        Row(GROUP, "documents while only the meter moves", shown, "MB", documents,
            sent, "idle MQTT"),
        Row(GROUP, "idle fsyncs per device-day", rest.syncs * per_day, "", how,
            start.syncs / DEVICES, "coming up"),
    ])  # fmt: skip


def _measure(quiet_s: int, device: type[IdleDevice]) -> tuple[Quiet, Quiet]:
    """What came in the first minute, and in the time after it."""
    bare = found_bare(DEVICES, seed=1)
    members = [replace(member, device=device()) for member in bare.members]
    counter = Counter(bare)

    def counted(pipe: Pipe[Packet | None], packet: Packet | None) -> bool:
        return counter.send(pipe, packet)

    with patch.object(Pipe, "send", counted):
        swarm = Swarm(members, bare.genesis, 1, PROFILES["ethernet"], witnesses=[counter])
        swarm.run(WARM_S)
        start = counter.read(swarm)
        swarm.run(WARM_S + quiet_s)
    return start, counter.read(swarm) - start
