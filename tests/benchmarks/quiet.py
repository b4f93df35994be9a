"""A mesh that has nothing to do, in virtual time: what its devices send and write all the same.

Every packet of every link is encoded and counted, both directions, after a minute in which the mesh
came up and decided something: for a day, which virtual time makes cheap, or the many beacons of the
first minutes would be taken for all of it. Documents for people, which a swarm does not put on its
network, are made as the daemon makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from unittest.mock import patch

from benchmarks import boards
from benchmarks.plan import Plan
from benchmarks.row import Row
from benchmarks.virtual import submit, swarm_of
from demesh.broker.codec import Packet, encode
from demesh.broker.codec import Publish as PublishPacket
from demesh.cli.run import DELAY_FLOOR_MS
from demesh.observe.projection import Projection
from demesh.ports import SECOND, Instant, Measurement, Observe
from demesh.wire.identity import device_id
from demesh.wire.topics import Topics
from demesh_sim.bare import IdleDevice
from demesh_sim.links import HEADER_BYTES, PROFILES, Pipe
from demesh_sim.swarm import Swarm
from demesh_sim.witness import Witness

GROUP = "daemon"

DEVICES = 10
WORK_AT_S = 5  # the one op
WARM_S = 60
HOUR_S = 3_600
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

    @property
    def framed_bytes(self) -> int:
        """With TCP/IP headers, at worst."""
        return self.bytes + self.packets * SEGMENTS_PER_PACKET * HEADER_BYTES

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

    def __init__(self, mesh: boards.Boards) -> None:
        keys = [bytes(voter.device_key.verify_key) for voter in mesh.identities]
        self._projections = [
            Projection("voter", Topics(mesh.mesh_id, device_id(key)).observation(""))
            for key in keys
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
    day_s, hour_s = plan.count(DAY_S, 60), plan.count(HOUR_S, 60)
    start, rest = measure(plan, DEVICES, WARM_S, day_s)
    _, moving = measure(plan, DEVICES, WARM_S, hour_s, MovingMeter)
    per_day = DAY_S / (day_s * DEVICES)
    sent, packets = rest.bytes * per_day / MEGABYTE, rest.packets * per_day
    framed = rest.framed_bytes * per_day / MEGABYTE
    how = f"{DEVICES} voters, {day_s} s of virtual quiet after a decision"
    per_day_moving = DAY_S / (hour_s * DEVICES)
    shown = moving.document_bytes * per_day_moving / MEGABYTE
    documents = f"{moving.documents * per_day_moving:,.0f} documents for people, from an hour; "
    return iter([
        Row(GROUP, "idle MQTT bytes per device-day", sent, "MB", f"{how}; {packets:,.0f} packets",
            start.bytes / DEVICES / MEGABYTE, "coming up"),
        Row(GROUP, "the same with TCP/IP headers", framed, "MB",
            f"computed: {SEGMENTS_PER_PACKET} x {HEADER_BYTES} B a packet at worst",
            sent, "MQTT alone"),
        Row(GROUP, "documents while only the meter moves", shown, "MB",
            documents + "not retained, QoS 0", sent, "idle MQTT"),
        Row(GROUP, "idle fsyncs per device-day", rest.syncs * per_day, "", how,
            start.syncs / DEVICES, "coming up"),
    ])  # fmt: skip


def measure(
    plan: Plan, devices: int, warm_s: int, quiet_s: int, device: type[IdleDevice] = IdleDevice
) -> tuple[Quiet, Quiet]:
    """What came in the first seconds, with one decision in them, and in those after them."""
    folder = plan.folder / f"quiet-{devices}-{warm_s}-{quiet_s}-{device.__name__}"
    mesh = boards.found(folder, devices)
    counter = Counter(mesh)

    def counted(pipe: Pipe[Packet | None], packet: Packet | None) -> bool:
        return counter.send(pipe, packet)

    with patch.object(Pipe, "send", counted):
        patience_ms = DELAY_FLOOR_MS["lan"]
        swarm = swarm_of(mesh, PROFILES["ethernet"], patience_ms, [counter], device)
        swarm.heap.at(WORK_AT_S * SECOND, lambda: submit(swarm, mesh, 1))
        swarm.run(warm_s)
        assert swarm.report().common_height, "nothing was decided"
        start = counter.read(swarm)
        swarm.run(warm_s + quiet_s)
    return start, counter.read(swarm) - start
