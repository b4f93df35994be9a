"""Metering: what a unit in service costs both sides, and what a voucher costs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from benchmarks.plan import Plan
from benchmarks.row import Row
from benchmarks.timing import per_item_ns
from benchmarks.validate import BINDING, KEY, KID
from demesh.metering.sessions import Metering
from demesh.metering.tariff import cost
from demesh.ports import MILLISECOND, SECOND, Actuate, Instant, Measurement
from demesh.wire.identity import signer
from demesh.wire.intents import Send
from demesh.wire.keys import signed_by
from demesh.wire.readings import Voucher
from demesh.wire.signer import Signer
from demesh.wire.validate import Validator
from metering.world import PAYER, PROVIDER, World, agreement, offer, run_fair

GROUP = "metering"

# So much trust that no sample below asks for a message: what is timed is a unit between two quanta.
TRUST = 10**9
UNITS_MAX = 10**6


def rows(plan: Plan) -> Iterator[Row]:
    """Both sides' step, and the voucher's signature."""
    for who, name in ((PROVIDER, "provider"), (PAYER, "payer")):
        yield _step(plan, who, name)
    yield from _voucher(plan)


def _step(plan: Plan, who: bytes, name: str) -> Row:
    """A meter sample that moved by one unit, in the middle of a service."""
    terms = agreement(
        offer(quantum_ms=10**6, lead=TRUST, lag=TRUST, units_max=UNITS_MAX), duration_s=10**6
    )
    samples, rounds = plan.count(2000, 20), plan.count(9)
    world = World(terms)
    world.start()
    run_fair(world, 2, (1, 1))
    assert world.sides[who].powers.get(terms.id), "not in service"
    core = world.sides[who].metering
    assert core is not None
    register = itertools.count(world.sides[who].registers[terms.id] + 1)
    clock = itertools.count(world.now + MILLISECOND, MILLISECOND)
    messages = 0

    def step() -> None:
        nonlocal messages
        messages += _serve(core, terms.id, register, clock, samples)

    def bare() -> None:
        tariff = terms.offer.tariff
        for units in range(samples):
            cost(tariff, units)

    taken, floor = per_item_ns([step, bare], samples, rounds)
    how = f"a sample with 1 unit more, {samples} x {rounds}, {messages} messages in all; CPU time"
    return Row(GROUP, f"unit in service, {name}", taken / 1000, "us", how, floor / 1000, "cost()")


def _serve(
    core: Metering, id: bytes, register: Iterator[int], clock: Iterator[Instant], samples: int
) -> int:
    """So many samples in service; the messages they caused."""
    messages = 0
    for units, now in zip(itertools.islice(register, samples), clock, strict=False):
        acts = core.measured(Measurement(0, flows=((id, units),)), now)
        messages += sum(isinstance(act, Send) for act in acts)
        ended = any(isinstance(act, Actuate) and not act.power_w for act in acts)
        assert not ended, f"the service ended at {units} units, {now // SECOND} s"
    return messages


def _voucher(plan: Plan) -> Iterator[Row]:
    count, rounds = plan.count(500, 5), plan.count(9)
    pen = Signer(KEY, KEY, BINDING, 1, bytes(32))
    vouchers = [Voucher(bytes(16), 0, cum) for cum in range(count)]
    frames = [pen.seal(voucher) for voucher in vouchers]
    sign, public = signer(KEY), bytes(KEY.verify_key)
    message = bytes(100)
    signature = sign(message)

    def seal() -> None:
        for voucher in vouchers:
            pen.seal(voucher)

    # A new validator each round, or its cache would answer instead of the signature.
    unused = iter([_validator(public) for _ in range(rounds + 1)])

    def check() -> None:
        validator = next(unused)
        for frame in frames:
            validator.check(frame)

    works: list[Callable[[], object]] = [
        seal,
        lambda: [sign(message) for _ in range(count)],
        check,
        lambda: [signed_by(public, message, signature) for _ in range(count)],
    ]
    sealing, signing, checking, verifying = per_item_ns(works, count, rounds)
    how = f"{count} vouchers, one by one, median of {rounds} rounds, CPU time"
    yield Row(GROUP, "voucher made", sealing / 1000, "us", how, signing / 1000, "bare sign")
    yield Row(GROUP, "voucher checked", checking / 1000, "us", how, verifying / 1000, "bare verify")


def _validator(public: bytes) -> Validator:
    validator = Validator(BINDING)
    validator.enrol(KID, public)
    return validator
