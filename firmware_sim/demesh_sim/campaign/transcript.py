"""One season for people: who says, hears and decides what, with virtual milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from demesh_consensus import Certificate, Finalized, Misbehaved, Proposal, Vote
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.disk import Kept, Standing
from demesh_sim.campaign.history import name_of
from demesh_sim.campaign.messages import (
    GotBlocks,
    GotVotes,
    Message,
    Op,
    Said,
    WantBlocks,
    WantVotes,
)
from demesh_sim.campaign.peer import Peer, Watcher
from demesh_sim.campaign.weather import MS


class Transcript(Watcher):
    """Writes one line per thing that crosses a voter's border."""

    def __init__(self, arena: Arena, write: Callable[[str], None]) -> None:
        self._arena, self._write = arena, write
        self._epochs: dict[Peer, int] = {}

    def _line(self, who: str, text: str) -> None:
        self._write(f"{self._arena.now // MS:>8} ms  {who:<4} {text}")

    def _of(self, peer: Peer, text: str) -> None:
        second = peer.audience is not None and peer is not self._arena.peers[peer.index]
        liar = type(peer.adversary).__name__ + " " if peer.adversary is not None else ""
        self._line(f"v{peer.index}{'b' if second else ''}", liar + text)

    def booted(self, peer: Peer) -> None:
        core, held = peer.core, len(peer.disk.held)
        self._epochs[peer] = core.voters.epoch
        where = f"tip {core.tip.height}, view {core.view}{_epoch(core.voters.epoch)}"
        self._of(peer, f"starts: {where}, {held} journal entries")

    def synced(self, peer: Peer, entries: Sequence[Kept]) -> None:
        self._of(peer, "syncs " + ", ".join(_entry(entry) for entry in entries))

    def said(self, peer: Peer, message: Said) -> None:
        self._of(peer, f"says {describe(message)}")

    def hears(self, source: int, peer: Peer, message: Message) -> None:
        self._of(peer, f"hears v{source}: {describe(message)}")

    def final(self, peer: Peer, effect: Finalized) -> None:
        block, trail = effect.blocks[-1][1], f" by views {effect.trail}" if effect.trail else ""
        where = f"height {block.height}, view {block.view}{_epoch(block.epoch)}"
        end = f"; it closes the epoch{trail}" if block.closing else ""
        self._of(peer, f"final: {where}, {len(block.ops)} ops{end}")

    def turned(self, peer: Peer) -> None:
        core = peer.core
        epoch = core.voters.epoch
        if self._epochs.get(peer) == epoch:
            return
        self._epochs[peer] = epoch
        role = "a voter" if core.me is not None else "an observer"
        weights = core.voters.weights
        self._of(peer, f"begins epoch {epoch} as {role} on height {core.tip.height}: {weights}")

    def accused(self, peer: Peer, proof: Misbehaved) -> None:
        first, second = name_of(proof.first.statement), name_of(proof.second.statement)
        self._of(peer, f"accuses v{proof.first.voter} of {first} and {second}")

    def struck(self, what: str) -> None:
        self._line("--", what)


def describe(message: Message) -> str:
    """A message in a few words."""
    match message:
        case Vote(statement, voter):
            return f"{name_of(statement)} of v{voter}"
        case Certificate(statement, signatures):
            return f"certificate {name_of(statement)} by {[voter for voter, _ in signatures]}"
        case Proposal(block, shown, vote):
            why = ", ".join(name_of(certificate.statement) for certificate in shown)
            return (
                f"proposal of v{vote.voter}: view {block.view}{_epoch(block.epoch)}, "
                f"height {block.height} on view {block.parent_view}, {block.time_s} s, "
                f"{len(block.ops)} ops{', closing' if block.closing else ''}; shows {why or '-'}"
            )
        case WantVotes():
            return "which votes of mine do you hold?"
        case GotVotes(_, votes, tip, epoch, time_s):
            held = ", ".join(name_of(vote.statement) for vote in votes) or "none"
            at = name_of(tip.statement) if tip else "the genesis"
            return f"your votes: {held}; my tip is {at}{_epoch(epoch)}, my clock {time_s} s"
        case WantBlocks(first):
            return f"blocks from height {first}, please"
        case GotBlocks(blocks, certificate, trail):
            over = f" over views {trail}" if trail else ""
            return f"{len(blocks)} blocks up to {name_of(certificate.statement)}{over}"
        case Op(op):
            return f"op {op.decode(errors='replace')!r}"


def _entry(entry: Kept) -> str:
    if isinstance(entry, Standing):
        given_up = entry.given_up
        return f"floor {entry.floor}{'' if given_up is None else f', key {given_up} given up'}"
    if isinstance(entry, Proposal):
        return f"the block of view {entry.block.view}{_epoch(entry.block.epoch)}"
    if isinstance(entry, Certificate):
        return f"certificate {name_of(entry.statement)}"
    return name_of(entry.statement)


def _epoch(epoch: int) -> str:
    return f" of epoch {epoch}" if epoch else ""
