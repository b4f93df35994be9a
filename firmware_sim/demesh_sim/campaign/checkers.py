"""What must hold of votes, certificates and blocks, whatever happens; no code of the core decides.

    agreement    one block per height, on the one before it; each op once; roots recomputed
    certificate  what an honest voter shows or finalizes on has good signatures of quorum weight
    one          in a view one block is notarized, and it is not both nullified and finalized
    durable      an honest vote that leaves is on its voter's disk, with what it rests on
    discipline   NOTARIZE and FINALIZE once per view, never FINALIZE and NULLIFY, over all lives
    grounded     NOTARIZE only on a certified parent with what is skipped nullified, FINALIZE only
                 for a notarized block, both counted from the votes of the whole mesh
    time         no final block is ahead of the fastest honest clock by more than the slack

A vote counts once it is safe on its voter's disk, or, of a liar, once it was sent to anybody. What
no rule forbids is not looked for: NOTARIZE after NULLIFY is safe in Simplex.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from demesh_consensus import Block, Certificate, Finalized, Proposal, Statement, StatementKind, Vote
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.disk import Kept
from demesh_sim.campaign.ledger import GENESIS, START, root_of
from demesh_sim.campaign.messages import GotBlocks, GotVotes, Message, Said
from demesh_sim.campaign.peer import Peer, Watcher
from demesh_sim.campaign.signing import digest_of
from demesh_sim.campaign.weather import SECOND

NOTARIZE, NULLIFY, FINALIZE = StatementKind.NOTARIZE, StatementKind.NULLIFY, StatementKind.FINALIZE

# R-CON-13: what a voter accepts ahead of its own clock.
SLACK_S = 2


class Violation(Exception):
    """Something that must always hold does not: which rule, who, when, what."""

    def __init__(self, rule: str, who: int | None, now: int, text: str) -> None:
        self.rule = rule
        voter = "" if who is None else f"voter {who}: "
        super().__init__(f"{rule} at {now // 1_000_000} ms: {voter}{text}")


def name_of(statement: Statement) -> str:
    """For people."""
    digest = f", {statement.digest.hex()[:6]}" if statement.digest else ""
    return f"{statement.kind.name}({statement.view}{digest})"


class Tally:
    """Who signed what, by everybody's votes; which statements have quorum weight."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._weights = arena.voters.weights
        self._quorum = 2 * sum(self._weights) // 3 + 1
        self._signed: dict[Statement, dict[int, None]] = {}
        self._seen: dict[Certificate, bool] = {}
        self.notarized: dict[int, bytes] = {0: GENESIS}
        self.nullified: dict[int, None] = {}
        self.finalized: dict[int, bytes] = {0: GENESIS}

    def count(self, vote: Vote) -> None:
        """A vote was signed."""
        self._count(vote.voter, vote.statement)

    def weighs(self, certificate: Certificate) -> bool:
        """Good signatures of distinct voters of quorum weight? What is signed counts."""
        if certificate not in self._seen:
            self._seen[certificate] = self._weigh(certificate)
        return self._seen[certificate]

    def _weigh(self, certificate: Certificate) -> bool:
        signers: dict[int, None] = {}
        for voter, signature in certificate.signatures:
            if not 0 <= voter < len(self._weights):
                return False
            if not self._arena.signing.verify(voter, certificate.statement, signature):
                return False
            signers[voter] = None
            self._count(voter, certificate.statement)
        return sum(self._weights[voter] for voter in signers) >= self._quorum

    def _count(self, voter: int, statement: Statement) -> None:
        signers = self._signed.setdefault(statement, {})
        if voter in signers or statement.epoch != 0:
            return
        signers[voter] = None
        if sum(self._weights[signer] for signer in signers) >= self._quorum:
            self._certified(statement)

    def _certified(self, statement: Statement) -> None:
        view, digest = statement.view, statement.digest
        if statement.kind is NOTARIZE and self.notarized.setdefault(view, digest) != digest:
            raise self._two(f"two blocks are notarized in view {view}")
        if statement.kind is FINALIZE and self.finalized.setdefault(view, digest) != digest:
            raise self._two(f"two blocks are finalized in view {view}")
        if statement.kind is NULLIFY:
            self.nullified[view] = None
        if view in self.nullified and view in self.finalized:
            raise self._two(f"view {view} is both nullified and finalized")

    def _two(self, text: str) -> Violation:
        return Violation("one", None, self._arena.now, text)


class Checkers(Watcher):
    """All rules above. `faulty` are voters whose word is not kept: liars and lost journals."""

    def __init__(self, arena: Arena, faulty: frozenset[int] = frozenset()) -> None:
        self.arena, self.faulty = arena, faulty
        self.tally = Tally(arena)
        self.truth: dict[int, bytes] = {0: GENESIS}
        self.checked = 0
        self._blocks: dict[bytes, Block] = {}
        self._ops: dict[bytes, tuple[bytes, ...]] = {GENESIS: ()}
        self._said: dict[tuple[int, int], dict[StatementKind, bytes]] = {}

    # -- votes ------------------------------------------------------------------------------------

    def booted(self, peer: Peer) -> None:
        self._commit(peer, list(peer.disk.held))

    def synced(self, peer: Peer, entries: Sequence[Kept]) -> None:
        self._commit(peer, entries)
        for entry in entries if peer.index not in self.faulty else ():
            vote = entry.vote if isinstance(entry, Proposal) else entry
            if isinstance(vote, Vote) and vote.voter == peer.index:
                self._rests(peer, vote.statement)

    def _commit(self, peer: Peer, entries: Sequence[Kept]) -> None:
        """What is on the disk is said, even if it is sent only after the next start."""
        for entry in entries:
            if isinstance(entry, Proposal):
                self._blocks.setdefault(digest_of(entry.block), entry.block)
            vote = entry.vote if isinstance(entry, Proposal) else entry
            if isinstance(vote, Vote) and vote.voter == peer.index:
                if peer.index not in self.faulty:
                    self._discipline(peer, vote.statement)
                self.tally.count(vote)

    def said(self, peer: Peer, message: Said) -> None:
        self.checked += 1
        honest = peer.index not in self.faulty
        match message:
            case Vote():
                if honest and message.voter == peer.index:
                    self._durable(peer, message)
                if self._signed(message):
                    self.tally.count(message)
            case Certificate():
                if not self.tally.weighs(message) and honest:
                    text = f"{name_of(message.statement)} is not certified"
                    self._fail("certificate", peer, text)
            case Proposal():
                self._blocks.setdefault(digest_of(message.block), message.block)
                for certificate in message.justification:
                    good = self.tally.weighs(certificate)
                    if honest and message.vote.voter == peer.index and not good:
                        self._fail("certificate", peer, "shows a bad certificate")
                if honest and message.vote.voter == peer.index:
                    self._durable(peer, message.vote)
                if self._signed(message.vote):
                    self.tally.count(message.vote)

    def hears(self, source: int, peer: Peer, message: Message) -> None:
        if isinstance(message, GotBlocks):
            self.tally.weighs(message.certificate)
        elif isinstance(message, GotVotes) and message.tip is not None:
            self.tally.weighs(message.tip)

    def _signed(self, vote: Vote) -> bool:
        return self.arena.signing.verify(vote.voter, vote.statement, vote.signature)

    def _durable(self, peer: Peer, vote: Vote) -> None:
        """R-CON-10: a vote of mine that leaves is safe; what is final may be left out."""
        statement, held = vote.statement, peer.disk.held
        final = max(peer.core.tip.view, peer.standing.floor)
        if statement.view <= final:
            return
        if vote not in held and not any(_is_of(entry, vote) for entry in held):
            text = f"{name_of(statement)} leaves, and its disk does not hold it"
            self._fail("durable", peer, text)

    def _rests(self, peer: Peer, statement: Statement) -> None:
        """R-CON-10: the certificate a new vote rests on is safe with it, or its view is final."""
        view = statement.view - (statement.kind is not FINALIZE)
        wanted = (NOTARIZE,) if statement.kind is FINALIZE else tuple(StatementKind)
        if view > max(peer.core.tip.view, peer.standing.floor) and not any(
            isinstance(entry, Certificate)
            and entry.statement.view == view
            and entry.statement.kind in wanted
            for entry in peer.disk.held
        ):
            text = f"{name_of(statement)} rests on what its disk does not hold"
            self._fail("durable", peer, text)

    def _discipline(self, peer: Peer, statement: Statement) -> None:
        view, kind, digest = statement.view, statement.kind, statement.digest
        said = self._said.setdefault((peer.index, view), {})
        if kind in said:
            if said[kind] != digest:
                self._fail("discipline", peer, f"{name_of(statement)}, and another digest before")
            return
        said[kind] = digest
        if FINALIZE in said and NULLIFY in said:
            self._fail("discipline", peer, f"both FINALIZE and NULLIFY in view {view}")
        if kind is FINALIZE:
            if said.get(NOTARIZE) != digest:
                self._fail("grounded", peer, f"{name_of(statement)} without its own NOTARIZE")
            if self.tally.notarized.get(view) != digest:
                self._fail("grounded", peer, f"{name_of(statement)} for what is not notarized")
        if kind is NOTARIZE:
            self._grounded(peer, view, digest)

    def _grounded(self, peer: Peer, view: int, digest: bytes) -> None:
        """R-CON-3, from the votes of the whole mesh."""
        block = self._blocks.get(digest)
        if block is None or block.view != view or block.epoch != 0 or block.closing:
            self._fail("grounded", peer, f"NOTARIZE({view}) for an unknown or unfit block")
        if not block.parent_view < view:
            self._fail("grounded", peer, f"NOTARIZE({view}) on parent view {block.parent_view}")
        certified = (self.tally.notarized, self.tally.finalized)
        if block.parent not in (views.get(block.parent_view) for views in certified):
            self._fail("grounded", peer, f"NOTARIZE({view}) on a parent that is not certified")
        for skipped in range(block.parent_view + 1, view):
            if skipped not in self.tally.nullified:
                self._fail("grounded", peer, f"NOTARIZE({view}) skips {skipped}, not nullified")
        self._executes(peer, block)

    def _executes(self, peer: Peer, block: Block) -> None:
        before = self._blocks.get(block.parent)
        height = before.height if before else START.height
        time_s = before.time_s if before else START.time_s
        state = self._state(block.parent) + block.ops
        if block.height != height + 1 or block.time_s < time_s:
            self._fail("grounded", peer, f"view {block.view}: height or time does not follow")
        if len(dict.fromkeys(state)) != len(state):
            self._fail("grounded", peer, f"view {block.view}: an op is there twice")
        if block.state_root != root_of(state):
            self._fail("grounded", peer, f"view {block.view}: another state root")

    def _state(self, digest: bytes) -> tuple[bytes, ...]:
        """All ops up to a block."""
        path = []
        while digest not in self._ops:
            path.append((digest, self._blocks[digest]))
            digest = self._blocks[digest].parent
        for above, block in reversed(path):
            self._ops[above] = self._ops[digest] + block.ops
            digest = above
        return self._ops[digest]

    # -- blocks -----------------------------------------------------------------------------------

    def final(self, peer: Peer, effect: Finalized) -> None:
        if peer.adversary is not None:
            return
        height = peer.chain[-1].block.height if peer.chain else START.height
        for digest, block in effect.blocks:
            height += 1
            if digest_of(block) != digest or block.height != height:
                self._fail("agreement", peer, f"height {block.height} is not the next block")
            if self.truth.setdefault(height, digest) != digest:
                self._fail("agreement", peer, f"fork at height {height}")
            if block.parent != self.truth[height - 1]:
                self._fail("agreement", peer, f"height {height} is on another parent")
            self._blocks.setdefault(digest, block)
            self._executes(peer, block)
            self._time(peer, block)
        statement = effect.certificate.statement
        if statement != Statement(FINALIZE, 0, block.view, digest):
            self._fail("certificate", peer, f"height {height} by {name_of(statement)}")
        if not self.tally.weighs(effect.certificate):
            self._fail("certificate", peer, f"height {height} without quorum weight")

    def _time(self, peer: Peer, block: Block) -> None:
        honest = (p for p in self.arena.peers if p.adversary is None)
        fastest = START.time_s + max(self.arena.local(p) for p in honest) // SECOND
        if block.time_s > fastest + SLACK_S:
            ahead = block.time_s - fastest
            self._fail("time", peer, f"height {block.height} is {ahead} s ahead of every clock")

    def _fail(self, rule: str, peer: Peer, text: str) -> NoReturn:
        raise Violation(rule, peer.index, self.arena.now, text)


def _is_of(entry: Kept, vote: Vote) -> bool:
    return isinstance(entry, Proposal) and entry.vote == vote
