"""The target of sealed messages: what opens was sealed by the sender, and is written in one way."""

from __future__ import annotations

from nacl.public import Box
from nacl.signing import SigningKey

from demesh.wire.frame import Binding
from demesh.wire.kinds import SEALED_SINCE, WIRE_VERSION, Reject
from demesh.wire.sealing import Sealer
from fuzz import cbor
from fuzz.cbor import ARRAY, BYTES, MAP, TAG, Item
from fuzz.mutate import of_tree
from fuzz.target import Target, expect
from vectors.make import ALICE, BOB, kid_of

BINDING = Binding(bytes(range(32)), 1, SEALED_SINCE)
NONCE = 5
SIZES = (0, 1, 6, 7, 8, 200, 238, 239, 240, 241, 600, 3_000)  # a box is 16 bytes longer


def seals() -> Target:
    """As it came, and with its box made anew, so that odd headers stand before a box that opens."""
    sender, receiver = Sealer(ALICE, BINDING, 1), Sealer(BOB, BINDING, 1)
    alice, bob = (bytes(key.verify_key) for key in (ALICE, BOB))
    sealed = {sender.seal(bob, bytes(size)): bytes(size) for size in SIZES}
    others = [receiver.seal(alice, b"reflected"), Sealer(ALICE, BINDING, 2).seal(alice, b"myself")]

    def run(data: bytes) -> None:
        opened = receiver.open(alice, data)
        if not isinstance(opened, Reject):
            expect_sealed(data, opened)
            expect(sealed.get(data) == opened, "opened what nobody sealed", data.hex())
        again = with_a_true_box(data)
        if again is not None:
            opened = receiver.open(alice, again)
            if not isinstance(opened, Reject):
                expect_sealed(again, opened)

    return Target(run, (*sealed, *others), of_tree, bytes_max=8_192, burst=2)


def expect_sealed(data: bytes, opened: bytes) -> None:
    """A finding unless it is the one encoding of what it says, and says who, where and how."""
    root = cbor.read(data)
    expect(cbor.shortest(root) == data, "accepted a longer way to say it")
    expect(root.major == TAG and root.value == 16, "accepted another tag")
    protected, headers, box = root.items[0].items
    expect((protected.major, protected.content) == (BYTES, b""), "accepted a protected header")
    keys = [cbor.write(key) for key in headers.items[::2]]
    algorithm, kid, nonce, mesh = headers.items[1::2]
    expect(keys == [b"\x01", b"\x04", b"\x05", b"\x3a\x00\x01\x00\x01"], "other headers", keys)
    expect(cbor.write(algorithm) == b"\x3a\x00\x01\x00\x02", "another algorithm")
    expect(kid.content == kid_of(ALICE) and len(nonce.content) == 24, "another sender or nonce")
    version, tag = mesh.items
    expect(SEALED_SINCE <= version.value <= WIRE_VERSION, "another version", version.value)
    expect(tag.content == BINDING.tag, "another mesh")
    expect(_box(ALICE, BOB).decrypt(box.content, nonce.content) == opened, "another content")


def with_a_true_box(data: bytes) -> bytes | None:
    """The same with a box that opens by the nonce in it; None if it has no nonce."""
    try:
        root = cbor.read(data)
    except cbor.UnreadableError:
        return None
    parts = root.items[0].items if root.major == TAG and root.items[0].major == ARRAY else []
    for headers in parts:
        if headers.major != MAP:
            continue
        for key, value in zip(headers.items[::2], headers.items[1::2], strict=True):
            if key.value == NONCE and len(value.content) == 24 and parts[-1].major == BYTES:
                box = _box(ALICE, BOB).encrypt(b"a frame", value.content).ciphertext
                parts[-1] = Item(BYTES, content=box, width=parts[-1].width, lie=parts[-1].lie)
                return cbor.write(root)
    return None


def _box(private: SigningKey, public: SigningKey) -> Box:
    return Box(private.to_curve25519_private_key(), public.verify_key.to_curve25519_public_key())
