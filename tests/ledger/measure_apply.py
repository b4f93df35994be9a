"""Measures what a block costs: apply and root for 1, 10 and 100 transfers, and restore. Not a test.

PYTHONPATH=daemon:consensus:tests python -m ledger.measure_apply
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from demesh.ledger.ledger import Ledger
from ledger.book import (
    ANN,
    BEN,
    START_S,
    claiming,
    closing,
    genesis_body,
    open_voucher,
    opening,
    transfer,
    voucher_frame,
)


def micros(work: Callable[[int], object], rounds: int) -> float:
    """Median duration of `work`, in microseconds."""
    taken = []
    for turn in range(rounds):
        begin = time.perf_counter_ns()
        work(turn)
        taken.append(time.perf_counter_ns() - begin)
    return statistics.median(taken) / 1000


def main() -> None:
    ledger = Ledger.genesis(genesis_body())
    # A day's worth of remembered ops, so that paths are as long as in a mesh that lives.
    for height in range(20):
        ops = [transfer(ANN, BEN, 1, nonce=200 * height + n) for n in range(100)]
        ops += [transfer(BEN, ANN, 1, nonce=200 * height + 100 + n) for n in range(100)]
        ledger = ledger.apply(ops, START_S + 1, open_voucher).ledger
        ledger.root  # noqa: B018  hashed, as after every block
    out = sys.stdout.write
    out(f"{len(ledger.records())} records\n")
    for count in (1, 10, 100):
        blocks = [
            [transfer(ANN, BEN, 1, nonce=10**6 + 1000 * turn + n) for n in range(count)]
            for turn in range(50)
        ]
        taken = micros(
            lambda t, b=blocks: ledger.apply(b[t], START_S + 2, open_voucher).ledger.root, 50
        )
        out(f"{count:4d} transfers: {taken:9.0f} us a block, {taken / count:7.1f} us an op\n")
    opens = [opening(ANN, BEN, 10, nonce=n) for n in range(100)]
    opened = ledger.apply(opens, START_S + 2, open_voucher).ledger
    taken = micros(lambda _: ledger.apply(opens, START_S + 2, open_voucher).ledger.root, 20)
    out(f" 100 openings:  {taken:9.0f} us a block\n")
    frames = [voucher_frame(ANN, op.id[:16], 5) for op in opens]
    claims = [claiming(BEN, frame) for frame in frames]
    first = micros(lambda _: opened.apply(claims, START_S + 3, open_voucher).ledger.root, 1)
    out(f" 100 claims:    {first:9.0f} us a block, every signature checked anew\n")
    closes = [closing(BEN, op.id[:16]) for op in opens]
    taken = micros(lambda _: opened.apply(closes, START_S + 3, open_voucher).ledger.root, 20)
    out(f" 100 closes:    {taken:9.0f} us a block\n")
    taken = micros(lambda _: ledger.apply((), START_S + 2, open_voucher).ledger.root, 50)
    out(f" an empty block: {taken:8.0f} us\n")
    records = ledger.records()
    taken = micros(lambda _: Ledger.restore(records).root, 3)
    out(f" restore:       {taken:9.0f} us\n")


if __name__ == "__main__":
    main()
