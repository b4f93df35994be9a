"""How many claims a ledger takes: each another channel's, each signature unknown, with links."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.plan import Plan
from benchmarks.row import Row
from benchmarks.timing import per_item_ns
from demesh.ledger.channels import CHANNELS_MAX, WALKS_MAX
from demesh.ledger.ledger import Applied
from demesh.ledger.ops import SignedOp
from demesh.ledger.state import Result
from demesh.wire import payword
from demesh.wire.frame import signed_bytes, split
from demesh.wire.keys import signed_by
from demesh.wire.kinds import Kind
from ledger.book import (
    ANN,
    BEN,
    BINDING,
    CEM,
    KEYS,
    Book,
    chain,
    chained_frame,
    claiming,
    new_opener,
    opening,
    voucher_frame,
)

GROUP = "ledger"

LINKS_MAX = 4_096


def rows(plan: Plan) -> Iterator[Row]:
    """Without links, with one, with as long a walk as there is; then what a hash of it costs."""
    for links in (0, 1, LINKS_MAX):
        yield _claimed(plan, min(links, plan.count(links, 3)))
    yield _hash(plan)


def _claimed(plan: Plan, links: int) -> Row:
    count, rounds = plan.count(min(WALKS_MAX, CHANNELS_MAX), 3), plan.count(9)
    book = Book(rules=3)
    ids = [book.open(opening(ANN, BEN, 10, nonce=nonce)) for nonce in range(count)]
    chains = [chain(id, links) for id in ids]
    blocks = [_block(ids, chains, turn) for turn in range(rounds + 1)]
    # Every round applies to the same ledger, with another validator that has seen none of it.
    unused = iter([(ops, new_opener()) for ops, _ in blocks])
    frames = iter([frames for _, frames in blocks])
    key = bytes(KEYS["ann"].verify_key)

    def apply() -> Applied:
        ops, opener = next(unused)
        return book.ledger.apply(ops, book.time_s, opener)

    def verify() -> None:
        for frame in next(frames):
            _, payload, signature = split(frame)
            assert signed_by(key, signed_bytes(Kind.VOUCHER, BINDING, payload), signature)

    taken, verified = per_item_ns([lambda: apply().ledger.root, verify], count, rounds)
    tried = book.ledger.apply(blocks[0][0], book.time_s, new_opener())
    assert set(tried.results) == {Result.OK}, tried.results
    way = f" with {links:,} link{'s' if links > 1 else ''}" if links else ""
    how = f"blocks of {count}, root too, median of {rounds}; the submitters' signatures known"
    return Row(
        GROUP, f"claims applied{way}", 1e9 / taken, "/s", how, 1e9 / verified, "vouchers verified"
    )


def _block(
    ids: list[bytes], chains: list[list[bytes]], turn: int
) -> tuple[list[SignedOp], list[bytes]]:
    """A claim of the whole chain of each channel, and their vouchers."""
    ops, frames = [], []
    for id, way in zip(ids, chains, strict=True):
        links = len(way) - 1
        if links:
            frame = chained_frame(ANN, id, turn + 1, 1, way)
            ops.append(claiming(CEM, frame, links, way[-1]))
        else:
            frame = voucher_frame(ANN, id, turn + 1)
            ops.append(claiming(CEM, frame))
        frames.append(frame)
    return ops, frames


def _hash(plan: Plan) -> Row:
    count, rounds = plan.count(LINKS_MAX, 4), plan.count(15)
    key, message = KEYS["ann"], bytes(100)
    signature, public = key.sign(message).signature, bytes(key.verify_key)
    verifies = plan.count(200, 2)

    def verify() -> None:
        for _ in range(verifies):
            signed_by(public, message, signature)

    walked, _ = per_item_ns(
        [lambda: payword.root_of(bytes(16), count, bytes(16), 0), verify], count, rounds
    )
    _, verified = per_item_ns([lambda: None, verify], verifies, rounds)
    how = f"{count:,} hashes in a row, median of {rounds}, CPU time"
    return Row(GROUP, "link checked", walked / 1000, "us", how, verified / 1000, "bare verify")
