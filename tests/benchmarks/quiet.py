"""A mesh that has nothing to do, in virtual time: what its devices send and write all the same.

Every packet of every link is encoded and counted, both directions, after a minute in which the mesh
came up. An hour of quiet is measured, which virtual time makes cheap, and taken 24 times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from benchmarks.plan import Plan
from benchmarks.row import Row
from demesh.broker.codec import Packet, encode
from demesh_sim.bare import found_bare
from demesh_sim.links import PROFILES, Pipe
from demesh_sim.swarm import Swarm

GROUP = "daemon"

DEVICES = 8
WARM_S = 60
DAY_S = 86_400
MEGABYTE = 1_000_000

# IPv4 and TCP with timestamps; each packet is acknowledged by a segment of its own, at worst.
SEGMENT_BYTES = 52
SEGMENTS_PER_PACKET = 2


@dataclass(slots=True)
class Meter:
    """What went over the links."""

    packets: int = 0
    bytes: int = 0


@contextmanager
def metered() -> Iterator[Meter]:
    """Count all packets of all links of swarms made in this block."""
    meter, send = Meter(), Pipe.send

    def counted(pipe: Pipe[Packet | None], packet: Packet | None) -> None:
        if packet is not None:
            meter.packets += 1
            meter.bytes += len(encode(packet))
        send(pipe, packet)

    with patch.object(Pipe, "send", counted):
        yield meter


def rows(plan: Plan) -> Iterator[Row]:
    """Idle bytes on the wire and on the disk, per device and day."""
    quiet_s = plan.count(3600, 60)
    bare = found_bare(DEVICES, seed=1)
    with metered() as meter:
        swarm = Swarm(bare.members, bare.genesis, 1, PROFILES["ethernet"])
        swarm.run(WARM_S)
        before, disk = Meter(meter.packets, meter.bytes), _synced(swarm)
        swarm.run(WARM_S + quiet_s)
    packets, sent = meter.packets - before.packets, meter.bytes - before.bytes
    wrote = _synced(swarm) - disk
    per_day = DAY_S / (quiet_s * DEVICES)
    start = before.bytes / DEVICES / MEGABYTE
    framed = sent + packets * SEGMENTS_PER_PACKET * SEGMENT_BYTES
    how = f"{DEVICES} voters, {quiet_s} s of virtual quiet x {DAY_S // quiet_s}"
    yield Row(GROUP, "idle MQTT bytes per device-day", sent * per_day / MEGABYTE, "MB",
              f"{how}; {packets * per_day:,.0f} packets", start, "coming up")  # fmt: skip
    yield Row(GROUP, "the same with TCP/IP headers", framed * per_day / MEGABYTE, "MB",
              f"computed: {SEGMENTS_PER_PACKET} x {SEGMENT_BYTES} B a packet at worst",
              sent * per_day / MEGABYTE, "MQTT alone")  # fmt: skip
    yield Row(GROUP, "idle journal bytes per device-day", wrote * per_day / MEGABYTE, "MB", how)


def _synced(swarm: Swarm) -> int:
    return sum(host.store.bytes_synced for host in swarm.hosts)
