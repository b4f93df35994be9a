"""mosquitto's ACL file: who may write to and read from which topics (pure).

    topic [read|write|readwrite|deny] FILTER      of the `user` above it, or of those without a name
    user NAME                                     whose lines follow
    pattern [read|write|readwrite|deny] FILTER    of all; %u: the user's name, %c: the client id

Rules. 1. What no line allows is refused.
2. The user's own lines come first, a `deny` among them before what they allow; then the patterns in
   the same way.
3. A pattern with %u is not for those without a name, and no pattern is for a name or a client id
   with + # or / in it: it would reach into the topics of others.
4. A line whose filter begins with a wildcard is not about topics that begin with $ (MQTT-4.7.2-1).
5. A subscription is allowed if all that it may bring is: its filter lies within an allowed one, and
   no `deny` has a topic in common with it. mosquitto grants every subscription and holds back
   single messages; of a single topic both say the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Flag

from demesh.broker.topics import valid_filter
from demesh.errors import ConfigError

LEVELS_MAX = 32  # as `limits.Limits.topic_levels_max`: deeper topics do not exist here


class Right(Flag):
    """What a line is about; DENY takes away both."""

    DENY = 0
    READ = 1
    WRITE = 2
    READWRITE = 3


_RIGHTS = {right.name.lower(): right for right in Right if right.name} | {
    "deny": Right.DENY,
    "readwrite": Right.READWRITE,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One line: a filter's levels, `%u` and `%c` not yet filled in."""

    right: Right
    pattern: str


class Rights:
    """The lines of a file, by user."""

    __slots__ = ("_of_all", "_of_user")

    def __init__(self, of_user: dict[str, list[Rule]], of_all: list[Rule]) -> None:
        self._of_user = {name: _denials_first(rules) for name, rules in of_user.items()}
        self._of_all = _denials_first(of_all)

    def may_write(self, user: str, client_id: str, topic: str) -> bool:
        """Whether `user` ("": without a name) may publish to a topic name."""
        return self._allows(Right.WRITE, user, client_id, topic)

    def may_read(self, user: str, client_id: str, pattern: str) -> bool:
        """Whether everything that matches a topic filter may be read by `user`."""
        return self._allows(Right.READ, user, client_id, pattern)

    def _allows(self, right: Right, user: str, client_id: str, wanted: str) -> bool:
        for rule in self._of_user.get(user, ()):
            if rule.right is Right.DENY:
                if overlap(rule.pattern, wanted):
                    return False
            elif rule.right & right and within(wanted, rule.pattern):
                return True
        if any(mark in user or mark in client_id for mark in "+#/"):
            return False
        for rule in self._of_all:
            if not user and "%u" in rule.pattern:
                continue
            pattern = filled(rule.pattern, user, client_id)
            if rule.right is Right.DENY:
                if overlap(pattern, wanted):
                    return False
            elif rule.right & right and within(wanted, pattern):
                return True
        return False


def parse(text: str, where: str) -> Rights:
    """The rights in a file's text; raises ConfigError that names `where` and the line."""
    of_user: dict[str, list[Rule]] = {}
    of_all: list[Rule] = []
    user = ""
    for number, row in enumerate(text.splitlines(), 1):
        line = row.strip()
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word == "user" and rest:
            user = rest
        elif word in ("topic", "pattern") and rest:
            rules = of_all if word == "pattern" else of_user.setdefault(user, [])
            rules.append(_rule(rest, f"{where}:{number}"))
        else:
            raise ConfigError(
                f"{where}:{number}: {line!r} is no line of an ACL file; "
                "expected user NAME, topic [RIGHT] FILTER or pattern [RIGHT] FILTER"
            )
    return Rights(of_user, of_all)


def within(inner: str, outer: str) -> bool:
    """Whether every topic that matches the filter `inner` matches the filter `outer` too."""
    if inner.startswith("$") and outer[0] in "+#":
        return False
    levels = inner.split("/")
    for index, level in enumerate(outer.split("/")):
        if level == "#":
            return True
        if index >= len(levels) or levels[index] == "#":
            return False
        if level not in ("+", levels[index]):
            return False
    rest = levels[outer.count("/") + 1 :]
    return not rest


def overlap(one: str, other: str) -> bool:
    """Whether some topic matches both filters."""
    if (one.startswith("$") and other[0] in "+#") or (other.startswith("$") and one[0] in "+#"):
        return False
    ours, theirs = one.split("/"), other.split("/")
    for mine, its in zip(ours, theirs, strict=False):
        if "#" in (mine, its):
            return True
        if mine != its and "+" not in (mine, its):
            return False
    longer = ours if len(ours) > len(theirs) else theirs
    # `a/#` has `a` too.
    return len(ours) == len(theirs) or longer[min(len(ours), len(theirs))] == "#"


def filled(pattern: str, user: str, client_id: str) -> str:
    """A pattern with the names in their places; a name that looks like a place stays a name."""
    names = {"%u": user, "%c": client_id}
    return re.sub("%[uc]", lambda place: names[place[0]], pattern) if "%" in pattern else pattern


def _rule(rest: str, where: str) -> Rule:
    first, _, more = rest.partition(" ")
    if more:
        right = _RIGHTS.get(first)
        if right is None:
            raise ConfigError(
                f"{where}: {first!r} is no right; expected read, write, readwrite or deny"
            )
        pattern = more.strip()
    else:
        right, pattern = Right.READWRITE, first
    if not valid_filter(pattern, LEVELS_MAX):
        raise ConfigError(
            f"{where}: {pattern!r} is no topic filter; + and # are levels of their own, # the last"
        )
    return Rule(right, pattern)


def _denials_first(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(sorted(rules, key=lambda rule: rule.right is not Right.DENY))
