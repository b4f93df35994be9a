"""SIGKILL at any instant: what the store acknowledged is there, and nothing is half there."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from demesh.ports import Restored
from demesh.storage.store import FileStore

MESH = bytes(32)
ROUNDS = 12

# Writes turn after turn and says so after each: a vote, a block with a record, an urgent value, and
# every tenth turn a compaction. The number of the turn is in all of them.
WRITER = """
import sys
from pathlib import Path
from demesh.ports import CompactJournal, Journal, Keep, StoreBlock
from demesh.storage.store import FileStore

store = FileStore(Path(sys.argv[1]), bytes(32))
turn = max([int(record) for record in store.load().journal], default=0)
while True:
    turn += 1
    number = b"%d" % turn
    effects = [Journal(number), StoreBlock(turn, number * 50, None, ((b"last", number),))]
    if turn % 2 == 0:
        effects.append(Keep("voucher", b"c", number, urgent=True))
    if turn % 10 == 0:
        effects.append(CompactJournal((number,)))
    store.commit(effects)
    print(turn, flush=True)
"""


def restored(folder: Path) -> Restored:
    store = FileStore(folder, MESH)
    try:
        return store.load()
    finally:
        store.close()


def killed_after(folder: Path, lines: int, program: str = WRITER) -> int:
    """Start the writer, kill it after some acknowledged turns; the last acknowledged turn."""
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    for _ in range(lines):
        writer.stdout.readline()
    writer.kill()
    said = writer.communicate()[0].split()
    return int(said[-1]) if said and said[-1].isdigit() else 0


def test_killed_at_any_instant_it_comes_back_with_everything_acknowledged(tmp_path: Path) -> None:
    randomness = random.Random(3)
    for _ in range(ROUNDS):
        acknowledged = killed_after(tmp_path, randomness.randrange(1, 40))
        after = restored(tmp_path)
        votes = [int(record) for record in after.journal]
        assert votes[-1] >= acknowledged
        assert votes == list(range(votes[0], votes[-1] + 1)), "no gap"
        assert after.tip is not None
        # Every second turn is urgent, and takes the block before it along. A turn that compacts
        # commits the database before the journal, whose new record nobody has seen yet.
        compacting = (votes[-1] + 1) % 10 == 0
        assert acknowledged - acknowledged % 2 <= after.tip.height <= votes[-1] + compacting
        assert after.tip.block == b"%d" % after.tip.height * 50
        assert dict(after.records)[b"last"] == b"%d" % after.tip.height, "block and records agree"
        voucher = int(after.kept[0][2]) if after.kept else 0
        assert voucher >= acknowledged - acknowledged % 2


# Writes blocks, and every third turn a checkpoint that takes the place of them all. The number of
# the turn is in everything, so that half of an adoption would show.
ADOPTER = """
import sys
from pathlib import Path
from demesh.ports import Adopt, StoreBlock
from demesh.storage.store import FileStore

store = FileStore(Path(sys.argv[1]), bytes(32))
restored = store.load()
turn = int(dict(restored.records).get(b"last", b"0"))
while True:
    turn += 1
    number = b"%d" % turn
    records = ((b"last", number), (b"size", bytes(turn % 7 * 5000)))
    if turn % 3:
        store.commit([StoreBlock(turn, number, b"final", records)])
    else:
        chunk = (number.rjust(32), number * 2000)
        store.commit([Adopt(turn, number, (chunk,), records, ((turn, number),))])
        print(turn, flush=True)
"""


def test_killed_at_any_instant_a_checkpoint_was_adopted_whole_or_not_at_all(tmp_path: Path) -> None:
    randomness = random.Random(5)
    for _ in range(ROUNDS):
        acknowledged = killed_after(tmp_path, randomness.randrange(1, 40), ADOPTER)
        after = restored(tmp_path)
        records = dict(after.records)
        last = int(records[b"last"])
        assert last >= acknowledged, "an adoption is durable when it is acknowledged"
        assert records[b"size"] == bytes(last % 7 * 5000), "all records are of one turn"
        assert after.checkpoint is not None
        adopted = int(after.checkpoint)
        assert adopted == last - last % 3
        if after.tip is not None:
            assert after.tip.height == last != adopted
        store = FileStore(tmp_path, MESH)
        assert store.chunk(b"%32d" % adopted) == b"%d" % adopted * 2000
        assert store.chunk(b"%32d" % (adopted - 3)) is None
        assert store.hand_overs()[-1] == b"%d" % adopted
        store.close()
