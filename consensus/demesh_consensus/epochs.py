"""R-CON-14: one node from epoch to epoch, each with voters of its own.

Theory of operation. The first block whose state changes the voters is the last of its epoch: it is
`closing`, and only empty blocks may stand on it, which help it to become final and are nothing
themselves. Whoever sees it final begins the next epoch at once, at view 0 on the closing block,
with the voters that its state names: by whichever view and certificate it became final, all begin
with the same block and the same voters. An epoch begins like a process does, by asking the others
for votes of mine (R-CON-10), so that a life before a power cut in which I had come further is not
forgotten.

The certificate that closed the last epoch is the tip until the new one has its own: it is said,
retained, and given to whoever is heard to be behind (R-CON-9), so the old voters hand over to the
new ones for as long as anybody needs it. Who is further behind asks for blocks, and is given them
up to the end of its epoch with the certificate that it can verify (R-CON-12).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from demesh_consensus.chain import Tip
from demesh_consensus.clock import MeshClock
from demesh_consensus.effects import Application, Effect, Entry, Franchise
from demesh_consensus.pacemaker import Timing
from demesh_consensus.simplex import Simplex
from demesh_consensus.types import Block, Certificate, Instant, Proposal, Vote


class Epochs:
    """The current epoch in `core`, and how the next one follows. Inputs go through here.

    `restored` is what the journal holds, of whatever epoch; of views up to `floor` (epoch, view)
    it may have left out votes.
    """

    def __init__(
        self,
        application: Application,
        tip: Tip,
        timing: Timing,
        salt: bytes,
        now: Instant,
        restored: Sequence[Entry] = (),
        floor: tuple[int, int] = (0, 0),
        quarantined: bool = False,
    ) -> None:
        self._application, self._timing, self._salt = application, timing, salt
        self._floor = floor
        self._later = tuple(restored)
        self._before: Franchise | None = None  # of the epoch that ended in this life
        self.core = self._begin(tip, quarantined, None, now)

    def receive_vote(self, vote: Vote, now: Instant) -> list[Effect]:
        """A vote with a good signature."""
        return self._follow(self.core.receive_vote(vote, now), now)

    def receive_proposal(self, proposal: Proposal, now: Instant) -> list[Effect]:
        """A block proposed by its view's leader, relayed by whomever."""
        return self._follow(self.core.receive_proposal(proposal, now), now)

    def receive_certificate(
        self, certificate: Certificate, now: Instant, live: bool = True, everywhere: bool = True
    ) -> list[Effect]:
        """A certificate from anybody; see Follower."""
        effects = self.core.receive_certificate(certificate, now, live, everywhere)
        return self._follow(effects, now)

    def receive_blocks(
        self,
        blocks: Sequence[Block],
        certificate: Certificate,
        now: Instant,
        voter: int | None = None,
        trail: Sequence[int] = (),
    ) -> list[Effect]:
        """An answer to AskBlocks; of one epoch, to its end at most."""
        effects = self.core.receive_blocks(blocks, certificate, now, voter, trail)
        return self._follow(effects, now)

    def receive_recalled(
        self, voter: int, votes: Sequence[Vote], epoch: int, time_s: int, now: Instant
    ) -> list[Effect]:
        """A voter's answer to AskVotes: votes of mine (verified), its epoch and its clock."""
        return self._follow(self.core.receive_recalled(voter, votes, epoch, time_s, now), now)

    def receive_gone(self, voter: int, now: Instant) -> list[Effect]:
        """A broker says that a voter's connection ended."""
        return self._follow(self.core.receive_gone(voter, now), now)

    def tick(self, now: Instant) -> list[Effect]:
        """Time passed, or the application has new work."""
        return self._follow(self.core.tick(now), now)

    @property
    def floor(self) -> tuple[int, int]:
        """The (epoch, view) up to which `journal` leaves votes out; it never goes back.

        Whoever lost its blocks is in an earlier epoch than its journal, which forgets nothing more.
        """
        return max(self._floor, (self.core.voters.epoch, self.core.tip.view))

    def journal(self) -> tuple[Entry, ...]:
        """All that a restart still needs."""
        return (*self.core.journal(), *self._later)

    def _follow(self, effects: list[Effect], now: Instant) -> list[Effect]:
        """Begin the next epoch if the last one is closed."""
        while self.core.closed:
            last = self.core
            last.clock.forget_claims()
            tip = replace(last.tip, view=0)
            self._before = last.franchise
            self.core = self._begin(tip, last.recall.quarantined, last.clock, now)
            effects = [*effects, *self.core.tick(now)]
        return effects

    def _begin(self, tip: Tip, quarantined: bool, clock: MeshClock | None, now: Instant) -> Simplex:
        franchise = self._application.franchise(tip.digest)
        epoch = franchise.voters.epoch
        below, floor = self._floor
        if epoch < below:  # my votes of this epoch are forgotten: none may be added
            franchise = replace(franchise, me=None)
        mine = [entry for entry in self._later if _epoch_of(entry) == epoch]
        self._later = tuple(entry for entry in self._later if _epoch_of(entry) > epoch)
        return Simplex(
            franchise,
            self._application,
            tip,
            self._timing,
            self._salt,
            now,
            mine,
            floor if epoch == below else 0,
            quarantined,
            clock,
            self._before,
        )


def _epoch_of(entry: Entry) -> int:
    return entry.block.epoch if isinstance(entry, Proposal) else entry.statement.epoch
