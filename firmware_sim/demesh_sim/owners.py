"""The owners of a bare mesh, who change its members while it runs.

As `demesh member` does: an op is made of what a device's ledger says, published in the name of a
member, and said again until a ledger shows what came of it, for a broker may lose it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from nacl.signing import SigningKey

from demesh.ledger.enrolment import enrol
from demesh.ledger.ledger import Ledger
from demesh.ports import MILLISECOND, SECOND, Instant, Publish
from demesh.wire import identity
from demesh.wire.frame import seal_statement
from demesh.wire.kinds import Kind
from demesh.wire.opbodies import Op, OpType
from demesh.wire.schema import encode
from demesh.wire.topics import Topics
from demesh_sim.bare import BEGINS_S, OP_VALID_S, Bare
from demesh_sim.swarm import Swarm
from demesh_sim.uplinks import speaker

LOOK_NS = 50 * MILLISECOND
AGAIN_NS = 5 * SECOND


@dataclass(frozen=True, slots=True)
class Wish:
    """What a board's membership is to be."""

    board: int
    weight: int
    vote_key: SigningKey


class Owners:
    """Carry out one wish after the other; all owners agree on everything."""

    def __init__(self, swarm: Swarm, bare: Bare) -> None:
        self._swarm, self._bare = swarm, bare
        self._wishes: deque[Wish] = deque()
        self._said: tuple[bytes, Instant] | None = None  # the op under way, and when
        self._ops = 0
        self._client = speaker(swarm.networks, "owners")

    @property
    def content(self) -> bool:
        """Every wish was carried out."""
        return not self._wishes

    def want(self, board: int, weight: int, vote_key: SigningKey | None = None) -> None:
        """Want this after all that was wanted before; without a vote key the board's own one."""
        idle = self.content
        own = self._swarm.hosts[board].member.identity.vote_key
        self._wishes.append(Wish(board, weight, vote_key or own))
        if idle:
            self._act()

    def _act(self) -> None:
        heap, ledger = self._swarm.heap, self._latest()
        if ledger is not None:
            while self._wishes and self._fulfilled(self._wishes[0], ledger):
                self._wishes.popleft()
                self._said = None
            if not self._wishes:
                return
            if self._said is None:
                self._said = self._op(self._wishes[0], ledger), heap.now
                self._say(self._said[0])
            elif heap.now >= self._said[1] + AGAIN_NS:
                self._said = self._said[0], heap.now
                self._say(self._said[0])
        heap.after(LOOK_NS, self._act)

    def _latest(self) -> Ledger | None:
        """The ledger of the running board that has come furthest."""
        nodes = [host.node for host in self._swarm.hosts if host.node is not None]
        if not nodes:
            return None
        return max(nodes, key=lambda node: node.consensus.tip.height).application.ledger

    def _fulfilled(self, wish: Wish, ledger: Ledger) -> bool:
        device_key = self._swarm.hosts[wish.board].member.identity.device_key
        member = ledger.member(identity.device_id(bytes(device_key.verify_key)))
        return member is not None and (member.weight, member.certificate.vote_key) == (
            wish.weight,
            bytes(wish.vote_key.verify_key),
        )

    def _op(self, wish: Wish, ledger: Ledger) -> bytes:
        keys = self._swarm.hosts[wish.board].member.identity
        owner = self._bare.owners[wish.board % len(self._bare.owners)]
        certificate = identity.certify_device(
            owner,
            keys.name,
            keys.device_class,
            bytes(keys.device_key.verify_key),
            bytes(wish.vote_key.verify_key),
        )
        body = enrol(ledger, certificate, wish.weight, self._bare.owners)
        self._ops += 1
        valid_until_s = BEGINS_S + self._swarm.heap.now // SECOND + OP_VALID_S
        nonce = self._ops.to_bytes(8, "big")
        op = Op(OpType.MEMBER, nonce, valid_until_s, encode(body))
        sign = identity.signer(self._bare.members[0].identity.device_key)
        binding = identity.binding_of(self._bare.mesh_id, self._bare.genesis.body)
        return seal_statement(Kind.OP, binding, self._bare.ids[0], encode(op), sign)

    def _say(self, frame: bytes) -> None:
        # Anybody may pass an op on, and a publication in its own name a board does not even look
        # at: two of them, so that every board hears it.
        for passer in self._bare.ids[:2]:
            self._client.publish(Publish(Topics(self._bare.mesh_id, passer).mine("op"), frame))
