"""What people are told when nothing is decided."""

from __future__ import annotations

from collections.abc import Sequence

from demesh.ports import Effect, Observe
from demesh.wire.opbodies import Transfer
from demesh.wire.topics import Topics
from node.hostile import Board, Street
from node.test_node import BEGINS_S


class Told(Street):
    """Keeps the lines of board 0."""

    lines: list[str]

    def do(self, board: Board, effects: Sequence[Effect]) -> None:
        super().do(board, effects)
        self.__dict__.setdefault("lines", [])
        if board.index == 0:
            self.lines += [e.text for e in effects if isinstance(e, Observe) and e.text]


def test_who_is_cut_off_and_reported_gone_by_nobody_is_missed_at_a_standstill() -> None:
    street = Told()
    street.run(10)
    street.down = {2, 3}  # as behind a bridge that is cut: no broker tells
    payer = street.boards[1]
    frame = payer.pen.op(Transfer(street.boards[0].id, 5), BEGINS_S + 300)
    topic = Topics(street.bare.mesh_id, payer.id).mine("op")
    for board in street.boards[:2]:
        street.give(board, topic, frame)
    street.run(60)
    still = [line for line in street.lines if line.startswith("no decision")]
    assert still[-1].endswith("s: heard 2 of 4 lately, need 3")
    street.down = set()
    street.lines.clear()
    street.run(60)
    assert len({board.node.consensus.tip.height for board in street.boards}) == 1
    assert not any("need 3" in line for line in street.lines)
