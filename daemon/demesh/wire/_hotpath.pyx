# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Validation of frames, compiled: equals `_reference.py` call by call; see there for the theory.

Signatures and hashes are those of the libsodium inside PyNaCl: its functions' addresses come from
the cffi module that PyNaCl has loaded, so there is one copy in the process and no system package.
An import-time test on known answers decides whether those addresses are used; where it fails, or
where another build of PyNaCl has none, `nacl.bindings` and `hashlib` do the same work.
"""

import hashlib

from libc.stdint cimport uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from nacl import bindings
from nacl.exceptions import BadSignatureError

from demesh.wire import _reference
from demesh.wire import frame as _frame
from demesh.wire.keys import device_id, is_public_key
from demesh.wire.kinds import FRAME_BYTES_MAX, KIND_BYTES_MAX, WIRE_VERSION, WIRE_VERSION_OLDEST, Kind, Reject

# The layout's constants again, in C, so that the compiler can unroll their comparison.
cdef extern from *:
    """
    static const unsigned char SIGN1[] = {0xd2, 0x84};
    static const unsigned char STATEMENT_PROTECTED[] =
        {0xa2, 0x01, 0x32, 0x3a, 0x00, 0x01, 0x00, 0x00};
    static const unsigned char SIGNAL_PROTECTED[] = {0xa3, 0x01, 0x32, 0x04, 0x50};
    static const unsigned char SIGNAL_SEQUENCE[] = {0x3a, 0x00, 0x01, 0x00, 0x00, 0x83};
    static const unsigned char STATEMENT_UNPROTECTED[] = {0xa2, 0x04, 0x50};
    static const unsigned char SIGNAL_UNPROTECTED[] = {0xa1};
    static const unsigned char VERSION_TAG[] = {0x3a, 0x00, 0x01, 0x00, 0x01, 0x82};
    static const unsigned char TAG_HEAD[] = {0x44};
    static const unsigned char SIGNATURE_HEAD[] = {0x58, 0x40};
    static const unsigned char SIG_STRUCTURE[] =
        {0x84, 0x6a, 'S', 'i', 'g', 'n', 'a', 't', 'u', 'r', 'e', '1'};
    """
    const uint8_t SIGN1[2]
    const uint8_t STATEMENT_PROTECTED[8]
    const uint8_t SIGNAL_PROTECTED[5]
    const uint8_t SIGNAL_SEQUENCE[6]
    const uint8_t STATEMENT_UNPROTECTED[3]
    const uint8_t SIGNAL_UNPROTECTED[1]
    const uint8_t VERSION_TAG[6]
    const uint8_t TAG_HEAD[1]
    const uint8_t SIGNATURE_HEAD[2]
    const uint8_t SIG_STRUCTURE[12]

cdef enum:
    KID_BYTES = 16
    TAG_BYTES = 4
    KEY_BYTES = 32
    SIGNATURE_BYTES = 64
    DIGEST_BYTES = 32
    KINDS = 32  # one more than the greatest kind is enough
    # A signed message up to this size is put together on the stack; only blocks are longer.
    STACK_BYTES = 2048

# Places in _REJECTS; what `Reject` itself counts is its own affair.
cdef enum:
    OK = 0
    SIZE = 1
    SHAPE = 2
    CANONICAL = 3
    VERSION = 4
    MESH = 5
    KIND = 6
    KIND_SIZE = 7
    SENDER = 8
    REPLAY = 9
    SIGNATURE = 10
    PAYLOAD = 11
    BUDGET = 12

cdef int DEPTH_MAX = _reference.DEPTH_MAX
cdef uint64_t WINDOW = _reference.WINDOW
cdef Py_ssize_t CACHE_MAX = _reference.CACHE_MAX
cdef Py_ssize_t FRAME_MAX = FRAME_BYTES_MAX
cdef uint64_t OLDEST = WIRE_VERSION_OLDEST
cdef int FIRST_SIGNAL = _frame.FIRST_SIGNAL

cdef tuple _REJECTS = (
    None,
    Reject.SIZE,
    Reject.SHAPE,
    Reject.CANONICAL,
    Reject.VERSION,
    Reject.MESH,
    Reject.KIND,
    Reject.KIND_SIZE,
    Reject.SENDER,
    Reject.REPLAY,
    Reject.SIGNATURE,
    Reject.PAYLOAD,
    Reject.BUDGET,
)
cdef list _KINDS = [None] * KINDS
cdef Py_ssize_t _LIMITS[KINDS]
for _kind in Kind:
    _KINDS[_kind] = _kind
    _LIMITS[<int> _kind] = KIND_BYTES_MAX[_kind]

assert WINDOW == 64, "the window is one machine word"


# -- libsodium ------------------------------------------------------------------------------------

ctypedef int (*sign_open_t)(
    uint8_t*, unsigned long long*, const uint8_t*, unsigned long long, const uint8_t*
) noexcept nogil

ctypedef int (*blake2b_t)(
    uint8_t*, size_t, const uint8_t*, unsigned long long, const uint8_t*, size_t,
    const uint8_t*, const uint8_t*
) noexcept nogil

cdef sign_open_t _sign_open = NULL
cdef blake2b_t _blake2b = NULL


cdef uintptr_t _address(str name):
    """The address of a function of PyNaCl's libsodium, or 0."""
    try:
        from nacl._sodium import ffi, lib
    except ImportError:
        return 0
    try:
        return <uintptr_t> int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))
    except (AttributeError, TypeError, ffi.error):
        return 0


cdef bint _opens_known_answers(sign_open_t function) noexcept:
    """RFC 8032 7.1 test 2, as it is and with one bit changed."""
    cdef unsigned long long size = 0
    cdef bytes key = bytes.fromhex(
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    )
    cdef bytes good = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00" "72"
    )
    cdef bytes bad = good[:64] + b"\x73"
    return (
        function(NULL, &size, <const uint8_t*> good, 65, <const uint8_t*> key) == 0
        and function(NULL, &size, <const uint8_t*> bad, 65, <const uint8_t*> key) != 0
    )


cdef bint _hashes_known_answers(blake2b_t function) noexcept:
    cdef uint8_t out[DIGEST_BYTES]
    cdef bytes message = b"abc"
    if function(out, DIGEST_BYTES, <const uint8_t*> message, 3, NULL, 0, NULL, NULL) != 0:
        return False
    return out[:DIGEST_BYTES] == hashlib.blake2b(message, digest_size=DIGEST_BYTES).digest()


_sign_open = <sign_open_t> _address("crypto_sign_open")
if _sign_open != NULL and not _opens_known_answers(_sign_open):
    _sign_open = NULL
_blake2b = <blake2b_t> _address("crypto_generichash_blake2b_salt_personal")
if _blake2b != NULL and not _hashes_known_answers(_blake2b):
    _blake2b = NULL

DIRECT = _sign_open != NULL and _blake2b != NULL
"""Whether libsodium is called without a detour."""


cdef bint _opens(const uint8_t* signed, Py_ssize_t size, const uint8_t* key) except -1:
    """Whether `signed` is signature and message of `key`: libsodium's rule, cofactorless."""
    cdef unsigned long long opened = 0
    cdef int status
    if _sign_open != NULL:
        with nogil:
            status = _sign_open(NULL, &opened, signed, size, key)
        return status == 0
    try:
        bindings.crypto_sign_open(signed[:size], key[:KEY_BYTES])
    except BadSignatureError:
        return False
    return True


cdef bytes _digest(bytes frame):
    cdef uint8_t out[DIGEST_BYTES]
    if _blake2b == NULL:
        return hashlib.blake2b(frame, digest_size=DIGEST_BYTES).digest()
    _blake2b(out, DIGEST_BYTES, <const uint8_t*> frame, len(frame), NULL, 0, NULL, NULL)
    return out[:DIGEST_BYTES]


# -- deterministic CBOR ---------------------------------------------------------------------------


def canonical(bytes data not None):
    """Whether `data` is exactly one item of deterministic CBOR (RFC 8949 4.2.1) as Demesh uses it.

    Shortest heads, definite lengths, map keys strictly ascending bytewise, valid UTF-8, nesting at
    most 16; no tags, no floats, of simple values only false, true and null.
    """
    return _canonical(data, len(data))


cdef bint _canonical(const uint8_t* data, Py_ssize_t size) noexcept nogil:
    return _walk(data, data + size, 0) == data + size


cdef const uint8_t* _walk(const uint8_t* at, const uint8_t* end, int depth) noexcept nogil:
    """Where the item at `at` ends, or NULL."""
    cdef uint8_t first
    cdef int major, size, i
    cdef uint64_t argument
    if at >= end:
        return NULL
    first = at[0]
    major = first >> 5
    if major == 7:
        return at + 1 if 0xF4 <= first <= 0xF6 else NULL
    argument = first & 0x1F
    at += 1
    if argument >= 24:
        if argument > 27:
            return NULL
        size = 1 << <int> (argument - 24)
        if size > end - at:
            return NULL
        argument = 0
        for i in range(size):
            argument = argument << 8 | at[i]
        at += size
        if argument < _least(size):
            return NULL
    if major <= 1:
        return at
    if argument > <uint64_t> (end - at):  # a byte or more for each byte, item or pair
        return NULL
    if major == 2:
        return at + argument
    if major == 3:
        return at + argument if _utf8(at, at + argument) else NULL
    if major == 6 or depth == DEPTH_MAX:
        return NULL
    if major == 5:
        return _walk_map(at, end, argument, depth)
    while argument > 0:
        at = _walk(at, end, depth + 1)
        if at == NULL:
            return NULL
        argument -= 1
    return at


cdef const uint8_t* _walk_map(
    const uint8_t* at, const uint8_t* end, uint64_t count, int depth
) noexcept nogil:
    cdef const uint8_t* key
    cdef const uint8_t* previous = NULL
    cdef Py_ssize_t size, previous_size = 0
    while count > 0:
        key = at
        at = _walk(at, end, depth + 1)
        if at == NULL:
            return NULL
        size = at - key
        if previous != NULL and not _ascends(previous, previous_size, key, size):
            return NULL
        previous = key
        previous_size = size
        at = _walk(at, end, depth + 1)
        if at == NULL:
            return NULL
        count -= 1
    return at


cdef inline bint _ascends(
    const uint8_t* low, Py_ssize_t low_size, const uint8_t* high, Py_ssize_t high_size
) noexcept nogil:
    cdef int order = memcmp(low, high, low_size if low_size < high_size else high_size)
    return order < 0 or (order == 0 and low_size < high_size)


cdef inline uint64_t _least(int size) noexcept nogil:
    """The least argument that needs `size` bytes."""
    return 24 if size == 1 else (<uint64_t> 1) << (4 * size)


cdef bint _utf8(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Well-formed UTF-8: Unicode 15, table 3-7."""
    cdef uint8_t first, low, high
    cdef int more
    while at < end:
        first = at[0]
        at += 1
        if first < 0x80:
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= first <= 0xDF:
            more = 1
        elif 0xE0 <= first <= 0xEF:
            more = 2
            if first == 0xE0:
                low = 0xA0
            elif first == 0xED:
                high = 0x9F
        elif 0xF0 <= first <= 0xF4:
            more = 3
            if first == 0xF0:
                low = 0x90
            elif first == 0xF4:
                high = 0x8F
        else:
            return False
        if more > end - at or not low <= at[0] <= high:
            return False
        at += 1
        more -= 1
        while more > 0:
            if not 0x80 <= at[0] <= 0xBF:
                return False
            at += 1
            more -= 1
    return True


# -- envelope -------------------------------------------------------------------------------------

cdef struct Cursor:
    const uint8_t* at
    const uint8_t* end

cdef struct Parts:
    bint signal
    uint64_t kind
    uint64_t boot
    uint64_t seq
    uint64_t version
    const uint8_t* kid
    const uint8_t* tag
    const uint8_t* protected
    const uint8_t* protected_end
    const uint8_t* payload
    const uint8_t* payload_content
    const uint8_t* payload_end


cdef inline bint _misses(Cursor* c, const uint8_t* constant, Py_ssize_t size) noexcept nogil:
    """Read `constant`, or say that something else is there."""
    if size > c.end - c.at or memcmp(c.at, constant, size) != 0:
        return True
    c.at += size
    return False


cdef inline bint _short(Cursor* c, uint64_t size, const uint8_t** start) noexcept nogil:
    """Read `size` bytes at `start`, or say that they are not there."""
    if size > <uint64_t> (c.end - c.at):
        return True
    start[0] = c.at
    c.at += size
    return False


cdef inline int _argument(Cursor* c, int major, uint64_t* value) noexcept nogil:
    """Read a head of this major type: OK, SHAPE or CANONICAL."""
    cdef int info, size, i
    if c.at >= c.end or c.at[0] >> 5 != major:
        return SHAPE
    info = c.at[0] & 0x1F
    if 28 <= info <= 30:
        return SHAPE
    if info == 31:
        return CANONICAL
    c.at += 1
    if info < 24:
        value[0] = info
        return OK
    size = 1 << (info - 24)
    if size > c.end - c.at:
        return SHAPE
    value[0] = 0
    for i in range(size):
        value[0] = value[0] << 8 | c.at[i]
    c.at += size
    return CANONICAL if value[0] < _least(size) else OK


cdef int _read(const uint8_t* data, Py_ssize_t size, Parts* p) noexcept nogil:
    """Read an envelope into `p`: OK, SHAPE or CANONICAL."""
    cdef Cursor outer, inner
    cdef const uint8_t* skipped
    cdef uint64_t length = 0
    cdef int fault
    outer.at = data
    outer.end = data + size
    if _misses(&outer, SIGN1, sizeof(SIGN1)):
        return SHAPE
    p.protected = outer.at
    fault = _argument(&outer, 2, &length)
    if fault:
        return fault
    if _short(&outer, length, &inner.at):
        return SHAPE
    inner.end = outer.at
    p.protected_end = outer.at
    p.boot = p.seq = 0
    p.signal = length > 0 and inner.at[0] == SIGNAL_PROTECTED[0]
    fault = _read_signal(&inner, &outer, p) if p.signal else _read_statement(&inner, &outer, p)
    if fault:
        return fault
    if _misses(&outer, VERSION_TAG, sizeof(VERSION_TAG)):
        return SHAPE
    fault = _argument(&outer, 0, &p.version)
    if fault:
        return fault
    if _misses(&outer, TAG_HEAD, sizeof(TAG_HEAD)) or _short(&outer, TAG_BYTES, &p.tag):
        return SHAPE
    p.payload = outer.at
    fault = _argument(&outer, 2, &length)
    if fault:
        return fault
    if _short(&outer, length, &p.payload_content):
        return SHAPE
    p.payload_end = outer.at
    if (
        _misses(&outer, SIGNATURE_HEAD, sizeof(SIGNATURE_HEAD))
        or _short(&outer, SIGNATURE_BYTES, &skipped)
        or outer.at != outer.end
    ):
        return SHAPE
    return OK


cdef int _read_signal(Cursor* inner, Cursor* outer, Parts* p) noexcept nogil:
    cdef int fault
    if (
        _misses(inner, SIGNAL_PROTECTED, sizeof(SIGNAL_PROTECTED))
        or _short(inner, KID_BYTES, &p.kid)
        or _misses(inner, SIGNAL_SEQUENCE, sizeof(SIGNAL_SEQUENCE))
    ):
        return SHAPE
    fault = _argument(inner, 0, &p.kind)
    if fault:
        return fault
    fault = _argument(inner, 0, &p.boot)
    if fault:
        return fault
    fault = _argument(inner, 0, &p.seq)
    if fault:
        return fault
    if inner.at != inner.end or _misses(outer, SIGNAL_UNPROTECTED, sizeof(SIGNAL_UNPROTECTED)):
        return SHAPE
    return OK


cdef int _read_statement(Cursor* inner, Cursor* outer, Parts* p) noexcept nogil:
    cdef int fault
    if _misses(inner, STATEMENT_PROTECTED, sizeof(STATEMENT_PROTECTED)):
        return SHAPE
    fault = _argument(inner, 0, &p.kind)
    if fault:
        return fault
    if (
        inner.at != inner.end
        or _misses(outer, STATEMENT_UNPROTECTED, sizeof(STATEMENT_UNPROTECTED))
        or _short(outer, KID_BYTES, &p.kid)
    ):
        return SHAPE
    return OK


def read_envelope(bytes frame not None):
    """The envelope of a frame of any version, mesh and kind; SHAPE or CANONICAL if it is none."""
    cdef Parts p
    cdef const uint8_t* data = frame
    cdef int fault = _read(data, len(frame), &p)
    if fault:
        return _REJECTS[fault]
    return _reference.Envelope(
        bool(p.signal),
        p.kind,
        p.kid[:KID_BYTES],
        p.boot,
        p.seq,
        p.version,
        p.tag[:TAG_BYTES],
        (p.protected - data, p.protected_end - data),
        (p.payload - data, p.payload_end - data),
        p.payload_content - p.payload,
    )


# -- replay window --------------------------------------------------------------------------------


cdef class Window:
    """Which (boot, seq) of one sender were used: the highest, and the 64 below it as a bitmap."""

    cdef uint64_t _boot, _seq, _bitmap

    def high(self):
        """The highest (boot, seq) used, or None."""
        return (self._boot, self._seq) if self._bitmap else None

    def used(self, uint64_t boot, uint64_t seq):
        """Whether (boot, seq) was used, or is too old to know."""
        return bool(self._used(boot, seq))

    def use(self, uint64_t boot, uint64_t seq):
        """Mark (boot, seq) as used; False, and no change, if it was."""
        return bool(self._use(boot, seq))

    def raise_to(self, uint64_t boot, uint64_t seq):
        """Treat (boot, seq) and all before it as used; a window is never lowered."""
        if (
            self._bitmap == 0
            or boot > self._boot
            or (boot == self._boot and seq >= self._seq)
        ):
            self._boot = boot
            self._seq = seq
            self._bitmap = ~(<uint64_t> 0)

    cdef inline bint _used(self, uint64_t boot, uint64_t seq) noexcept:
        if self._bitmap == 0 or boot > self._boot:
            return False
        if boot < self._boot:
            return True
        if seq > self._seq:
            return False
        return self._seq - seq >= WINDOW or (self._bitmap >> (self._seq - seq)) & 1

    cdef inline bint _use(self, uint64_t boot, uint64_t seq) noexcept:
        cdef uint64_t ahead
        if self._used(boot, seq):
            return False
        if self._bitmap == 0 or boot > self._boot:
            self._boot = boot
            self._seq = seq
            self._bitmap = 1
        elif seq > self._seq:
            ahead = seq - self._seq
            self._bitmap = (self._bitmap << ahead if ahead < WINDOW else 0) | 1
            self._seq = seq
        else:
            self._bitmap |= (<uint64_t> 1) << (self._seq - seq)
        return True


# -- validator ------------------------------------------------------------------------------------


cdef class View:
    """A valid frame's fields; `payload` is a slice of the frame. A statement has boot = seq = 0."""

    cdef readonly object kind
    cdef readonly bytes sender
    cdef readonly uint64_t boot
    cdef readonly uint64_t seq
    cdef object _payload
    cdef bytes _frame
    cdef Py_ssize_t _start, _end

    def __init__(self, kind, bytes sender, uint64_t boot, uint64_t seq, payload):
        self.kind = kind
        self.sender = sender
        self.boot = boot
        self.seq = seq
        self._payload = payload

    @property
    def payload(self):
        """A read-only memoryview of the frame, made when first asked for."""
        if self._payload is None:
            self._payload = memoryview(self._frame)[self._start : self._end]
        return self._payload

    def __eq__(self, other):
        if type(other) is not View:
            return NotImplemented
        return self._fields() == (<View> other)._fields()

    def __hash__(self):
        return hash(self._fields())

    def __repr__(self):
        return (
            f"View(kind={self.kind!r}, sender={self.sender!r}, boot={self.boot!r}, "
            f"seq={self.seq!r}, payload={self.payload!r})"
        )

    cdef tuple _fields(self):
        return (self.kind, self.sender, self.boot, self.seq, self.payload)


cdef class Allowance:
    """What one source of frames may still cost: `failures` of signatures, `repeats` of statements.

    A `reserved` one pays for every signature, and what the signer may still say does not matter.
    """

    cdef public long long failures
    cdef public long long repeats
    cdef public bint reserved

    def __init__(self, long long failures, long long repeats, bint reserved=False):
        self.failures = failures
        self.repeats = repeats
        self.reserved = reserved


cdef class _Sender:
    cdef uint8_t key[KEY_BYTES]
    cdef Window window
    cdef long long credit[2]  # new valid frames that it may still have: statements, signals


cdef class Validator:
    """Checks the frames of one mesh against the enrolled senders."""

    cdef bytes _aad
    cdef uint8_t _tag[TAG_BYTES]
    cdef uint64_t _newest
    cdef long long _most
    cdef dict _senders
    cdef dict _young
    cdef dict _old

    def __init__(self, binding, uint64_t newest=WIRE_VERSION):
        """`newest`: the wire version up to which it understands frames."""
        cdef bytes tag = binding.tag
        self._aad = _frame.bstr(binding.aad)
        memcpy(self._tag, <const uint8_t*> tag, TAG_BYTES)
        self._newest = newest
        self._most = 0
        self._senders = {}
        # Verified frames in two generations: full, the young one replaces the old one.
        self._young = {}
        self._old = {}

    def enrol(self, bytes kid not None, bytes public_key not None):
        """Accept frames of this key from now on; ValueError if the key is bad or not the kid's.

        Enrolling again changes nothing. Whoever enrols after `forget` restores the window too.
        """
        cdef _Sender sender
        if not is_public_key(public_key):
            raise ValueError(f"not an Ed25519 public key: {public_key.hex()}")
        if device_id(public_key) != kid:
            raise ValueError(f"key {public_key.hex()} has another id than {kid.hex()}")
        if kid not in self._senders:
            sender = _Sender.__new__(_Sender)
            memcpy(sender.key, <const uint8_t*> public_key, KEY_BYTES)
            sender.window = Window.__new__(Window)
            sender.credit[0] = sender.credit[1] = self._most
            self._senders[kid] = sender

    def forget(self, bytes kid not None):
        """Accept nothing more from this sender; its window is lost."""
        self._senders.pop(kid, None)

    def replenish(self, long long count, long long most):
        """Let senders have `count` more new frames of each family, `most` in all; new ones that."""
        cdef _Sender sender
        self._most = most
        for sender in self._senders.values():
            sender.credit[0] = min(sender.credit[0] + count, most)
            sender.credit[1] = min(sender.credit[1] + count, most)

    def window(self, bytes kid not None):
        """The highest (boot, seq) of this sender's signals, or None."""
        cdef _Sender sender = self._senders.get(kid)
        return sender.window.high() if sender is not None else None

    def set_window(self, bytes kid not None, uint64_t boot, uint64_t seq):
        """After a restart: all up to (boot, seq) was used. Never lowers; KeyError if unknown."""
        cdef _Sender sender = self._senders[kid]
        sender.window.raise_to(boot, seq)

    def verify(self, bytes kid not None, bytes message not None, bytes signature not None):
        """Whether an enrolled sender signed `message`, as part of a certificate for example."""
        cdef _Sender sender = self._senders.get(kid)
        cdef uint8_t stack[STACK_BYTES]
        cdef uint8_t* signed = stack
        cdef Py_ssize_t size = SIGNATURE_BYTES + len(message)
        if sender is None or len(signature) != SIGNATURE_BYTES:
            return False
        if size > STACK_BYTES:
            signed = <uint8_t*> malloc(size)
            if signed == NULL:
                raise MemoryError()
        try:
            memcpy(signed, <const uint8_t*> signature, SIGNATURE_BYTES)
            memcpy(signed + SIGNATURE_BYTES, <const uint8_t*> message, len(message))
            return bool(_opens(signed, size, sender.key))
        finally:
            if signed != stack:
                free(signed)

    def charge(self, bytes kid not None, long long count):
        """Let a sender have `count` fewer new statements, for what one of them has cost."""
        cdef _Sender sender = self._senders.get(kid)
        if sender is not None:
            sender.credit[0] -= count

    def check_batch(self, frames, Allowance allowance=None):
        """The verdict of each frame, in order, as if checked one after the other."""
        return [self._check(frame, allowance, False) for frame in frames]

    def peek(self, frame):
        """What `check` would see of a frame if its signature held; counts and moves nothing."""
        return self._check(frame, None, True)

    def check(self, frame, Allowance allowance=None):
        """The view of a valid frame, or the first reason to reject it.

        With an allowance it may be BUDGET, and what the frame costs is taken from it; without one
        nothing is counted.
        """
        return self._check(frame, allowance, False)

    cdef object _check(self, object untyped, Allowance allowance, bint peeking):
        cdef bytes frame
        cdef const uint8_t* data
        cdef Parts p
        cdef _Sender sender
        cdef Py_ssize_t size
        cdef int fault
        cdef bytes kid
        if type(untyped) is not bytes:
            raise TypeError(f"a frame is bytes, got {type(untyped).__name__}")
        frame = <bytes> untyped
        size = len(frame)
        if size == 0 or size > FRAME_MAX:
            return _REJECTS[SIZE]
        data = frame
        fault = self._check_envelope(data, size, &p)
        if fault:
            return _REJECTS[fault]
        kid = p.kid[:KID_BYTES]
        sender = self._senders.get(kid)
        if sender is None:
            return _REJECTS[SENDER]
        if peeking:
            if p.signal and sender.window._used(p.boot, p.seq):
                return _REJECTS[REPLAY]
            return _view(frame, data, &p, kid)
        if p.signal:
            fault = self._check_signal(data, size, &p, sender, allowance)
        else:
            fault = self._check_statement(frame, data, size, &p, sender, allowance)
        if fault:
            return _REJECTS[fault]
        return _view(frame, data, &p, kid)

    cdef int _check_envelope(self, const uint8_t* data, Py_ssize_t size, Parts* p) noexcept:
        cdef int fault = _read(data, size, p)
        if fault:
            return fault
        if p.version < OLDEST or p.version > self._newest:
            return VERSION
        if memcmp(p.tag, self._tag, TAG_BYTES) != 0:
            return MESH
        if p.kind >= KINDS or _LIMITS[p.kind] == 0 or (<int> p.kind >= FIRST_SIGNAL) != p.signal:
            return KIND
        if size > _LIMITS[p.kind]:
            return KIND_SIZE
        return OK

    cdef int _check_signal(
        self, const uint8_t* data, Py_ssize_t size, Parts* p, _Sender sender, Allowance allowance
    ) except -1:
        cdef int fault
        if sender.window._used(p.boot, p.seq):
            return REPLAY
        fault = self._check_signature(data, size, p, sender, allowance)
        if fault:
            return fault
        if not sender.window._use(p.boot, p.seq):  # another thread, while libsodium ran
            return REPLAY
        return OK if _canonical(p.payload_content, p.payload_end - p.payload_content) else PAYLOAD

    cdef int _check_statement(
        self,
        bytes frame,
        const uint8_t* data,
        Py_ssize_t size,
        Parts* p,
        _Sender sender,
        Allowance allowance,
    ) except -1:
        cdef bytes digest
        cdef int fault
        if allowance is not None and allowance.failures <= 0 and allowance.repeats <= 0:
            return BUDGET
        digest = _digest(frame)
        if digest in self._young or digest in self._old:
            if allowance is not None:
                if allowance.repeats <= 0:
                    return BUDGET
                allowance.repeats -= 1
            return OK
        fault = self._check_signature(data, size, p, sender, allowance)
        if fault:
            return fault
        if not _canonical(p.payload_content, p.payload_end - p.payload_content):
            return PAYLOAD
        if len(self._young) >= CACHE_MAX:
            self._old = self._young
            self._young = {}
        self._young[digest] = None
        return OK

    cdef int _check_signature(
        self, const uint8_t* data, Py_ssize_t size, Parts* p, _Sender sender, Allowance allowance
    ) except -1:
        """BUDGET or SIGNATURE, or OK; counts what it cost."""
        cdef bint holds
        if allowance is not None and (
            allowance.failures <= 0 or (sender.credit[p.signal] <= 0 and not allowance.reserved)
        ):
            return BUDGET
        holds = self._signed(data, size, p, sender)
        if allowance is not None:
            if allowance.reserved or not holds:
                allowance.failures -= 1
            else:
                sender.credit[p.signal] -= 1
        return OK if holds else SIGNATURE

    cdef bint _signed(
        self, const uint8_t* data, Py_ssize_t size, Parts* p, _Sender sender
    ) except -1:
        """Whether the frame's signature holds over its COSE Sig_structure."""
        cdef uint8_t stack[STACK_BYTES]
        cdef uint8_t* signed = stack
        cdef uint8_t* at
        cdef Py_ssize_t protected = p.protected_end - p.protected
        cdef Py_ssize_t payload = p.payload_end - p.payload
        cdef Py_ssize_t aad = len(self._aad)
        cdef Py_ssize_t total = (
            SIGNATURE_BYTES + <Py_ssize_t> sizeof(SIG_STRUCTURE) + protected + aad + payload
        )
        if total > STACK_BYTES:
            signed = <uint8_t*> malloc(total)
            if signed == NULL:
                raise MemoryError()
        at = signed
        memcpy(at, data + size - SIGNATURE_BYTES, SIGNATURE_BYTES)
        at += SIGNATURE_BYTES
        memcpy(at, SIG_STRUCTURE, sizeof(SIG_STRUCTURE))
        at += sizeof(SIG_STRUCTURE)
        memcpy(at, p.protected, protected)
        at += protected
        memcpy(at, <const uint8_t*> self._aad, aad)
        at += aad
        memcpy(at, p.payload, payload)
        try:
            return _opens(signed, total, sender.key)
        finally:
            if signed != stack:
                free(signed)


cdef View _view(bytes frame, const uint8_t* data, Parts* p, bytes kid):
    cdef View view = View.__new__(View)
    view.kind = _KINDS[p.kind]
    view.sender = kid
    view.boot = p.boot
    view.seq = p.seq
    view._frame = frame
    view._start = p.payload_content - data
    view._end = p.payload_end - data
    return view


# A constant changed in one place only would be found here, before it could split a mesh.
assert SIGN1[: sizeof(SIGN1)] == _frame.SIGN1
assert STATEMENT_PROTECTED[: sizeof(STATEMENT_PROTECTED)] == _frame.STATEMENT_PROTECTED
assert SIGNAL_PROTECTED[: sizeof(SIGNAL_PROTECTED)] == _frame.SIGNAL_PROTECTED
assert SIGNAL_SEQUENCE[: sizeof(SIGNAL_SEQUENCE)] == _frame.SIGNAL_SEQUENCE
assert STATEMENT_UNPROTECTED[: sizeof(STATEMENT_UNPROTECTED)] == _frame.STATEMENT_UNPROTECTED
assert SIGNAL_UNPROTECTED[: sizeof(SIGNAL_UNPROTECTED)] == _frame.SIGNAL_UNPROTECTED
assert VERSION_TAG[: sizeof(VERSION_TAG)] == _frame.VERSION_TAG
assert TAG_HEAD[: sizeof(TAG_HEAD)] == _frame.TAG_HEAD
assert SIGNATURE_HEAD[: sizeof(SIGNATURE_HEAD)] == _frame.SIGNATURE_HEAD
assert SIG_STRUCTURE[: sizeof(SIG_STRUCTURE)] == _frame.SIG_STRUCTURE
