"""Any sequence of ops and blocks: the ledger and an independent model tell the same story."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from demesh.ledger.ledger import Ledger
from demesh.ledger.ops import SignedOp
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.identity import device_id
from demesh.wire.offers import Split
from demesh.wire.opbodies import SetMember
from ledger.book import (
    ANN,
    BEN,
    CEM,
    COMMONS,
    DAY_S,
    DORA,
    FOUNDING,
    HOUR_S,
    IDS,
    OWNERS,
    STRANGER,
    allotting,
    calling,
    cap_frame,
    capping,
    certificate,
    chain,
    chained_frame,
    claiming,
    closing,
    enrolling,
    extending,
    guaranteeing,
    mesh,
    open_voucher,
    opening,
    public,
    releasing,
    settling,
    topping_up,
    transfer,
    voucher_frame,
)
from ledger.model import Pair

people = st.sampled_from([ANN, BEN, CEM, DORA, COMMONS])
anyone = people | st.just(STRANGER)
amounts = st.sampled_from([0, 1, 3, 999, 50_000, 1_000_000, 1_000_001, 2**53 - 1])
lives_s = st.sampled_from([-1, 0, 1, 60, HOUR_S, DAY_S, DAY_S + 1])
steps_s = st.sampled_from([0, 1, 60, HOUR_S - 1, HOUR_S, DAY_S, 8 * DAY_S, 40 * DAY_S])
expiries_s = st.sampled_from([0, 1, HOUR_S, DAY_S, 32 * DAY_S, 33 * DAY_S])
windows_s = st.sampled_from([HOUR_S - 1, HOUR_S, DAY_S, 8 * DAY_S])
split_lists = st.lists(
    st.builds(Split, anyone, st.sampled_from([0, 1, 333_333, 500_000, 990_000])), max_size=4
).map(tuple)
lanes = st.sampled_from([0, 1, 63, 64])
owner_of = {name: owner for name, owner, _ in FOUNDING} | {"barn": "cem", "silo": "ben"}
devices = st.sampled_from(sorted(owner_of))
weights = st.sampled_from([0, 0, 1, 2, 3, 2**31, 2**32 - 1])
approver_lists = st.permutations(OWNERS).flatmap(
    lambda order: st.sampled_from([order[:1], order[:2], order, [*order, "dora"], order[:1] * 3])
)


class Meeting(RuleBasedStateMachine):
    """Owners and others ask for memberships, in any order; blocks happen."""

    version = 1

    @initialize()
    def begin(self) -> None:
        self.pair = Pair(self.version)
        self.pending: list[SignedOp] = []
        self.past: list[SignedOp] = []
        self.channels: list[tuple[bytes, bytes, bytes]] = []
        self.nonce = 0

    def ask(self, make: object, *parts: object, life_s: int, **options: object) -> SignedOp:
        self.nonce += 1
        until_s = self.pair.time_s + life_s
        op = make(*parts, nonce=self.nonce, valid_until_s=until_s, **options)
        self.pending.append(op)
        return op

    def enrol(self, held: DeviceCertificate, off: int, **options: object) -> None:
        """Ask for a membership, as if everything that is pending for the device will be done."""
        card = self.pair.model.cards.get(device_id(held.device_key))
        bodies = [op.body for op in self.pending if isinstance(op.body, SetMember)]
        pending = [body.certificate.device_key for body in bodies].count(held.device_key)
        serial = max(0, (card.serial if card else 0) + pending + 1 + off)
        self.ask(
            enrolling, held, serial=serial, life_s=DAY_S, binding=mesh(self.version), **options
        )

    @rule(
        name=devices,
        owner=st.sampled_from([*OWNERS, "dora"]),
        called=st.sampled_from(["", "", "ann", "roof", "ridge"]),
        vote=st.sampled_from(["", "", "roof", "cellar votes", "x", "y"]),
        weight=weights,
        approvers=approver_lists,
        submitter=anyone,
        off=st.sampled_from([0, 0, 1, -1]),
    )
    def any_member(self, name, owner, called, vote, weight, approvers, submitter, off) -> None:
        held = certificate(name, owner, vote="" if vote == name else vote, name=called)
        options = {"weight": weight, "approvers": tuple(approvers), "submitter": submitter}
        self.enrol(held, off, **options)

    @rule(name=devices, weight=st.integers(0, 3), vote=st.sampled_from(["", "1", "2"]))
    def sound_member(self, name: str, weight: int, vote: str) -> None:
        held = certificate(name, owner_of[name], vote=vote and f"{name} {vote}")
        self.enrol(held, 0, weight=weight)

    @rule(data=st.data(), vote=st.sampled_from(["1", "2", "3"]), by=st.sampled_from(OWNERS))
    def lost_journal(self, data: st.DataObject, vote: str, by: str) -> None:
        cards = self.pair.model.cards
        id = data.draw(st.sampled_from(sorted(cards)))
        held = cards[id].certificate
        name = next(name for name in owner_of if device_id(public(name)) == id)
        renewed = certificate(name, owner_of[name], vote=f"{name} {vote}", name=held.name)
        approvers = data.draw(st.sampled_from([(owner_of[name],), (by,)]))
        self.enrol(renewed, 0, weight=cards[id].weight, approvers=approvers)

    @rule(data=st.data())
    def say_again(self, data: st.DataObject) -> None:
        if self.past:
            self.pending.append(data.draw(st.sampled_from(self.past)))

    @rule()
    def say_twice_at_once(self) -> None:
        self.pending += self.pending[-1:]

    @rule(after_s=steps_s)
    def block(self, after_s: int) -> None:
        self.pair.block(self.pending, after_s)
        self.past += self.pending
        self.pending = []

    @rule(after_s=steps_s)
    def fork(self, after_s: int) -> None:
        """What a sibling block does, stays in the sibling; both ways to it give one root."""
        ledger, time_s = self.pair.ledger, self.pair.time_s + after_s
        root = ledger.root
        one = ledger.apply(self.pending, time_s, open_voucher)
        again = Ledger.restore(ledger.records()).apply(self.pending, time_s, open_voucher)
        assert again.ledger.root == one.ledger.root
        assert replace(again, ledger=one.ledger) == one
        assert ledger.root == root
        self.pair.check()


class Street(Meeting):
    """People ask for everything else, too."""

    @rule(payer=anyone, payee=anyone, amount=amounts, life_s=lives_s)
    def transfer(self, payer: bytes, payee: bytes, amount: int, life_s: int) -> None:
        self.ask(transfer, payer, payee, amount, life_s=life_s)

    @rule(payer=people, payee=people, amount=st.integers(1, 2_000))
    def small_transfer(self, payer: bytes, payee: bytes, amount: int) -> None:
        self.ask(transfer, payer, payee, amount, life_s=DAY_S)

    @rule(
        payer=anyone,
        payee=anyone,
        escrow=amounts,
        expiry_s=expiries_s,
        window_s=windows_s,
        splits=split_lists,
        life_s=lives_s,
    )
    def open(self, payer, payee, escrow, expiry_s, window_s, splits, life_s) -> None:
        terms = {"expiry_s": self.pair.time_s + expiry_s, "window_s": window_s, "splits": splits}
        op = self.ask(opening, payer, payee, escrow, life_s=life_s, **terms)
        self.channels.append((op.id[:16], payer, payee))

    @rule(
        parties=st.permutations([ANN, BEN, CEM, DORA]),
        escrow=st.integers(1, 100_000),
        hours=st.integers(1, 48),
        ppm=st.integers(1, 990_000),
    )
    def sound_open(self, parties: list[bytes], escrow: int, hours: int, ppm: int) -> None:
        payer, payee, third, _ = parties
        terms = {"expiry_s": self.pair.time_s + hours * HOUR_S, "splits": (Split(third, ppm),)}
        op = self.ask(opening, payer, payee, escrow, life_s=HOUR_S, **terms)
        self.channels.append((op.id[:16], payer, payee))

    def frame(self, data: st.DataObject) -> tuple[bytes, bytes, bytes, bytes]:
        """A voucher for some channel, mostly signed by its payer, and the channel's parties."""
        id, payer, payee = data.draw(st.sampled_from(self.channels))
        signer = payer if data.draw(st.integers(0, 9)) and payer != STRANGER else BEN
        cum = data.draw(st.integers(0, 2_000) | amounts)
        return voucher_frame(signer, id, cum, data.draw(lanes)), id, payer, payee

    @rule(data=st.data(), submitter=anyone, life_s=lives_s)
    def claim(self, data: st.DataObject, submitter: bytes, life_s: int) -> None:
        if self.channels:
            self.ask(claiming, submitter, self.frame(data)[0], life_s=life_s)

    @rule(data=st.data(), with_voucher=st.booleans())
    def close(self, data: st.DataObject, with_voucher: bool) -> None:
        if self.channels:
            frame, id, payer, payee = self.frame(data)
            who = data.draw(st.sampled_from([payer, payee, CEM]))
            self.ask(closing, who, id, frame if with_voucher else b"", life_s=HOUR_S)


class Later(Street):
    """And for what came with rules 3."""

    version = 3

    def party(self, data: st.DataObject, wanted: int) -> tuple[bytes, bytes]:
        """A channel, and mostly the party (1: payer, 2: payee) that may do it."""
        channel = data.draw(st.sampled_from(self.channels))
        return channel[0], channel[wanted] if data.draw(st.integers(0, 5)) else BEN

    @rule(owner=anyone, name=devices, amount=amounts, sign=st.sampled_from([1, 1, -1]))
    def allot(self, owner: bytes, name: str, amount: int, sign: int) -> None:
        self.ask(allotting, owner, device_id(public(name)), sign * amount, life_s=HOUR_S)

    @rule(name=devices, amount=st.integers(-3_000, 3_000))
    def sound_allot(self, name: str, amount: int) -> None:
        owner = IDS[owner_of[name]]
        self.ask(allotting, owner, device_id(public(name)), amount, life_s=DAY_S)

    @rule(name=devices, payee=people, amount=st.integers(1, 2_000))
    def spend_what_was_allotted(self, name: str, payee: bytes, amount: int) -> None:
        self.ask(transfer, device_id(public(name)), payee, amount, life_s=DAY_S)

    @rule(
        how=st.sampled_from([guaranteeing, releasing, calling]),
        giver=anyone,
        taker=anyone,
        amount=st.integers(0, 2_000) | amounts,
    )
    def guarantee(self, how, giver: bytes, taker: bytes, amount: int) -> None:
        self.ask(how, giver, taker, amount, life_s=HOUR_S)

    @rule(
        parties=st.permutations([ANN, BEN, CEM]),
        amount=st.integers(1, 2_000),
        how=st.sampled_from([releasing, calling]),
    )
    def sound_guarantee(self, parties: list[bytes], amount: int, how) -> None:
        """Somebody gets money, guarantees with it, and wants some of it back."""
        giver, taker, third = parties
        self.ask(transfer, third, giver, amount, life_s=DAY_S)
        self.ask(guaranteeing, giver, taker, amount, life_s=DAY_S)
        self.ask(how, giver, taker, amount // 2 + 1, life_s=DAY_S)

    @rule(data=st.data(), amount=amounts)
    def top_up(self, data: st.DataObject, amount: int) -> None:
        if self.channels:
            id, signer = self.party(data, 1)
            self.ask(topping_up, signer, id, amount, life_s=HOUR_S)

    @rule(data=st.data(), after_s=expiries_s)
    def extend(self, data: st.DataObject, after_s: int) -> None:
        if self.channels:
            id, signer = self.party(data, 1)
            self.ask(extending, signer, id, self.pair.time_s + after_s, life_s=HOUR_S)

    @rule(data=st.data(), cap=st.integers(0, 2_000) | amounts, lane=lanes, submitter=anyone)
    def cap(self, data: st.DataObject, cap: int, lane: int, submitter: bytes) -> None:
        if self.channels:
            id, signer = self.party(data, 2)
            signer = BEN if signer == STRANGER else signer
            self.ask(capping, submitter, cap_frame(signer, id, cap, lane), life_s=HOUR_S)

    @rule(data=st.data(), with_voucher=st.booleans())
    def settle(self, data: st.DataObject, with_voucher: bool) -> None:
        if self.channels:
            frame, id, _, payee = self.frame(data)
            who = payee if data.draw(st.integers(0, 5)) else CEM
            self.ask(settling, who, id, frame if with_voucher else b"", life_s=HOUR_S)

    @rule(
        data=st.data(),
        how=st.sampled_from([claiming, closing, settling]),
        step=st.integers(1, 500) | amounts,
        claimed=st.integers(0, 5),
        shown=st.integers(0, 5),
        lane=st.integers(0, 1),
        elsewhere=st.integers(0, 5),
    )
    def link(self, data, how, step, claimed, shown, lane, elsewhere) -> None:
        """A voucher with a chain of 4, and a link: mostly one of it, or of another lane's."""
        if self.channels:
            frame, id, payer, payee = self.frame(data)
            signer = payer if payer != STRANGER else BEN
            own = chain(id, 4, lane)
            frame = chained_frame(signer, id, data.draw(st.integers(0, 500)), step, own, lane)
            links = own if elsewhere else chain(id, 4, 1 - lane)
            link = (*links, b"")[shown] if data.draw(st.booleans()) else (*links, b"")[claimed]
            where = () if how is claiming else (id,)
            self.ask(how, payee, *where, frame, claimed, link, life_s=HOUR_S)


TestMeeting = Meeting.TestCase
TestMeeting.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestStreet = Street.TestCase
TestStreet.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLater = Later.TestCase
TestLater.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
