"""How a mesh stays together when messages were missed: tip, standstill and backfill.

    R-CON-8   standstill  with work and no finalization for Ts: say the tip, the certificates and
                          my votes above it again; x 1.5 with jitter, capped; not what was heard;
                          while messages are lost in a flood, after D each time.
                          Who repeats a vote in a view that I left is given its certificates
    R-CON-9   tip         one scribe (the block's leader) publishes a finalization; the others only
                          if it is unheard after a random delay; then a beacon at Ts x 2^k,
                          suppressed by an equal tip; a lower live tip is answered
    R-CON-12  backfill    one responder at a time, chosen by hash, gives blocks up to a finalization

Here live the timers of these rules and nothing of voting. "Random" is a hash of my salt, so that
the core needs no entropy and equal seeds give equal traces.
"""

from __future__ import annotations

import hashlib

from demesh_consensus.effects import AskBlocks, Effect, PublishTip
from demesh_consensus.types import Certificate, Instant, Statement, Voters

# Ts in units of the least D: a round takes 3 D; half of that again is patience, the rest jitter.
STILL_DELAYS = 8
# 1.5^6: a stalled mesh repeats itself every 11 Ts; more often would load a partitioned half.
STILL_STEPS_MAX = 6
# 2^10 Ts: with D of 250 ms one beacon in 34 minutes, 43 a day, for a whole idle mesh.
BEACON_STEPS_MAX = 10
# An unanswered question for blocks goes to the next responder after this many D.
ASK_DELAYS = 4
# So many in a row without an answer that helped: what is held may end in a liar's block, above
# which nobody has anything to give. More waits longer for nothing; fewer starts a long run again
# for every answer that is lost.
ASKS_IN_VAIN = 3
# Questions after a hint of a later epoch: one voter may be down, and one may be the liar.
HINT_ASKS = 3


class Catchup:
    """Timers of rules 8, 9 and 12 for one node."""

    __slots__ = (
        "_ask_attempt",
        "_ask_due",
        "_ask_from",
        "_asks",
        "_beacon_due",
        "_beacon_step",
        "_delay_min",
        "_heard",
        "_helped_at",
        "_hinted_at",
        "_hints",
        "_lossy_until",
        "_me",
        "_repeats",
        "_said_at",
        "_salt",
        "_still_due",
        "_still_since",
        "_still_step",
        "_stuck",
        "_stuck_due",
        "_tip",
        "_tip_due",
        "_voters",
        "asked",
    )

    def __init__(self, voters: Voters, me: int | None, salt: bytes, delay_min: Instant) -> None:
        self._voters, self._me, self._salt, self._delay_min = voters, me, salt, delay_min
        self._tip: Certificate | None = None
        self._tip_due: Instant | None = None
        self._said_at: Instant = -STILL_DELAYS * delay_min
        self._beacon_due: Instant | None = None
        self._beacon_step = 0
        self._still_due: Instant | None = None
        self._still_since = 0
        self._still_step = 0
        self._lossy_until: Instant = -STILL_DELAYS * delay_min
        self._stuck = 0
        self._helped_at: Instant = -STILL_DELAYS * delay_min
        self._stuck_due: Instant | None = None
        self._repeats = 0
        self._heard: dict[Statement, None] = {}
        self._ask_from: int | None = None
        self._ask_due: Instant | None = None
        self._ask_attempt = 0
        self._asks = 0  # since the last answer that helped
        self._hinted_at: Instant | None = None
        self._hints = 0  # questions that are left of a mere hint
        self.asked: int | None = None  # for blocks, last

    # -- tip (R-CON-9) ----------------------------------------------------------------------------

    def start(self, tip: Certificate | None, now: Instant) -> None:
        """A restarted node says soon where it stands, so that the others answer."""
        self._tip = tip
        if tip is not None:
            self._tip_due = now + self._jitter(b"start", 2 * self._delay_min)

    def finalized(self, tip: Certificate, scribe: int, now: Instant, delay: Instant) -> None:
        """There is a new tip; the scribe publishes it at once."""
        self._tip = tip
        view = tip.statement.view
        self._heard = {heard: None for heard in self._heard if heard.view > view}
        wait = 0 if scribe == self._me else delay + self._jitter(b"tip", 2 * delay)
        self._tip_due = now + wait
        self._beacon_step, self._beacon_due = 0, None
        self._still_due, self._still_step = None, 0

    def heard_tip(self, view: int, mine: int, now: Instant, delay: Instant) -> None:
        """A live tip of somebody else."""
        if view < mine:
            self.behind(now, delay)
            return
        self._tip_due = None
        if view == mine:
            self._schedule_beacon(now)

    def _publish_tip(self, now: Instant) -> list[Effect]:
        due = min((d for d in (self._tip_due, self._beacon_due) if d is not None), default=None)
        if self._tip is None or due is None or now < due:
            return []
        self._tip_due, self._said_at = None, now
        self._schedule_beacon(now)
        return [PublishTip(self._tip)]

    def _schedule_beacon(self, now: Instant) -> None:
        wait = (STILL_DELAYS * self._delay_min) << self._beacon_step
        self._beacon_step = min(self._beacon_step + 1, BEACON_STEPS_MAX)
        self._beacon_due = now + wait + self._jitter(b"beacon", wait)

    # -- standstill (R-CON-8) ---------------------------------------------------------------------

    def heard(self, statement: Statement) -> None:
        """A certificate was published by somebody else in this interval."""
        self._heard[statement] = None

    def unheard(self, statement: Statement) -> bool:
        """Does saying this certificate again help anybody?"""
        return statement not in self._heard

    def my_turn(self, view: int) -> bool:
        """Should I be one of the f + 1 voters that repeat this view's proposal now?"""
        if self._me is None:
            return False
        count = len(self._voters.weights)
        first = self._number(b"turn%d/%d" % (view, self._repeats))
        return (first + self._me) % count <= count // 3

    def standing_for(self, standing: bool, now: Instant) -> Instant | None:
        """How long nothing was decided, if it is time to repeat what I know; else None."""
        if not standing:
            self._still_due, self._still_step = None, 0
            return None
        wait = self._still_wait(now)
        if self._still_due is None:
            self._still_since = now
            self._still_due = now + wait + self._jitter(b"still", wait // 2)
        if now < self._still_due:
            return None
        growing = now >= self._lossy_until
        self._still_step = min(self._still_step + 1, STILL_STEPS_MAX) if growing else 0
        for _ in range(self._still_step):
            wait = wait * 3 // 2
        self._still_due = now + wait + self._jitter(b"still", wait // 2)
        return now - self._still_since

    def lossy(self, now: Instant) -> None:
        """Messages are being lost in a flood: saying them again soon is all that helps."""
        self._lossy_until = now + STILL_DELAYS * self._delay_min
        if self._still_due is not None:
            wait = self._still_wait(now)
            self._still_due = min(self._still_due, now + wait + self._jitter(b"still", wait // 2))

    def _still_wait(self, now: Instant) -> Instant:
        return (1 if now < self._lossy_until else STILL_DELAYS) * self._delay_min

    def stuck(self, view: int, now: Instant, delay: Instant) -> None:
        """Somebody says again what it said in a view that I have left: it lacks a certificate."""
        if self._stuck_due is None:
            # Once per Ts: who replays old votes must not make everybody talk.
            rested = self._helped_at + STILL_DELAYS * self._delay_min
            self._stuck_due = max(now, rested) + self._jitter(b"stuck", 2 * delay)
            self._stuck = view
            self.repeated()
        self._stuck = min(self._stuck, view)

    def helps(self, now: Instant) -> int | None:
        """From which view on to say certificates that nobody else said, if it is time."""
        if self._stuck_due is None or now < self._stuck_due:
            return None
        self._stuck_due, self._helped_at = None, now
        return self._stuck

    def repeated(self) -> None:
        """A new interval begins."""
        self._repeats += 1
        self._heard.clear()

    # -- backfill (R-CON-12) ----------------------------------------------------------------------

    def missing(self, first_height: int, now: Instant) -> None:
        """Blocks from this height up to a known finalization are not here."""
        if self._ask_from is None:
            self._ask_due, self._asks = now, 0
        elif first_height > self._ask_from:
            # An answer came and was not enough: ask on at once.
            self._ask_due, self._asks = now, 0
        elif first_height < self._ask_from:
            self._asks = 0
        self._ask_from = first_height

    def in_vain(self, now: Instant) -> bool:
        """Is it time to ask from the tip again, for nobody goes on where the last answer ended?"""
        return self._ask_due is not None and now >= self._ask_due and self._asks >= ASKS_IN_VAIN

    def found(self) -> None:
        """Nothing is missing any more, that is known for certain."""
        if self._hints == 0:
            self._ask_from = self._ask_due = None

    def _ask(self, now: Instant) -> list[Effect]:
        if self._ask_from is None or self._ask_due is None or now < self._ask_due:
            return []
        self._ask_due = now + ASK_DELAYS * self._delay_min
        self._ask_attempt += 1
        self._asks += 1
        self._hints = max(self._hints - 1, 0)
        voters = [voter for voter in range(len(self._voters.weights)) if voter != self._me]
        others = [voter for voter in voters if voter != self.asked] or voters
        if not others:
            return []
        self.asked = others[self._number(b"ask%d" % self._ask_attempt) % len(others)]
        return [AskBlocks(self.asked, self._ask_from)]

    # -- epochs (R-CON-14) ------------------------------------------------------------------------

    def ahead(self, first_height: int, now: Instant) -> None:
        """Somebody is in a later epoch, or says so: ask for blocks from this height on.

        Nothing can be verified of it, so it costs a liar one word to make me ask, once per Ts.
        """
        rested = self._hinted_at is None or now >= self._hinted_at + STILL_DELAYS * self._delay_min
        if rested and self._ask_from is None:
            self._hinted_at, self._hints = now, HINT_ASKS
            self.missing(first_height, now)

    def helped(self, first_height: int, now: Instant) -> None:
        """Blocks came. After a hint nothing else says how many more there are: ask on at once."""
        if self._hints > 0:
            self._hints = HINT_ASKS
            self.missing(first_height, now)

    def behind(self, now: Instant, delay: Instant) -> None:
        """Somebody's tip is lower, or its epoch is over: mine shows how far others are.

        Once per Ts: who repeats old words must not make everybody talk.
        """
        if self._tip_due is None and self._tip is not None:
            rested = self._said_at + STILL_DELAYS * self._delay_min
            self._tip_due = max(now, rested) + self._jitter(b"answer", 2 * delay)

    # -- time -------------------------------------------------------------------------------------

    def tick(self, now: Instant) -> list[Effect]:
        """Publish a tip or ask for blocks when it is time."""
        return self._publish_tip(now) + self._ask(now)

    def deadlines(self) -> list[Instant]:
        """When `tick` or `standing_for` has something to do."""
        times = (
            self._tip_due,
            self._beacon_due,
            self._still_due,
            self._stuck_due,
            self._ask_due,
        )
        return [time for time in times if time is not None]

    def _number(self, label: bytes) -> int:
        digest = hashlib.blake2b(label, key=self._salt[:64], digest_size=8).digest()
        return int.from_bytes(digest, "big")

    def _jitter(self, label: bytes, span: Instant) -> Instant:
        view = self._tip.statement.view if self._tip else 0
        return self._number(b"%s/%d/%d" % (label, view, self._still_step)) % max(span, 1)
