"""Cross-lane and cross-mesh replay: a voucher that was good once is brought where it is not meant.

Border: ops into the ledger. A voucher's signature covers mesh, generation, channel, lane and total
(R-LED-12), so elsewhere it is none: it costs the attacker an op of
its quota and gains nothing.
"""

from __future__ import annotations

from demesh.ledger.ops import SignedOp
from demesh.ledger.state import Result
from demesh.wire.frame import Binding, seal_statement
from demesh.wire.kinds import Kind
from demesh.wire.readings import Voucher
from demesh.wire.schema import decode, encode
from ledger.book import ANN, BEN, BINDING, CEM, KEYS, Book, claiming, opening, voucher_frame

PROMISED = 60_000


def blind(frame: bytes) -> tuple[bytes, Voucher] | None:
    """What a ledger would believe that looks at no signature: any voucher, by ann."""
    body = encode(Voucher(bytes(16), 0, 0))
    for start in range(len(frame) - len(body) + 1):
        for end in range(start + len(body) - 4, min(start + 40, len(frame)) + 1):
            try:
                return ANN, decode(Voucher, frame[start:end])
            except ValueError:
                continue
    return None


class Replay(Book):
    """Two channels of ann's, to ben and to cem; she promised ben something on lane 0."""

    def __init__(self) -> None:
        super().__init__()
        self.ours = self.open(opening(ANN, BEN, nonce=1))
        self.other = self.open(opening(ANN, CEM, nonce=2))

    def claimed(self, channel: bytes) -> int:
        held = self.ledger.channel(channel)
        assert held is not None
        return held.claimed


class CrossLaneReplay(Replay):
    """The same voucher again, on the same lane and with its lane or channel changed."""

    def run(self) -> list[Result]:
        frame = voucher_frame(ANN, self.ours, PROMISED)
        assert self.block(claiming(BEN, frame)) == (Result.OK,)
        payload = encode(Voucher(self.ours, 0, PROMISED))
        assert payload in frame
        forged = [
            frame,
            frame.replace(payload, encode(Voucher(self.ours, 1, PROMISED))),
            frame.replace(payload, encode(Voucher(self.other, 0, PROMISED))),
        ]
        return list(self.block(*(claiming(CEM, one, nonce=n) for n, one in enumerate(forged))))


class CrossMeshReplay(Replay):
    """A voucher of the same keys for a channel of the same id, in another mesh or generation."""

    def frames(self) -> list[bytes]:
        payload = encode(Voucher(self.ours, 0, PROMISED))
        others = (Binding(bytes(32), BINDING.generation), Binding(BINDING.mesh_id, 2))
        return [
            seal_statement(
                Kind.VOUCHER, binding, ANN, payload, lambda said: KEYS["ann"].sign(said).signature
            )
            for binding in others
        ]

    def run(self) -> list[Result]:
        ops: list[SignedOp] = [claiming(BEN, one, nonce=n) for n, one in enumerate(self.frames())]
        return list(self.block(*ops))


def test_a_voucher_counts_once_and_only_on_its_own_lane_and_channel() -> None:
    attack = CrossLaneReplay()
    assert attack.run() == [Result.NOTHING, Result.VOUCHER, Result.VOUCHER]
    assert (attack.claimed(attack.ours), attack.claimed(attack.other)) == (PROMISED, 0)


def test_a_voucher_of_another_mesh_or_generation_is_none() -> None:
    attack = CrossMeshReplay()
    assert attack.run() == [Result.VOUCHER, Result.VOUCHER]
    assert attack.claimed(attack.ours) == 0


def test_who_looked_at_no_signature_would_pay_both() -> None:
    attack = CrossMeshReplay()
    foreign = attack.frames()[0]
    applied = attack.ledger.apply((claiming(BEN, foreign),), attack.time_s, blind)
    assert applied.results == (Result.OK,), "the frame is good in all but its signature"
