"""Forgers on an anonymous broker, in a real swarm: they starve neither consensus nor their victim.

What a flood costs in processor time is measured by `make bench ONLY=attack`; here it is what
becomes of votes, blocks, ops and direct messages when budgets run dry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

import pytest

from demesh.ports import SECOND, Instant, Observe, Persist, Publish, StoreBlock
from demesh.wire import identity, statements
from demesh.wire.frame import seal_statement
from demesh.wire.kinds import Kind
from demesh.wire.opbodies import Op, OpType, Transfer
from demesh.wire.schema import encode
from demesh.wire.sealing import SEALED, Sealer
from demesh.wire.topics import Topics
from demesh_consensus.types import Statement, StatementKind
from demesh_sim.bare import Bare, Customer, found_bare
from demesh_sim.links import PROFILES
from demesh_sim.memory_store import MemoryStore
from demesh_sim.swarm import Swarm
from demesh_sim.witness import Witness

VICTIM = 0
CALM_S, FLOOD_S = 5, 6
# Every client of the broker may say 1,000 a second; so the forger comes as three.
FORGERS, EVERY_NS = 3, 1_300_000


class Ledgers(Witness):
    """Whose blocks became final, whose votes made them so, and what the boards show."""

    def __init__(self) -> None:
        self.final: list[tuple[Instant, int]] = []  # when on board 1, and in which view
        self.signers: list[int] = []
        self.shown: dict[int, dict[str, object]] = {}

    def persisted(
        self, board: int, at: Instant, effects: Sequence[Persist], store: MemoryStore
    ) -> None:
        for effect in effects:
            if board == 1 and isinstance(effect, StoreBlock):
                self.final.append((at, statements.decode_block(effect.block).view))
                if effect.certificate:
                    certificate, _ = statements.decode_final(effect.certificate)
                    self.signers += [voter for voter, _ in certificate.signatures]

    def observed(self, board: int, at: Instant, observation: Observe) -> None:
        if observation.topic == "state":
            self.shown[board] = observation.document


class Forger:
    """Says what its victim might be about to say, as fast as the broker lets it."""

    def __init__(
        self, swarm: Swarm, bare: Bare, name: str, forge: Callable[[Forger], Publish]
    ) -> None:
        self.swarm, self.bare, self.chance = swarm, bare, Random(name)
        self.topics = Topics(bare.mesh_id, bare.ids[VICTIM])
        self.binding = identity.binding_of(bare.mesh_id, bare.genesis.body)
        self.sent = 0
        self._forge = forge
        self._client = swarm.network.join(
            name, ("nothing",), ("nothing", b""), lambda _: None, lambda *_: None
        )
        swarm.heap.after(CALM_S * SECOND, self._say)

    def _say(self) -> None:
        self._client.publish(self._forge(self))
        self.sent += 1
        self.swarm.heap.after(EVERY_NS, self._say)

    def noise(self, _: bytes) -> bytes:
        """Sixty-four bytes in the place of a signature."""
        return self.chance.randbytes(64)


def votes(forger: Forger) -> Publish:
    node = forger.swarm.hosts[1].node
    assert node is not None
    view = node.consensus.view + forger.chance.randrange(2)
    kind = forger.chance.choice(list(StatementKind))
    digest = b"" if kind is StatementKind.NULLIFY else forger.chance.randbytes(32)
    rules = forger.bare.genesis.body.rules_version
    said = statements.encode_statement(Statement(kind, 0, view, digest, rules))
    kid = identity.device_id(bytes(forger.bare.members[VICTIM].identity.vote_key.verify_key))
    frame = seal_statement(Kind.VOTE, forger.binding, kid, said, forger.noise)
    return Publish(forger.topics.mine("vote"), frame)


def ops(forger: Forger) -> Publish:
    id = forger.bare.ids[VICTIM]
    body = encode(Transfer(forger.bare.ids[1], 1 + forger.sent))
    op = Op(OpType.TRANSFER, forger.chance.randbytes(8), 2_000_000_000, body)
    frame = seal_statement(Kind.OP, forger.binding, id, encode(op), forger.noise)
    return Publish(forger.topics.mine("op"), frame)


def letters(forger: Forger) -> Publish:
    id = forger.bare.ids[VICTIM]
    to = forger.bare.ids[1 + forger.chance.randrange(3)]
    receiver = next(m for m, i in zip(forger.bare.members, forger.bare.ids, strict=True) if i == to)
    stranger = Sealer(forger.bare.owners[0], forger.binding, 1 + forger.sent)
    sealed = stranger.seal(bytes(receiver.identity.device_key.verify_key), bytes(100))
    return Publish(forger.topics.to(to), SEALED + id + sealed[len(SEALED) + 16 :])


def farewells(forger: Forger) -> Publish:
    return Publish(forger.topics.mine("gone"), b"1")


@pytest.mark.parametrize("forge", [votes, ops, letters, farewells], ids=lambda f: f.__name__)
def test_a_flood_in_a_victims_name_starves_neither_consensus_nor_the_victim(
    forge: Callable[[Forger], Publish],
) -> None:
    bare, seen = found_bare(4, seed=31), Ledgers()
    swarm = Swarm(
        bare.members, bare.genesis, 31, PROFILES["ethernet"], witnesses=[seen],
        replay="python -m pytest tests/sim/test_flood.py",
    )  # fmt: skip
    Customer(swarm, bare, every_ms=100, until_s=CALM_S + FLOOD_S)
    forgers = [Forger(swarm, bare, f"forger {n}", forge) for n in range(FORGERS)]
    swarm.run(CALM_S + FLOOD_S)
    assert sum(forger.sent for forger in forgers) > 2_000 * FLOOD_S

    calm = [at for at, _ in seen.final if SECOND < at <= CALM_S * SECOND]
    flood = [at for at, _ in seen.final if at > (CALM_S + 1) * SECOND]
    assert len(flood) / (FLOOD_S - 1) > 0.7 * len(calm) / (CALM_S - 1)
    pauses = [b - a for a, b in pairwise(flood)]
    assert max(pauses) < 3 * max(b - a for a, b in pairwise(calm)) + SECOND

    node = swarm.hosts[1].node
    assert node is not None
    victim = node.directory.member(bare.ids[VICTIM])
    assert victim is not None and victim.voter is not None
    leader = node.consensus.voters.leader
    led = [view for at, view in seen.final if at > (CALM_S + 1) * SECOND]
    assert sum(leader(view) == victim.voter for view in led) > len(led) // 8
    assert seen.signers.count(victim.voter) > len(seen.final) // 4
    shown = seen.shown[1]
    assert shown["rejects"], "what was dropped is counted"
    if forge in (votes, ops, farewells):
        area = {votes: "vote", ops: "op", farewells: "gone"}[forge]
        assert shown["flooded"] == [f"{area}/voter-0"]
