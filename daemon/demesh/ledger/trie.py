"""A persistent Merkle trie from keys to records: every change is a new value that shares the rest.

Theory of operation. A crit-bit tree: a `Branch` names the first bit in which the keys below it
differ, a `Leaf` holds a key and its record. Paths are compressed, so the shape follows from the set
of keys alone, and with it the root: no history, insertion order or restart shows in it. Bits are
read from the most significant down, so left to right is the order of the keys as bytes. The depth
is at most the number of bits of the longest key, and every walk is a loop: no input exhausts the
stack. Nodes never change, but for the digest that each computes once, when a root is asked for
(R-LED-1, in proof.py with the proofs that rest on it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from demesh.ledger.proof import Path, Step, branch_digest, is_set, leaf_digest

EMPTY_ROOT = bytes(32)


class Leaf:
    """A key and its record."""

    __slots__ = ("_digest", "key", "value")

    def __init__(self, key: bytes, value: bytes) -> None:
        self.key = key
        self.value = value
        self._digest = b""

    def digest(self) -> bytes:
        """Its 32 bytes in the tree (R-LED-1)."""
        if not self._digest:
            self._digest = leaf_digest(self.key, self.value)
        return self._digest


class Branch:
    """Keys that agree up to `bit` and differ in it: 0 to the left, 1 to the right."""

    __slots__ = ("_digest", "bit", "left", "right")

    def __init__(self, bit: int, left: Node, right: Node) -> None:
        self.bit = bit
        self.left = left
        self.right = right
        self._digest = b""

    def digest(self) -> bytes:
        """Its 32 bytes in the tree (R-LED-1); children first, by a stack of our own."""
        stack = [self]
        while stack:
            top = stack[-1]
            pending = [
                child
                for child in (top.left, top.right)
                if isinstance(child, Branch) and not child._digest
            ]
            if pending and not top._digest:
                stack.extend(pending)
                continue
            if not top._digest:
                left, right = [
                    child._digest if isinstance(child, Branch) else child.digest()
                    for child in (top.left, top.right)
                ]
                top._digest = branch_digest(top.bit, left, right)
            stack.pop()
        return self._digest


Node = Leaf | Branch


class Trie:
    """An immutable map from prefix-free byte keys to records, with a Merkle root."""

    __slots__ = ("_top",)

    def __init__(self, top: Node | None = None) -> None:
        self._top = top

    @property
    def root(self) -> bytes:
        """The 32-byte root of the content (R-LED-1)."""
        return EMPTY_ROOT if self._top is None else self._top.digest()

    def get(self, key: bytes) -> bytes | None:
        """The record under `key`, or None."""
        node = self._top
        if node is None:
            return None
        while isinstance(node, Branch):
            node = node.right if is_set(key, node.bit) else node.left
        return node.value if node.key == key else None

    def set(self, key: bytes, value: bytes) -> Trie:
        """This trie with `value` under `key`; ValueError if one key would be another's prefix."""
        if self._top is None:
            return Trie(Leaf(key, value))
        path, leaf = _walk(self._top, key)
        if leaf.key == key:
            return self if leaf.value == value else _rebuilt(path, Leaf(key, value))
        bit = _first_difference(key, leaf.key)
        while path and path[-1][0].bit > bit:
            path.pop()
        beside = self._top if not path else _child(*path[-1])
        fresh = Leaf(key, value)
        right = is_set(key, bit)
        branch = Branch(bit, beside, fresh) if right else Branch(bit, fresh, beside)
        return _rebuilt(path, branch)

    def delete(self, key: bytes) -> Trie:
        """This trie without `key`, which may be absent."""
        if self._top is None:
            return self
        path, leaf = _walk(self._top, key)
        if leaf.key != key:
            return self
        if not path:
            return Trie()
        parent, right = path.pop()
        return _rebuilt(path, parent.left if right else parent.right)

    def prove(self, key: bytes) -> Path | None:
        """The path that shows the record under `key` to who knows the root; None without one."""
        if self._top is None:
            return None
        path, leaf = _walk(self._top, key)
        if leaf.key != key:
            return None
        return Path(
            tuple([Step(branch.bit, _child(branch, not right).digest()) for branch, right in path])
        )

    def updated(self, changes: Iterable[tuple[bytes, bytes | None]]) -> Trie:
        """This trie with every (key, record or None to delete) applied in order."""
        trie = self
        for key, value in changes:
            trie = trie.delete(key) if value is None else trie.set(key, value)
        return trie

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Every (key, record) whose key begins with `prefix`, in the order of the keys."""
        node = self._top
        if node is None:
            return
        bits = 8 * len(prefix)
        while isinstance(node, Branch) and node.bit < bits:
            node = node.right if is_set(prefix, node.bit) else node.left
        # All keys below agree in their first `bits` bits, so the first one answers for all.
        matches = False
        stack = [node]
        while stack:
            node = stack.pop()
            while isinstance(node, Branch):
                stack.append(node.right)
                node = node.left
            if not matches and not node.key.startswith(prefix):
                return
            matches = True
            yield node.key, node.value


Walk = list[tuple[Branch, bool]]


def _child(branch: Branch, right: bool) -> Node:
    return branch.right if right else branch.left


def _walk(node: Node, key: bytes) -> tuple[Walk, Leaf]:
    """The branches passed on the way to `key`, each with the side taken, and the leaf found."""
    path: Walk = []
    while isinstance(node, Branch):
        right = is_set(key, node.bit)
        path.append((node, right))
        node = node.right if right else node.left
    return path, node


def _first_difference(one: bytes, other: bytes) -> int:
    """The first bit in which two keys differ; ValueError if one is a prefix of the other."""
    common = min(len(one), len(other))
    mixed = int.from_bytes(one[:common], "big") ^ int.from_bytes(other[:common], "big")
    if not mixed:
        raise ValueError(f"keys must be prefix-free: {one.hex()} against {other.hex()}")
    return 8 * common - mixed.bit_length()


def _rebuilt(path: Walk, node: Node) -> Trie:
    """A trie in which `node` stands at the end of `path`; everything beside it is shared."""
    for branch, right in reversed(path):
        if right:
            node = Branch(branch.bit, branch.left, node)
        else:
            node = Branch(branch.bit, node, branch.right)
    return Trie(node)
