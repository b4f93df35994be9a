"""Another implementation of the wire's encoding, which knows the documents and no code.

It reads the definitions in docs/protocol.md and docs/demesh.cddl, draws the cases of annex A and
makes their frames with an encoder of its own. If its hashes are those of conformance.toml, what the
documents say is enough.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from nacl.public import Box
from nacl.signing import SigningKey

DOCS = Path(__file__).parents[2] / "docs"
PROTOCOL = (DOCS / "protocol.md").read_text("utf-8")
CDDL = (DOCS / "demesh.cddl").read_text("utf-8")

Value = int | bytes | str | bool | None | list["Value"]


def b2(content: bytes, size: int, key: bytes = b"") -> bytes:
    return hashlib.blake2b(content, key=key, digest_size=size).digest()


# -- RFC 8949 -------------------------------------------------------------------------------------


def head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major * 32 + argument])
    for size, info in ((1, 24), (2, 25), (4, 26), (8, 27)):
        if argument < 256**size:
            return bytes([major * 32 + info]) + argument.to_bytes(size, "big")
    raise ValueError(f"{argument} does not fit a head")


def cbor(value: Value) -> bytes:
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    return head(4, len(value)) + b"".join(cbor(item) for item in value)


# -- what the documents define --------------------------------------------------------------------

# name -> [(field, type)]
MESSAGES: dict[str, list[tuple[str, str]]] = {}
for block in re.findall(r"```text\n(.*?)```", PROTOCOL, re.S):
    for name, body in re.findall(r"^([A-Z]\w+) = \[(.*(?:\n    .*)*)\]$", block, re.M):
        listed = re.split(r", (?=(?:\? )?\w+: )", re.sub(r"\s+", " ", body))
        MESSAGES[name] = [(field, type_) for field, _, type_ in (x.partition(": ") for x in listed)]

FLAT = re.sub(r"\s+", " ", PROTOCOL)
ENUMS = {
    name: [int(number) for number in re.findall(r"(\d+) [A-Z]", listed)]
    for name, listed in re.findall(r"\b([A-Z]\w+): ((?:\d+ [A-Z_]+(?:, )?)+)[.;]", FLAT)
}
OP_FIELDS = re.search(r"is the encoded ((?:\w+(?:, | or ))+\w+)\.", FLAT)
assert OP_FIELDS is not None
OP_BODIES = re.split(", | or ", OP_FIELDS[1])

# table -> (wire version, has it what messages have grown by?), and what the tables before had
TABLES = {
    name: (int(version), grown == "yes")
    for name, version, grown in re.findall(
        r"^\| `([\w-]+)` \| (\d) \| (yes|no) \|$", PROTOCOL, re.M
    )
}
BEFORE = {name: int(n) for n, name in re.findall(r"the first (\d+) of `(\w+)`", FLAT)}

KINDS = {
    name: (int(number), family, payload)
    for number, name, family, payload in re.findall(
        r"^\| (\d+) \| ([A-Z]+) \| (statement|signal) \| \d+ \| (\w+) \|$", PROTOCOL, re.M
    )
}

# (message, field) -> what its byte string holds
HELD: dict[tuple[str, str], str] = {}
for rule, body in re.findall(r"^([A-Z]\w+) = \[\n(.*?)^\]$", CDDL, re.M | re.S):
    for field, held in re.findall(r"^  (\w+): .*?hold\w*<\([\d.]+\), ([\w-]+)>", body, re.M):
        HELD[rule, field] = held.removesuffix("-frame").upper() if "-" in held else held


def bounds(type_: str) -> tuple[int, int]:
    """Of `u32`, `s53`, `int(-1..8)`, `bytes(16)`, `text(1..64)`."""
    if found := re.fullmatch(r"u(\d+)", type_):
        return 0, 2 ** int(found[1]) - 1
    if type_ == "s53":
        return 1 - 2**53, 2**53 - 1
    found = re.fullmatch(r"\w+\((-?\d+)(?:\.\.(\d+))?\)", type_)
    assert found is not None, f"{type_} has no bounds"
    return int(found[1]), int(found[2] or found[1])


MESH = b2(b"conformance mesh", 32)


@cache
def pen(number: int) -> SigningKey:
    return SigningKey(b2(b"conformance key %d" % number, 32))


# -- annex A --------------------------------------------------------------------------------------


class Case:
    """One case: its stream, and what is drawn from it."""

    def __init__(self, seed: str, kind: str, number: int, table: str) -> None:
        self.name = f"{seed}/{kind}/{number}"
        self.stream, self.blocks = b"", 0
        version, self.grown = TABLES[table.removesuffix("-sealed")]
        self.version_tag = b"\x3a\x00\x01\x00\x01" + cbor([version, MESH[:4]])
        self.otherwise: dict[str, Callable[[], Value]] = {
            "Op": self.op,
            "Statement": self.statement,
            "Certificate": self.certificate,
            "Path": self.path,
        }

    def take(self, count: int) -> bytes:
        while len(self.stream) < count:
            self.stream += b2(f"{self.name}/{self.blocks}".encode(), 64)
            self.blocks += 1
        taken, self.stream = self.stream[:count], self.stream[count:]
        return taken

    def draw(self, below: int) -> int:
        return int.from_bytes(self.take(8), "big") % below

    def frame(self, kind: str) -> bytes:
        number, family, message = KINDS[kind]
        sender = pen(self.draw(4))
        kid = b2(bytes(sender.verify_key), 16)
        if family == "statement":
            protected = b"\xa2\x01\x32\x3a\x00\x01\x00\x00" + cbor(number)
            unprotected = b"\xa2\x04" + cbor(kid) + self.version_tag
        else:
            boot, seq = self.integer(0, 2**64 - 1), self.integer(0, 2**64 - 1)
            told = cbor([number, boot, seq])
            protected = b"\xa3\x01\x32\x04" + cbor(kid) + b"\x3a\x00\x01\x00\x00" + told
            unprotected = b"\xa1" + self.version_tag
        payload = cbor(self.message(message))
        signed = cbor(["Signature1", protected, cbor([MESH, 7]), payload])
        signature = sender.sign(signed).signature
        self.sender, self.kid = sender, kid  # of the outermost frame: it is made last
        inside = cbor(protected) + unprotected + cbor(payload) + cbor(signature)
        return b"\xd2\x84" + inside

    def message(self, name: str) -> Value:
        if name in self.otherwise:
            return self.otherwise[name]()
        listed = MESSAGES[name]
        late = [field for field, _ in listed if field.startswith("? ")]
        least = count = len(listed) - len(late)
        if late and self.grown:
            count += self.draw(len(late) + 1)
        drawn = [
            self.value(type_, HELD.get((name, field.removeprefix("? "))))
            for field, type_ in listed[:count]
        ]
        while len(drawn) > least and drawn[-1] in (None, 0, "", b"", []):
            drawn.pop()
        return drawn

    def known(self, enum: str) -> list[int]:
        return ENUMS[enum][: None if self.grown else BEFORE.get(enum)]

    def value(self, type_: str, held: str | None = None) -> Value:
        if type_.endswith(" / null"):
            return self.value(type_.removesuffix(" / null")) if self.draw(2) else None
        if array := re.fullmatch(r"\[(\d+)\*(\d+) (.+)\]", type_):
            count = self.length(int(array[1]), int(array[2]), 2)
            return [self.value(array[3], held) for _ in range(count)]
        if type_ in MESSAGES:
            return self.message(type_)
        if type_ in ENUMS:
            return self.known(type_)[self.draw(len(self.known(type_)))]
        if type_ == "bool":
            return bool(self.draw(2))
        least, greatest = bounds(type_)
        if type_.startswith("text"):
            count = self.length(least, greatest, 15)
            return "".join("\x61\xe9\u2603\U0001f600"[self.draw(4)] for _ in range(count))
        if not type_.startswith("bytes"):
            return self.integer(least, greatest)
        if held is None:
            return self.take(self.length(least, greatest, 32))
        if least == 0 and self.draw(2) == 0:
            return b""
        return self.frame(held) if held in KINDS else cbor(self.message(held))

    def length(self, least: int, greatest: int, more: int) -> int:
        return least + self.draw(min(greatest - least, more) + 1)

    def integer(self, least: int, greatest: int) -> int:
        choice = self.draw(4)
        if choice < 2:
            return (least, greatest)[choice]
        span = greatest - least
        return least + self.draw((min(span, 1000) if choice == 2 else span) + 1)

    def op(self) -> Value:
        type_ = self.known("OpType")[self.draw(len(self.known("OpType")))]
        nonce, until_s = self.take(8), self.integer(0, 2**53 - 1)
        return [type_, nonce, until_s, cbor(self.message(OP_BODIES[ENUMS["OpType"].index(type_)]))]

    def statement(self) -> Value:
        kind = ENUMS["StatementKind"][self.draw(3)]
        epoch, view = self.integer(0, 2**32 - 1), self.integer(0, 2**64 - 1)
        digest = b"" if kind == 2 else self.take(32)
        return [kind, epoch, view, digest, self.integer(0, 2**32 - 1)]

    def certificate(self) -> Value:
        statement, voters, signatures, last = self.statement(), bytearray(), b"", -1
        for _ in range(1 + self.draw(3)):
            last += 1 + self.draw(40)
            voters.extend(bytes(last // 8 + 1 - len(voters)))
            voters[last // 8] |= 1 << last % 8
            signatures += self.take(64)
        return [statement, bytes(voters), signatures]

    def path(self) -> Value:
        steps: list[Value] = []
        last = -1
        for _ in range(self.draw(3)):
            last += 1 + self.draw(100)
            steps.append([last, self.take(32)])
        return [steps]

    def sealed(self, kind: str) -> bytes:
        frame = self.frame(kind)
        receiver, boot = pen(self.draw(4)), self.take(8)
        secret = b2(b"nonces", 32, bytes(self.sender))
        nonce = b2(cbor([MESH, 7]) + boot + (1).to_bytes(8, "big") + frame, 24, secret)
        box = Box(
            self.sender.to_curve25519_private_key(), receiver.to_curve25519_private_key().public_key
        )
        headers = b"\xa4\x01\x3a\x00\x01\x00\x02\x04" + cbor(self.kid) + b"\x05" + cbor(nonce)
        closed = cbor(box.encrypt(frame, nonce).ciphertext)
        return b"\xd0\x83\x40" + headers + self.version_tag + closed


def digest(seed: str, cases: int, kind: str, table: str) -> str:
    """The hash of a kind's cases."""
    drawn = (Case(seed, kind, number, table) for number in range(cases))
    made = (one.sealed(kind) if table.endswith("-sealed") else one.frame(kind) for one in drawn)
    return b2(b"".join(made), 32).hex()
