"""Same ops, same root: under any hash seed, after a restart, and from one release to the next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.history import digest

# Pins state root, results and events of a history: if it changes, the ledger's version must too,
# for old and new daemons would disagree about every block.
PINNED = {
    1: (
        "fd4a5f42ab7ceb5ee6ce692b4114a807eee3492a771b7de8a8a12d60f80e3d78 "
        "8cbed84d94d7ecf91ee467f367fc7a40"
    ),
    3: (
        "29eb75068e810332cbceb2d41b731d56bcdb9bf8039b3e309930e5aa72a91d74 "
        "dc36d394bab4216001386eccd72f7fcf"
    ),
}


@pytest.mark.parametrize("rules", PINNED)
def test_a_history_has_the_root_it_had_in_every_release_that_kept_its_rules(rules):
    assert digest(seed=7, blocks=80, rules=rules) == PINNED[rules]


@pytest.mark.parametrize("rules", PINNED)
@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_a_history_has_the_same_root_under_any_hash_seed(hash_seed, rules):
    program = Path(__file__).with_name("history.py")
    environment = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join([str(program.parents[1]), *sys.path]),
    }
    finished = subprocess.run(
        [sys.executable, "-m", "ledger.history", "7", "80", str(rules)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert finished.stdout.strip() == PINNED[rules]
