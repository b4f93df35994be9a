"""Validation of frames in pure Python: the reference that `_hotpath.pyx` must equal, call by call.

Theory of operation. `Validator.check` runs cheapest first and stops at the first fault (R-WIRE-7):

    SIZE       empty, or above 64 KiB
    SHAPE      not the one layout of `frame.py`, read from left to right
    CANONICAL  that layout, but with a length or number that is not in its shortest form
    VERSION    MESH  KIND  KIND_SIZE  SENDER
    REPLAY     signals: (boot, seq) was seen or is older than the window
    BUDGET     its source, or its signer, has cost as much as it may (R-WIRE-13)
    SIGNATURE  unless these very bytes were verified before (statements only: signals never repeat)
    PAYLOAD    not one item of deterministic CBOR (RFC 8949 4.2.1) within our limits

Invariants:
 1. The replay window is looked up before the signature and advanced only after it; otherwise a
    forger could lock a sender out by using up its sequence numbers.
 2. The payload is walked after the signature. A walk of 64 KiB costs more than a signature, and
    this way only enrolled senders can cause it.
 3. The cache skips signature and walk, nothing else. It needs no key or mesh beside the frame: a
    kid is the hash of its key, and a validator has one binding.
 4. Nothing here depends on anything but the calls so far: no clock, no randomness. What may be
    spent in a second is `budget.py`'s affair; here it is only counted down.
 5. What a source may cost goes down by signatures that do not hold, and by statements said again;
    what a signer may say, by what is valid and new. So nobody spends what belongs to another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from demesh.wire._envelope import Envelope, read_envelope
from demesh.wire._walker import DEPTH_MAX, canonical
from demesh.wire.frame import (
    SIG_STRUCTURE,
    SIGNATURE_BYTES,
    Binding,
    bstr,
)
from demesh.wire.keys import device_id, is_public_key, signed_by
from demesh.wire.kinds import (
    FIRST_SIGNAL,
    FRAME_BYTES_MAX,
    KIND_BYTES_MAX,
    WIRE_VERSION,
    WIRE_VERSION_OLDEST,
    Kind,
    Reject,
)

__all__ = [
    "DEPTH_MAX",
    "Allowance",
    "Envelope",
    "Validator",
    "View",
    "Window",
    "canonical",
    "read_envelope",
]

# Wide enough for one sender's messages to overtake each other on two brokers; one machine word.
WINDOW = 64

# Entries per generation, of which there are two. The second broker's copy comes milliseconds after
# the first, and 4096 holds two views of votes of 1000 devices; at about 130 bytes, 1 MB in all.
CACHE_MAX = 4096

_KINDS = {int(kind): kind for kind in Kind}


# -- replay window --------------------------------------------------------------------------------


class Window:
    """Which (boot, seq) of one sender were used: the highest, and the 63 below it (R-WIRE-8)."""

    __slots__ = ("_bitmap", "_boot", "_seq")

    def __init__(self) -> None:
        self._boot = 0
        self._seq = 0
        self._bitmap = 0  # bit i: seq - i was used; 0 only before the first

    def high(self) -> tuple[int, int] | None:
        """The highest (boot, seq) used, or None."""
        return (self._boot, self._seq) if self._bitmap else None

    def used(self, boot: int, seq: int) -> bool:
        """Whether (boot, seq) was used, or is too old to know."""
        if not self._bitmap or boot > self._boot:
            return False
        if boot < self._boot:
            return True
        if seq > self._seq:
            return False
        return self._seq - seq >= WINDOW or bool(self._bitmap >> (self._seq - seq) & 1)

    def use(self, boot: int, seq: int) -> bool:
        """Mark (boot, seq) as used; False, and no change, if it was."""
        if self.used(boot, seq):
            return False
        if not self._bitmap or boot > self._boot:
            self._boot, self._seq, self._bitmap = boot, seq, 1
        elif seq > self._seq:
            ahead = seq - self._seq
            kept = self._bitmap << ahead & (1 << WINDOW) - 1 if ahead < WINDOW else 0
            self._seq, self._bitmap = seq, kept | 1
        else:
            self._bitmap |= 1 << (self._seq - seq)
        return True

    def raise_to(self, boot: int, seq: int) -> None:
        """Treat (boot, seq) and all before it as used; a window is never lowered."""
        if not self._bitmap or (boot, seq) >= (self._boot, self._seq):
            self._boot, self._seq, self._bitmap = boot, seq, (1 << WINDOW) - 1


# -- validator ------------------------------------------------------------------------------------


class Allowance:
    """What one source of frames may still cost: `failures` of signatures, `repeats` of statements.

    A `reserved` one pays for every signature, and what the signer may still say does not matter.
    """

    __slots__ = ("failures", "repeats", "reserved")

    def __init__(self, failures: int, repeats: int, reserved: bool = False) -> None:
        self.failures = failures
        self.repeats = repeats
        self.reserved = reserved


@dataclass(frozen=True, slots=True)
class View:
    """A valid frame's fields; `payload` is a slice of the frame. A statement has boot = seq = 0."""

    kind: Kind
    sender: bytes
    boot: int
    seq: int
    payload: memoryview


class Validator:
    """Checks the frames of one mesh against the enrolled senders."""

    __slots__ = (
        "_aad",
        "_credits",
        "_keys",
        "_most",
        "_newest",
        "_old",
        "_tag",
        "_windows",
        "_young",
    )

    def __init__(self, binding: Binding, newest: int = WIRE_VERSION) -> None:
        """`newest`: the wire version up to which it understands frames."""
        self._aad = bstr(binding.aad)
        self._tag = binding.tag
        self._newest = newest
        self._keys: dict[bytes, bytes] = {}
        self._windows: dict[bytes, Window] = {}
        # New valid frames that a sender may still have: statements, which anybody can say again,
        # and signals, which nobody can.
        self._credits: tuple[dict[bytes, int], dict[bytes, int]] = ({}, {})
        self._most = 0
        # Verified frames in two generations: full, the young one replaces the old one.
        self._young: dict[bytes, None] = {}
        self._old: dict[bytes, None] = {}

    def enrol(self, kid: bytes, public_key: bytes) -> None:
        """Accept frames of this key from now on; ValueError if the key is bad or not the kid's.

        Enrolling again changes nothing. Whoever enrols after `forget` restores the window too.
        """
        if not is_public_key(public_key):
            raise ValueError(f"not an Ed25519 public key: {public_key.hex()}")
        if device_id(public_key) != kid:
            raise ValueError(f"key {public_key.hex()} has another id than {kid.hex()}")
        if kid not in self._keys:
            self._keys[kid] = public_key
            self._windows[kid] = Window()
            for credits in self._credits:
                credits[kid] = self._most

    def forget(self, kid: bytes) -> None:
        """Accept nothing more from this sender; its window is lost."""
        self._keys.pop(kid, None)
        self._windows.pop(kid, None)
        for credits in self._credits:
            credits.pop(kid, None)

    def replenish(self, count: int, most: int) -> None:
        """Let senders have `count` more new frames of each family, `most` in all; new ones that."""
        self._most = most
        for credits in self._credits:
            for kid, left in credits.items():
                credits[kid] = min(left + count, most)

    def window(self, kid: bytes) -> tuple[int, int] | None:
        """The highest (boot, seq) of this sender's signals, or None."""
        window = self._windows.get(kid)
        return window.high() if window is not None else None

    def set_window(self, kid: bytes, boot: int, seq: int) -> None:
        """After a restart: all up to (boot, seq) was used. Never lowers; KeyError if unknown."""
        self._windows[kid].raise_to(boot, seq)

    def verify(self, kid: bytes, message: bytes, signature: bytes) -> bool:
        """Whether an enrolled sender signed `message`, as part of a certificate for example."""
        key = self._keys.get(kid)
        return key is not None and signed_by(key, message, signature)

    def charge(self, kid: bytes, count: int) -> None:
        """Let a sender have `count` fewer new statements, for what one of them has cost."""
        if kid in self._credits[False]:
            self._credits[False][kid] -= count

    def check_batch(
        self, frames: Iterable[bytes], allowance: Allowance | None = None
    ) -> list[View | Reject]:
        """The verdict of each frame, in order, as if checked one after the other."""
        return [self.check(frame, allowance) for frame in frames]

    def peek(self, frame: bytes) -> View | Reject:
        """What `check` would see of a frame if its signature held; counts and moves nothing."""
        read = self._read(frame)
        if isinstance(read, Reject):
            return read
        envelope, view = read
        if envelope.signal and self._windows[envelope.kid].used(envelope.boot, envelope.seq):
            return Reject.REPLAY
        return view

    def check(self, frame: bytes, allowance: Allowance | None = None) -> View | Reject:
        """The view of a valid frame, or the first reason to reject it.

        With an allowance it may be BUDGET, and what the frame costs is taken from it; without one
        nothing is counted.
        """
        read = self._read(frame)
        if isinstance(read, Reject):
            return read
        envelope, view = read
        if envelope.signal:
            return self._check_signal(frame, envelope, view, allowance)
        return self._check_statement(frame, envelope, view, allowance)

    def _read(self, frame: bytes) -> tuple[Envelope, View] | Reject:
        """All checks before REPLAY."""
        if type(frame) is not bytes:
            raise TypeError(f"a frame is bytes, got {type(frame).__name__}")
        if not 0 < len(frame) <= FRAME_BYTES_MAX:
            return Reject.SIZE
        envelope = read_envelope(frame)
        if isinstance(envelope, Reject):
            return envelope
        if not WIRE_VERSION_OLDEST <= envelope.version <= self._newest:
            return Reject.VERSION
        if envelope.tag != self._tag:
            return Reject.MESH
        kind = _KINDS.get(envelope.kind)
        if kind is None or (kind >= FIRST_SIGNAL) != envelope.signal:
            return Reject.KIND
        if len(frame) > KIND_BYTES_MAX[kind]:
            return Reject.KIND_SIZE
        if envelope.kid not in self._keys:
            return Reject.SENDER
        start = envelope.payload[0] + envelope.payload_head
        view = View(
            kind,
            envelope.kid,
            envelope.boot,
            envelope.seq,
            memoryview(frame)[start : envelope.payload[1]],
        )
        return envelope, view

    def _check_signal(
        self, frame: bytes, envelope: Envelope, view: View, allowance: Allowance | None
    ) -> View | Reject:
        window = self._windows[envelope.kid]
        if window.used(envelope.boot, envelope.seq):
            return Reject.REPLAY
        reject = self._check_signature(frame, envelope, allowance)
        if reject is not None:
            return reject
        if not window.use(envelope.boot, envelope.seq):  # another thread, while libsodium ran
            return Reject.REPLAY
        return view if canonical(bytes(view.payload)) else Reject.PAYLOAD

    def _check_statement(
        self, frame: bytes, envelope: Envelope, view: View, allowance: Allowance | None
    ) -> View | Reject:
        if allowance is not None and allowance.failures <= 0 and allowance.repeats <= 0:
            return Reject.BUDGET
        digest = hashlib.blake2b(frame, digest_size=32).digest()
        if digest in self._young or digest in self._old:
            if allowance is not None:
                if allowance.repeats <= 0:
                    return Reject.BUDGET
                allowance.repeats -= 1
            return view
        reject = self._check_signature(frame, envelope, allowance)
        if reject is not None:
            return reject
        if not canonical(bytes(view.payload)):
            return Reject.PAYLOAD
        if len(self._young) >= CACHE_MAX:
            self._old, self._young = self._young, {}
        self._young[digest] = None
        return view

    def _check_signature(
        self, frame: bytes, envelope: Envelope, allowance: Allowance | None
    ) -> Reject | None:
        """BUDGET or SIGNATURE, or None; counts what it cost."""
        kid, credits = envelope.kid, self._credits[envelope.signal]
        if allowance is not None and (
            allowance.failures <= 0 or (credits[kid] <= 0 and not allowance.reserved)
        ):
            return Reject.BUDGET
        holds = self._signed(frame, envelope, self._keys[kid])
        if allowance is not None:
            if allowance.reserved or not holds:
                allowance.failures -= 1
            else:
                credits[kid] -= 1
        return None if holds else Reject.SIGNATURE

    def _signed(self, frame: bytes, envelope: Envelope, key: bytes) -> bool:
        structure = b"".join(
            (
                SIG_STRUCTURE,
                frame[slice(*envelope.protected)],
                self._aad,
                frame[slice(*envelope.payload)],
            )
        )
        return signed_by(key, structure, frame[-SIGNATURE_BYTES:])
