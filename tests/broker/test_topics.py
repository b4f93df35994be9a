"""Filters, subscriptions and retained messages, against the rule written out for one pair."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.broker.topics import (
    RetainedTree,
    SubscriptionTree,
    matches,
    valid_filter,
    valid_name,
)

levels = st.sampled_from(["", "a", "b", "$s"])
names = (
    st.lists(levels, min_size=1, max_size=4)
    .map("/".join)
    .filter(lambda name: valid_name(name, 9, 20))
)
patterns = (
    st.tuples(st.lists(levels | st.just("+"), max_size=4), st.sampled_from([[], ["#"]]))
    .map(lambda parts: "/".join(parts[0] + parts[1]))
    .filter(lambda pattern: valid_filter(pattern, 9, 20))
)


@pytest.mark.parametrize(
    ("pattern", "valid"),
    [
        ("a", True),
        ("/", True),
        ("#", True),
        ("+", True),
        ("+/+/#", True),
        ("a//b", True),
        ("a b/ü", True),
        ("", False),
        ("a/#/b", False),
        ("##", False),
        ("a#", False),
        ("a+", False),
        ("+a/#", False),
        ("a\0", False),
        ("/".join("a" * 9), True),
        ("/".join("a" * 10), False),
        ("a" * 20, True),
        ("a" * 21, False),
    ],
)
def test_filters_are_valid_as_the_standard_says(pattern: str, valid: bool) -> None:
    assert valid_filter(pattern, 9, 20) is valid


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("a", True),
        ("/", True),
        ("$SYS/x", True),
        ("", False),
        ("a/+", False),
        ("#", False),
        ("a" * 21, False),
    ],
)
def test_names_are_valid_as_the_standard_says(name: str, valid: bool) -> None:
    assert valid_name(name, 9, 20) is valid


@given(st.lists(st.tuples(patterns, st.integers(0, 4), st.integers(0, 2))), names)
def test_the_tree_finds_whom_the_rule_finds(
    subscriptions: list[tuple[str, int, int]], name: str
) -> None:
    tree: SubscriptionTree[int, int] = SubscriptionTree()
    latest: dict[tuple[str, int], int] = {}
    for pattern, subscriber, qos in subscriptions:
        tree.add(pattern, subscriber, qos)
        latest[pattern, subscriber] = qos
    expected: dict[int, list[int]] = {}
    for (pattern, subscriber), qos in latest.items():
        if matches(pattern, name):
            expected.setdefault(subscriber, []).append(qos)
    begun = {tuple(p.split("/")[:n]) for p, _ in latest for n in range(1, p.count("/") + 2)}
    assert tree.branches == len(begun)
    found = tree.match(name)
    assert {who: sorted(terms) for who, terms in found.items()} == {
        who: sorted(terms) for who, terms in expected.items()
    }
    assert all(tree.begins("a") for (pattern, _) in latest if pattern.split("/")[0] == "a")


@given(st.lists(st.tuples(patterns, st.integers(0, 2))), names)
def test_a_tree_from_which_all_left_is_empty(
    subscriptions: list[tuple[str, int]], name: str
) -> None:
    tree: SubscriptionTree[int, int] = SubscriptionTree()
    for pattern, subscriber in subscriptions:
        tree.add(pattern, subscriber, 0)
    for pattern, subscriber in subscriptions:
        tree.remove(pattern, subscriber)
        tree.remove(pattern, subscriber)
    assert tree.match(name) == {}
    assert not tree._root.below
    assert tree.branches == 0


@given(st.lists(st.tuples(names, st.booleans())), patterns)
def test_retained_values_are_found_by_filter(changes: list[tuple[str, bool]], pattern: str) -> None:
    tree: RetainedTree[str] = RetainedTree()
    kept: dict[str, str] = {}
    for name, keep in changes:
        if keep:
            tree.put(name, name)
            kept[name] = name
        else:
            assert tree.pop(name) == kept.pop(name, None)
    assert len(tree) == len(kept)
    assert sorted(tree.match_all()) == sorted(kept)
    assert sorted(tree.match(pattern)[0]) == sorted(name for name in kept if matches(pattern, name))
    assert all(tree.get(name) == name for name in kept)
    for name in kept:
        tree.pop(name)
    assert not tree._root.below


def test_subscribers_are_listed_in_the_order_in_which_they_came() -> None:
    tree: SubscriptionTree[str, int] = SubscriptionTree()
    for name in ("zebra", "ant", "mole"):
        tree.add("t", name, 0)
    assert list(tree.match("t")) == ["zebra", "ant", "mole"]
