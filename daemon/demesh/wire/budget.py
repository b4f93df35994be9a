"""What others may cost this device: verifications by broker and topic, new frames by signer.

Theory of operation. All that is cheaper than a signature is checked first and costs nanoseconds, so
a flood of it is the transport's affair. A frame that looks right and is not costs a verification.
Who sends it is known only afterwards, and over a broker without passwords anybody can publish
anything on any topic; so budgets are of places, not of persons (R-WIRE-13):

    lane      of one topic on one broker: failed signatures; statements said again; what is stale
    reserve   of one voter on one broker: the same, for what the current view waits for and has not
    credit    of one signer, wherever its frames come from: valid frames that are new

Nobody can spend what is another's: a forger empties the lane of the topic it floods, on the broker
it floods, and nothing else. While a lane is empty, what consensus waits for on it goes by the
reserve; a direct message needs none, for its seal tells a forger for a tenth of a signature. What
a member signs itself it pays by its credit, save what a view waits for, which is bounded anyway.

Rates are shares of one core: a count that suits a laptop stalls a board. They are divided among the
members, those of lanes among the brokers too, the reserve among those whose topics are flooded just
now, so that all floods together cost no more than the shares.
"""

from __future__ import annotations

from dataclasses import dataclass

from demesh.ports import MILLISECOND, SECOND, Instant
from demesh.wire.validate import Allowance, Validator

# Of one core, in percent, for all lanes of one area, of which four carry signatures. At 60 us a
# signature 5 % are 830 failures a second. Less lets a flood of a few hundred a second hide a topic;
# more takes from a Pi, with all areas flooded, the time to decide anything.
LANES_PERCENT = 5

# For all reserves: what a view waits for is worth half of a core, for without it nothing else is
# worth anything; the other half is for acting on it. A forger that sends twice as much as is
# verified hides every second vote; what it sends, every vote costs the broker and our sieve too.
RESERVE_PERCENT = 50

# For all signers: a busy mesh of 4 has some 400 valid frames a second and voter.
CREDIT_PERCENT = 50

# No share is so small that one stumble of an honest member uses it up; a second's worth may be
# saved up, twice that for lanes, whose repeats come in bursts after a broker was away.
RATE_MIN = 20

# What a board says late, after its radio stalled for some seconds, is stale and no attack.
STALE_SECONDS = 8

REPLENISH_EVERY = 100 * MILLISECOND


@dataclass(slots=True)
class Lane:
    """What a place may still cost: `stale` pays for what was true and is long past."""

    allowance: Allowance
    stale: int
    since: Instant
    used: Instant


class Budgets:
    """Allowances by broker and place; `verify_ns` is what one signature costs this device."""

    def __init__(self, validator: Validator, verify_ns: int, now: Instant) -> None:
        self._validator = validator
        self._per_s = SECOND // verify_ns
        self._members, self._brokers = 0, 0
        self._lanes: dict[tuple[int, str, bytes], Lane] = {}
        self._reserves: dict[tuple[int, bytes], Lane] = {}
        self._replenished = now
        self._flooded = 1  # voters whose reserve was asked for in the last second
        self._credit = 0
        self.share(1)

    def share(self, members: int, brokers: int = 1) -> None:
        """Divide anew among so many; places of who is gone are forgotten, all others start full."""
        if (members, brokers) == (self._members, self._brokers):
            return
        self._members, self._brokers = members, brokers
        self._lanes.clear()
        self._reserves.clear()
        self._credit = self._rate(CREDIT_PERCENT, self._members)
        self._validator.replenish(self._credit, self._credit)

    def lane(self, broker: int, area: str, publisher: bytes, now: Instant) -> Lane:
        """Of one topic on one broker."""
        if now - self._replenished >= REPLENISH_EVERY:
            count = (now - self._replenished) * self._credit // SECOND
            self._replenished += count * SECOND // self._credit
            self._validator.replenish(count, self._credit)
            asked = sum(now - bucket.used < SECOND for bucket in self._reserves.values())
            self._flooded = max(asked, 1)
        rate = self._rate(LANES_PERCENT, self._members * self._brokers)
        bucket = self._lanes.get((broker, area, publisher))
        if bucket is None:
            bucket = Lane(Allowance(2 * rate, 2 * rate), STALE_SECONDS * rate, now, now)
            self._lanes[broker, area, publisher] = bucket
        _refill(bucket, rate, 2 * rate, now)
        return bucket

    def reserve(self, broker: int, voter: bytes, now: Instant) -> Allowance:
        """For what the current view waits for from this voter, on one broker."""
        rate = self._rate(RESERVE_PERCENT, self._flooded)
        bucket = self._reserves.get((broker, voter))
        if bucket is None:
            bucket = Lane(Allowance(rate, rate, True), 0, now, now)
            self._reserves[broker, voter] = bucket
        bucket.used = now
        _refill(bucket, rate, rate, now)
        return bucket.allowance

    def _rate(self, percent: int, among: int) -> int:
        """Verifications a second, rounded down, in favour of the device."""
        return max(self._per_s * percent // (100 * max(among, 1)), RATE_MIN)


def _refill(bucket: Lane, rate: int, most: int, now: Instant) -> None:
    allowance = bucket.allowance
    earned = (now - bucket.since) * rate // SECOND
    bucket.since += earned * SECOND // rate
    allowance.failures = min(allowance.failures + earned, most)
    allowance.repeats = min(allowance.repeats + earned, most)
    bucket.stale = min(bucket.stale + earned, STALE_SECONDS * rate)
