"""Real nodes in virtual time: what a mesh promises, and that a run is a function of its seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from demesh.past import standing_of
from demesh.ports import MILLISECOND, Journal, Observe, Publish
from demesh.wire.topics import Topics
from demesh_sim import scenario as scenarios
from demesh_sim.bare import Bare, Customer, found_bare
from demesh_sim.faults import Fault, Faults, strikes
from demesh_sim.links import PROFILES
from demesh_sim.memory_store import EMPTY_JOURNAL, MemoryStore
from demesh_sim.swarm import Swarm
from demesh_sim.virtual import virtual_run
from demesh_sim.witness import Witness

ROOT = Path(__file__).parents[2]
STREET = ROOT / "configs" / "scenarios" / "street.toml"


class Counting(Witness):
    """Counts protocol messages and keeps what nodes show."""

    def __init__(self) -> None:
        self.published = 0
        self.shown: list[tuple[int, Observe]] = []

    def publishing(self, board: int, at: int, message: Publish, store: MemoryStore) -> None:
        self.published += 1

    def observed(self, board: int, at: int, observation: Observe) -> None:
        self.shown.append((board, observation))


def swarm_of(
    bare: Bare, seed: int, *, profile: str = "wifi", faults: Faults | None = None
) -> tuple[Swarm, Counting]:
    counting = Counting()
    swarm = Swarm(
        bare.members,
        bare.genesis,
        seed,
        PROFILES[profile],
        faults or Faults(),
        witnesses=[counting],
        replay="python -m pytest tests/sim/test_swarm.py",
    )
    return swarm, counting


def test_a_mesh_without_faults_decides_every_op_on_every_board() -> None:
    bare = found_bare(4, seed=1)
    swarm, _ = swarm_of(bare, 1)
    customer = Customer(swarm, bare, every_ms=300, until_s=20)
    swarm.run(30)
    report = swarm.report()
    assert report.blocks == report.common_height > 10
    assert report.finality_p99_ms is not None and report.finality_p99_ms < 1_000
    for host in swarm.hosts:
        assert host.node is not None and not list(host.node.application.pool)
        records = dict(host.store.records())
        assert sum(key[:1] == b"o" for key in records) == customer.sent  # one receipt per op


def test_an_idle_mesh_is_silent() -> None:
    bare = found_bare(5, seed=2)
    swarm, counting = swarm_of(bare, 2)
    Customer(swarm, bare, every_ms=500, until_s=10)
    swarm.run(60)
    before, height = counting.published, swarm.report().blocks
    swarm.run(60 + 3600)
    assert swarm.report().blocks == height
    # Beacons of the tip back off and fall silent; ten an hour and board is still an idle mesh.
    assert counting.published - before <= 10 * len(bare.members)


def test_two_of_eight_boards_down_stop_nothing_three_do_and_one_that_returns_ends_it() -> None:
    bare = found_bare(8, seed=3)
    swarm, _ = swarm_of(bare, 3)
    Customer(swarm, bare, every_ms=500, until_s=200)
    swarm.run(5)
    for index in (1, 4):
        swarm.hosts[index].crash()
    before = swarm.report().blocks
    swarm.run(40)
    assert swarm.report().blocks > before
    swarm.hosts[6].crash()
    swarm.run(42)
    stuck = swarm.report().blocks
    swarm.run(80)
    assert swarm.report().blocks == stuck
    swarm.hosts[4].boot()
    swarm.run(120)
    assert swarm.report().blocks > stuck


def test_a_board_that_was_away_for_a_while_catches_up() -> None:
    bare = found_bare(4, seed=4)
    swarm, _ = swarm_of(bare, 4)
    Customer(swarm, bare, every_ms=200, until_s=60)
    swarm.run(5)
    swarm.hosts[2].crash()
    swarm.run(50)
    assert swarm.report().heights[2] < swarm.report().blocks - 100
    swarm.hosts[2].boot()
    swarm.run(80)
    assert len(set(swarm.report().heights)) == 1


def test_a_mesh_that_lost_its_power_as_a_whole_goes_on_where_it_was() -> None:
    bare = found_bare(5, seed=5)
    swarm, _ = swarm_of(bare, 5)
    Customer(swarm, bare, every_ms=300, until_s=40)
    swarm.run(20)
    for host in swarm.hosts:
        host.crash()
    swarm.run(22)
    before = swarm.report().common_height
    for host in swarm.hosts:
        host.boot()
    swarm.run(60)
    report = swarm.report()
    assert report.common_height == report.blocks > before > 0


def test_a_restarted_broker_stops_nothing_for_good() -> None:
    bare = found_bare(4, seed=6)
    swarm, _ = swarm_of(bare, 6)
    Customer(swarm, bare, every_ms=300, until_s=60)
    swarm.run(10)
    swarm.network.restart_broker(3_000 * MILLISECOND)
    swarm.run(13)
    before = swarm.report().blocks
    swarm.run(70)
    report = swarm.report()
    assert report.common_height == report.blocks > before


def test_a_voter_whose_journal_forgot_is_quarantined_and_never_contradicts_itself() -> None:
    bare = found_bare(4, seed=7)
    swarm, _ = swarm_of(bare, 7)
    Customer(swarm, bare, every_ms=100, until_s=40)
    swarm.run(10)
    host = swarm.hosts[0]
    # Caught in a view it has voted in and that is not decided yet, or there is nothing to forget.
    while host.node is None or not host.node.consensus.votes_of(0):
        swarm.heap.run(swarm.heap.now + MILLISECOND)
    host.crash()
    host.store.journal[:] = EMPTY_JOURNAL
    host.boot()
    swarm.run(60)
    assert host.node is not None
    assert standing_of(host.store.load().journal).given_up
    assert not host.node.consensus.voting
    assert swarm.report().common_height == swarm.report().blocks


def test_a_board_without_its_ledger_gets_the_blocks_back_and_votes_on() -> None:
    bare = found_bare(4, seed=9)
    swarm, _ = swarm_of(bare, 9)
    Customer(swarm, bare, every_ms=40, until_s=60)
    swarm.run(30)
    host = swarm.hosts[0]
    host.crash()
    assert standing_of(host.store.load().journal).floor > 0, "the journal was cut before"
    emptied = MemoryStore()
    emptied.journal[:] = host.store.journal
    host.store = emptied
    host.boot()
    swarm.run(90)
    assert host.node is not None and host.node.consensus.voting
    assert len(set(swarm.report().heights)) == 1


def test_garbage_on_every_topic_is_counted_and_otherwise_ignored() -> None:
    bare = found_bare(4, seed=8)
    swarm, _ = swarm_of(bare, 8)
    Customer(swarm, bare, every_ms=300, until_s=20)
    chance = Random(8)
    vandal = swarm.network.join(
        "vandal", ("nothing",), ("nothing", b""), lambda _: None, lambda *_: None
    )
    topics = Topics(bare.mesh_id, bare.ids[1])
    for number in range(400):
        area = chance.choice(("vote", "op", "tip", "card", "gone"))
        message = Publish(topics.mine(area), chance.randbytes(chance.randrange(200)))
        swarm.heap.at((2_000 + 40 * number) * MILLISECOND, lambda m=message: vandal.publish(m))
    swarm.run(30)
    report = swarm.report()
    assert report.common_height == report.blocks > 10
    assert swarm.hosts[0].node is not None
    assert sum(swarm.hosts[0].node.rejects.values()) > 300


# -- determinism -----------------------------------------------------------------------------------

DIGESTS = """
from sim.campaign import campaign
from demesh_sim import scenario
from demesh_sim.faults import Faults
from demesh_sim.virtual import virtual_run
from pathlib import Path
swarm, _ = campaign(3)
swarm.run(20)
street = scenario.load(Path({street!r}))
faults = Faults(crash_s=5, disconnect_s=5, duplicate_ppm=20_000)
print(swarm.report().digest, virtual_run(street, 7, 12, faults=faults).report.digest)
"""


def test_equal_seeds_give_equal_digests_under_any_hash_seed() -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", DIGESTS.format(street=str(STREET))],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("0", "1", "4711")
    ]
    digests = {run.communicate(timeout=120)[0] for run in runs}
    assert len(digests) == 1, digests
    assert len(digests.pop().split()) == 2


def test_another_seed_gives_another_run() -> None:
    bare = found_bare(4, seed=1)

    def digest(seed: int) -> str:
        swarm, _ = swarm_of(bare, seed)
        Customer(swarm, bare, every_ms=300, until_s=5)
        swarm.run(6)
        return swarm.report().digest

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


def test_a_street_in_virtual_time_trades_and_settles_and_agrees() -> None:
    seen: list[str] = []
    street = scenarios.load(STREET)
    found = virtual_run(street, 7, 30, lambda _, topic, document, at: seen.append(topic))
    report = found.report
    assert report.common_height == report.blocks > 10
    assert {"state", "decision", "ledger", "metering", "event"} <= set(seen)
    keys = {key[:1] for key, _ in found.stores["feeder"].records()}
    assert b"o" in keys
    assert all(store.tip() is not None for store in found.stores.values())


# -- faults ----------------------------------------------------------------------------------------


def test_the_schedule_of_faults_depends_on_the_seed_alone_and_ends_in_calm() -> None:
    faults = Faults(crash_s=5, disconnect_s=3, broker_s=20, calm_s=100)
    schedule = list(strikes(faults, 4, Random("9/faults")))
    assert schedule == list(strikes(faults, 4, Random("9/faults")))
    assert [strike.at for strike in schedule] == sorted(strike.at for strike in schedule)
    assert schedule[-1].at < 100_000_000_000
    assert {strike.fault for strike in schedule} == {Fault.CRASH, Fault.DISCONNECT, Fault.BROKER}
    crashes = sum(strike.fault is Fault.CRASH for strike in schedule)
    assert 10 <= crashes <= 35


def test_no_faults_is_an_empty_schedule() -> None:
    assert list(strikes(Faults(), 4, Random(1))) == []


def test_a_boot_counter_is_on_disk_before_anything_is_published() -> None:
    class Order(Witness):
        kept = False

        def persisted(self, board: int, at: int, effects: object, store: MemoryStore) -> None:
            self.kept = self.kept or any(
                isinstance(effect, Journal) and standing_of((effect.record,)).boot == 1
                for effect in effects
            )

        def publishing(self, board: int, at: int, message: Publish, store: MemoryStore) -> None:
            assert self.kept

    bare = found_bare(4, seed=1)
    swarm = Swarm(
        bare.members[:1], bare.genesis, 1, PROFILES["ethernet"], witnesses=[order := Order()]
    )
    swarm.run(5)
    assert order.kept


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_crash_inside_the_very_first_turn_leaves_a_board_that_starts(step: int) -> None:
    bare = found_bare(4, seed=1)
    swarm, _ = swarm_of(bare, step)
    swarm.heap.run(0)
    host = swarm.hosts[0]
    while not host.running:
        swarm.heap.run(swarm.heap.next_at() or 0)
    host.crash()
    host.boot()
    swarm.run(10)
    assert host.node is not None and host.node.consensus.voting
