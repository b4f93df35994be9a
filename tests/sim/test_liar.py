"""Whole nodes on two brokers, of which one lies: all checkers on, money conserved, nobody waits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from demesh.membership.cards import Cards
from demesh.ports import MILLISECOND, SECOND, Instant, Observe, Persist, StoreBlock
from demesh.wire import identity
from demesh_sim import scenario as scenarios
from demesh_sim.bare import Bare, Customer, found_bare
from demesh_sim.lies import (
    LIES,
    Doubling,
    Dropping,
    Hoarding,
    Hushing,
    Lie,
    OnlyWills,
    Reordering,
    Replaying,
    Swallowing,
    Undertaking,
    area_of,
    publisher_of,
)
from demesh_sim.links import PROFILES
from demesh_sim.memory_store import MemoryStore
from demesh_sim.swarm import Swarm
from demesh_sim.virtual import virtual_run
from demesh_sim.witness import Witness

STREET = Path(__file__).parents[2] / "configs" / "scenarios" / "street.toml"

Minds = Sequence[Sequence[type[Lie]]]


def swarm_of(
    bare: Bare, seed: int, minds: Minds, witnesses: Sequence[Witness] = (), profile: str = "wifi"
) -> Swarm:
    return Swarm(
        bare.members,
        bare.genesis,
        seed,
        PROFILES[profile],
        witnesses=witnesses,
        replay="python -m pytest tests/sim/test_liar.py",
        minds=minds,
    )


class States(Witness):
    """Who seemed to be up, in every state document."""

    def __init__(self) -> None:
        self.up: list[tuple[Instant, int]] = []

    def observed(self, board: int, at: Instant, observation: Observe) -> None:
        up = observation.document.get("up") if observation.topic == "state" else None
        if isinstance(up, list):
            self.up.append((at, len(up)))


@pytest.mark.parametrize("way", [Reordering, Swallowing, Replaying, Hushing, OnlyWills, LIES])
def test_beside_an_honest_broker_a_liar_costs_no_op_and_no_time(
    way: type[Lie] | tuple[type[Lie], ...],
) -> None:
    ways = way if isinstance(way, tuple) else (way,)
    bare = found_bare(4, seed=1)
    took = []
    for minds in (((),), (ways, ())):
        swarm = swarm_of(bare, 1, minds)
        customer = Customer(swarm, bare, every_ms=300, until_s=15)
        swarm.run(20)
        report = swarm.report()
        assert report.blocks == report.common_height > 10
        for host in swarm.hosts:
            assert host.node is not None and not list(host.node.application.pool)
            records = dict(host.store.records())
            assert sum(key[:1] == b"o" for key in records) == customer.sent
        assert report.finality_p50_ms is not None and report.finality_p99_ms is not None
        took.append((report.finality_p50_ms, report.finality_p99_ms))
    (usual_p50, usual_p99), (p50, p99) = took
    assert p50 <= usual_p50 + 10 and p99 <= 2 * usual_p99


def test_a_liar_that_declares_everybody_gone_is_believed_only_when_it_is_alone() -> None:
    bare, seen = found_bare(4, seed=2), States()
    swarm = swarm_of(bare, 2, ((), (Undertaking,)), [seen])
    Customer(swarm, bare, every_ms=300, until_s=45)
    swarm.run(20)
    assert {count for at, count in seen.up if at > 5 * SECOND} == {4}
    seen.up.clear()
    swarm.networks[0].restart_broker(3_000 * MILLISECOND)
    swarm.run(23)
    assert min(count for _, count in seen.up) < 4
    swarm.run(45)
    assert seen.up[-1][1] == 4


class Blocks(Witness):
    """When board 1 stored its blocks."""

    def __init__(self) -> None:
        self.at: list[Instant] = []

    def persisted(
        self, board: int, at: Instant, effects: Sequence[Persist], store: MemoryStore
    ) -> None:
        if board == 1:
            self.at += [at for effect in effects if isinstance(effect, StoreBlock)]


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
@pytest.mark.parametrize("killed", [0, 1])
def test_a_broker_that_dies_in_mid_decision_delays_nothing_and_is_told_all_when_it_is_back(
    killed: int, seed: int
) -> None:
    bare, blocks = found_bare(4, seed=6), Blocks()
    swarm = swarm_of(bare, seed, ((), ()), [blocks])
    Customer(swarm, bare, every_ms=150, until_s=18)
    swarm.run(12)
    said: list[str] = []

    def listener(topic: str, payload: bytes, retained: bool) -> None:
        said.append(topic)

    votes = ["demesh/1/+/vote/+"]
    swarm.networks[killed].join("ear", votes, ("nothing", b""), lambda _: None, listener)
    at = 12 * SECOND + 400 * MILLISECOND
    swarm.heap.run(at)  # between two decisions
    said.clear()
    while not said:  # the next begins, and the rest of it is under way
        assert at < 14 * SECOND, "this broker carries no votes"
        at += MILLISECOND
        swarm.heap.run(at)
    swarm.networks[killed].restart_broker(8 * SECOND)
    swarm.run(24)
    pauses = [(b - a) // MILLISECOND for a, b in pairwise(blocks.at)]
    dying = [
        (b - a) // MILLISECOND for a, b in pairwise(blocks.at) if b >= at and a < at + 12 * SECOND
    ]
    # The other copy may fly for longer; a vote that is lost would cost a timeout, at least 250 ms.
    assert len(dying) > 15 and max(dying) <= max(pauses[: -len(dying)]) + 50
    swarm.run(40)  # by now all have dialled again
    seen: dict[str, None] = {}

    def newcomer(topic: str, payload: bytes, retained: bool) -> None:
        if retained:
            seen[area_of(topic) + publisher_of(topic)] = None

    areas = [f"demesh/1/+/{area}/+" for area in ("card", "tip")]
    swarm.networks[killed].join("new", areas, ("nothing", b""), lambda _: None, newcomer)
    swarm.run(45)
    texts = [identity.text(id) for id in bare.ids]
    assert all("card" + text in seen and "tip" + text in seen for text in texts)


def cards_after_lies(bare: Bare) -> set[bool]:
    """Whether boards show the newest card of one that has started anew, while a liar shows old."""
    swarm = swarm_of(bare, 3, ((), (Hoarding,)))
    swarm.run(10)
    swarm.hosts[0].crash()
    swarm.run(11)
    swarm.hosts[0].boot()
    swarm.run(30)
    newest = []
    for host in swarm.hosts[1:]:
        assert host.node is not None
        card = host.node._cards.of(bare.ids[0])
        newest.append(card is not None and card.boot == 2)
    return set(newest)


def test_an_old_retained_card_never_takes_a_newer_ones_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = found_bare(5, seed=3)
    assert cards_after_lies(bare) == {True}

    def any_card(self: Cards, device: bytes, card: object) -> bool:
        self._cards[device] = card  # type: ignore[assignment]
        return True

    monkeypatch.setattr(Cards, "take", any_card)
    assert False in cards_after_lies(bare), "the test would have seen it"


@pytest.mark.parametrize("way", [Dropping, Doubling, OnlyWills, Hoarding, LIES])
def test_a_mesh_whose_only_broker_lies_is_one_mesh_and_goes_on_when_it_stops(
    way: type[Lie] | tuple[type[Lie], ...],
) -> None:
    bare = found_bare(4, seed=4)
    swarm = swarm_of(bare, 4, (way if isinstance(way, tuple) else (way,),))
    Customer(swarm, bare, every_ms=500, until_s=20)
    swarm.run(20)
    liar = swarm.network.liar
    assert liar is not None
    liar.honest = True
    before = swarm.report().blocks
    Customer(swarm, bare, every_ms=500, until_s=50)
    swarm.run(80)
    report = swarm.report()
    assert report.blocks == report.common_height > before
    for host in swarm.hosts:
        assert host.node is not None and not list(host.node.application.pool)


def test_a_street_trades_and_settles_beside_a_liar_and_every_credit_is_there() -> None:
    street = scenarios.load(STREET)
    settled = {}
    for minds in (((),), (LIES, ())):
        paid: list[int] = []

        def look(_: str, topic: str, document: object, at: int, paid: list[int] = paid) -> None:
            if topic == "ledger" and isinstance(document, dict):
                paid += [e["paid"] for e in document["events"] if e["event"] == "settled"]

        found = virtual_run(street, 7, 30, look, minds=minds)
        assert found.report.common_height == found.report.blocks > 10
        roots = {store.records() for store in found.stores.values()}
        assert len(roots) == 1, "one ledger everywhere"
        settled[minds] = sum(paid)
    assert all(settled.values())
