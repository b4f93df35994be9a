"""Readings are registers, not deltas: what one may follow the last, and what it proves.

R-MET-4  A reading names its agreement and channel; `begin` never changes after the first page.
R-MET-5  The first page is BEGIN, numbered 1, with register = begin: nobody starts an account with
         a begin of 0 on a meter that already stands elsewhere.
R-MET-6  Registers are monotone.
R-MET-7  Pages rise by one without gaps, each with the hash of the one before. Only RESYNC and FINAL
         may skip pages (they were lost, or their sender lost its memory): the register speaks.
R-MET-8  The same page twice is the same bytes; anything else is equivocation.
R-MET-9  delta <= rate_max x dt x 1.05 + resolution, where the time between is known.
R-MET-10 `need` is at most what the tariff says for register - begin.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum

from demesh.metering.tariff import cost
from demesh.wire.offers import Tariff
from demesh.wire.readings import Reading, Why
from demesh.wire.schema import encode

NO_PREVIOUS = bytes(32)


class Pages:
    """The book a provider writes: numbered readings of one agreement, each linked to the last."""

    __slots__ = ("begin", "number", "previous")

    def __init__(self, number: int = 0, begin: int = 0, previous: bytes = NO_PREVIOUS) -> None:
        self.number, self.begin, self.previous = number, begin, previous

    def write(
        self, parties: tuple[bytes, bytes], why: Why, time_s: int, register: int, need: int
    ) -> Reading:
        """The next page for (agreement, channel)."""
        self.number += 1
        reading = Reading(
            *parties, self.number, why, time_s, self.begin, register, need, self.previous
        )
        self.previous = digest(reading)
        return reading


class Verdict(Enum):
    """What to make of a reading; the payer answers only OK and AGAIN."""

    OK = "ok"
    AGAIN = "again"  # the last page once more: the answer was lost
    STALE = "stale"  # a page behind us
    GAP = "gap"  # a page is missing
    LINK = "link"  # not the successor of the page before
    FORK = "fork"  # another content under the last page's number
    BEGIN = "begin"  # the register at begin changed, or is not where the meter stood
    BACKWARDS = "backwards"  # the register fell
    RATE = "rate"  # more than can have flowed
    NEED = "need"  # asks for more than its units cost
    PARTY = "party"  # another agreement or channel


@dataclass(frozen=True, slots=True)
class Rate:
    """The most that can flow: `units` in `per_ms`, and what two clocks and meters blur."""

    units: int
    per_ms: int
    resolution: int

    def bound(self, elapsed_ms: int) -> int:
        """Units that can have flowed in `elapsed_ms`, 5 % up; rounds up, for the provider."""
        return -(-self.units * elapsed_ms * 105 // (self.per_ms * 100)) + self.resolution


def digest(reading: Reading) -> bytes:
    """The hash a following page carries as `previous`: BLAKE2b-256 of the encoding."""
    return hashlib.blake2b(encode(reading), digest_size=32).digest()


def judge(
    last: Reading | None,
    reading: Reading,
    tariff: Tariff,
    rate: Rate,
    elapsed_ms: int | None,
) -> Verdict:
    """R-MET-4 to 10; `last` is the page accepted before, `elapsed_ms` since, None if unknown."""
    if last is None:
        return _judge_first(reading, tariff)
    if (reading.agreement, reading.channel) != (last.agreement, last.channel):
        return Verdict.PARTY
    if reading.page <= last.page:
        if reading == last:
            return Verdict.AGAIN
        return Verdict.FORK if reading.page == last.page else Verdict.STALE
    skips = reading.why in (Why.RESYNC, Why.FINAL)
    follows = reading.page == last.page + 1
    if not follows and not skips:
        return Verdict.GAP
    if reading.begin != last.begin or reading.why is Why.BEGIN:
        return Verdict.BEGIN
    if reading.register < last.register:
        return Verdict.BACKWARDS
    if follows and reading.previous != digest(last):
        return Verdict.LINK
    if elapsed_ms is not None and reading.register - last.register > rate.bound(elapsed_ms):
        return Verdict.RATE
    return _judge_need(reading, tariff)


def _judge_first(reading: Reading, tariff: Tariff) -> Verdict:
    if reading.why is Why.QUOTA:
        return Verdict.GAP
    if reading.register < reading.begin:
        return Verdict.BACKWARDS
    if reading.why is Why.BEGIN:
        if reading.page != 1 or reading.previous != NO_PREVIOUS:
            return Verdict.LINK
        if reading.register != reading.begin:
            return Verdict.BEGIN
    return _judge_need(reading, tariff)


def _judge_need(reading: Reading, tariff: Tariff) -> Verdict:
    most = cost(tariff, reading.register - reading.begin)
    return Verdict.NEED if reading.need > most else Verdict.OK
