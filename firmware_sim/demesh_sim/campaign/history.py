"""What the whole mesh said, counted from everybody's votes; no code of the core decides.

A vote counts once it is safe on its voter's disk, or, of a liar, once it was sent to anybody, and
only with the key that its epoch's roll names. Rolls are derived from the ops of blocks: the next
epoch is known here as soon as quorum weight of the last one said FINALIZE for its closing block, or
for an empty block above it.
"""

from __future__ import annotations

from dataclasses import dataclass

from demesh_consensus import Block, Certificate, Proposal, Statement, StatementKind, Vote
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.ledger import GENESIS, START, Roll, State, founding
from demesh_sim.campaign.messages import Said
from demesh_sim.campaign.signing import digest_of

NOTARIZE, NULLIFY, FINALIZE = StatementKind.NOTARIZE, StatementKind.NULLIFY, StatementKind.FINALIZE

View = tuple[int, int]
"""An epoch and a view of it."""


class Violation(Exception):
    """Something that must always hold does not: which rule, who, when, what."""

    def __init__(self, rule: str, who: int | None, now: int, text: str) -> None:
        self.rule = rule
        voter = "" if who is None else f"voter {who}: "
        super().__init__(f"{rule} at {now // 1_000_000} ms: {voter}{text}")


def name_of(statement: Statement) -> str:
    """For people; the epoch of the founders goes without saying."""
    epoch = f"epoch {statement.epoch}, " if statement.epoch else ""
    digest = f", {statement.digest.hex()[:6]}" if statement.digest else ""
    return f"{statement.kind.name}({epoch}{statement.view}{digest})"


@dataclass(frozen=True, slots=True)
class Place:
    """What a block leaves to those that stand on it."""

    epoch: int
    view: int
    height: int
    time_s: int
    state: State
    end: bytes | None  # the closing block of its epoch, if that is this one or below


class History:
    """All blocks that were seen, who voted in each epoch, and which statements have its quorum."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        founders = founding(arena.weights)
        self.rolls: dict[int, Roll] = {}
        self.starts: dict[int, bytes] = {}
        self.notarized: dict[View, bytes] = {}
        self.nullified: dict[View, None] = {}
        self.finalized: dict[View, bytes] = {}
        self._places = {GENESIS: Place(0, 0, START.height, START.time_s, State((), founders), None)}
        self._blocks: dict[bytes, Block] = {}
        self._signed: dict[Statement, dict[int, None]] = {}
        self._seen: dict[Certificate, bool] = {}
        self._early: dict[int, dict[Vote, None]] = {}
        self._open(founders, GENESIS)

    # -- who votes --------------------------------------------------------------------------------

    @property
    def last(self) -> Roll:
        """The roll of the last epoch that began."""
        return self.rolls[len(self.rolls) - 1]

    def key(self, voter: int, epoch: int) -> int | None:
        """The key that votes for it in this epoch; None if the epoch did not begin."""
        roll = self.rolls.get(epoch)
        return None if roll is None else roll.keys[voter]

    def genuine(self, vote: Vote) -> bool:
        """Is this the signature of the key that its epoch's roll names?"""
        return self._verify(vote.voter, vote.statement, vote.signature)

    def _verify(self, voter: int, statement: Statement, signature: bytes) -> bool:
        roll = self.rolls.get(statement.epoch)
        if roll is None or not 0 <= voter < len(roll.keys):
            return False
        return self._arena.signing.verify(voter, statement, signature, roll.keys[voter])

    def quorum(self, epoch: int) -> int:
        """The weight that decides in this epoch."""
        return 2 * sum(self.rolls[epoch].weights) // 3 + 1

    def weight(self, voters: dict[int, None], epoch: int) -> int:
        """What these voters weigh in this epoch."""
        return sum(self.rolls[epoch].weights[voter] for voter in voters)

    def _open(self, roll: Roll, start: bytes) -> None:
        """An epoch begins."""
        self.rolls[roll.epoch], self.starts[roll.epoch] = roll, start
        self.notarized[roll.epoch, 0] = self.finalized[roll.epoch, 0] = start
        for vote in self._early.pop(roll.epoch, {}):
            self.count(vote)

    # -- votes ------------------------------------------------------------------------------------

    def count(self, vote: Vote) -> None:
        """A vote was signed; one of an epoch that did not begin counts when it does."""
        statement = vote.statement
        if statement.epoch not in self.rolls:
            self._early.setdefault(statement.epoch, {})[vote] = None
        elif vote.voter not in self._signed.get(statement, ()) and self.genuine(vote):
            self._count(vote.voter, statement)

    def weighs(self, certificate: Certificate) -> bool:
        """Good signatures of distinct voters of quorum weight? What is signed counts."""
        if certificate.statement.epoch not in self.rolls:
            return False
        if certificate not in self._seen:
            self._seen[certificate] = self._weigh(certificate)
        return self._seen[certificate]

    def _weigh(self, certificate: Certificate) -> bool:
        signers: dict[int, None] = {}
        for voter, signature in certificate.signatures:
            if not self._verify(voter, certificate.statement, signature):
                return False
            signers[voter] = None
            self._count(voter, certificate.statement)
        epoch = certificate.statement.epoch
        return self.weight(signers, epoch) >= self.quorum(epoch)

    def _count(self, voter: int, statement: Statement) -> None:
        signers = self._signed.setdefault(statement, {})
        if voter in signers:
            return
        signers[voter] = None
        if self.weight(signers, statement.epoch) >= self.quorum(statement.epoch):
            self._certified(statement)

    def _certified(self, statement: Statement) -> None:
        view, digest = (statement.epoch, statement.view), statement.digest
        if statement.kind is NOTARIZE and self.notarized.setdefault(view, digest) != digest:
            raise self._two(f"two blocks are notarized in view {view}")
        if statement.kind is FINALIZE and self.finalized.setdefault(view, digest) != digest:
            raise self._two(f"two blocks are finalized in view {view}")
        if statement.kind is NULLIFY:
            self.nullified[view] = None
        if view in self.nullified and view in self.finalized:
            raise self._two(f"view {view} is both nullified and finalized")
        if statement.kind is FINALIZE:
            self._hand_over(statement)

    def _hand_over(self, statement: Statement) -> None:
        """The next epoch begins, if this closes its own."""
        place = self.place(statement.digest)
        if place is None:
            raise self._two(f"{name_of(statement)} is for a block that nobody proposed")
        if place.end is None:
            return
        following = statement.epoch + 1
        if following not in self.rolls:
            self._open(place.state.roll, place.end)
        elif self.starts[following] != place.end:
            raise self._two(f"epoch {statement.epoch} has two closing blocks")

    def _two(self, text: str) -> Violation:
        return Violation("one", None, self._arena.now, text)

    # -- blocks -----------------------------------------------------------------------------------

    def see(self, block: Block) -> bytes:
        """Remember a block; its digest."""
        digest = digest_of(block)
        self._blocks.setdefault(digest, block)
        return digest

    def block(self, digest: bytes) -> Block | None:
        """The block of this digest, if anybody showed it."""
        return self._blocks.get(digest)

    def place(self, digest: bytes) -> Place | None:
        """What stands on this block begins with that; None if one below was never seen."""
        path = []
        while digest not in self._places:
            block = self._blocks.get(digest)
            if block is None:
                return None
            path.append((digest, block))
            digest = block.parent
        place = self._places[digest]
        for above, block in reversed(path):
            place = self._places[above] = _above(place, above, block)
        return place

    # -- who speaks -------------------------------------------------------------------------------

    def hear(self, message: Said) -> None:
        """Somebody, honest or not, sent this: what is signed in it counts."""
        match message:
            case Vote():
                self.count(message)
            case Certificate():
                self.weighs(message)
            case Proposal(block, shown, vote):
                self.see(block)
                for certificate in shown:
                    self.weighs(certificate)
                self.count(vote)


def _above(below: Place, digest: bytes, block: Block) -> Place:
    ends: bytes | None
    if below.end is not None and block.epoch == below.epoch:
        state, ends = below.state, below.end  # an empty block above a closing one
    else:
        state = below.state.after(block.ops)
        ends = digest if state.roll != below.state.roll else None
    return Place(block.epoch, block.view, block.height, block.time_s, state, ends)


def filler_on(digest: bytes, below: Place, view: int) -> Block:
    """The only block that may stand in this view on a closing block, or on one like itself."""
    height = below.height + 1
    root = below.state.root
    return Block(below.epoch, view, below.view, digest, height, below.time_s, (), root)
