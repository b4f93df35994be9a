"""The books of a run, checked from what the boards stored: nothing here was told by a running node.

For every board: its records give the state root of its last block. From the longest chain: every
block is executed anew from the genesis, and each state root comes out as the voters signed it. In a
run so long that blocks were pruned, the checkpoint below the first block stands for the genesis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from demesh.ledger.events import Opened, Settled
from demesh.ledger.ledger import Ledger
from demesh.replay import Chain, begins_after, replay
from demesh.wire import identity, statements
from demesh.wire.messages import Genesis, GenesisBody

OWN = "own"
"""The name of an owner's own account beside those of the boards."""


class Books(Chain, Protocol):
    """What a board has stored: `storage.sqlite.Database` or a simulated disk."""

    def records(self) -> tuple[tuple[bytes, bytes], ...]:
        """The ledger's records after the last block."""


@dataclass(frozen=True, slots=True)
class Balance:
    """An owner's money, own account and boards together, in micro-credits."""

    owner: str
    total: int
    accounts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """What the books say at the common height, the last one that every board has stored."""

    blocks: int
    common_height: int
    roots: tuple[tuple[str, str], ...]  # (board, state root at the common height)
    sums: tuple[tuple[str, int], ...]  # (board, sum of all balances and escrows after its tip)
    balances: tuple[Balance, ...]
    epoch: int
    votes: tuple[tuple[str, int], ...]  # (owner, weight) of each voting board
    commons: int
    escrow: int
    channels_opened: int
    channels_settled: int
    paid: int
    fees: int
    faults: tuple[str, ...]
    since: int = 0  # the height from which on events are counted: what was before is pruned

    @property
    def roots_agree(self) -> bool:
        """Every board has the same state at the common height."""
        return len({root for _, root in self.roots}) == 1

    @property
    def sum(self) -> int:
        """All money at the common height; 0, or something is broken."""
        return sum(balance.total for balance in self.balances) + self.commons + self.escrow


def audit(genesis: Genesis, books: Mapping[str, Books]) -> Audit:
    """Check the books of all boards, by name, against the genesis and one another."""
    tips = {name: _height(book) for name, book in books.items()}
    since = max((begins_after(book) for book in books.values()), default=0)
    common = min((height for height in tips.values() if height >= since), default=0)
    faults: list[str] = []
    roots, sums = [], []
    for name, book in books.items():
        ledger, fault = _restored(genesis.body, name, book)
        faults += fault
        sums.append((name, ledger.total()))
        if tips[name] >= since:
            roots.append((name, _root_at(genesis.body, book, common).hex()))
        else:
            faults.append(f"{name}: ends at block {tips[name]}, others begin after {since}")
    longest = max(tips, key=lambda name: tips[name])
    history = _replay(genesis, longest, books[longest], common)
    settled = [event for event in history.events if isinstance(event, Settled)]
    balances, commons = _balances(genesis.body, history.ledger)
    return Audit(
        blocks=tips[longest],
        common_height=common,
        roots=tuple(roots),
        sums=tuple(sums),
        balances=balances,
        epoch=history.ledger.electorate.epoch,
        votes=_votes(history.ledger),
        commons=commons,
        escrow=sum(channel.escrow for _, channel in history.ledger.channels()),
        channels_opened=sum(isinstance(event, Opened) for event in history.events),
        channels_settled=len(settled),
        paid=sum(event.paid for event in settled),
        fees=sum(event.fee for event in settled),
        faults=(*faults, *history.faults),
        since=begins_after(books[longest]),
    )


@dataclass(frozen=True, slots=True)
class _History:
    ledger: Ledger  # at the common height
    events: tuple[object, ...]
    faults: tuple[str, ...]


def _replay(genesis: Genesis, name: str, book: Books, common: int) -> _History:
    """Execute all that a board has of its chain anew."""
    at_common: Ledger | None = None
    events: list[object] = []
    faults: tuple[str, ...] = ()
    try:
        for executed in replay(genesis.body, book):
            events += executed.events
            if at_common is None or executed.height == common:
                at_common = executed.ledger
    except ValueError as error:
        faults = (f"{name}: {error}",)
    return _History(at_common or Ledger.genesis(genesis.body), tuple(events), faults)


def _restored(body: GenesisBody, name: str, book: Books) -> tuple[Ledger, list[str]]:
    """A board's ledger from its records, and what is wrong with it."""
    tip = book.tip()
    if tip is None:
        return Ledger.genesis(body), []
    try:
        # Stored are the records that blocks changed; all others are still as founded.
        records = dict(Ledger.genesis(body).records()) | dict(book.records())
        ledger = Ledger.restore(records.items())
    except ValueError as error:
        return Ledger.genesis(body), [f"{name}: {error}"]
    if ledger.root != statements.decode_block(tip.block).state_root:
        return ledger, [f"{name}: its records do not give the state root of block {tip.height}"]
    return ledger, []


def _root_at(body: GenesisBody, book: Books, height: int) -> bytes:
    if height == 0:
        return Ledger.genesis(body).root
    (stored,) = book.blocks(height, 1)
    return statements.decode_block(stored.block).state_root


def _height(book: Books) -> int:
    tip = book.tip()
    return 0 if tip is None else tip.height


def _votes(ledger: Ledger) -> tuple[tuple[str, int], ...]:
    owners, members = dict(ledger.owners()), dict(ledger.members())
    voters = ledger.electorate.voters
    return tuple((owners[members[v.device].certificate.owner].name, v.weight) for v in voters)


def _balances(body: GenesisBody, ledger: Ledger) -> tuple[tuple[Balance, ...], int]:
    """Money by owner, in the order of the genesis, and what the commons holds."""
    boards = {id: member.certificate.name for id, member in ledger.members()}
    commons = 0
    held: dict[bytes, list[tuple[str, int]]] = {identity.device_id(key): [] for key in body.owners}
    for id, account in ledger.accounts():
        if id == body.commons:
            commons = account.balance
        else:
            held[account.owner].append((boards.get(id, OWN), account.balance))
    balances = tuple(
        Balance(name, sum(amount for _, amount in accounts), tuple(sorted(accounts)))
        for name, accounts in zip(body.owner_names, held.values(), strict=True)
    )
    return balances, commons
