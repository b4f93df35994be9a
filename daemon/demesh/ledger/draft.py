"""The state of one block while it is being applied: the only place where records change.

Rules read from a draft and write to it after their last check, so an op that fails has written
nothing. Written records are encoded and hashed once a block, however often they changed. The orders
in time (`d`, `f`) follow from channels and receipts here, so that no rule can forget them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from demesh.ledger.rules import RULES, Rules
from demesh.ledger.state import (
    ACCOUNTS,
    AMOUNT_MAX,
    CHANNELS,
    DUE,
    ELECTORATE,
    FORGET,
    GUARANTEES,
    MARK,
    MEMBERS,
    OWNERS,
    PARAMETERS,
    QUOTAS,
    RECEIPTS,
    TIME_S_MAX,
    Account,
    Backing,
    Channel,
    Elector,
    Electorate,
    Membership,
    Owner,
    Parameters,
    Quota,
    Receipt,
    Record,
    Result,
    due_key,
    forget_key,
    open_record,
    seal,
    subject_of,
    time_of,
)
from demesh.ledger.trie import Trie

Changes = tuple[tuple[bytes, bytes | None], ...]

R = TypeVar("R", bound=Record)


class Draft:
    """A ledger's records with the changes of one block on top."""

    def __init__(self, trie: Trie, time_s: int) -> None:
        """Begin the block of mesh time `time_s`; never before the last block's (R-LED-18)."""
        self._before = trie
        self._trie = trie
        self._dirty: dict[bytes, Record | None] = {}
        self._touched: dict[bytes, None] = {}
        self._enrolled: dict[bytes, None] = {}
        self.enrolments = 0  # MEMBER ops of this block that were answered (R-LED-26)
        self.walks = 0  # links of this block that were checked (R-LED-48)
        parameters = self._parameters
        self.time_s = max(parameters.time_s, min(time_s, TIME_S_MAX))
        self.commons = parameters.commons
        self.commons_ppm = parameters.commons_ppm
        if self.time_s != parameters.time_s:
            self._put(PARAMETERS, replace(parameters, time_s=self.time_s))

    @property
    def _parameters(self) -> Parameters:
        parameters = self._get(PARAMETERS, Parameters)
        assert parameters is not None, "a ledger has parameters from its genesis on"
        return parameters

    # -- accounts -----------------------------------------------------------------------------

    def account(self, id: bytes) -> Account | None:
        """The account `id`, if there is one."""
        return self._get(ACCOUNTS + id, Account)

    def room(self, id: bytes) -> int:
        """How much may leave the account `id`, in micro-credits (R-LED-2)."""
        account = self.account(id)
        assert account is not None, "only accounts that were checked are asked for money"
        return account.room

    def slack(self, id: bytes) -> int:
        """By how much its balance is above its floor, in micro-credits."""
        account = self.account(id)
        assert account is not None, "only accounts that were checked are asked for credit"
        return account.balance - account.floor

    def credit(self, id: bytes) -> int:
        """How far below 0 the account `id` may fall without guarantees, in micro-credits."""
        account = self.account(id)
        assert account is not None, "only accounts that were checked are asked for credit"
        return -account.floor - account.backed

    def credit_left(self) -> int:
        """How much further all floors together may fall (R-LED-2)."""
        return AMOUNT_MAX - self._parameters.credit

    def move_floor(self, id: bytes, amount: int) -> None:
        """Let a floor rise by `amount`, or fall; above 0 or the balance is our own fault."""
        account = self.account(id)
        assert account is not None, "only floors of accounts that were checked move"
        floor = account.floor + amount
        assert floor <= min(0, account.balance), "R-LED-2: a floor above 0 or the balance"
        self._put(ACCOUNTS + id, replace(account, floor=floor))
        parameters = self._parameters
        self._put(PARAMETERS, replace(parameters, credit=parameters.credit - amount))

    def post(self, id: bytes, amount: int) -> None:
        """Add `amount` micro-credits, which may be negative; below the floor is our own fault."""
        account = self.account(id)
        assert account is not None, "postings go to accounts that were checked"
        balance = account.balance + amount
        after = replace(account, balance=balance)
        assert amount >= 0 or after.room >= 0, "R-LED-2, 36: below the floor, or what is locked"
        self._put(ACCOUNTS + id, after)

    def open_account(self, id: bytes, account: Account) -> None:
        """A new account."""
        assert self.account(id) is None, "an account is opened once"
        self._put(ACCOUNTS + id, account)

    # -- guarantees ---------------------------------------------------------------------------

    def guarantee(self, giver: bytes, taker: bytes) -> int:
        """With how much `giver` answers for `taker`, in micro-credits."""
        held = self._get(GUARANTEES + giver + taker, Backing)
        return 0 if held is None else held.amount

    def takers(self, giver: bytes) -> int:
        """For how many others `giver` answers."""
        return sum(1 for _ in self._table(GUARANTEES + giver, Backing))

    def move_guarantee(self, giver: bytes, taker: bytes, amount: int) -> None:
        """Lock `amount` of one for another's credit; below 0 gives it back."""
        left = self.guarantee(giver, taker) + amount
        here = self.account(giver)
        assert here is not None, "only accounts that were checked guarantee"
        self._put(GUARANTEES + giver + taker, Backing(left) if left else None)
        self._put(ACCOUNTS + giver, replace(here, locked=here.locked + amount))
        self.move_floor(taker, -amount)
        there = self.account(taker)
        assert there is not None, "its floor has just moved"
        self._put(ACCOUNTS + taker, replace(there, backed=there.backed + amount))

    # -- members ------------------------------------------------------------------------------

    @property
    def electorate(self) -> Electorate:
        """Who votes in the epoch of this block."""
        electorate = self._get(ELECTORATE, Electorate)
        assert electorate is not None, "a ledger has voters from its genesis on"
        return electorate

    @property
    def rules(self) -> Rules:
        """The rules that the mesh keeps (R-LED-31)."""
        return RULES[self.electorate.rules_version]

    def put_electorate(self, electorate: Electorate) -> None:
        """Begin the next epoch."""
        self._put(ELECTORATE, electorate)

    def owners(self) -> dict[bytes, Owner]:
        """Every owner of the mesh by id."""
        return dict(self._table(OWNERS, Owner))

    def member(self, device: bytes) -> Membership | None:
        """What a device is in the mesh, if it is a member."""
        return self._get(MEMBERS + device, Membership)

    def members(self) -> Iterator[tuple[bytes, Membership]]:
        """Every (device, membership), ascending by device."""
        return self._table(MEMBERS, Membership)

    def put_member(self, device: bytes, membership: Membership) -> None:
        """Set what a device is in the mesh."""
        self._enrolled[device] = None
        self._put(MEMBERS + device, membership)

    def voters(self) -> tuple[Elector, ...]:
        """Who would vote in the next epoch if the block ended here, in their order (R-LED-27)."""
        if not self._enrolled:
            return self.electorate.voters
        held = [elector.device for elector in self.electorate.voters]
        coming = sorted(self._enrolled.keys() - set(held))
        electors = []
        for device in (*held, *coming):
            member = self.member(device)
            assert member is not None, "voters are members"
            if member.weight:
                electors.append(Elector(device, member.certificate.vote_key, member.weight))
        return tuple(electors)

    # -- channels -----------------------------------------------------------------------------

    def channel(self, id: bytes) -> Channel | None:
        """The open channel `id`, if there is one."""
        return self._get(CHANNELS + id, Channel)

    def put_channel(self, id: bytes, channel: Channel) -> None:
        """Set a channel, its place in the order of settlement and its payer's count."""
        before = self.channel(id)
        if before is None:
            self._count_channel(channel.payer, 1)
        elif before.settles_s != channel.settles_s:
            self._put(due_key(id, before.settles_s), None)
        if before is None or before.settles_s != channel.settles_s:
            self._put(due_key(id, channel.settles_s), MARK)
        self._put(CHANNELS + id, channel)

    def drop_channel(self, id: bytes) -> None:
        """Remove a settled channel with everything that points to it."""
        channel = self.channel(id)
        assert channel is not None, "only an open channel is dropped"
        self._count_channel(channel.payer, -1)
        self._put(due_key(id, channel.settles_s), None)
        self._put(CHANNELS + id, None)

    def due_channels(self, count: int) -> list[bytes]:
        """At most `count` channels whose time has come, the longest due first."""
        return self._until(DUE, self.time_s, count)

    def _count_channel(self, payer: bytes, by: int) -> None:
        account = self.account(payer)
        assert account is not None, "a channel's payer has an account"
        self._put(ACCOUNTS + payer, replace(account, channels=account.channels + by))

    # -- op memory ----------------------------------------------------------------------------

    def receipt(self, op: bytes) -> Receipt | None:
        """The recorded answer to an op, if it is remembered."""
        return self._get(RECEIPTS + op, Receipt)

    def remembered(self, signer: bytes) -> int:
        """How many ops are remembered of those that count with a signer's (R-LED-49)."""
        return self._remembered(self._holder(signer))

    def remember(self, op: bytes, signer: bytes, valid_until_s: int, result: Result) -> None:
        """Record the answer to an op until its validity is over."""
        until_s, holder = min(valid_until_s, TIME_S_MAX), self._holder(signer)
        self._put(RECEIPTS + op, Receipt(result, holder, until_s))
        self._put(forget_key(op, until_s), MARK)
        self._put(QUOTAS + holder, Quota(self._remembered(holder) + 1))

    def forget(self, op: bytes) -> None:
        """Remove the answer to an op."""
        receipt = self.receipt(op)
        assert receipt is not None, "only a remembered op is forgotten"
        left = self._remembered(receipt.signer) - 1
        self._put(RECEIPTS + op, None)
        self._put(forget_key(op, receipt.valid_until_s), None)
        self._put(QUOTAS + receipt.signer, Quota(left) if left else None)

    def _holder(self, signer: bytes) -> bytes:
        account = self.account(signer)
        return self.rules.holder(signer, None if account is None else account.owner)

    def _remembered(self, holder: bytes) -> int:
        quota = self._get(QUOTAS + holder, Quota)
        return 0 if quota is None else quota.remembered

    def stale_ops(self, count: int) -> list[bytes]:
        """At most `count` ops whose validity is over, the oldest first."""
        return self._until(FORGET, self.time_s - 1, count)

    # -- the block ----------------------------------------------------------------------------

    def finish(self) -> tuple[Trie, Changes]:
        """The new records, and what to store, ascending by key; None deletes."""
        self._flush()
        changes = [
            (key, after)
            for key in sorted(self._touched)
            if (after := self._trie.get(key)) != self._before.get(key)
        ]
        return self._trie, tuple(changes)

    def _until(self, table: bytes, time_s: int, count: int) -> list[bytes]:
        """Subjects of at most `count` entries of an order up to `time_s`, earliest first."""
        self._flush()
        found: list[bytes] = []
        for key, _ in self._trie.items(table):
            if len(found) == count or time_of(key) > time_s:
                break
            found.append(subject_of(key))
        return found

    def _table(self, table: bytes, cls: type[R]) -> Iterator[tuple[bytes, R]]:
        self._flush()
        for key, value in self._trie.items(table):
            record = open_record(cls, value)
            assert record is not None
            yield key[1:], record

    def _flush(self) -> None:
        for key, record in self._dirty.items():
            self._touched[key] = None
            if record is None:
                self._trie = self._trie.delete(key)
            else:
                self._trie = self._trie.set(key, seal(record))
        self._dirty.clear()

    def _get(self, key: bytes, cls: type[R]) -> R | None:
        if key in self._dirty:
            record = self._dirty[key]
            assert record is None or isinstance(record, cls), "a key belongs to one table"
            return record
        return open_record(cls, self._trie.get(key))

    def _put(self, key: bytes, record: Record | None) -> None:
        self._dirty[key] = record
