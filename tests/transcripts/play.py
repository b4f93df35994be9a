"""Plays a transcript: its inputs go into a real voter, and what comes out is written below them.

A file says in its first line what it shows, then who votes, who "me" is and which blocks there are;
then come inputs with their time, each with its effects indented below it. `-> view 2` is no effect:
the voter has gone to another view. Lines beginning with # are remarks.

    voters 1 1 1 1                        weights; the rest of the line is derived
    me 0
    block A: view 1 on genesis, ops a b   also ", time 1004", ", height 7", ", wrong root"

    0.000s  start                         begin; `ready`: and the others answered the recall
    0.000s  op a                          an op wants to be decided
    0.000s  tick
    0.000s  run until 60.000s             tick whenever the voter wants it; nobody else speaks
    0.000s  vote 1 NULLIFY v1
    0.000s  proposal A with NULLIFY v1 by 0 1 2, NOTARIZE v2 B by 1 2 3
    0.000s  certificate NULLIFY v1 by 0 1 2       `retained certificate`: from the tip topic
    0.000s  blocks A B from 3 with FINALIZE v2 B by 0 1 2
    0.000s  recalled 1 clock 1000 votes NULLIFY v1, NOTARIZE v2 B
    0.000s  restart                       from journal and blocks; `restart without journal`, or
                                          `restart without blocks, floor 4`: and the
                                          journal left out what was said up to there
    0.000s  clock                         what the mesh clock shows
    0.000s  next                          when the voter wants its next tick

A block that the voter itself makes and the file does not define is called M and its view.
"""

from __future__ import annotations

import re
from dataclasses import replace

from consensus.cluster import (
    GENESIS,
    MS,
    SECOND,
    START,
    HashCrypto,
    Log,
    digest_of,
    signature,
    vote,
)
from demesh_consensus import (
    AskBlocks,
    AskVotes,
    Block,
    Broadcast,
    Certificate,
    Effect,
    Entry,
    Finalized,
    Misbehaved,
    Proposal,
    PublishTip,
    Quarantined,
    Record,
    Refused,
    Simplex,
    StandingStill,
    Statement,
    StatementKind,
    Timing,
    Tip,
    Vote,
    Voters,
)

# With this seed the leader of view v is voter v mod 4 when four weigh the same.
SEED = b"seed 13"


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
        self.voters = Voters(0, (1, 1, 1, 1), SEED)
        self.me = 0
        self.now = 0
        self.blocks: dict[str, Block] = {}
        self.ops: dict[bytes, tuple[bytes, ...]] = {GENESIS: ()}  # all ops up to a block
        self.names = {GENESIS: "genesis"}
        self.log = Log()
        self.journal: list[Entry] = []
        self.tip = START
        self.core: Simplex = None  # type: ignore[assignment]

    # -- the head ---------------------------------------------------------------------------------

    def seat(self, line: str) -> str:
        weights = line.partition(":")[0].split()[1:]
        self.voters = voters = Voters(0, tuple(map(int, weights)), SEED)
        leaders = " ".join(str(voters.leader(view)) for view in range(1, 7))
        head = f"voters {' '.join(weights)}: quorum {voters.quorum}, f {voters.faulty_max}"
        return f"{head}; leaders of views 1 to 6: {leaders}"

    def define(self, line: str) -> None:
        name, _, terms = line.removeprefix("block ").partition(": ")
        place, *further = terms.split(", ")
        _, view, _, on = place.split()
        parent = self.blocks.get(on)
        digest = digest_of(parent) if parent else GENESIS
        height, time_s = (parent.height + 1, parent.time_s) if parent else (1, START.time_s)
        given = dict(one.split(" ", 1) for one in further)
        ops = tuple(op.encode() for op in given.get("ops", "").split())
        block = Block(
            epoch=0,
            view=int(view),
            parent_view=parent.view if parent else 0,
            parent=digest,
            height=int(given.get("height", height)),
            time_s=int(given.get("time", time_s)),
            ops=ops,
            state_root=Log._root(self.ops[digest] + ops),
        )
        if "wrong" in given:
            block = replace(block, state_root=bytes(32))
        self.learn(name, block)

    def learn(self, name: str, block: Block) -> None:
        digest = digest_of(block)
        self.blocks[name], self.names[digest] = block, name
        self.ops[digest] = self.ops[block.parent] + block.ops

    # -- inputs -----------------------------------------------------------------------------------

    def input(self, line: str) -> list[str]:
        at, _, what = line.partition("s ")
        self.now = moment(at)
        word, _, rest = what.strip().partition(" ")
        if word in ("clock", "next"):
            return [self.clock() if word == "clock" else self.next()]
        if word == "run":
            return self.run(moment(rest.removeprefix("until ").removesuffix("s"))) or ["(nothing)"]
        view = self.core.view if self.core else 1
        return self.tell(getattr(self, f"on_{word}")(rest), view) or ["(nothing)"]

    def on_start(self, rest: str, floor: int = 0) -> list[Effect]:
        crypto, salt = HashCrypto(self.me), b"salt %d" % self.me
        given = (self.voters, self.me, crypto, self.log, self.tip, Timing(), salt, self.now)
        self.core = Simplex(*given, self.journal, floor)
        return self.core.tick(self.now)

    def on_ready(self, rest: str) -> list[Effect]:
        effects = self.on_start("")
        for voter in self.others():
            effects += self.core.receive_recalled(voter, (), self.tip.time_s, self.now)
        assert effects == [AskVotes(1)], "ready is for a quiet beginning"
        return []

    def on_restart(self, rest: str) -> list[Effect]:
        floor = 0
        if rest == "without journal":
            self.journal = []
        elif rest:
            floor, self.tip, self.log = int(rest.rpartition(" ")[2]), START, Log()
            self.journal = [one for one in self.journal if view_of(one) > floor]
        return self.on_start("", floor)

    def on_op(self, rest: str) -> list[Effect]:
        self.log.pool[rest.encode()] = None
        return self.core.tick(self.now)

    def on_tick(self, rest: str) -> list[Effect]:
        return self.core.tick(self.now)

    def on_vote(self, rest: str) -> list[Effect]:
        voter, _, statement = rest.partition(" ")
        return self.core.receive_vote(self.said(int(voter), statement), self.now)

    def on_proposal(self, rest: str) -> list[Effect]:
        name, _, certificates = rest.partition(" with ")
        block = self.blocks[name]
        leader, digest = self.voters.leader(block.view), digest_of(block)
        inside = [self.certified(one) for one in certificates.split(", ") if one]
        signed = vote(leader, StatementKind.NOTARIZE, block.view, digest)
        return self.core.receive_proposal(Proposal(block, tuple(inside), signed), self.now)

    def on_certificate(self, rest: str) -> list[Effect]:
        return self.core.receive_certificate(self.certified(rest), self.now)

    def on_retained(self, rest: str) -> list[Effect]:
        given = self.certified(rest.removeprefix("certificate "))
        return self.core.receive_certificate(given, self.now, live=False)

    def on_blocks(self, rest: str) -> list[Effect]:
        answer, _, certificate = rest.partition(" with ")
        names, _, voter = answer.partition(" from ")
        blocks = [self.blocks[name] for name in names.split()]
        return self.core.receive_blocks(blocks, self.certified(certificate), self.now, int(voter))

    def on_recalled(self, rest: str) -> list[Effect]:
        answer, _, votes = rest.partition(" votes ")
        voter, _, time_s = answer.split()
        mine = [self.said(self.me, one) for one in votes.split(", ") if one]
        return self.core.receive_recalled(int(voter), mine, int(time_s), self.now)

    def run(self, end: int) -> list[str]:
        written = []
        while (due := self.core.deadline()) is not None and max(due, self.now) <= end:
            self.now, view = max(due, self.now + 1), self.core.view
            effects = self.tell(self.core.tick(self.now), view)
            written += [f"{clock_of(self.now)}  {one}" for one in effects]
            assert self.core.deadline() != due, "the voter did not do what was due"
        self.now = end
        return written

    def clock(self) -> str:
        return f"mesh time {self.core.clock.read_s(self.now)}"

    def next(self) -> str:
        due = self.core.deadline()
        return "never" if due is None else clock_of(due)

    def others(self) -> list[int]:
        return [voter for voter in range(len(self.voters.weights)) if voter != self.me]

    # -- from words -------------------------------------------------------------------------------

    def statement(self, words: str) -> Statement:
        kind, view, *names = words.split()
        digest = digest_of(self.blocks[names[0]]) if names else b""
        return Statement(StatementKind[kind], 0, int(view.removeprefix("v")), digest)

    def said(self, voter: int, words: str) -> Vote:
        statement = self.statement(words)
        return Vote(statement, voter, signature(voter, statement))

    def certified(self, words: str) -> Certificate:
        said, _, by = words.partition(" by ")
        statement = self.statement(said)
        return Certificate(
            statement, tuple((v, signature(v, statement)) for v in map(int, by.split()))
        )

    # -- to words ---------------------------------------------------------------------------------

    def tell(self, effects: list[Effect], view: int) -> list[str]:
        """Effects in their order; the disk and the application follow them."""
        written = [self.effect(one) for one in effects]
        if self.core.view != view:
            written.append(f"-> view {self.core.view}")
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
            case Finalized(blocks, certificate):
                self.finalize(blocks, certificate)
                return f"final     {' '.join(self.names[digest] for digest, _ in blocks)}"
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
                return f"quarantine: I said {self.words(lost.statement)} and do not know it"
            case Refused(reason):
                return f"refused   {reason.value}"

    def finalize(self, blocks: tuple[tuple[bytes, Block], ...], certificate: Certificate) -> None:
        digest, last = blocks[-1]
        self.tip = Tip(last.view, last.height, last.time_s, digest, certificate)
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
        return f"M{block.view} ({place}, {ops})"

    def words(self, statement: Statement) -> str:
        named = f" {self.names[statement.digest]}" if statement.digest else ""
        return f"{statement.kind.name} v{statement.view}{named}"


def view_of(entry: Entry) -> int:
    return (entry.vote if isinstance(entry, Proposal) else entry).statement.view


def moment(words: str) -> int:
    """`1.250` in nanoseconds."""
    seconds, _, thousandths = words.partition(".")
    return int(seconds) * SECOND + int(thousandths) * MS


def clock_of(now: int) -> str:
    return f"{now // SECOND}.{now // MS % 1000:03}s"
