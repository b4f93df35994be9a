"""Targets of the hot path: walker, envelope and validator, pure against compiled against a third.

What both implementations accept is read once more by `fuzz.cbor`, which knows nothing of either:
they might share an error. In particular one value must have one encoding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cbor2
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from demesh.wire import _reference
from demesh.wire.frame import Binding, bstr, head
from demesh.wire.kinds import FIRST_SIGNAL, KIND_BYTES_MAX, Kind, Reject
from fuzz import cbor
from fuzz.cbor import ARRAY, BYTES, MAP, NINT, TAG, UINT, Item
from fuzz.mutate import TELLING, of_tree
from fuzz.tape import Tape, programs
from fuzz.target import Target, compiled, expect
from vectors.make import (
    ALICE,
    BINDING,
    BOB,
    ELSEWHERE,
    LATER,
    SIGNALS,
    STATEMENTS,
    STRANGER,
    VOTE,
    kid_of,
    signal,
    statement,
)

KEYS = (ALICE, BOB, VOTE, STRANGER)
KIDS = tuple(kid_of(key) for key in KEYS)
BINDINGS = (BINDING,) * 14 + (ELSEWHERE, LATER)
PAYLOADS = {**STATEMENTS, **SIGNALS}
VECTORS = Path(__file__).parents[1] / "vectors"
FRAMES = tuple(
    bytes.fromhex(row["hex"])
    for name in ("frames.json", "v1/frames.json")
    for row in json.loads((VECTORS / name).read_text("ascii"))["frames"]
    if "hex" in row
)
GOOD = tuple(
    [statement(kind, payload) for kind, payload in STATEMENTS.items()]
    + [signal(kind, payload, 2, kind) for kind, payload in SIGNALS.items()]
)

# -- walker ---------------------------------------------------------------------------------------

SEED_BYTES_MAX = 700  # a tree of hundreds of items says no more than one of ten

WALKED = (
    *(payload for payload in PAYLOADS.values() if len(payload) < SEED_BYTES_MAX),
    b"",
    b"\x81" * 16 + b"\x00",
    b"\x81" * 17 + b"\x00",
    b"\xa2\x01\x00\x18\x18\x00",
    b"\xa2\x20\x00\x61\x61\x00",
    b"\xa2\xf4\x00\xf5\x00",
    b"\xa1\x82\x01\x02\xa0",
    b"\x64\xf0\x9f\x94\x8b",
    b"\x3b" + b"\xff" * 8,
    b"\x1b\x00\x00\x00\x01\x00\x00\x00\x00",
    b"\x58\x18" + bytes(24),
    b"\x59\x01\x00" + bytes(256),
)


def walker() -> Target:
    """`canonical`: both say the same, as does a third reader, and cbor2 gives the bytes back."""
    fast, pure = compiled().canonical, _reference.canonical

    def run(data: bytes) -> None:
        verdict = pure(data)
        expect(fast(data) is verdict, "compiled and pure walker disagree", verdict)
        expect(cbor.canonical(data) is verdict, "the walker and the third reader disagree", verdict)
        if verdict:
            again = _dumped(cbor2.loads(data))
            expect(again is None or again == data, "cbor2 reads and writes other bytes", again)

    return Target(run, WALKED, of_tree, burst=4)


def _dumped(value: object) -> bytes | None:
    """The value by cbor2's canonical encoder; None where a map is in it.

    It sorts maps as RFC 7049 did, and in Python 1 and True are the same key; no message has a map.
    """
    try:
        return cbor2.dumps(_without_maps(value), canonical=True)
    except _MapError:
        return None


class _MapError(Exception):
    pass


def _without_maps(value: object) -> object:
    if isinstance(value, list):
        return [_without_maps(one) for one in value]
    if value is None or isinstance(value, bool | int | bytes | str):
        return value
    raise _MapError


# -- envelope -------------------------------------------------------------------------------------


def envelope() -> Target:
    """`read_envelope`: both give equal fields, and what they read is written in one way only."""
    fast, pure = compiled().read_envelope, _reference.read_envelope

    def run(data: bytes) -> None:
        found = pure(data)
        expect(fast(data) == found, "compiled and pure envelope disagree", found)
        if not isinstance(found, Reject):
            expect_one_encoding(data)

    small = tuple(frame for frame in FRAMES if len(frame) < SEED_BYTES_MAX)
    return Target(run, small, of_tree, burst=4)


def expect_one_encoding(frame: bytes) -> tuple[Item, Item, Item, Item]:
    """The four parts of a frame that was accepted, if it is the shortest of its content."""
    try:
        root = cbor.read(frame)
    except cbor.UnreadableError as error:
        expect(False, "accepted what is not CBOR", error)
        raise
    expect(cbor.shortest(root) == frame, "accepted a longer way to say it")
    tagged = root.major == TAG and root.value == 18 and root.items[0].major == ARRAY
    expect(tagged and len(root.items[0].items) == 4, "accepted what is no COSE_Sign1")
    protected, unprotected, payload, signature = root.items[0].items
    inner = cbor.read(protected.content)
    expect(cbor.shortest(inner) == protected.content, "accepted a longer protected header")
    majors = (inner.major, unprotected.major, payload.major, signature.major)
    expect(majors == (MAP, MAP, BYTES, BYTES), "accepted parts of other types", majors)
    return inner, unprotected, payload, signature


# -- validator ------------------------------------------------------------------------------------

CALLS_MAX = 40
NEWEST = (2, 2, 2, 1, 3)
COUNTS = (0, 1, 2, 3, 1, 1, 50, 2**40, -1)
KINDS = (*[int(kind) for kind in Kind], 0, 7, 15, 28, 31, 32, 33, 255, 2**32 + 2, 2**64 - 1)
VERSIONS = (1,) * 8 + (2,) * 4 + (0, 3, 24, 2**64 - 1)


def validator() -> Target:
    """Programs of calls on two validators: equal verdicts, fields and windows after each."""
    fast = compiled()

    def run(data: bytes) -> None:
        tape = Tape(data)
        newest = tape.choice(NEWEST)
        allowed = [(tape.choice(COUNTS), tape.choice(COUNTS), place == 2) for place in range(3)]
        pair = tuple(Party(module, newest, allowed) for module in (_reference, fast))
        program = Program(tape)
        for _ in range(CALLS_MAX):
            if tape.over:
                break
            program.step(pair[0], pair[1])

    return Target(run, _programs(), programs)


def _programs() -> tuple[bytes, ...]:
    """Each kind once, in pieces that a mutation may join."""
    begin = bytes((0, 6, 6, 1, 1, 1, 1))
    calls = [bytes((0, at, 0, 0, 0, at, 0, 0, 0, 0, 0)) for at in range(len(KINDS))]
    return tuple(begin + b"".join(calls[at : at + 4]) for at in range(0, len(calls), 4))


@dataclass(frozen=True, slots=True)
class Place:
    """Stands for an allowance, of which each of the two has its own."""

    number: int


class Party:
    """One implementation: a validator and three allowances, the last of them reserved."""

    def __init__(self, module: Any, newest: int, allowed: list[tuple[int, int, bool]]) -> None:
        self.validator = module.Validator(BINDING, newest)
        self._allowances = [module.Allowance(*one) for one in allowed]
        for key in KEYS[:3]:
            self.validator.enrol(kid_of(key), bytes(key.verify_key))

    def outcome(self, name: str, arguments: list[Any]) -> Any:
        """What a call gives, as plain values; the documented errors are values too."""
        given = [self._allowances[a.number] if isinstance(a, Place) else a for a in arguments]
        try:
            result = getattr(self.validator, name)(*given)
        except (KeyError, ValueError, TypeError) as error:
            return type(error), str(error)
        return [_plain(part) for part in result] if isinstance(result, list) else _plain(result)

    def seen(self) -> Any:
        """All else that can be seen from outside."""
        windows = [self.validator.window(kid) for kid in KIDS]
        return windows, [(one.failures, one.repeats, one.reserved) for one in self._allowances]


class Program:
    """Reads calls off a tape and makes them on both."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._given: list[bytes] = [GOOD[0]]
        self._used: set[tuple[bytes, int, int]] = set()

    def step(self, pure: Party, fast: Party) -> Any:
        """One call; a finding if the two differ in anything that can be seen."""
        name, *arguments = self._call()
        result = pure.outcome(name, arguments)
        expect(fast.outcome(name, arguments) == result, f"{name} differs", result)
        seen = pure.seen()
        expect(fast.seen() == seen, f"what is seen after {name} differs", seen)
        if name in ("forget", "set_window"):
            self._used = set()  # may be enrolled again, and then its window begins anew
        if name == "check":
            self._judge(arguments[0], result)
        if name == "check_batch":
            for frame, verdict in zip(arguments[0], result, strict=True):
                self._judge(frame, verdict)
        return result

    def _call(self) -> tuple[Any, ...]:
        tape = self._tape
        match tape.below(24):
            case 12 | 13:
                return "check", tape.choice(self._given[-8:]), *self._allowance()
            case 14:
                frames = [*self._given[-6:], *self._given[-2:]]
                return "check_batch", frames, *self._allowance()
            case 15:
                return "forget", tape.choice((*KIDS, bytes(16)))
            case 16:
                key = tape.choice(KEYS)
                return "enrol", kid_of(tape.choice((key, key, ALICE))), bytes(key.verify_key)
            case 17:
                return "set_window", tape.choice(KIDS), _boot(tape), tape.number()
            case 18:
                message = tape.take(tape.choice((0, 5, 40)))
                signature = _sign(ALICE, message)[: tape.choice((64, 64, 63, 0))]
                return "verify", tape.choice(KIDS), message, signature
            case 19:
                return "replenish", tape.choice(COUNTS), tape.choice(COUNTS)
            case 20:
                return "charge", tape.choice((*KIDS, bytes(16))), tape.choice(COUNTS)
            case 21:
                return "peek", tape.choice(self._given[-8:])
            case 22:
                frame = of_bytes_at(tape, tape.choice(FRAMES))
            case 23:
                frame = tape.take(tape.below(200))
            case _:
                frame = _frame(tape)
        self._given.append(frame)
        return "check", frame, *self._allowance()

    def _allowance(self) -> tuple[Place, ...]:
        which = self._tape.below(6)
        return (Place(which - 3),) if which >= 3 else ()

    def _judge(self, frame: bytes, verdict: Any) -> None:
        if not isinstance(verdict, Reject):
            self._accepted(frame, *verdict)

    def _accepted(
        self, frame: bytes, kind: Kind, sender: bytes, boot: int, seq: int, payload: bytes
    ) -> None:
        """What was accepted is what it says, by one encoding, truly signed, and not a repeat."""
        inner, unprotected, body, signature = expect_one_encoding(frame)
        expect(body.content == payload, "the payload is not the frame's")
        expect(cbor.canonical(payload), "accepted a payload that is not deterministic")
        expect(len(frame) <= KIND_BYTES_MAX[kind], "accepted more than its kind allows")
        protected = cbor.write(inner)
        signed = b"\x84\x6aSignature1" + bstr(protected) + bstr(BINDING.aad) + bstr(payload)
        key = KEYS[KIDS.index(sender)].verify_key
        try:
            VerifyKey(bytes(key)).verify(signed, signature.content)
        except BadSignatureError:
            expect(False, "accepted a signature that PyNaCl refuses", frame.hex())
        headers = {cbor.write(k): v for k, v in _pairs(inner) + _pairs(unprotected)}
        expect(headers[b"\x04"].content == sender, "the sender is not the frame's")
        written = headers[b"\x3a\x00\x01\x00\x00"]
        if kind < FIRST_SIGNAL:
            expect((written.value, boot, seq) == (kind, 0, 0), "fields are not the statement's")
            return
        numbers = tuple(one.value for one in written.items)
        expect(numbers == (kind, boot, seq), "fields are not the signal's", numbers)
        expect((sender, boot, seq) not in self._used, "accepted the same signal twice", boot, seq)
        self._used.add((sender, boot, seq))


def _pairs(item: Item) -> list[tuple[Item, Item]]:
    return list(zip(item.items[::2], item.items[1::2], strict=True))


def _plain(verdict: Any) -> Any:
    if verdict is None or isinstance(verdict, Reject | bool):
        return verdict
    return verdict.kind, verdict.sender, verdict.boot, verdict.seq, bytes(verdict.payload)


@lru_cache(maxsize=4_096)
def _sign(key: SigningKey, message: bytes) -> bytes:
    return bytes(key.sign(message).signature)


def _frame(tape: Tape) -> bytes:
    """A frame of which the tape chose every part; most are truly signed, whatever they say."""
    kind = tape.choice(KINDS)
    key = KEYS[0] if (who := tape.byte()) < 160 else KEYS[who % len(KEYS)]
    odd = tape.byte()
    signal_ = (kind >= FIRST_SIGNAL) != (odd == 255)
    boot, seq = (_boot(tape), tape.number()) if signal_ else (0, 0)
    payload = _payload(tape, kind)
    binding = tape.choice(BINDINGS)
    version = tape.choice(VERSIONS)
    protected, unprotected = _headers(signal_, kind, kid_of(key), boot, seq, version, binding)
    if 192 <= odd < 240:  # odd headers, under a good signature
        which = cbor.write(protected if odd < 216 else unprotected)
        changed = of_bytes_at(tape, which)
    else:
        changed = b""
    inner = changed if changed and odd < 216 else cbor.write(protected)
    outer = changed if changed and odd >= 216 else cbor.write(unprotected)
    length = head(2, len(payload)) if odd != 254 else cbor.head(2, len(payload), 4)
    signed = b"\x84\x6aSignature1" + bstr(inner) + bstr(binding.aad) + length + payload
    signer = key if tape.byte() < 240 else tape.choice(KEYS)
    frame = (
        b"\xd2\x84" + bstr(inner) + outer + length + payload + b"\x58\x40" + _sign(signer, signed)
    )
    return of_bytes_at(tape, frame) if tape.byte() >= 216 else frame


def _boot(tape: Tape) -> int:
    """Mostly the same, or no two signals would ever be within one window."""
    which = tape.choice((5, 5, 5, 5, 6, 4, 0, -1))
    return tape.number() if which < 0 else which


def _headers(
    signal_: bool, kind: int, kid: bytes, boot: int, seq: int, version: int, binding: Binding
) -> tuple[Item, Item]:
    """Protected and unprotected map, as RFC 9052 and the layout of frames want them."""
    algorithm = [Item(UINT, 1), Item(NINT, 18)]
    id = [Item(UINT, 4), Item(BYTES, content=kid)]
    content = Item(UINT, kind)
    if signal_:
        content = Item(ARRAY, items=[Item(UINT, kind), Item(UINT, boot), Item(UINT, seq)])
    kind_ = [Item(NINT, 65_536), content]
    tag = Item(ARRAY, items=[Item(UINT, version), Item(BYTES, content=binding.tag)])
    mesh = [Item(NINT, 65_537), tag]
    if signal_:
        return Item(MAP, items=[*algorithm, *id, *kind_]), Item(MAP, items=mesh)
    return Item(MAP, items=[*algorithm, *kind_]), Item(MAP, items=[*id, *mesh])


def _payload(tape: Tape, kind: int) -> bytes:
    good = PAYLOADS.get(Kind(kind), b"\x80") if kind in PAYLOADS else b"\x80"
    match tape.below(8):
        case 5:
            return of_bytes_at(tape, good)
        case 6:
            return tape.take(tape.below(40))
        case 7:
            # Around the kind's limit, and around where the compiled one leaves its stack.
            limit = KIND_BYTES_MAX.get(Kind(kind), 200) if kind in PAYLOADS else 200
            size = max(0, tape.choice((min(limit, 60_000), 1_900, 2_000)) - 200 + tape.byte())
            return bstr(bytes(size))
        case _:
            return good


def of_bytes_at(tape: Tape, data: bytes) -> bytes:
    """Data with one to three bytes changed where the tape says."""
    changed = bytearray(data)
    for _ in range(1 + tape.below(3)):
        at = tape.byte() + 256 * (tape.below(256) if len(changed) > 256 else 0)
        at %= len(changed) + 1
        match tape.below(6):
            case 0:
                changed[at : at + 1] = bytes((tape.byte(),))
            case 1:
                changed[at : at + 1] = bytes((tape.choice(TELLING),))
            case 2:
                changed.insert(at, tape.choice(TELLING))
            case 3:
                del changed[at : at + 1]
            case 4:
                del changed[at:]
            case _:
                if at < len(changed):
                    changed[at] ^= 1 << tape.below(8)
    return bytes(changed)
