"""An independent model of the ledger's rules, and the pair that compares both after every block.

The model is plain dictionaries and says only whether an op succeeds and where the money is: it
shares no code, no result codes and no data structures with the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from math import ceil, floor

from demesh.ledger.ledger import Ledger
from demesh.ledger.ops import SignedOp
from demesh.ledger.state import Result
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.identity import check_approval, check_certificate
from demesh.wire.keys import device_id
from demesh.wire.opbodies import (
    Allot,
    Call,
    CapLane,
    Claim,
    Close,
    Extend,
    Guarantee,
    OpenChannel,
    Release,
    SetMember,
    Settle,
    TopUp,
    Transfer,
)
from demesh.wire.readings import Cap, Voucher
from ledger.book import COMMONS, COMMONS_PPM, START_S, genesis_body, mesh, open_voucher

DAY_S = 24 * 60 * 60


@dataclass
class Tab:
    """A channel of the model: every valid voucher and cap ever shown for it, in lists."""

    terms: OpenChannel
    payer: bytes
    escrow: int
    expiry_s: int
    shown: list[tuple[int, int]] = field(default_factory=list)
    caps: list[tuple[int, int]] = field(default_factory=list)
    fixed: dict[int, int] = field(default_factory=dict)  # of each lane, what was settled
    given: dict[str, int] = field(default_factory=dict)  # by SETTLE, for what
    due_when_settled: int = 0
    ends_s: int = 0
    closing: bool = False

    def worth(self) -> dict[int, int]:
        """What each lane is good for."""
        found: dict[int, int] = {}
        for lane in sorted({lane for lane, _ in self.shown}):
            most = max(cum for one, cum in self.shown if one == lane)
            caps = [max(cap, fixed) for one, cap, fixed in self._caps() if one == lane]
            found[lane] = min([most, *caps])
        return found

    def _caps(self) -> list[tuple[int, int, int]]:
        return [(lane, cap, self.fixed.get(lane, 0)) for lane, cap in self.caps]

    def due(self) -> int:
        return min(self.escrow, sum(self.worth().values()))

    def live(self, who: bytes, time_s: int) -> bool:
        """May this be the payer, giving it more?"""
        return who == self.payer and not self.closing and time_s < self.expiry_s


@dataclass
class Card:
    """A member of the model."""

    certificate: DeviceCertificate
    weight: int
    serial: int
    renewed_s: int = 0  # by its own owner alone

    @property
    def renewable(self) -> tuple[object, ...]:
        """Everything that takes more than its own owner to change."""
        held = self.certificate
        return held.name, held.device_class, held.owner, held.device_key, self.weight


class Model:
    """The money and the members of a street, told as simply as possible."""

    def __init__(self, rules: int = 1) -> None:
        body = genesis_body(rules=rules)
        self.binding = mesh(rules)
        self.owners = {device_id(key): key for key in body.owners}
        self.owner_names = body.owner_names
        self.cards = {
            device_id(one.certificate.device_key): Card(one.certificate, one.weight, 0)
            for one in body.devices
        }
        self.voters = [
            (id, card.certificate.vote_key, card.weight)
            for id, card in self.cards.items()
            if card.weight
        ]
        self.epoch = 0
        self.closing = False
        self.enrolments = 0
        self.floors = {account.id: account.floor for account in body.accounts}
        self.owned = {account.id: account.owner for account in body.accounts}
        self.money = dict.fromkeys(self.floors, 0)
        self.pledges: dict[tuple[bytes, bytes], int] = {}
        self.tabs: dict[bytes, Tab] = {}
        self.answers: dict[bytes, tuple[bool, int]] = {}
        self.time_s = START_S

    def block(self, ops: list[SignedOp], time_s: int) -> list[bool]:
        """Whether each op succeeded."""
        self.time_s = time_s
        self.enrolments = 0
        said = [self._answer(op) for op in ops]
        for id in [id for id, tab in self.tabs.items() if tab.ends_s <= time_s]:
            self._pay_out(id)
        self.answers = {op: kept for op, kept in self.answers.items() if kept[1] >= time_s}
        self._count_voters()
        return said

    def _count_voters(self) -> None:
        voting = {
            id: (id, card.certificate.vote_key, card.weight)
            for id, card in self.cards.items()
            if card.weight
        }
        before = [id for id, _, _ in self.voters]
        order = [id for id in before if id in voting]
        order += sorted(id for id in voting if id not in before)
        voters = [voting[id] for id in order]
        self.closing = voters != self.voters
        self.epoch += self.closing
        self.voters = voters

    def _answer(self, op: SignedOp) -> bool:
        if op.id in self.answers:
            return self.answers[op.id][0]
        if not self.time_s <= op.valid_until_s <= self.time_s + DAY_S:
            return False
        if isinstance(op.body, SetMember) and op.signer in self.money:
            self.enrolments += 1
            if self.enrolments > 16:
                return False
        said = self._do(op)
        self.answers[op.id] = (said, op.valid_until_s)
        return said

    def _do(self, op: SignedOp) -> bool:
        match op.body:
            case Transfer(to, amount):
                return self._move(op.signer, to, amount)
            case OpenChannel():
                return self._open(op, op.body)
            case Claim(frame):
                opened = open_voucher(frame)
                return opened is not None and self._show(*opened, op.body) == "raised"
            case CapLane(frame):
                opened = open_voucher(frame)
                return opened is not None and self._cap(*opened)
            case TopUp(id, amount):
                tab = self.tabs.get(id)
                sound = tab is not None and tab.live(op.signer, self.time_s)
                if not sound or not self._can_spend(op.signer, amount):
                    return False
                self.money[op.signer] -= amount
                tab.escrow += amount
                return True
            case Extend(id, expiry_s):
                tab = self.tabs.get(id)
                if tab is None or not tab.live(op.signer, self.time_s):
                    return False
                if not tab.expiry_s < expiry_s <= self.time_s + 32 * DAY_S:
                    return False
                tab.ends_s += expiry_s - tab.expiry_s
                tab.expiry_s = expiry_s
                return True
            case Allot(to, amount):
                return self._allot(op.signer, to, amount)
            case Guarantee(taker, amount):
                return self._guarantee(op.signer, taker, amount)
            case Release(taker, amount):
                return self._release(op.signer, taker, amount, self.free(taker))
            case Call(taker, amount):
                return self._call(op.signer, taker, amount)
            case Settle():
                return self._settle(op.signer, op.body)
            case Close():
                return self._close(op.signer, op.body)
            case SetMember():
                return op.signer in self.money and self._enrol(op.body)

    def _can_spend(self, who: bytes, amount: int) -> bool:
        if who not in self.money or amount <= 0:
            return False
        pledged = self.pledged(who)
        return amount <= (self.money[who] - pledged if pledged else self.free(who))

    def pledged(self, giver: bytes) -> int:
        """What one answers for others with."""
        return sum(amount for (one, _), amount in self.pledges.items() if one == giver)

    def backed(self, taker: bytes) -> int:
        """What others answer for one with."""
        return sum(amount for (_, one), amount in self.pledges.items() if one == taker)

    def free(self, who: bytes) -> int:
        return self.money.get(who, 0) - self.floors.get(who, 0)

    def _guarantee(self, giver: bytes, taker: bytes, amount: int) -> bool:
        if giver not in self.money or taker not in self.money or taker == giver:
            return False
        takers = {one for (other, one), _ in self.pledges.items() if other == giver}
        if not 0 < amount <= self.money[giver] - self.pledged(giver) or len(takers | {taker}) > 16:
            return False
        if amount - sum(self.floors.values()) > 2**53 - 1:
            return False
        self.pledges[giver, taker] = self.pledges.get((giver, taker), 0) + amount
        self.floors[taker] -= amount
        return True

    def _release(self, giver: bytes, taker: bytes, amount: int, most: int) -> bool:
        left = self.pledges.get((giver, taker), 0) - amount
        if amount < 1 or left < 0 or amount > most:
            return False
        del self.pledges[giver, taker]
        if left:
            self.pledges[giver, taker] = left
        self.floors[taker] += amount
        return True

    def _call(self, giver: bytes, taker: bytes, amount: int) -> bool:
        owes = -self.money.get(taker, 0)
        if not self._release(giver, taker, amount, owes):
            return False
        self.money[giver] -= amount
        self.money[taker] += amount
        return True

    def _move(self, payer: bytes, payee: bytes, amount: int) -> bool:
        if payee == payer or payee not in self.money or not self._can_spend(payer, amount):
            return False
        self.money[payer] -= amount
        self.money[payee] += amount
        return True

    def _open(self, op: SignedOp, terms: OpenChannel) -> bool:
        shares = sum(split.ppm for split in terms.splits) + COMMONS_PPM
        sound = (
            terms.payee != op.signer
            and terms.payee in self.money
            and self._can_spend(op.signer, terms.escrow)
            and self.time_s < terms.expiry_s <= self.time_s + 32 * DAY_S
            and 3600 <= terms.window_s <= 7 * DAY_S
            and all(split.account in self.money and split.ppm > 0 for split in terms.splits)
            and len({split.account for split in terms.splits}) == len(terms.splits)
            and shares <= 1_000_000
            and op.id[:16] not in self.tabs
        )
        if sound:
            self.money[op.signer] -= terms.escrow
            tab = Tab(terms, op.signer, terms.escrow, terms.expiry_s)
            tab.ends_s = terms.expiry_s + terms.window_s
            self.tabs[op.id[:16]] = tab
        return sound

    def _allot(self, who: bytes, to: bytes, amount: int) -> bool:
        if who not in self.money or to == who or self.owned.get(to) != who or amount == 0:
            return False
        after = {who: self.floors[who] + amount, to: self.floors[to] - amount}
        if any(floor > min(-self.backed(id), self.money[id]) for id, floor in after.items()):
            return False
        self.floors.update(after)
        return True

    def _cap(self, payee: bytes, cap: object) -> bool:
        tab = self.tabs.get(cap.channel)
        if not isinstance(cap, Cap) or tab is None or tab.terms.payee != payee or cap.lane >= 64:
            return False
        fixed = tab.fixed.get(cap.lane, 0)
        known = [max(one, fixed) for lane, one in tab.caps if lane == cap.lane]
        if known and min(known) <= max(cap.cap, fixed):
            return False
        tab.caps.append((cap.lane, cap.cap))
        return True

    def _settle(self, who: bytes, body: Settle) -> bool:
        tab = self.tabs.get(body.channel)
        if tab is None or who != tab.terms.payee:
            return False
        if body.voucher:
            opened = open_voucher(body.voucher)
            before = list(tab.shown)
            if opened is None or opened[1].channel != body.channel:
                return False
            if self._show(*opened, body) == "wrong":
                return False
        elif body.count or body.link:
            return False
        had, worth = tab.due_when_settled, tab.worth()
        if tab.due() == had:
            if body.voucher:
                tab.shown = before
            return False
        tab.fixed, tab.due_when_settled = worth, tab.due()
        parts = self._parts(tab, tab.due())
        rest = 1_000_000 - COMMONS_PPM - sum(split.ppm for split in tab.terms.splits)
        parts.append((tab.terms.payee, ceil(Fraction(tab.due() * rest, 1_000_000)), "payee"))
        self._give(tab, parts)
        return True

    def _parts(self, tab: Tab, paid: int) -> list[tuple[bytes, int, str]]:
        parts = [(COMMONS, COMMONS_PPM, "fee")]
        parts += [(s.account, s.ppm, f"split {s.account.hex()}") for s in tab.terms.splits]
        return [(who, floor(Fraction(paid * ppm, 1_000_000)), what) for who, ppm, what in parts]

    def _give(self, tab: Tab, parts: list[tuple[bytes, int, str]]) -> None:
        """Everybody gets what is missing to its part."""
        for who, part, what in parts:
            more = part - tab.given.get(what, 0)
            assert more >= 0, "somebody would have to give money back"
            self.money[who] += more
            tab.given[what] = part

    def _show(self, payer: bytes, voucher: object, shown: Claim | Close | Settle) -> str:
        tab = self.tabs.get(voucher.channel)
        if (
            not isinstance(voucher, Voucher)
            or tab is None
            or tab.payer != payer
            or voucher.lane >= 64
        ):
            return "wrong"
        if voucher.root:
            whole = len(voucher.root) == 16 and min(voucher.step, voucher.count_max) > 0
            if not whole or voucher.cum + voucher.step * voucher.count_max >= 2**53:
                return "wrong"
        elif voucher.step or voucher.count_max:
            return "wrong"
        total = voucher.cum
        if shown.count or shown.link:
            walked, place = shown.link, b"tk1" + voucher.channel + bytes([voucher.lane])
            if not 0 < shown.count <= voucher.count_max or len(walked) != 16:
                return "wrong"
            for _ in range(shown.count):
                walked = blake2b(place + walked, digest_size=16).digest()
            if walked != voucher.root:
                return "wrong"
            total += shown.count * voucher.step
        known = [cum for lane, cum in tab.shown if lane == voucher.lane]
        tab.shown.append((voucher.lane, total))
        return "raised" if total > max(known, default=0) else "known"

    def _close(self, who: bytes, body: Close) -> bool:
        tab = self.tabs.get(body.channel)
        if tab is None or who not in (tab.payer, tab.terms.payee):
            return False
        if who == tab.payer and (tab.closing or self.time_s >= tab.expiry_s):
            return False
        if body.voucher:
            opened = open_voucher(body.voucher)
            if opened is None or opened[1].channel != body.channel:
                return False
            if self._show(*opened, body) == "wrong":
                return False
        elif body.count or body.link:
            return False
        if who == tab.payer:
            tab.closing, tab.ends_s = True, self.time_s + tab.terms.window_s
        else:
            self._pay_out(body.channel)
        return True

    def _enrol(self, body: SetMember) -> bool:
        held = body.certificate
        id = device_id(held.device_key)
        before = self.cards.get(id)
        after = Card(held, body.weight, body.serial)
        others = [card for other, card in self.cards.items() if other != id]
        taken = [*self.owners.values(), *(c.certificate.device_key for c in others)]
        taken += [c.certificate.vote_key for c in others]
        called = [c.certificate.name for c in others]
        if before is None or before.certificate.name != held.name:
            called += self.owner_names
        weights = [c.weight for c in [*others, after] if c.weight]
        approvers = [approval.owner for approval in body.approvals]
        sound = (
            body.serial == (before.serial + 1 if before else 1)
            and held.owner in self.owners
            and (before is None or before.certificate.owner == held.owner)
            and held.device_key not in taken
            and held.vote_key not in taken
            and held.name not in called
            and 1 <= len(weights) <= 128
            and sum(weights) <= 2**32 - 1
            and len(others) < 1024
            and check_certificate(held, self.owners[held.owner])
            and len(set(approvers)) == len(approvers)
            and all(
                approval.owner in self.owners
                and check_approval(
                    approval,
                    self.owners[approval.owner],
                    self.binding,
                    held,
                    body.weight,
                    body.serial,
                )
                for approval in body.approvals
            )
        )
        if not sound:
            return False
        renewal = before is not None and before.renewable == after.renewable
        if renewal and before.certificate.vote_key == held.vote_key:
            return False
        if before is not None:
            after.renewed_s = before.renewed_s
        if 2 * len(approvers) <= len(self.owners):
            if not (renewal and held.owner in approvers):
                return False
            if before is not None and self.time_s < before.renewed_s + 86_400:
                return False
            after.renewed_s = self.time_s
        self.cards[id] = after
        self.floors.setdefault(id, 0)
        self.owned.setdefault(id, held.owner)
        self.money.setdefault(id, 0)
        return True

    def _pay_out(self, id: bytes) -> None:
        tab = self.tabs.pop(id)
        paid = tab.due()
        parts = self._parts(tab, paid)
        rest = paid - sum(part for _, part, _ in parts)
        self._give(tab, [*parts, (tab.terms.payee, rest, "payee")])
        self.money[tab.payer] += tab.escrow - paid


class Pair:
    """A ledger and its model, led through the same blocks; every disagreement is an assertion."""

    def __init__(self, rules: int = 1) -> None:
        self.model = Model(rules)
        self.ledger = Ledger.genesis(genesis_body(rules=rules))
        self.stored = dict(self.ledger.records())
        self.time_s = START_S

    def block(self, ops: list[SignedOp], after_s: int) -> tuple[Result, ...]:
        """One block on both; then everything that must hold, is checked."""
        self.time_s += after_s
        before = self.ledger.root
        applied = self.ledger.apply(ops, self.time_s, open_voucher)
        assert self.ledger.root == before, "apply changed the ledger it was called on"
        said = self.model.block(ops, self.time_s)
        self.ledger = applied.ledger
        for key, value in applied.changes:
            if value is None:
                del self.stored[key]
            else:
                self.stored[key] = value
        assert [result is Result.OK for result in applied.results] == said
        assert applied.closing == self.model.closing
        self.check()
        return applied.results

    def check(self) -> None:
        """Money, channels, memory and storage agree; the invariants hold."""
        ledger, model = self.ledger, self.model
        accounts = dict(ledger.accounts())
        channels = dict(ledger.channels())
        assert {id: account.balance for id, account in accounts.items()} == model.money
        assert {id: account.floor for id, account in accounts.items()} == model.floors
        for id, account in accounts.items():
            assert (account.locked, account.backed) == (model.pledged(id), model.backed(id))
            assert not account.locked or account.balance >= account.locked, "locked money is spent"
        if ledger.electorate.rules_version >= 3:
            assert ledger.credit == -sum(model.floors.values())
        assert {id: channel.claimed for id, channel in channels.items()} == {
            id: tab.due() for id, tab in model.tabs.items()
        }
        assert {
            id: (member.certificate, member.weight, member.serial, member.renewed_s)
            for id, member in ledger.members()
        } == {
            id: (card.certificate, card.weight, card.serial, card.renewed_s)
            for id, card in model.cards.items()
        }
        electorate = ledger.electorate
        assert [(one.device, one.vote_key, one.weight) for one in electorate.voters] == model.voters
        assert electorate.epoch == model.epoch
        assert ledger.total() == 0
        assert all(account.balance >= account.floor for account in accounts.values())
        for channel in channels.values():
            assert self.time_s < channel.expiry_s + channel.window_s, "a channel outlived its end"
        for id, account in accounts.items():
            assert account.channels == [c.payer for c in channels.values()].count(id)
        remembered = {key[1:] for key in self.stored if key[:1] == b"o"}
        assert remembered == set(model.answers)
        assert dict(ledger.records()) == self.stored, "changes do not lead to the records"
        restored = Ledger.restore(sorted(self.stored.items(), reverse=True))
        assert restored.root == ledger.root, "a restart changes the root"
        assert ledger.settlement_s() == min((t.ends_s for t in model.tabs.values()), default=None)
        ends = [t.ends_s for t in model.tabs.values()]
        ends += [until_s + 1 for _, until_s in model.answers.values()]
        assert ledger.deadline_s() == min(ends, default=None)
