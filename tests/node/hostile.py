"""A real node among members who sign whatever they like; its disk and its clock are the test's."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from enum import IntEnum
from random import Random
from typing import Any

from demesh.node import Node
from demesh.ports import (
    MILLISECOND,
    SECOND,
    CompactJournal,
    Effect,
    Fetch,
    Fetched,
    Journal,
    Keep,
    Linked,
    Measured,
    Measurement,
    Publish,
    Received,
    StoreBlock,
)
from demesh.wire import identity
from demesh.wire.frame import SIGN1
from demesh.wire.kinds import Kind
from demesh.wire.schema import Bounds, plain_hint
from demesh.wire.sealing import Sealer
from demesh.wire.signer import Signer
from demesh.wire.topics import KINDS_OF_AREA, Topics
from demesh_sim.bare import Bare, found_bare
from demesh_sim.memory_store import MemoryStore

AREA_OF_KIND = {kind: area for area, kinds in KINDS_OF_AREA.items() for kind in kinds}

# A node that wants so many turns within one instant is going round in circles.
TURNS_PER_INSTANT_MAX = 100


class Board:
    """One node with its disk; `pen` signs with its keys behind its back."""

    def __init__(self, bare: Bare, index: int) -> None:
        self.bare, self.index = bare, index
        self.member = bare.members[index]
        self.id = bare.ids[index]
        self.store = MemoryStore()
        self.node: Node
        self.pen = self.signer(boot=1)
        self.sealer = Sealer(self.member.identity.device_key, self.pen.binding, boot=2**32)
        self.topics = Topics(bare.mesh_id, self.id)

    def signer(self, boot: int) -> Signer:
        keys = self.member.identity
        binding = identity.binding_of(self.bare.mesh_id, self.bare.genesis.body)
        return Signer(keys.device_key, keys.vote_key, binding, boot, self.member.settings.seed)


class Street:
    """Boards whose messages arrive at once, in order, when `deliver` says so."""

    def __init__(self, count: int = 4, seed: int = 1) -> None:
        self.bare = found_bare(count, seed)
        self.now = 5 * SECOND
        self.boards = [Board(self.bare, index) for index in range(count)]
        self.wire: list[tuple[int, Publish]] = []
        self.down: set[int] = set()
        for board in self.boards:
            self.boot(board)

    def boot(self, board: Board) -> None:
        member = board.member
        board.node = Node(
            member.identity, self.bare.genesis, board.store.load(), member.settings, self.now
        )
        self.do(board, board.node.start(self.now))
        self.do(board, board.node.handle(Linked(0, True), self.now))
        self.do(board, board.node.handle(Measured(Measurement(0)), self.now))

    def do(self, board: Board, effects: Sequence[Effect]) -> None:
        kept = [e for e in effects if isinstance(e, Journal | CompactJournal | StoreBlock | Keep)]
        board.store.commit(kept)
        self.wire += [(board.index, e) for e in effects if isinstance(e, Publish)]
        for effect in effects:
            if isinstance(effect, Fetch):
                blocks = board.store.blocks(effect.first_height, effect.count)
                final = board.store.final(effect.first_height + len(blocks) - 1)
                fetched = Fetched(effect.asker, blocks, final)
                self.do(board, board.node.handle(fetched, self.now))

    def give(self, board: Board, topic: str, frame: bytes, retained: bool = False) -> list[Effect]:
        """Hand a message to a board, sealed if it is direct; nothing it says is lost."""
        area, *_, publisher = topic.split("/")[3:]
        if area == "to" and frame.startswith(SIGN1):
            sender = self._board(publisher)
            frame = sender.sealer.seal(bytes(board.member.identity.device_key.verify_key), frame)
        effects = board.node.handle(Received(topic, frame, retained), self.now)
        self.do(board, effects)
        return effects

    def _board(self, id: str) -> Board:
        return next(board for board in self.boards if identity.text(board.id) == id)

    def deliver(self) -> None:
        """All that was published reaches everybody who is up, and what follows from it."""
        for _ in range(1000):
            wire, self.wire = self.wire, []
            if not wire:
                return
            for _, publish in wire:
                area, device = publish.topic.split("/")[3:5]
                for board in self.boards:
                    mine = area not in ("to", "obs") or device == identity.text(board.id)
                    if mine and board.index not in self.down:
                        self.give(board, publish.topic, publish.payload)
        raise AssertionError("they never stop talking")

    def run(self, seconds: int) -> None:
        """Time passes; every board is ticked when it asks for it."""
        end = self.now + seconds * SECOND
        while True:
            self.deliver()
            due = [
                (when, board)
                for board in self.boards
                if board.index not in self.down and (when := board.node.deadline()) is not None
            ]
            first = min((when for when, _ in due), default=end + 1)
            if first > end:
                break
            self.now = max(self.now, first)
            for when, board in due:
                if when <= self.now:
                    self.settle(board)
            self.now += MILLISECOND
        self.now = end

    def settle(self, board: Board) -> None:
        """Tick until the board wants nothing more at this instant."""
        for _ in range(TURNS_PER_INSTANT_MAX):
            due = board.node.deadline()
            if due is None or due > self.now:
                return
            self.do(board, board.node.tick(self.now))
        raise AssertionError("a busy loop: its deadline stays in the past")

    def topic(self, sender: Board, receiver: Board, kind: Kind) -> str:
        area = AREA_OF_KIND.get(kind, "to")
        return sender.topics.to(receiver.id) if area == "to" else sender.topics.mine(area)


class Nonsense:
    """Values that fit a message's declared types and nothing else."""

    def __init__(self, dice: Random, known: Sequence[bytes]) -> None:
        self.dice, self.known = dice, known

    def message(self, cls: type) -> Any:
        hints = typing.get_type_hints(cls, include_extras=True)
        return cls(**{field.name: self.value(hints[field.name]) for field in fields(cls)})

    def value(self, hint: Any) -> Any:
        hint, found = plain_hint(hint)
        bounds = found or Bounds(0, 8)
        origin = typing.get_origin(hint)
        if origin in (typing.Union, types.UnionType):
            return self.value(typing.get_args(hint)[0]) if self.dice.random() < 0.5 else None
        if origin is tuple:
            size = self._between(bounds.least, min(bounds.greatest, bounds.least + 3))
            return tuple(self.value(typing.get_args(hint)[0]) for _ in range(size))
        if is_dataclass(hint):
            return self.message(typing.cast(type, hint))
        if issubclass(hint, IntEnum):
            return self.dice.choice(list(hint))
        if hint is bool:
            return self.dice.random() < 0.5
        if hint is int:
            edges = [bounds.least, bounds.least + 1, bounds.greatest, bounds.greatest - 1]
            small = self._between(bounds.least, min(bounds.greatest, bounds.least + 2000))
            return self.dice.choice([*edges, small, small])
        size = self._between(bounds.least, min(bounds.greatest, bounds.least + 64))
        if hint is str:
            return "x" * size
        fit = [b for b in self.known if bounds.least <= len(b) <= bounds.greatest]
        if fit and self.dice.random() < 0.7:
            return self.dice.choice(fit)
        return self.dice.randbytes(size)

    def _between(self, least: int, greatest: int) -> int:
        return self.dice.choice([least, greatest, self.dice.randint(least, greatest)])


def altered(message: Any, nonsense: Nonsense) -> Any:
    """A good message with one field gone wrong."""
    hints = typing.get_type_hints(type(message), include_extras=True)
    name = nonsense.dice.choice([field.name for field in fields(message)])
    return replace(message, **{name: nonsense.value(hints[name])})
