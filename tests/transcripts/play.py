"""Plays a transcript: its inputs go into a real voter, and what comes out is written below them.

A file says in its first line what it shows, then who votes, who "me" is and which blocks there are;
then come inputs with their time, each with its effects indented below it. `-> view 2` is no effect:
the voter has gone to another view. Lines beginning with # are remarks.

    voters 1 1 1 1                        weights; the rest of the line is derived
    me 0
    block A: view 1 on genesis, ops a b   also ", time 1004", ", height 7", ", wrong root",
                                          ", closing" although it changes no voter, and
                                          ", seat 4 1 0": voter 4 gets weight 1 and its key 0
    block N: epoch 1 view 1 on S          stands on S, which closed epoch 0

    0.000s  start                         begin; `ready`: and the others answered the recall
    0.000s  op a                          an op wants to be decided
    0.000s  tick
    0.000s  run until 60.000s             tick whenever the voter wants it; nobody else speaks
    0.000s  vote 1 NULLIFY v1
    0.000s  proposal A with NULLIFY v1 by 0 1 2, NOTARIZE v2 B by 1 2 3
    0.000s  certificate NULLIFY v1 by 0 1 2       `retained certificate`: from the tip topic
    0.000s  blocks A B from 3 with FINALIZE v2 B by 0 1 2
    0.000s  blocks S from 3 through v2 with FINALIZE v2 F by 0 1 2    F stands on S, which closes
    0.000s  recalled 1 clock 1000 votes NULLIFY v1, NOTARIZE v2 B     `recalled 1 epoch 1 clock ...`
    0.000s  gone 1                        a broker says that this voter's connection ended
    0.000s  restart                       from journal and blocks; `restart without journal`,
                                          `restart with key 1`: a new one, or
                                          `restart without blocks, floor 4`: and the
                                          journal left out what was said up to there
    0.000s  clock                         what the mesh clock shows
    0.000s  next                          when the voter wants its next tick

A statement of another epoch than 0 has it before the view: `NULLIFY e1 v3`. A block that the voter
itself makes and the file does not define is called M and its view.
"""

from __future__ import annotations

import re

from consensus.cluster import GENESIS, MS, SECOND, SEED, START, Log, digest_of, signature, state_of
from demesh_consensus import (
    AskBlocks,
    AskVotes,
    Block,
    Broadcast,
    Certificate,
    Effect,
    Entry,
    Epochs,
    Finalized,
    Misbehaved,
    Proposal,
    PublishTip,
    Quarantined,
    Record,
    Refused,
    StandingStill,
    Statement,
    StatementKind,
    Timing,
    Tip,
    Vote,
    Voters,
)
from demesh_sim.campaign.ledger import Roll, seat


def play(text: str) -> str:
    """The transcript with the effects that its inputs have here and now."""
    stage = Stage()
    written = []
    for line in text.splitlines():
        if line.startswith("  "):
            continue  # an effect of the past
        if line.startswith("voters "):
            written.append(stage.seat(line))
        elif line.startswith("me "):
            stage.me = int(line.split()[1])
            written.append(line)
        elif line.startswith("block "):
            stage.define(line)
            written.append(line)
        elif re.match(r"\d", line):
            written += [line, *(f"  {one}" for one in stage.input(line))]
        else:
            written.append(line)
    return "\n".join(written) + "\n"


class Stage:
    """One voter, its disk, and the names of blocks."""

    def __init__(self) -> None:
        self.weights: tuple[int, ...] = ()
        self.me = 0
        self.key = 0
        self.given_up: int | None = None  # of my keys
        self.now = 0
        self.blocks: dict[str, Block] = {}
        self.names = {GENESIS: "genesis"}
        self.journal: list[Entry] = []
        self.tip = START
        self.log: Log = None  # type: ignore[assignment]
        self.node: Epochs = None  # type: ignore[assignment]

    # -- the head ---------------------------------------------------------------------------------

    def seat(self, line: str) -> str:
        weights = line.partition(":")[0].split()[1:]
        self.weights = tuple(map(int, weights))
        self.states = {GENESIS: state_of(weights=self.weights)}
        self.rolls = {0: self.states[GENESIS].roll}
        voters = Voters(0, self.weights, SEED)
        head = f"voters {' '.join(weights)}: quorum {voters.quorum}, f {voters.faulty_max}"
        return f"{head}; leaders of views 1 to 6: {leaders(voters)}"

    def define(self, line: str) -> None:
        name, _, terms = line.removeprefix("block ").partition(": ")
        place, *further = terms.split(", ")
        *of, _, view, _, on = place.split()
        parent = self.blocks.get(on)
        digest = digest_of(parent) if parent else GENESIS
        height, time_s = (parent.height + 1, parent.time_s) if parent else (1, START.time_s)
        epoch, below = (parent.epoch, parent.view) if parent else (0, 0)
        if of:
            epoch, below = int(of[1]), 0
        given = dict(one.partition(" ")[::2] for one in further)
        ops = tuple(op.encode() for op in given.get("ops", "").split())
        if "seat" in given:
            voter, weight, key = map(int, given["seat"].split())
            ops = (*ops, seat(voter, weight, key))
        before = self.states[digest]
        state = before.after(ops)
        block = Block(
            epoch=epoch,
            view=int(view),
            parent_view=below,
            parent=digest,
            height=int(given.get("height", height)),
            time_s=int(given.get("time", time_s)),
            ops=ops,
            state_root=bytes(32) if "wrong" in given else state.root,
            closing=state.roll != before.roll or "closing" in given,
        )
        self.learn(name, block)

    def learn(self, name: str, block: Block) -> None:
        digest = digest_of(block)
        self.blocks[name], self.names[digest] = block, name
        state = self.states[digest] = self.states[block.parent].after(block.ops)
        self.rolls.setdefault(state.roll.epoch, state.roll)

    # -- inputs -----------------------------------------------------------------------------------

    def input(self, line: str) -> list[str]:
        at, _, what = line.partition("s ")
        self.now = moment(at)
        word, _, rest = what.strip().partition(" ")
        if word in ("clock", "next"):
            return [self.clock() if word == "clock" else self.next()]
        if word == "run":
            return self.run(moment(rest.removeprefix("until ").removesuffix("s"))) or ["(nothing)"]
        before = self.where() if self.node else (0, 1)
        return self.tell(getattr(self, f"on_{word}")(rest), before) or ["(nothing)"]

    def on_start(self, rest: str, floor: int = 0) -> list[Effect]:
        if self.log is None or self.tip.digest not in self.log.states or self.log.key != self.key:
            self.log = Log(self.me, self.weights, self.key)
            self.log.states = {self.tip.digest: self.states[self.tip.digest]}
        given = (self.log, self.tip, Timing(), b"salt %d" % self.me, self.now, self.journal)
        self.node = Epochs(*given, (0, floor), self.given_up == self.key)
        return self.node.tick(self.now)

    def on_ready(self, rest: str) -> list[Effect]:
        effects = self.on_start("")
        for voter in self.others():
            effects += self.node.receive_recalled(voter, (), 0, self.tip.time_s, self.now)
        quiet = [AskVotes(1)] if self.node.core.me is not None else []
        assert effects == quiet, "ready is for a quiet beginning"
        return []

    def on_restart(self, rest: str) -> list[Effect]:
        floor = 0
        if rest == "without journal":
            self.journal = []
        elif rest.startswith("with key "):
            self.key = int(rest.removeprefix("with key "))
        elif rest:
            floor, self.tip = int(rest.rpartition(" ")[2]), START
            self.journal = [one for one in self.journal if view_of(one) > floor]
        return self.on_start("", floor)

    def on_op(self, rest: str) -> list[Effect]:
        self.log.pool[rest.encode()] = None
        return self.node.tick(self.now)

    def on_tick(self, rest: str) -> list[Effect]:
        return self.node.tick(self.now)

    def on_vote(self, rest: str) -> list[Effect]:
        voter, _, statement = rest.partition(" ")
        return self.node.receive_vote(self.said(int(voter), statement), self.now)

    def on_proposal(self, rest: str) -> list[Effect]:
        name, _, certificates = rest.partition(" with ")
        block = self.blocks[name]
        weights = self.roll(block.epoch).weights
        leader = Voters(block.epoch, weights, SEED).leader(block.view)
        inside = [self.certified(one) for one in certificates.split(", ") if one]
        stated = Statement(StatementKind.NOTARIZE, block.epoch, block.view, digest_of(block))
        signed = Vote(stated, leader, self.signed(leader, stated))
        return self.node.receive_proposal(Proposal(block, tuple(inside), signed), self.now)

    def on_certificate(self, rest: str) -> list[Effect]:
        return self.node.receive_certificate(self.certified(rest), self.now)

    def on_retained(self, rest: str) -> list[Effect]:
        given = self.certified(rest.removeprefix("certificate "))
        return self.node.receive_certificate(given, self.now, live=False)

    def on_blocks(self, rest: str) -> list[Effect]:
        answer, _, certificate = rest.partition(" with ")
        answer, _, through = answer.partition(" through ")
        names, _, voter = answer.partition(" from ")
        blocks = [self.blocks[name] for name in names.split()]
        trail = [int(view.removeprefix("v")) for view in through.split()]
        proof = (self.certified(certificate), self.now, int(voter), trail)
        return self.node.receive_blocks(blocks, *proof)

    def on_recalled(self, rest: str) -> list[Effect]:
        answer, _, votes = rest.partition(" votes ")
        voter, *terms, _, time_s = answer.split()
        epoch = int(terms[1]) if terms else self.node.core.voters.epoch
        mine = [self.said(self.me, one) for one in votes.split(", ") if one]
        return self.node.receive_recalled(int(voter), mine, epoch, int(time_s), self.now)

    def on_gone(self, rest: str) -> list[Effect]:
        return self.node.receive_gone(int(rest), self.now)

    def run(self, end: int) -> list[str]:
        written = []
        while (due := self.node.core.deadline()) is not None and max(due, self.now) <= end:
            self.now, before = max(due, self.now + 1), self.where()
            effects = self.tell(self.node.tick(self.now), before)
            written += [f"{clock_of(self.now)}  {one}" for one in effects]
            assert self.node.core.deadline() != due, "the voter did not do what was due"
        self.now = end
        return written

    def clock(self) -> str:
        return f"mesh time {self.node.core.clock.read_s(self.now)}"

    def next(self) -> str:
        due = self.node.core.deadline()
        return "never" if due is None else clock_of(due)

    def others(self) -> list[int]:
        return [voter for voter in range(len(self.weights)) if voter != self.me]

    def where(self) -> tuple[int, int]:
        return self.node.core.voters.epoch, self.node.core.view

    # -- from words -------------------------------------------------------------------------------

    def statement(self, words: str) -> Statement:
        found = re.fullmatch(r"([A-Z]+)(?: e(\d+))? v(\d+)(?: (\w+))?", words)
        assert found, words
        kind, epoch, view, name = found.groups()
        digest = digest_of(self.blocks[name]) if name else b""
        return Statement(StatementKind[kind], int(epoch or 0), int(view), digest)

    def signed(self, voter: int, statement: Statement) -> bytes:
        """With the key that the voter has in that epoch."""
        return signature(voter, statement, self.roll(statement.epoch).keys[voter])

    def roll(self, epoch: int) -> Roll:
        """The voters of an epoch; of one that no block begins, those of the last that is known."""
        return self.rolls.get(epoch, self.rolls[max(self.rolls)])

    def said(self, voter: int, words: str) -> Vote:
        statement = self.statement(words)
        return Vote(statement, voter, self.signed(voter, statement))

    def certified(self, words: str) -> Certificate:
        said, _, by = words.partition(" by ")
        statement = self.statement(said)
        return Certificate(
            statement, tuple((v, self.signed(v, statement)) for v in map(int, by.split()))
        )

    # -- to words ---------------------------------------------------------------------------------

    def tell(self, effects: list[Effect], before: tuple[int, int]) -> list[str]:
        """Effects in their order; the disk and the application follow them."""
        written = [self.effect(one) for one in effects]
        epoch, view = self.where()
        if epoch != before[0]:
            voters, me = self.node.core.voters, self.node.core.me
            weights = " ".join(map(str, voters.weights))
            part = "observer" if me is None else f"voter {me}"
            written.append(f"-> epoch {epoch}: voters {weights}, I am {part}")
            written.append(f"   quorum {voters.quorum}; leaders from view 1 on: {leaders(voters)}")
        elif view != before[1]:
            written.append(f"-> view {view}")
        return written

    def effect(self, effect: Effect) -> str:
        match effect:
            case Record(entry):
                self.journal.append(entry)
                return f"record    {self.entry(entry)}"
            case Broadcast(message):
                return f"broadcast {self.entry(message)}"
            case PublishTip(certificate):
                return f"publish tip {self.entry(certificate)}"
            case Finalized(blocks, certificate, trail):
                self.finalize(blocks, certificate)
                above = f" through {' '.join(f'v{view}' for view in trail)}" if trail else ""
                return f"final     {' '.join(self.names[digest] for digest, _ in blocks)}{above}"
            case AskBlocks(voter, first):
                return f"ask {voter} for blocks from height {first}"
            case AskVotes():
                return "ask all for my votes"
            case Misbehaved(first, second):
                both = f"{self.words(first.statement)} and {self.words(second.statement)}"
                return f"evidence  voter {first.voter} said {both}"
            case StandingStill(since_ns):
                return f"standing still for {clock_of(since_ns)}: repeat pending ops"
            case Quarantined(lost):
                self.given_up = self.key
                return f"quarantine: I said {self.words(lost.statement)} and do not know it"
            case Refused(reason):
                return f"refused   {reason.value}"

    def finalize(self, blocks: tuple[tuple[bytes, Block], ...], certificate: Certificate) -> None:
        digest, last = blocks[-1]
        view = 0 if last.closing else last.view
        self.tip = Tip(view, last.height, last.time_s, digest, certificate)
        for _, block in blocks:
            for op in block.ops:
                self.log.pool.pop(op, None)

    def entry(self, entry: Entry) -> str:
        match entry:
            case Vote(statement):
                return self.words(statement)
            case Certificate(statement, signatures):
                by = " ".join(str(voter) for voter, _ in signatures)
                return f"certificate {self.words(statement)} by {by}"
            case Proposal(block, inside):
                carried = [self.entry(one).removeprefix("certificate ") for one in inside]
                given = f" with {', '.join(carried)}" if carried else ""
                return f"proposal {self.made(block)}{given}"

    def made(self, block: Block) -> str:
        if digest_of(block) in self.names:
            return self.names[digest_of(block)]
        self.learn(f"M{block.view}", block)
        ops = f"ops {b' '.join(block.ops).decode()}" if block.ops else "no ops"
        place = f"on {self.names[block.parent]}, height {block.height}, time {block.time_s}"
        last = ", closing" if block.closing else ""
        return f"M{block.view} ({place}, {ops}{last})"

    def words(self, statement: Statement) -> str:
        named = f" {self.names[statement.digest]}" if statement.digest else ""
        of = f" e{statement.epoch}" if statement.epoch else ""
        return f"{statement.kind.name}{of} v{statement.view}{named}"


def leaders(voters: Voters) -> str:
    return " ".join(str(voters.leader(view)) for view in range(1, 7))


def view_of(entry: Entry) -> int:
    return (entry.vote if isinstance(entry, Proposal) else entry).statement.view


def moment(words: str) -> int:
    """`1.250` in nanoseconds."""
    seconds, _, thousandths = words.partition(".")
    return int(seconds) * SECOND + int(thousandths) * MS


def clock_of(now: int) -> str:
    return f"{now // SECOND}.{now // MS % 1000:03}s"
