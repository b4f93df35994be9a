"""Deliberate faults in how one epoch follows another (R-CON-14), for `mutants`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from demesh_consensus import Block, Certificate, Effect, Epochs, Franchise, Simplex, Tip, Vote
from demesh_consensus.catchup import Catchup
from demesh_consensus.chain import Chain
from demesh_consensus.following import Follower
from demesh_sim.campaign.adversaries import Mutating, Untimely, Usurping
from demesh_sim.campaign.ledger import Log, State
from demesh_sim.campaign.mutant import Mutant, patch

_BEGIN, _FINALIZE = Epochs._begin, Chain.finalize
_FRANCHISE, _EXECUTE, _VOTE = Log.franchise, Chain.execute, Follower.receive_vote

# -- where an epoch begins -------------------------------------------------------------------------


def _tip_of_the_finalizing(
    self: Chain, path: Sequence[tuple[bytes, Block]], certificate: Certificate
) -> Any:
    """Height and time are those of whichever block the finalization is for."""
    outcome = _FINALIZE(self, path, certificate)
    last = path[-1][1]
    self.tip = replace(self.tip, height=last.height, time_s=last.time_s)
    return outcome


def _begin_on_the_filler(
    self: Chain, path: Sequence[tuple[bytes, Block]], certificate: Certificate
) -> Any:
    """The next epoch begins on the block that is finalized, with the closing one's state."""
    outcome = _FINALIZE(self, path, certificate)
    states = self.application.states  # type: ignore[attr-defined]
    states[path[-1][0]] = states[self.tip.digest]
    self.tip = replace(self.tip, digest=path[-1][0])
    return outcome


def _begin_in_the_closing_view(
    self: Epochs, tip: Tip, quarantined: bool, clock: Any, now: int
) -> Simplex:
    view = self.core.tip.view if clock is not None else tip.view
    return _BEGIN(self, replace(tip, view=view), quarantined, clock, now)


def _voters_of_before(self: Log, digest: bytes) -> Franchise:
    """The new epoch has the weights of the one before."""
    franchise = _FRANCHISE(self, digest)
    before = getattr(self, "weights_before", franchise.voters.weights)
    self.weights_before = franchise.voters.weights  # type: ignore[attr-defined]
    return replace(franchise, voters=replace(franchise.voters, weights=before))


def _keep_what_was_beside(
    self: Chain, path: Sequence[tuple[bytes, Block]], certificate: Certificate
) -> Any:
    """States of blocks that were tried beside the closing one go along into the next epoch."""
    application = self.application
    states = dict(application.states)  # type: ignore[attr-defined]
    outcome = _FINALIZE(self, path, certificate)
    kept = {digest: states[digest] for digest in self._blocks if digest in states}
    application.states.update(kept)  # type: ignore[attr-defined]
    return outcome


# -- what ends one ---------------------------------------------------------------------------------


def _closing_unchecked(self: Log, block: Block, digest: bytes) -> bool:
    """`closing` is whatever the leader says."""
    state = self.states[block.parent].after(block.ops)
    if len(set(state.ops)) != len(state.ops) or state.root != block.state_root:
        return False
    self.states[digest] = state
    return True


def _execute_above_the_end(self: Chain, block: Block, digest: bytes) -> bool:
    """Any block may stand on a closing one."""
    if not self.ends(block.parent):
        return _EXECUTE(self, block, digest)
    states: dict[bytes, State] = self.application.states  # type: ignore[attr-defined]
    below = block.parent
    while below not in states:
        below = self._blocks[below].parent
    if states[below].after(block.ops).root != block.state_root:
        return False
    states[digest] = states[below].after(block.ops)
    self._blocks[digest], self._past_end[digest] = block, None
    return True


def _fillers_unchecked(self: Chain, block: Block, digest: bytes) -> bool:
    """An empty block above a closing one may say anything else."""
    if not self.ends(block.parent) or block.ops:
        return _EXECUTE(self, block, digest)
    self._blocks[digest], self._past_end[digest] = block, None
    return True


# -- votes and journals ----------------------------------------------------------------------------


def _votes_of_any_epoch(self: Follower, vote: Vote, now: int) -> list[Effect]:
    """A vote of another epoch counts as one of this."""
    statement = replace(vote.statement, epoch=self.voters.epoch)
    return _VOTE(self, replace(vote, statement=statement), now)


def _floor_of_its_epoch_only(
    self: Epochs, tip: Tip, quarantined: bool, clock: Any, now: int
) -> Simplex:
    """In epochs before the floor's a voter votes again."""
    floor = self._floor
    if _FRANCHISE(self._application, tip.digest).voters.epoch < floor[0]:  # type: ignore[arg-type]
        self._floor = 0, 0
    core = _BEGIN(self, tip, quarantined, clock, now)
    self._floor = floor
    return core


def _forget_later_entries(
    self: Epochs, tip: Tip, quarantined: bool, clock: Any, now: int
) -> Simplex:
    core = _BEGIN(self, tip, quarantined, clock, now)
    self._later = ()
    return core


def _forgive(self: Epochs, tip: Tip, quarantined: bool, clock: Any, now: int) -> Simplex:
    """A new epoch, a new chance for a key that was given up."""
    return _BEGIN(self, tip, quarantined and clock is None, clock, now)


def _no_recall(self: Epochs, tip: Tip, quarantined: bool, clock: Any, now: int) -> Simplex:
    """A process asks for its votes once, in the epoch it starts in."""
    core = _BEGIN(self, tip, quarantined, clock, now)
    if clock is not None:
        core.recall._answered = dict.fromkeys(range(len(core.voters.weights)))
    return core


# -- handing over ----------------------------------------------------------------------------------


def _let_them_wait(self: Catchup, now: int, delay: int) -> None:
    return None


def _begin_in_silence(self: Epochs, tip: Tip, quarantined: bool, clock: Any, now: int) -> Simplex:
    """Nobody says how the last epoch ended when the next begins."""
    core = _BEGIN(self, tip, quarantined, clock, now)
    if clock is not None:
        core.catchup._tip_due = None
    return core


def _no_hint(self: Catchup, first_height: int, now: int) -> None:
    return None


EPOCH_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "epoch begins at the final view's height",
        "R-CON-14",
        patch(Chain, "finalize", _tip_of_the_finalizing),
    ),
    Mutant(
        "epoch begins on the finalized block",
        "R-CON-14",
        patch(Chain, "finalize", _begin_on_the_filler),
    ),
    Mutant(
        "epoch begins in the closing view",
        "R-CON-14",
        patch(Epochs, "_begin", _begin_in_the_closing_view),
    ),
    Mutant("voters of the block before", "R-CON-14", patch(Log, "franchise", _voters_of_before)),
    Mutant(
        "states beside the closing block kept",
        "R-CON-11",
        patch(Chain, "finalize", _keep_what_was_beside),
        Mutating,
    ),
    Mutant("closing not checked", "R-CON-14", patch(Log, "execute", _closing_unchecked), Usurping),
    Mutant(
        "ops above a closing block",
        "R-CON-14",
        patch(Chain, "execute", _execute_above_the_end),
        Usurping,
    ),
    Mutant(
        "anything empty above a closing block",
        "R-CON-14",
        patch(Chain, "execute", _fillers_unchecked),
        Usurping,
    ),
    Mutant(
        "votes of another epoch counted",
        "R-CON-14",
        patch(Follower, "receive_vote", _votes_of_any_epoch),
        Untimely,
    ),
    Mutant(
        "floor ignored in earlier epochs",
        "R-CON-10",
        patch(Epochs, "_begin", _floor_of_its_epoch_only),
    ),
    Mutant(
        "later entries dropped at a restart",
        "R-CON-10",
        patch(Epochs, "_begin", _forget_later_entries),
    ),
    Mutant(
        "quarantine ends with an epoch",
        "R-CON-10",
        patch(Epochs, "_begin", _forgive),
        "broken disks",
    ),
    Mutant("no recall in a new epoch", "R-CON-14", patch(Epochs, "_begin", _no_recall)),
    Mutant(
        "hand-over not served",
        "R-CON-14",
        (
            (Catchup, "behind", _let_them_wait),
            (Epochs, "_begin", _begin_in_silence),
        ),
    ),
    Mutant("later epochs not asked about", "R-CON-14", patch(Catchup, "ahead", _no_hint)),
)
