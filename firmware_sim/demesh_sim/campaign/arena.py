"""Voters on one heap in virtual time: their turns, their disks, what they send, how they crash.

A peer is the core under test with what the daemon puts around it: a turn's entries are synced
before anything of that turn leaves, and inputs wait meanwhile. Watchers see what crosses a peer's
border: entries that are safe, messages in and out, blocks that are final.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from demesh.brokers import Manner
from demesh_consensus import (
    AskBlocks,
    AskVotes,
    Broadcast,
    Certificate,
    Effect,
    Epochs,
    Finalized,
    Instant,
    Misbehaved,
    Proposal,
    PublishTip,
    Quarantined,
    Record,
    StandingStill,
    Timing,
    Tip,
    Vote,
)
from demesh_sim.campaign.disk import Kept, Link, Standing
from demesh_sim.campaign.ledger import START, Log, State, founding
from demesh_sim.campaign.messages import (
    GotBlocks,
    GotVotes,
    Message,
    Op,
    Said,
    WantBlocks,
    WantVotes,
)
from demesh_sim.campaign.peer import Carrier, Liar, Peer, Watcher
from demesh_sim.campaign.signing import KeyedHash, Signing
from demesh_sim.campaign.weather import MS, SECOND, Weather

# Records of the journal before it is written anew: few, so that short runs compact too.
COMPACT_ABOVE = 24
INBOX_MAX = 4096


class Arena:
    """Runs peers until a virtual time."""

    def __init__(
        self,
        weights: tuple[int, ...],
        seed: int = 0,
        signing: Signing | None = None,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self.random = Random(f"{seed}/network")
        self.fate = Random(f"{seed}/fate")
        self.weights = weights  # of the founders
        self.signing = signing or KeyedHash()
        self.weather = Weather()
        self.watchers = list(watchers)
        self.now = 0
        self.events = 0
        self.crashes = 0
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.sequence = 0
        self.sent: list[tuple[int, Said]] = []
        self.evidence: list[Misbehaved] = []
        self.carrier: Carrier | None = None
        self.peers = [Peer(index, self._log(index)) for index in range(len(weights))]
        self.hosts = list(self.peers)  # and the second lives of twins
        for peer in self.peers:
            self._boot(peer)

    def start(self) -> None:
        """Every core's first turn."""
        for peer in self.hosts:
            self.input(peer, partial(self._tick, peer))

    def _log(self, index: int) -> Log:
        return Log(self.weights, self.signing, index)

    # -- power ------------------------------------------------------------------------------------

    def _boot(self, peer: Peer) -> None:
        kept = peer.disk.load()
        standing = [entry for entry in kept if isinstance(entry, Standing)]
        entries = [entry for entry in kept if not isinstance(entry, Standing)]
        peer.standing = standing[-1] if standing else Standing()
        peer.up, peer.syncing, peer.doomed, peer.wake = True, False, None, None
        peer.inbox.clear()
        tip, state = START, State((), founding(self.weights))
        for link in peer.chain:
            block, state = link.block, state.after(link.block.ops)
            view = 0 if block.closing else block.view
            tip = Tip(view, block.height, block.time_s, link.digest, link.certificate)
        peer.log.states = {tip.digest: state}
        peer.epochs = Epochs(
            peer.log,
            tip,
            Timing(),
            b"salt %d" % peer.index,
            self.local(peer),
            entries,
            peer.standing.floor,
            peer.quarantined,
        )
        for watcher in self.watchers:
            watcher.booted(peer)
        if self.carrier is not None:
            self.carrier.booted(peer)

    def watch(self, watcher: Watcher) -> None:
        """From now on; of what was before it sees the disks."""
        self.watchers.append(watcher)
        for peer in self.hosts:
            watcher.booted(peer)

    def crash(self, index: int) -> None:
        """Power fails; what was not synced may be gone, or a part of it."""
        peer = self.peers[index]
        if not peer.up:
            return
        self.crashes += 1
        peer.up, peer.life = False, peer.life + 1
        peer.disk.cut(self.fate)
        peer.disk.cut_ledger(self.now, self.fate)
        if self.carrier is not None:
            self.carrier.crashed(peer)
        for watcher in self.watchers:
            watcher.struck(f"voter {index} loses power")

    def restart(self, index: int) -> None:
        """Power is back."""
        peer = self.peers[index]
        if not peer.up:
            self._boot(peer)
            self.input(peer, partial(self._tick, peer))

    def double(self, index: int) -> Peer:
        """A second life of the same key, on a disk of its own."""
        twin = Peer(index, self._log(index))
        self.hosts.append(twin)
        self._boot(twin)
        return twin

    # -- time -------------------------------------------------------------------------------------

    def local(self, peer: Peer) -> Instant:
        """What the peer's own clock shows."""
        return self.now + peer.offset

    def at(self, when: Instant, action: Callable[[], None]) -> None:
        """Do something later."""
        self.sequence += 1
        heapq.heappush(self.heap, (when, self.sequence, action))

    def step(self, end: Instant) -> bool:
        """The next event, if it is not after `end`."""
        if not self.heap or self.heap[0][0] > end:
            return False
        self.now, _, action = heapq.heappop(self.heap)
        self.events += 1
        action()
        return True

    def run(self, seconds: float) -> None:
        """Let this time pass."""
        end = self.now + int(seconds * SECOND)
        while self.step(end):
            pass
        self.now = end

    # -- turns ------------------------------------------------------------------------------------

    def input(self, peer: Peer, call: Callable[[], list[Effect]]) -> None:
        """Give something to a core, now or when its disk is done."""
        if not peer.up:
            return
        if peer.syncing:
            if len(peer.inbox) < INBOX_MAX:
                peer.inbox.append(call)
            return
        self.do(peer, call())

    def do(self, peer: Peer, effects: list[Effect]) -> None:
        """Carry out a turn: entries first, and when they are safe, all else."""
        entries: list[Kept] = [e.entry for e in effects if isinstance(e, Record)]
        if any(isinstance(effect, Quarantined) for effect in effects):
            peer.standing = Standing(peer.standing.floor, peer.log.key)
            entries.append(peer.standing)
        if not entries:
            self._carry(peer, effects)
            self._turned(peer)
            return
        peer.disk.append(entries)
        if peer.doomed is not None:
            self._fail_in_turn(peer, entries, effects)
            return
        wait = self.weather.sync_ns(peer.index, self.now, self.random)
        if wait == 0:
            self._synced(peer, entries, effects)
            return
        peer.syncing = True
        life = peer.life

        def done() -> None:
            if peer.life == life:
                self._synced(peer, entries, effects)

        self.at(self.now + wait, done)

    def _synced(self, peer: Peer, entries: Sequence[Kept], effects: list[Effect]) -> None:
        peer.disk.sync()
        peer.syncing = False
        for watcher in self.watchers:
            watcher.synced(peer, entries)
        self._carry(peer, effects)
        if len(peer.disk.held) > COMPACT_ABOVE + len(peer.epochs.journal()):
            self._compact(peer)
        self._turned(peer)
        if peer.inbox:
            calls, peer.inbox = peer.inbox, []
            self.do(peer, [effect for call in calls for effect in call()])

    def _fail_in_turn(self, peer: Peer, entries: list[Kept], effects: list[Effect]) -> None:
        """Power fails while the turn is written, or when some of its messages have left."""
        if self.fate.random() < 0.5:
            peer.disk.sync()
            for watcher in self.watchers:
                watcher.synced(peer, entries)
            self._carry(peer, effects[: self.fate.randrange(len(effects) + 1)])
        back = self.now + (peer.doomed or 0)
        self.crash(peer.index)
        self.at(back, partial(self.restart, peer.index))

    def _compact(self, peer: Peer) -> None:
        """Leave out of the journal what is final, once the blocks are safe."""
        peer.disk.sync_ledger()
        peer.standing = Standing(peer.epochs.floor, peer.standing.given_up)
        peer.disk.compact((peer.standing, *peer.epochs.journal()))

    def _turned(self, peer: Peer) -> None:
        for watcher in self.watchers:
            watcher.turned(peer)
        self._arm(peer)

    def _tick(self, peer: Peer) -> list[Effect]:
        return peer.epochs.tick(self.local(peer))

    def _arm(self, peer: Peer) -> None:
        due = peer.core.deadline()
        if due is None:
            return
        when = max(due - peer.offset, self.now + 1)
        if peer.wake is not None and peer.wake <= when:
            return
        peer.wake = when
        life = peer.life

        def tick() -> None:
            if peer.life == life:
                if peer.wake == when:
                    peer.wake = None
                self.input(peer, partial(self._tick, peer))

        self.at(when, tick)

    # -- effects ----------------------------------------------------------------------------------

    def _carry(self, peer: Peer, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Broadcast(message):
                    self.publish(peer, message)
                case PublishTip(certificate):
                    self.publish(peer, certificate, "tip")
                case Finalized():
                    self._finalized(peer, effect)
                case AskVotes():
                    peer.nonce += 1
                    for target in self.hosts:
                        self.send(peer, target, WantVotes(peer.nonce))
                case AskBlocks(voter, first):
                    self._send_to(peer, voter, WantBlocks(first))
                case StandingStill():
                    for op in peer.log.pool:
                        self._spread(peer, Op(op), "op")
                case Misbehaved():
                    self.evidence.append(effect)
                    for watcher in self.watchers:
                        watcher.accused(peer, effect)

    def _finalized(self, peer: Peer, effect: Finalized) -> None:
        for watcher in self.watchers:
            watcher.final(peer, effect)
        for digest, block in effect.blocks:
            last = (digest, block) == effect.blocks[-1]
            own, trail = (effect.certificate, effect.trail) if last else (None, ())
            peer.chain.append(Link(digest, block, own, trail, self.now))
            for op in block.ops:
                peer.log.pool.pop(op, None)

    # -- messages ---------------------------------------------------------------------------------

    def publish(self, peer: Peer, message: Said, area: str = "vote") -> None:
        """To all; a liar tells everybody something else."""
        if peer.adversary is None:
            self.tell(peer, message)
            self._spread(peer, message, area)
            return
        self.sent.append((peer.index, message))
        for other in self.peers:
            if other.index != peer.index:
                for said in peer.adversary.instead(other.index, message):
                    self._tell(peer, said)
                    self._send_to(peer, other.index, said)

    def tell(self, peer: Peer, message: Said) -> None:
        """An honest peer says this."""
        self.sent.append((peer.index, message))
        self._tell(peer, message)

    def _tell(self, peer: Peer, message: Said) -> None:
        for watcher in self.watchers:
            watcher.said(peer, message)

    def _spread(self, source: Peer, message: Message, area: str) -> None:
        if self.carrier is not None:
            self.carrier.spread(source, message, area)
            return
        for target in self.hosts:
            self.send(source, target, message)

    def _send_to(self, source: Peer, index: int, message: Message) -> None:
        for target in self.hosts:
            if target.index == index:
                self.send(source, target, message)

    def send(self, source: Peer, target: Peer, message: Message) -> None:
        """Over the network, if these two know of each other."""
        if not self.know(source, target):
            return
        if self.carrier is not None:
            self.carrier.send(source, target, message)
            return
        for due in self.weather.arrivals(source.index, target.index, self.now, self.random):
            self.at(due, partial(self.arrive, source, target, message))

    def know(self, source: Peer, target: Peer) -> bool:
        """Is the one in the other's audience?"""
        if source.index == target.index:
            return False
        if source.audience is not None and target.index not in source.audience:
            return False
        return target.audience is None or source.index in target.audience

    def arrive(
        self, source: Peer, target: Peer, message: Message, manner: Manner = Manner.EVERYWHERE
    ) -> None:
        """A message is there."""
        self.input(target, partial(self._take, source, target, message, manner))

    def _take(self, source: Peer, peer: Peer, message: Message, manner: Manner) -> list[Effect]:
        if peer.adversary is not None and _is_by(peer.index, message):
            return []  # a liar does not care what it said
        for watcher in self.watchers:
            watcher.hears(source.index, peer, message)
        core, node, now = peer.core, peer.epochs, self.local(peer)
        match message:
            case Vote():
                return node.receive_vote(message, now) if self._signed(peer, message) else []
            case Proposal():
                return node.receive_proposal(message, now)
            case Certificate():
                live, everywhere = manner is not Manner.RETAINED, manner is Manner.EVERYWHERE
                return node.receive_certificate(message, now, live, everywhere)
            case GotVotes():
                return self._recalled(source, peer, message)
            case GotBlocks():
                proof = (message.certificate, now, source.index, message.trail)
                return node.receive_blocks(message.blocks, *proof)
            case Op(op):
                if op not in peer.log.states[core.tip.digest].ops:
                    peer.log.pool[op] = None
                return node.tick(now)
            case WantVotes(nonce):
                votes = core.votes_of(source.index)
                tip, time_s = core.tip.certificate, core.clock.read_s(now)
                epoch = core.voters.epoch
                self._answer(peer, source, GotVotes(nonce, votes, tip, epoch, time_s))
            case WantBlocks(first):
                if answer := _run_from(peer, first):
                    self._answer(peer, source, answer)
        return []

    def _signed(self, peer: Peer, vote: Vote) -> bool:
        """What is of another epoch is not counted, whoever signed it."""
        statement, roll = vote.statement, peer.log.states[peer.core.tip.digest].roll
        if statement.epoch != roll.epoch:
            return True
        key = roll.keys[vote.voter]
        return self.signing.verify(vote.voter, statement, vote.signature, key)

    def _recalled(self, source: Peer, peer: Peer, answer: GotVotes) -> list[Effect]:
        if answer.nonce != peer.nonce:
            return []
        held = () if peer.adversary is not None else answer.votes
        mine = (peer.index, peer.log.key)
        votes = tuple(vote for vote in held if self._is_mine(vote, *mine))
        now, effects, asked_in = self.local(peer), list[Effect](), peer.core
        if answer.tip is not None:
            effects += peer.epochs.receive_certificate(answer.tip, now, live=False)
        if peer.core is not asked_in:
            return effects  # as in the daemon: it was asked in an epoch that is over
        told = (votes, answer.epoch, answer.time_s, now)
        return effects + peer.epochs.receive_recalled(source.index, *told)

    def _is_mine(self, vote: Vote, me: int, key: int) -> bool:
        """What is returned to me as mine is so by my own key, in whatever epoch."""
        signed = self.signing.verify(me, vote.statement, vote.signature, key)
        return vote.voter == me and signed

    def _answer(self, peer: Peer, asker: Peer, answer: GotVotes | GotBlocks) -> None:
        given = answer if peer.adversary is None else peer.adversary.answer(answer)
        if given is not None:
            self.send(peer, asker, given)

    # -- work -------------------------------------------------------------------------------------

    def submit(self, op: bytes, to: tuple[int, ...] | None = None) -> None:
        """Somebody wants this op in a block."""
        for peer in self.hosts:
            if to is None or peer.index in to:
                peer.log.pool[op] = None
                self.input(peer, partial(self._tick, peer))

    def offer(self, op: bytes, to: tuple[int, ...]) -> None:
        """These keep the op until it is final, and tell everybody once."""
        self.submit(op, to)
        for index in to:
            if self.peers[index].up:
                self._spread(self.peers[index], Op(op), "op")


def _run_from(peer: Peer, first: int) -> GotBlocks | None:
    """Blocks from a height on, to the end of their epoch at most."""
    links = [link for link in peer.chain if link.block.height >= first][:32]
    ends = next((n for n, link in enumerate(links, 1) if link.block.closing), len(links))
    links = links[:ends]
    while links and links[-1].certificate is None:
        links.pop()
    if not links or (final := links[-1].certificate) is None:
        return None
    return GotBlocks(tuple(link.block for link in links), final, links[-1].trail)


def _is_by(voter: int, message: Message) -> bool:
    vote = message.vote if isinstance(message, Proposal) else message
    return isinstance(vote, Vote) and vote.voter == voter


__all__ = ["MS", "SECOND", "Arena", "Liar", "Message", "Peer", "Said", "Watcher"]
