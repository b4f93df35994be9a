"""The ledger: a value that finalized blocks turn into the next value, the same on every device.

R-LED-18  A block is applied in this order: mesh time (never back), its ops as listed, the channels
          whose time has come, ops to forget, the epoch. So a claim in the block that settles a
          channel counts.
R-LED-19  A block settles at most SETTLED_MAX channels and forgets at most FORGOTTEN_MAX ops, the
          longest due first; the rest stays due and is the next block's.
R-LED-20  Genesis: every account starts with balance 0. Account ids are distinct, floors are within
          R-LED-2, the commons has an account, commons_ppm <= COMMONS_PPM_MAX, and rules_version is
          one of RULES_VERSIONS. Its devices are members of serial 0; those with a weight are the
          voters of epoch 0, in its order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from demesh.ledger.channels import OpenVoucher
from demesh.ledger.draft import Changes, Draft
from demesh.ledger.events import Event
from demesh.ledger.membership import close_epoch
from demesh.ledger.ops import REMEMBERED_MAX, VALIDITY_S_MAX, SignedOp, execute
from demesh.ledger.payout import held, settle_due
from demesh.ledger.proof import Path
from demesh.ledger.rules import RULES, RULES_VERSIONS
from demesh.ledger.state import (
    ACCOUNTS,
    AMOUNT_MAX,
    CHANNELS,
    DUE,
    ELECTORATE,
    FORGET,
    KEY_BYTES,
    MEMBERS,
    OWNERS,
    PARAMETERS,
    QUOTAS,
    RECEIPTS,
    Account,
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
    open_record,
    seal,
    time_of,
)
from demesh.ledger.trie import Trie
from demesh.wire.identity import device_id, mesh_id
from demesh.wire.messages import GenesisBody

# As many channels as a block of 64 KiB can open, so settling keeps up with opening.
SETTLED_MAX = 256

# More ops than a block of 64 KiB can hold, so forgetting outruns remembering.
FORGOTTEN_MAX = 512

# 2 %: a commons that takes more is a tax nobody voted for; by vote it may be lowered to 0.
COMMONS_PPM_MAX = 20_000

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a block did: the next ledger, a result per op, records to store, facts to tell.

    `closing`: the voters changed, so this block is the last of its epoch that may have ops.
    """

    ledger: Ledger
    results: tuple[Result, ...]
    changes: Changes
    events: tuple[Event, ...]
    closing: bool


class Ledger:
    """An immutable state of money and members; one per unfinalized block, for they share."""

    __slots__ = ("_trie",)

    def __init__(self, trie: Trie) -> None:
        self._trie = trie

    @classmethod
    def genesis(cls, body: GenesisBody) -> Ledger:
        """The ledger at height 0 (R-LED-20) of a body that keeps R-ID-1 to R-ID-6.

        ValueError says what is wrong with it.
        """
        if body.rules_version not in RULES_VERSIONS:
            first, last = RULES_VERSIONS[0], RULES_VERSIONS[-1]
            raise ValueError(
                f"genesis: expected rules_version {first} to {last}, got {body.rules_version}; "
                "install the Demesh that this mesh was founded with, or found the mesh anew"
            )
        ids = [account.id for account in body.accounts]
        if len(set(ids)) != len(ids):
            raise ValueError("genesis: two accounts have the same id")
        if body.commons not in ids:
            raise ValueError("genesis: commons is not one of the accounts")
        if not 0 <= body.commons_ppm <= COMMONS_PPM_MAX:
            raise ValueError(
                f"genesis: commons_ppm = {body.commons_ppm} is outside 0 .. {COMMONS_PPM_MAX}"
            )
        for account in body.accounts:
            if account.floor > 0:
                raise ValueError(
                    f"genesis: account {account.id.hex()} has floor {account.floor}; "
                    "a floor is 0 or negative"
                )
        if sum(account.floor for account in body.accounts) < -AMOUNT_MAX:
            raise ValueError("genesis: the floors together are below -(2^53 - 1) micro-credits")
        grown = RULES[body.rules_version].grown
        credit = -sum(account.floor for account in body.accounts) if grown else 0
        parameters = Parameters(body.time_s, body.commons, body.commons_ppm, credit)
        trie = Trie().set(PARAMETERS, seal(parameters))
        for account in body.accounts:
            record = Account(account.owner, account.kind, 0, account.floor)
            trie = trie.set(ACCOUNTS + account.id, seal(record))
        return cls(trie.updated(_founding_members(body)))

    @classmethod
    def restore(cls, records: Iterable[tuple[bytes, bytes]]) -> Ledger:
        """The ledger with these stored records, in any order; ValueError if they cannot be one.

        Whether it is the right one, only its root against a finalized block can say.
        """
        trie = Trie()
        for key, value in records:
            if len(key) != KEY_BYTES.get(key[:1]):
                raise ValueError(f"not a key of the ledger: {key.hex()}")
            trie = trie.set(key, value)
        for key, what in ((PARAMETERS, "parameters"), (ELECTORATE, "voters")):
            if trie.get(key) is None:
                raise ValueError(f"the ledger's records are incomplete: no {what}")
        return cls(trie)

    @property
    def root(self) -> bytes:
        """The 32-byte state root (R-LED-1)."""
        return self._trie.root

    @property
    def time_s(self) -> int:
        """Mesh time of the last block, in seconds."""
        return self._parameters.time_s

    def records(self) -> tuple[tuple[bytes, bytes], ...]:
        """Every (key, record), ascending; `restore` makes an equal ledger of them."""
        return tuple(self._trie.items())

    def prove(self, key: bytes) -> tuple[bytes, Path] | None:
        """The record under `key` and the path that shows it to who knows the root (R-LED-29)."""
        record, path = self._trie.get(key), self._trie.prove(key)
        return None if record is None or path is None else (record, path)

    def apply(self, ops: Sequence[SignedOp], time_s: int, open_voucher: OpenVoucher) -> Applied:
        """The block of mesh time `time_s` with these ops (R-LED-18); this ledger stays as it is."""
        draft = Draft(self._trie, time_s)
        results: list[Result] = []
        events: list[Event] = []
        for op in ops:
            result, happened = execute(draft, op, open_voucher)
            results.append(result)
            events.extend(happened)
        events.extend(settle_due(draft, SETTLED_MAX))
        for id in draft.stale_ops(FORGOTTEN_MAX):
            draft.forget(id)
        closing = close_epoch(draft)
        trie, changes = draft.finish()
        return Applied(Ledger(trie), tuple(results), changes, tuple(events), closing)

    def includable(self, op: SignedOp, time_s: int) -> bool:
        """Whether a block of mesh time `time_s` would record an answer to this op (R-LED-5 - 7)."""
        ahead_s = op.valid_until_s - max(time_s, self.time_s)
        if not 0 <= ahead_s <= VALIDITY_S_MAX or self.result(op.id) is not None:
            return False
        account, rules = self.account(op.signer), RULES[self.electorate.rules_version]
        holder = rules.holder(op.signer, None if account is None else account.owner)
        quota = self._get(QUOTAS + holder, Quota)
        return quota is None or quota.remembered < REMEMBERED_MAX

    def account(self, id: bytes) -> Account | None:
        """The account `id`, if there is one."""
        return self._get(ACCOUNTS + id, Account)

    def signs(self, id: bytes) -> bool:
        """Is this an account of which the ledger knows a key (R-LED-30)?"""
        known = self._trie.get(MEMBERS + id) or self._trie.get(OWNERS + id)
        return known is not None and self.account(id) is not None

    def channel(self, id: bytes) -> Channel | None:
        """The open channel `id`; None if it was settled or never opened."""
        return self._get(CHANNELS + id, Channel)

    def accounts(self) -> tuple[tuple[bytes, Account], ...]:
        """Every (id, account), ascending by id."""
        return self._table(ACCOUNTS, Account)

    def channels(self) -> tuple[tuple[bytes, Channel], ...]:
        """Every (id, open channel), ascending by id."""
        return self._table(CHANNELS, Channel)

    @property
    def electorate(self) -> Electorate:
        """Who votes in the epoch of the next block; `epoch` rises with every closing block."""
        electorate = self._get(ELECTORATE, Electorate)
        assert electorate is not None, "a ledger has voters from its genesis on"
        return electorate

    def member(self, device: bytes) -> Membership | None:
        """What a device is in the mesh; None if it is no member."""
        return self._get(MEMBERS + device, Membership)

    def members(self) -> tuple[tuple[bytes, Membership], ...]:
        """Every (device, membership), ascending by device."""
        return self._table(MEMBERS, Membership)

    def owners(self) -> tuple[tuple[bytes, Owner], ...]:
        """Every (id, owner), ascending by id."""
        return self._table(OWNERS, Owner)

    def result(self, op: bytes) -> Result | None:
        """The recorded answer to an op; None if it was never included, or is forgotten."""
        receipt = self._get(RECEIPTS + op, Receipt)
        return None if receipt is None else receipt.result

    def deadline_s(self) -> int | None:
        """Mesh time at which there is next a channel to settle or an op to forget, or None."""
        settles_s = self.settlement_s()
        first = next(self._trie.items(FORGET), None)
        if first is None:
            return settles_s
        forgets_s = time_of(first[0]) + 1
        return forgets_s if settles_s is None else min(settles_s, forgets_s)

    def settlement_s(self) -> int | None:
        """Mesh time at which the next channel settles by itself; None without open channels."""
        first = next(self._trie.items(DUE), None)
        return None if first is None else time_of(first[0])

    @property
    def credit(self) -> int:
        """How far all floors together are below 0, from rules 3 on (R-LED-2)."""
        return self._parameters.credit

    def total(self) -> int:
        """The sum of all balances and what escrows hold, counted anew: always 0 (R-LED-3)."""
        balances = sum(account.balance for _, account in self.accounts())
        return balances + sum(held(channel) for _, channel in self.channels())

    @property
    def _parameters(self) -> Parameters:
        parameters = self._get(PARAMETERS, Parameters)
        assert parameters is not None, "a ledger has parameters from its genesis on"
        return parameters

    def _get(self, key: bytes, cls: type[R]) -> R | None:
        return open_record(cls, self._trie.get(key))

    def _table(self, table: bytes, cls: type[R]) -> tuple[tuple[bytes, R], ...]:
        rows = []
        for key, value in self._trie.items(table):
            record = open_record(cls, value)
            assert record is not None
            rows.append((key[1:], record))
        return tuple(rows)


def _founding_members(body: GenesisBody) -> Iterator[tuple[bytes, bytes]]:
    """Owners, members and the voters of epoch 0, as (key, record) (R-LED-20)."""
    for key, name in zip(body.owners, body.owner_names, strict=True):
        yield OWNERS + device_id(key), seal(Owner(key, name))
    voters = []
    for device in body.devices:
        id = device_id(device.certificate.device_key)
        yield MEMBERS + id, seal(Membership(device.certificate, device.weight, 0))
        if device.weight:
            voters.append(Elector(id, device.certificate.vote_key, device.weight))
    mesh, rules = mesh_id(body), body.rules_version
    electorate = Electorate(mesh, body.generation, 0, rules, tuple(voters))
    yield ELECTORATE, seal(electorate)
