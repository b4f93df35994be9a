"""What a payer has promised, held against what its own meter saw (docs/protocol.md, R-MET-21).

    promise      a voucher leaves a board only up to cost(units on the board's own register) + lead,
                 by the tariff and the lead of the offer it accepted, and only up to the escrow

As all checkers, it reads frames, records and registers itself and prices units itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cbor2

from demesh.ports import Effect, Input, Instant, Measured, Persist, Publish, StoreBlock
from demesh.wire import identity
from demesh_sim.checkers import VOUCHER, Run, open_frame
from demesh_sim.memory_store import MemoryStore
from demesh_sim.witness import Witness

ACCEPT = 16


@dataclass(frozen=True, slots=True)
class Terms:
    """What a payer accepted: tiers of (upto, price, per), and the credit it may be ahead."""

    start: int
    least: int
    most: int | None
    tiers: tuple[tuple[int | None, int, int], ...]
    lead: int

    def bound(self, units: int) -> int:
        """The most that may be promised when the own meter shows `units`."""
        total, below = self.start, 0
        for upto, price, per in self.tiers:
            within = max(0, (units if upto is None else min(units, upto)) - below)
            total += within * price // per
            below += within
        if units:
            total = max(total, self.least)
        return (total if self.most is None else min(total, self.most)) + self.lead


class PromiseChecker(Witness):
    """The rule `promise` over one swarm; raises Violation from within the event that broke it."""

    def __init__(self, run: Run, names: Sequence[str]) -> None:
        self.checked = 0
        self._run = run
        self._names = tuple(names)
        self._terms: dict[bytes, Terms] = {}
        self._registers: list[dict[bytes, int]] = [{} for _ in names]
        self._channels: dict[bytes, tuple[bytes, int]] = {}  # agreement and escrow

    def turned(
        self, board: int, at: Instant, inputs: Sequence[Input], effects: Sequence[Effect]
    ) -> None:
        """Registers, as the board's own meter gave them to the node."""
        for item in inputs:
            if isinstance(item, Measured):
                self._registers[board].update(item.measurement.flows)

    def persisted(
        self, board: int, at: Instant, effects: Sequence[Persist], store: MemoryStore
    ) -> None:
        """Channels, as finalized blocks open them."""
        for effect in effects:
            if isinstance(effect, StoreBlock):
                for key, value in effect.changes:
                    if key[:1] == b"c" and value is not None:
                        record = cbor2.loads(value)
                        self._channels[key[1:]] = (record[7], record[2])

    def publishing(self, board: int, at: Instant, message: Publish, store: MemoryStore) -> None:
        """Accepts say what is bounded how; vouchers are what is bounded."""
        frame = open_frame(message.payload)
        if frame is None:
            return
        if frame.kind == ACCEPT:
            provider = identity.parse(message.topic.split("/")[-2])
            seed = provider + frame.kid + frame.payload
            agreement = hashlib.blake2b(seed, digest_size=32).digest()[:16]
            self._terms[agreement] = _terms(cbor2.loads(frame.payload)[1])
        elif frame.kind == VOUCHER:
            self._voucher(board, at, *cbor2.loads(frame.payload))

    def _voucher(self, board: int, at: Instant, channel: bytes, lane: int, cum: int) -> None:
        agreement, escrow = self._channels[channel]
        terms = self._terms.get(agreement)
        if terms is None:
            return  # accepted before this checker was watching
        self.checked += 1
        units = self._registers[board].get(agreement, 0)
        bound = min(terms.bound(units), escrow)
        if cum > bound:
            text = f"promised {cum} for {units} units of its own count; the bound is {bound}"
            raise self._run.violation("promise", at, self._names[board], text)


def _terms(offer: Sequence[Any]) -> Terms:
    _, start, least, most, tiers = offer[2]
    return Terms(start, least, most, tuple((u, p, per) for u, p, per in tiers), offer[6])
