"""Brokers that lie beside one that does not, and alone: they delay nothing, and never a fork."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

import pytest

from demesh_consensus import Finalized
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.brokers import Couriers, Exchange
from demesh_sim.campaign.checkers import Checkers
from demesh_sim.campaign.conduct import Conduct
from demesh_sim.campaign.peer import Peer, Watcher
from demesh_sim.campaign.season import HEALED_S
from demesh_sim.campaign.weather import MS, SECOND
from demesh_sim.lies import LIES, Hushing, Lie, LyingBroker, OnlyWills, Post, Replaying

# Beside an honest broker a decision takes as long as with that one alone, or less. What is left is
# chance: the two runs draw other latencies, of 1 to 10 ms each.
MARGIN_MS = 10
EVERY_MS = 700


@dataclass
class Stopwatch(Watcher):
    """When each op was final, and where."""

    arena: Arena
    final_at: dict[bytes, dict[int, int]] = field(default_factory=dict)

    def final(self, peer: Peer, effect: Finalized) -> None:
        for _, block in effect.blocks:
            for op in block.ops:
                self.final_at.setdefault(op, {})[peer.index] = self.arena.now


class Mesh:
    """Honest voters in good weather, and these brokers."""

    def __init__(self, seed: int, minds: Sequence[type[Lie] | None], voters: int = 5) -> None:
        self.arena = arena = Arena((1,) * voters, seed)
        arena.weather.sync_ms = (1, 5)
        clients = tuple(str(peer.index) for peer in arena.peers)
        self.minds = [
            None
            if lie is None
            else LyingBroker(
                Random(f"{seed}/{lie.__name__}"),
                clients,
                lambda: b"",
                LIES if lie is Lie else (lie,),
            )
            for lie in minds
        ]
        exchange = Exchange(arena, self.minds)
        for watcher in (Couriers(exchange, len(minds), arena), Checkers(arena)):
            arena.watch(watcher)
        arena.watch(Conduct(arena, frozenset(), frozenset()))
        self.watch = Stopwatch(arena)
        arena.watch(self.watch)
        arena.start()
        self.asked: dict[bytes, int] = {}

    def work(self, seconds: int) -> None:
        """Ops come evenly, each to one voter that tells the others."""
        for at in range(3000, seconds * 1000, EVERY_MS):
            op = b"op %d" % at
            self.asked[op] = self.arena.now + at * MS
            to = (at // EVERY_MS) % len(self.arena.peers)
            self.arena.at(self.asked[op], partial(self.arena.offer, op, (to,)))
        self.arena.run(seconds + 5)

    def took_ms(self) -> list[int]:
        """From the asking to the last voter that has it, of every op."""
        everywhere = len(self.arena.peers)
        finals = [self.watch.final_at.get(op, {}) for op in self.asked]
        assert all(len(final) == everywhere for final in finals), "every op on every voter"
        return [
            (max(final.values()) - at) // MS
            for final, at in zip(finals, self.asked.values(), strict=True)
        ]


@pytest.mark.parametrize("lie", [*LIES, Lie], ids=lambda lie: lie.__name__)
def test_a_liar_beside_an_honest_broker_delays_no_decision(lie: type[Lie]) -> None:
    for seed in range(2):
        alone, both = Mesh(seed, [None]), Mesh(seed, [None, lie] if seed % 2 else [lie, None])
        for mesh in (alone, both):
            mesh.work(20)
        usual, liar = sorted(alone.took_ms()), sorted(both.took_ms())
        half = len(usual) // 2
        assert half > 10
        assert liar[half] <= usual[half] + MARGIN_MS
        assert liar[-1] <= usual[-1] + MARGIN_MS


def test_a_second_honest_broker_costs_no_word_more() -> None:
    said = {}
    for count in (1, 2, 4):
        mesh = Mesh(7, [None] * count)
        mesh.work(20)
        said[count] = len(mesh.arena.sent)
    assert max(said.values()) <= min(said.values()) * 105 // 100


@pytest.mark.parametrize("lie", [OnlyWills, Hushing, Replaying], ids=lambda lie: lie.__name__)
def test_a_liar_makes_a_mesh_say_half_as_much_again_at_most(lie: type[Lie]) -> None:
    said = []
    for minds in ([None], [None, lie]):
        mesh = Mesh(3, minds, voters=10)
        mesh.work(15)
        said.append(len(mesh.arena.sent))
    assert said[1] <= said[0] * 3 // 2


@pytest.mark.parametrize("lie", [*LIES, Lie], ids=lambda lie: lie.__name__)
def test_a_mesh_whose_only_broker_lies_never_forks_and_goes_on_when_it_stops(
    lie: type[Lie],
) -> None:
    for seed in range(2):
        mesh = Mesh(seed, [lie])
        mesh.work(20)
        (mind,) = mesh.minds
        assert mind is not None
        mind.honest = True
        arena = mesh.arena
        end = arena.now + HEALED_S * SECOND
        while len(mesh.watch.final_at) < len(mesh.asked) or any(
            len(final) < len(arena.peers) for final in mesh.watch.final_at.values()
        ):
            assert arena.step(end), "it does not come back"


def test_lies_do_what_their_names_say() -> None:
    """A liar that never lies would make all of the above true."""
    heard = {}
    for lie in (None, *LIES):
        mesh = Mesh(1, [lie])
        counted = _Counting()
        mesh.arena.watch(counted)
        mesh.work(20)
        heard[lie] = (counted.posts, counted.deaths, len(mesh.watch.final_at))
    honest = heard.pop(None)
    assert honest[1] == 0 and len(set(heard.values())) > len(LIES) - 2
    assert all(seen != honest for seen in heard.values())


class _Counting(Watcher):
    def __init__(self) -> None:
        self.posts = self.deaths = 0

    def brought(self, peer: Peer, broker: int, post: Post) -> None:
        self.posts += 1

    def missed(self, peer: Peer, voter: int) -> None:
        self.deaths += 1
