"""Deliberate faults in the code under test: each season must notice each of them.

A mutant replaces functions of `demesh_consensus`, or of the arena where the daemon's part is meant,
while it is switched on; nothing of it is in the product. It is killed by the first seed in which a
checker fires, or in which one turn does not end.

Left out, because no checker could tell them from the rule:

    nullify after finalize   equivalent here: who finalizes a view has left it, and NULLIFY is for
                             the current view only
    notarize after nullify   safe in Simplex, where NULLIFY after NOTARIZE is legal as well
"""

from __future__ import annotations

from typing import Any

from demesh_consensus import (
    Block,
    Broadcast,
    Certificate,
    Effect,
    Entry,
    Record,
    Simplex,
    Statement,
    StatementKind,
    Vote,
    Voters,
    catchup,
    clock,
    following,
    proposals,
    recall,
    round,
    simplex,
)
from demesh_consensus.following import Follower
from demesh_sim.campaign.adversaries import Equivocating, Hasty, Mutating
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.broker_mutants import BROKER_MUTANTS
from demesh_sim.campaign.disk import Disk, Standing
from demesh_sim.campaign.epoch_mutants import EPOCH_MUTANTS
from demesh_sim.campaign.ledger import Log, State
from demesh_sim.campaign.mutant import Mutant, patch
from demesh_sim.campaign.peer import Peer

NOTARIZE, NULLIFY, FINALIZE = StatementKind.NOTARIZE, StatementKind.NULLIFY, StatementKind.FINALIZE

# -- durability and recall -------------------------------------------------------------------------


def _load_nothing(self: Disk) -> list[Any]:
    """A restart finds an empty journal, whatever is on the disk."""
    self.held = {}
    return []


def _forget_standing(self: Arena, peer: Peer) -> None:
    """Quarantine does not survive a restart."""
    _BOOT(self, peer)
    peer.standing = Standing(peer.standing.floor)
    peer.core.recall.quarantined = False


def _send_first(self: Arena, peer: Peer, effects: list[Effect]) -> None:
    """Messages leave, and then their votes are written."""
    sends = [effect for effect in effects if isinstance(effect, Broadcast)]
    self._carry(peer, sends)
    _DO(self, peer, [effect for effect in effects if effect not in sends])


def _cast_unrecorded(self: Simplex, statement: Statement, now: int) -> list[Effect]:
    effects = _CAST(self, statement, now)
    if statement.kind is not NULLIFY:
        return effects
    return [effect for effect in effects if not isinstance(effect, Record)]


def _journal_without_votes(self: Simplex) -> tuple[Entry, ...]:
    """Compaction drops votes that are above the tip."""
    return tuple(e for e in _JOURNAL(self) if not isinstance(e, Vote))


def _no_quarantine(self: Follower, vote: Vote) -> list[Effect]:
    return []


def _cleared_at_once(self: recall.Recall) -> bool:
    return self._me is not None and not self.quarantined


def _one_answer_less(self: recall.Recall) -> bool:
    heaviest = max(self._voters.weights)
    enough = self.weight >= self._voters.quorum - heaviest
    return self._me is not None and not self.quarantined and enough


# -- voting ----------------------------------------------------------------------------------------


def _finalize_nullified(self: Simplex, now: int) -> list[Effect]:
    effects: list[Effect] = []
    floor = max(self.tip.view, self.recall.floor)
    for view, held in self._rounds.above(floor) if self.voting else ():
        if self.closed:
            break
        digest, mine = held.notarized, self._said(view, NOTARIZE)
        if digest is None or mine is None or mine.statement.digest != digest:
            continue
        if not self._said(view, FINALIZE):
            effects += self._cast(self.voters.statement(FINALIZE, view, digest), now)
            # Else its own tally would refuse the vote, and the turn would never end.
            for effect in effects:
                if isinstance(effect, Broadcast) and isinstance(effect.message, Vote):
                    held._votes[FINALIZE, mine.voter] = effect.message
    return effects


def _finalize_unnotarized(self: Simplex, now: int) -> list[Effect]:
    """FINALIZE at once with one's own NOTARIZE."""
    effects: list[Effect] = []
    floor = max(self.tip.view, self.recall.floor)
    for view, _ in self._rounds.above(floor) if self.voting else ():
        if self.closed:
            break
        mine = self._said(view, NOTARIZE)
        if mine and not self._said(view, NULLIFY) and not self._said(view, FINALIZE):
            effects += self._cast(self.voters.statement(FINALIZE, view, mine.statement.digest), now)
    return effects


def _finalize_any(self: Simplex, now: int) -> list[Effect]:
    """FINALIZE what others notarized."""
    effects: list[Effect] = []
    floor = max(self.tip.view, self.recall.floor)
    for view, held in self._rounds.above(floor) if self.voting else ():
        if self.closed:
            break
        if held.notarized and not self._said(view, NULLIFY) and not self._said(view, FINALIZE):
            effects += self._cast(self.voters.statement(FINALIZE, view, held.notarized), now)
    return effects


def _notarize_twice(self: Simplex, now: int) -> list[Effect]:
    """A second proposal of a view takes the place of the first, and is voted for as well."""
    held = self._rounds.get(self.view)
    if held is not None and len(held.proposals) > 1 and self.me is not None:
        held.digest, held.spoiled = list(held.proposals)[-1], False
        mine = self._said(self.view, NOTARIZE)
        if mine and mine.statement.digest != held.digest:
            held._votes.pop((NOTARIZE, self.me))
    return _NOTARIZE(self, now)


def _never_verified(self: Arena, *given: object) -> bool:
    """Votes of others, and what is returned to me as mine, are taken for what they say."""
    return True


def _all_skipped(self: round.Rounds, after: int, before: int) -> bool:
    return True


def _quorum_one_short(self: Voters) -> None:
    _VOTERS(self)
    object.__setattr__(self, "quorum", self.quorum - 1)


def _any_certificate(
    certificate: Certificate, voters: Voters, crypto: object, held: object
) -> bool:
    """Quorum weight is counted, and no signature is looked at."""
    signers = dict.fromkeys(v for v, _ in certificate.signatures if v < len(voters.weights))
    return sum(voters.weights[voter] for voter in signers) >= voters.quorum


def _any_weight(certificate: Certificate, voters: Voters, crypto: Any, held: object) -> bool:
    """Signatures are verified, and their weight is not."""
    return bool(certificate.signatures) and all(
        v < len(voters.weights) and crypto.verify(v, certificate.statement, signature)
        for v, signature in certificate.signatures
    )


def _heads_not_weight(self: Voters) -> None:
    _VOTERS(self)
    object.__setattr__(self, "quorum", 2 * len(self.weights) // 3 + 1)


def _judge_any_parent(
    block: Block, digest: bytes, chain: Any, rounds: round.Rounds, time: Any, now: int
) -> bool | None:
    """Any block at hand will do as a parent."""
    place = proposals.place_of(block.parent, chain, rounds)
    if place is None or not rounds.skipped(block.parent_view, block.view):
        return None
    if block.height != place[0] + 1 or block.time_s < place[1]:
        return False
    return bool(chain.execute(block, digest)) if time.accepts(block.time_s, now) else None


def _second_value_counts(self: round.Round, vote: Vote) -> Any:
    held = self._votes.get((vote.statement.kind, vote.voter))
    if held is None or held.statement == vote.statement:
        return _ADD(self, vote)
    weight = self._weights.get(vote.statement, 0) + self._voters.weights[vote.voter]
    self._weights[vote.statement] = weight
    self._votes[vote.statement.kind, vote.voter] = vote
    if weight < self._voters.quorum or vote.statement.kind in self.certificates:
        return None
    return self._certify(vote.statement)


def _execute_anything(self: Any, block: Block, digest: bytes) -> bool:
    """Ops and root of a block are taken as they are."""
    before = self.states[block.parent]
    ops = tuple(dict.fromkeys(before.ops + block.ops))
    self.states[digest] = State(ops, before.roll.after(block.ops))
    return True


# -- time, evidence, catching up -------------------------------------------------------------------


def _follow_the_leader(self: clock.MeshClock, time_s: int, now: int) -> None:
    self._time_ns = max(self._read_ns(now), time_s * clock.SECOND)
    self._anchor_ns, self._since = self._time_ns, now


def _any_time(self: clock.MeshClock, time_s: int, now: int) -> bool:
    return True


def _believe_one(claims: Any, voters: Voters, now: int) -> int | None:
    return max(claims.values(), default=None) if not claims else max(claims.values()) + now


def _accuse_wrongly(self: round.Round, vote: Vote) -> Any:
    """NULLIFY after NOTARIZE, which is legal, is called evidence."""
    outcome, other = _ADD(self, vote), self._votes.get((NOTARIZE, vote.voter))
    if vote.statement.kind is NULLIFY and other is not None:
        return self._accuse(other, vote)
    return outcome


def _silent_standstill(self: Simplex) -> list[Effect]:
    return []


def _never_ask(self: Any, first_height: int, now: int) -> None:
    return None


def _always_working(self: Simplex, now: int) -> bool:
    return True


def _keep_all(self: round.Rounds, view: int) -> None:
    return None


def _enter_only_next(self: Follower) -> None:
    """Only a certificate of the current view lets a voter go on."""
    held = self._rounds.get(self.view)
    if held is not None and held.certificates:
        self.view += 1
        self._pace.entered(self.view)


def _no_grounds(statement: Statement, rounds: round.Rounds, tip_view: int) -> list[Record]:
    return []


_BOOT, _DO = Arena._boot, Arena.do
_CAST, _JOURNAL, _NOTARIZE = Simplex._cast, Simplex.journal, Simplex._notarize
_VOTERS, _ADD = Voters.__post_init__, round.Round.add


MUTANTS: tuple[Mutant, ...] = (
    Mutant("journal forgotten", "R-CON-10", patch(Disk, "load", _load_nothing)),
    Mutant(
        "journal forgotten, recall skipped",
        "R-CON-10",
        (
            (Disk, "load", _load_nothing),
            (recall.Recall, "cleared", property(_cleared_at_once)),
            (Follower, "_alien", _no_quarantine),
        ),
    ),
    Mutant("vote before durable", "R-CON-10", patch(Arena, "do", _send_first)),
    Mutant("NULLIFY not recorded", "R-CON-10", patch(Simplex, "_cast", _cast_unrecorded)),
    Mutant("compaction drops votes", "R-CON-10", patch(Simplex, "journal", _journal_without_votes)),
    Mutant("certificates not recorded", "R-CON-10", patch(simplex, "grounds", _no_grounds)),
    Mutant(
        "recall skipped", "R-CON-10", patch(recall.Recall, "cleared", property(_cleared_at_once))
    ),
    Mutant(
        "recall one answer short",
        "R-CON-10",
        patch(recall.Recall, "cleared", property(_one_answer_less)),
    ),
    Mutant("lost votes do not matter", "R-CON-10", patch(Follower, "_alien", _no_quarantine)),
    Mutant(
        "quarantine ends with a restart",
        "R-CON-10",
        patch(Arena, "_boot", _forget_standing),
        "broken disks",
    ),
    Mutant(
        "finalize after nullify", "R-CON-4", patch(Simplex, "_finalize_votes", _finalize_nullified)
    ),
    Mutant(
        "finalize before notarized",
        "R-CON-4",
        patch(Simplex, "_finalize_votes", _finalize_unnotarized),
    ),
    Mutant(
        "finalize what others notarized",
        "R-CON-4",
        patch(Simplex, "_finalize_votes", _finalize_any),
    ),
    Mutant("notarize twice", "R-CON-3", patch(Simplex, "_notarize", _notarize_twice), Equivocating),
    Mutant(
        "skipped views not checked",
        "R-CON-3",
        patch(round.Rounds, "skipped", _all_skipped),
        Mutating,
    ),
    Mutant("parent not checked", "R-CON-3", patch(simplex, "judge", _judge_any_parent), Mutating),
    Mutant("blocks not executed", "R-CON-3", patch(Log, "execute", _execute_anything), Mutating),
    Mutant("quorum one short", "R-CON-1", patch(Voters, "__post_init__", _quorum_one_short)),
    Mutant("heads instead of weight", "R-CON-1", patch(Voters, "__post_init__", _heads_not_weight)),
    Mutant(
        "certificate not verified",
        "R-CON-1",
        patch(following, "is_good", _any_certificate),
        Mutating,
    ),
    Mutant(
        "certificate not weighed", "R-CON-1", patch(following, "is_good", _any_weight), Mutating
    ),
    Mutant(
        "votes not verified",
        "R-CON-1",
        ((Arena, "_signed", _never_verified), (Arena, "_is_mine", _never_verified)),
        Mutating,
    ),
    Mutant("only the next view", "R-CON-1", patch(Follower, "_enter", _enter_only_next)),
    Mutant(
        "second value counted",
        "R-CON-11",
        patch(round.Round, "add", _second_value_counts),
        Equivocating,
    ),
    Mutant("legal votes called evidence", "R-CON-11", patch(round.Round, "add", _accuse_wrongly)),
    Mutant("old views kept", "R-CON-11", patch(round.Rounds, "prune", _keep_all)),
    Mutant(
        "mesh clock follows the leader",
        "R-CON-13",
        patch(clock.MeshClock, "finalized", _follow_the_leader),
        Hasty,
    ),
    Mutant("any time accepted", "R-CON-13", patch(clock.MeshClock, "accepts", _any_time), Hasty),
    Mutant(
        "one claim moves the clock",
        "R-CON-13",
        patch(clock.MeshClock, "_reached", staticmethod(_believe_one)),
    ),
    Mutant("nothing repeated", "R-CON-8", patch(Simplex, "_repeat", _silent_standstill)),
    Mutant("blocks not asked for", "R-CON-12", patch(catchup.Catchup, "missing", _never_ask)),
    Mutant("timers without work", "R-CON-7", patch(Simplex, "_working", _always_working)),
    *EPOCH_MUTANTS,
    *BROKER_MUTANTS,
)
