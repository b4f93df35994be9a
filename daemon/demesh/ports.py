"""What crosses the border of the core: inputs, effects, interfaces with two implementations.

The node is told inputs with the time and returns effects. The shell executes a turn's effects in
this order, whatever order they were returned in: persist (`Journal`, `StoreBlock`, `Keep`), then
publish, then actuate and fetch, then observe. Nothing is published that is not durable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

Instant = int
"""A point on the node's monotonic clock, in nanoseconds."""

MILLISECOND = 1_000_000
SECOND = 1_000_000_000

Json = None | bool | int | str | list["Json"] | dict[str, "Json"]

# -- inputs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """A message from a broker."""

    topic: str
    payload: bytes
    retained: bool = False
    broker: int = 0


@dataclass(frozen=True, slots=True)
class Admitted:
    """A message that the node has let in; `content` is what it made of it."""

    received: Received
    content: object


@dataclass(frozen=True, slots=True)
class Linked:
    """The connection to a broker came up (subscriptions in place) or went down."""

    broker: int
    up: bool


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the device's own meter and sensors say. Registers only ever grow.

    `flows` holds, per agreement in service, the register of units (Wh) it has moved so far.
    """

    power_w: int  # the device as a whole: positive draws, negative delivers
    demand_w: int = 0  # what it would take from the market now
    supply_w: int = 0  # what it could deliver to the market now
    stored_wh: int = 0
    flows: tuple[tuple[bytes, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement was taken."""

    measurement: Measurement


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A finalized block as stored: encoded block and, where known, what makes it final."""

    height: int
    block: bytes
    certificate: bytes | None


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to `Fetch`: consecutive blocks, ascending, perhaps none.

    `final` is what makes the last of them final, its own or that of the next block that has one.
    If there is not even the first block, there are hand-overs and the latest checkpoint, as stored.
    """

    asker: bytes
    blocks: tuple[StoredBlock, ...]
    final: bytes | None = None
    hand_overs: tuple[bytes, ...] = ()
    checkpoint: bytes | None = None


@dataclass(frozen=True, slots=True)
class Sought:
    """The answer to `SeekChunk`; None if it is not stored."""

    asker: bytes
    chunk: bytes | None


@dataclass(frozen=True, slots=True)
class Stopping:
    """The daemon was asked to end; last messages may still be published."""


Input = Received | Admitted | Linked | Measured | Fetched | Sought | Stopping

# -- effects: persist -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Journal:
    """Append a record to the vote journal; fsynced before anything of this turn is published."""

    record: bytes


@dataclass(frozen=True, slots=True)
class CompactJournal:
    """Replace the vote journal by these records, atomically."""

    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class StoreBlock:
    """Store a finalized block and the ledger records it changed; may be committed in batches.

    A closing block has the encoded hand-over of its epoch with it.
    """

    height: int
    block: bytes
    certificate: bytes | None
    changes: tuple[tuple[bytes, bytes | None], ...]
    hand_over: bytes | None = None


@dataclass(frozen=True, slots=True)
class StoreCheckpoint:
    """Store a checkpoint and its chunks, by their ids.

    Blocks up to the checkpoint before it, and older checkpoints, are not needed any more.
    """

    height: int
    checkpoint: bytes
    chunks: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Adopt:
    """Put a checkpoint in place of all blocks and records, at once; hand-overs by their heights.

    Durable before anything else happens; then nothing of the turn leaves, and the node begins anew.
    """

    height: int
    checkpoint: bytes
    chunks: tuple[tuple[bytes, bytes], ...]
    records: tuple[tuple[bytes, bytes], ...]
    hand_overs: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Keep:
    """Set or (None) delete a value in the node's own key-value store, `space` by `space`.

    `urgent`: durable before anything of this turn is published; otherwise within a second.
    """

    space: str
    key: bytes
    value: bytes | None
    urgent: bool = False


Persist = Journal | CompactJournal | StoreBlock | StoreCheckpoint | Adopt | Keep

# -- effects: the rest ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish to every broker that is up, or to one alone."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    broker: int | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read up to `count` stored blocks from `first_height` upwards for `asker`; see `Fetched`.

    If they are gone, hand-overs from the end of `epoch` on instead.
    """

    asker: bytes
    first_height: int
    count: int
    epoch: int


@dataclass(frozen=True, slots=True)
class SeekChunk:
    """Read a chunk of a checkpoint by its id for `asker`; see `Sought`."""

    asker: bytes
    id: bytes


@dataclass(frozen=True, slots=True)
class Actuate:
    """Set the power of one agreement's flow: > 0 deliver, < 0 take in, 0 end it."""

    flow: bytes
    power_w: int


@dataclass(frozen=True, slots=True)
class Observe:
    """One readable document on `obs/<device>/<topic>`; with `text`, also a line for people."""

    topic: str
    document: dict[str, Json] = field(default_factory=dict)
    text: str = ""


Effect = Persist | Publish | Fetch | SeekChunk | Actuate | Observe

# -- interfaces -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Restored:
    """All a store gives back at start."""

    journal: tuple[bytes, ...] = ()
    tip: StoredBlock | None = None
    records: tuple[tuple[bytes, bytes], ...] = ()
    kept: tuple[tuple[str, bytes, bytes], ...] = ()
    checkpoint: bytes | None = None


class Store(Protocol):
    """Durable storage of one node; SQLite and a file, or memory with torn writes."""

    def load(self) -> Restored:
        """Read everything back after a start."""

    def commit(self, effects: Sequence[Persist]) -> None:
        """Make a turn's effects durable as each asks; raises StorageError."""

    def blocks(self, first_height: int, count: int) -> tuple[StoredBlock, ...]:
        """Consecutive finalized blocks, ascending, at most `count`."""

    def final(self, height: int) -> bytes | None:
        """The first stored finalization of a block at this height or above."""

    def hand_overs(self, first_epoch: int = 0, count: int = -1) -> tuple[bytes, ...]:
        """Those of closed epochs from `first_epoch` on, in order, at most `count` (-1: all)."""

    def checkpoint(self) -> bytes | None:
        """The latest one."""

    def chunk(self, id: bytes) -> bytes | None:
        """A chunk of the last two checkpoints."""


class Device(Protocol):
    """A driver: the hardware, or a simulated board.

    A device that is not read for some samples ends its flows by itself: the daemon may have died,
    and nobody pays for what is delivered after that.
    """

    sample_ms: int

    def read(self, now: Instant) -> Measurement:
        """Measure; registers never decrease, also across restarts."""

    def actuate(self, command: Actuate, now: Instant) -> None:
        """Carry out a command; an impossible one is clipped to what is safe, never an error."""
