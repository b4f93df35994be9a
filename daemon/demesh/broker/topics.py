"""Topic names and filters: validity, the tree of subscriptions, the tree of retained messages.

Rules of MQTT 3.1.1 section 4.7. `+` and `#` never occur in a topic name, so both trees hold them as
ordinary keys beside literal levels. All orders are orders of insertion: nothing here depends on
hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")
V = TypeVar("V")

TEXT_MAX = 0xFFFF
"""Bytes of the longest text MQTT has room for."""

SHARED = "$share/"
"""How a shared subscription begins (MQTT 5, section 4.8.2); here there are none."""


def valid_name(topic: str, levels_max: int, chars_max: int = TEXT_MAX) -> bool:
    """Whether a message may be published to `topic`."""
    return (
        0 < len(topic) <= chars_max
        and "+" not in topic
        and "#" not in topic
        and "\0" not in topic
        and topic.count("/") < levels_max
    )


def valid_filter(pattern: str, levels_max: int, chars_max: int = TEXT_MAX) -> bool:
    """Whether `pattern` may be subscribed to."""
    if not 0 < len(pattern) <= chars_max or "\0" in pattern or pattern.count("/") >= levels_max:
        return False
    levels = pattern.split("/")
    return all(
        level in ("+", "#") or ("+" not in level and "#" not in level) for level in levels
    ) and ("#" not in levels or levels.index("#") == len(levels) - 1)


def matches(pattern: str, topic: str) -> bool:
    """Whether a valid filter matches a valid topic name: the rule itself, for one pair."""
    wanted = pattern.split("/")
    levels = topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index == len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


class _Branch(Generic[V]):
    __slots__ = ("below", "value")

    def __init__(self, value: V) -> None:
        self.below: dict[str, _Branch[V]] = {}
        self.value = value


class SubscriptionTree(Generic[S, T]):
    """Who subscribed to what, and how. Subscribers are compared by hash and equality, but only ever
    listed in the order in which they came."""

    __slots__ = ("_branches", "_root")

    def __init__(self) -> None:
        self._root: _Branch[dict[S, T]] = _Branch({})
        self._branches = 0

    @property
    def branches(self) -> int:
        """Levels of all filters, those they begin with in common once: what the tree takes."""
        return self._branches

    def add(self, pattern: str, subscriber: S, terms: T) -> None:
        """Subscribe, or change the terms of a subscription; `pattern` is valid."""
        branch = self._root
        for level in pattern.split("/"):
            below = branch.below.get(level)
            if below is None:
                below = branch.below[level] = _Branch({})
                self._branches += 1
            branch = below
        branch.value[subscriber] = terms

    def remove(self, pattern: str, subscriber: S) -> None:
        """Unsubscribe; nothing happens without such a subscription."""
        path = _path(self._root, pattern)
        if path is not None:
            path[-1].value.pop(subscriber, None)
            self._branches -= _prune(path, pattern, lambda value: not value)

    def begins(self, level: str) -> bool:
        """Whether there is a filter whose first level is literally this one."""
        return level in self._root.below

    def match(self, topic: str) -> dict[S, list[T]]:
        """Each subscriber once, with the terms of all its matching subscriptions."""
        found: dict[S, list[T]] = {}
        branches = [self._root]
        wildcards = not topic.startswith("$")  # R 4.7.2-1: no leading wildcard matches a $-topic
        for level in topic.split("/"):
            following = []
            for branch in branches:
                below = branch.below
                if wildcards:
                    if (rest := below.get("#")) is not None:
                        _collect(found, rest.value)
                    if (single := below.get("+")) is not None:
                        following.append(single)
                if (literal := below.get(level)) is not None:
                    following.append(literal)
            if not following:
                return found
            branches = following
            wildcards = True
        for branch in branches:
            _collect(found, branch.value)
            if (rest := branch.below.get("#")) is not None:  # "a/#" matches "a" too
                _collect(found, rest.value)
        return found


class RetainedTree(Generic[V]):
    """One value per topic name, found again by topic filter."""

    __slots__ = ("_count", "_root")

    def __init__(self) -> None:
        self._root: _Branch[V | None] = _Branch(None)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, topic: str) -> V | None:
        """The value of exactly this topic."""
        path = _path(self._root, topic)
        return None if path is None else path[-1].value

    def put(self, topic: str, value: V) -> None:
        """Set the value of a valid topic name."""
        branch = self._root
        for level in topic.split("/"):
            below = branch.below.get(level)
            if below is None:
                below = branch.below[level] = _Branch(None)
            branch = below
        self._count += branch.value is None
        branch.value = value

    def pop(self, topic: str) -> V | None:
        """Remove and return the value of a topic."""
        path = _path(self._root, topic)
        if path is None or (value := path[-1].value) is None:
            return None
        path[-1].value = None
        self._count -= 1
        _prune(path, topic, lambda held: held is None)
        return value

    def match_all(self) -> list[V]:
        """All values."""
        return [one.value for one in _below(self._root, True) if one.value is not None]

    def match(self, pattern: str) -> tuple[list[V], int]:
        """The values of all topics that a valid filter matches, and how many branches had to be
        looked at, which may be all there are for nothing."""
        branches = [self._root]
        looks = 0
        levels = pattern.split("/")
        for index, level in enumerate(levels):
            if level == "#":
                branches = [one for branch in branches for one in _below(branch, index > 0)]
                looks += len(branches)
                break
            following = []
            for branch in branches:
                if level == "+":
                    following += [
                        below
                        for name, below in branch.below.items()
                        if index or not name.startswith("$")
                    ]
                elif (below_literal := branch.below.get(level)) is not None:
                    following.append(below_literal)
            looks += len(branches) + len(following)
            branches = following
        return [branch.value for branch in branches if branch.value is not None], looks


def _collect(found: dict[S, list[T]], subscribers: dict[S, T]) -> None:
    for subscriber, terms in subscribers.items():
        found.setdefault(subscriber, []).append(terms)


def _path(root: _Branch[V], pattern: str) -> list[_Branch[V]] | None:
    """The branches from the root to `pattern`, or None where it ends early."""
    path = [root]
    for level in pattern.split("/"):
        below = path[-1].below.get(level)
        if below is None:
            return None
        path.append(below)
    return path


def _prune(path: list[_Branch[V]], pattern: str, empty: Callable[[V], bool]) -> int:
    """Cut off what holds nothing any more, from the end of `path` upwards; how many branches."""
    levels = pattern.split("/")
    for depth in range(len(levels), 0, -1):
        branch = path[depth]
        if branch.below or not empty(branch.value):
            return len(levels) - depth
        del path[depth - 1].below[levels[depth - 1]]
    return len(levels)


def _below(branch: _Branch[V], reserved: bool) -> Iterator[_Branch[V]]:
    """A branch and all below it; `reserved`: those under `$` too."""
    yield branch
    for name, below in branch.below.items():
        if reserved or not name.startswith("$"):
            yield from _below(below, True)
