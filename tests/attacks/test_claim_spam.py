"""Dust claims and claim spam: devices that submit as many ops as they can, each worth nothing.

Border: ops into a node's pool, and from there into blocks. Each signer has 64 waiting ops and 4,096
remembered ones (R-LED-7), a claim that raises nothing costs its submitter's quota too (R-LED-12).
So what others want waits for 64 ops of each spammer at most, a quarter of a block. What spam costs
the mesh is the spammers' share of memory for a day; what it earns is nothing.
"""

from __future__ import annotations

import pytest

from demesh import pool
from demesh.ledger import ops
from demesh.ledger.state import Result
from demesh.pool import OpPool
from demesh.wire.kinds import Reject
from demesh.wire.statements import OPS_PER_BLOCK_MAX
from ledger.book import ANN, BEN, CEM, DORA, Book, claiming, opening, transfer, voucher_frame


class ClaimSpam:
    """Spammers fill a node's pool; then somebody else's op comes."""

    def __init__(self, spammers: int) -> None:
        self.pool, self.spammers = OpPool(), spammers

    def run(self) -> int | Reject:
        """In which block the other's op has its place, 0 the next; or why it is not taken."""
        for spammer in range(self.spammers):
            signer = bytes([spammer]) * 16
            for nonce in range(2_000):
                op = transfer(signer, BEN, 1, nonce=nonce)
                self.pool.add(op, b"")
        wanted = transfer(ANN, BEN, 7)
        refused = self.pool.add(wanted, b"")
        if refused is not None:
            return refused
        place = [pending.op.id for pending in self.pool].index(wanted.id)
        return place // OPS_PER_BLOCK_MAX


class DustClaims(Book):
    """A submitter claims the same promise again and again, then one micro-credit more each time."""

    def __init__(self) -> None:
        super().__init__()
        self.channel = self.open(opening(ANN, BEN))

    def run(self, count: int) -> list[Result]:
        frame = voucher_frame(ANN, self.channel, 50_000)
        done = self.block(claiming(DORA, frame))
        assert done == (Result.OK,)
        return [self.block(claiming(DORA, frame, nonce=n))[0] for n in range(1, count)]


@pytest.mark.parametrize(("spammers", "block"), [(1, 0), (3, 0), (4, 1), (15, 3)])
def test_what_others_want_waits_for_a_quarter_of_a_block_of_each_spammer(
    spammers: int, block: int
) -> None:
    assert ClaimSpam(spammers).run() == block


def test_without_a_share_for_each_signer_one_of_them_shuts_all_others_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "PENDING_PER_SIGNER_MAX", 10**9)
    assert ClaimSpam(1).run() is Reject.FULL


def test_dust_costs_its_submitter_its_quota_and_nobody_else_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ops, "REMEMBERED_MAX", 10)
    attack = DustClaims()
    before = attack.balance(ANN), attack.balance(BEN)
    assert attack.run(13) == [Result.NOTHING] * 9 + [Result.QUOTA] * 3
    assert (attack.balance(ANN), attack.balance(BEN)) == before
    assert attack.block(transfer(CEM, BEN, 1)) == (Result.OK,), "others have their own quota"
