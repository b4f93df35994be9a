"""A fault campaign: every kind of fault over bare meshes, every rule checked after every event."""

from pathlib import Path

import pytest

from sim.campaign import run

KEPT = [
    int(line.split()[0])
    for line in (Path(__file__).parents[1] / "seeds.txt").read_text("utf-8").splitlines()
    if line[:1].isdigit()
]
SEEDS = sorted({*range(20), *KEPT})


@pytest.mark.parametrize("seed", SEEDS, ids=[f"seed-{seed}-" for seed in SEEDS])
def test_a_mesh_under_every_fault_stays_one_mesh_and_heals(seed: int) -> None:
    assert run(seed).blocks > 0
