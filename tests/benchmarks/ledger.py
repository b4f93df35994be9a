"""The ledger: what it costs to apply a block and hash its root, beside its ops' signatures."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.plan import Plan
from benchmarks.row import Row
from benchmarks.timing import per_item_ns
from demesh.ledger.ledger import Ledger
from demesh.ledger.ops import SignedOp
from demesh.wire.keys import signed_by
from ledger.book import ANN, BEN, KEYS, START_S, genesis_body, open_voucher, transfer

GROUP = "ledger"

BLOCK_SIZES = (1, 10, 100, 1_000)
MESSAGE = b"as long as a transfer: " + bytes(120)


def rows(plan: Plan) -> Iterator[Row]:
    """Transfers on a ledger that has lived for a day."""
    ledger = aged(plan.count(20))
    key = bytes(KEYS["ann"].verify_key)
    signature = KEYS["ann"].sign(MESSAGE).signature
    for count in BLOCK_SIZES:
        rounds = plan.count(31 if count <= 100 else 7, 2)
        blocks = iter(
            [transfer(ANN, BEN, 1, nonce=10**6 + 1000 * turn + n) for n in range(count)]
            for turn in range(rounds + 1)
        )

        def verify(count: int = count) -> None:
            for _ in range(count):
                signed_by(key, MESSAGE, signature)

        def apply(blocks: Iterator[list[SignedOp]] = blocks) -> bytes:
            return ledger.apply(next(blocks), START_S + 2, open_voucher).ledger.root

        taken, verified = per_item_ns([apply, verify], 1, rounds)
        how = f"{len(ledger.records())} records, signatures known; median of {rounds}, CPU time"
        what = f"apply and root, {count:,} op{'s' if count > 1 else ''}"
        reference = f"{count} verif{'ies' if count > 1 else 'y'}"
        yield Row(GROUP, what, taken / 1000, "us", how, verified / 1000, reference)


def aged(heights: int) -> Ledger:
    """A ledger that remembers 200 ops a height, so that paths are as long as in a busy mesh."""
    ledger = Ledger.genesis(genesis_body())
    for height in range(heights):
        there = [transfer(ANN, BEN, 1, nonce=200 * height + n) for n in range(100)]
        back = [transfer(BEN, ANN, 1, nonce=200 * height + 100 + n) for n in range(100)]
        ledger = ledger.apply(there + back, START_S + 1, open_voucher).ledger
        assert ledger.root, "hashed, as after every block"
    return ledger
