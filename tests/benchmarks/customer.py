"""The client of a benchmarked mesh: submits ops and hears when they are final, as any node would.

Final is the instant at which the finalize votes of a quorum have arrived here, so a measurement
spans exactly four one-way hops: the op, the proposal, the notarize votes, the finalize votes.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from benchmarks.boards import Boards
from demesh.ports import Publish, Received
from demesh.transport.client import Connection, Desk, Link, connected
from demesh.transport.outbox import Letter, Outbox
from demesh.wire.frame import split
from demesh.wire.kinds import Kind
from demesh.wire.statements import decode_proposal, decode_statement
from demesh_consensus.types import Block, StatementKind

PATIENCE_S = 30.0


class Customer:
    """Counts final blocks and their ops; `seen` is told of each."""

    def __init__(self, boards: Boards) -> None:
        self._boards = boards
        devices = boards.genesis.body.devices
        weight = sum(device.weight for device in devices)
        self._quorum = 2 * weight // 3 + 1  # R-CON's quorum of equal voters
        self._blocks: dict[bytes, Block] = {}
        self._votes: dict[bytes, set[bytes]] = {}
        self._final: set[bytes] = set()
        self._awaited: dict[bytes, asyncio.Future[int]] = {}  # by frame
        self._news = asyncio.Event()
        self.heard: set[str] = set()  # topics of cards: who is up
        self.blocks = self.ops = 0
        self.last_ns = 0
        self._connections: list[tuple[Outbox, Connection]] = []

    @asynccontextmanager
    async def connected(self, *ports: int) -> AsyncIterator[None]:
        """Connected and subscribed at all of these while the block runs; one may be lost."""
        base = self._boards.topics.mine("vote").rpartition("/")[0]
        cards = self._boards.topics.mine("card").rpartition("/")[0]
        topics = (f"{base}/+", f"{cards}/+")
        async with AsyncExitStack() as stack:
            for port in ports:
                outbox = Outbox()
                link = Link("127.0.0.1", port, "", f"customer-{time.monotonic_ns()}", topics)
                opened = connected(link, Desk(outbox, self._received))
                self._connections.append((outbox, await stack.enter_async_context(opened)))
            yield

    async def everybody(self) -> None:
        """Wait until all voters have shown themselves, and a first transfer is final."""
        await self._until(lambda: len(self.heard) >= len(self._boards.voters))
        await self.buy(0, 0)

    async def buy(self, signer: int, nonce: int) -> int:
        """Submit one transfer; ns until it is final. Nothing else may be under way."""
        frame, before = self._boards.transfer(signer, nonce), self.ops
        began = time.monotonic_ns()
        self.submit(frame)
        await self._until(lambda: self.ops > before)
        return self.last_ns - began

    async def trade(self, clients: int, seconds: float, first: int) -> list[int]:
        """So many clients submit ops for so long, each its next one when one is final.

        Finality of each op in ns, of those that were final in time. Nonces count from `first`.
        """
        taken: list[int] = []
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds

        async def shop(client: int) -> None:
            for nonce in itertools.count(first):
                frame = self._boards.transfer(client, nonce)
                arrived = self._awaited[frame] = loop.create_future()
                began = time.monotonic_ns()
                self.submit(frame)
                try:
                    async with asyncio.timeout_at(end):
                        taken.append(await arrived - began)
                except TimeoutError:
                    return

        async with asyncio.TaskGroup() as group:
            for client in range(clients):
                group.create_task(shop(client))
        self._awaited.clear()
        return taken

    def submit(self, frame: bytes) -> None:
        """Publish one op."""
        for outbox, connection in self._connections:
            outbox.put(Letter(Publish(self._boards.topics.mine("op"), frame), 0))
            connection.wake()

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not reached():
                self._news.clear()
                await self._news.wait()

    def _received(self, received: Received) -> None:
        area = received.topic.split("/")[3]
        if area == "card":
            self.heard.add(received.topic)
            self._news.set()
            return
        kid, payload, _ = split(received.payload)
        kind = _kind(received.payload)
        if kind is Kind.PROPOSAL:
            proposal = decode_proposal(payload)
            self._blocks[proposal.vote.statement.digest] = proposal.block
            self._settle(proposal.vote.statement.digest)
        elif kind is Kind.VOTE:
            statement = decode_statement(payload)
            if statement.kind is StatementKind.FINALIZE:
                self._votes.setdefault(statement.digest, set()).add(kid)
                self._settle(statement.digest)

    def _settle(self, digest: bytes) -> None:
        """A block is final with its quorum, and so are its ancestors."""
        if len(self._votes.get(digest, ())) < self._quorum:
            return
        now = time.monotonic_ns()
        while digest not in self._final and digest in self._blocks:
            block = self._blocks[digest]
            self._final.add(digest)
            self.blocks += 1
            self.ops += len(block.ops)
            self.last_ns = now
            for op in block.ops:
                arrived = self._awaited.pop(op, None)
                if arrived is not None and not arrived.done():
                    arrived.set_result(now)
            digest = block.parent
        self._news.set()


def _kind(frame: bytes) -> Kind:
    """The kind of a statement frame: the byte before its unprotected header."""
    return Kind(frame[11])
