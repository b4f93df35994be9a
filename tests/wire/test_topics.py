"""Who may publish and hear what: the lines a broker is given, against the topics of devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from demesh.wire import identity
from demesh.wire.topics import VIEWER, Topics, acl_lines

ACL_FILE = Path(__file__).parents[2] / "configs" / "brokers" / "acl"
MESH, ANNA, BORIS = bytes(range(32)), bytes(16), bytes(range(16))
AREAS = ("vote", "op", "tip", "card", "gone")


def matches(filter: str, topic: str) -> bool:
    """Whether a topic is in a filter (MQTT 3.1.1, section 4.7)."""
    levels, names = filter.split("/"), topic.split("/")
    if levels[-1] == "#":
        levels, names = levels[:-1], names[: len(levels) - 1]
    return len(levels) == len(names) and all(
        level in ("+", name) for level, name in zip(levels, names, strict=True)
    )


def allowed(login: str, access: str, topic: str) -> bool:
    """The verdict of our lines: patterns for all, topics for the user above them."""
    user = ""
    for line in acl_lines():
        word, rest = line.split(" ", 1)
        if word == "user":
            user = rest
            continue
        right, filter = rest.split(" ", 1)
        if word == "topic" and user != login:
            continue
        if right == access and matches(filter.replace("%u", login), topic):
            return True
    return False


def said_by(device: bytes, to: bytes) -> list[str]:
    topics = Topics(MESH, device)
    return [*map(topics.mine, AREAS), topics.to(to), topics.observation("state")]


def test_the_file_for_brokers_says_what_the_code_says() -> None:
    written = [
        line
        for line in ACL_FILE.read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert tuple(written) == acl_lines()


@pytest.mark.parametrize("topic", said_by(ANNA, BORIS))
def test_a_device_may_publish_what_is_its_own_and_nobody_else_may(topic: str) -> None:
    assert allowed(identity.text(ANNA), "write", topic)
    assert not allowed(identity.text(BORIS), "write", topic)
    assert not allowed(VIEWER, "write", topic)
    assert not allowed("", "write", topic)


def test_a_device_may_hear_all_that_it_subscribes_to_and_nothing_said_to_others() -> None:
    heard = [topic.replace("+", "x") for topic in Topics(MESH, BORIS).filters]
    assert all(allowed(identity.text(BORIS), "read", topic) for topic in heard)
    assert not allowed(identity.text(ANNA), "read", Topics(MESH, ANNA).to(BORIS))


def test_people_hear_what_is_for_people_and_no_letters() -> None:
    assert allowed(VIEWER, "read", Topics(MESH, ANNA).observation("state"))
    assert not allowed(VIEWER, "read", Topics(MESH, ANNA).to(BORIS))
