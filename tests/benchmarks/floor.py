"""What no voters can do without: hops through this broker, signatures, syncs to this disk."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from benchmarks.timing import percentile
from demesh.ports import Publish, Received
from demesh.transport.client import Desk, Link, connected
from demesh.transport.outbox import Letter, Outbox
from demesh.wire.identity import signer
from demesh.wire.keys import signed_by

MESSAGE_BYTES = 190  # a vote's frame
RECORD_BYTES = 200  # a vote's record in the journal

# Between two steps of a decision disk and core fall asleep: a sync that follows another at once can
# be 20 times quicker than one that finds the disk at rest, and would be a floor nobody stands on.
REST_S = 0.005

HOPS = 4  # op, proposal, notarize votes, finalize votes
LONE_SYNCS = 1  # the leader's block and vote
JOINT_SYNCS = 2  # a quorum's notarize, a quorum's finalize: on one machine, on one disk
SIGNS = 3  # one before each sync


def quorum(voters: int) -> int:
    """How many of so many equal voters decide."""
    return 2 * voters // 3 + 1


def verifies(votes: int) -> int:
    """Of one voter: op, proposal, and so many notarize and finalize votes beside its own."""
    return 2 + 2 * (votes - 1)


@dataclass(frozen=True, slots=True)
class Floor:
    """The parts, all in ns: samples of hops and syncs, medians of signing and verifying."""

    voters: int
    hops: Sequence[int]
    lone: Sequence[int]
    joint: Sequence[int]
    sign: float
    verify: float

    def ms(self, percent: int) -> float:
        """Their sum along one decision, hops and syncs at this percentile."""
        hops = HOPS * percentile(self.hops, percent)
        syncs = LONE_SYNCS * percentile(self.lone, percent)
        syncs += JOINT_SYNCS * percentile(self.joint, percent)
        return (hops + syncs + SIGNS * self.sign + self._verifies * self.verify) / 1e6

    @property
    def signatures_ns(self) -> float:
        """What signatures cost all voters together, who verify all votes and not a quorum's."""
        return self.voters * (SIGNS * self.sign + verifies(self.voters) * self.verify)

    @property
    def _verifies(self) -> int:
        return verifies(quorum(self.voters))

    def text(self) -> str:
        """For the table."""
        return (
            f"{HOPS} hops of {percentile(self.hops, 50) / 1e6:.2f} ms, "
            f"{LONE_SYNCS} sync of {percentile(self.lone, 50) / 1e6:.2f}, "
            f"{JOINT_SYNCS} joint ones of {percentile(self.joint, 50) / 1e6:.2f}, "
            f"{SIGNS} signs of {self.sign / 1e6:.3f}, "
            f"{self._verifies} verifies of {self.verify / 1e6:.3f}"
        )


async def hops_ns(port: int, count: int) -> list[int]:
    """One-way times from one client to another, by the daemon's own MQTT client, QoS 1."""
    arrived = asyncio.Event()
    at = 0

    def receive(_: Received) -> None:
        nonlocal at
        at = time.monotonic_ns()
        arrived.set()

    def link(name: str, *topics: str) -> Link:
        return Link("127.0.0.1", port, "", f"hop-{name}-{time.monotonic_ns()}", topics)

    taken, outbox = [], Outbox()
    async with (
        connected(link("from"), Desk(outbox, receive)) as sender,
        connected(link("to", "hop"), Desk(Outbox(), receive)),
    ):
        for _ in range(count):
            arrived.clear()
            await asyncio.sleep(REST_S)
            began = time.monotonic_ns()
            outbox.put(Letter(Publish("hop", bytes(MESSAGE_BYTES)), 0))
            sender.wake()
            await arrived.wait()
            taken.append(at - began)
    return taken


def sync_ns(folder: Path, count: int, writers: int, quorum: int) -> list[int]:
    """Times until `quorum` of `writers` have each appended a record to their file and synced."""
    paths = [folder / f"sync-{voter}" for voter in range(writers)]
    handles = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in paths]

    def append(handle: int) -> int:
        os.write(handle, bytes(RECORD_BYTES))
        os.fdatasync(handle)
        return time.monotonic_ns()

    taken = []
    with ThreadPoolExecutor(writers) as threads:
        for _ in range(count):
            time.sleep(REST_S)
            began = time.monotonic_ns()
            done = sorted(threads.map(append, handles))
            taken.append(done[quorum - 1] - began)
    for handle in handles:
        os.close(handle)
    return taken


def signature_ns(count: int) -> tuple[float, float]:
    """Median wall times of a signature and of its verification."""
    key = SigningKey.generate()
    sign, public = signer(key), bytes(key.verify_key)
    message = bytes(MESSAGE_BYTES)
    signing, verifying = [], []
    for _ in range(count):
        began = time.monotonic_ns()
        signature = sign(message)
        signed = time.monotonic_ns()
        signed_by(public, message, signature)
        signing.append(signed - began)
        verifying.append(time.monotonic_ns() - signed)
    return statistics.median(signing), statistics.median(verifying)
