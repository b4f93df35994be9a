"""What a unit costs both sides when a quantum has 1, 16 or 256 of them, signatures included."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from nacl.signing import SigningKey

from benchmarks.plan import Plan
from benchmarks.row import Row, Skipped
from benchmarks.timing import per_item_ns
from benchmarks.validate import BINDING, KEY, KID
from demesh.ports import SECOND, Actuate, Measurement
from demesh.wire.identity import device_id
from demesh.wire.intents import Act, Send
from demesh.wire.kinds import Kind, Reject
from demesh.wire.readings import Reading, Voucher
from demesh.wire.schema import decode
from demesh.wire.signer import Signer
from demesh.wire.validate import Validator
from metering.world import PAYER, PROVIDER, World, agreement, offer, run_fair

GROUP = "metering"

QUANTA = (1, 16, 256)
TRUST = 10**9
UNITS_MAX = 10**6

# What the field signs a promise with: typed data of EIP-712, hashed with Keccak-256, secp256k1.
DOMAIN = {"name": "Channel", "version": "1", "chainId": 1}
TYPES = {"Voucher": [{"name": n, "type": t} for n, t in
                     (("channel", "bytes32"), ("lane", "uint8"), ("cum", "uint64"))]}  # fmt: skip


def rows(plan: Plan) -> Iterator[Row | Skipped]:
    """A unit at each quantum; then the voucher beside the one of Ethereum's wallets."""
    for units in QUANTA:
        yield _unit(plan, units)
    yield from _typed_data(plan)


class Pair:
    """A payer and a provider in service; whatever they say is sealed, checked and decoded."""

    def __init__(self, units_per_quantum: int) -> None:
        terms = agreement(
            offer(quantum_ms=units_per_quantum * 1000, lead=TRUST, lag=TRUST, units_max=UNITS_MAX),
            duration_s=10**6,
        )
        self._world = World(terms)
        self._world.start()
        run_fair(self._world, 2, (1, 1))
        self.terms = terms
        self.frames = 0
        keys = {PROVIDER: KEY, PAYER: SigningKey(bytes(31) + b"p")}
        self._pens = {
            who: Signer(key, key, BINDING, 1, bytes(32)) for who, key in keys.items()
        }  # fmt: skip
        self._validators = {}
        for who, other in ((PROVIDER, PAYER), (PAYER, PROVIDER)):
            validator = Validator(BINDING)
            public = bytes(keys[other].verify_key)
            validator.enrol(device_id(public), public)
            self._validators[who] = validator

    def serve(self, units: int) -> None:
        """So many seconds, each of them a unit at both meters."""
        world = self._world
        for _ in range(units):
            world.now += SECOND
            for who in (PROVIDER, PAYER):
                side = world.sides[who]
                assert side.metering is not None
                side.registers[self.terms.id] += 1
                flows = tuple(side.registers.items())
                side.metering.decided(world.time_s(world.now))
                self._carry(who, side.metering.measured(Measurement(0, flows=flows), world.now))

    def _carry(self, sender: bytes, acts: list[Act]) -> None:
        to = PAYER if sender == PROVIDER else PROVIDER
        metering = self._world.sides[to].metering
        assert metering is not None
        for act in acts:
            assert not isinstance(act, Actuate), "the service ended or was held"
            if not isinstance(act, Send):
                continue
            self.frames += 1
            frame = self._pens[sender].seal(act.message)
            view = self._validators[to].check(frame)
            assert not isinstance(view, Reject), view
            if view.kind is Kind.VOUCHER:
                said = decode(Voucher, view.payload)
                answer = metering.receive_voucher(sender, said, frame, self._world.now)
            else:
                assert view.kind is Kind.READING
                answer = metering.receive_reading(
                    sender, decode(Reading, view.payload), self._world.now
                )
            self._carry(to, answer)


def _unit(plan: Plan, quantum: int) -> Row:
    units, rounds = plan.count(1024, quantum), plan.count(7)
    pair, alone = Pair(quantum), Pair(UNITS_MAX // 100)
    taken, bare = per_item_ns(
        [lambda: pair.serve(units), lambda: alone.serve(units)], units, rounds
    )
    how = f"both sides, {units} units x {rounds}, {pair.frames} frames sealed and checked; CPU time"
    return Row(GROUP, f"unit, {quantum} a quantum", taken / 1000, "us", how, bare / 1000,
               "no message at all")  # fmt: skip


def _typed_data(plan: Plan) -> Iterator[Row | Skipped]:
    try:
        wallets: Any = importlib.import_module("eth_account")
        messages: Any = importlib.import_module("eth_account.messages")
    except ImportError:
        yield Skipped(GROUP, "eth-account is not installed: pip install '.[bench]'")
        return
    count, rounds = plan.count(100, 3), plan.count(9)
    wallet = wallets.Account.from_key(bytes(KEY))
    said = [{"channel": bytes(32), "lane": 0, "cum": cum} for cum in range(count)]

    def typed(one: dict[str, object]) -> object:
        return messages.encode_typed_data(DOMAIN, TYPES, one)

    signatures = [wallet.sign_message(typed(one)).signature for one in said]
    pen = Signer(KEY, KEY, BINDING, 1, bytes(32))
    vouchers = [Voucher(bytes(16), 0, cum) for cum in range(count)]
    frames = [pen.seal(voucher) for voucher in vouchers]
    unused = iter([_validator() for _ in range(rounds + 1)])

    def check() -> None:
        validator = next(unused)
        for frame in frames:
            validator.check(frame)

    def recover() -> None:
        for one, signature in zip(said, signatures, strict=True):
            found = wallets.Account.recover_message(typed(one), signature=signature)
            assert found == wallet.address

    sealed, checked, signed, recovered = per_item_ns(
        [
            lambda: [pen.seal(voucher) for voucher in vouchers],
            check,
            lambda: [wallet.sign_message(typed(one)) for one in said],
            recover,
        ],
        count,
        rounds,
    )
    curve = type(importlib.import_module("eth_keys").KeyAPI().backend).__name__
    how = f"{count} one by one, median of {rounds} rounds, CPU time; its curve: {curve}"
    for what, ours, theirs in (("made", sealed, signed), ("checked", checked, recovered)):
        yield Row(GROUP, f"voucher {what}, beside EIP-712", ours / 1000, "us", how, theirs / 1000,
                  "eth-account")  # fmt: skip


def _validator() -> Validator:
    validator = Validator(BINDING)
    validator.enrol(KID, bytes(KEY.verify_key))
    return validator
