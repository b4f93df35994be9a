"""One season for people: who says, hears and decides what, with virtual milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from demesh_consensus import Certificate, Finalized, Misbehaved, Proposal, Vote
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.checkers import name_of
from demesh_sim.campaign.disk import Kept, Standing
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
        self._booted = False

    def _line(self, who: str, text: str) -> None:
        self._write(f"{self._arena.now // MS:>8} ms  {who:<4} {text}")

    def _of(self, peer: Peer, text: str) -> None:
        second = peer.audience is not None and peer is not self._arena.peers[peer.index]
        liar = type(peer.adversary).__name__ + " " if peer.adversary is not None else ""
        self._line(f"v{peer.index}{'b' if second else ''}", liar + text)

    def booted(self, peer: Peer) -> None:
        tip, held = peer.core.tip, len(peer.disk.held)
        self._of(peer, f"starts: tip {tip.height}, view {peer.core.view}, {held} journal entries")

    def synced(self, peer: Peer, entries: Sequence[Kept]) -> None:
        self._of(peer, "syncs " + ", ".join(_entry(entry) for entry in entries))

    def said(self, peer: Peer, message: Said) -> None:
        self._of(peer, f"says {describe(message)}")

    def hears(self, source: int, peer: Peer, message: Message) -> None:
        self._of(peer, f"hears v{source}: {describe(message)}")

    def final(self, peer: Peer, effect: Finalized) -> None:
        block = effect.blocks[-1][1]
        self._of(peer, f"final: height {block.height}, view {block.view}, {len(block.ops)} ops")

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
                f"proposal of v{vote.voter}: view {block.view}, height {block.height} on view "
                f"{block.parent_view}, {block.time_s} s, {len(block.ops)} ops; shows {why or '-'}"
            )
        case WantVotes():
            return "which votes of mine do you hold?"
        case GotVotes(_, votes, tip, time_s):
            held = ", ".join(name_of(vote.statement) for vote in votes) or "none"
            at = tip.statement.view if tip else 0
            return f"your votes: {held}; my tip is of view {at}, my clock {time_s} s"
        case WantBlocks(first):
            return f"blocks from height {first}, please"
        case GotBlocks(blocks, certificate):
            return f"{len(blocks)} blocks up to {name_of(certificate.statement)}"
        case Op(op):
            return f"op {op.decode(errors='replace')!r}"


def _entry(entry: Kept) -> str:
    if isinstance(entry, Standing):
        return f"floor {entry.floor}{', quarantined' if entry.quarantined else ''}"
    if isinstance(entry, Proposal):
        return f"the block of view {entry.block.view}"
    if isinstance(entry, Certificate):
        return f"certificate {name_of(entry.statement)}"
    return name_of(entry.statement)
