"""Finality as people see it: submits ops and reads in the voters' own documents when each is final.

It listens to no protocol topic: a flood of those must slow the voters, not whoever measures them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks import floor
from benchmarks.boards import Boards
from demesh.ports import Publish, Received
from demesh.transport.client import Connection, Desk, Link, connected
from demesh.transport.outbox import Letter, Outbox
from demesh.wire.frame import split
from demesh.wire.topics import Topics

PATIENCE_S = 5.0  # an op that takes longer counts as one that took this long


class Onlooker:
    """What the voters' documents say."""

    def __init__(self, boards: Boards) -> None:
        self._boards = boards
        self._quorum = floor.quorum(len(boards.voters))
        self._final: dict[str, set[str]] = {}  # op -> voters with whom it is final
        self._awaited: dict[str, asyncio.Future[int]] = {}
        self.led: dict[int, str] = {}  # height -> who led its view
        self.rejects: dict[str, Counter[str]] = {}
        self.dropped: dict[str, int] = {}
        self._outbox = Outbox()
        self._connection: Connection | None = None

    @asynccontextmanager
    async def connected(self, port: int) -> AsyncIterator[None]:
        """Connected and subscribed while the block runs."""
        base = self._boards.topics.mine("obs").rpartition("/")[0]
        names = ("ledger", "decision", "state", "runtime")
        topics = tuple(f"{base}/+/{name}" for name in names)
        link = Link("127.0.0.1", port, "", f"onlooker-{time.monotonic_ns()}", topics)
        async with connected(link, Desk(self._outbox, self._received)) as connection:
            self._connection = connection
            yield

    async def submit(
        self, nonce: int, publisher: bytes, patience_s: float = PATIENCE_S
    ) -> int | None:
        """One transfer on the op topic of a device; ns until a quorum has it final, or None."""
        assert self._connection is not None
        frame = self._boards.transfer(nonce, nonce)
        op = _op_id(frame)
        arrived = self._awaited[op] = asyncio.get_running_loop().create_future()
        topic = Topics(self._boards.mesh_id, publisher).mine("op")
        began = time.monotonic_ns()
        self._outbox.put(Letter(Publish(topic, frame), 0))
        self._connection.wake()
        try:
            async with asyncio.timeout(patience_s):
                return await arrived - began
        except TimeoutError:
            return None
        finally:
            del self._awaited[op]

    def _received(self, received: Received) -> None:
        document = json.loads(received.payload)
        name = document["name"]
        match received.topic.rpartition("/")[2]:
            case "ledger":
                for event in document["events"]:
                    self._heard(event["op"], name)
            case "decision":
                self.led[document["height"]] = document["leader"]
            case "state":
                self.rejects[name] = Counter(document["rejects"])
            case _:
                self.dropped[name] = document["dropped_in"]

    def _heard(self, op: str, name: str) -> None:
        arrived = self._awaited.get(op)
        if arrived is None:
            return
        voters = self._final.setdefault(op, set())
        voters.add(name)
        if len(voters) == self._quorum:
            arrived.set_result(time.monotonic_ns())


def _op_id(frame: bytes) -> str:
    """As R-LED-5 has it."""
    signer, payload, _ = split(frame)
    return hashlib.blake2b(signer + payload, digest_size=32).hexdigest()
